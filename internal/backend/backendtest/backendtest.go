// Package backendtest is the conformance suite of tensor backends: every op
// against an oracle in float64 that is written out here, and the rules that all
// backends share. A backend's test is a call of Run.
package backendtest

import (
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Options says what a backend offers beyond tensor.Backend.
type Options struct {
	// WithThreads makes a backend of so many threads, whose results must be the
	// same bits for any number. Nil leaves that test out.
	WithThreads func(threads int) tensor.Backend
	// Types are the storage types to test; nil means F32, BF16 and F16.
	Types []tensor.DType
}

// Run tests the backends that newBackend makes. It is called once a subtest;
// newBackend registers its own clean-up.
func Run(t *testing.T, newBackend func() tensor.Backend, opts Options) {
	if opts.Types == nil {
		opts.Types = []tensor.DType{tensor.F32, tensor.BF16, tensor.F16}
	}
	for _, group := range []struct {
		name string
		run  func(s *suite)
	}{
		{"memory", testMemory},
		{"copy", testCopy},
		{"rows", testRows},
		{"permute", testPermute},
		{"fill", testFill},
		{"upsample", testUpsample},
		{"pointwise", testPointwise},
		{"activation", testActivation},
		{"quantize", testQuantize},
		{"norm", testNorm},
		{"rope", testRope},
		{"matmul", testMatMul},
		{"attention", testAttention},
		{"attention_parts", testAttentionParts},
		{"merge_attention", testMergeAttention},
		{"conv", testConv},
		{"conv_stream", testConvStream},
		{"alias", testAlias},
		{"isolation", testIsolation},
		{"nan", testNaN},
		{"threads", testThreads},
		{"peak", testPeak},
		{"cancel", testCancel},
		{"exhausted", testExhausted},
	} {
		t.Run(group.name, func(t *testing.T) {
			group.run(&suite{T: t, backend: newBackend(), opts: opts})
		})
	}
}
