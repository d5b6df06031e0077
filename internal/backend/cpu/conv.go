package cpu

import "github.com/wanrun/wanrun/pkg/tensor"

// convPanels is how many panels of channels a task of a convolution takes: all
// of the VAE's 384, so that the pointers are made once.
const convPanels = 24

// Conv3D convolves x, preceded by history. Every output pixel is a row whose
// runs of Cin floats lie at the taps of the kernel: the tile kernel reads them
// in place, and a row of zeros where a tap is outside.
func (b *Backend) Conv3D(dst, x, history, w, bias tensor.Tensor, spec tensor.ConvSpec) error {
	if layout := b.layoutOf(tensor.ConvWeight, w); layout != nil {
		return b.libraryConv(layout, dst, x, history, w, bias, spec)
	}
	c := newConv(dst, x, history, w, spec)
	to, ws, add := viewOf(dst), panelsOf(w), viewOf(bias).floats()
	pixels, taps := dst.Dim(0)*dst.Dim(1)*dst.Dim(2), c.kt*c.kh*c.kw
	group := max(blockDepth/c.channels, 1) // taps a step
	rowTasks := (pixels + blockRows - 1) / blockRows
	colPanels := min(convPanels, max(b.colPanels(ws.count(), rowTasks), blockCols/tileCols))
	if rowTasks >= 2*len(b.pool.workers) {
		colPanels = convPanels
	}
	colTasks := (ws.count() + colPanels - 1) / colPanels
	b.pool.each(int64(rowTasks*colTasks), func(wk *worker, task int64) {
		row, panel := int(task)%rowTasks*blockRows, int(task)/rowTasks*colPanels
		numRows, numPanels := min(blockRows, pixels-row), min(colPanels, ws.count()-panel)
		block := wk.block(numRows, numPanels)
		for tap := 0; tap < taps; tap += group {
			n := min(group, taps-tap)
			pointers := c.pointers(wk, row, numRows, tap, n)
			for i := range numPanels {
				block.add(b.kernels.tile, i, tap == 0, pointers, n, c.channels, ws.part(wk, panel+i, tap*c.channels, n*c.channels))
			}
		}
		block.finish(wk, to, ws.n, row, panel*tileCols, add, tensor.NoActivation, b.kernels.activate)
	})
	return nil
}

// conv is the geometry of one call.
type conv struct {
	x, history                            view
	spec                                  tensor.ConvSpec
	frames, height, width, channels       int
	past, kt, kh, kw, outHeight, outWidth int
	zeros                                 []float32
}

func newConv(dst, x, history, w tensor.Tensor, spec tensor.ConvSpec) *conv {
	return &conv{
		x: viewOf(x), history: viewOf(history), spec: spec,
		frames: x.Dim(0), height: x.Dim(1), width: x.Dim(2), channels: x.Dim(3),
		past: history.Dim(0), kt: w.Dim(1), kh: w.Dim(2), kw: w.Dim(3),
		outHeight: dst.Dim(1), outWidth: dst.Dim(2), zeros: make([]float32, x.Dim(3)),
	}
}

// pointers returns, for numRows output pixels from row on and n taps from tap
// on, where the input of each lies: [numRows/tileRows, n, tileRows].
func (c *conv) pointers(w *worker, row, numRows, tap, n int) []*float32 {
	tiles := (numRows + tileRows - 1) / tileRows
	pointers := w.pointerBuffer(tiles * n * tileRows)
	var wide []float32
	if c.x.dtype != tensor.F32 {
		wide = w.buffer(bufA, len(pointers)*c.channels)
	}
	for i := range tiles * tileRows {
		pixel := row + min(i, numRows-1)
		x, y, t := pixel%c.outWidth, pixel/c.outWidth%c.outHeight, pixel/c.outWidth/c.outHeight
		x, y, t = x*c.spec.Stride[2]-c.spec.PadLeft, y*c.spec.Stride[1]-c.spec.PadTop, t*c.spec.Stride[0]-c.spec.PadT
		at := i/tileRows*n*tileRows + i%tileRows
		for j := tap; j < tap+n; j++ {
			source, offset := c.at(t+j/(c.kw*c.kh), y+j/c.kw%c.kh, x+j%c.kw)
			switch {
			case source.bytes == nil:
				pointers[at] = &c.zeros[0]
			case wide == nil:
				pointers[at] = &source.floats()[offset]
			default:
				to := wide[at*c.channels:][:c.channels]
				widen(to, source.dtype, source.bytes[offset*2:(offset+c.channels)*2])
				pointers[at] = &to[0]
			}
			at += tileRows
		}
	}
	return pointers
}

// at returns where the channels of an input pixel begin; an empty view means
// that they are zeros. Frames before the first are the history's last.
func (c *conv) at(t, y, x int) (source view, offset int) {
	if y < 0 || y >= c.height || x < 0 || x >= c.width {
		return view{}, 0
	}
	source = c.x
	if t < 0 {
		source = c.history
		t += c.past
		if t < 0 {
			return view{}, 0
		}
	}
	return source, ((t*c.height+y)*c.width + x) * c.channels
}
