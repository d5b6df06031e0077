package golden

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file writes a safetensors file by hand: header, then data.
func file(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func TestLoad(t *testing.T) {
	data := []byte{
		0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x20, 0xc0, // F32 1, -2.5
		0, 0, 0, 0, 0, 0, 0xf8, 0xbf, // F64 -1.5
		0xc0, 0x3f, // BF16 1.5
		0x00, 0x3c, 0x01, 0x00, 0x00, 0xfc, 0xff, 0x7b, // F16 1, 2^-24, -Inf, 65504
		0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // I64 -2
		0xfd, 0xff, 0xff, 0xff, // I32 -3
		7, 255, 1, // U8 7, 255; BOOL true
	}
	header := `{"__metadata__": {"a": "b"},
"f32": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
"f64": {"dtype": "F64", "shape": [1], "data_offsets": [8, 16]},
"bf16": {"dtype": "BF16", "shape": [], "data_offsets": [16, 18]},
"f16": {"dtype": "F16", "shape": [4], "data_offsets": [18, 26]},
"i64": {"dtype": "I64", "shape": [1], "data_offsets": [26, 34]},
"i32": {"dtype": "I32", "shape": [1], "data_offsets": [34, 38]},
"u8": {"dtype": "U8", "shape": [2], "data_offsets": [38, 40]},
"bool": {"dtype": "BOOL", "shape": [1], "data_offsets": [40, 41]},
"none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [41, 41]}}`
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, file(header, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]Tensor{
		"f32":  {Shape: []int{2, 1}, DType: "F32", F32: []float32{1, -2.5}},
		"f64":  {Shape: []int{1}, DType: "F64", F32: []float32{-1.5}},
		"bf16": {Shape: []int{}, DType: "BF16", F32: []float32{1.5}},
		"f16":  {Shape: []int{4}, DType: "F16", F32: []float32{1, 0x1p-24, float32(math.Inf(-1)), 65504}},
		"i64":  {Shape: []int{1}, DType: "I64", I64: []int64{-2}},
		"i32":  {Shape: []int{1}, DType: "I32", I64: []int64{-3}},
		"u8":   {Shape: []int{2}, DType: "U8", U8: []uint8{7, 255}},
		"bool": {Shape: []int{1}, DType: "BOOL", U8: []uint8{1}},
		"none": {Shape: []int{0, 3}, DType: "F32", F32: []float32{}},
	}
	if d := cmp.Diff(want, Load(t, path)); d != "" {
		t.Error(d)
	}
}

func TestHalfAgreesWithItsBits(t *testing.T) {
	for h := range 0x7c00 { // every finite value, in order: the next is always larger
		v := half(uint16(h))
		if half(uint16(h)|0x8000) != -v {
			t.Fatalf("half(%#x): sign is lost", h)
		}
		if h > 0 && v <= half(uint16(h-1)) {
			t.Fatalf("half(%#x) = %v is not above half(%#x)", h, v, h-1)
		}
	}
	if v := half(0x7e00); !math.IsNaN(float64(v)) {
		t.Errorf("half(0x7e00) = %v, want NaN", v)
	}
	if v := half(0x8000); !math.Signbit(float64(v)) {
		t.Errorf("half(0x8000) = %v, want -0", v)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, wantInError string
		data              []byte
	}{
		{"empty", "too few", nil},
		{"header past the end", "does not fit", binary.LittleEndian.AppendUint64(nil, 1<<60)},
		{"no json", "read header", file("{")},
		{"bad entry", `tensor "x"`, file(`{"x": 3}`)},
		{"type", "not known", file(`{"x": {"dtype": "C64", "shape": [], "data_offsets": [0, 0]}}`)},
		{"offsets", "outside", file(`{"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}`, 1)},
		{"shape", "another size", file(`{"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 1]}}`, 1)},
		{"overflow", "another size", file(`{"x": {"dtype": "U8", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}`)},
		{"negative", "another size", file(`{"x": {"dtype": "U8", "shape": [-1, -1], "data_offsets": [0, 1]}}`, 1)},
	} {
		if _, err := parse(tc.data); err == nil || !strings.Contains(err.Error(), tc.wantInError) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.wantInError)
		}
	}
}

