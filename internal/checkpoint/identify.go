package checkpoint

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// identifyFolder says in words what a folder is that is no Wan2.1 checkpoint but
// well known, "" if nothing is recognised.
func identifyFolder(dir *file.Folder) string {
	for _, f := range []struct{ name, what string }{
		{"high_noise_model", "this is a Wan2.2 A14B checkpoint (two models, for high and low noise); wanrun runs Wan2.1"},
		{"low_noise_model", "this is a Wan2.2 A14B checkpoint (two models, for high and low noise); wanrun runs Wan2.1"},
		{"Wan2.2_VAE.pth", "this is a Wan2.2 checkpoint, with another VAE; wanrun runs Wan2.1"},
		{"model_index.json", "this is a checkpoint in the diffusers layout; wanrun reads the original one (the repository of the same name without -Diffusers)"},
		{"adapter_config.json", "this is a LoRA, a change to a model and not a whole one; give the folder of the Wan2.1 model"},
		{"pytorch_lora_weights.safetensors", "this is a LoRA, a change to a model and not a whole one; give the folder of the Wan2.1 model"},
	} {
		if dir.Has(f.name) {
			return f.what + fmt.Sprintf(" (found %s)", f.name)
		}
	}
	return ""
}

// identifyDiT says in words what is wrong with a set of tensor names that is
// well known but not that of a Wan2.1 model of the given type, "" if nothing is recognised.
func identifyDiT(names []string, modelType string) string {
	hasImage := false
	for _, name := range names {
		var what string
		switch {
		case strings.Contains(name, ".lora_") || strings.HasPrefix(name, "lora_") || strings.Contains(name, ".diff_b"):
			what = "the file is a LoRA, a change to a model and not a whole one; give the Wan2.1 model it was made for"
		case name == "scaled_fp8" || strings.HasSuffix(name, ".scale_weight") || strings.HasSuffix(name, ".weight_scale"):
			what = "the weights are scaled fp8, whose scales wanrun does not apply; give weights in bf16, fp16, fp32 or plain fp8"
		case strings.HasPrefix(name, "condition_embedder.") || strings.Contains(name, ".attn1.to_q."):
			what = "the tensors have their diffusers names; wanrun reads the original ones (the repository of the same name without -Diffusers)"
		case strings.HasPrefix(name, "model.diffusion_model.") || strings.HasPrefix(name, "diffusion_model."):
			what = "the file is one for ComfyUI, whose names begin with diffusion_model; wanrun reads the original layout"
		case strings.HasPrefix(name, "vace_"):
			what = "this is a VACE model, which wanrun does not run"
		case strings.HasPrefix(name, "img_emb."):
			hasImage = true
		}
		if what != "" {
			return what + fmt.Sprintf(" (found tensor %.128q)", name)
		}
	}
	wantImage := modelType == "i2v" || modelType == "flf2v"
	switch {
	case wantImage && !hasImage:
		return fmt.Sprintf("config.json says %s, but the tensors have no image conditioning (img_emb): "+
			"they are those of a t2v model, or of one half of Wan2.2 A14B", modelType)
	case !wantImage && hasImage:
		return fmt.Sprintf("config.json says %s, but the tensors have image conditioning (img_emb): they are those of an i2v or flf2v model", modelType)
	}
	return ""
}

// CheckTask says in words when the checkpoint is for another task than the
// given one, such as "i2v-14B". Errors: ErrCheckpoint.
func (c *Checkpoint) CheckTask(task string) error {
	kind, size, _ := strings.Cut(task, "-")
	want := kind
	if kind == "t2i" { // a picture is a video of one frame
		want = "t2v"
	}
	dit := c.Spec.DiT
	if dit.ModelType != want {
		return failf("%s: this is %s checkpoint, you asked for %s; give a checkpoint of a %s model or --task %s",
			c.dir.Name(), article(dit.ModelType), task, want, dit.ModelType+"-14B")
	}
	for official, dim := range map[string]int{"1.3B": 1536, "14B": 5120} {
		if official != size && dit.Dim == dim && (size == "1.3B" || size == "14B") {
			return failf("%s: this is a %s-%s checkpoint, you asked for %s", c.dir.Name(), dit.ModelType, official, task)
		}
	}
	return nil
}

func article(modelType string) string {
	if modelType == "i2v" {
		return "an i2v"
	}
	return "a " + modelType
}

// Notes says what a reader of the output should know about the types in which
// tensors are stored; nil if all are usual.
func Notes(model string, src Source) []string {
	count, first := map[tensor.DType]int{}, map[tensor.DType]string{}
	for _, name := range src.Names() {
		e, _ := src.Lookup(name)
		if count[e.DType]++; count[e.DType] == 1 {
			first[e.DType] = name
		}
	}
	var notes []string
	if n := count[tensor.F64]; n > 0 {
		notes = append(notes, fmt.Sprintf("%s: %d tensors are stored as F64 and are rounded (%.128q is the first)", model, n, first[tensor.F64]))
	}
	if n := count[tensor.F8E4M3]; n > 0 {
		notes = append(notes, fmt.Sprintf("%s: %d tensors are stored as fp8 without scales and are taken as they are, "+
			"so the result is less exact than with bf16 weights (%.128q is the first)", model, n, first[tensor.F8E4M3]))
	}
	return notes
}
