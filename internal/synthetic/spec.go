package synthetic

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Tasks are the official models that Official knows.
var Tasks = []string{"t2v-1.3B", "t2v-14B", "i2v-14B", "flf2v-14B"}

// Official returns the hyper-parameters of an official model, one of Tasks.
func Official(task string) (checkpoint.Spec, error) {
	s := checkpoint.Spec{T5: umt5.Official(), VAE: vae.Official(), CLIP: clip.Official()}
	switch task {
	case "t2v-1.3B":
		s.DiT = wan.OfficialT2V1B()
	case "t2v-14B":
		s.DiT = wan.OfficialT2V14B()
	case "i2v-14B":
		s.DiT = wan.OfficialI2V14B()
	case "flf2v-14B":
		s.DiT = wan.OfficialFLF2V14B()
	default:
		return s, fmt.Errorf("no official model is called %q; known are %v", task, Tasks)
	}
	return s, nil
}

// Fit makes what several models must agree on the same in all of them: the width and
// length of the text and the width and number of the picture's tokens.
func Fit(s checkpoint.Spec) checkpoint.Spec {
	s.DiT.TextDim, s.DiT.TextLen = s.T5.Dim, s.T5.TextLen
	if s.DiT.HasImage() {
		s.DiT.ClipDim, s.DiT.ClipTokens = s.CLIP.Dim, s.CLIP.NumTokens()
	}
	return s
}

// Validate returns what is wrong with the hyper-parameters of any model that is written.
func Validate(s checkpoint.Spec) error {
	if err := s.DiT.Validate(); err != nil {
		return err
	}
	if err := s.T5.Validate(); err != nil {
		return err
	}
	if err := s.VAE.Validate(); err != nil {
		return err
	}
	if s.DiT.HasImage() {
		return s.CLIP.Validate()
	}
	return nil
}

// model is one model of a checkpoint and the file that it lies in.
type model struct {
	name  string // of its file; of the DiT the stem of its shards
	units []nn.Unit
	dtype tensor.DType
}

// The files of the official layout.
const (
	ditStem  = "diffusion_pytorch_model"
	t5File   = "models_t5_umt5-xxl-enc-bf16.pth"
	clipFile = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
	vaeFile  = "Wan2.1_VAE.pth"
)

// models returns the models of s, the DiT first, in the types of the official files.
func models(s checkpoint.Spec, dit tensor.DType) []model {
	m := []model{
		{ditStem, wan.Units(s.DiT), dit},
		{t5File, umt5.Units(s.T5), tensor.BF16},
		{vaeFile, append(vae.EncoderUnits(s.VAE), vae.DecoderUnits(s.VAE)...), tensor.F32},
	}
	if s.DiT.HasImage() {
		m = append(m, model{clipFile, clip.Units(s.CLIP), tensor.F16})
	}
	return m
}
