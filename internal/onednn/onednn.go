// Package onednn calls the parts of oneDNN (version 2, C API, Debian's
// libdnnl-dev) that wanrun uses: matrix products and two-dimensional
// convolutions with weights packed once.
//
// Nothing here starts threads: each call computes on the thread that makes it,
// with OpenMP held to one, so that the caller alone decides how work is divided.
// A program built without the tag onednn or without cgo gets ErrNotBuilt.
package onednn

import "errors"

// ErrNotBuilt is New's error in a program built without oneDNN.
var ErrNotBuilt = errors.New("built without oneDNN: install libdnnl-dev and build with -tags onednn")

// Type is an element type.
type Type uint8

// The element types. Arithmetic is F32.
const (
	F32 Type = iota
	BF16
)

// MatMul describes y [M, N] = x [M, K] · w [N, K]ᵀ + bias [N].
type MatMul struct {
	M, N, K    int
	X, W, Y    Type
	Bias       bool // F32
	Accumulate bool // adds to y
}

// Conv describes a convolution of one picture: x [Height, Width, In] F32 with w
// [Out, KernelH, KernelW, In] F32, y [H', W', Out] F32.
type Conv struct {
	Height, Width, In, Out               int
	KernelH, KernelW, StrideH, StrideW   int
	PadTop, PadBottom, PadLeft, PadRight int
	Bias                                 bool
	Accumulate                           bool
}
