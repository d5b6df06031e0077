package vae_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// group are ranks that exchange rows through channels: the smallest Slabs, to
// test the model's side of it.
type group struct {
	cuts []int // rank r holds the latent's rows [cuts[r], cuts[r+1])
	mail [][]chan []byte
	dead chan struct{} // closed when a rank has failed
	die  func()
}

func newGroup(cuts []int) *group {
	g := &group{cuts: cuts, dead: make(chan struct{})}
	g.die = sync.OnceFunc(func() { close(g.dead) })
	for range len(cuts) - 1 {
		var to []chan []byte
		for range len(cuts) - 1 {
			to = append(to, make(chan []byte, 4))
		}
		g.mail = append(g.mail, to)
	}
	return g
}

// evenCuts divides height rows over size ranks as evenly as it goes.
func evenCuts(height, size int) []int {
	cuts := make([]int, size+1)
	holders := min(size, height)
	for rank := range cuts {
		cuts[rank] = min(rank, holders) * height / holders
	}
	return cuts
}

func (g *group) height() int { return g.cuts[len(g.cuts)-1] }

// rank is one rank's Slabs.
type rank struct {
	*group
	rank int
}

func (r rank) send(ops tensor.Ops, to int, x tensor.Tensor) {
	if b := ops.Bytes(x); ops.Err() == nil {
		r.mail[r.rank][to] <- b
	}
}

func (r rank) receive(ops tensor.Ops, from int, x tensor.Tensor) {
	select {
	case b := <-r.mail[from][r.rank]:
		ops.Fail(ops.Backend().Write(x, b))
	case <-r.dead:
		ops.Fail(errors.New("another rank has failed"))
	}
}

// idle reports whether there is nothing to exchange: a plan, or a failed forward.
func idle(ops tensor.Ops) bool {
	_, planning := ops.Backend().(*meta.Backend)
	return planning || ops.Err() != nil
}

func (r rank) Rows(ops tensor.Ops, height int) (start, count int) {
	if height != r.height() {
		ops.Fail(fmt.Errorf("%d rows, but %d were divided", height, r.height()))
	}
	return r.cuts[r.rank], r.cuts[r.rank+1] - r.cuts[r.rank]
}

func (r rank) Halo(ops tensor.Ops, x tensor.Tensor, above, below int) {
	if idle(ops) {
		return
	}
	x = ops.Reshape(x, x.Dim(1), x.Dim(2), x.Dim(3))
	first, last := r.cuts[r.rank] == 0, r.cuts[r.rank+1] == r.height()
	begin, end := above, x.Dim(0)-below // of the own rows
	if first {
		begin = 0
	}
	if last {
		end = x.Dim(0)
	}
	if !first && below > 0 {
		r.send(ops, r.rank-1, x.Slice(begin, below))
	}
	if !last && above > 0 {
		r.send(ops, r.rank+1, x.Slice(end-above, above))
	}
	if begin > 0 {
		r.receive(ops, r.rank-1, x.Slice(0, begin))
	}
	if end < x.Dim(0) {
		r.receive(ops, r.rank+1, x.Slice(end, below))
	}
}

// rowsOf returns the rows of x that the given rank holds.
func (g *group) rowsOf(rank int, x tensor.Tensor) tensor.Tensor {
	scale := x.Dim(0) / g.height()
	return x.Slice(g.cuts[rank]*scale, (g.cuts[rank+1]-g.cuts[rank])*scale)
}

func (r rank) gather(ops tensor.Ops, x tensor.Tensor, everyone bool) {
	if idle(ops) {
		return
	}
	holds := func(i int) bool { return r.cuts[i+1] > r.cuts[i] }
	for to := range r.mail {
		if to != r.rank && holds(r.rank) && (everyone || holds(to)) {
			r.send(ops, to, r.rowsOf(r.rank, x))
		}
	}
	for from := range r.mail {
		if from != r.rank && holds(from) {
			r.receive(ops, from, r.rowsOf(from, x))
		}
	}
}

func (r rank) Gather(ops tensor.Ops, x tensor.Tensor)  { r.gather(ops, x, false) }
func (r rank) Publish(ops tensor.Ops, x tensor.Tensor) { r.gather(ops, x, true) }

