package vae

import "github.com/wanrun/wanrun/pkg/tensor"

// segment is a run of layers at one frame rate that computes nothing twice. When
// frames repeat, the result of a causal layer repeats as soon as all the frames
// that it sees have: the leading layers come to rest one after the other, and
// what enters the first layer that has not is kept. The video of i2v is a picture
// and then one grey frame over and over: of 81 frames 12 run through the stage at
// full size.
//
// Nothing is compared: which frames repeat is said by the caller, and what follows
// from it by the layers' delays. A layer that rests has nothing to remember
// either: the frames in its history are the one that repeats.
type segment struct {
	layers []layer
	// need[i] is how many frames in a row must repeat the one before for the
	// result of layers[:i] to do so: 1 + the sum of their delays.
	need []int
	run  int // how many frames in a row have repeated the one before
	// kept holds the latest result of layers[:numKept] in its first bytes.
	kept    tensor.Tensor
	shapes  []tensor.Shape // of one frame: shapes[i] is the result of layers[:i]
	numKept int
}

// newSegments splits layers, which take frames of shape x, at the layers that
// change the frame rate, which are returned too: downs[i] follows segments[i].
func newSegments(s *stream, layers []layer, x tensor.Shape) (segments []*segment, downs []timeDownsample) {
	g := newSegment(x)
	segments = append(segments, g)
	for _, l := range layers {
		x = l.out(x)
		if down, ok := l.(timeDownsample); ok {
			downs = append(downs, down)
			g = newSegment(x)
			segments = append(segments, g)
			continue
		}
		g.layers = append(g.layers, l)
		g.need = append(g.need, g.need[len(g.need)-1]+l.delay())
		g.shapes = append(g.shapes, x)
	}
	for _, g := range segments {
		g.reserve(s)
	}
	return segments, downs
}

func newSegment(x tensor.Shape) *segment {
	return &segment{need: []int{1}, shapes: []tensor.Shape{x}, numKept: -1}
}

// reserve allocates what is kept, for the largest result that ever is.
func (g *segment) reserve(s *stream) {
	if s.single {
		return
	}
	most := int64(0)
	for i, shape := range g.shapes {
		if n, _ := shape.NumElements(); g.resting(g.need[i]) == i {
			most = max(most, n)
		}
	}
	g.kept = s.ops.Using(tensor.VAEWorkspace).Empty(s.compute, int(most))
}

// resting returns how many leading layers repeat their result at a frame that is
// the run-th in a row to repeat; -1 if the frame itself does not.
func (g *segment) resting(run int) int {
	n := -1
	for i, need := range g.need {
		if need <= run {
			n = i
		}
	}
	return n
}

// forward takes the next frame x, or none if same says that it is the one before
// again, and returns the result and whether that is the one before again. The
// caller must not overwrite a result that is.
func (g *segment) forward(s *stream, x tensor.Tensor, same bool) (y tensor.Tensor, ySame bool) {
	from := 0
	if same {
		g.run++
		from, x = g.numKept, g.view(s)
		if from == len(g.layers) {
			return x, g.run >= g.need[from]
		}
		x = s.ops.Clone(x, s.compute) // layers overwrite
	} else {
		g.run, g.numKept = 0, -1
	}
	keep := g.resting(g.run + 1) // what the next frame starts from if it repeats this one
	for i := from; ; i++ {
		if i == keep {
			g.keep(s, x, i)
		}
		if i == len(g.layers) {
			return x, g.run >= g.need[i]
		}
		x = s.forward(g.layers[i], x)
	}
}

// keep makes x, the result of layers[:i], what is kept.
func (g *segment) keep(s *stream, x tensor.Tensor, i int) {
	if s.single || g.numKept == i || s.ops.Err() != nil {
		return
	}
	g.numKept = i
	s.ops.CopyTo(g.view(s), x)
}

// view returns what is kept.
func (g *segment) view(s *stream) tensor.Tensor {
	if g.kept.IsNone() {
		return tensor.Tensor{}
	}
	shape := g.shapes[g.numKept]
	n, _ := shape.NumElements()
	return s.ops.Reshape(g.kept.Slice(0, int(n)), shape...)
}
