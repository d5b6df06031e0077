//go:build !onednn || !cgo

package onednn

// Engine is the library. There is none in this build.
type Engine struct{}

// Layout is how the library wants a weight.
type Layout struct{}

// Primitive is a prepared operation.
type Primitive struct{}

// New returns ErrNotBuilt.
func New() (*Engine, error) { return nil, ErrNotBuilt }

// Close does nothing.
func (e *Engine) Close() error { return nil }

// ISA returns the name of the instruction set in use.
func (e *Engine) ISA() string { return "" }

// Wide reports whether 16-float vectors are in use.
func (e *Engine) Wide() bool { return false }

// BF16 reports whether the machine multiplies bfloat16.
func (e *Engine) BF16() bool { return false }

// MatMulLayout returns ErrNotBuilt.
func (e *Engine) MatMulLayout(int, int, Type) (*Layout, error) { return nil, ErrNotBuilt }

// ConvLayout returns ErrNotBuilt.
func (e *Engine) ConvLayout(Conv) (*Layout, error) { return nil, ErrNotBuilt }

// Bytes returns 0.
func (l *Layout) Bytes() int64 { return 0 }

// Pack returns ErrNotBuilt.
func (e *Engine) Pack(*Layout, []byte, []byte) error { return ErrNotBuilt }

// PackStrided returns ErrNotBuilt.
func (e *Engine) PackStrided(*Layout, []byte, []byte, int) error { return ErrNotBuilt }

// MatMul returns ErrNotBuilt.
func (e *Engine) MatMul(MatMul, *Layout) (*Primitive, error) { return nil, ErrNotBuilt }

// Conv returns ErrNotBuilt.
func (e *Engine) Conv(Conv, *Layout) (*Primitive, error) { return nil, ErrNotBuilt }

// Info names the implementation that was chosen.
func (p *Primitive) Info() string { return "" }

// ScratchBytes returns 0.
func (p *Primitive) ScratchBytes() int64 { return 0 }

// Execute returns ErrNotBuilt.
func (p *Primitive) Execute(x, w []byte, bias []float32, y, scratch []byte) error { return ErrNotBuilt }

// Close does nothing.
func (p *Primitive) Close() {}
