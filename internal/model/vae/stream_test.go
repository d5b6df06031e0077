package vae_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestShorterLatentGivesThePrefix(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	src := newRandomSource(vae.DecoderUnits(c))
	const most, h, w = 4, 3, 2
	z := random(most * h * w * c.ZDim)
	whole := decode(t, b, c, src, tensor.F32, z, most, h, w, nil)
	for n := 1; n < most; n++ {
		got := decode(t, b, c, src, tensor.F32, z[:n*h*w*c.ZDim], n, h, w, nil)
		if !slices.Equal(got, whole[:len(got)]) {
			t.Errorf("%d of %d latent frames do not give the bits of the first frames", n, most)
		}
	}
	frame := len(whole) / (most*vae.TimeStride - 3)
	for i := 1; i < len(whole)/frame; i++ {
		if slices.Equal(whole[(i-1)*frame:i*frame], whole[i*frame:(i+1)*frame]) {
			t.Errorf("frames %d and %d are equal: the test shows nothing", i-1, i)
		}
	}
}

// TestRepeatedFrames encodes videos with and without saying which frames repeat.
func TestRepeatedFrames(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	src := newRandomSource(vae.EncoderUnits(c))
	const h, w = 16, 8
	size := h * w * 3
	pictures := random(8 * size)
	// Each letter is a picture; a letter after itself repeats.
	for _, tc := range []struct {
		name, video string
	}{
		{"i2v", "a" + strings.Repeat("b", 80)},
		{"i2v short", "a" + strings.Repeat("b", 12)},
		{"flf2v", "a" + strings.Repeat("b", 79) + "c"},
		{"flf2v with the first picture last", "a" + strings.Repeat("b", 47) + "a"},
		{"one picture", strings.Repeat("a", 57)},
		{"one frame", "a"},
		{"nothing repeats", "abcdefghabcdefgha"},
		{"pauses", "abbbbccccccccccccdddeeeeeeeeeffaaaaaaaaaaaaaaaaaaaaaaaaaabbccccccccccccccccccccccccdd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frames := len(tc.video)
			if frames%4 != 1 {
				t.Fatalf("%d frames are not 4n+1", frames)
			}
			var video []float32
			for _, letter := range tc.video {
				i := int(letter - 'a')
				video = append(video, pictures[i*size:(i+1)*size]...)
			}
			counts := func(into map[string]int) func(string, []float32) {
				return func(layer string, _ []float32) { into[layer]++ }
			}
			plain, skipping := map[string]int{}, map[string]int{}
			want := encode(t, b, c, src, tensor.F32, video, frames, h, w, nil, counts(plain))
			same := func(i int) bool { return i > 0 && tc.video[i] == tc.video[i-1] }
			got := encode(t, b, c, src, tensor.F32, video, frames, h, w, same, counts(skipping))
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("element %d is %v, without skipping %v", i, got[i], want[i])
				}
			}
			// A frame of the first block comes from seven frames of the video, so it has
			// to be computed unless those and the one before are all the same.
			const first, last, reach = "encoder.downsamples.0", "conv1", 7
			numFirst := 0
			for i := range frames {
				if i < reach || strings.Trim(tc.video[i-reach:i+1], tc.video[i:i+1]) != "" {
					numFirst++
				}
			}
			if plain[first] != frames || plain[last] != vae.LatentFrames(frames) {
				t.Errorf("without skipping the first block ran %d times, the last layer %d; want %d and %d",
					plain[first], plain[last], frames, vae.LatentFrames(frames))
			}
			if skipping[first] != numFirst {
				t.Errorf("%d of %d frames ran through the first block, want %d", skipping[first], frames, numFirst)
			}
		})
	}
}

