package task

import (
	"strings"
	"testing"
)

// wantError fails unless err is nil exactly where all of words is empty, and
// otherwise has each of the words, which | separates.
func wantError(t *testing.T, what string, err error, words string) {
	t.Helper()
	if words == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	if err == nil {
		t.Errorf("%s: no error, want one with %q", what, words)
		return
	}
	for _, w := range strings.Split(words, "|") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: error %q lacks %q", what, err, w)
		}
	}
}

func TestParse(t *testing.T) {
	for _, n := range Names() {
		for _, s := range []string{string(n), strings.ToUpper(string(n)), strings.ToLower(string(n))} {
			if got, err := Parse(s); got != n || err != nil {
				t.Errorf("Parse(%q) = %q, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "i2v", "vace-14B", "i2v-14B "} {
		_, err := Parse(s)
		wantError(t, s, err, "i2v-14B, t2v-14B, t2v-1.3B, t2i-14B, flf2v-14B")
	}
}

func TestInfer(t *testing.T) {
	const image, first, last = 1, 2, 4
	for _, tc := range []struct {
		name      string
		inputs    int
		frames    int
		modelType string
		want      Name
		words     string
	}{
		{"image", image, 81, "", I2V14B, ""},
		{"image and its checkpoint", image, 81, "i2v", I2V14B, ""},
		{"one frame from an image", image, 1, "i2v", I2V14B, ""},
		{"text", 0, 81, "", T2V14B, ""},
		{"text and its checkpoint", 0, 81, "t2v", T2V14B, ""},
		{"text to picture", 0, 1, "", T2I14B, ""},
		{"text to picture and its checkpoint", 0, 1, "t2v", T2I14B, ""},
		{"two frames", first | last, 81, "flf2v", FLF2V14B, ""},
		{"two frames, checkpoint not known", first | last, 81, "", FLF2V14B, ""},

		{"image with a t2v checkpoint", image, 81, "t2v", I2V14B, "this is a t2v checkpoint, you asked for i2v|leave the pictures out"},
		{"image with a flf2v checkpoint", image, 81, "flf2v", I2V14B, "this is a flf2v checkpoint, you asked for i2v|--last-frame"},
		{"frames with an i2v checkpoint", first | last, 81, "i2v", FLF2V14B, "this is a i2v checkpoint, you asked for flf2v|--image"},
		{"i2v checkpoint alone", 0, 81, "i2v", I2V14B, "needs a picture: --image"},
		{"i2v checkpoint alone, one frame", 0, 1, "i2v", I2V14B, "needs a picture: --image"},
		{"flf2v checkpoint alone", 0, 81, "flf2v", FLF2V14B, "--first-frame is missing"},
		{"first frame alone", first, 81, "", FLF2V14B, "--last-frame is missing"},
		{"last frame alone", last, 81, "", FLF2V14B, "--first-frame is missing"},
		{"all pictures", image | first | last, 81, "", FLF2V14B, "not --image"},
		{"another model", 0, 81, "vace", T2V14B, `model type "vace" cannot be run`},
	} {
		got, err := Infer(tc.inputs&image != 0, tc.inputs&first != 0, tc.inputs&last != 0, tc.frames, tc.modelType)
		if got != tc.want {
			t.Errorf("%s: inferred %s, want %s", tc.name, got, tc.want)
		}
		wantError(t, tc.name, err, tc.words)
	}
}

func TestCheckInputs(t *testing.T) {
	for _, tc := range []struct {
		name               Name
		image, first, last bool
		words              string
	}{
		{I2V14B, true, false, false, ""},
		{I2V14B, true, true, false, "not --first-frame"},
		{T2V14B, false, false, false, ""},
		{T2V13B, true, false, false, "takes no picture|i2v-14B"},
		{T2I14B, false, false, true, "takes no picture"},
		{FLF2V14B, false, true, true, ""},
		{FLF2V14B, true, true, true, "not --image"},
	} {
		wantError(t, string(tc.name), tc.name.CheckInputs(tc.image, tc.first, tc.last, ""), tc.words)
	}
}

func TestModelType(t *testing.T) {
	for n, want := range map[Name]string{I2V14B: "i2v", T2V14B: "t2v", T2V13B: "t2v", T2I14B: "t2v", FLF2V14B: "flf2v"} {
		if got := n.ModelType(); got != want {
			t.Errorf("%s runs model type %q, want %q", n, got, want)
		}
	}
}

func TestWithDim(t *testing.T) {
	for _, tc := range []struct {
		name Name
		dim  int
		want Name
	}{{T2V14B, 1536, T2V13B}, {T2V14B, 5120, T2V14B}, {T2V14B, 0, T2V14B}, {I2V14B, 1536, I2V14B}, {T2I14B, 1536, T2I14B}} {
		if got := tc.name.WithDim(tc.dim); got != tc.want {
			t.Errorf("%s with dim %d is %s, want %s", tc.name, tc.dim, got, tc.want)
		}
	}
}
