package checkpoint_test

import (
	"math"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestOpenOfficialLayout(t *testing.T) {
	for _, dir := range []string{"../../testdata/ckpt_i2v", "../../testdata/ckpt_t2v", "../../testdata/ckpt_flf2v", "../../testdata/ckpt_t2v_quick",
		"../../examples/demo-model/checkpoint"} {
		t.Run(dir, func(t *testing.T) {
			c, err := checkpoint.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			t.Logf("%+v", c.Spec)
			open := map[string]func() (checkpoint.Source, error){"dit": c.DiT, "t5": c.T5, "vae": c.VAE}
			if c.Spec.DiT.HasImage() {
				open["clip"] = c.CLIP
			}
			for name, fn := range open {
				src, err := fn()
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range src.Names() {
					e, _ := src.Lookup(n)
					buf := make([]float32, e.NumElements())
					if err := checkpoint.Read(tensor.FloatBytes(buf), tensor.F32, e); err != nil {
						t.Fatal(err)
					}
					for _, v := range buf {
						if math.IsNaN(float64(v)) {
							t.Fatalf("%s %s: NaN", name, n)
						}
					}
				}
				t.Log(name, len(src.Names()))
				if err := src.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