func (r rank) Collect(ops tensor.Ops, x tensor.Tensor) tensor.Tensor {
	scale := x.Dim(1) / (r.cuts[r.rank+1] - r.cuts[r.rank])
	var whole tensor.Tensor
	if r.rank == 0 {
		whole = ops.Using(tensor.Collective).Empty(x.DType(), x.Dim(0), r.height()*scale, x.Dim(2), x.Dim(3))
	}
	if idle(ops) {
		return whole
	}
	for f := range x.Dim(0) {
		frame := ops.Reshape(x.Slice(f, 1), x.Dim(1), x.Dim(2), x.Dim(3))
		if r.rank > 0 {
			r.send(ops, 0, frame)
			continue
		}
		target := ops.Reshape(whole.Slice(f, 1), whole.Dim(1), whole.Dim(2), whole.Dim(3))
		ops.CopyTo(r.rowsOf(0, target), frame)
		for from := range r.mail {
			if from > 0 && r.cuts[from+1] > r.cuts[from] {
				r.receive(ops, from, r.rowsOf(from, target))
			}
		}
	}
	return whole
}

// inGroup runs fn on all ranks of a group, each planned and with memory of its own.
func inGroup(t *testing.T, cuts []int, fn func(ops tensor.Ops, r rank)) {
	t.Helper()
	g := newGroup(cuts)
	errs := make([]error, len(g.mail))
	var wg sync.WaitGroup
	for i := range g.mail {
		wg.Go(func() {
			b := cpu.New(1)
			defer b.Close()
			errs[i] = tryRun(b, func(ops tensor.Ops) { fn(ops, rank{g, i}) })
			if errs[i] != nil {
				g.die()
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("rank %d: %v", i, err)
		}
	}
}

// decodeInGroup returns the floats and the bytes of the frames that leave rank 0.
func decodeInGroup(t *testing.T, cuts []int, c vae.Config, src checkpoint.Source, compute tensor.DType,
	z []float32, frames, h, w int) (floats []float32, pictures []byte) {
	t.Helper()
	inGroup(t, cuts, func(ops tensor.Ops, r rank) {
		if r.rank == 0 {
			floats, pictures = nil, nil
		}
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), src, compute), compute)
		d.Slabs = r
		latent := ops.Using(tensor.Latents).FromFloats(z, frames, h, w, c.ZDim)
		d.Decode(ops, latent, func(x tensor.Tensor) error {
			whole, rgb := d.Slabs.Collect(ops, x), d.Slabs.Collect(ops, ops.Quantize(x, false))
			if r.rank == 0 {
				floats, pictures = append(floats, ops.Floats(whole)...), append(pictures, ops.Bytes(rgb)...)
			} else if !whole.IsNone() || !rgb.IsNone() {
				return fmt.Errorf("rank %d got frames", r.rank)
			}
			return ops.Err()
		})
	})
	return floats, pictures
}

// encodeInGroup returns each rank's latent.
func encodeInGroup(t *testing.T, cuts []int, c vae.Config, src checkpoint.Source,
	video []float32, frames, h, w int, same func(i int) bool) [][]float32 {
	t.Helper()
	latents := make([][]float32, len(cuts)-1)
	inGroup(t, cuts, func(ops tensor.Ops, r rank) {
		e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), src, tensor.F32), tensor.F32)
		e.Slabs = r
		size := h * w * 3
		latents[r.rank] = ops.Floats(e.Encode(ops, frames, h, w, func(i int) ([]float32, bool) {
			if same != nil && same(i) {
				return nil, true
			}
			return video[i*size : (i+1)*size], false
		}))
	})
	return latents
}

// sameBits fails where got is not want to the bit.
func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d floats, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d is %v, one rank gives %v (worst difference %.2g)", what, i, got[i], want[i], golden.MaxDiff(got, want))
		}
	}
}

var sizes = []int{1, 2, 3, 4, 5, 8}

// quantized are the bytes of frames as one rank makes them.
func quantized(t *testing.T, b tensor.Backend, frames []float32) (rgb []byte) {
	run(t, b, func(ops tensor.Ops) { rgb = ops.Bytes(ops.Quantize(ops.FromFloats(frames, len(frames)), false)) })
	return rgb
}

// The fixtures' checkpoints and latents, on groups of which some have ranks
// without rows.
func TestSlabsDecodeCheckpoints(t *testing.T) {
	for _, name := range checkpoints {
		b := newBackend(t)
		c, src := openVAE(t, name)
		latent := golden.Load(t, "../../../testdata/vae/"+name+".safetensors")["latent"]
		n, h, w := 2, latent.Shape[2], 3
		if name == checkpoints[0] { // the caches are full at the third latent frame
			n = 3
		}
		z := crop(latent, n, h, w)
		want := decode(t, b, c, src, tensor.F32, z, n, h, w, nil)
		wantRGB := quantized(t, b, want)
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%s %d rows %d ranks", name, h, size), func(t *testing.T) {
				floats, rgb := decodeInGroup(t, evenCuts(h, size), c, src, tensor.F32, z, n, h, w)
				sameBits(t, "frames", floats, want)
				if !slices.Equal(rgb, wantRGB) {
					t.Error("the pictures' bytes are not those of one rank")
				}
			})
		}
	}
}

