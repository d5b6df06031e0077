package generate

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Sketch is a run of which only the sizes are known: it can be planned, without weights
// and without a tokenizer, and not executed. ids and negativeIDs are how many tokens the
// prompts have; pictures in job matter for their sizes alone.
// Errors: ends.BadInput.
func Sketch(job Job, spec checkpoint.Spec, ids, negativeIDs int) (*Run, error) {
	if most := spec.T5.TextLen; ids < 1 || negativeIDs < 1 || ids > most || negativeIDs > most {
		return nil, ends.Errorf(ends.BadInput, "prompts of %d and %d tokens, want 1 to %d", ids, negativeIDs, most)
	}
	r := &Run{job: job, spec: spec, ids: make([]int32, ids), negativeIDs: make([]int32, negativeIDs)}
	if err := r.size(); err != nil {
		return nil, ends.As(ends.BadInput, err)
	}
	if r.latH < 1 || r.latW < 1 {
		return nil, ends.As(ends.BadInput, fmt.Errorf("a video of %d x %d pixels: want sides of at least 16", r.Width(), r.Height()))
	}
	return r, nil
}

// Work is what a rank does in a phase, of all steps. It is known of plans alone.
type Work struct {
	meta.Counts
	// Traffic is what the rank's collectives move. What is fetched ahead behind the last
	// step is counted with every step: one small unit.
	Traffic []comm.Traffic
	// FromFile and FromHost are the bytes of weights, as they are used, that come from files
	// and from host memory.
	FromFile, FromHost int64
	// HostArrays are the bytes on the Go heap that live in the phase, beside the arenas.
	HostArrays int64
	// FileBytes are the bytes of weights in the files that the phase reads, of all ranks
	// together, if they are stored as the official ones are. Their pages are the kernel's
	// cache, which it can drop.
	FileBytes int64
}

// tally counts the work of the phase under way.
type tally struct {
	counts  meta.Counts
	traffic []comm.Traffic
	// stepCounts and stepTraffic are what had been counted before the first step.
	stepCounts  meta.Counts
	stepTraffic []comm.Traffic
	stepping    bool
	work        Work
}

func (e *execution) counts() meta.Counts {
	if b, ok := e.backend.(*meta.Backend); ok {
		return b.Counts
	}
	return meta.Counts{}
}

func (e *execution) traffic() []comm.Traffic {
	if !e.planning || e.ranks.alone() {
		return nil
	}
	return e.ranks.world.Traffic()
}

// beginTally starts to count a phase.
func (e *execution) beginTally() { e.tally = tally{counts: e.counts(), traffic: e.traffic()} }

// beginSteps marks where the first step begins: a plan has one, which stands for all.
func (e *execution) beginSteps() {
	e.tally.stepCounts, e.tally.stepTraffic, e.tally.stepping = e.counts(), e.traffic(), true
}

// endTally returns the phase's work, with its one step taken as many times as the job has.
func (e *execution) endTally() Work {
	if !e.planning {
		return Work{}
	}
	t, w := &e.tally, e.tally.work
	w.Counts = e.counts().Sub(t.counts)
	w.Traffic = scaleTraffic(subTraffic(e.traffic(), t.traffic), 1)
	if t.stepping && e.wholeSteps > 1 {
		more := int64(e.wholeSteps - 1)
		step := e.counts().Sub(t.stepCounts)
		w.Counts = w.Counts.Add(step, more)
		w.Traffic = addTraffic(w.Traffic, scaleTraffic(subTraffic(e.traffic(), t.stepTraffic), more))
	}
	w.HostArrays += tensor.F32.Size() * int64(len(e.context)+len(e.negative)+len(e.clipFea)+len(e.y)+len(e.latent))
	return w
}

// subTraffic returns what has been added to earlier sums.
func subTraffic(now, earlier []comm.Traffic) []comm.Traffic {
	var out []comm.Traffic
	for _, t := range now {
		for _, e := range earlier {
			if e.Op == t.Op && e.Phase == t.Phase && e.Purpose == t.Purpose {
				t.Calls, t.Sent, t.Received = t.Calls-e.Calls, t.Sent-e.Sent, t.Received-e.Received
			}
		}
		if t.Calls > 0 {
			out = append(out, t)
		}
	}
	return out
}

func scaleTraffic(ts []comm.Traffic, by int64) []comm.Traffic {
	for i := range ts {
		ts[i].Calls, ts[i].Sent, ts[i].Received = ts[i].Calls*by, ts[i].Sent*by, ts[i].Received*by
	}
	return ts
}

func addTraffic(ts, more []comm.Traffic) []comm.Traffic {
	for _, m := range more {
		for i := range ts {
			if t := &ts[i]; t.Op == m.Op && t.Phase == m.Phase && t.Purpose == m.Purpose {
				t.Calls, t.Sent, t.Received = t.Calls+m.Calls, t.Sent+m.Sent, t.Received+m.Received
			}
		}
	}
	return ts
}

// reads notes that the phase reads weights of units from files, of storedBytes an element,
// through a host buffer, and, unless a store of shards says how much, how many bytes of them it uses.
func (e *execution) reads(units []nn.Unit, storedBytes int64, compute tensor.DType, fetched int64) {
	if !e.planning {
		return
	}
	w := &e.tally.work
	w.FileBytes += storedBytes * nn.NumParams(units)
	w.FromFile += fetched
	staging := int64(0)
	for _, u := range units {
		for _, p := range u.Params {
			staging = max(staging, stagingBytes(e.backend, p, compute))
		}
	}
	w.HostArrays += staging
}

// holds notes n floats on the Go heap.
func (e *execution) holds(n int) { e.tally.work.HostArrays += tensor.F32.Size() * int64(n) }

// Bytes of an element in the official files: T5 is stored in BF16, the others in F32.
const (
	storedF32  = 4
	storedBF16 = 2
)

// maxStaging is that of weights.Load and fsdp.Open.
const maxStaging = 16 << 20

// stagingBytes is the host buffer through which a parameter passes.
func stagingBytes(b tensor.Backend, p nn.Param, compute tensor.DType) int64 {
	n, ok := p.Shape.NumElements()
	if !ok || p.Kind == nn.Rows {
		return 0
	}
	d, kind := compute, tensor.MatrixWeight
	switch p.Kind {
	case nn.Vector:
		return n * tensor.F32.Size()
	case nn.MatrixF32:
		d = tensor.F32
	case nn.Conv:
		kind = tensor.ConvWeight
	}
	shape := p.Shape
	if kind == tensor.MatrixWeight && len(shape) > 0 {
		shape = tensor.Shape{shape[0], int(n) / shape[0]}
	}
	if b.PackedBytes(kind, d, shape) > 0 {
		return n * d.Size()
	}
	return min(n*d.Size(), maxStaging)
}

// Tokens returns how many tokens the prompts have.
func (r *Run) Tokens() (prompt, negative int) { return len(r.ids), len(r.negativeIDs) }
