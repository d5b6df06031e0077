package ulysses

import (
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// exchange trades tokens for heads and back, a piece of heads at a time. One
// collective carries q, k and v: a part is [3, S, M, H] of the sender's rows and the
// receiver's heads.
//
// While piece i is computed, its q, k and v lie in one store; those of piece i+1
// travel from the other store to received; and the output of piece i-1 travels to
// output. A store is filled with what is sent and, when that has gone, with what is
// unpacked.
type exchange struct {
	a                *Attention
	ops              tensor.Ops
	g                *geometry
	inputs           [3]tensor.Tensor // q, k, v [S, N, H]
	result           tensor.Tensor    // [S, N, H]
	stores           [2]tensor.Tensor
	received, output tensor.Tensor
	ringed           tensor.Tensor // for k and v of another chunk, with a ring
	incoming         comm.Pending  // q, k and v of the next piece
	outgoing         comm.Pending  // the output of piece returned
	returned         int
}

// newExchange allocates the buffers. With a ring, a store has room for k and v of the
// longest chunk.
func (a *Attention) newExchange(ops tensor.Ops, g *geometry, result, qSNH, kSNH, vSNH tensor.Tensor) *exchange {
	x := &exchange{a: a, ops: ops, g: g, inputs: [3]tensor.Tensor{qSNH, kSNH, vSNH}, result: result}
	store, received, output, ringed := 0, 0, 0, 0
	for i, p := range g.pieces {
		own := g.ownHeads(i) * g.headDim
		all := g.rows() * p.all() * g.headDim
		store = max(store, 3*all, (g.chunk()+2*g.longest())*own)
		received, output, ringed = max(received, 3*g.chunk()*own), max(output, all), max(ringed, 2*g.longest()*own)
	}
	buffers := ops.Using(tensor.Collective)
	x.stores[0] = buffers.Empty(g.dtype, store)
	if len(g.pieces) == 1 { // nothing travels at the same time
		x.received = buffers.Empty(g.dtype, max(received, output, ringed))
		x.output, x.ringed = x.received, x.received
		return x
	}
	x.stores[1] = buffers.Empty(g.dtype, store)
	x.received = buffers.Empty(g.dtype, received)
	x.output = buffers.Empty(g.dtype, output)
	if a.circle.Size() > 1 {
		x.ringed = buffers.Empty(g.dtype, ringed)
	}
	return x
}

// send begins the exchange of q, k and v of piece i.
func (x *exchange) send(i int) {
	if x.ops.Err() != nil {
		return
	}
	g, store := x.g, x.stores[i%2]
	sent, got := make([]int64, x.a.trade.Size()), make([]int64, x.a.trade.Size())
	at := 0
	for j, heads := range g.pieces[i] {
		n := g.rows() * heads.Count * g.headDim
		for _, input := range x.inputs {
			copyColumns(x.ops, store.Slice(at, n), input, g.rows(), heads.Start*g.headDim, heads.Count*g.headDim)
			at += n
		}
		sent[j] = int64(3 * n)
		got[j] = int64(3 * g.tokens[j].Count * g.ownHeads(i) * g.headDim)
	}
	if x.ops.Err() != nil {
		return
	}
	x.incoming = x.a.trade.Start(x.ops.Context(), comm.Call{Op: comm.OpAllToAll, Place: x.a.at("qkv"),
		Dst: x.received.Slice(0, 3*g.chunk()*g.ownHeads(i)*g.headDim), Src: store.Slice(0, at), DstCounts: got, SrcCounts: sent})
}

// receive waits for piece i and returns q [C, M, H] and, one behind the other in one
// tensor, k and v: all rows of the chunk of this rank's heads.
func (x *exchange) receive(i int) (qCMH, kv tensor.Tensor) {
	if x.incoming != nil {
		x.ops.Fail(x.incoming.Wait())
		x.incoming = nil
	}
	if x.ops.Err() != nil {
		return tensor.Tensor{}, tensor.Tensor{}
	}
	g, store := x.g, x.stores[i%2]
	row := g.ownHeads(i) * g.headDim
	at := 0
	for _, tokens := range g.tokens {
		n := tokens.Count * row
		for input := range x.inputs {
			x.ops.CopyTo(store.Slice((input*g.chunk()+tokens.Start)*row, n), x.received.Slice(at, n))
			at += n
		}
	}
	q := store.Slice(0, g.chunk()*row)
	return x.ops.Reshape(q, g.chunk(), g.ownHeads(i), g.headDim), store.Slice(g.chunk()*row, 2*g.longest()*row)
}

// giveBack begins to send piece i of the output, y [C, M, H], which must stay until
// arrived. Rows of a rank lie together, so that y is sent as it is.
func (x *exchange) giveBack(i int, yCMH tensor.Tensor) {
	if x.ops.Err() != nil {
		return
	}
	g := x.g
	sent, got := make([]int64, len(g.tokens)), make([]int64, len(g.tokens))
	total := 0
	for j, heads := range g.pieces[i] {
		n := g.rows() * heads.Count * g.headDim
		sent[j] = int64(g.tokens[j].Count * g.ownHeads(i) * g.headDim)
		got[j] = int64(n)
		total += n
	}
	x.returned = i
	x.outgoing = x.a.trade.Start(x.ops.Context(), comm.Call{Op: comm.OpAllToAll, Place: x.a.at("output"),
		Dst: x.output.Slice(0, total), Src: yCMH, DstCounts: got, SrcCounts: sent})
}

// arrived waits for the piece of the output that was given back last, if any, and
// puts it into the result.
func (x *exchange) arrived() {
	if x.outgoing == nil {
		return
	}
	x.ops.Fail(x.outgoing.Wait())
	x.outgoing = nil
	at := 0
	for _, heads := range x.g.pieces[x.returned] {
		if x.ops.Err() != nil {
			return
		}
		n := x.g.rows() * heads.Count * x.g.headDim
		part := x.ops.Reshape(x.output.Slice(at, n), x.g.rows(), heads.Count, x.g.headDim)
		x.ops.Place(x.result, part, 1, heads.Start)
		at += n
	}
}

// settle waits for what an error has left under way: the buffers are in use until
// then. It ends, as no rank's part in an exchange waits for another exchange of this
// rank: the rank that is furthest behind finds all of its peers' parts.
func (x *exchange) settle() {
	for _, pending := range []comm.Pending{x.outgoing, x.incoming} {
		if pending != nil {
			x.ops.Fail(pending.Wait())
		}
	}
}

// copyColumns sets dst to columns [from, from+count) of the rows of x: Narrow without
// an allocation of its own.
func copyColumns(ops tensor.Ops, dst, x tensor.Tensor, rows, from, count int) {
	if ops.Err() != nil {
		return
	}
	size := x.DType().Size()
	run, stride := int64(count)*size, x.Bytes()/int64(rows)
	ops.Fail(ops.Backend().CopyRows(dst, x, int64(rows), run, 0, run, int64(from)*size, stride))
}