// Sizes that divide nowhere, slabs of one row and slabs of very different heights.
func TestSlabsDecodeSizes(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	src := newRandomSource(vae.DecoderUnits(c))
	for _, tc := range []struct {
		frames, h, w int
		compute      tensor.DType
		cuts         [][]int // besides the even ones
	}{
		{3, 9, 2, tensor.F32, [][]int{{0, 1, 8, 9}, {0, 7, 8, 9, 9}}},
		{2, 5, 3, tensor.F32, [][]int{{0, 4, 5}, {0, 1, 5}}},
		{2, 1, 1, tensor.F32, nil},
		{1, 7, 1, tensor.F32, nil},
		{3, 3, 2, tensor.BF16, nil},
	} {
		z := random(tc.frames * tc.h * tc.w * c.ZDim)
		want := decode(t, b, c, src, tc.compute, z, tc.frames, tc.h, tc.w, nil)
		cuts := tc.cuts
		for _, size := range sizes {
			cuts = append(cuts, evenCuts(tc.h, size))
		}
		for _, cuts := range cuts {
			t.Run(fmt.Sprintf("%dx%dx%d %v %v", tc.frames, tc.h, tc.w, tc.compute, cuts), func(t *testing.T) {
				floats, _ := decodeInGroup(t, cuts, c, src, tc.compute, z, tc.frames, tc.h, tc.w)
				sameBits(t, "frames", floats, want)
			})
		}
	}
}

// Each rank gets the latent that one rank makes, with and without frames that
// repeat.
func TestSlabsEncode(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	src := newRandomSource(vae.EncoderUnits(c))
	still := func(i int) bool { return i > 1 }
	for _, tc := range []struct {
		name         string
		frames, h, w int
		same         func(i int) bool
		cuts         [][]int
	}{
		{"moving", 9, 40, 24, nil, [][]int{{0, 1, 4, 5}}},
		{"i2v", 33, 24, 8, still, nil},
		{"picture", 1, 56, 16, nil, nil},
	} {
		video := random(tc.frames * tc.h * tc.w * 3)
		want := encode(t, b, c, src, tensor.F32, video, tc.frames, tc.h, tc.w, tc.same, nil)
		cuts := tc.cuts
		for _, size := range sizes {
			cuts = append(cuts, evenCuts(tc.h/vae.SpaceStride, size))
		}
		for _, cuts := range cuts {
			t.Run(fmt.Sprintf("%s %v", tc.name, cuts), func(t *testing.T) {
				for i, got := range encodeInGroup(t, cuts, c, src, video, tc.frames, tc.h, tc.w, tc.same) {
					sameBits(t, fmt.Sprintf("rank %d", i), got, want)
				}
			})
		}
	}
}

// An error on one rank comes out there, and nothing is exchanged after it.
func TestSlabsErrors(t *testing.T) {
	c := smallConfig()
	g := newGroup([]int{0, 2, 3})
	b := newBackend(t)
	err := tryRun(b, func(ops tensor.Ops) {
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), newRandomSource(vae.DecoderUnits(c)), tensor.F32), tensor.F32)
		d.Slabs = rank{g, 0}
		d.Decode(ops, ops.Using(tensor.Latents).Empty(tensor.F32, 1, 4, 2, c.ZDim), func(tensor.Tensor) error { return nil })
	})
	if err == nil || err.Error() != "4 rows, but 3 were divided" {
		t.Errorf("latent of another height: error %v", err)
	}
	g.die()
	err = tryRun(b, func(ops tensor.Ops) {
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), newRandomSource(vae.DecoderUnits(c)), tensor.F32), tensor.F32)
		d.Slabs = rank{g, 0}
		d.Decode(ops, ops.Using(tensor.Latents).Empty(tensor.F32, 2, 3, 2, c.ZDim), func(tensor.Tensor) error {
			if !idle(ops) {
				t.Error("frames came although the other rank is dead")
			}
			return nil
		})
	})
	if err == nil || err.Error() != "another rank has failed" {
		t.Errorf("dead rank: error %v", err)
	}
}
