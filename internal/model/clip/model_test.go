package clip_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func newBackend(t testing.TB) *cpu.Backend {
	b := cpu.New(2)
	t.Cleanup(b.Close)
	return b
}

// run plans fn, reserves exactly what the plan says, runs fn and checks that it
// took that.
func run(t testing.TB, b tensor.Backend, fn func(ops tensor.Ops)) {
	t.Helper()
	unlimited := tensor.Unlimited()
	planning := tensor.NewOps(context.Background(), meta.New(b), unlimited)
	fn(planning)
	if planning.Err() != nil {
		t.Fatal(planning.Err())
	}
	space, err := tensor.Reserve(b, unlimited.Peaks())
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	ops := tensor.NewOps(context.Background(), b, space)
	for p := range tensor.NumPurposes { // what is read before it is written shows
		ops := ops.Using(tensor.Purpose(p))
		ops.Scope(func() {
			if n := space[p].Capacity() / tensor.F32.Size(); n > 0 {
				ops.Fill(ops.Empty(tensor.F32, int(n)), float32(math.NaN()))
			}
		})
	}
	space.ResetPeaks()
	fn(ops)
	if ops.Err() != nil {
		t.Fatal(ops.Err())
	}
	if planned, used := unlimited.Peaks(), space.Peaks(); used != planned {
		t.Errorf("bytes used %v, planned %v", used, planned)
	}
}

// openCLIP returns configuration and tensors of the checkpoint in a folder.
func openCLIP(t testing.TB, path string) (clip.Config, checkpoint.Source) {
	t.Helper()
	ckpt, err := checkpoint.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	src, err := ckpt.CLIP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close(); ckpt.Close() })
	return ckpt.Spec.CLIP, src
}

