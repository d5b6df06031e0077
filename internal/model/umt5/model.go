package umt5

// Shapes: S tokens, D dim, N heads, H head dim.

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Model is the encoder with its weights. Methods are called with one Ops at a time.
type Model struct {
	Config
	Weights nn.Weights
	// Compute is the type of matrices and of what goes through them; the residual
	// stream and norms are F32. The FFN of the official weights is known to leave the
	// range of F16: BF16 is the type to use, as the original code always does.
	Compute tensor.DType
	// Trace, if not nil, gets intermediate results by the names of the reference data.
	Trace func(name string, x tensor.Tensor)
}

// New returns the encoder. Weights hand out Units(c), matrices in type compute.
func New(c Config, weights nn.Weights, compute tensor.DType) *Model {
	return &Model{Config: c, Weights: weights, Compute: compute}
}

// Encode returns the context [len(ids), Dim] F32 of each prompt's ids, </s> included
// and not padded; at most TextLen. The prompts go through each block together, as
// they share the unit that is acquired.
//
// The original code runs over TextLen positions, masks padded keys by a logit so
// low that their weight is exactly zero, and drops the padded rows: no real row
// depends on padding, which is therefore left out here.
//
// Errors stick to ops: tensor.ErrShape for ids that do not fit.
// Source: umT5, arXiv:2304.09151; T5 1.1's gated FFN, arXiv:2002.05202.
func (m *Model) Encode(ops tensor.Ops, prompts ...[]int32) []tensor.Tensor {
	contexts := make([]tensor.Tensor, len(prompts))
	if err := m.Validate(); err != nil {
		ops.Fail(err)
		return contexts
	}
	for i, ids := range prompts {
		if err := m.check(ids); err != nil {
			ops.Fail(fmt.Errorf("t5 encode prompt %d: %w", i, err))
			return contexts
		}
	}
	for i, ids := range prompts {
		contexts[i] = ops.Empty(tensor.F32, len(ids), m.Dim)
		ops.Scope(func() { ops.CopyTo(contexts[i], m.Weights.Rows(ops, tokenTable, ids)) })
		m.trace("embedding", contexts[i])
	}
	for i := range m.NumLayers {
		m.block(ops, i, contexts)
	}
	p, release := m.Weights.Acquire(ops, finalUnit)
	defer release()
	for _, xSD := range contexts {
		ops.Update(xSD, func() tensor.Tensor {
			return ops.RMSNorm(xSD, p.Get(ops, "norm.weight"), float32(m.Eps), tensor.F32)
		})
		m.trace("final", xSD)
	}
	return contexts
}

// check returns what is wrong with ids.
func (m *Model) check(ids []int32) error {
	if len(ids) == 0 || len(ids) > m.TextLen {
		return fmt.Errorf("%d ids; want 1 to %d: %w", len(ids), m.TextLen, tensor.ErrShape)
	}
	for i, id := range ids {
		if id < 0 || int(id) >= m.VocabSize {
			return fmt.Errorf("id %d at %d is not in the vocabulary of %d: %w", id, i, m.VocabSize, tensor.ErrShape)
		}
	}
	return nil
}

// block runs block i on each stream [S, D] in place.
func (m *Model) block(ops tensor.Ops, i int, streams []tensor.Tensor) {
	p, release := m.Weights.Acquire(ops, blockUnit(i))
	defer release()
	for _, xSD := range streams {
		ops.Scope(func() { m.attention(ops, p, i, xSD) })
		ops.Scope(func() { m.feedForward(ops, p, i, xSD) })
		m.traceBlock(i, "", xSD)
	}
}

// attention adds self-attention to x. Logits are not scaled; each block has its
// own bias for each bucket of distances.
func (m *Model) attention(ops tensor.Ops, p nn.Params, i int, xSD tensor.Tensor) {
	s := xSD.Dim(0)
	biasNS := ops.Permute(m.Weights.Rows(ops, positionTable(i), m.buckets(s)), 1, 0) // [N, 2S-1]
	h := ops.RMSNorm(xSD, p.Get(ops, "norm1.weight"), float32(m.Eps), m.Compute)
	project := func(local string) tensor.Tensor {
		return ops.Reshape(p.Project(ops, local, h, tensor.NoActivation, m.Compute), s, m.NumHeads, m.HeadDim())
	}
	ySNH := ops.Attention(project("attn.q"), project("attn.k"), project("attn.v"),
		tensor.AttentionSpec{Scale: 1, KeyLen: s, RelBias: biasNS})
	o := p.Project(ops, "attn.o", ops.Reshape(ySNH, s, m.AttnDim), tensor.NoActivation, m.Compute)
	m.traceBlock(i, ".attn", o)
	ops.AddTo(xSD, o, tensor.Tensor{})
}

// feedForward adds fc2(fc1(h) * gelu(gate(h))) to x.
func (m *Model) feedForward(ops tensor.Ops, p nn.Params, i int, xSD tensor.Tensor) {
	h := ops.RMSNorm(xSD, p.Get(ops, "norm2.weight"), float32(m.Eps), m.Compute)
	gate := p.Project(ops, "ffn.gate.0", h, tensor.GELUTanh, m.Compute)
	hidden := ops.Mul(p.Project(ops, "ffn.fc1", h, tensor.NoActivation, m.Compute), gate)
	y := p.Project(ops, "ffn.fc2", hidden, tensor.NoActivation, m.Compute)
	m.traceBlock(i, ".ffn", y)
	ops.AddTo(xSD, y, tensor.Tensor{})
}

func (m *Model) trace(name string, x tensor.Tensor) {
	if m.Trace != nil {
		m.Trace(name, x)
	}
}

func (m *Model) traceBlock(i int, part string, x tensor.Tensor) {
	if m.Trace != nil {
		m.Trace(fmt.Sprintf("block%d%s", i, part), x)
	}
}
