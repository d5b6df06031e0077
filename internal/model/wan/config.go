// Package wan is the Wan2.1 diffusion transformer (DiT) for t2v, i2v and flf2v.
package wan

// Config are the hyper-parameters of a DiT, as in the official config.json with
// the defaults that the file leaves out.
type Config struct {
	ModelType string // "t2v", "i2v" or "flf2v"
	InDim     int    // channels of the input: 16, or 36 with mask and image latent
	OutDim    int    // channels of the prediction
	Dim       int    // D
	FFNDim    int
	FreqDim   int // width of the sinusoidal timestep embedding
	TextDim   int // width of the T5 context
	TextLen   int // rows of the context after zero padding
	NumHeads  int
	NumLayers int
	PatchSize [3]int
	Eps       float64
	ClipDim   int // width of the CLIP features, 0 for t2v
	// ClipTokens is the number of CLIP tokens of one picture, 0 for t2v; flf2v
	// attends to twice as many.
	ClipTokens int
}

// HasImage reports whether the model attends to CLIP features of pictures.
func (c Config) HasImage() bool { return c.ModelType == "i2v" || c.ModelType == "flf2v" }

// HeadDim returns H.
func (c Config) HeadDim() int { return c.Dim / c.NumHeads }
