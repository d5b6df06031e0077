package commtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// buffer is a tensor with its bytes.
type buffer struct {
	tensor.Tensor
	data []byte
}

// alloc returns n elements, or the none tensor for no elements.
func alloc(d tensor.DType, n int64) buffer {
	data := make([]byte, n*d.Size())
	t, err := comm.OfBytes(d, data, int(n))
	if err != nil {
		panic(err)
	}
	return buffer{t, data}
}

// element is byte b of element i that rank from sends in a call with a seed.
func element(seed uint64, from int, i int64) byte {
	x := (seed*2654435761 + uint64(from)*40503 + uint64(i)) * 0x9e3779b97f4a7c15
	return byte(x >> 56)
}

// fill sets b to what rank from sends.
func fill(b []byte, seed uint64, from int) {
	for i := range b {
		b[i] = element(seed, from, int64(i))
	}
}

// wantBytes compares and names the first difference.
func wantBytes(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s: %d bytes, expected %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("%s: byte %d of %d is %#02x, expected %#02x", what, i, len(got), got[i], want[i])
		}
	}
	return nil
}

// traded is a matrix of counts [from][to], the same on all ranks.
type traded [][]int64

func even(size int, n int64) traded {
	m := make(traded, size)
	for i := range m {
		m[i] = make([]int64, size)
		for j := range m[i] {
			m[i][j] = n
		}
	}
	return m
}

// uneven draws counts, with zeros, rows of zeros among them.
func uneven(r *rand.Rand, size int, most int64) traded {
	m := even(size, 0)
	for i := range m {
		if r.IntN(5) == 0 {
			continue
		}
		for j := range m[i] {
			if r.IntN(3) > 0 {
				m[i][j] = r.Int64N(most + 1)
			}
		}
	}
	return m
}

func (m traded) column(to int) []int64 {
	c := make([]int64, len(m))
	for from := range m {
		c[from] = m[from][to]
	}
	return c
}

func sum(n []int64) (s int64) {
	for _, v := range n {
		s += v
	}
	return s
}

// allToAll trades by m and checks what came. nilCounts leaves the counts out.
func allToAll(g comm.Group, at comm.Place, d tensor.DType, seed uint64, m traded, nilCounts bool) error {
	to, from := m[g.Rank()], m.column(g.Rank())
	src, dst := alloc(d, sum(to)), alloc(d, sum(from))
	fill(src.data, seed, g.Rank())
	toCounts, fromCounts := to, from
	if nilCounts {
		toCounts, fromCounts = nil, nil
	}
	if err := g.AllToAll(bg, at, dst.Tensor, src.Tensor, fromCounts, toCounts); err != nil {
		return err
	}
	var want []byte
	for peer := range m {
		sent := make([]byte, sum(m[peer])*d.Size())
		fill(sent, seed, peer)
		begin := sum(m[peer][:g.Rank()]) * d.Size()
		want = append(want, sent[begin:begin+m[peer][g.Rank()]*d.Size()]...)
	}
	return wantBytes(fmt.Sprintf("all-to-all of %v, rank %d of %d", m, g.Rank(), g.Size()), dst.data, want)
}

// allGather gathers counts elements of each rank and checks what came.
func allGather(g comm.Group, at comm.Place, d tensor.DType, seed uint64, counts []int64, nilCounts bool) error {
	src, dst := alloc(d, counts[g.Rank()]), alloc(d, sum(counts))
	fill(src.data, seed, g.Rank())
	given := counts
	if nilCounts {
		given = nil
	}
	if err := g.AllGather(bg, at, dst.Tensor, src.Tensor, given); err != nil {
		return err
	}
	var want []byte
	for peer, n := range counts {
		sent := make([]byte, n*d.Size())
		fill(sent, seed, peer)
		want = append(want, sent...)
	}
	return wantBytes(fmt.Sprintf("all-gather of %v, rank %d of %d", counts, g.Rank(), g.Size()), dst.data, want)
}

// broadcast sends n elements of the root and checks what came.
func broadcast(g comm.Group, at comm.Place, d tensor.DType, seed uint64, n int64, root int) error {
	x := alloc(d, n)
	if g.Rank() == root {
		fill(x.data, seed, root)
	}
	if err := g.Broadcast(bg, at, x.Tensor, root); err != nil {
		return err
	}
	want := make([]byte, n*d.Size())
	fill(want, seed, root)
	return wantBytes(fmt.Sprintf("broadcast of %d from %d, rank %d of %d", n, root, g.Rank(), g.Size()), x.data, want)
}

// shift passes counts[rank] elements on and checks what came.
func shift(g comm.Group, at comm.Place, d tensor.DType, seed uint64, counts []int64, by int) error {
	from := ((g.Rank()-by)%g.Size() + g.Size()) % g.Size()
	src, dst := alloc(d, counts[g.Rank()]), alloc(d, counts[from])
	fill(src.data, seed, g.Rank())
	if err := g.Shift(bg, at, dst.Tensor, src.Tensor, by); err != nil {
		return err
	}
	want := make([]byte, len(dst.data))
	fill(want, seed, from)
	return wantBytes(fmt.Sprintf("shift of %v by %d, rank %d of %d", counts, by, g.Rank(), g.Size()), dst.data, want)
}

// integers are small whole numbers in I32, whose sums no order changes.
func integers(seed uint64, from int, n int64) []int32 {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(element(seed, from, int64(i))) - 100
	}
	return v
}

func putInts(b []byte, v []int32) {
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(x))
	}
}

// reduced is the reduction of all ranks' integers.
func reduced(seed uint64, size int, n int64, r comm.Reduction) []byte {
	acc := integers(seed, 0, n)
	for from := 1; from < size; from++ {
		for i, v := range integers(seed, from, n) {
			if r == comm.Sum {
				acc[i] += v
			} else {
				acc[i] = max(acc[i], v)
			}
		}
	}
	b := make([]byte, 4*n)
	putInts(b, acc)
	return b
}

// allReduce reduces n integers and checks the result.
func allReduce(g comm.Group, at comm.Place, seed uint64, n int64, r comm.Reduction) error {
	x := alloc(tensor.I32, n)
	putInts(x.data, integers(seed, g.Rank(), n))
	if err := g.AllReduce(bg, at, x.Tensor, r); err != nil {
		return err
	}
	return wantBytes(fmt.Sprintf("all-reduce of %d, rank %d of %d", n, g.Rank(), g.Size()), x.data, reduced(seed, g.Size(), n, r))
}

// reduceScatter reduces sum(counts) integers and checks this rank's part.
func reduceScatter(g comm.Group, at comm.Place, seed uint64, counts []int64, nilCounts bool, r comm.Reduction) error {
	n := sum(counts)
	src, dst := alloc(tensor.I32, n), alloc(tensor.I32, counts[g.Rank()])
	putInts(src.data, integers(seed, g.Rank(), n))
	given := counts
	if nilCounts {
		given = nil
	}
	if err := g.ReduceScatter(bg, at, dst.Tensor, src.Tensor, given, r); err != nil {
		return err
	}
	begin := 4 * sum(counts[:g.Rank()])
	want := reduced(seed, g.Size(), n, r)[begin : begin+4*counts[g.Rank()]]
	return wantBytes(fmt.Sprintf("reduce-scatter of %v, rank %d of %d", counts, g.Rank(), g.Size()), dst.data, want)
}
