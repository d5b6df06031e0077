package picture

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// golden is one tensor of a safetensors file made by the official code.
type golden struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
	data    []byte // of U8
	floats  []float32
}

func readGoldens(t testing.TB, path string) map[string]*golden {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint64(b))
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &raw); err != nil {
		t.Fatal(err)
	}
	out := map[string]*golden{}
	for name, r := range raw {
		if name == "__metadata__" {
			continue
		}
		g := &golden{}
		if err := json.Unmarshal(r, g); err != nil {
			t.Fatal(err)
		}
		g.data = b[8+n+g.Offsets[0] : 8+n+g.Offsets[1]]
		if g.DType == "F32" {
			g.floats = make([]float32, len(g.data)/4)
			for i := range g.floats {
				g.floats[i] = math.Float32frombits(binary.LittleEndian.Uint32(g.data[4*i:]))
			}
		}
		out[name] = g
	}
	return out
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t testing.TB, path ...string) *RGB {
	t.Helper()
	p, err := Decode(readFile(t, path...), Options{})
	if err != nil {
		t.Fatalf("Decode(%s): %v", filepath.Join(path...), err)
	}
	return p
}

// wantSame demands equal pictures and says where they differ most.
func wantSame(t *testing.T, got *RGB, w, h int, want []uint8) {
	t.Helper()
	if got.W != w || got.H != h || len(got.Pix) != len(want) {
		t.Fatalf("got %d x %d (%d bytes), want %d x %d (%d bytes)", got.W, got.H, len(got.Pix), w, h, len(want))
	}
	differ, worst, at := 0, 0, 0
	for i := range want {
		d := int(got.Pix[i]) - int(want[i])
		if d != 0 {
			differ++
		}
		if max(d, -d) > worst {
			worst, at = max(d, -d), i
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d values differ; worst at y=%d x=%d channel %d: got %d, want %d",
			differ, len(want), at/3/w, at/3%w, at%3, got.Pix[at], want[at])
	}
}

// wantNear compares [H, W, 3] with a golden [3, H, W].
func wantNear(t *testing.T, got []float32, want *golden, tolerance float64) {
	t.Helper()
	h, w := want.Shape[1], want.Shape[2]
	if len(got) != 3*h*w {
		t.Fatalf("got %d values, want %d", len(got), 3*h*w)
	}
	worst, at, exact := -1.0, 0, 0
	for i, g := range got {
		r := want.floats[i%3*h*w+i/3]
		d := math.Abs(float64(g) - float64(r))
		if d == 0 {
			exact++
		}
		if !(d <= worst) {
			worst, at = d, i
		}
	}
	r := want.floats[at%3*h*w+at/3]
	t.Logf("max error %.3g, %.2f %% of values exact", worst, 100*float64(exact)/float64(len(got)))
	if !(worst <= tolerance) {
		t.Errorf("max error %g > %g at y=%d x=%d channel %d: got %g, want %g", worst, tolerance, at/3/w, at/3%w, at%3, got[at], r)
	}
}

// The picture files and what Pillow 11.1 (libjpeg-turbo 2.1.5, libwebp 1.5.0)
// makes of them on the way that the official code takes.
func TestFormatsAsOpened(t *testing.T) {
	for name, want := range readGoldens(t, "testdata/formats/rgb_as_opened_HWC_uint8.safetensors") {
		t.Run(name, func(t *testing.T) {
			wantSame(t, mustDecode(t, "formats", name), want.Shape[1], want.Shape[0], want.data)
		})
	}
}

// Every multiplication and addition happens in torch's order with torch's
// rounding, so nothing may differ.
const resizeTolerance = 0

func TestBicubicOfficialFirstFrame(t *testing.T) {
	goldens := readGoldens(t, "testdata/preproc/images.safetensors")
	files := map[string]string{"img0": "img0_160x96.png", "img1": "img1_97x131.png", "img2": "img2_224x224.png", "img3": "img3_301x57.png"}
	for name, want := range goldens {
		t.Run(name, func(t *testing.T) {
			p := mustDecode(t, "preproc", files[name[:4]])
			if name == "img1.tensor" {
				wantNear(t, p.Normalize().Pix, want, 0)
				return
			}
			wantNear(t, BicubicHWC(p, want.Shape[1], want.Shape[2]), want, resizeTolerance)
		})
	}
}

func TestClipInputOfficialRows(t *testing.T) {
	want := readGoldens(t, "testdata/preproc/clip_i2v_rows.safetensors")["img1.preprocessed_row0_and_row111"]
	p := mustDecode(t, "preproc", "img1_97x131.png")
	got := ClipInput(p, 224,
		[3]float32{0.48145466, 0.4578275, 0.40821073}, [3]float32{0.26862954, 0.26130258, 0.27577711})
	rows := append(append([]float32(nil), got[:224*3]...), got[111*224*3:112*224*3]...)
	wantNear(t, rows, want, resizeTolerance)
}

func TestLastFrameOfAnotherSize(t *testing.T) {
	goldens := readGoldens(t, "testdata/preproc/flf_mismatched.safetensors")
	first, last := mustDecode(t, "preproc", "flf_first_120x80.png"), mustDecode(t, "preproc", "flf_last_90x100.png")
	wantNear(t, BicubicHWC(first, 64, 96), goldens["first_resized"], resizeTolerance)
	crop, err := CenterCropCompat(last, first.W, first.H, 0)
	if err != nil {
		t.Fatal(err)
	}
	if crop.W != 133 || crop.H != 120 {
		t.Fatalf("crop is %d x %d, want 133 x 120", crop.W, crop.H)
	}
	wantNear(t, crop.Pix, goldens["last_after_center_crop"], 0)
	wantNear(t, FitLast(crop, 64, 96), goldens["last_resized"], resizeTolerance)
}
