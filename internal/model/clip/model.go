package clip

// Shapes: S tokens, D dim, N heads, H head dim, G patches in a row, P pixels in a
// row of a patch.

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// eps of every LayerNorm; original code, VisionTransformer.
const eps = 1e-5

// Model is the visual tower with its weights. Methods are called with one Ops at a
// time.
type Model struct {
	Config
	Weights nn.Weights
	// Compute is the type of matrices and of what goes through them; the residual
	// stream and norms are F32. The original code computes in F16.
	Compute tensor.DType
	// Trace, if not nil, gets intermediate results by the names of the reference data.
	Trace func(name string, x tensor.Tensor)
}

// New returns the tower. Weights hand out Units(c), matrices in type compute.
func New(c Config, weights nn.Weights, compute tensor.DType) *Model {
	return &Model{Config: c, Weights: weights, Compute: compute}
}

// Encode returns the features [S, D] F32 of a picture: the tokens that leave the
// last block but one, without a final norm. The picture is [size, size, 3],
// already normalised by Mean and Std.
//
// Errors stick to ops: tensor.ErrShape for a picture of another size.
// Source: CLIP, arXiv:2103.00020; ViT, arXiv:2010.11929.
func (m *Model) Encode(ops tensor.Ops, hwc []float32) tensor.Tensor {
	if err := m.check(hwc); err != nil {
		ops.Fail(fmt.Errorf("clip encode: %w", err))
		return tensor.Tensor{}
	}
	xSD := ops.Empty(tensor.F32, m.NumTokens(), m.Dim)
	ops.Update(xSD, func() tensor.Tensor { return m.embed(ops, hwc) })
	m.trace("after_pre_norm", xSD)
	for i := range m.NumLayers - 1 {
		m.block(ops, i, xSD)
		m.trace(fmt.Sprintf("block%d", i), xSD)
	}
	return xSD
}

func (m *Model) check(hwc []float32) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if want := m.ImageSize * m.ImageSize * 3; len(hwc) != want {
		return fmt.Errorf("picture of %d floats; want %d for [%d, %d, 3]: %w",
			len(hwc), want, m.ImageSize, m.ImageSize, tensor.ErrShape)
	}
	return nil
}

// embed returns the tokens that enter the first block.
func (m *Model) embed(ops tensor.Ops, hwc []float32) tensor.Tensor {
	p, release := m.Weights.Acquire(ops, embeddingUnit)
	defer release()
	patches := m.patches(ops, hwc)
	tokens := p.Project(ops, "patch_embedding", patches, tensor.NoActivation, tensor.F32)
	xSD := ops.Concat(0, ops.Reshape(p.Get(ops, "cls_embedding"), 1, m.Dim), tokens)
	ops.AddTo(xSD, ops.Reshape(p.Get(ops, "pos_embedding"), m.NumTokens(), m.Dim), tensor.Tensor{})
	return p.LayerNorm(ops, "pre_norm", xSD, eps, tensor.F32)
}

// patches returns the pixels of each patch, [G², 3 P²] in the order of the patch
// embedding's weight: channel, row, column.
func (m *Model) patches(ops tensor.Ops, hwc []float32) tensor.Tensor {
	g, p := m.side(), m.PatchSize
	xGPGPC := ops.FromFloats(hwc, g, p, g, p, 3)
	return ops.Cast(ops.Reshape(ops.Permute(xGPGPC, 0, 2, 4, 1, 3), g*g, 3*p*p), m.Compute)
}

// block runs block i on x in place.
func (m *Model) block(ops tensor.Ops, i int, xSD tensor.Tensor) {
	p, release := m.Weights.Acquire(ops, blockUnit(i))
	defer release()
	ops.Scope(func() { ops.AddTo(xSD, m.attention(ops, p, xSD), tensor.Tensor{}) })
	ops.Scope(func() {
		h := p.LayerNorm(ops, "norm2", xSD, eps, m.Compute)
		h = p.Linear(ops, "mlp.0", h, tensor.GELUErf, m.Compute)
		ops.AddTo(xSD, p.Linear(ops, "mlp.2", h, tensor.NoActivation, m.Compute), tensor.Tensor{})
	})
}

// attention returns proj(attention(norm1(x))).
func (m *Model) attention(ops tensor.Ops, p nn.Params, xSD tensor.Tensor) tensor.Tensor {
	s := xSD.Dim(0)
	qkv := p.Linear(ops, "attn.to_qkv", p.LayerNorm(ops, "norm1", xSD, eps, m.Compute), tensor.NoActivation, m.Compute)
	part := func(i int) tensor.Tensor {
		return ops.Reshape(ops.Narrow(qkv, 1, i*m.Dim, m.Dim), s, m.NumHeads, m.HeadDim())
	}
	ySNH := ops.Attention(part(0), part(1), part(2),
		tensor.AttentionSpec{Scale: float32(1 / math.Sqrt(float64(m.HeadDim()))), KeyLen: s})
	return p.Linear(ops, "attn.proj", ops.Reshape(ySNH, s, m.Dim), tensor.NoActivation, m.Compute)
}

func (m *Model) trace(name string, x tensor.Tensor) {
	if m.Trace != nil {
		m.Trace(name, x)
	}
}