// openPicture returns a picture as the tower takes it.
func openPicture(t testing.TB, c clip.Config, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rgb, err := picture.Decode(data, picture.Options{MaxPixels: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return picture.ClipInput(rgb, c.ImageSize, c.Mean, c.Std)
}

// encode returns the features on the host, and intermediate results by name.
func encode(t testing.TB, c clip.Config, src checkpoint.Source, compute tensor.DType, hwc []float32) (features []float32, traced map[string][]float32) {
	t.Helper()
	run(t, newBackend(t), func(ops tensor.Ops) {
		traced = map[string][]float32{}
		m := clip.New(c, weights.Load(ops, clip.Units(c), src, compute), compute)
		m.Trace = func(name string, x tensor.Tensor) { traced[name] = ops.Floats(x) }
		features = ops.Floats(m.Encode(ops.Using(tensor.Latents), hwc))
	})
	return features, traced
}

// tolerance is ten times what F32 and F64 runs of the original code differ by.
const tolerance = 1.5e-4

var pictures = map[string]string{"img0": "img0_160x96.png", "img1": "img1_97x131.png", "img3": "img3_301x57.png"}

func TestEncodeAsOriginal(t *testing.T) {
	for _, name := range []string{"i2v", "flf2v"} {
		t.Run(name, func(t *testing.T) {
			c, src := openCLIP(t, "../../../testdata/ckpt_"+name)
			want := golden.Load(t, "../../../testdata/clip/"+name+".safetensors")
			for img, file := range pictures {
				got, traced := encode(t, c, src, tensor.F32, openPicture(t, c, "../../../testdata/images/"+file))
				features := want[img+".features"]
				golden.CompareShape(t, img+".features", features.Shape, got, features.F32, tolerance)
				t.Logf("%s: worst difference %.2g", img, golden.MaxDiff(got, features.F32))
				for _, stage := range []string{"after_pre_norm", "block0"} {
					if x, ok := want[img+"."+stage]; ok {
						golden.CompareShape(t, img+"."+stage, x.Shape, traced[stage], x.F32, tolerance)
					} else if img == "img1" {
						t.Errorf("there is no reference for %s of img1", stage)
					}
				}
			}
		})
	}
}

// TestHalfPrecision compares with the original code's F16 run, which keeps the
// residual stream in F16 too. It differs from its own F32 run by up to 7e-3.
func TestHalfPrecision(t *testing.T) {
	c, src := openCLIP(t, "../../../testdata/ckpt_i2v")
	want := golden.Load(t, "../../../testdata/clip/i2v.safetensors")
	for _, tc := range []struct {
		compute   tensor.DType
		tolerance float32
	}{
		{tensor.F16, 0.014}, // twice 7e-3: both round
		{tensor.BF16, 0.12}, // 8 times coarser than F16
	} {
		for img, file := range pictures {
			got, _ := encode(t, c, src, tc.compute, openPicture(t, c, "../../../testdata/images/"+file))
			features := want[img+".features_fp16"]
			golden.CompareShape(t, fmt.Sprint(tc.compute, " ", img), features.Shape, got, features.F32, tc.tolerance)
			t.Logf("%v %s: worst difference %.2g", tc.compute, img, golden.MaxDiff(got, features.F32))
			if golden.MaxDiff(got, want[img+".features"].F32) < tolerance {
				t.Errorf("%v %s gave the same as F32: it was not used", tc.compute, img)
			}
		}
	}
}

// TestOtherPictureSize runs a tower for 112x112 pictures, 65 tokens, against the
// features that a run of the original code with the same weights used.
func TestOtherPictureSize(t *testing.T) {
	const demo = "../../../examples/demo-model/"
	c, src := openCLIP(t, demo+"checkpoint")
	if c.NumTokens() != 65 {
		t.Fatalf("%d tokens, want 65", c.NumTokens())
	}
	want := golden.Load(t, demo+"expected/case1_red_ball_right.safetensors")
	features, ok := want["clip_fea"]
	got, _ := encode(t, c, src, tensor.F32, openPicture(t, c, demo+"inputs/red_ball.png"))
	if !ok {
		t.Fatalf("no clip_fea among %v", slices.Sorted(maps.Keys(want)))
	}
	golden.CompareShape(t, "clip_fea", []int{65, c.Dim}, got, features.F32, tolerance)
}

// TestUnits compares names and shapes with those that were saved: what is not
// asked for has to be known as unused, and what is used not.
func TestUnits(t *testing.T) {
	for _, path := range []string{"../../../testdata/ckpt_i2v", "../../../testdata/ckpt_flf2v", "../../../examples/demo-model/checkpoint"} {
		c, src := openCLIP(t, path)
		unused := func(name string) bool { return clip.Unused(c, name) }
		if err := weights.Check("image encoder", clip.Units(c), src, unused); err != nil {
			t.Error(err)
		}
		for _, u := range clip.Units(c) {
			for _, p := range u.Params {
				if unused(p.Name) {
					t.Errorf("%s is asked for and called unused", p.Name)
				}
			}
		}
	}
}

func TestCosts(t *testing.T) {
	c := clip.Official()
	c.NumLayers, c.Dim, c.MLPDim, c.NumHeads = 3, 64, 256, 4
	m := meta.New(newBackend(t))
	ops := tensor.NewOps(context.Background(), m, tensor.Unlimited())
	clip.New(c, weights.Load(ops, clip.Units(c), nil, tensor.F32), tensor.F32).Encode(ops, make([]float32, 224*224*3))
	if ops.Err() != nil {
		t.Fatal(ops.Err())
	}
	if got := m.MatMulFLOPs + m.AttentionFLOPs; got != c.FLOPs() {
		t.Errorf("%d FLOPs counted, the formula gives %d", got, c.FLOPs())
	}
	s, d, f := int64(257), int64(64), int64(256)
	if want := 3*14*14*d + d + s*d + 2*d + 2*(4*d*d+2*d*f+9*d+f); c.NumParams() != want {
		t.Errorf("%d parameters, the formula gives %d", c.NumParams(), want)
	}
}

// without hands out weights that lack a parameter.
type without struct {
	nn.Weights
	name string
}

func (w without) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, release := w.Weights.Acquire(ops, unit)
	p = maps.Clone(p)
	delete(p, w.name)
	return p, release
}

func TestErrors(t *testing.T) {
	c := clip.Official()
	c.NumLayers, c.Dim, c.MLPDim, c.NumHeads = 2, 8, 16, 2
	for _, tc := range []struct {
		name, drop string
		floats     int
		want       string
	}{
		{"missing embedding", "pos_embedding", 224 * 224 * 3, `"pos_embedding" is missing`},
		{"missing bias", "attn.proj.bias", 224 * 224 * 3, `"attn.proj.bias" is missing`},
		{"picture of another size", "", 112 * 112 * 3, "picture of 37632 floats; want 150528 for [224, 224, 3]"},
	} {
		ops := tensor.NewOps(context.Background(), meta.New(newBackend(t)), tensor.Unlimited())
		w := without{weights.Load(ops, clip.Units(c), nil, tensor.F32), tc.drop}
		clip.New(c, w, tensor.F32).Encode(ops, make([]float32, tc.floats))
		if err := ops.Err(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *clip.Config)
		want   string // in the error, "" for none
	}{
		{"official", func(*clip.Config) {}, ""},
		{"smallest", func(c *clip.Config) {
			*c = clip.Config{ImageSize: 1, PatchSize: 1, Dim: 1, MLPDim: 1, NumHeads: 1, NumLayers: 1}
		}, ""},
		{"picture", func(c *clip.Config) { c.ImageSize = 225 }, "image_size 225 is not a multiple"},
		{"patch", func(c *clip.Config) { c.PatchSize = 0 }, "patch_size is 0"},
		{"heads", func(c *clip.Config) { c.NumHeads = 3 }, "1280 does not divide over 3 heads"},
		{"layers", func(c *clip.Config) { c.NumLayers = -1 }, "vision_layers is -1"},
		{"huge", func(c *clip.Config) { c.Dim = 1 << 40 }, "want 1 to 65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := clip.Official()
			tc.change(&c)
			err := c.Validate()
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Validate() = %v, want %q", err, tc.want)
			}
		})
	}
}
