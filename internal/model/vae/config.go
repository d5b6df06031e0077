// Package vae is the Wan VAE: a causal 3D convolutional encoder and decoder.
package vae

// Config are the hyper-parameters of the VAE.
type Config struct {
	Dim            int // channels of the first stage
	ZDim           int // latent channels
	DimMult        []int
	NumResBlocks   int
	TimeDownsample []bool // per stage boundary of the encoder: halve the time dim too
	Mean, Std      []float32
}

// Official returns the configuration of Wan2.1_VAE.pth, which the official code
// hard-codes for every task.
func Official() Config {
	return Config{
		Dim: 96, ZDim: 16, DimMult: []int{1, 2, 4, 4}, NumResBlocks: 2, TimeDownsample: []bool{false, true, true},
		Mean: []float32{-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
			0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921},
		Std: []float32{2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
			3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160},
	}
}

// TimeStride and SpaceStride are the compression of the official VAE: a latent
// frame stands for 4 frames (the first for 1), a latent pixel for 8x8.
const (
	TimeStride  = 4
	SpaceStride = 8
)
