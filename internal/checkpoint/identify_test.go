package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestIdentifyDiT(t *testing.T) {
	const image, text = "img_emb.proj.0.weight", "blocks.0.self_attn.q.weight"
	for _, tc := range []struct {
		names     []string
		modelType string
		want      string
	}{
		{[]string{text}, "t2v", ""},
		{[]string{text, image}, "i2v", ""},
		{[]string{text, image}, "flf2v", ""},
		{[]string{text}, "i2v", "those of a t2v model"},
		{[]string{text, image}, "t2v", "those of an i2v or flf2v model"},
		{[]string{"blocks.0.self_attn.q.lora_A.weight"}, "t2v", "LoRA"},
		{[]string{"diffusion_model.blocks.0.self_attn.q.lora_down.weight"}, "i2v", "LoRA"},
		{[]string{"lora_unet_blocks_0_self_attn_q.lora_up.weight"}, "i2v", "LoRA"},
		{[]string{"condition_embedder.time_embedder.linear_1.weight"}, "t2v", "diffusers"},
		{[]string{"blocks.0.attn1.to_q.weight"}, "t2v", "diffusers"},
		{[]string{"model.diffusion_model.blocks.0.self_attn.q.weight"}, "t2v", "ComfyUI"},
		{[]string{"scaled_fp8", text}, "t2v", "scaled fp8"},
		{[]string{text, "blocks.0.self_attn.q.scale_weight"}, "t2v", "scaled fp8"},
		{[]string{"vace_blocks.0.self_attn.q.weight"}, "t2v", "VACE"},
	} {
		got := identifyDiT(tc.names, tc.modelType)
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%q as %s: %q, want %q", tc.names, tc.modelType, got, tc.want)
		}
	}
}

func TestCheckTaskSize(t *testing.T) {
	for _, tc := range []struct {
		dim  int
		task string
		want string
	}{
		{1536, "t2v-1.3B", ""}, {5120, "t2v-14B", ""}, {5120, "t2i-14B", ""}, {96, "t2v-14B", ""},
		{1536, "t2v-14B", "this is a t2v-1.3B checkpoint, you asked for t2v-14B"},
		{5120, "t2v-1.3B", "this is a t2v-14B checkpoint, you asked for t2v-1.3B"},
		{1536, "t2i-14B", "this is a t2v-1.3B checkpoint, you asked for t2i-14B"},
	} {
		c := &Checkpoint{Spec: Spec{DiT: wan.Config{ModelType: "t2v", Dim: tc.dim}}, dir: file.OpenFS("m", nil)}
		err := c.CheckTask(tc.task)
		if tc.want == "" && err == nil {
			continue
		}
		if err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("dim %d for %s: %v, want %q", tc.dim, tc.task, err, tc.want)
		}
	}
}

// fakeSource are tensors without bytes.
type fakeSource map[string]Entry

func (s fakeSource) Names() (names []string) {
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
func (s fakeSource) Lookup(name string) (Entry, bool) { e, ok := s[name]; return e, ok }
func (s fakeSource) Close() error                     { return nil }

func TestCheck(t *testing.T) {
	src := fakeSource{
		"a":         {DType: tensor.BF16, Shape: tensor.Shape{2, 3}},
		"b":         {DType: tensor.F32, Shape: tensor.Shape{3, 2}},
		"c":         {DType: tensor.I64, Shape: tensor.Shape{4}},
		"textual.x": {DType: tensor.F32, Shape: tensor.Shape{1}},
		"extra.x":   {DType: tensor.F32, Shape: tensor.Shape{7}},
	}
	ignore := func(name string) bool { return strings.HasPrefix(name, "textual.") }
	fits := []Want{{"a", tensor.Shape{2, 3}}, {"b", tensor.Shape{3, 2}}}
	if err := Check("model", src, fits, func(name string) bool { return name != "a" && name != "b" }); err != nil {
		t.Errorf("all as wanted: %v", err)
	}
	want := []Want{{"a", tensor.Shape{2, 3}}, {"b", tensor.Shape{2, 3}}, {"c", tensor.Shape{4}}, {"d", tensor.Shape{5, 6}}}
	err := Check("text encoder", src, want, ignore)
	if !errors.Is(err, ErrCheckpoint) {
		t.Fatalf("got %v, want ErrCheckpoint", err)
	}
	const text = `checkpoint: text encoder: the tensors do not fit the model (4 wanted, 5 in the file)
  1 missing:
    d [5, 6]
  1 extra:
    "extra.x" [7]
  1 of another shape:
    b: expected [2, 3], got [3, 2]
  1 of another type:
    c: expected a floating-point type, got I64`
	if err.Error() != text {
		t.Errorf("got\n%v\nwant\n%v", err, text)
	}
}

func TestCheckListsADozen(t *testing.T) {
	src := fakeSource{}
	for i := range 40 {
		src[fmt.Sprintf("w%02d", i)] = Entry{DType: tensor.F32, Shape: tensor.Shape{1}}
	}
	err := Check("model", src, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "40 extra") || !strings.Contains(err.Error(), "and 28 more") ||
		!strings.Contains(err.Error(), `"w11"`) || strings.Contains(err.Error(), `"w12"`) {
		t.Errorf("got %v", err)
	}
}

func TestNotes(t *testing.T) {
	src := fakeSource{"a": {DType: tensor.F64}, "b": {DType: tensor.F64}, "c": {DType: tensor.F8E4M3}, "d": {DType: tensor.BF16}}
	notes := Notes("VAE", src)
	if len(notes) != 2 || !strings.Contains(notes[0], "VAE: 2 tensors are stored as F64") || !strings.Contains(notes[1], "1 tensors are stored as fp8 without scales") {
		t.Errorf("got %q", notes)
	}
	if notes := Notes("VAE", fakeSource{"d": {DType: tensor.BF16}}); notes != nil {
		t.Errorf("got %q for usual types", notes)
	}
}
