package kernels

import (
	"bytes"
	"fmt"
)

func testMove(h *host) {
	for _, size := range []int{1, 2, 4} {
		for _, tc := range []struct{ shape, perm []int }{
			{[]int{7}, []int{0}},
			{[]int{5, 9}, []int{1, 0}},
			{[]int{3, 4, 1, 2, 5, 2}, []int{0, 2, 4, 1, 3, 5}}, // patchify
			{[]int{2, 3, 4, 5, 2, 3}, []int{5, 3, 1, 0, 2, 4}},
		} {
			h.each(fmt.Sprintf("permute_%d_%v", size, tc.perm), func(h *host) {
				n := size
				for _, d := range tc.shape {
					n *= d
				}
				src := h.randomBytes(n)
				y := h.bytesAt(make([]byte, n))
				l, err := Permute(y, h.bytesAt(src), size, tc.shape, tc.perm)
				if err != nil {
					h.Fatal(err)
				}
				h.launch(l)
				want := make([]byte, 0, n)
				index := make([]int, len(tc.perm))
				for range n / size {
					at := make([]int, len(index))
					for i, p := range tc.perm {
						at[p] = index[i]
					}
					from := 0
					for i, d := range tc.shape {
						from = from*d + at[i]
					}
					want = append(want, src[from*size:(from+1)*size]...)
					for i := len(index) - 1; i >= 0; i-- {
						if index[i]++; index[i] < tc.shape[tc.perm[i]] {
							break
						}
						index[i] = 0
					}
				}
				h.equal("permute", h.readBytes(y, n), want)
			})
		}
	}
	for _, tc := range [][4]int{{3, 32, 64, 48}, {4, 5, 7, 9}, {1, 4096, 4096, 4096}} {
		h.each(fmt.Sprint("copy_rows_", tc), func(h *host) {
			rows, run, to, from := tc[0], tc[1], tc[2], tc[3]
			src, dst := h.randomBytes((rows-1)*from+run), h.randomBytes((rows-1)*to+run)
			y := h.bytesAt(dst)
			h.launch(CopyRows(y, h.bytesAt(src), int64(rows), int64(run), int64(to), int64(from)))
			for i := range rows {
				copy(dst[i*to:i*to+run], src[i*from:])
			}
			h.equal("copy_rows", h.readBytes(y, len(dst)), dst)
		})
	}
	for _, d := range []Type{F32, BF16} {
		for _, tc := range [][4]int{{2, 3, 5, 8}, {1, 2, 3, 7}, {1, 1, 1, 1}} {
			h.each(fmt.Sprint("upsample2x_", d, tc), func(h *host) {
				t, height, width, run := tc[0], tc[1], tc[2], tc[3]*d.Size()
				src := h.randomBytes(t * height * width * run)
				y := h.bytesAt(make([]byte, 4*len(src)))
				h.launch(Upsample2x(Buffer{y, d}, Buffer{h.bytesAt(src), d}, t, height, width, tc[3]))
				var want []byte
				for i := range t {
					for r := range 2 * height {
						for c := range 2 * width {
							from := ((i*height+r/2)*width + c/2) * run
							want = append(want, src[from:from+run]...)
						}
					}
				}
				h.equal("upsample2x", h.readBytes(y, len(want)), want)
			})
		}
	}
}

func (h *host) randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.rng.Uint32())
	}
	return b
}

func (h *host) equal(what string, got, want []byte) {
	h.Helper()
	if bytes.Equal(got, want) {
		return
	}
	for i := range want {
		if got[i] != want[i] {
			h.Errorf("%s: byte %d of %d is %d, want %d", what, i, len(want), got[i], want[i])
			return
		}
	}
}
