// Package clip is the visual tower of the XLM-RoBERTa CLIP ViT-H/14 that i2v and
// flf2v condition on.
package clip

// Config are the hyper-parameters of the visual tower.
type Config struct {
	ImageSize int
	PatchSize int
	Dim       int
	MLPDim    int
	NumHeads  int
	// NumLayers counts the blocks stored; the forward runs one fewer.
	NumLayers int
	Mean, Std [3]float32 // of the picture in [0, 1]
}

// Official returns the configuration that the official code hard-codes.
func Official() Config {
	return Config{ImageSize: 224, PatchSize: 14, Dim: 1280, MLPDim: 5120, NumHeads: 16, NumLayers: 32,
		Mean: [3]float32{0.48145466, 0.4578275, 0.40821073}, Std: [3]float32{0.26862954, 0.26130258, 0.27577711}}
}

// NumTokens returns the length of the result: the class token and the patches.
func (c Config) NumTokens() int {
	side := c.ImageSize / c.PatchSize
	return side*side + 1
}
