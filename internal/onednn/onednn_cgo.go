//go:build onednn && cgo

package onednn

// #cgo LDFLAGS: -ldnnl -lgomp
// #include "calls.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// Engine is the library on this machine's processor. It is safe for concurrent use.
type Engine struct {
	engine C.dnnl_engine_t
	isa    C.dnnl_cpu_isa_t
}

// New opens the library. The caller closes it.
func New() (*Engine, error) {
	e := &Engine{isa: C.dnnl_get_effective_cpu_isa()}
	if s := C.dnnl_engine_create(&e.engine, C.dnnl_cpu, 0); s != C.dnnl_success {
		return nil, fmt.Errorf("onednn: dnnl_engine_create: %s", C.GoString(C.dnnl_status2str(s)))
	}
	return e, nil
}

// Close frees the engine, after every primitive.
func (e *Engine) Close() error {
	if s := C.dnnl_engine_destroy(e.engine); s != C.dnnl_success {
		return fmt.Errorf("onednn: dnnl_engine_destroy: %s", C.GoString(C.dnnl_status2str(s)))
	}
	return nil
}

// ISA returns the name of the instruction set in use.
func (e *Engine) ISA() string {
	return strings.TrimPrefix(C.GoString(C.dnnl_cpu_isa2str(e.isa)), "cpu_isa_")
}

// The bits of dnnl_cpu_isa_t that wider sets include.
const (
	wideISA = C.dnnl_cpu_isa_avx512_core
	bf16ISA = C.dnnl_cpu_isa_avx512_core_bf16
)

// Wide reports whether 16-float vectors are in use.
func (e *Engine) Wide() bool { return e.isa&wideISA == wideISA }

// BF16 reports whether the machine multiplies bfloat16.
func (e *Engine) BF16() bool { return e.isa&bf16ISA == bf16ISA }

// failed turns a failure into an error, nil if there is none.
func failed(f C.failure) error {
	if f.status == C.dnnl_success {
		return nil
	}
	return fmt.Errorf("onednn: %s: %s (status %d)", C.GoString(f.call), C.GoString(C.dnnl_status2str(f.status)), int(f.status))
}

// Layout is how the library wants a weight.
type Layout struct {
	desc    C.dnnl_memory_desc_t
	strides [4]C.int64_t // of a row-major weight, in the library's order of dims
}

// Bytes returns the size of a weight in this layout.
func (l *Layout) Bytes() int64 { return int64(C.dnnl_memory_desc_get_size(&l.desc)) }

func dataType(t Type) C.dnnl_data_type_t {
	if t == BF16 {
		return C.dnnl_bf16
	}
	return C.dnnl_f32
}

func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// typicalRows is the number of rows that a layout is chosen for.
const typicalRows = 256

// MatMulLayout returns the layout for weights [n, k] of type t.
func (e *Engine) MatMulLayout(n, k int, t Type) (*Layout, error) {
	p, err := e.MatMul(MatMul{M: typicalRows, N: n, K: k, X: t, W: t, Y: F32}, nil)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return &Layout{p.p.w, [4]C.int64_t{1, C.int64_t(k)}}, nil // dims [K, N] of row-major [N, K]
}

// ConvLayout returns the layout for the weights of c.
func (e *Engine) ConvLayout(c Conv) (*Layout, error) {
	p, err := e.Conv(c, nil)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	in, kw := C.int64_t(c.In), C.int64_t(c.KernelW)
	pixel := C.int64_t(c.KernelH) * kw * in
	return &Layout{p.p.w, [4]C.int64_t{pixel, 1, kw * in, in}}, nil // dims [Out, In, KH, KW] of [Out, KH, KW, In]
}

// Pack writes a row-major weight to dst in layout l. Consecutive outputs of a
// convolution may lie apart in src: see PackStrided.
func (e *Engine) Pack(l *Layout, dst, src []byte) error { return e.PackStrided(l, dst, src, 0) }

// PackStrided is Pack of a convolution's weight whose outputs begin stride
// elements apart in src, 0 for next to each other.
func (e *Engine) PackStrided(l *Layout, dst, src []byte, stride int) error {
	strides := l.strides
	if stride > 0 {
		strides[0] = C.int64_t(stride)
	}
	return failed(C.pack(e.engine, &l.desc, pointer(dst), pointer(src), &strides[0]))
}

// Primitive is a prepared operation. It is safe for concurrent use.
type Primitive struct {
	p C.prepared
}

// MatMul prepares m for weights in layout l, or in any that suits it for nil.
func (e *Engine) MatMul(m MatMul, l *Layout) (*Primitive, error) {
	p := &Primitive{}
	err := failed(C.matmul(&p.p, e.engine, C.int64_t(m.M), C.int64_t(m.N), C.int64_t(m.K),
		dataType(m.X), dataType(m.W), dataType(m.Y), truth(m.Bias), truth(m.Accumulate), l.description()))
	if err != nil {
		return nil, fmt.Errorf("prepare %+v: %w", m, err)
	}
	return p, nil
}

// Conv prepares c for weights in layout l, or in any that suits it for nil.
func (e *Engine) Conv(c Conv, l *Layout) (*Primitive, error) {
	p := &Primitive{}
	height := (c.Height+c.PadTop+c.PadBottom-c.KernelH)/c.StrideH + 1
	width := (c.Width+c.PadLeft+c.PadRight-c.KernelW)/c.StrideW + 1
	n := func(i int) C.int64_t { return C.int64_t(i) }
	err := failed(C.conv(&p.p, e.engine, n(c.Height), n(c.Width), n(c.In), n(c.Out), n(height), n(width),
		n(c.KernelH), n(c.KernelW), n(c.StrideH), n(c.StrideW), n(c.PadTop), n(c.PadBottom), n(c.PadLeft), n(c.PadRight),
		truth(c.Bias), truth(c.Accumulate), l.description()))
	if err != nil {
		return nil, fmt.Errorf("prepare %+v: %w", c, err)
	}
	return p, nil
}

func (l *Layout) description() *C.dnnl_memory_desc_t {
	if l == nil {
		return nil
	}
	return &l.desc
}

// Info names the implementation that was chosen.
func (p *Primitive) Info() string { return C.GoString(p.p.info) }

// ScratchBytes returns the scratch that each Execute needs.
func (p *Primitive) ScratchBytes() int64 { return int64(C.dnnl_memory_desc_get_size(&p.p.scratch)) }

// Execute computes y on the calling thread. The sizes of the slices are the
// caller's care: they are those of the description.
func (p *Primitive) Execute(x, w []byte, bias []float32, y, scratch []byte) error {
	return failed(C.run(&p.p, pointer(x), pointer(w), unsafe.Pointer(unsafe.SliceData(bias)), pointer(y), pointer(scratch)))
}

// Close frees the primitive.
func (p *Primitive) Close() { C.dnnl_primitive_destroy(p.p.primitive) }

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
