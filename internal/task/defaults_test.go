package task

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestOfficial is the official command line's own table.
func TestOfficial(t *testing.T) {
	for _, tc := range []struct {
		name   Name
		area   int // 0: nothing was asked for
		steps  int
		shift  float64
		frames int
		size   Size
	}{
		{I2V14B, 0, 40, 5, 81, Size{1280, 720}},
		{I2V14B, 720 * 1280, 40, 5, 81, Size{1280, 720}},
		{I2V14B, 832 * 480, 40, 3, 81, Size{1280, 720}},
		{I2V14B, 4096, 40, 3, 81, Size{1280, 720}},
		{I2V14B, 832*480 + 1, 40, 5, 81, Size{1280, 720}},
		{T2V14B, 0, 50, 5, 81, Size{1280, 720}},
		{T2V14B, 832 * 480, 50, 5, 81, Size{1280, 720}},
		{T2V13B, 0, 50, 5, 81, Size{832, 480}},
		{T2I14B, 0, 50, 5, 1, Size{1280, 720}},
		{FLF2V14B, 0, 50, 16, 81, Size{1280, 720}},
		{FLF2V14B, 832 * 480, 50, 16, 81, Size{1280, 720}},
	} {
		area, guide, fps, solver, negative := tc.size.Area(), 5.0, 16, "unipc", tc.name.NegativePrompt()
		want := Defaults{Size: &tc.size, MaxArea: &area, FrameNum: &tc.frames, Steps: &tc.steps, Shift: &tc.shift,
			GuideScale: &guide, Solver: &solver, FPS: &fps, NegativePrompt: &negative}
		got := Official(tc.name, tc.area)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s at area %d (-want +got)\n%s", tc.name, tc.area, d)
		}
		if err := got.check(); err != nil {
			t.Errorf("%s: its own defaults are refused: %v", tc.name, err)
		}
		if err := tc.name.CheckFrames(*got.FrameNum); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestSizes(t *testing.T) {
	want := map[Name]string{
		I2V14B:   "720*1280 1280*720 480*832 832*480",
		T2V14B:   "720*1280 1280*720 480*832 832*480",
		T2V13B:   "480*832 832*480",
		T2I14B:   "720*1280 1280*720 480*832 832*480 1024*1024",
		FLF2V14B: "720*1280 1280*720 480*832 832*480",
	}
	for _, n := range Names() {
		var got []string
		hasDefault := false
		for _, s := range n.Sizes() {
			got = append(got, s.String())
			if err := CheckSize(s); err != nil {
				t.Errorf("%s: %v", n, err)
			}
			hasDefault = hasDefault || s == n.DefaultSize()
		}
		if s := strings.Join(got, " "); s != want[n] || !hasDefault {
			t.Errorf("%s has sizes %s, default %v; want %s", n, s, n.DefaultSize(), want[n])
		}
	}
}

// TestNegativePrompts compares with what official runs used for an empty negative prompt.
func TestNegativePrompts(t *testing.T) {
	var runs map[string]struct {
		Kind string
		Used string `json:"negative_used"`
	}
	if err := json.Unmarshal(read(t, "negative_prompts.json"), &runs); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for name, run := range runs {
		for _, n := range Names() {
			if n.Kind() != run.Kind {
				continue
			}
			seen[run.Kind] = true
			if d := cmp.Diff(run.Used, n.NegativePrompt()); d != "" {
				t.Errorf("%s and %s (-official +ours)\n%s", name, n, d)
			}
		}
	}
	if !seen[KindI2V] || !seen[KindT2V] || !seen[KindFLF2V] {
		t.Errorf("only %v were compared", seen)
	}
	if T2I14B.NegativePrompt() != T2V14B.NegativePrompt() {
		t.Error("t2i has another negative prompt than t2v, whose configuration it shares")
	}
}

func TestSpecDefaultsOfDemoModel(t *testing.T) {
	got, err := SpecDefaults(read(t, "demo_model_spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	area, frames, steps, shift, guide, solver, fps, negative := 4096, 13, 12, 3.0, 3.0, "unipc", 8, I2V14B.NegativePrompt()
	want := Defaults{MaxArea: &area, FrameNum: &frames, Steps: &steps, Shift: &shift,
		GuideScale: &guide, Solver: &solver, FPS: &fps, NegativePrompt: &negative}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	merged := got.Over(Official(I2V14B, *got.MaxArea))
	want.Size = &Size{1280, 720}
	if d := cmp.Diff(want, merged); d != "" {
		t.Errorf("over the official ones (-want +got)\n%s", d)
	}
}

func TestSpecDefaults(t *testing.T) {
	for _, tc := range []struct{ name, spec, words string }{
		{"no section", string(read(t, "t2v_model_spec.json")), ""},
		{"empty", `{}`, ""},
		{"nulls", `{"defaults": null, "sample_fps": null}`, ""},
		{"other sections", `{"dit": {"anything": [1, {}]}, "defaults": {}}`, ""},
		{"size", `{"defaults": {"size": "832*480"}}`, ""},
		{"not json", `{`, "model_spec.json"},
		{"nothing", ``, "model_spec.json"},
		{"array", `[]`, "model_spec.json"},
		{"trailing", `{} {}`, "model_spec.json"},
		{"not utf-8", "{\"a\": \"\xff\"}", "UTF-8"},
		{"unknown key", `{"defaults": {"step": 3}}`, `"step"|known: size, max_area`},
		{"section is a list", `{"defaults": [3]}`, "defaults"},
		{"text for a number", `{"defaults": {"sampling_steps": "12"}}`, "sampling_steps"},
		{"fraction", `{"defaults": {"sampling_steps": 12.5}}`, "sampling_steps"},
		{"huge", `{"defaults": {"shift": 1e400}}`, "shift"},
		{"steps", `{"defaults": {"sampling_steps": 0}}`, "nearest is 1"},
		{"frames", `{"defaults": {"frame_num": 80}}`, "77 and 81"},
		{"area", `{"defaults": {"max_area": 3}}`, "nearest is 256"},
		{"shift", `{"defaults": {"shift": -1}}`, "shift"},
		{"guide", `{"defaults": {"guide_scale": 1e9}}`, "nearest is 100"},
		{"solver", `{"defaults": {"solver": "euler"}}`, "euler"},
		{"bad size", `{"defaults": {"size": "831*480"}}`, "832*480"},
		{"fps", `{"sample_fps": 0}`, "nearest is 1"},
		{"long prompt", `{"sample_neg_prompt": "` + strings.Repeat("a", maxNegativeBytes+1) + `"}`, "sample_neg_prompt"},
		{"long file", `{"a": "` + strings.Repeat("a", maxSpecBytes) + `"}`, "at most"},
	} {
		got, err := SpecDefaults([]byte(tc.spec))
		wantError(t, tc.name, err, tc.words)
		if tc.words != "" && got != (Defaults{}) {
			t.Errorf("%s: an error came with values %+v", tc.name, got)
		}
	}
}

func FuzzSpecDefaults(f *testing.F) {
	f.Add(read(f, "demo_model_spec.json"))
	f.Add([]byte(`{"defaults": {"size": "832*480", "shift": 1e300}}`))
	f.Add([]byte(`{"defaults": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := SpecDefaults(data)
		if err != nil {
			return
		}
		full := d.Over(Official(I2V14B, 0))
		if err := full.check(); err != nil {
			t.Errorf("accepted defaults are out of range: %v", err)
		}
	})
}
