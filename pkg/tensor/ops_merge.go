package tensor

// MergeAttention takes the attention of the same queries over further keys into
// acc, in place: afterwards acc is the attention over all keys so far, and lse the
// log of the sum of their exponentials.
//
//	acc   [Sq, N, H] F32      lse     [Sq, N] F32
//	part  [Sq, N, H]          partLSE [Sq, N] F32   of one attention, AttentionSpec.LSE
//
//	acc = (exp(lse)·acc + exp(partLSE)·part) / (exp(lse) + exp(partLSE))
//	lse = log(exp(lse) + exp(partLSE))
//
// computed relative to the greater of the two. acc = 0 with lse = -infinity is the
// attention over no keys: merging into it gives part, exactly.
// Source: FlashAttention, arXiv:2205.14135, algorithm 1; Ring Attention, arXiv:2310.01889.
func (o Ops) MergeAttention(acc, lse, part, partLSE Tensor) {
	if !o.ok("merge attention", acc, lse, part, partLSE) {
		return
	}
	want := Shape{acc.Dim(0), acc.Dim(1)}
	if acc.dtype != F32 || !compute(acc, part) || acc.Rank() != 3 || !acc.shape.Equal(part.shape) ||
		lse.dtype != F32 || partLSE.dtype != F32 || !lse.shape.Equal(want) || !partLSE.shape.Equal(want) {
		o.failf("merge attention", "%v with lse %v into %v with lse %v", part, partLSE, acc, lse)
		return
	}
	o.do("merge attention", o.backend.MergeAttention(acc, lse, part, partLSE))
}
