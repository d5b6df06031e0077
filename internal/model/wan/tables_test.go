package wan

import (
	"math"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
)

// checkpoints are the tiny reference checkpoints and their configurations, from
// their config.json and model_spec.json.
var checkpoints = map[string]Config{
	"i2v":       tiny("i2v", 128, 256, 64, 64, 512, 3, 64),
	"flf2v":     tiny("flf2v", 128, 256, 256, 64, 512, 2, 48),
	"t2v":       tiny("t2v", 96, 256, 64, 48, 512, 3, 0),
	"t2v_quick": tiny("t2v", 96, 192, 32, 32, 64, 2, 0),
}

func tiny(modelType string, dim, ffnDim, freqDim, textDim, textLen, numLayers, clipDim int) Config {
	c := Config{ModelType: modelType, InDim: 16, OutDim: 16, Dim: dim, FFNDim: ffnDim, FreqDim: freqDim, TextDim: textDim,
		TextLen: textLen, NumHeads: 8, NumLayers: numLayers, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6, ClipDim: clipDim}
	if c.HasImage() {
		c.InDim, c.ClipTokens = 36, 257
	}
	return c
}

// tableTol is one rounding to F32, plus the tables' last digit at large angles.
const tableTol = 1e-7

func TestTables(t *testing.T) {
	for name, c := range checkpoints {
		t.Run(name, func(t *testing.T) {
			want := golden.Load(t, "../../../testdata/dit/"+name+"_tables.safetensors")
			pairs := axisPairs(c.HeadDim())
			// A sequence along the frame axis alone; the other axes are at position 0
			// there, so each axis gets a sequence of its own.
			width := c.HeadDim() / 2
			from := 0
			for axis, n := range pairs {
				grid := [3]int{1, 1, 1}
				grid[axis] = 1024
				cos, sin := ropeTables(grid, 0, 1024, c.HeadDim())
				column := func(table []float32, rows []int) []float32 {
					var out []float32
					for _, r := range rows {
						out = append(out, table[r*width+from:r*width+from+n]...)
					}
					return out
				}
				first := make([]int, 64)
				for i := range first {
					first[i] = i
				}
				golden.Compare(t, "cos", column(cos, first), column(want["rope_cos_f64"].F32, first), tableTol)
				golden.Compare(t, "sin", column(sin, first), column(want["rope_sin_f64"].F32, first), tableTol)
				golden.Compare(t, "cos 1023", column(cos, []int{1023}), want["rope_cos_row1023"].F32[from:from+n], tableTol)
				golden.Compare(t, "sin 1023", column(sin, []int{1023}), want["rope_sin_row1023"].F32[from:from+n], tableTol)
				from += n
			}
			var sinusoids []float32
			for _, step := range []int64{0, 1, 63, 417, 500, 999} {
				sinusoids = append(sinusoids, timestepSinusoid(step, c.FreqDim)...)
			}
			golden.Compare(t, "timesteps", sinusoids, want["time_sin_cos_f64_t0_1_63_417_500_999"].F32, tableTol)
		})
	}
}

// Each rank's table is its rows of the whole one, and padding is not rotated.
func TestRopeTablesByRank(t *testing.T) {
	grid, headDim := [3]int{2, 3, 5}, 16
	cos, sin := ropeTables(grid, 0, 30, headDim)
	for start := 0; start < 36; start += 9 {
		c, s := ropeTables(grid, start, 9, headDim)
		for row := range 9 {
			for i := range headDim / 2 {
				wantCos, wantSin := float32(1), float32(0)
				if at := start + row; at < 30 {
					wantCos, wantSin = cos[at*headDim/2+i], sin[at*headDim/2+i]
				}
				if c[row*headDim/2+i] != wantCos || s[row*headDim/2+i] != wantSin {
					t.Fatalf("row %d of the rank from %d, pair %d: %v and %v, want %v and %v",
						row, start, i, c[row*headDim/2+i], s[row*headDim/2+i], wantCos, wantSin)
				}
			}
		}
	}
	// Token (1, 2, 3) by hand: pairs 4, 2, 2 over frame, height and width.
	last := cos[(1*15+2*5+3)*8:][:8]
	for i, angle := range []float64{1, 0.1, 0.01, 0.001, 2, 0.02, 3, 0.03} {
		if math.Abs(float64(last[i])-math.Cos(angle)) > 1e-7 {
			t.Errorf("pair %d of token (1, 2, 3): cosine %v, want %v", i, last[i], math.Cos(angle))
		}
	}
}

func TestSlabs(t *testing.T) {
	for _, tc := range []struct {
		count, slab int
		want        []int // lengths
	}{
		{1, 4, []int{1}}, {4, 4, []int{4}}, {5, 4, []int{2, 3}}, {9, 4, []int{3, 3, 3}}, {3, 1, []int{1, 1, 1}},
	} {
		m := &Model{SlabTokens: tc.slab}
		next, i := 0, 0
		for start, length := range m.slabs(tc.count) {
			if start != next || i >= len(tc.want) || length != tc.want[i] {
				t.Errorf("%d rows by %d: slab %d is [%d, %d), want lengths %v", tc.count, tc.slab, i, start, start+length, tc.want)
				break
			}
			next, i = start+length, i+1
		}
		if next != tc.count {
			t.Errorf("%d rows by %d: slabs end at %d", tc.count, tc.slab, next)
		}
	}
}
