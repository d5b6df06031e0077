// Package meta is a backend that computes nothing. Model code run on it makes
// the same allocations as on the backend it stands for, so that the peaks of
// its arenas are those of a real run, and leaves counts of the arithmetic and of
// the bytes that the ops would read and write.
package meta

import "github.com/wanrun/wanrun/pkg/tensor"

// Counts are sums over the ops so far.
type Counts struct {
	Ops            int64 // calls that compute or move
	MatMulFLOPs    int64 // 2 M N K
	AttentionFLOPs int64 // 4 Sq KeyLen N H
	ConvFLOPs      int64 // 2 · output elements · kernel volume · Cin
	OtherFLOPs     int64 // one an output element of any other arithmetic op
	BytesMoved     int64 // every operand once
}

// FLOPs returns all of them.
func (c Counts) FLOPs() int64 {
	return c.MatMulFLOPs + c.AttentionFLOPs + c.ConvFLOPs + c.OtherFLOPs
}

// Sub returns what was counted since an earlier reading.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		c.Ops - earlier.Ops,
		c.MatMulFLOPs - earlier.MatMulFLOPs,
		c.AttentionFLOPs - earlier.AttentionFLOPs,
		c.ConvFLOPs - earlier.ConvFLOPs,
		c.OtherFLOPs - earlier.OtherFLOPs,
		c.BytesMoved - earlier.BytesMoved,
	}
}

// Add returns the counts and by times more.
func (c Counts) Add(more Counts, by int64) Counts {
	return Counts{
		c.Ops + by*more.Ops,
		c.MatMulFLOPs + by*more.MatMulFLOPs,
		c.AttentionFLOPs + by*more.AttentionFLOPs,
		c.ConvFLOPs + by*more.ConvFLOPs,
		c.OtherFLOPs + by*more.OtherFLOPs,
		c.BytesMoved + by*more.BytesMoved,
	}
}

// Backend counts.
type Backend struct {
	Counts
	like tensor.Backend
}

var _ tensor.Backend = (*Backend)(nil)

// New returns a backend that lays out weights as like does.
func New(like tensor.Backend) *Backend { return &Backend{like: like} }

// Name names the backend and the one it stands for.
func (b *Backend) Name() string { return "meta of " + b.like.Name() }

// Memory is a reservation with nothing behind it.
type Memory struct{ bytes int64 }

// Bytes returns the size asked for.
func (m *Memory) Bytes() int64 { return m.bytes }

// Release does nothing.
func (m *Memory) Release() error { return nil }

// Reserve returns the size alone.
func (b *Backend) Reserve(bytes int64, _ tensor.Purpose) (tensor.Memory, error) {
	return &Memory{bytes}, nil
}

// PackedBytes asks the backend that is stood for.
func (b *Backend) PackedBytes(kind tensor.WeightKind, d tensor.DType, shape tensor.Shape) int64 {
	return b.like.PackedBytes(kind, d, shape)
}

// count adds one op.
func (b *Backend) count(flops *int64, n int64, operands ...tensor.Tensor) error {
	b.Ops++
	*flops += n
	for _, t := range operands {
		b.BytesMoved += t.Bytes()
	}
	return nil
}

func (b *Backend) move(operands ...tensor.Tensor) error { return b.count(new(int64), 0, operands...) }

func (b *Backend) pointwise(dst tensor.Tensor, inputs ...tensor.Tensor) error {
	return b.count(&b.OtherFLOPs, dst.NumElements(), append(inputs, dst)...)
}

// WriteWeight counts the bytes.
func (b *Backend) WriteWeight(dst tensor.Tensor, _ tensor.WeightKind, _ []byte) error {
	return b.move(dst)
}

// Write counts the bytes.
func (b *Backend) Write(dst tensor.Tensor, _ []byte) error { return b.move(dst) }

// Read fills dst with zeros.
func (b *Backend) Read(dst []byte, src tensor.Tensor) error {
	clear(dst)
	return b.move(src)
}

// Sync has nothing to wait for.
func (b *Backend) Sync() error { return nil }

// Copy counts.
func (b *Backend) Copy(dst, src tensor.Tensor) error { return b.move(dst, src) }

// CopyRows counts the rows alone, once read and once written.
func (b *Backend) CopyRows(_, _ tensor.Tensor, rows, run, _, _, _, _ int64) error {
	b.BytesMoved += 2 * rows * run
	return b.move()
}

// Permute counts.
func (b *Backend) Permute(dst, src tensor.Tensor, _ []int) error { return b.move(dst, src) }

// Fill counts.
func (b *Backend) Fill(dst tensor.Tensor, _ float32) error { return b.move(dst) }

// Mul counts.
func (b *Backend) Mul(dst, x, y tensor.Tensor) error { return b.pointwise(dst, x, y) }

// AddScaled counts dst twice, as it is read and written.
func (b *Backend) AddScaled(dst, y, gate tensor.Tensor) error { return b.pointwise(dst, dst, y, gate) }

// Affine counts.
func (b *Backend) Affine(dst, x, scale, shift tensor.Tensor, _ float32) error {
	return b.pointwise(dst, x, scale, shift)
}

// Activate counts.
func (b *Backend) Activate(dst, x tensor.Tensor, _ tensor.Activation) error {
	return b.pointwise(dst, x)
}

// Clamp counts.
func (b *Backend) Clamp(dst, x tensor.Tensor, _, _ float32) error { return b.pointwise(dst, x) }

// Quantize counts.
func (b *Backend) Quantize(dst, x tensor.Tensor, _ bool) error { return b.pointwise(dst, x) }

// RMSNorm counts.
func (b *Backend) RMSNorm(dst, x, weight tensor.Tensor, _ float32) error {
	return b.pointwise(dst, x, weight)
}

// L2Norm counts.
func (b *Backend) L2Norm(dst, x, weight tensor.Tensor) error { return b.pointwise(dst, x, weight) }

// LayerNorm counts.
func (b *Backend) LayerNorm(dst, x, weight, bias tensor.Tensor, _ float32) error {
	return b.pointwise(dst, x, weight, bias)
}

// Rope counts.
func (b *Backend) Rope(dst, x, cos, sin tensor.Tensor) error { return b.pointwise(dst, x, cos, sin) }

// MatMul counts 2 M N K.
func (b *Backend) MatMul(dst, x, w, bias tensor.Tensor, _ tensor.Activation) error {
	return b.count(&b.MatMulFLOPs, 2*x.NumElements()*int64(w.Dim(0)), dst, x, w, bias)
}

// Attention counts 4 Sq KeyLen N H.
func (b *Backend) Attention(dst, q, k, v tensor.Tensor, spec tensor.AttentionSpec) error {
	return b.count(&b.AttentionFLOPs, 4*q.NumElements()*int64(spec.KeyLen), dst, q, k, v, spec.RelBias, spec.LSE)
}

// Conv3D counts 2 · output elements · kernel volume · Cin.
func (b *Backend) Conv3D(dst, x, history, w, bias tensor.Tensor, _ tensor.ConvSpec) error {
	perOutput := w.NumElements() / int64(w.Dim(0))
	return b.count(&b.ConvFLOPs, 2*dst.NumElements()*perOutput, dst, x, history, w, bias)
}

// Upsample2x counts.
func (b *Backend) Upsample2x(dst, x tensor.Tensor) error { return b.move(dst, x) }

// MergeAttention counts acc and lse twice, as they are read and written.
func (b *Backend) MergeAttention(acc, lse, part, partLSE tensor.Tensor) error {
	return b.pointwise(acc, acc, part, lse, lse, partLSE)
}
