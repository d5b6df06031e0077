package picture

import "math"

// FitLast fits the last picture of first-and-last-frame generation into the
// video's size, in the same way as the first picture: resized, aspect ignored.
// Result [outH, outW, 3].
//
// The official code means to scale a last picture of another size until it
// covers the first, but then crops it unscaled; see CenterCropCompat.
func FitLast(last Planes, outH, outW int) []float32 { return BicubicHWC(last, outH, outW) }

// CenterCropCompat is what the official code does to a last picture whose size
// is not that of the first: it computes the size that covers the first picture,
// hands width and height over in the wrong order, and cuts a piece of that size
// out of the unscaled picture, padding with mid-grey (0) where that is too
// small. Both BicubicHWC and ClipInput then see this piece.
//
// A last picture of the first one's size is returned whole. The result has at
// most maxPixels pixels; errors: ErrTooLarge.
func CenterCropCompat(last *RGB, firstW, firstH int, maxPixels int64) (*Float, error) {
	if last.W == firstW && last.H == firstH {
		return last.Normalize(), nil
	}
	ratio := max(float64(firstW)/float64(last.W), float64(firstH)/float64(last.H))
	cropH := math.RoundToEven(float64(last.W) * ratio) // the official swap
	cropW := math.RoundToEven(float64(last.H) * ratio)
	if maxPixels == 0 {
		maxPixels = DefaultMaxPixels
	}
	if err := checkSize(int64(cropW), int64(cropH), maxPixels); err != nil {
		return nil, err
	}
	out := &Float{W: int(cropW), H: int(cropH)}
	out.Pix = make([]float32, out.W*out.H*3)
	x0, y0 := cropStart(last.W, out.W), cropStart(last.H, out.H)
	row := make([]float32, last.W*3)
	for y := range out.H {
		if y+y0 < 0 || y+y0 >= last.H {
			continue
		}
		last.Row(y+y0, row)
		dst := out.Pix[y*out.W*3 : (y+1)*out.W*3]
		if x0 < 0 {
			copy(dst[-x0*3:], row)
		} else {
			copy(dst, row[x0*3:])
		}
	}
	return out, nil
}

// cropStart is the first place of a centred piece of size want in a line of
// size have; negative where padding comes first. Rounding is torchvision's:
// down for padding, half to even for cropping.
func cropStart(have, want int) int {
	if want > have {
		return -((want - have) / 2)
	}
	return int(math.RoundToEven(float64(have-want) / 2))
}
