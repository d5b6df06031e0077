package parallel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/parallel"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
	"go.uber.org/goleak"
)

var _ vae.Slabs = (*parallel.Slabs)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// video are the frames of a latent as they leave the first rank.
type video struct {
	floats []float32
	rgb    []byte
}

// decode returns one rank's decoding of z [n, h, w, C] with the group's slabs, or
// alone without a group. The frames that leave the first rank go to out.
func decode(c vae.Config, src checkpoint.Source, z []float32, n, h, w int, out *video) func(g comm.Group, ops tensor.Ops) error {
	return func(g comm.Group, ops tensor.Ops) error {
		d := vae.NewDecoder(c, weights.Load(ops, vae.DecoderUnits(c), src, tensor.F32), tensor.F32)
		if g != nil {
			slabs, err := parallel.NewSlabs(ops.Context(), g, h, "vae_decode")
			if err != nil {
				return err
			}
			defer slabs.Close()
			d.Slabs = slabs
		}
		first := g == nil || g.Rank() == 0
		if first {
			*out = video{}
		}
		latent := ops.Using(tensor.Latents).FromFloats(z, n, h, w, c.ZDim)
		return d.Decode(ops, latent, func(x tensor.Tensor) error {
			floats, rgb := d.Slabs.Collect(ops, x), d.Slabs.Collect(ops, ops.Quantize(x, false))
			if first {
				out.floats, out.rgb = append(out.floats, ops.Floats(floats)...), append(out.rgb, ops.Bytes(rgb)...)
			} else if !floats.IsNone() || !rgb.IsNone() {
				return fmt.Errorf("rank %d got whole frames", g.Rank())
			}
			return ops.Err()
		})
	}
}

// alone runs fn without a group.
func alone(t *testing.T, fn func(g comm.Group, ops tensor.Ops) error) {
	t.Helper()
	b := cpu.New(2)
	defer b.Close()
	planned, _ := plan(t, 1, func(_ comm.Group, ops tensor.Ops) error { return fn(nil, ops) })
	space, err := tensor.Reserve(b, planned[0])
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	if err := fn(nil, tensor.NewOps(context.Background(), b, space)); err != nil {
		t.Fatal(err)
	}
}

var sizes = []int{1, 2, 3, 4, 5, 8}

// Frames leave the first rank as one rank makes them, to the bit, on groups that
// divide the rows, do not, or have ranks without any.
func TestDecode(t *testing.T) {
	for _, tc := range []struct {
		checkpoint string
		n, h, w    int
	}{{"i2v", 3, 4, 3}, {"flf2v", 2, 3, 2}, {"t2v", 2, 4, 1}, {"t2v_quick", 2, 1, 2}} {
		c, src := openVAE(t, tc.checkpoint)
		latent := golden.Load(t, "../../testdata/vae/"+tc.checkpoint+".safetensors")["latent"]
		z := crop(latent, tc.n, tc.h, tc.w)
		var want video
		alone(t, decode(c, src, z, tc.n, tc.h, tc.w, &want))
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%s %dx%dx%d %d ranks", tc.checkpoint, tc.n, tc.h, tc.w, size), func(t *testing.T) {
				var got video
				inGroup(t, size, decode(c, src, z, tc.n, tc.h, tc.w, &got))
				sameBits(t, "frames", got.floats, want.floats)
				if !slices.Equal(got.rgb, want.rgb) {
					t.Error("the pictures' bytes are not those of one rank")
				}
			})
		}
	}
}

// Every rank gets the latent that one rank makes.
func TestEncode(t *testing.T) {
	const n, h, w = 9, 32, 16
	c, src := openVAE(t, "i2v")
	frames := crop(golden.Load(t, "../../testdata/vae/i2v.safetensors")["video"], 2, h, w)
	encode := func(latents [][]float32) func(g comm.Group, ops tensor.Ops) error {
		return func(g comm.Group, ops tensor.Ops) error {
			e := vae.NewEncoder(c, weights.Load(ops, vae.EncoderUnits(c), src, tensor.F32), tensor.F32)
			rank := 0
			if g != nil {
				slabs, err := parallel.NewSlabs(ops.Context(), g, h/vae.SpaceStride, "vae_encode")
				if err != nil {
					return err
				}
				defer slabs.Close()
				e.Slabs, rank = slabs, g.Rank()
			}
			latents[rank] = ops.Floats(e.Encode(ops, n, h, w, func(i int) ([]float32, bool) {
				i, same := min(i, 1), i > 1
				return frames[i*h*w*3 : (i+1)*h*w*3], same
			}))
			return ops.Err()
		}
	}
	want := make([][]float32, 1)
	alone(t, encode(want))
	for _, size := range sizes {
		t.Run(fmt.Sprintf("%d ranks", size), func(t *testing.T) {
			got := make([][]float32, size)
			inGroup(t, size, encode(got))
			for rank := range got {
				sameBits(t, fmt.Sprintf("latent of rank %d", rank), got[rank], want[0])
			}
		})
	}
}

