package generate

import (
	"github.com/wanrun/wanrun/internal/media/picture"
)

// Pictures as the models get them. A plan needs their sizes alone.

// denoiseArrays is how many arrays as large as the latent a rank holds while it denoises,
// beside the latent: the predictions of both branches, its own again where ranks exchange
// them, and the solver's history of at most three.
func (e *execution) denoiseArrays() int {
	if e.ranks.branches != nil {
		return 3 + 3
	}
	return 2 + 3
}

func (e *execution) clipInput(p picture.Planes) []float32 {
	c := e.spec.CLIP
	if e.planning {
		return make([]float32, c.ImageSize*c.ImageSize*3)
	}
	return picture.ClipInput(p, c.ImageSize, c.Mean, c.Std)
}

func (e *execution) resize(p *picture.RGB, h, w int) []float32 {
	if e.planning {
		return make([]float32, h*w*3)
	}
	return picture.BicubicHWC(p, h, w)
}

func (e *execution) fitLast(p picture.Planes, h, w int) []float32 {
	if e.planning {
		return make([]float32, h*w*3)
	}
	return picture.FitLast(p, h, w)
}
