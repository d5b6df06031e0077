package engine

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// span is a range of bytes of a tensor.
type span struct{ off, len int64 }

// plan is a checked call in bytes: what goes where.
type plan struct {
	call  comm.Call
	dtype tensor.DType
	// involved are the members that the call is announced to, without this one.
	involved []int
	// to are the spans of Src for each member, from those of Dst; this member's own
	// are copied, or already in place.
	to, from []span
	// sent and received count each member's stream; more than to and from only in
	// an all-reduce, which has two rounds.
	sent, received []int64
}

// newPlan checks call for the given rank of size. Errors: tensor.ErrShape.
func newPlan(call comm.Call, rank, size int) (*plan, error) {
	p := &plan{
		call: call, to: make([]span, size), from: make([]span, size),
		sent: make([]int64, size), received: make([]int64, size),
	}
	p.call.Place = call.Place.Cut()
	if err := p.checkTensors(); err != nil {
		return nil, err
	}
	src, dst := call.Src.NumElements(), call.Dst.NumElements()
	var err error
	switch call.Op {
	case comm.OpBarrier:
	case comm.OpAllToAll:
		if p.to, err = p.parts("src", src, call.SrcCounts, size); err == nil {
			p.from, err = p.parts("dst", dst, call.DstCounts, size)
		}
		if err == nil && p.to[rank].len != p.from[rank].len {
			err = fmt.Errorf("%d bytes of src and %d of dst for the rank itself", p.to[rank].len, p.from[rank].len)
		}
	case comm.OpAllGather:
		if p.from, err = p.parts("dst", dst, call.DstCounts, size); err == nil {
			err = p.same("src", src, p.from[rank])
		}
		if err == nil && p.overlap() && call.Src.Offset() != call.Dst.Offset()+p.from[rank].off {
			err = fmt.Errorf("src overlaps dst, and not at this rank's part")
		}
		for i := range p.to {
			p.to[i] = span{0, p.bytes(src)}
		}
	case comm.OpReduceScatter:
		if p.to, err = p.parts("src", src, call.SrcCounts, size); err == nil {
			err = p.same("dst", dst, p.to[rank])
		}
		for i := range p.from {
			p.from[i] = span{0, p.bytes(dst)}
		}
	case comm.OpAllReduce:
		p.to = p.nearlyEven(dst, size)
		for i := range p.from {
			p.from[i] = p.to[rank]
		}
	case comm.OpBroadcast:
		if err = member("root", call.Peer, size); err != nil {
			break
		}
		if rank != call.Peer {
			p.from[call.Peer] = span{0, p.bytes(dst)}
			break
		}
		for i := range p.to {
			if i != rank {
				p.to[i] = span{0, p.bytes(dst)}
			}
		}
	case comm.OpShift:
		by := ((call.Peer % size) + size) % size
		p.call.Peer = by
		if by == 0 && src != dst {
			err = fmt.Errorf("%d elements of src, %d of dst for the rank itself", src, dst)
			break
		}
		p.to[(rank+by)%size] = span{0, p.bytes(src)}
		p.from[(rank-by+size)%size] = span{0, p.bytes(dst)}
	case comm.OpSend, comm.OpRecv:
		if err = member("peer", call.Peer, size); err == nil && call.Peer == rank {
			err = fmt.Errorf("rank %d is this rank itself", rank)
		}
		if err != nil {
			break
		}
		p.to[call.Peer], p.from[call.Peer] = span{0, p.bytes(src)}, span{0, p.bytes(dst)}
	default:
		err = fmt.Errorf("not a collective")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, tensor.ErrShape)
	}
	p.involve(rank, size)
	return p, nil
}

// involve fills in who hears of the call and how long each stream is.
func (p *plan) involve(rank, size int) {
	for i := range size {
		if i == rank {
			continue
		}
		p.sent[i], p.received[i] = p.to[i].len, p.from[i].len
		if p.call.Op == comm.OpAllReduce {
			p.sent[i] += p.to[rank].len // the second round gathers the reduced parts
			p.received[i] += p.to[i].len
		}
	}
	switch p.call.Op {
	case comm.OpSend, comm.OpRecv:
		p.involved = []int{p.call.Peer}
	default: // the next rank first, so that not all begin with the same
		for i := 1; i < size; i++ {
			p.involved = append(p.involved, (rank+i)%size)
		}
	}
}

