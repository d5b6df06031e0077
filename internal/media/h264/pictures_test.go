package h264

import (
	"math"
	"math/rand/v2"
)

// smoothClip is frame t of a moving, smoothly shaded scene: a gradient that
// drifts, a soft ball that moves by fractions of a sample, a turning stripe field.
func smoothClip(w, h, t int) []byte {
	rgb := make([]byte, 3*w*h)
	bx := float64(w)*0.2 + 2.3*float64(t)
	by := float64(h)*0.5 + 6*math.Sin(float64(t)/5)
	r := float64(min(w, h)) / 5
	for y := range h {
		for x := range w {
			fx, fy := float64(x), float64(y)
			base := 90 + 60*math.Sin(fx/37+float64(t)/9) + 50*math.Cos(fy/29-fx/61)
			d := math.Hypot(fx-bx, fy-by)
			ball := 1 / (1 + math.Exp((d-r)/1.5))
			light := 200 - 60*d/r
			p := rgb[3*(y*w+x):]
			p[0] = level8(base*(1-ball) + light*ball)
			p[1] = level8((base*0.8+20)*(1-ball) + 0.25*light*ball)
			p[2] = level8((220-base)*(1-ball) + 0.2*light*ball)
		}
	}
	return rgb
}

// wildClip is frame t of pictures that no camera takes: noise, flat patches,
// hard edges, saturated colours, jumps. They reach the rare paths.
func wildClip(rng *rand.Rand, w, h int, last []byte) []byte {
	rgb := make([]byte, 3*w*h)
	if last != nil {
		copy(rgb, last)
		if rng.IntN(3) == 0 { // the whole picture moves
			shift := 3 * (rng.IntN(9) + rng.IntN(5)*w)
			if shift < len(rgb) {
				copy(rgb, last[shift:])
			}
		}
	}
	for range 1 + rng.IntN(6) {
		x0, y0 := rng.IntN(w), rng.IntN(h)
		x1, y1 := x0+1+rng.IntN(w-x0), y0+1+rng.IntN(h-y0)
		kind := rng.IntN(5)
		c := [3]byte{byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}
		amp := 1 + rng.IntN(255)
		for y := y0; y < y1; y++ {
			for x := x0; x < x1; x++ {
				p := rgb[3*(y*w+x):][:3]
				switch kind {
				case 0:
					copy(p, c[:])
				case 1:
					for i := range p {
						p[i] = byte(rng.Uint32())
					}
				case 2:
					for i := range p {
						p[i] = 255 * byte((x/2+y/3+i)&1)
					}
				case 3:
					for i := range p {
						p[i] = level8(float64(p[i]) + float64(rng.IntN(amp)) - float64(amp)/2)
					}
				case 4:
					for i := range p {
						p[i] = level8(float64(c[i]) + float64(x-x0)*2 - float64(y-y0))
					}
				}
			}
		}
	}
	return rgb
}

func level8(v float64) byte { return byte(min(max(v+0.5, 0), 255)) }

// annexB turns a sample's length-prefixed units into start-coded ones.
func annexB(dst, sample []byte) []byte {
	for len(sample) >= 4 {
		n := int(sample[0])<<24 | int(sample[1])<<16 | int(sample[2])<<8 | int(sample[3])
		dst = append(dst, 0, 0, 0, 1)
		dst = append(dst, sample[4:4+n]...)
		sample = sample[4+n:]
	}
	return dst
}

// psnr of two equally long runs of samples, in dB.
func psnr(a, b []byte) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(255*255*float64(len(a))/sum)
}

// driftClip is frame t of layered triangle waves that drift at different
// speeds, made of integers alone: the same on every machine.
func driftClip(w, h, t int) []byte {
	wave := func(v, period int) int {
		v = ((v % period) + period) % period
		return min(v, period-v) * 2 * 255 / period
	}
	rgb := make([]byte, 3*w*h)
	for y := range h {
		for x := range w {
			a, b, c := wave(4*x+3*t, 310), wave(4*y-2*t+x, 230), wave(3*x+5*y+t, 410)
			rgb[3*(y*w+x)] = byte((a + b) / 2)
			rgb[3*(y*w+x)+1] = byte((b + c) / 2)
			rgb[3*(y*w+x)+2] = byte((a + c) / 2)
			if d := (x-10-3*t)*(x-10-3*t) + (y-h/2)*(y-h/2); d < 90 {
				copy(rgb[3*(y*w+x):], []byte{230, 40, 30})
			}
		}
	}
	return rgb
}

// panClip is frame t of a soft random texture that moves fast, so that the best
// vectors are long and point outside the picture; integers alone.
func panClip(w, h, t int) []byte {
	const cell = 16
	corner := func(x, y, c int) int {
		v := uint32(x*7349+y*9151+c*3571) * 2654435761
		return int((v ^ v>>15) * 2246822519 >> 24)
	}
	rgb := make([]byte, 3*w*h)
	for y := range h {
		for x := range w {
			wx, wy := x-27*t+1<<12, y+22*t
			cx, cy, fx, fy := wx/cell, wy/cell, wx%cell, wy%cell
			for c := range 3 {
				top := corner(cx, cy, c)*(cell-fx) + corner(cx+1, cy, c)*fx
				bottom := corner(cx, cy+1, c)*(cell-fx) + corner(cx+1, cy+1, c)*fx
				rgb[3*(y*w+x)+c] = byte((top*(cell-fy) + bottom*fy) / (cell * cell))
			}
		}
	}
	return rgb
}
