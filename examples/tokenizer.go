package examples

import (
	"embed"
	"io/fs"
)

// The tokenizer is a variable of its own too, for a binary that needs no weights.
//
//go:embed demo-model/checkpoint/google/umt5-xxl
var tokenizer embed.FS

// DemoTokenizer returns the demo model's folder google/umt5-xxl.
func DemoTokenizer() fs.FS {
	sub, err := fs.Sub(tokenizer, "demo-model/checkpoint/google/umt5-xxl")
	if err != nil {
		panic(err) // the path is a constant that fs.Sub accepts
	}
	return sub
}
