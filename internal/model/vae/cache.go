package vae

import (
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// stream is one pass of a video through encoder or decoder: what the layers share
// and what they remember of the frames that have passed.
type stream struct {
	ops     tensor.Ops // results are activations
	params  nn.Params
	compute tensor.DType
	slab    slab
	// single says that no second frame will come: nothing is remembered.
	single    bool
	histories map[string]*history
	trace     func(layer string, frame tensor.Tensor)
}

// withStream runs fn on a fresh stream with the unit's parameters, and then frees
// everything that fn allocated for activations or in the VAE's workspace.
func withStream(ops tensor.Ops, w nn.Weights, unit string, compute tensor.DType, slab slab, single bool, fn func(s *stream)) {
	p, release := w.Acquire(ops, unit)
	defer release()
	s := &stream{ops: ops.Using(tensor.Activations), params: p, compute: compute, slab: slab, single: single, histories: map[string]*history{}}
	ops.Using(tensor.VAEWorkspace).Scope(func() {
		s.ops.Scope(func() { fn(s) })
	})
}

// numRemembered is how many frames before the present one a causal kernel of 3 sees.
const numRemembered = 2

// history is what one causal convolution remembers.
type history struct {
	frames tensor.Tensor // [2, h, w, C], newest last, with the neighbours' rows that the kernel sees
	count  int           // of frames that are set, the last ones
	// seen and run are of the layers that change the frame rate: frames that came
	// in, and how many of the latest ones in a row repeat the frame before.
	seen, run int
}

// history returns what the named convolution remembers.
func (s *stream) history(name string) *history {
	h := s.histories[name]
	if h == nil {
		h = &history{}
		s.histories[name] = h
	}
	return h
}

// last returns the frames that are remembered, none at the start: the convolution
// takes zeros for those that are missing.
func (h *history) last() tensor.Tensor {
	if h.count == 0 {
		return tensor.Tensor{}
	}
	return h.frames.Slice(numRemembered-h.count, h.count)
}

// remember makes x [1, h, w, C] the newest frame.
func (s *stream) remember(h *history, x tensor.Tensor) {
	if s.single || s.ops.Err() != nil {
		return
	}
	if h.count == 0 {
		h.frames = s.ops.Using(tensor.VAEWorkspace).Empty(x.DType(), numRemembered, x.Dim(1), x.Dim(2), x.Dim(3))
	} else {
		s.ops.CopyTo(h.frames.Slice(0, 1), h.frames.Slice(1, 1))
	}
	s.ops.CopyTo(h.frames.Slice(1, 1), x)
	h.count = min(h.count+1, numRemembered)
}

// forward runs layer l and shows its result to whoever traces.
func (s *stream) forward(l layer, x tensor.Tensor) tensor.Tensor {
	y := l.forward(s, x)
	if s.trace != nil && s.ops.Err() == nil {
		s.trace(l.label(), y)
	}
	return y
}