// peer is the Peer that all ranks of the call have in common.
func (p *plan) peer() int32 {
	if p.call.Op == comm.OpBroadcast || p.call.Op == comm.OpShift {
		return int32(p.call.Peer)
	}
	return 0
}

// checkTensors sees that the op has the tensors that it uses, in one type.
func (p *plan) checkTensors() error {
	src, dst := p.call.Src, p.call.Dst
	for _, t := range []tensor.Tensor{src, dst} {
		if t.Packed() > 0 {
			return fmt.Errorf("%v is packed for a backend: %w", t, tensor.ErrShape)
		}
	}
	p.dtype = src.DType()
	if src.IsNone() {
		p.dtype = dst.DType()
	}
	if !src.IsNone() && !dst.IsNone() && src.DType() != dst.DType() {
		return fmt.Errorf("%v to %v: %w", src, dst, tensor.ErrShape)
	}
	if p.call.Op == comm.OpReduceScatter || p.call.Op == comm.OpAllReduce {
		if _, ok := reducers[p.dtype]; !ok && p.dtype != tensor.Invalid {
			return fmt.Errorf("%v has no sum or max: %w", p.dtype, tensor.ErrShape)
		}
	}
	if p.call.Op != comm.OpAllGather && p.overlap() {
		return fmt.Errorf("%v and %v overlap: %w", src, dst, tensor.ErrShape)
	}
	return nil
}

// overlap reports whether Src and Dst share bytes. Tensors of a plan, without
// memory, never do.
func (p *plan) overlap() bool {
	src, dst := p.call.Src, p.call.Dst
	return !src.IsNone() && !dst.IsNone() && src.Memory() != nil && src.Memory() == dst.Memory() &&
		src.Offset() < dst.Offset()+dst.Bytes() && dst.Offset() < src.Offset()+src.Bytes()
}

func (p *plan) bytes(elements int64) int64 { return elements * p.dtype.Size() }

// same checks that a tensor of n elements fills a span.
func (p *plan) same(name string, n int64, want span) error {
	if p.bytes(n) != want.len {
		return fmt.Errorf("%d bytes of %s, where this rank's part is %d", p.bytes(n), name, want.len)
	}
	return nil
}

// parts divides n elements over the members.
func (p *plan) parts(name string, n int64, counts []int64, size int) ([]span, error) {
	spans := make([]span, size)
	if counts == nil {
		if n%int64(size) != 0 {
			return nil, fmt.Errorf("%d elements of %s do not divide over %d ranks", n, name, size)
		}
		each := p.bytes(n / int64(size))
		for i := range spans {
			spans[i] = span{int64(i) * each, each}
		}
		return spans, nil
	}
	if len(counts) != size {
		return nil, fmt.Errorf("%d counts of %s for %d ranks", len(counts), name, size)
	}
	left := n
	for i, c := range counts {
		if c < 0 || c > left {
			return nil, fmt.Errorf("counts %v of %s, which has %d elements", counts, name, n)
		}
		spans[i] = span{p.bytes(n - left), p.bytes(c)}
		left -= c
	}
	if left != 0 {
		return nil, fmt.Errorf("counts %v of %s leave %d of %d elements", counts, name, left, n)
	}
	return spans, nil
}

// nearlyEven divides n elements into parts that differ by one element at most.
func (p *plan) nearlyEven(n int64, size int) []span {
	spans := make([]span, size)
	each, more, begin := n/int64(size), n%int64(size), int64(0)
	for i := range spans {
		count := each
		if int64(i) < more {
			count++
		}
		spans[i] = span{p.bytes(begin), p.bytes(count)}
		begin += count
	}
	return spans
}

func member(name string, i, size int) error {
	if i < 0 || i >= size {
		return fmt.Errorf("%s %d is not one of %d ranks", name, i, size)
	}
	return nil
}

func total(n []int64) (sum int64) {
	for _, v := range n {
		sum += v
	}
	return sum
}
