package cpu

import (
	"errors"
	"sync"

	"github.com/wanrun/wanrun/internal/onednn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// library is oneDNN with the layouts and primitives that were asked of it so
// far: as many as there are different shapes.
//
// Products and convolutions are cut into pieces by their shape alone, and each
// piece is one call on one thread: as in the kernels of this package, results do
// not depend on the number of threads.
type library struct {
	engine *onednn.Engine

	mu      sync.Mutex
	layouts map[weightKey]*onednn.Layout // nil: the library has none
	matmuls map[onednn.MatMul]*onednn.Primitive
	convs   map[onednn.Conv]*onednn.Primitive
}

// weightKey is a weight's type and shape: [N, K], or [Out, 1, KernelH, KernelW,
// In] for each frame of a convolution's kernel.
type weightKey struct {
	kind  tensor.WeightKind
	dtype tensor.DType
	shape [5]int
}

// newLibrary opens oneDNN. Errors: onednn.ErrNotBuilt.
func newLibrary() (*library, error) {
	engine, err := onednn.New()
	if err != nil {
		return nil, err
	}
	return &library{
		engine:  engine,
		layouts: map[weightKey]*onednn.Layout{},
		matmuls: map[onednn.MatMul]*onednn.Primitive{},
		convs:   map[onednn.Conv]*onednn.Primitive{},
	}, nil
}

func (l *library) close() error {
	for _, p := range l.matmuls {
		p.Close()
	}
	for _, p := range l.convs {
		p.Close()
	}
	return l.engine.Close()
}

// layout returns how the library wants a weight, nil if it is not for it: F32,
// and BF16 products where the machine multiplies that.
func (l *library) layout(kind tensor.WeightKind, d tensor.DType, shape tensor.Shape) *onednn.Layout {
	key := weightKey{kind: kind, dtype: d}
	switch {
	case kind == tensor.MatrixWeight && len(shape) == 2 && (d == tensor.F32 || d == tensor.BF16 && l.engine.BF16()):
		copy(key.shape[:], shape)
	case kind == tensor.ConvWeight && len(shape) == 5 && d == tensor.F32:
		copy(key.shape[:], shape)
		key.shape[1] = 1
	default:
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if layout, ok := l.layouts[key]; ok {
		return layout
	}
	var layout *onednn.Layout
	var err error
	if kind == tensor.MatrixWeight {
		layout, err = l.engine.MatMulLayout(shape[0], shape[1], dnnType(d))
	} else {
		// Layouts follow channels and kernel; the picture is only to be large enough.
		layout, err = l.engine.ConvLayout(onednn.Conv{
			Height: 32 + shape[2], Width: 64 + shape[3], In: shape[4], Out: shape[0],
			KernelH: shape[2], KernelW: shape[3], StrideH: 1, StrideW: 1,
		})
	}
	if err != nil {
		layout = nil // what the library cannot do is done here
	}
	l.layouts[key] = layout
	return layout
}

func dnnType(d tensor.DType) onednn.Type {
	if d == tensor.BF16 {
		return onednn.BF16
	}
	return onednn.F32
}

// layoutOf returns the library's layout of a packed weight, nil if the weight is
// row-major or packed as panels.
func (b *Backend) layoutOf(kind tensor.WeightKind, w tensor.Tensor) *onednn.Layout {
	if b.library == nil || w.Packed() == 0 {
		return nil
	}
	return b.library.layout(kind, w.DType(), w.Shape())
}

// partBytes is the distance of the frames of a convolution's kernel.
func partBytes(l *onednn.Layout) int64 { return tensor.RoundUp(l.Bytes()) }

// packedBytes returns the bytes of a weight in the library's layout.
func packedBytes(l *onednn.Layout, kind tensor.WeightKind, shape tensor.Shape) int64 {
	if kind == tensor.ConvWeight {
		return int64(shape[1]) * partBytes(l)
	}
	return l.Bytes()
}

// writeWeight packs row-major src.
func (l *library) writeWeight(layout *onednn.Layout, dst tensor.Tensor, kind tensor.WeightKind, src []byte) error {
	to := viewOf(dst).bytes
	if kind == tensor.MatrixWeight {
		return l.engine.Pack(layout, to, src)
	}
	out, frames := dst.Dim(0), dst.Dim(1)
	stride := int(dst.NumElements()) / out
	for i := range frames {
		err := l.engine.PackStrided(layout, to[int64(i)*partBytes(layout):], src[i*(stride/frames)*4:], stride)
		if err != nil {
			return err
		}
	}
	return nil
}

// matmul returns the primitive of m.
func (l *library) matmul(m onednn.MatMul, layout *onednn.Layout) (*onednn.Primitive, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.matmuls[m]; ok {
		return p, nil
	}
	p, err := l.engine.MatMul(m, layout)
	if err == nil {
		l.matmuls[m] = p
	}
	return p, err
}

// conv returns the primitive of c.
func (l *library) conv(c onednn.Conv, layout *onednn.Layout) (*onednn.Primitive, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.convs[c]; ok {
		return p, nil
	}
	p, err := l.engine.Conv(c, layout)
	if err == nil {
		l.convs[c] = p
	}
	return p, err
}

// run executes p with w's scratch.
func (w *worker) run(p *onednn.Primitive, x, weight []byte, bias []float32, y []byte) error {
	scratch := w.buffer(bufE, int(p.ScratchBytes()+3)/4)
	return p.Execute(x, weight, bias, y, tensor.FloatBytes(scratch))
}

// tryEach is pool.each for tasks that can fail.
func (p *pool) tryEach(n int, run func(w *worker, task int) error) error {
	errs := make([]error, n)
	p.each(int64(n), func(w *worker, task int64) { errs[task] = run(w, int(task)) })
	return errors.Join(errs...)
}
