package cpu

import (
	"unsafe"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// kernels are the innermost loops: in Go, or in assembly where the machine has
// the instructions.
type kernels struct {
	tile     tileKernel
	softmax  func(logits []float32, scale float32, bias []float32, peak, sum *float32) (factor float32)
	activate func(x []float32, act tensor.Activation)
}

// goKernels are those in Go.
var goKernels = kernels{tileGo, softmaxGo, activateGo}

// A tile is what the innermost kernel computes: tileRows x tileCols results.
// Six rows of two 8-float vectors fill the registers of an AVX2 machine but for
// the four that the operands need.
const (
	tileRows = 6
	tileCols = 16
)

// tileKernel computes the product of tileRows rows with a panel of tileCols
// columns. The rows need not lie together: each is taps runs of k floats, and
// rows holds taps groups of tileRows pointers, so that a convolution reads its
// input in place (the indirection buffer of arXiv:1907.02129). panel is
// [taps*k][tileCols].
//
// Row r of the product goes to c[r*stride]; with factors, c[r*stride] *
// factors[r] is added to it.
type tileKernel func(c *float32, stride int, factors *[tileRows]float32, rows **float32, taps, k int, panel *float32)

// ones are the factors that add a product to what is there.
var ones = [tileRows]float32{1, 1, 1, 1, 1, 1}

// tileGo is the kernel in Go: 2x4 results at a time, which is what its scalar
// registers hold.
func tileGo(c *float32, stride int, factors *[tileRows]float32, rows **float32, taps, k int, panel *float32) {
	pointers := unsafe.Slice(rows, taps*tileRows)
	columns := unsafe.Slice(panel, taps*k*tileCols)
	var acc [tileRows][tileCols]float32
	for tap := range taps {
		part := columns[tap*k*tileCols:][:k*tileCols]
		for i := 0; i < tileRows; i += 2 {
			x := unsafe.Slice(pointers[tap*tileRows+i], k)
			y := unsafe.Slice(pointers[tap*tileRows+i+1], k)
			for j := 0; j < tileCols; j += 4 {
				dot2x4((*[4]float32)(acc[i][j:]), (*[4]float32)(acc[i+1][j:]), x, y, part[j:])
			}
		}
	}
	results := unsafe.Slice(c, (tileRows-1)*stride+tileCols)
	for r := range acc {
		out := results[r*stride:][:tileCols]
		if factors != nil {
			for j, v := range out {
				acc[r][j] += v * factors[r]
			}
		}
		copy(out, acc[r][:])
	}
}

// dot2x4 adds the products of x and y with four columns of a panel to p and q.
func dot2x4(p, q *[4]float32, x, y, panel []float32) {
	p0, p1, p2, p3 := p[0], p[1], p[2], p[3]
	q0, q1, q2, q3 := q[0], q[1], q[2], q[3]
	y = y[:len(x)]
	for i, u := range x {
		if len(panel) < 4 {
			break // never: it spares the loop its bounds checks
		}
		v := y[i]
		c0, c1, c2, c3 := panel[0], panel[1], panel[2], panel[3]
		panel = panel[min(tileCols, len(panel)):]
		p0 += u * c0
		q0 += v * c0
		p1 += u * c1
		q1 += v * c1
		p2 += u * c2
		q2 += v * c2
		p3 += u * c3
		q3 += v * c3
	}
	p[0], p[1], p[2], p[3] = p0, p1, p2, p3
	q[0], q[1], q[2], q[3] = q0, q1, q2, q3
}
