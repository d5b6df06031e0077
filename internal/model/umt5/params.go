package umt5

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// finalUnit holds the norm after the last block.
const finalUnit = "final"

// tokenTable is the embedding [VocabSize, Dim], of which a prompt needs a few
// hundred rows.
const tokenTable = "token_embedding.weight"

func blockUnit(i int) string { return fmt.Sprintf("blocks.%d", i) }

// positionTable names block i's biases [NumBuckets, NumHeads].
func positionTable(i int) string { return blockUnit(i) + ".pos_embedding.embedding.weight" }

// Units returns the parameters under their official names, in the order of use:
// "embedding", which Encode reads row by row and never acquires, each "blocks.N",
// "final".
func Units(c Config) []nn.Unit {
	table := nn.Param{Local: tokenTable, Shape: tensor.Shape{c.VocabSize, c.Dim}, Kind: nn.Rows}
	units := []nn.Unit{nn.NewUnit("embedding", "", []nn.Param{table})}
	for i := range c.NumLayers {
		positions := nn.Param{Local: "pos_embedding.embedding.weight", Shape: tensor.Shape{c.NumBuckets, c.NumHeads}, Kind: nn.Rows}
		units = append(units, nn.NewUnit(blockUnit(i), blockUnit(i)+".",
			nn.VectorParams("norm1.weight", c.Dim),
			nn.MatrixParams("attn.q", c.AttnDim, c.Dim, nn.Matrix),
			nn.MatrixParams("attn.k", c.AttnDim, c.Dim, nn.Matrix),
			nn.MatrixParams("attn.v", c.AttnDim, c.Dim, nn.Matrix),
			nn.MatrixParams("attn.o", c.Dim, c.AttnDim, nn.Matrix),
			nn.VectorParams("norm2.weight", c.Dim),
			nn.MatrixParams("ffn.gate.0", c.FFNDim, c.Dim, nn.Matrix),
			nn.MatrixParams("ffn.fc1", c.FFNDim, c.Dim, nn.Matrix),
			nn.MatrixParams("ffn.fc2", c.Dim, c.FFNDim, nn.Matrix),
			[]nn.Param{positions}))
	}
	return append(units, nn.NewUnit(finalUnit, "", nn.VectorParams("norm.weight", c.Dim)))
}
