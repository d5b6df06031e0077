package generate

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// i2v14B is the largest official checkpoint, without its files.
func i2v14B() checkpoint.Spec {
	return checkpoint.Spec{DiT: wan.OfficialI2V14B(), T5: umt5.Official(), VAE: vae.Official(), CLIP: clip.Official()}
}

// sketch plans a run of the official size on a device that keeps weights row by row.
func sketch(t *testing.T, width, height, frames, steps int, s Spread) []*Result {
	t.Helper()
	job := Job{Kind: "i2v", MaxArea: width * height, FrameNum: frames, Steps: steps, Solver: "unipc", Shift: 5, GuideScale: 5, DType: tensor.BF16,
		First: &picture.RGB{W: width, H: height}, Spread: s}
	r, err := Sketch(job, i2v14B(), 512, 126)
	if err != nil {
		t.Fatal(err)
	}
	plans, err := r.Plan(t.Context(), meta.RowMajor("a GPU"), testHost())
	if err != nil {
		t.Fatal(err)
	}
	return plans
}

func meshOf(n int) sharding.Mesh { return sharding.Mesh{CFG: 1, Ring: 1, Ulysses: n, FSDP: n} }

const gib = 1 << 30

// TestBars holds the plans of i2v-14B in 81 frames to what the project promises.
func TestBars(t *testing.T) {
	for _, tc := range []struct {
		name          string
		width, height int
		spread        Spread
		device        int64 // at most, in every phase
		anonymous     int64 // of a node, at most
	}{
		{"720p on 8 ranks, sharded", 1280, 720, Spread{Mesh: meshOf(8), ShardDiT: true, ShardT5: true}, 12 * gib, 4 * gib},
		{"480p on one rank, weights in host memory", 832, 480, Spread{Mesh: meshOf(1), Rest: fsdp.OnHost}, 24 * gib, 4 * gib},
		{"480p on one rank, weights in the file", 832, 480, Spread{Mesh: meshOf(1), Rest: fsdp.InFile}, 24 * gib, 4 * gib},
	} {
		plans := sketch(t, tc.width, tc.height, 81, 40, tc.spread)
		anonymous, hostWeights := int64(0), int64(0)
		for rank, p := range plans {
			most := int64(0)
			for _, phase := range p.Phases {
				if n := phase.Peak.Total(); n > tc.device {
					t.Errorf("%s: rank %d takes %d bytes in %s, want at most %d", tc.name, rank, n, phase.Name, tc.device)
				}
				most = max(most, phase.Work.HostArrays)
			}
			if n := p.Peak().Total(); n > tc.device {
				t.Errorf("%s: rank %d reserves %d bytes, want at most %d", tc.name, rank, n, tc.device)
			}
			anonymous += 2*most + 64<<20 // garbage doubles a heap, and a process has a base
			hostWeights += p.HostWeights()
		}
		if anonymous > tc.anonymous {
			t.Errorf("%s: %d bytes of host memory beside the weights, want at most %d", tc.name, anonymous, tc.anonymous)
		}
		if once := wan.OfficialI2V14B().WeightBytes(tensor.BF16); hostWeights > once*101/100 {
			t.Errorf("%s: %d bytes of weights in host memory, where the model has %d", tc.name, hostWeights, once)
		}
		t.Logf("%s: reserves %.2f GiB a rank, %.2f GiB of heaps, %.2f GiB of weights on the host", tc.name, float64(plans[0].Peak().Total())/gib,
			float64(anonymous)/gib, float64(hostWeights)/gib)
	}
}

// TestDecodePeak: the decode of more frames takes no more than their latents more.
func TestDecodePeak(t *testing.T) {
	decode := func(frames int) PhaseResult {
		p := sketch(t, 832, 480, frames, 1, Spread{Mesh: meshOf(1), Rest: fsdp.InFile})[0]
		return p.Phases[len(p.Phases)-1]
	}
	short, long := decode(33), decode(161)
	if short.Name != PhaseVAEDecode || short.Peak[tensor.VAEWorkspace] != long.Peak[tensor.VAEWorkspace] {
		t.Errorf("%s takes %v for 33 frames, %v for 161", short.Name, short.Peak, long.Peak)
	}
	latents := int64(161-33) / 4 * 60 * 104 * 16 * 4 // F32
	if more := long.Peak.Total() - short.Peak.Total(); more > 3*latents {
		t.Errorf("128 frames more take %d bytes, want at most three times their latents, %d", more, 3*latents)
	}
}

