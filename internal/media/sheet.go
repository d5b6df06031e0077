package media

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
)

// Look of a contact sheet: samples between tiles and around them, and their
// colour.
const sheetGap = 4

var sheetColour = color.RGBA{R: 24, G: 24, B: 28, A: 255}

// maxSheetSamples bounds a contact sheet, in samples.
const maxSheetSamples = 1 << 28

// ContactSheet puts frames, each h*w*3 bytes of RGB, side by side in rows of
// cols, left to right, top to bottom, with a small gap around each. Fewer
// frames than cols make a row as wide as they need.
func ContactSheet(frames [][]byte, w, h, cols int) (*image.RGBA, error) {
	if len(frames) == 0 || w < 1 || h < 1 || cols < 1 {
		return nil, fmt.Errorf("contact sheet of %d frames of %dx%d in %d columns: all must be at least one", len(frames), w, h, cols)
	}
	cols = min(cols, len(frames))
	rows := (len(frames) + cols - 1) / cols
	if w > maxSheetSamples || h > maxSheetSamples || (w+sheetGap)*cols > maxSheetSamples/((h+sheetGap)*rows) {
		return nil, fmt.Errorf("contact sheet of %d x %d frames of %dx%d is too large; show fewer", cols, rows, w, h)
	}
	img := image.NewRGBA(image.Rect(0, 0, cols*(w+sheetGap)+sheetGap, rows*(h+sheetGap)+sheetGap))
	draw.Draw(img, img.Bounds(), image.NewUniform(sheetColour), image.Point{}, draw.Src)
	for i, f := range frames {
		if len(f) != 3*w*h {
			return nil, fmt.Errorf("frame %d of a contact sheet has %d bytes, expected %d for %dx%d RGB", i, len(f), 3*w*h, w, h)
		}
		blit(img, sheetGap+i%cols*(w+sheetGap), sheetGap+i/cols*(h+sheetGap), f, w, h)
	}
	return img, nil
}

// blit copies an RGB frame to img at x0, y0.
func blit(img *image.RGBA, x0, y0 int, rgb []byte, w, h int) {
	for y := range h {
		dst := img.Pix[img.PixOffset(x0, y0+y):][:4*w]
		src := rgb[3*w*y:][:3*w]
		for x := range w {
			dst[4*x], dst[4*x+1], dst[4*x+2], dst[4*x+3] = src[3*x], src[3*x+1], src[3*x+2], 255
		}
	}
}
