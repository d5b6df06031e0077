package backendtest

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// sumUlps is what a sum of n products may be off by, in F32 roundings of the sum
// of their sizes. Plain summation gives n in the worst case and about sqrt(n) by
// chance; every sane order stays below this.
func sumUlps(n int) float64 { return 3 + math.Sqrt(float64(n)) }

func testMatMul(s *suite) {
	for _, tc := range []struct{ m, n, k int }{
		{1, 1, 1}, {1, 40, 7}, {2, 3, 5}, {6, 16, 16}, {7, 17, 33}, {13, 96, 128}, {121, 129, 383},
		{127, 33, 385}, {5, 300, 1030}, {33, 1, 64}, {3, 20, 10240}, {250, 48, 20},
	} {
		s.types(fmt.Sprint(tc.m, "x", tc.n, "x", tc.k), func(e *env, d tensor.DType) {
			x, xs := e.random(d, 1, tc.m, tc.k)
			w, ws := e.weight(tensor.MatrixWeight, d, tc.n, tc.k)
			bias, bs := e.random(tensor.F32, 1, tc.n)
			want := matMul(xs, ws, bs, tc.m, tc.n, tc.k, tensor.NoActivation)
			e.check("packed", e.MatMul(x, w, bias, tensor.NoActivation, d), want, sumUlps(tc.k))
			e.check("to F32", e.MatMul(x, w, bias, tensor.NoActivation, tensor.F32), want, sumUlps(tc.k))
			plain := e.tensor(d, ws, tc.n, tc.k)
			e.check("row-major", e.MatMul(x, plain, bias, tensor.NoActivation, d), want, sumUlps(tc.k))
			want = matMul(xs, ws, nil, tc.m, tc.n, tc.k, tensor.NoActivation)
			e.check("without bias", e.MatMul(x, w, tensor.Tensor{}, tensor.NoActivation, d), want, sumUlps(tc.k))
		})
	}
	for _, act := range []tensor.Activation{tensor.GELUTanh, tensor.GELUErf, tensor.SiLU} {
		s.types(fmt.Sprint("activation/", act), func(e *env, d tensor.DType) {
			x, xs := e.random(d, 2, 4, 9, 50)
			w, ws := e.weight(tensor.MatrixWeight, d, 37, 50)
			bias, bs := e.random(tensor.F32, 1, 37)
			want := matMul(xs, ws, bs, 36, 37, 50, act)
			e.check("activated", e.MatMul(x, w, bias, act, d), want, 2*sumUlps(50))
		})
	}
	s.run("mixed", func(e *env) { // every mix of types, as the models use them
		for _, xd := range s.opts.Types {
			for _, wd := range s.opts.Types {
				for _, out := range s.opts.Types {
					x, xs := e.random(xd, 1, 5, 40)
					w, ws := e.weight(tensor.MatrixWeight, wd, 24, 40)
					want := matMul(xs, ws, nil, 5, 24, 40, tensor.NoActivation)
					e.check(fmt.Sprintf("%v by %v", xd, wd), e.MatMul(x, w, tensor.Tensor{}, tensor.NoActivation, out), want, sumUlps(40))
				}
			}
		}
	})
	s.types("view", func(e *env, d tensor.DType) {
		x, xs := e.random(d, 1, 9, 21)
		w, ws := e.weight(tensor.MatrixWeight, d, 18, 21)
		want := matMul(xs[4*21:7*21], ws, nil, 3, 18, 21, tensor.NoActivation)
		e.check("rows 4 to 7", e.MatMul(x.Slice(4, 3), w, tensor.Tensor{}, tensor.NoActivation, d), want, sumUlps(21))
		plain := e.tensor(d, ws, 18, 21)
		want = matMul(xs, ws[21:11*21], nil, 9, 10, 21, tensor.NoActivation)
		e.check("rows of the weight", e.MatMul(x, plain.Slice(1, 10), tensor.Tensor{}, tensor.NoActivation, d), want, sumUlps(21))
	})
}
