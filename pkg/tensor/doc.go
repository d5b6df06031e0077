// Package tensor is the bottom of wanrun's model code: shapes and element
// types, the Tensor value, the arena that owns every byte of a run, the Ops
// that model code calls and the Backend that computes them.
//
// Ops infers shapes, allocates the result from an arena and keeps the first
// error; a Backend only fills a dst that Ops has shaped. Because Ops allocates
// and a backend does not, the same model code run on the meta backend (which
// computes nothing) gives the exact peak of a real run before it starts.
//
// Conventions: tensors are contiguous and row-major. Pictures and videos are
// channels-last [T, H, W, C], so that a channel norm is a row norm, a 1x1
// convolution is a matrix product and consecutive frames are one range of
// bytes. There is no batch dim: classifier-free guidance runs its two forwards
// as two branches of one call.
package tensor