// TestPeak states what the decoder's and encoder's memory depends on. That the
// plan is what a run takes is checked by every run of these tests.
func TestPeak(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	decodePeak := func(c vae.Config, frames, h, w int) [tensor.NumPurposes]int64 {
		return plan(t, b, func(ops tensor.Ops) {
			d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), nil, tensor.F32), tensor.F32)
			z := ops.Using(tensor.Latents).Empty(tensor.F32, frames, h, w, c.ZDim)
			d.Decode(ops, z, func(tensor.Tensor) error { return nil })
		})
	}
	encodePeak := func(c vae.Config, frames, h, w int) [tensor.NumPurposes]int64 {
		picture := make([]float32, h*w*3)
		return plan(t, b, func(ops tensor.Ops) {
			e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), nil, tensor.F32), tensor.F32)
			e.Encode(ops, frames, h, w, func(i int) ([]float32, bool) { return picture, i > 1 })
		})
	}
	for _, p := range []tensor.Purpose{tensor.Activations, tensor.VAEWorkspace} {
		if short, long := decodePeak(c, 3, 4, 6)[p], decodePeak(c, 9, 4, 6)[p]; short != long {
			t.Errorf("decode: %v of 3 latent frames %d bytes, of 9 %d", p, short, long)
		}
		if short, long := encodePeak(c, 9, 32, 48)[p], encodePeak(c, 33, 32, 48)[p]; short != long {
			t.Errorf("encode: %v of 9 frames %d bytes, of 33 %d", p, short, long)
		}
	}
	official := vae.Official()
	const h, w = 480, 832
	d, e := decodePeak(official, 3, h/8, w/8), encodePeak(official, 13, h, w)
	for _, p := range []tensor.Purpose{tensor.Activations, tensor.VAEWorkspace} {
		t.Logf("official size, %dx%d: %v a pixel of a frame: decode %d bytes, encode %d", w, h, p, d[p]/(h*w), e[p]/(h*w))
	}
	// One frame of 96 channels is 384 bytes a pixel. The last stage needs four, and
	// what is half its size or less and waits for a second frame comes to two more.
	if got := d[tensor.Activations] / (h * w); got > 61*384/10 {
		t.Errorf("decode takes %d bytes of activations a pixel, want at most 6.1 frames of 96 channels", got)
	}
	// Of the caches, 14 such frames are of the seven causal convolutions at full size.
	if got := d[tensor.VAEWorkspace] / (h * w); got > 25*384 {
		t.Errorf("decode takes %d bytes of caches a pixel, want at most 25 frames of 96 channels", got)
	}
}

func TestFLOPs(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	c.NumResBlocks = 2
	count := func(fn func(ops tensor.Ops)) int64 {
		m := meta.New(b)
		ops := tensor.NewOps(context.Background(), m, tensor.Unlimited())
		fn(ops)
		if ops.Err() != nil {
			t.Fatal(ops.Err())
		}
		return m.ConvFLOPs + m.MatMulFLOPs + m.AttentionFLOPs
	}
	got := count(func(ops tensor.Ops) {
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), nil, tensor.F32), tensor.F32)
		d.Decode(ops, ops.Empty(tensor.F32, 4, 3, 5, c.ZDim), func(tensor.Tensor) error { return nil })
	})
	if want := c.DecodeFLOPs(4, 3, 5); got != want {
		t.Errorf("decode: %d FLOPs counted, the formula gives %d", got, want)
	}
	got = count(func(ops tensor.Ops) {
		e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), nil, tensor.F32), tensor.F32)
		e.Encode(ops, 14, 16, 24, func(int) ([]float32, bool) { return make([]float32, 16*24*3), false })
	})
	if want := c.EncodeFLOPs(14, 16, 24); got != want {
		t.Errorf("encode: %d FLOPs counted, the formula gives %d", got, want)
	}
	// What repetition saves: the picture of i2v and 80 grey frames.
	official := vae.Official()
	got = count(func(ops tensor.Ops) {
		e := vae.NewEncoder(official, load(ops, vae.EncoderUnits(official), nil, tensor.F32), tensor.F32)
		e.Encode(ops, 81, 64, 64, func(i int) ([]float32, bool) { return make([]float32, 64*64*3), i > 1 })
	})
	share := float64(got) / float64(official.EncodeFLOPs(81, 64, 64))
	t.Logf("encoding 81 frames of i2v takes %.1f %% of the FLOPs of a video", 100*share)
	if share > 0.35 {
		t.Errorf("encoding i2v takes %.3f of the FLOPs of a video, want at most 0.35", share)
	}
	if n := vae.Official().NumParams(); n != 126892531 {
		t.Errorf("official VAE has %d parameters, want 126892531", n)
	}
}

