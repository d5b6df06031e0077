package kernels

import "fmt"

// CopyRows copies rows of run bytes from src + i srcStride to dst + i dstStride.
func CopyRows(dst, src Address, rows, run, dstStride, srcStride int64) Launch {
	return newLaunch(Move, "copy_rows", [3]int{int(min(max(rows, 1), maxBlocks)), 1, 1}, 256, 0, dst, src, rows, run, dstStride, srcStride)
}

// maxDims is how many dims Permute takes.
const maxDims = 6

// Permute sets dim i of y to dim perm[i] of x [shape], elements of size bytes.
// Errors: more than 6 dims, a size that is not 1, 2 or 4.
func Permute(y, x Address, size int, shape, perm []int) (Launch, error) {
	if len(shape) > maxDims || len(perm) != len(shape) || (size != 1 && size != 2 && size != 4) {
		return Launch{}, fmt.Errorf("permute %v by %v of %d bytes: expected at most %d dims of 1, 2 or 4 bytes", shape, perm, size, maxDims)
	}
	strides, n := make([]int64, len(shape)), int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = n
		n *= int64(shape[i])
	}
	dims, steps := [maxDims]int{1, 1, 1, 1, 1, 1}, [maxDims]int64{}
	for i, p := range perm {
		dims[maxDims-len(perm)+i], steps[maxDims-len(perm)+i] = shape[p], strides[p]
	}
	return striding(Move, "permute", n, 1, y, x, size, n, dims[1], dims[2], dims[3], dims[4], dims[5],
		steps[0], steps[1], steps[2], steps[3], steps[4], steps[5]), nil
}

// Upsample2x sets y [t, 2h, 2w, c] to x [t, h, w, c] with each pixel repeated.
func Upsample2x(y, x Buffer, t, h, w, c int) Launch {
	run := c * x.Type.Size()
	return striding(Move, "upsample2x", 4*int64(t)*int64(h)*int64(w)*int64(max(run/16, 1)), 1,
		y.At, x.At, 4*int64(t)*int64(h)*int64(w), w, h, run)
}
