package wan

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Cond is what a forward is conditioned on: the keys and values of each block's
// cross-attention, made once per prompt by Prepare. They live in the latents
// arena until its owner releases them.
type Cond struct {
	layers []crossKV
}

// crossKV are one block's keys and values [rows, N, H] in the compute type; the
// image's are none for t2v.
type crossKV struct {
	textK, textV   tensor.Tensor
	imageK, imageV tensor.Tensor
}

// imageNormEps is that of the norms of the image embedding, which the original
// code leaves at its library's default.
const imageNormEps = 1e-5

// Prepare returns a Cond for each of contexts [L, TextDim] F32, L <= TextLen: T5's
// output for the real tokens alone, padded with zero rows to TextLen here, as the
// original code does before its text embedding. clip [ImageTokens, ClipDim] F32 are
// the CLIP features of the picture or of both, none for t2v; the contexts share what
// is made of them. Forward needs no weight that is used here.
//
// Errors stick to ops.
func (m *Model) Prepare(ops tensor.Ops, clip tensor.Tensor, contexts ...tensor.Tensor) []*Cond {
	conds := make([]*Cond, len(contexts))
	if err := m.checkContext(clip, contexts); err != nil {
		ops.Fail(err)
		return conds
	}
	for i := range conds {
		conds[i] = &Cond{layers: make([]crossKV, m.NumLayers)}
	}
	ops.Scope(func() {
		texts, image := m.embedContext(ops, clip, contexts)
		for i := range m.NumLayers {
			m.prepareLayer(ops, i, texts, image, conds)
		}
	})
	return conds
}

// checkContext returns what is wrong with the arguments of Prepare.
func (m *Model) checkContext(clip tensor.Tensor, contexts []tensor.Tensor) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("dit context: %w", err)
	}
	for i, c := range contexts {
		if c.Rank() != 2 || c.Dim(0) > m.TextLen || c.Dim(1) != m.TextDim {
			return fmt.Errorf("dit context %d: %v; want [at most %d, %d]: %w", i, c, m.TextLen, m.TextDim, tensor.ErrShape)
		}
	}
	switch want := (tensor.Shape{m.ImageTokens(), m.ClipDim}); {
	case !m.HasImage() && !clip.IsNone():
		return fmt.Errorf("dit context: CLIP features %v for %s, which has no place for them: %w", clip, m.ModelType, tensor.ErrShape)
	case m.HasImage() && !clip.Shape().Equal(want):
		return fmt.Errorf("dit context: CLIP features %v; %s wants %v: %w", clip, m.ModelType, want, tensor.ErrShape)
	}
	return nil
}

// embedContext brings the contexts [TextLen, D] and the CLIP features
// [ImageTokens, D] to the width of the model, in the compute type.
func (m *Model) embedContext(ops tensor.Ops, clip tensor.Tensor, contexts []tensor.Tensor) (texts []tensor.Tensor, image tensor.Tensor) {
	p, release := m.Weights.Acquire(ops, contextUnit)
	defer release()
	for _, c := range contexts {
		textTD := ops.Empty(m.Compute, m.TextLen, m.Dim)
		ops.Scope(func() {
			padded := ops.Empty(tensor.F32, m.TextLen, m.TextDim)
			ops.Fill(padded, 0)
			ops.Place(padded, c, 0, 0)
			hidden := p.Linear(ops, "text_embedding.0", ops.Cast(padded, m.Compute), tensor.GELUTanh, m.Compute)
			ops.CopyTo(textTD, p.Linear(ops, "text_embedding.2", hidden, tensor.NoActivation, m.Compute))
		})
		m.trace("text_embedding", textTD)
		texts = append(texts, textTD)
	}
	if m.HasImage() {
		image = ops.Empty(m.Compute, m.ImageTokens(), m.Dim)
		ops.Scope(func() { ops.CopyTo(image, m.embedImage(ops, p, clip)) })
		m.trace("img_emb", image)
	}
	return texts, image
}

// embedImage is norm, Linear, exact GELU, Linear, norm, after the position
// embedding that tells flf2v's two pictures apart.
func (m *Model) embedImage(ops tensor.Ops, p nn.Params, clip tensor.Tensor) tensor.Tensor {
	if m.ModelType == "flf2v" {
		clip = ops.Clone(clip, tensor.F32)
		position := p.Get(ops, "img_emb.emb_pos")
		ops.AddTo(clip, ops.Reshape(position, m.ImageTokens(), m.ClipDim), tensor.Tensor{})
	}
	h := p.LayerNorm(ops, "img_emb.proj.0", clip, imageNormEps, m.Compute)
	h = p.Linear(ops, "img_emb.proj.1", h, tensor.GELUErf, m.Compute)
	h = p.Linear(ops, "img_emb.proj.3", h, tensor.NoActivation, m.Compute)
	return p.LayerNorm(ops, "img_emb.proj.4", h, imageNormEps, m.Compute)
}

// prepareLayer makes the keys and values of block i.
func (m *Model) prepareLayer(ops tensor.Ops, i int, texts []tensor.Tensor, image tensor.Tensor, conds []*Cond) {
	p, release := m.Weights.Acquire(ops, crossKVUnit(i))
	defer release()
	var imageK, imageV tensor.Tensor
	if m.HasImage() {
		imageK, imageV = m.keysValues(ops, p, "_img", image)
	}
	for b, textTD := range texts {
		k, v := m.keysValues(ops, p, "", textTD)
		conds[b].layers[i] = crossKV{textK: k, textV: v, imageK: imageK, imageV: imageV}
	}
}

// keysValues returns the normed keys and the values [rows, N, H] of a context
// [rows, D] in the latents arena.
func (m *Model) keysValues(ops tensor.Ops, p nn.Params, suffix string, context tensor.Tensor) (k, v tensor.Tensor) {
	kept := ops.Using(tensor.Latents)
	ops.Scope(func() {
		k = p.Linear(ops, "cross_attn.k"+suffix, context, tensor.NoActivation, m.Compute)
		k = kept.RMSNorm(k, p.Get(ops, "cross_attn.norm_k"+suffix+".weight"), float32(m.Eps), m.Compute)
	})
	v = p.Linear(kept, "cross_attn.v"+suffix, context, tensor.NoActivation, m.Compute)
	return m.heads(ops, k), m.heads(ops, v)
}
