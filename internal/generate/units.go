package generate

import (
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
)

// The parameters of each model of the run's checkpoint.

func (r *Run) t5Units() []nn.Unit   { return umt5.Units(r.spec.T5) }
func (r *Run) clipUnits() []nn.Unit { return clip.Units(r.spec.CLIP) }
func (r *Run) ditUnits() []nn.Unit  { return wan.Units(r.spec.DiT) }

func (r *Run) vaeUnits() []nn.Unit {
	return append(vae.EncoderUnits(r.spec.VAE), vae.DecoderUnits(r.spec.VAE)...)
}