// TestWork holds the counts of a plan to the formulas of the models.
func TestWork(t *testing.T) {
	const steps = 7
	for _, ranks := range []int{1, 2, 8} {
		s := Spread{Mesh: meshOf(ranks), ShardDiT: true, ShardT5: true}
		var flops, fetched int64
		tokens := 0
		var sent = map[string]int64{}
		for _, p := range sketch(t, 832, 480, 81, steps, s) {
			tokens = wan.OfficialI2V14B().NumTokens(21, p.Height/8, p.Width/8)
			for _, phase := range p.Phases {
				if phase.Name != PhaseDenoise {
					continue
				}
				flops += phase.Work.MatMulFLOPs + phase.Work.AttentionFLOPs
				fetched += phase.Work.FromFile
				for _, traffic := range phase.Work.Traffic {
					sent[traffic.Purpose] += traffic.Sent
				}
			}
		}
		c := wan.OfficialI2V14B()
		shared := c.ForwardSharedFLOPs(tokens)
		// Every rank makes the keys and values of cross-attention for itself.
		want := int64(ranks)*c.PrepareFLOPs(2) + steps*(2*c.ForwardFLOPs(tokens)-shared)
		if ratio := float64(flops) / float64(want); math.Abs(ratio-1) > 0.001 {
			t.Errorf("%d ranks: %d FLOPs, the formula says %d (ratio %.5f)", ranks, flops, want, ratio)
		}
		if bytes := c.WeightBytes(tensor.BF16); fetched < bytes || fetched > bytes*102/100 {
			t.Errorf("%d ranks: %d bytes of weights fetched, want %d", ranks, fetched, bytes)
		}
		// Each rank gets (P-1)/P of each unit, once a step.
		perStep := int64(ranks-1) * nnBytes(c)
		if got := sent["weights"]; got < steps*perStep || got > (steps+1)*perStep*102/100 {
			t.Errorf("%d ranks: %d bytes of weights sent, want about %d a step", ranks, got, perStep)
		}
	}
}

// nnBytes are the bytes of what each step uses.
func nnBytes(c wan.Config) (n int64) {
	for _, u := range wan.ForwardUnits(c) {
		for _, p := range u.Params {
			k, _ := p.Shape.NumElements()
			n += 2 * k
		}
	}
	return n
}

func TestSketchErrors(t *testing.T) {
	job := Job{Kind: "t2v", Width: 832, Height: 480, FrameNum: 5, Steps: 1, Solver: "unipc", Shift: 5}
	for _, tc := range []struct {
		change func(*Job)
		tokens int
		want   string
	}{
		{func(*Job) {}, 0, "prompts of 0"},
		{func(*Job) {}, 513, "want 1 to 512"},
		{func(j *Job) { j.Width = 0 }, 5, "a video of 0 x 480"},
		{func(j *Job) { j.Kind = "i2v" }, 5, "needs a first picture"},
	} {
		j := job
		tc.change(&j)
		if _, err := Sketch(j, i2v14B(), tc.tokens, 5); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
}

// TestLoneOffload: the weights of one rank may rest in host memory or in the file; the
// video has the same bytes, and the weights' arena no more than a unit.
func TestLoneOffload(t *testing.T) {
	c := readCase(t, "../../testdata/e2e/i2v_9f_unipc.json")
	var first []byte
	weights := map[fsdp.Rest]int64{}
	for _, rest := range []fsdp.Rest{fsdp.OnDevice, fsdp.OnHost, fsdp.InFile} {
		job := c.job(t)
		job.Spread = Spread{Mesh: meshOf(1), Rest: rest}
		r := execute(t, "../../testdata/ckpt_"+c.Ckpt, job)
		for _, p := range r.Phases {
			if p.Name == PhaseDenoise {
				weights[rest] = p.Peak[tensor.Weights]
			}
		}
		if host := r.HostWeights(); (host > 0) != (rest == fsdp.OnHost) {
			t.Errorf("at rest %d: %d bytes in host memory", rest, host)
		}
		video := job.Dump.arrays["video_uint8_FHWC"].data
		if first == nil {
			first = video
		}
		if len(video) == 0 || !bytes.Equal(video, first) {
			t.Errorf("at rest %d: another video", rest)
		}
	}
	if weights[fsdp.OnHost] >= weights[fsdp.OnDevice] || weights[fsdp.InFile] != weights[fsdp.OnHost] {
		t.Errorf("weights on the device by place of rest: %v", weights)
	}
}
