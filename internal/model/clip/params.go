package clip

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

const (
	prefix = "visual."
	// embeddingUnit holds what turns a picture into tokens.
	embeddingUnit = "embedding"
)

func blockUnit(i int) string { return fmt.Sprintf("transformer.%d", i) }

// Units returns the parameters that Encode uses under their official names, in the
// order of use: "embedding", then each "transformer.N" but the last.
func Units(c Config) []nn.Unit {
	d := c.Dim
	patch := nn.Param{Local: "patch_embedding.weight", Kind: nn.Matrix, Shape: tensor.Shape{d, 3, c.PatchSize, c.PatchSize}}
	units := []nn.Unit{nn.NewUnit(embeddingUnit, prefix,
		nn.VectorParams("cls_embedding", 1, 1, d),
		nn.VectorParams("pos_embedding", 1, c.NumTokens(), d),
		[]nn.Param{patch},
		nn.NormParams("pre_norm", d))}
	for i := range c.NumLayers - 1 {
		units = append(units, nn.NewUnit(blockUnit(i), prefix+blockUnit(i)+".",
			nn.NormParams("norm1", d),
			nn.LinearParams("attn.to_qkv", 3*d, d, nn.Matrix),
			nn.LinearParams("attn.proj", d, d, nn.Matrix),
			nn.NormParams("norm2", d),
			nn.LinearParams("mlp.0", c.MLPDim, d, nn.Matrix),
			nn.LinearParams("mlp.2", d, c.MLPDim, nn.Matrix)))
	}
	return units
}

// Unused reports whether a checkpoint's parameter belongs to a part that Wan never
// runs: the text tower, the last visual block, the final norm and the projections
// into the space that text and pictures share.
func Unused(c Config, name string) bool {
	if name == "log_scale" || name == prefix+"head" {
		return true
	}
	for _, p := range []string{"textual.", prefix + "head.", prefix + "post_norm.", prefix + blockUnit(c.NumLayers-1) + "."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
