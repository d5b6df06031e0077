package tensor

import "slices"

// like allocates a tensor of x's shape and type d.
func (o Ops) like(x Tensor, d DType) Tensor { return o.Empty(d, x.shape...) }

// Reshape returns x with other dims over the same elements. One dim may be -1.
func (o Ops) Reshape(x Tensor, dims ...int) Tensor {
	if !o.ok("reshape", x) {
		return Tensor{}
	}
	shape := append(Shape(nil), dims...)
	unknown := slices.Index(shape, -1)
	if unknown >= 0 {
		shape[unknown] = 1
		if known, ok := shape.NumElements(); ok && known > 0 {
			shape[unknown] = int(x.NumElements() / known)
		}
	}
	if n, ok := shape.NumElements(); !ok || n != x.NumElements() || x.packed > 0 {
		return o.failf("reshape", "%v to %v", x, Shape(dims))
	}
	x.shape = shape
	return x
}

// Cast returns x in type d: x itself if it has that type, else a new tensor.
func (o Ops) Cast(x Tensor, d DType) Tensor {
	if !o.ok("cast", x) {
		return Tensor{}
	}
	if x.dtype == d {
		return x
	}
	if !x.dtype.IsCompute() || !d.IsCompute() || x.packed > 0 {
		return o.failf("cast", "%v to %v", x, d)
	}
	dst := o.like(x, d)
	if o.err == nil {
		o.do("cast", o.backend.Copy(dst, x))
	}
	return dst
}

// Clone returns a copy of x in type d.
func (o Ops) Clone(x Tensor, d DType) Tensor {
	if !o.ok("clone", x) {
		return Tensor{}
	}
	dst := o.like(x, d)
	o.CopyTo(dst, x)
	return dst
}

// CopyTo casts src into dst; both have the same shape and do not overlap.
func (o Ops) CopyTo(dst, src Tensor) {
	if !o.ok("copy", dst, src) {
		return
	}
	if !dst.shape.Equal(src.shape) || dst.packed > 0 || src.packed > 0 ||
		(dst.dtype != src.dtype && (!dst.dtype.IsCompute() || !src.dtype.IsCompute())) {
		o.failf("copy", "%v to %v", src, dst)
		return
	}
	if dst.mem == src.mem && dst.offset == src.offset && dst.mem != nil {
		return
	}
	o.do("copy", o.backend.Copy(dst, src))
}

// Fill sets every element of x, of a type that ops compute on or U8.
func (o Ops) Fill(x Tensor, v float32) {
	if !o.ok("fill", x) {
		return
	}
	if !compute(x) && (x.dtype != U8 || x.packed > 0) {
		o.failf("fill", "%v", x)
		return
	}
	o.do("fill", o.backend.Fill(x, v))
}

// Narrow returns count entries of dim from start on. Along dim 0 it is a view,
// along any other dim a copy.
func (o Ops) Narrow(x Tensor, dim, start, count int) Tensor {
	if !o.ok("narrow", x) {
		return Tensor{}
	}
	if dim < 0 || dim >= x.Rank() || start < 0 || count <= 0 || start+count > x.shape[dim] || x.packed > 0 {
		return o.failf("narrow", "[%d, %d) of dim %d of %v", start, start+count, dim, x)
	}
	if dim == 0 {
		return x.Slice(start, count)
	}
	shape := append(Shape(nil), x.shape...)
	shape[dim] = count
	dst := o.Empty(x.dtype, shape...)
	if o.err == nil {
		rows, inner := outerInner(x, dim)
		run, stride := int64(count)*inner, int64(x.shape[dim])*inner
		o.do("narrow", o.backend.CopyRows(dst, x, rows, run, 0, run, int64(start)*inner, stride))
	}
	return dst
}

// Place copies src into dst at start of dim; the other dims are equal.
func (o Ops) Place(dst, src Tensor, dim, start int) {
	if !o.ok("place", dst, src) {
		return
	}
	fits := dim >= 0 && dim < dst.Rank() && dst.Rank() == src.Rank() && dst.dtype == src.dtype &&
		dst.packed == 0 && src.packed == 0 && start >= 0 && start+src.shape[dim] <= dst.shape[dim]
	for i := 0; fits && i < dst.Rank(); i++ {
		fits = i == dim || dst.shape[i] == src.shape[i]
	}
	if !fits {
		o.failf("place", "%v into %v at %d of dim %d", src, dst, start, dim)
		return
	}
	rows, inner := outerInner(dst, dim)
	run := int64(src.shape[dim]) * inner
	o.do("place", o.backend.CopyRows(dst, src, rows, run, int64(start)*inner, int64(dst.shape[dim])*inner, 0, run))
}

// Concat returns the tensors one after the other along dim.
func (o Ops) Concat(dim int, xs ...Tensor) Tensor {
	if !o.ok("concat", xs...) {
		return Tensor{}
	}
	if len(xs) == 0 || dim < 0 || dim >= xs[0].Rank() {
		return o.failf("concat", "%d tensors along dim %d", len(xs), dim)
	}
	shape := append(Shape(nil), xs[0].shape...)
	shape[dim] = 0
	for _, x := range xs {
		shape[dim] += x.Dim(dim)
	}
	dst := o.Empty(xs[0].dtype, shape...)
	start := 0
	for _, x := range xs {
		o.Place(dst, x, dim, start)
		start += x.Dim(dim)
	}
	return dst
}

// outerInner returns the number of rows that dim is walked in, and the bytes of
// one entry of it.
func outerInner(x Tensor, dim int) (rows, inner int64) {
	rows, inner = 1, x.dtype.Size()
	for i, d := range x.shape {
		switch {
		case i < dim:
			rows *= int64(d)
		case i > dim:
			inner *= int64(d)
		}
	}
	return rows, inner
}

// maxPermuteRank bounds the dims of Permute: unpatchify needs seven.
const maxPermuteRank = 8

// Permute returns x with dim i taken from x's dim perm[i].
func (o Ops) Permute(x Tensor, perm ...int) Tensor {
	if !o.ok("permute", x) {
		return Tensor{}
	}
	var seen [maxPermuteRank]bool
	shape := make(Shape, len(perm))
	valid := len(perm) == x.Rank() && len(perm) <= maxPermuteRank && x.packed == 0
	for i := 0; valid && i < len(perm); i++ {
		valid = perm[i] >= 0 && perm[i] < len(perm) && !seen[perm[i]]
		if valid {
			seen[perm[i]] = true
			shape[i] = x.shape[perm[i]]
		}
	}
	if !valid {
		return o.failf("permute", "%v by %v", x, perm)
	}
	dst := o.Empty(x.dtype, shape...)
	if o.err == nil {
		o.do("permute", o.backend.Permute(dst, x, perm))
	}
	return dst
}