// recorder catches what a comparison reports.
type recorder struct {
	testing.TB
	messages []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tc := range []struct {
		name      string
		got, want []float32
		tol       float32
		message   string // "" passes
	}{
		{"equal", []float32{1, 2}, []float32{1, 2}, 0, ""},
		{"within", []float32{1, 2.5}, []float32{1, 2}, 0.5, ""},
		{"empty", nil, nil, 0, ""},
		{"same infinity", []float32{inf}, []float32{inf}, 0, ""},
		{"outside", []float32{1, 3, 7}, []float32{1, 2, 3}, 0.5, "at [2]: got 7, want 3, difference 4, tolerance 0.5; 2 of 3"},
		{"nan got, infinite tolerance", []float32{1, nan}, []float32{1, 2}, inf, "got NaN, want 2"},
		{"nan got, finite tolerance", []float32{1, nan}, []float32{1, 2}, 1e30, "at [1]: got NaN, want 2"},
		{"nan want", []float32{1}, []float32{nan}, 1e30, "got 1, want NaN"},
		{"both nan", []float32{nan}, []float32{nan}, 1e30, "got NaN, want NaN"},
		{"other infinity", []float32{-inf}, []float32{inf}, 1e30, "got -Inf, want +Inf"},
		{"nan tolerance", []float32{1}, []float32{1}, nan, "tolerance NaN"},
		{"length", []float32{1}, []float32{1, 2}, 1, "1 elements, want 2"},
	} {
		r := &recorder{}
		Compare(r, tc.name, tc.got, tc.want, tc.tol)
		if tc.message == "" && len(r.messages) > 0 {
			t.Errorf("%s: failed with %q", tc.name, r.messages)
		}
		if tc.message != "" && (len(r.messages) != 1 || !strings.Contains(r.messages[0], tc.message)) {
			t.Errorf("%s: messages %q, want one with %q", tc.name, r.messages, tc.message)
		}
	}
}

func TestCompareShapeNamesThePlace(t *testing.T) {
	want := make([]float32, 24)
	got := append([]float32{}, want...)
	got[1*12+2*4+3] = 5
	r := &recorder{}
	CompareShape(r, "x", []int{2, 3, 4}, got, want, 1)
	if len(r.messages) != 1 || !strings.Contains(r.messages[0], "[1 2 3] of [2 3 4] (flat 23)") {
		t.Errorf("messages %q do not name [1 2 3]", r.messages)
	}
	r = &recorder{}
	CompareShape(r, "x", []int{5, 5}, got, want, 1e9)
	if len(r.messages) != 1 {
		t.Errorf("a shape of another size passed")
	}
}

func TestPermute(t *testing.T) {
	x := []float32{0, 1, 2, 3, 4, 5} // [2, 3]
	if d := cmp.Diff([]float32{0, 3, 1, 4, 2, 5}, Permute(x, []int{2, 3}, 1, 0)); d != "" {
		t.Error(d)
	}
	long := make([]float32, 2*3*4*5)
	for i := range long {
		long[i] = float32(i)
	}
	there := Permute(long, []int{2, 3, 4, 5}, 1, 2, 3, 0)
	if there[1] != 60 { // [0,0,0,1] of [3,4,5,2] is [1,0,0,0] of the original
		t.Errorf("element 1 is %v, want 60", there[1])
	}
	if d := cmp.Diff(long, Permute(there, []int{3, 4, 5, 2}, 3, 0, 1, 2)); d != "" {
		t.Error(d)
	}
}

func TestMaxDiff(t *testing.T) {
	if d := MaxDiff([]float32{1, 2}, []float32{1, 1.5}); d != 0.5 {
		t.Errorf("MaxDiff = %v, want 0.5", d)
	}
	if d := MaxDiff([]float32{1}, nil); !math.IsInf(d, 1) {
		t.Errorf("MaxDiff of other lengths = %v, want +Inf", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(`{"x": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]}}`, 1, 2, 3, 4))
	f.Add(file(`{"__metadata__": {}, "x": {"dtype": "BOOL", "shape": [0], "data_offsets": [0, 0]}}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, err := parse(data)
		if err != nil {
			return
		}
		for name, e := range tensors {
			if n := len(e.F32) + len(e.I64) + len(e.U8); n != e.Len() {
				t.Errorf("tensor %q of shape %v holds %d elements", name, e.Shape, n)
			}
		}
	})
}
