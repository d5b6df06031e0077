package picture

import (
	"fmt"
	"math"
)

// Planes is a picture in [-1, 1], of which BicubicHWC, ClipInput and their like
// are made: what torchvision's to_tensor, sub(0.5), div(0.5) give, but
// channels-last.
type Planes interface {
	// Size returns width and height.
	Size() (w, h int)
	// Row writes row y, [W, 3], to dst.
	Row(y int, dst []float32)
}

// Size returns width and height.
func (p *RGB) Size() (w, h int) { return p.W, p.H }

// Row writes row y, [W, 3], scaled to [-1, 1], to dst. The scaling happens row
// by row because a large picture would be four times larger as float32.
func (p *RGB) Row(y int, dst []float32) {
	for i, s := range p.Pix[y*p.W*3 : (y+1)*p.W*3] {
		dst[i] = unitOf[s]
	}
}

// unitOf maps 0..255 to [-1, 1], in float32 and in the official order.
var unitOf = func() (t [256]float32) {
	for i := range t {
		x := float32(i) / 255
		x = x - 0.5
		t[i] = x / 0.5
	}
	return
}()

// Float is a picture in [-1, 1] that need not come from bytes: CenterCropCompat
// pads with 0, which no byte gives.
type Float struct {
	W, H int
	Pix  []float32 // [H, W, 3]
}

// Size returns width and height.
func (p *Float) Size() (w, h int) { return p.W, p.H }

// Row copies row y, [W, 3], to dst.
func (p *Float) Row(y int, dst []float32) { copy(dst, p.Pix[y*p.W*3:(y+1)*p.W*3]) }

// Normalize returns the picture in [-1, 1].
func (p *RGB) Normalize() *Float {
	f := &Float{W: p.W, H: p.H, Pix: make([]float32, len(p.Pix))}
	for y := range p.H {
		p.Row(y, f.Pix[y*p.W*3:])
	}
	return f
}

// axis holds, for every output place along one axis, the four input places and
// their weights.
type axis struct {
	index  [][4]int
	weight [][4]float32
}

// newAxis computes torch's cubic convolution, a = -0.75, align_corners=False,
// without antialiasing: four taps however much the picture shrinks.
func newAxis(in, out int) axis {
	t := axis{make([][4]int, out), make([][4]float32, out)}
	scale := float32(in) / float32(out)
	for i := range out {
		at := mulAdd(scale, float32(i)+0.5, -0.5)
		floor := min(int(math.Floor(float64(at))), in-1)
		frac := min(max(at-float32(floor), 0), 1)
		t.weight[i] = cubicWeights(frac)
		for j := range 4 {
			t.index[i][j] = max(0, min(floor+j-1, in-1))
		}
	}
	return t
}

// cubicWeights are the weights of the samples at -1, 0, 1, 2 for a place frac
// behind 0. Products are rounded before they are added, on every architecture.
func cubicWeights(frac float32) [4]float32 {
	const a = -0.75
	near := func(x float32) float32 { // distance 0..1
		t := float32((a+2)*x) - (a + 3)
		return float32(float32(t*x)*x) + 1
	}
	far := func(x float32) float32 { // distance 1..2
		t := float32(a*x) - 5*a
		t = float32(t*x) + 8*a
		return float32(t*x) - 4*a
	}
	rest := 1 - frac
	return [4]float32{far(frac + 1), near(frac), near(rest), far(rest + 1)}
}

// BicubicHWC resizes like torch.nn.functional.interpolate(mode="bicubic",
// align_corners=False) in float32, aspect ignored, overshoot kept: the first
// frame as the VAE encoder gets it. Result [outH, outW, 3], around [-1, 1].
// The results equal those of torch 2.6 on an x86 CPU with FMA bit for bit; the
// official code resizes the VAE's frame there, and CLIP's on its device.
//
// Memory beside the result is a few rows. outH and outW must be positive.
func BicubicHWC(p Planes, outH, outW int) []float32 {
	w, h := p.Size()
	if outH < 1 || outW < 1 || w < 1 || h < 1 {
		panic(fmt.Sprintf("bicubic from %d x %d to %d x %d", w, h, outW, outH))
	}
	xs, ys := newAxis(w, outW), newAxis(h, outH)
	out := make([]float32, outH*outW*3)
	row := make([]float32, w*3)
	// Input rows already resized in width. Four are in use for an output row;
	// they move downwards only, so row y may take the place of row y-4.
	var cache [4][]float32
	var held [4]int
	for i := range cache {
		cache[i], held[i] = make([]float32, outW*3), -1
	}
	for y := range outH {
		var in [4][]float32
		for j, iy := range ys.index[y] {
			slot := iy & 3
			if held[slot] != iy {
				p.Row(iy, row)
				xs.resizeRow(cache[slot], row)
				held[slot] = iy
			}
			in[j] = cache[slot]
		}
		wt := &ys.weight[y]
		dst := out[y*outW*3 : (y+1)*outW*3]
		a, b, c, d := in[0][:len(dst)], in[1][:len(dst)], in[2][:len(dst)], in[3][:len(dst)]
		for i := range dst {
			dst[i] = blend(a[i], b[i], c[i], d[i], wt)
		}
	}
	return out
}

// blend is the weighted sum of four samples, in the order in which torch's
// compiled kernel adds: the second product rounded, then fused additions.
func blend(a, b, c, d float32, wt *[4]float32) float32 {
	return mulAdd(d, wt[3], mulAdd(c, wt[2], mulAdd(a, wt[0], float32(b*wt[1]))))
}

// mulAdd is the fused x*y+z of float32 (the product is exact in float64).
func mulAdd(x, y, z float32) float32 {
	return float32(float64(x)*float64(y) + float64(z))
}

// resizeRow resizes one row of pixels, [W, 3] to [len(index), 3].
func (t axis) resizeRow(dst, src []float32) {
	for x := range t.index {
		ix, wt := &t.index[x], &t.weight[x]
		a, b, c, d := src[3*ix[0]:], src[3*ix[1]:], src[3*ix[2]:], src[3*ix[3]:]
		for ch := range 3 {
			dst[3*x+ch] = blend(a[ch], b[ch], c[ch], d[ch], wt)
		}
	}
}
