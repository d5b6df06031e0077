package clip

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

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
func (c Config) NumTokens() int { return c.side()*c.side() + 1 }

// HeadDim returns H.
func (c Config) HeadDim() int { return c.Dim / c.NumHeads }

// side returns the patches in a row of the picture.
func (c Config) side() int { return c.ImageSize / c.PatchSize }

// maxSize bounds every size of a configuration, so that no product of the few
// that are multiplied overflows. It is far above any visual tower.
const maxSize = 1 << 16

// Validate returns what is wrong with the configuration, nil if a tower can be
// built from it.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"image_size", c.ImageSize}, {"patch_size", c.PatchSize}, {"vision_dim", c.Dim}, {"vision MLP dim", c.MLPDim},
		{"vision_heads", c.NumHeads}, {"vision_layers", c.NumLayers},
	} {
		if f.value < 1 || f.value > maxSize {
			return fmt.Errorf("clip %s is %d; want 1 to %d", f.name, f.value, maxSize)
		}
	}
	switch {
	case c.ImageSize%c.PatchSize != 0:
		return fmt.Errorf("clip image_size %d is not a multiple of patch_size %d", c.ImageSize, c.PatchSize)
	case c.Dim%c.NumHeads != 0:
		return fmt.Errorf("clip vision_dim %d does not divide over %d heads", c.Dim, c.NumHeads)
	}
	return nil
}

// NumParams returns the number of parameters that the forward uses, with patches
// of P x P pixels, S tokens and L blocks:
//
//	3 P² D + D + S D + 2 D + (L-1) (4 D² + 2 D F + 9 D + F)
func (c Config) NumParams() int64 { return nn.NumParams(Units(c)) }

// WeightBytes returns the bytes at rest when matrices are kept in compute type.
func (c Config) WeightBytes(compute tensor.DType) int64 { return nn.Bytes(Units(c), compute) }

// FLOPs returns the FLOPs of encoding one picture, two for each multiplication and
// addition of the matrix products.
//
//	6 (S-1) P² D + (L-1) (8 S D² + 4 S² D + 4 S D F)
func (c Config) FLOPs() int64 {
	s, d, f, p := int64(c.NumTokens()), int64(c.Dim), int64(c.MLPDim), int64(c.PatchSize)
	return 6*(s-1)*p*p*d + int64(c.NumLayers-1)*(8*s*d*d+4*s*s*d+4*s*d*f)
}
