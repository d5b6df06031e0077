package vae_test

import (
	"testing"

	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The official decoder's causal convolutions: the channels of all their inputs, by
// scale of the frame; and those of the convolutions over time.
var (
	causalChannels = map[int]int{1: 16 + 10*384, 2: 192 + 5*384, 4: 6 * 192, 8: 7 * 96}
	timeChannels   = map[int]int{1: 384, 2: 384}
)

// decodeCaches returns the bytes of the caches of a rank with count rows of a
// latent of width w, and so many neighbours: two frames before each convolution,
// with a row of each neighbour where the kernel is 3x3x3.
func decodeCaches(count, neighbours, w int) (bytes int64) {
	for scale, channels := range causalChannels {
		bytes += 2 * int64(count*scale+neighbours) * int64(w*scale) * int64(channels) * 4
	}
	for scale, channels := range timeChannels {
		bytes += 2 * int64(count*scale) * int64(w*scale) * int64(channels) * 4
	}
	return bytes
}

// decodeActivations returns what a rank needs when one that is alone needs alone
// bytes for height rows: its share, and at the last upsampling, from 192 channels,
// a copy of the small frame in which neighbours' rows fit, those rows, and the two
// that each becomes.
func decodeActivations(alone int64, height, count, neighbours, w int) int64 {
	if neighbours == 0 {
		return alone
	}
	small, large := int64(4*w)*192*4, int64(8*w)*192*4 // bytes of a row
	return alone*int64(count)/int64(height) + int64(4*count)*small + int64(neighbours)*(small+2*large)
}

// TestSlabsPeak states what a rank of the official decoder takes at 832x480: its
// share of what one rank takes, and the neighbours' rows.
func TestSlabsPeak(t *testing.T) {
	b, c := newBackend(t), vae.Official()
	const height, w = 60, 104
	decodePeak := func(r rank) [tensor.NumPurposes]int64 {
		return plan(t, b, func(ops tensor.Ops) {
			d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), nil, tensor.F32), tensor.F32)
			d.Slabs = r
			z := ops.Using(tensor.Latents).Empty(tensor.F32, 3, height, w, c.ZDim)
			d.Decode(ops, z, func(tensor.Tensor) error { return nil })
		})
	}
	encodePeak := func(r rank) [tensor.NumPurposes]int64 {
		picture := make([]float32, 8*height*8*w*3)
		return plan(t, b, func(ops tensor.Ops) {
			e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), nil, tensor.F32), tensor.F32)
			e.Slabs = r
			e.Encode(ops, 13, 8*height, 8*w, func(i int) ([]float32, bool) { return picture, i > 1 })
		})
	}
	var alone, encodeAlone [tensor.NumPurposes]int64
	for _, size := range sizes {
		g := newGroup(evenCuts(height, size))
		worst, worstEncode := int64(0), int64(0)
		for i := range size {
			r := rank{g, i}
			got := decodePeak(r)
			if size == 1 {
				alone, encodeAlone = got, encodePeak(r)
			}
			_, count := r.Rows(tensor.Ops{}, height)
			neighbours := 2
			if i == 0 {
				neighbours--
			}
			if i == size-1 {
				neighbours--
			}
			if want := decodeCaches(count, neighbours, w); got[tensor.VAEWorkspace] != want {
				t.Errorf("rank %d of %d, %d rows: caches of %d bytes, want %d", i, size, count, got[tensor.VAEWorkspace], want)
			}
			want := decodeActivations(alone[tensor.Activations], height, count, neighbours, w)
			if d := got[tensor.Activations] - want; d < -4096 || d > 4096 { // vectors, rounded up
				t.Errorf("rank %d of %d, %d rows: activations of %d bytes, want %d", i, size, count, got[tensor.Activations], want)
			}
			worst = max(worst, got[tensor.VAEWorkspace]+got[tensor.Activations])
			if i < 2 { // the last ones are like the first
				e := encodePeak(r)
				worstEncode = max(worstEncode, e[tensor.VAEWorkspace]+e[tensor.Activations])
				// A rank's encoder needs up to 2 rows besides its 8 count at full size, and
				// relatively more of the small frames.
				for _, p := range []tensor.Purpose{tensor.Activations, tensor.VAEWorkspace} {
					if share := encodeAlone[p] * int64(count) / height; e[p] > share+share/10 {
						t.Errorf("encode: rank %d of %d: %v of %d bytes, want at most 10%% above its share of %d", i, size, p, e[p], share)
					}
				}
			}
		}
		all := alone[tensor.VAEWorkspace] + alone[tensor.Activations]
		encodeAll := encodeAlone[tensor.VAEWorkspace] + encodeAlone[tensor.Activations]
		t.Logf("%d ranks: decode at most %.0f MiB a rank, %.3f of one; encode %.0f MiB, %.3f", size,
			float64(worst)/(1<<20), float64(worst)/float64(all), float64(worstEncode)/(1<<20), float64(worstEncode)/float64(encodeAll))
	}
}
