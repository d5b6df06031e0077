// Package cpu computes tensor ops on the processor, with three sets of innermost
// loops: in Go, which every machine has and the others are tested against; in
// assembly for amd64 with AVX2; and, built with the tag onednn, oneDNN's products
// and convolutions, which New takes where they have wider vectors or bfloat16
// products.
//
// Everything accumulates in F32 or wider, whatever the storage. Work is divided
// over the backend's threads by output elements only, so that no sum depends on
// the number of threads: results are the same bits for any.
package cpu
