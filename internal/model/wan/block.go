package wan

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// modulation are the vectors [1, D] F32 that a block shifts, scales and gates its
// residual branches by. The scales are those of the paper plus 1, so that a
// modulated norm is a LayerNorm with scale and shift for weight and bias.
type modulation struct {
	attnShift, attnScale, attnGate tensor.Tensor
	ffnShift, ffnScale, ffnGate    tensor.Tensor
}

// modulate adds the block's own modulation to the timestep's.
func (m *Model) modulate(ops tensor.Ops, p nn.Params, f *pass) modulation {
	all := ops.Clone(f.e0, tensor.F32)
	ops.AddTo(all, ops.Reshape(p.Get(ops, "modulation"), 6, m.Dim), tensor.Tensor{})
	row := func(i int) tensor.Tensor { return all.Slice(i, 1) }
	ops.AddTo(row(1), f.ones, tensor.Tensor{})
	ops.AddTo(row(4), f.ones, tensor.Tensor{})
	return modulation{row(0), row(1), row(2), row(3), row(4), row(5)}
}

// block runs block i on every stream, in place.
func (m *Model) block(ops tensor.Ops, f *pass, i int, streams []tensor.Tensor, conds []*Cond) {
	p, release := m.Weights.Acquire(ops, blockUnit(i))
	defer release()
	ops.Scope(func() {
		mod := m.modulate(ops, p, f)
		for b, xSD := range streams {
			m.selfAttention(ops, p, f, mod, i, xSD)
			m.crossAttention(ops, p, conds[b].layers[i], i, xSD)
			m.feedForward(ops, p, mod, i, xSD)
			m.traceBlock(i, "", xSD)
		}
	})
}

// selfAttention adds attention over the whole sequence to x. Only q, k, v and
// the result exist for all of the rank's rows.
func (m *Model) selfAttention(ops tensor.Ops, p nn.Params, f *pass, mod modulation, layer int, xSD tensor.Tensor) {
	ops.Scope(func() {
		qSNH, kSNH, vSNH := m.emptyHeads(ops, f.count), m.emptyHeads(ops, f.count), m.emptyHeads(ops, f.count)
		for at, rows := range m.slabs(f.count) {
			ops.Scope(func() {
				hSD := ops.LayerNorm(xSD.Slice(at, rows), mod.attnScale, mod.attnShift, float32(m.Eps), m.Compute)
				cos, sin := f.cos.Slice(at, rows), f.sin.Slice(at, rows)
				ops.Scope(func() {
					q := p.Linear(ops, "self_attn.q", hSD, tensor.NoActivation, m.Compute)
					q = ops.RMSNorm(q, p.Get(ops, "self_attn.norm_q.weight"), float32(m.Eps), tensor.F32)
					m.traceBlock(layer, ".q_after_norm", q)
					ops.CopyTo(qSNH.Slice(at, rows), ops.Rope(m.heads(ops, q), cos, sin))
				})
				ops.Scope(func() {
					k := p.Linear(ops, "self_attn.k", hSD, tensor.NoActivation, m.Compute)
					k = ops.RMSNorm(k, p.Get(ops, "self_attn.norm_k.weight"), float32(m.Eps), tensor.F32)
					ops.CopyTo(kSNH.Slice(at, rows), ops.Rope(m.heads(ops, k), cos, sin))
				})
				v := p.Linear(ops, "self_attn.v", hSD, tensor.NoActivation, m.Compute)
				ops.CopyTo(vSNH.Slice(at, rows), m.heads(ops, v))
			})
		}
		ySNH := m.Seq.Attend(ops, qSNH, kSNH, vSNH, tensor.AttentionSpec{Scale: m.scale(), KeyLen: f.numTokens})
		for at, rows := range m.slabs(f.count) {
			ops.Scope(func() {
				y := ops.Reshape(ySNH.Slice(at, rows), rows, m.Dim)
				o := p.Linear(ops, "self_attn.o", y, tensor.NoActivation, m.Compute)
				m.traceBlock(layer, ".self_attn", o)
				ops.AddTo(xSD.Slice(at, rows), o, mod.attnGate)
			})
		}
	})
}

// crossAttention adds attention over the text, and over the image with the same
// queries but a softmax of its own, to x. It has a norm with weights, no
// modulation and no gate. Zero-padded rows of the text are attended to.
func (m *Model) crossAttention(ops tensor.Ops, p nn.Params, kv crossKV, layer int, xSD tensor.Tensor) {
	for at, rows := range m.slabs(xSD.Dim(0)) {
		ops.Scope(func() {
			hSD := p.LayerNorm(ops, "norm3", xSD.Slice(at, rows), float32(m.Eps), m.Compute)
			q := p.Linear(ops, "cross_attn.q", hSD, tensor.NoActivation, m.Compute)
			q = ops.RMSNorm(q, p.Get(ops, "cross_attn.norm_q.weight"), float32(m.Eps), m.Compute)
			ySNH := m.attendAll(ops, m.heads(ops, q), kv.textK, kv.textV)
			if m.HasImage() {
				ops.AddTo(ySNH, m.attendAll(ops, m.heads(ops, q), kv.imageK, kv.imageV), tensor.Tensor{})
			}
			o := p.Linear(ops, "cross_attn.o", ops.Reshape(ySNH, rows, m.Dim), tensor.NoActivation, m.Compute)
			m.traceBlock(layer, ".cross_attn", o)
			ops.AddTo(xSD.Slice(at, rows), o, tensor.Tensor{})
		})
	}
}

// feedForward adds the FFN to x; its hidden rows exist for a slab alone.
func (m *Model) feedForward(ops tensor.Ops, p nn.Params, mod modulation, layer int, xSD tensor.Tensor) {
	for at, rows := range m.slabs(xSD.Dim(0)) {
		ops.Scope(func() {
			hSD := ops.LayerNorm(xSD.Slice(at, rows), mod.ffnScale, mod.ffnShift, float32(m.Eps), m.Compute)
			hidden := p.Linear(ops, "ffn.0", hSD, tensor.GELUTanh, m.Compute)
			y := p.Linear(ops, "ffn.2", hidden, tensor.NoActivation, m.Compute)
			m.traceBlock(layer, ".ffn", y)
			ops.AddTo(xSD.Slice(at, rows), y, mod.ffnGate)
		})
	}
}

// attendAll is attention of q over every key.
func (m *Model) attendAll(ops tensor.Ops, q, k, v tensor.Tensor) tensor.Tensor {
	return ops.Attention(q, k, v, tensor.AttentionSpec{Scale: m.scale(), KeyLen: k.Dim(0)})
}

// scale is what multiplies q·k: 1/sqrt(H).
func (m *Model) scale() float32 { return float32(1 / math.Sqrt(float64(m.HeadDim()))) }

// heads returns x [rows, D] as [rows, N, H].
func (m *Model) heads(ops tensor.Ops, x tensor.Tensor) tensor.Tensor {
	return ops.Reshape(x, x.Dim(0), m.NumHeads, m.HeadDim())
}

// emptyHeads allocates [rows, N, H] in the compute type.
func (m *Model) emptyHeads(ops tensor.Ops, rows int) tensor.Tensor {
	return ops.Empty(m.Compute, rows, m.NumHeads, m.HeadDim())
}

func (m *Model) traceBlock(layer int, part string, x tensor.Tensor) {
	if m.Trace != nil {
		m.Trace(fmt.Sprintf("block%d%s", layer, part), x)
	}
}
