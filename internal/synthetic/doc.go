// Package synthetic writes checkpoints of random weights in the official Wan2.1
// layout, of any size: for tests of memory and loading, where what the weights say does
// not matter. The values are such that activations neither vanish nor overflow, and the
// same seed gives the same bytes. Weights are written as they are drawn, so that the
// largest model needs a few MiB of memory.
//
// What the official files hold and Wan never uses, such as CLIP's text tower, is left out.
package synthetic
