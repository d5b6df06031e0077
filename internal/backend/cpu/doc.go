// Package cpu computes tensor ops on the processor, in Go alone or, built with
// the tag onednn, with oneDNN for matrix products and convolutions.
//
// Everything accumulates in F32 or wider, whatever the storage. Work is divided
// over the backend's threads by output elements only, so that no sum depends on
// the number of threads: results are the same bits for any.
package cpu
