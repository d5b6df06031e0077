// Package examples embeds the demo model: a tiny image-to-video model in the
// official checkpoint layout, so that wanrun does something before any weights
// have been downloaded.
package examples

import (
	"embed"
	"io/fs"
)

// The checkpoint's files and its settings are separate variables, so that a
// binary that reads only the settings does not carry the weights.

//go:embed demo-model/checkpoint
var checkpoint embed.FS

//go:embed demo-model/checkpoint/model_spec.json
var demoSpec []byte

//go:embed in.jpg
var image []byte

// DemoCheckpoint returns the demo model's checkpoint folder.
func DemoCheckpoint() fs.FS {
	sub, err := fs.Sub(checkpoint, "demo-model/checkpoint")
	if err != nil {
		panic(err) // the path is a constant that fs.Sub accepts
	}
	return sub
}

// DemoSpec returns the demo model's model_spec.json.
func DemoSpec() []byte { return demoSpec }

// DemoImage returns in.jpg, a red ball on a soft background.
func DemoImage() []byte { return image }
