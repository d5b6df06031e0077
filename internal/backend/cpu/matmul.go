package cpu

import (
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Blocks of a matrix product. A task computes blockRows x blockCols results in
// steps of blockDepth: a panel's step (24 KiB) stays in the first-level cache
// while the rows pass by, the rows' step (180 KiB) and the results in the second.
// Each step is summed on its own and then added, which also keeps the rounding
// errors of long sums small. The partition does not depend on the threads.
const (
	blockRows  = 120
	blockCols  = 256
	blockDepth = 384
)

// MatMul sets dst = act(x · wᵀ + bias).
func (b *Backend) MatMul(dst, x, w, bias tensor.Tensor, act tensor.Activation) error {
	if layout := b.layoutOf(tensor.MatrixWeight, w); layout != nil {
		return b.libraryMatMul(layout, dst, x, w, bias, act)
	}
	to, xs, ws, add := viewOf(dst), viewOf(x), panelsOf(w), viewOf(bias).floats()
	rows, depth := int(x.Rows()), ws.k
	rowTasks := (rows + blockRows - 1) / blockRows
	colPanels := b.colPanels(ws.count(), rowTasks)
	colTasks := (ws.count() + colPanels - 1) / colPanels
	b.pool.each(int64(rowTasks*colTasks), func(wk *worker, task int64) {
		row, panel := int(task)%rowTasks*blockRows, int(task)/rowTasks*colPanels
		numRows, numPanels := min(blockRows, rows-row), min(colPanels, ws.count()-panel)
		block := wk.block(numRows, numPanels)
		for k0 := 0; k0 < depth; k0 += blockDepth {
			k := min(blockDepth, depth-k0)
			pointers := wk.rowPointers(xs, row*depth+k0, depth, numRows, k)
			for i := range numPanels {
				block.add(b.kernels.tile, i, k0 == 0, pointers, 1, k, ws.part(wk, panel+i, k0, k))
			}
		}
		block.finish(wk, to, ws.n, row, panel*tileCols, add, act, b.kernels.activate)
	})
	return nil
}

// colPanels returns how many panels a task takes: fewer than blockCols' worth
// when there are too few tasks for all threads.
func (b *Backend) colPanels(panels, rowTasks int) int {
	per := blockCols / tileCols
	for per > 1 && rowTasks*((panels+per-1)/per) < 2*len(b.pool.workers) {
		per /= 2
	}
	return per
}

// rowPointers returns pointers to k floats each of numRows rows that begin at
// element at + i*stride, filled up to whole tiles with the last row. Rows of
// other types are widened into scratch.
func (w *worker) rowPointers(xs view, at, stride, numRows, k int) []*float32 {
	pointers := w.pointerBuffer((numRows + tileRows - 1) / tileRows * tileRows)
	if xs.dtype == tensor.F32 {
		x := xs.floats()
		for i := range pointers {
			pointers[i] = &x[at+min(i, numRows-1)*stride]
		}
		return pointers
	}
	wide := w.buffer(bufA, numRows*k)
	for i := range numRows {
		from := (at + i*stride) * 2
		widen(wide[i*k:(i+1)*k], xs.dtype, xs.bytes[from:from+k*2])
	}
	for i := range pointers {
		pointers[i] = &wide[min(i, numRows-1)*k]
	}
	return pointers
}

func (w *worker) pointerBuffer(n int) []*float32 {
	if cap(w.pointers) < n {
		w.pointers = make([]*float32, n)
	}
	return w.pointers[:n]
}

// block holds the results of a task: rows of whole panels, room for whole tiles.
type block struct {
	rows, cols int
	sums       []float32
}

func (w *worker) block(rows, panels int) block {
	cols := panels * tileCols
	return block{rows, cols, w.buffer(bufC, (rows+tileRows-1)/tileRows*tileRows*cols)}
}

// add adds the product of all rows with one panel to the columns of panel i, or
// sets them the first time.
func (c block) add(kernel tileKernel, i int, first bool, pointers []*float32, taps, k int, panel *float32) {
	factors := &ones
	if first {
		factors = nil
	}
	for row, at := 0, 0; row < c.rows; row, at = row+tileRows, at+taps*tileRows {
		kernel(&c.sums[row*c.cols+i*tileCols], c.cols, factors, &pointers[at], taps, k, panel)
	}
}

// finish adds the bias, applies act and stores the block at row and col of dst,
// whose rows are n long.
func (c block) finish(w *worker, dst view, n, row, col int, bias []float32, act tensor.Activation,
	activate func([]float32, tensor.Activation)) {
	width := min(c.cols, n-col)
	for r := range c.rows {
		sums := c.sums[r*c.cols:][:width]
		if bias != nil {
			for j, v := range bias[col : col+width] {
				sums[j] += v
			}
		}
		activate(sums, act)
		at := int64((row+r)*n + col)
		if dst.dtype == tensor.F32 {
			copy(dst.target(w, at, int64(width)), sums)
		} else {
			dst.store(sums, at)
		}
	}
}