// TestTraffic counts the bytes of the official decoder at 832x480 on 8 ranks.
func TestTraffic(t *testing.T) {
	const size, n, h, w = 8, 3, 60, 104
	c := vae.Official()
	// Channels of the rows that a neighbour gets, by scale: the inputs of causal
	// convolutions and the small frames before upsampling; and how many frames pass.
	// Before the first upsampling frames are doubled, and before the second.
	row := func(scale, channels, frames int) int64 { return int64(w*scale*channels*frames) * 4 }
	halo := row(1, 16+10*384, n) + row(1, 384, 2*n-1) +
		row(2, 192+5*384, 2*n-1) + row(2, 384, 4*n-3) +
		row(4, 6*192, 4*n-3) + row(4, 192, 4*n-3) +
		row(8, 7*96, 4*n-3)
	_, traffic := plan(t, size, func(g comm.Group, ops tensor.Ops) error {
		slabs, err := parallel.NewSlabs(ops.Context(), g, h, "vae_decode")
		if err != nil {
			return err
		}
		defer slabs.Close()
		d := vae.NewDecoder(c, weights.Load(ops, vae.DecoderUnits(c), nil, tensor.F32), tensor.F32)
		d.Slabs = slabs
		return d.Decode(ops, ops.Using(tensor.Latents).Empty(tensor.F32, n, h, w, c.ZDim), func(x tensor.Tensor) error {
			slabs.Collect(ops, ops.Quantize(x, true))
			return ops.Err()
		})
	})
	for rank, sums := range traffic {
		rows, neighbours := int64(8), int64(2) // 60 = 4*8 + 4*7
		if rank >= 4 {
			rows = 7
		}
		if rank == 0 || rank == size-1 {
			neighbours = 1
		}
		// Keys and values of n frames go to 7 ranks and come from them.
		kv := 2 * n * int64(w*384*4)
		pictures := int64(4*n-3) * 8 * 8 * w * 3
		want := map[string][2]int64{
			"halo":   {neighbours * halo, neighbours * halo},
			"rows":   {7 * rows * kv, (h - rows) * kv},
			"frames": {rows * pictures, 0},
		}
		if rank == 0 {
			want["frames"] = [2]int64{0, (h - rows) * pictures}
		}
		got := map[string][2]int64{}
		for _, s := range sums {
			if s.Phase != "vae_decode" {
				continue
			}
			sum := got[s.Purpose]
			got[s.Purpose] = [2]int64{sum[0] + s.Sent, sum[1] + s.Received}
		}
		for purpose, bytes := range want {
			if got[purpose] != bytes {
				t.Errorf("rank %d, %s: sent and received %v bytes, want %v", rank, purpose, got[purpose], bytes)
			}
		}
		if len(got) != len(want) {
			t.Errorf("rank %d: traffic of %v, want %v", rank, got, want)
		}
	}
}

// TestErrors states what each misuse says.
func TestErrors(t *testing.T) {
	ctx := context.Background()
	err := everyRank(local.New(2, nil), func(g comm.Group) error {
		_, err := parallel.NewSlabs(ctx, g, 0, "vae_decode")
		if !errors.Is(err, tensor.ErrShape) {
			return fmt.Errorf("no rows: error %v", err)
		}
		slabs, err := parallel.NewSlabs(ctx, g, 4, "vae_decode")
		if err != nil {
			return err
		}
		for _, tc := range []struct {
			name string
			call func(ops tensor.Ops)
			want string
		}{
			{"height", func(ops tensor.Ops) { slabs.Rows(ops, 5) }, "latent of 5 rows, where 4 were divided"},
			{"gather", func(ops tensor.Ops) { slabs.Gather(ops, ops.Empty(tensor.F32, 6, 1, 1)) }, "no multiple of the latent's 4"},
			{"collect", func(ops tensor.Ops) { slabs.Collect(ops, ops.Empty(tensor.F32, 1, 3, 1, 1)) }, "from the holder of 2 rows"},
		} {
			b := cpu.New(1)
			space, err := tensor.Reserve(b, [tensor.NumPurposes]int64{tensor.Activations: 1 << 10})
			if err != nil {
				return err
			}
			ops := tensor.NewOps(ctx, b, space)
			tc.call(ops)
			if err := ops.Err(); !errors.Is(err, tensor.ErrShape) || !strings.Contains(err.Error(), tc.want) {
				return fmt.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
			}
			space.Close()
			b.Close()
		}
		return slabs.Close()
	})
	if err != nil {
		t.Error(err)
	}
}

// A sink that fails on the first rank ends the decoding of all.
func TestSinkFails(t *testing.T) {
	c, src := openVAE(t, "i2v")
	full := errors.New("disk is full")
	const n, h, w, size = 3, 4, 2, 3
	errs := make([]error, size)
	everyRank(local.New(size, nil), func(g comm.Group) error {
		b := cpu.New(1)
		defer b.Close()
		space, err := tensor.Reserve(b, [tensor.NumPurposes]int64{64 << 20, 0, 16 << 20, 1 << 20, 16 << 20, 1 << 20})
		if err != nil {
			return err
		}
		defer space.Close()
		ops := tensor.NewOps(context.Background(), b, space)
		slabs, err := parallel.NewSlabs(ops.Context(), g, h, "vae_decode")
		if err != nil {
			return err
		}
		defer slabs.Close()
		d := vae.NewDecoder(c, weights.Load(ops, vae.DecoderUnits(c), src, tensor.F32), tensor.F32)
		d.Slabs = slabs
		latent := ops.Using(tensor.Latents).FromFloats(make([]float32, n*h*w*c.ZDim), n, h, w, c.ZDim)
		errs[g.Rank()] = d.Decode(ops, latent, func(x tensor.Tensor) error {
			slabs.Collect(ops, x)
			if g.Rank() == 0 {
				return full
			}
			return ops.Err()
		})
		return errs[g.Rank()]
	})
	for rank, err := range errs {
		if want := []error{full, comm.ErrAborted, comm.ErrAborted}[rank]; !errors.Is(err, want) {
			t.Errorf("rank %d: error %v, want %v", rank, err, want)
		}
		if err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("rank %d: error %v does not name the cause", rank, err)
		}
	}
}
