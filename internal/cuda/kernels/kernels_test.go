package kernels

import "testing"

// TestKernels runs every kernel's own source on the CPU and compares with float64.
func TestKernels(t *testing.T) {
	h := startHost(t, buildHost(t, sources(t)))
	for _, group := range []struct {
		name string
		test func(h *host)
	}{
		{"pointwise", testPointwise},
		{"activation", testActivation},
		{"norm", testNorm},
		{"rope", testRope},
		{"move", testMove},
		{"sampler", testSampler},
		{"softmax", testSoftmax},
		{"merge", testMerge},
		{"attention", testAttention},
		{"conv", testConv},
		{"matmul", testMatMul},
	} {
		t.Run(group.name, func(t *testing.T) { group.test(h.with(t)) })
		h.free()
	}
}

// each runs fn as a subtest, whose memory is then freed.
func (h *host) each(name string, fn func(h *host)) {
	h.Run(name, func(t *testing.T) {
		fn(h.with(t))
		h.free()
	})
}
