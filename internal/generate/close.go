package generate

import (
	"errors"

	"github.com/wanrun/wanrun/internal/checkpoint"
)

// Close unmaps the weights that Prepare opened; the run is of no more use.
func (r *Run) Close() error {
	var errs []error
	for _, src := range []checkpoint.Source{r.src.dit, r.src.t5, r.src.vae, r.src.clip} {
		if src != nil {
			errs = append(errs, src.Close())
		}
	}
	r.src = sources{}
	return errors.Join(errs...)
}
