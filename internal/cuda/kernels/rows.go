package kernels

// rowBlock is the threads for a row of c elements.
func rowBlock(c int) int {
	if c <= 256 {
		return 64
	}
	return 256
}

// RMSNorm sets y = x / sqrt(mean(x²) + eps) * w on rows of c; w [c] F32. y may be x.
func RMSNorm(y, x Buffer, w Address, rows, c int, eps float32) Launch {
	return newLaunch(Norm, "rms_norm", [3]int{rows, 1, 1}, rowBlock(c), reduction, y.At, x.At, w, y.Type, x.Type, c, eps)
}

// L2Norm sets y = x / max(|x|, 1e-12) * sqrt(c) * w on rows of c. y may be x.
func L2Norm(y, x Buffer, w Address, rows, c int) Launch {
	return newLaunch(Norm, "l2_norm", [3]int{rows, 1, 1}, rowBlock(c), reduction, y.At, x.At, w, y.Type, x.Type, c)
}

// LayerNormWeights are the vectors [c] F32 of a layer norm and of the modulation
// behind it; each may be 0.
type LayerNormWeights struct{ Weight, Bias, Scale, Shift Address }

// LayerNorm sets y = ((x - mean) / sqrt(var + eps) * weight + bias) * (1 + scale) + shift on
// rows of c. y may be x.
func LayerNorm(y, x Buffer, w LayerNormWeights, rows, c int, eps float32) Launch {
	return newLaunch(Norm, "layer_norm", [3]int{rows, 1, 1}, rowBlock(c), reduction,
		y.At, x.At, w.Weight, w.Bias, w.Scale, w.Shift, y.Type, x.Type, c, eps)
}

// NormRope sets y = rope(rmsnorm(x) * w), x [s, n, h]: the norm over n h elements, none
// where w is 0; pairs rotated by cos and sin [s, h/2] F32, not where they are 0. y may be x.
func NormRope(y, x Buffer, w, cos, sin Address, s, n, h int, eps float32) Launch {
	return newLaunch(Rope, "norm_rope", [3]int{s, 1, 1}, 256, reduction, y.At, x.At, w, cos, sin, y.Type, x.Type, n, h, eps)
}

// SoftmaxBias sets p [n, sq, sk] to the softmax of logits [n, sq, sk] F32 times scale plus
// bias [n, sq+sk-1] F32 (or 0) of the distance key - query; keys from keyLen on get 0.
func SoftmaxBias(p Buffer, logits, bias Address, n, sq, sk, keyLen int, scale float32) Launch {
	return newLaunch(Softmax, "softmax_bias", [3]int{sq, n, 1}, 128, reduction, p.At, logits, bias, p.Type, sq, sk, keyLen, scale)
}

// Merge takes part [rows, d], whose log-sum-exps are partLSE [rows], into acc [rows, d] F32
// and lse [rows] F32, in place.
func Merge(acc, lse Address, part Buffer, partLSE Address, rows, d int) Launch {
	return newLaunch(Softmax, "merge", [3]int{rows, 1, 1}, 128, 0, acc, lse, part.At, partLSE, part.Type, d)
}