// TestErrors states what each misuse says.
func TestErrors(t *testing.T) {
	b, c := newBackend(t), smallConfig()
	stop := errors.New("disk is full")
	decodeWith := func(c vae.Config, emit error, drop string, dims ...int) error {
		ops := tensor.NewOps(context.Background(), meta.New(b), tensor.Unlimited())
		w := without{load(ops, vae.DecoderUnits(smallConfig()), nil, tensor.F32), drop}
		calls := 0
		err := vae.NewDecoder(c, w, tensor.F32).Decode(ops, ops.Empty(tensor.F32, dims...), func(tensor.Tensor) error {
			calls++
			return emit
		})
		if emit != nil && calls != 1 {
			t.Errorf("emit was called %d times after its error", calls-1)
		}
		return err
	}
	encodeWith := func(frames, h, w, floats int) error {
		ops := tensor.NewOps(context.Background(), meta.New(b), tensor.Unlimited())
		weights := load(ops, vae.EncoderUnits(c), nil, tensor.F32)
		vae.NewEncoder(c, weights, tensor.F32).Encode(ops, frames, h, w, func(int) ([]float32, bool) { return make([]float32, floats), false })
		return ops.Err()
	}
	broken := smallConfig()
	broken.Mean = broken.Mean[:3]
	for _, tc := range []struct {
		name string
		err  error
		is   error
		want string
	}{
		{"missing parameter", decodeWith(c, nil, "decoder.middle.0.residual.3.gamma", 2, 2, 2, 16), nil, `"decoder.middle.0.residual.3.gamma" is missing`},
		{"missing bias", decodeWith(c, nil, "decoder.head.2.bias", 2, 2, 2, 16), nil, `"decoder.head.2.bias" is missing`},
		{"emit", decodeWith(c, stop, "", 2, 2, 2, 16), stop, "disk is full"},
		{"latent channels", decodeWith(c, nil, "", 2, 2, 2, 15), tensor.ErrShape, "latent F32[2, 2, 2, 15]; want F32[t, h, w, 16]"},
		{"latent rank", decodeWith(c, nil, "", 2, 2, 16), tensor.ErrShape, "want F32[t, h, w, 16]"},
		{"configuration", decodeWith(broken, nil, "", 2, 2, 2, 16), nil, "3 means"},
		{"no frames", encodeWith(0, 16, 16, 16*16*3), tensor.ErrShape, "0 frames of 16x16; want at least one"},
		{"odd size", encodeWith(1, 16, 20, 16*20*3), tensor.ErrShape, "20x16; want at least one, with sides divisible by 8"},
		{"frame of another size", encodeWith(1, 16, 16, 7), tensor.ErrShape, "frame 0 has 7 floats; want 768 of [16, 16, 3]"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) || (tc.is != nil && !errors.Is(tc.err, tc.is)) {
			t.Errorf("%s: error %v, want one with %q that is %v", tc.name, tc.err, tc.want, tc.is)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *vae.Config)
		want   string // in the error, "" for none
	}{
		{"official", func(*vae.Config) {}, ""},
		{"smallest", func(c *vae.Config) { c.Dim, c.NumResBlocks, c.DimMult = 2, 1, []int{1, 1, 1, 1} }, ""},
		{"dim", func(c *vae.Config) { c.Dim = 0 }, "vae dim is 0"},
		{"odd dim", func(c *vae.Config) { c.Dim, c.DimMult = 3, []int{1, 1, 2, 2} }, "dim_mult[1] is 1"},
		{"huge dim", func(c *vae.Config) { c.Dim = 1 << 40 }, "want 2 to"},
		{"z_dim", func(c *vae.Config) { c.ZDim = -1 }, "z_dim is -1"},
		{"blocks", func(c *vae.Config) { c.NumResBlocks = 0 }, "num_res_blocks is 0"},
		{"stages", func(c *vae.Config) { c.DimMult = []int{1, 2, 4} }, "dim_mult has 3 entries"},
		{"no stages", func(c *vae.Config) { c.DimMult = nil }, "dim_mult has 0 entries"},
		{"many stages", func(c *vae.Config) { c.DimMult = make([]int, 100) }, "dim_mult has 100 entries"},
		{"mult", func(c *vae.Config) { c.DimMult = []int{1, 2, 0, 4} }, "dim_mult[2] is 0"},
		{"boundaries", func(c *vae.Config) { c.TimeDownsample = []bool{true, true} }, "temperal_downsample has 2"},
		{"time stride", func(c *vae.Config) { c.TimeDownsample = []bool{true, true, true} }, "true 3 times"},
		{"mean", func(c *vae.Config) { c.Mean = nil }, "0 means and 16 deviations"},
		{"std", func(c *vae.Config) { c.Std = make([]float32, 16) }, "std[0] is 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := vae.Official()
			tc.change(&c)
			err := c.Validate()
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Validate() = %v, want %q", err, tc.want)
			}
		})
	}
}

// TestUnitsAreTheCheckpoint compares names and shapes with those that were saved.
func TestUnitsAreTheCheckpoint(t *testing.T) {
	for _, name := range checkpoints {
		c, src := openVAE(t, name)
		var got, want []string
		for _, u := range append(vae.EncoderUnits(c), vae.DecoderUnits(c)...) {
			for _, p := range u.Params {
				got = append(got, fmt.Sprint(p.Name, p.Shape))
			}
		}
		for _, name := range src.Names() {
			e, _ := src.Lookup(name)
			want = append(want, fmt.Sprint(name, e.Shape))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: parameters %v, the checkpoint has %v", name, got, want)
		}
	}
}
