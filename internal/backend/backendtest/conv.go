package backendtest

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// same is the padding of a causal 3x3x3 convolution.
var same = tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadT: 2, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1}

// convCases are the convolutions of the models, and odd ones.
var convCases = []struct {
	name                  string
	frames, height, width int
	in, out               int
	kernel                [3]int
	spec                  tensor.ConvSpec
	past                  []int // lengths of the history
}{
	{"3x3x3", 3, 5, 7, 8, 12, [3]int{3, 3, 3}, same, []int{0, 1, 2, 3}},
	{"3x3x3_one_frame", 1, 4, 4, 20, 33, [3]int{3, 3, 3}, same, []int{0, 1, 2}},
	{"3x3x3_from_rgb", 2, 9, 6, 3, 16, [3]int{3, 3, 3}, same, []int{0, 2}},
	{"3x3x3_to_rgb", 2, 6, 13, 16, 3, [3]int{3, 3, 3}, same, []int{0, 2}},
	{"3x3x3_wide", 1, 3, 130, 6, 5, [3]int{3, 3, 3}, same, []int{0, 2}},
	{"3x3x3_tiny", 1, 1, 1, 4, 4, [3]int{3, 3, 3}, same, []int{0, 1, 2}},
	{"3x3x3_deep", 1, 3, 4, 200, 10, [3]int{3, 3, 3}, same, []int{2}},
	{"1x3x3", 3, 5, 7, 8, 24, [3]int{1, 3, 3},
		tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1}, []int{0}},
	{"1x3x3_down", 2, 6, 8, 12, 12, [3]int{1, 3, 3},
		tensor.ConvSpec{Stride: [3]int{1, 2, 2}, PadBottom: 1, PadRight: 1}, []int{0}},
	{"1x3x3_down_odd", 2, 7, 9, 5, 6, [3]int{1, 3, 3},
		tensor.ConvSpec{Stride: [3]int{1, 2, 2}, PadBottom: 1, PadRight: 1}, []int{0}},
	{"3x1x1", 2, 3, 5, 10, 20, [3]int{3, 1, 1}, tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadT: 2}, []int{0, 1, 2}},
	{"3x1x1_down", 4, 3, 5, 10, 10, [3]int{3, 1, 1}, tensor.ConvSpec{Stride: [3]int{2, 1, 1}, PadT: 1}, []int{0, 1}},
	{"3x1x1_down_unpadded", 5, 2, 3, 6, 6, [3]int{3, 1, 1}, tensor.ConvSpec{Stride: [3]int{2, 1, 1}}, []int{0}},
	{"1x1x1", 2, 5, 3, 17, 9, [3]int{1, 1, 1}, tensor.ConvSpec{Stride: [3]int{1, 1, 1}}, []int{0}},
	{"1x2x2_patch", 3, 6, 8, 36, 40, [3]int{1, 2, 2}, tensor.ConvSpec{Stride: [3]int{1, 2, 2}}, []int{0}},
	{"1x14x14_patch", 1, 28, 42, 3, 20, [3]int{1, 14, 14}, tensor.ConvSpec{Stride: [3]int{1, 14, 14}}, []int{0}},
	{"odd", 4, 7, 8, 3, 5, [3]int{2, 4, 3},
		tensor.ConvSpec{Stride: [3]int{3, 2, 1}, PadT: 3, PadTop: 2, PadLeft: 3, PadRight: 2}, []int{0, 1, 2, 5}},
}

func testConv(s *suite) {
	for _, tc := range convCases {
		for _, past := range tc.past {
			s.types(fmt.Sprintf("%s/past_%d", tc.name, past), func(e *env, d tensor.DType) {
				c := convCase{frames: tc.frames, height: tc.height, width: tc.width, past: past,
					channels: tc.in, out: tc.out, kernel: tc.kernel, spec: tc.spec}
				var x, history, w, bias tensor.Tensor
				x, c.x = e.random(d, 1, tc.frames, tc.height, tc.width, tc.in)
				if past > 0 {
					history, c.history = e.random(d, 1, past, tc.height, tc.width, tc.in)
				}
				w, c.w = e.weight(tensor.ConvWeight, d, tc.out, tc.kernel[0], tc.kernel[1], tc.kernel[2], tc.in)
				ulps := sumUlps(len(c.w) / tc.out)
				want := c.conv()
				e.check("without bias", e.Conv3D(x, history, w, bias, tc.spec), want, ulps)
				bias, c.bias = e.random(tensor.F32, 1, tc.out)
				want = c.conv()
				e.check("packed", e.Conv3D(x, history, w, bias, tc.spec), want, ulps)
				plain := e.tensor(d, c.w, w.Shape()...)
				e.check("row-major", e.Conv3D(x, history, plain, bias, tc.spec), want, ulps)
			})
		}
	}
}

// testConvStream feeds a clip in pieces, each with the frames before it as
// history: the same bits as at once.
func testConvStream(s *suite) {
	s.types("pieces", func(e *env, d tensor.DType) {
		x, _ := e.random(d, 1, 7, 6, 5, 9)
		w, _ := e.weight(tensor.ConvWeight, d, 14, 3, 3, 3, 9)
		bias, _ := e.random(tensor.F32, 1, 14)
		whole := e.Bytes(e.Conv3D(x, tensor.Tensor{}, w, bias, same))
		for _, pieces := range [][]int{{1, 1, 1, 1, 1, 1, 1}, {1, 4, 2}, {3, 4}} {
			var got []byte
			start := 0
			for _, n := range pieces {
				var history tensor.Tensor
				if start > 0 {
					past := min(start, 2)
					history = x.Slice(start-past, past)
				}
				got = append(got, e.Bytes(e.Conv3D(x.Slice(start, n), history, w, bias, same))...)
				start += n
			}
			if e.Err() == nil {
				requireEqualBits(e.T, fmt.Sprint("pieces ", pieces), got, whole)
			}
		}
	})
}
