// Package umt5 is the umT5 text encoder.
package umt5

// Config are the hyper-parameters of the encoder.
type Config struct {
	VocabSize  int
	Dim        int
	AttnDim    int // width of q, k and v; need not equal Dim
	FFNDim     int
	NumHeads   int
	NumLayers  int
	NumBuckets int // relative position buckets
	MaxDist    int // distance from which on all positions share the last bucket
	Eps        float64
	TextLen    int // tokens that the encoder runs over, padding included
}

// Official returns the configuration of umT5-XXL, which the official code
// hard-codes for every task.
func Official() Config {
	return Config{VocabSize: 256384, Dim: 4096, AttnDim: 4096, FFNDim: 10240, NumHeads: 64, NumLayers: 24,
		NumBuckets: 32, MaxDist: 128, Eps: 1e-6, TextLen: 512}
}
