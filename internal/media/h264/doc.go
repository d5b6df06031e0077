// Package h264 encodes RGB pictures to H.264 in pure Go, one picture at a time
// and in bounded memory.
//
// The stream is Constrained Baseline, which every browser, phone and player
// decodes: CAVLC, 4:2:0, one reference picture, no reordering. Macroblocks are
// I4x4, I16x16, P 16x16 with quarter-sample motion, or skipped. The quantiser is
// constant. The loop filter is off: at the qualities that this package is used
// at it would change next to nothing, and the pictures' own edges stay sharp.
//
// What a decoder shows is exactly what the encoder reconstructed, sample for
// sample; the tests hold the reconstruction against ffmpeg's decode. The bytes
// depend on the pictures and the [Config] alone, never on the thread count.
//
// Source: Rec. ITU-T H.264 (08/2021); the comments name its clauses.
package h264
