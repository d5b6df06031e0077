// Package vae is the Wan VAE: a causal 3D convolutional encoder and decoder.
//
// Both are run depth first, one frame at a time: a frame goes through every layer
// before the next one starts, and each causal layer remembers the two frames
// before. That gives the values of the original code, which runs chunks of four
// frames layer by layer, as no layer looks ahead; the activations that live at
// once are those of one frame, however long the video is.
//
// Shapes: a frame is [1, h, w, C], channels last.
package vae
