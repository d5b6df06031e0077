// Package generate turns a prompt and pictures into a video: the one place where
// tokenizer, models, sampler and media meet. A run is a sequence of phases; each
// holds only its own weights, and what passes from one phase to the next is small
// and lies on the host, so that a phase can be planned, repeated and resumed by
// itself.
//
// The same code runs on the meta backend to plan and on a real one to compute.
package generate

import (
	"context"
	"time"

	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/noise"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The phases of a run, in order.
const (
	PhaseTokenize    = "tokenize"
	PhaseTextEncode  = "text_encode"
	PhaseImageEncode = "image_encode"
	PhaseVAEEncode   = "vae_encode"
	PhaseDenoise     = "denoise"
	PhaseVAEDecode   = "vae_decode"
	PhaseWrite       = "write"
)

// Job is one video, every value resolved.
type Job struct {
	Kind           string // "t2v", "i2v" or "flf2v"; t2i is t2v with RoundPixels
	Prompt         string
	NegativePrompt string
	First, Last    *picture.RGB // pictures of i2v and flf2v
	// Width and Height are the size of t2v; i2v and flf2v take MaxArea and the
	// first picture's aspect.
	Width, Height int
	MaxArea       int
	FrameNum      int // 4n+1
	Steps         int
	Solver        string
	Shift         float64
	GuideScale    float64
	Seed          int64
	NoiseKind     noise.Kind
	DType         tensor.DType // compute type of T5, CLIP and DiT; the VAE is F32
	Spread        Spread
	// Compat reproduces the official crop of a last picture of another size.
	Compat bool
	// RoundPixels rounds to bytes as the official picture writer does, where the
	// video writer truncates.
	RoundPixels bool
	// ScanWeights looks at every weight for NaN and infinity first.
	ScanWeights bool
	Dump        *Dump // nil unless what the run computes is to be kept
}

// Progress says how far a phase is.
type Progress struct {
	Phase       string
	Done, Total int
}

// Host is what a run needs from the process around it. Now, RSSPeak and Progress are
// not nil.
type Host struct {
	Now      func() time.Time
	RSSPeak  func() int64
	Progress func(Progress)
	// Share gives the ranks of g, which are of one node, n bytes in common, until free is
	// called. It is a collective. nil where no rank shares host memory.
	Share func(ctx context.Context, g comm.Group, n int64) (mem []byte, free func() error, err error)
	// Wide returns a backend with the threads of all ranks of this node, divided by
	// working: so many of them compute, while the others wait. It is not used
	// concurrently with the run's own; close ends it. nil keeps to the run's own.
	Wide func(working int) (b tensor.Backend, close func())
	// Save is called on the first rank before and after steps, and may keep the state,
	// whose slices are the run's own, for a later Continue; nil keeps none. Its error ends
	// the run.
	Save func(Saved) error
	// Draining says that the run shall end before its next step, with ErrDrained; nil
	// never does.
	Draining func() bool
}

// Sink takes the finished frames, in order: RGB bytes, row by row. It does not
// keep the slice.
type Sink interface {
	WriteFrame(rgb []byte) error
}

// Bytes are bytes by purpose.
type Bytes [tensor.NumPurposes]int64

// Total returns the sum over all purposes.
func (b Bytes) Total() (n int64) {
	for _, v := range b {
		n += v
	}
	return n
}

// max raises each purpose to at least o's.
func (b *Bytes) max(o Bytes) {
	for p := range b {
		b[p] = max(b[p], o[p])
	}
}

// PhaseResult is what a phase took.
type PhaseResult struct {
	Name    string
	Seconds float64
	Peak    Bytes // of the arenas
	// HostWeights are the bytes of weights at rest in host memory. What ranks of a node
	// share, the first of them counts alone.
	HostWeights int64
	RSSPeak     int64 // of the process so far
	Work        Work  // of a plan
}

// Result is what a run took.
type Result struct {
	Phases        []PhaseResult
	Width, Height int
	Frames        int
}

// Peak returns the peak of each purpose over all phases: what has to be
// reserved for the run.
func (r *Result) Peak() (b Bytes) {
	for _, p := range r.Phases {
		b.max(p.Peak)
	}
	return b
}

// HostWeights returns the most bytes of weights that rested in host memory.
func (r *Result) HostWeights() (n int64) {
	for _, p := range r.Phases {
		n = max(n, p.HostWeights)
	}
	return n
}
