package h264

import (
	"fmt"
	"sync"
)

// DefaultQP is the quantiser when none is asked for. See BenchmarkEncode and
// TestQuality for what it gives.
const DefaultQP = 16

// The quantiser's range. Below minQP a level of a wild picture would need an
// escape code that the profile does not have.
const (
	minQP = 10
	maxQP = 51
)

// maxSide bounds width and height, in samples.
const maxSide = 16384

// Config says what an [Encoder] makes.
type Config struct {
	Width, Height int // samples; even, and whole macroblocks (16) are best
	FPS           int // pictures a second, 1 to 240
	QP            int // quantiser 10 (best) to 51; 0 is DefaultQP
	KeyInterval   int // pictures from one key picture to the next; 0 is two seconds
	Threads       int // goroutines at most for one picture; 0 is one
}

// Encoder turns a sequence of RGB pictures into H.264. It is used by one
// goroutine at a time; its memory is about 14 bytes a sample, whatever the number of
// pictures.
type Encoder struct {
	cfg          Config
	mbW, mbH     int
	level        int
	luma, chroma quantizer
	lambda       int
	intraWorth   int // cost of motion from which on intra is tried

	src *picture   // current picture
	rec *picture   // its reconstruction
	ref *reference // the one before; swaps with next
	nxt *reference // whose picture rec is
	mbs []mbInfo

	slices   []*slice
	intra    bool // the current picture is a key picture
	sinceKey int  // pictures since the last key picture
	started  bool
	frameNum int
	idrID    int
	out      []byte
}

// NewEncoder checks cfg and makes an Encoder. It refuses odd sizes, which 4:2:0
// cannot hold, and sizes and rates beyond level 6.2.
func NewEncoder(cfg Config) (*Encoder, error) {
	if cfg.QP == 0 {
		cfg.QP = DefaultQP
	}
	switch {
	case cfg.Width < 2 || cfg.Height < 2 || cfg.Width > maxSide || cfg.Height > maxSide:
		return nil, fmt.Errorf("picture size %dx%d: each side must be 2 to %d", cfg.Width, cfg.Height, maxSide)
	case cfg.Width%2 != 0 || cfg.Height%2 != 0:
		return nil, fmt.Errorf("picture size %dx%d is odd; H.264 with 4:2:0 colour needs even sides: use %dx%d",
			cfg.Width, cfg.Height, cfg.Width+cfg.Width%2, cfg.Height+cfg.Height%2)
	case cfg.FPS < 1 || cfg.FPS > 240:
		return nil, fmt.Errorf("%d frames a second, expected 1 to 240", cfg.FPS)
	case cfg.QP < minQP || cfg.QP > maxQP:
		return nil, fmt.Errorf("quantiser %d, expected %d to %d", cfg.QP, minQP, maxQP)
	case cfg.KeyInterval < 0 || cfg.Threads < 0:
		return nil, fmt.Errorf("key interval %d and threads %d must not be negative", cfg.KeyInterval, cfg.Threads)
	}
	if cfg.KeyInterval == 0 {
		cfg.KeyInterval = 2 * cfg.FPS
	}
	e := &Encoder{cfg: cfg, mbW: (cfg.Width + 15) / 16, mbH: (cfg.Height + 15) / 16}
	if e.level = levelFor(e.mbW, e.mbH, cfg.FPS); e.level == 0 {
		return nil, fmt.Errorf("%dx%d at %d frames a second is more than H.264 level 6.2 allows",
			cfg.Width, cfg.Height, cfg.FPS)
	}
	e.luma, e.chroma = newQuantizer(cfg.QP), newQuantizer(chromaQPOf(cfg.QP))
	e.lambda = lambdaOf(cfg.QP)
	e.intraWorth = 64 * e.lambda
	e.src = newPicture(16*e.mbW, 16*e.mbH, 0)
	e.ref, e.nxt = newReference(16*e.mbW, 16*e.mbH), newReference(16*e.mbW, 16*e.mbH)
	e.mbs = make([]mbInfo, e.mbW*e.mbH)
	e.slices = newSlices(e)
	return e, nil
}

