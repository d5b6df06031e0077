package engine

import (
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
)

// outgoing is data for one or several ranks of the world.
type outgoing struct {
	to   []int
	data []byte
}

// incoming is where the stream of a member goes on: to data, then to next.
type incoming struct {
	from       int // member
	data, next []byte
	second     bool // data was next
}

func (in *incoming) firstDone() bool { return in.second || len(in.data) == 0 }

// errEnded says that the world's failure is the reason.
var errEnded = errors.New("the group has ended")

// ErrRevoked says that a chunk was taken back because its sender's groups ended.
var ErrRevoked = errors.New("the sender has ended")

// prepare says which bytes go where, before the peers are waited for: a peer that
// is further may send at once, and what has come is always taken, so that no
// rank's window stays full because of a third one.
func (r *running) prepare() error {
	dst, err := comm.HostBytes(r.call.Dst)
	if err != nil {
		return err
	}
	src, err := comm.HostBytes(r.call.Src)
	if err != nil {
		return err
	}
	p, me := r.plan, r.g.rank
	switch r.call.Op {
	case comm.OpBarrier:
	case comm.OpReduceScatter:
		own := p.to[me].of(src)
		parts := r.contributions(src, own)
		r.then = func() { r.reduce(dst, parts) }
	case comm.OpAllReduce:
		own := p.to[me].of(dst)
		parts := r.contributions(dst, own)
		for i := range r.in {
			r.in[i].next = p.to[r.in[i].from].of(dst)
		}
		r.then = func() {
			r.reduce(own, parts)
			r.out = append(r.out, outgoing{r.peers(), own})
		}
	case comm.OpBroadcast:
		if me == r.call.Peer {
			r.out = append(r.out, outgoing{r.peers(), dst})
		} else {
			r.in = append(r.in, incoming{from: r.call.Peer, data: dst})
		}
	default:
		if own, from := p.to[me].of(src), p.from[me].of(dst); len(own) == len(from) {
			copy(from, own)
		}
		for _, i := range p.involved {
			r.in = append(r.in, incoming{from: i, data: p.from[i].of(dst)})
			if r.call.Op != comm.OpAllGather {
				r.out = append(r.out, outgoing{[]int{r.g.members[i]}, p.to[i].of(src)})
			}
		}
		if r.call.Op == comm.OpAllGather {
			r.out = append(r.out, outgoing{r.peers(), src})
		}
	}
	return nil
}

func (s span) of(b []byte) []byte { return b[s.off : s.off+s.len] }

// peers are the involved ranks as numbered in the job.
func (r *running) peers() []int {
	var list []int
	for _, i := range r.plan.involved {
		list = append(list, r.g.members[i])
	}
	return list
}

// contributions prepares to send every member its part of src and to receive all
// members' contributions to own; it returns these in rank order. They take the
// memory of own once for each other rank.
func (r *running) contributions(src, own []byte) [][]byte {
	scratch := make([]byte, len(r.plan.involved)*len(own))
	parts := make([][]byte, r.g.Size())
	parts[r.g.rank] = own
	for k, i := range r.plan.involved {
		parts[i] = scratch[k*len(own) : (k+1)*len(own)]
		r.in = append(r.in, incoming{from: i, data: parts[i]})
		r.out = append(r.out, outgoing{[]int{r.g.members[i]}, r.plan.to[i].of(src)})
	}
	return parts
}

func (r *running) reduce(dst []byte, parts [][]byte) {
	if len(dst) > 0 {
		reducers[r.plan.dtype](dst, parts, r.call.Reduce)
	}
}

// drain copies what has come, and reports whether anything had.
func (r *running) drain() (busy bool, err error) {
	for i := range r.in {
		for {
			got, err := r.receive(&r.in[i])
			if err != nil {
				return false, err
			}
			if !got {
				break
			}
			busy = true
		}
	}
	return busy, nil
}

// exchange sends and receives until both are complete.
func (r *running) exchange() error {
	w := r.g.w
	moving := false
	for {
		busy, err := r.drain()
		if err != nil {
			return err
		}
		left, first := false, true
		for i := range r.in {
			first = first && r.in[i].firstDone()
			left = left || len(r.in[i].data) > 0 || len(r.in[i].next) > 0
		}
		offered := true
		for i := range r.out {
			sent, err := r.send(&r.out[i])
			if err != nil {
				return err
			}
			busy = busy || sent
			offered = offered && len(r.out[i].data) == 0
			if sent && !moving {
				w.Failpoint(r.call.Op.String() + ".moving")
				moving = true
			}
		}
		// What then adds goes behind all else in the streams.
		if first && offered && r.then != nil {
			r.then()
			r.then = nil
			continue
		}
		left = left || !offered
		if busy {
			continue
		}
		if !left && r.taken() {
			return nil
		}
		select {
		case <-r.g.box.wake:
		case <-w.done:
			return errEnded
		}
	}
}

// taken reports whether the data that was offered is this rank's again.
func (r *running) taken() bool {
	if !r.g.w.carrier.Borrows() {
		return true
	}
	r.g.w.mu.Lock()
	defer r.g.w.mu.Unlock()
	return r.g.box.unacked == 0
}

// receive copies the next chunk from a member, if it has come.
func (r *running) receive(in *incoming) (bool, error) {
	if len(in.data) == 0 && !in.second {
		in.data, in.next, in.second = in.next, nil, true
	}
	if len(in.data) == 0 {
		return false, nil
	}
	w, box, peer := r.g.w, r.g.box, r.g.members[in.from]
	w.mu.Lock()
	if w.failure != nil {
		w.mu.Unlock()
		return false, errEnded
	}
	chunks := box.chunks[peer]
	if len(chunks) == 0 {
		w.mu.Unlock()
		return false, nil
	}
	c := chunks[0]
	box.chunks[peer] = append(chunks[:0], chunks[1:]...)
	n := c.Len()
	r.wanted[in.from] -= int64(n)
	w.mu.Unlock()
	if n > len(in.data) {
		return false, fmt.Errorf("chunk of %d bytes from rank %d, where %d are left", n, peer, len(in.data))
	}
	switch err := c.CopyTo(in.data[:n]); {
	case errors.Is(err, ErrRevoked):
		<-w.done // the sender's reason is on its way, and is the first cause
		return false, errEnded
	case err != nil:
		return false, fmt.Errorf("chunk of %d bytes from rank %d: %w", n, peer, err)
	}
	in.data = in.data[n:]
	return true, nil
}

// send offers what is left.
func (r *running) send(out *outgoing) (bool, error) {
	if len(out.data) == 0 || len(out.to) == 0 {
		out.data = nil
		return false, nil
	}
	r.unacked(len(out.to)) // before it can be acknowledged
	n, err := r.g.w.carrier.Offer(r.g.id, out.data, out.to)
	if n == 0 {
		r.unacked(-len(out.to))
	}
	if err != nil {
		return false, fmt.Errorf("send to %s: %w", ranks(out.to), err)
	}
	out.data = out.data[n:]
	return n > 0, nil
}

func (r *running) unacked(n int) {
	r.g.w.mu.Lock()
	defer r.g.w.mu.Unlock()
	r.g.box.unacked += n
}