// SPS returns the sequence parameter set as a NAL unit without start code.
func (e *Encoder) SPS() []byte {
	return appendNAL(nil, nalSPS, sps(e.cfg, e.mbW, e.mbH, e.level))
}

// PPS returns the picture parameter set as a NAL unit without start code.
func (e *Encoder) PPS() []byte { return appendNAL(nil, nalPPS, pps(e.cfg.QP)) }

// Encode codes the next picture, Height*Width*3 bytes of RGB. The sample is its
// NAL units, each after its length in four bytes as MP4 wants them, and is valid until
// the next call; key says that decoding can start here.
func (e *Encoder) Encode(rgb []byte) (sample []byte, key bool, err error) {
	if want := 3 * e.cfg.Width * e.cfg.Height; len(rgb) != want {
		return nil, false, fmt.Errorf("picture of %d bytes, expected %d for %dx%d RGB", len(rgb), want, e.cfg.Width, e.cfg.Height)
	}
	e.begin()
	e.parallel(len(e.slices), func(i int) { e.slices[i].encode(rgb) })
	e.out = e.out[:0]
	nalType := byte(nalSlice)
	if e.intra {
		nalType = nalIDR
	}
	for _, s := range e.slices {
		e.out = appendSized(e.out, nalType, s.w.buf)
	}
	return e.out, e.intra, nil
}

// begin decides the picture's type and makes the last one its reference.
func (e *Encoder) begin() {
	e.intra = !e.started || e.sinceKey+1 >= e.cfg.KeyInterval
	if e.intra {
		if e.started {
			e.idrID ^= 1 // neighbouring IDR pictures must differ
		}
		e.sinceKey, e.frameNum = 0, 0
	} else {
		e.sinceKey++
		e.frameNum = (e.frameNum + 1) % (1 << log2MaxFrameNum)
	}
	e.started = true
	e.ref, e.nxt = e.nxt, e.ref
	e.rec = e.nxt.pic
	if !e.intra {
		e.prepareReference()
	}
}

// prepareReference pads the last reconstruction and fills its half sample
// planes.
func (e *Encoder) prepareReference() {
	e.parallel(len(e.slices), func(i int) {
		s := e.slices[i]
		e.ref.pic.y.padRows(16*s.firstRow, 16*s.endRow)
		for c := range e.ref.pic.c {
			e.ref.pic.c[c].padRows(8*s.firstRow, 8*s.endRow)
		}
	})
	e.parallel(len(e.slices), func(i int) {
		s := e.slices[i]
		y0, y1 := 16*s.firstRow, 16*s.endRow
		if i == 0 {
			y0 -= hpelReach
		}
		if i == len(e.slices)-1 {
			y1 += hpelReach
		}
		if s.filter == nil {
			s.filter = make([]int32, e.ref.pic.y.stride)
		}
		e.ref.interpolateRows(y0, y1, s.filter)
	})
}

// parallel runs f(0) to f(n-1) on up to Threads goroutines and waits for them.
func (e *Encoder) parallel(n int, f func(i int)) {
	threads := min(max(e.cfg.Threads, 1), n)
	var wg sync.WaitGroup
	for t := range threads - 1 {
		wg.Go(func() {
			for i := t + 1; i < n; i += threads {
				f(i)
			}
		})
	}
	for i := 0; i < n; i += threads {
		f(i)
	}
	wg.Wait()
}

// Reconstruction returns what a decoder shows for the last picture: the planes
// Y, Cb, Cr one after the other, cropped to Width x Height (yuv420p).
func (e *Encoder) Reconstruction() []byte {
	if e.rec == nil {
		return nil
	}
	w, h := e.cfg.Width, e.cfg.Height
	out := make([]byte, 0, w*h*3/2)
	for y := range h {
		out = append(out, e.rec.y.from(0, y)[:w]...)
	}
	for i := range e.rec.c {
		for y := range h / 2 {
			out = append(out, e.rec.c[i].from(0, y)[:w/2]...)
		}
	}
	return out
}
