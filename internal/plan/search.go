package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/wanrun/wanrun/pkg/sharding"
)

// Choice is what a search may change of a job.
type Choice struct {
	CFG     int    `json:"cfg"`
	Ring    int    `json:"ring"`
	Ulysses int    `json:"ulysses"`
	DiTFSDP bool   `json:"dit_fsdp"`
	T5FSDP  bool   `json:"t5_fsdp"`
	Offload string `json:"offload"` // device, host or file
	DType   string `json:"dtype"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Frames  int    `json:"frames"`
	Steps   int    `json:"steps"`
}

// Ranks is their number.
func (c Choice) Ranks() int { return c.CFG * c.Ring * c.Ulysses }

// Option is a choice and what it takes.
type Option struct {
	Choice  Choice   `json:"choice"`
	Changes []string `json:"changes"` // the flags that make it of the job as it is
	Seconds float64  `json:"seconds"`
	// DeviceBytes are of the rank that takes the most, HostBytes of the node.
	DeviceBytes int64  `json:"device_bytes"`
	HostBytes   int64  `json:"host_bytes"`
	Fits        bool   `json:"fits"`
	Verdict     string `json:"verdict"`
}

// Search is what is to be looked for.
type Search struct {
	Base Choice
	// Fixed are names of flags whose values stay.
	Fixed map[string]bool
	// MaxRanks are the devices that there are; Heads and Tokens are the model's.
	MaxRanks, Heads, Tokens int
	// First ends the search at the first kind of change that fits: a video like the base
	// before a smaller one.
	First bool
	// Most bounds the options that are returned.
	Most int
}

// Where weights may rest, from fast to slow.
var rests = []string{"device", "host", "file"}

// ladders go down from what is asked for.
var (
	sizes  = [][2]int{{1280, 720}, {960, 544}, {832, 480}, {640, 368}, {480, 272}, {320, 192}}
	frames = []int{81, 65, 49, 33, 17, 5, 1}
	steps  = []int{40, 30, 20}
)

// Run evaluates choices and returns those that fit and that no other beats in both time and
// device bytes at the same video, the best first: the video as asked for before others, then
// by time. The plan of a choice comes from evaluate.
func (s Search) Run(evaluate func(Choice) (*Plan, error)) ([]Option, error) {
	var fitting []Option
	try := func(choices []Choice) error {
		for _, c := range choices {
			p, err := evaluate(c)
			if err != nil {
				return fmt.Errorf("plan %v: %w", c.Changes(s.Base), err)
			}
			if o := optionOf(c, s.Base, p); o.Fits {
				fitting = append(fitting, o)
			}
		}
		return nil
	}
	for _, level := range []func() []Choice{
		func() []Choice { return s.machines(s.Base) },
		s.halved, s.smaller, s.shorter, s.both,
	} {
		if len(fitting) > 0 {
			break
		}
		if err := try(level()); err != nil {
			return nil, err
		}
	}
	if !s.First && len(fitting) > 0 {
		if err := try(s.faster(fitting)); err != nil {
			return nil, err
		}
	}
	return s.best(fitting), nil
}

func optionOf(c, base Choice, p *Plan) Option {
	o := Option{Choice: c, Changes: c.Changes(base), Seconds: p.Seconds, Fits: p.Fits, Verdict: p.Verdict}
	for _, r := range p.Ranks {
		o.DeviceBytes = max(o.DeviceBytes, r.DeviceReservedBytes+r.LibraryBytes)
	}
	for _, n := range p.Nodes {
		o.HostBytes = max(o.HostBytes, n.Needs())
	}
	return o
}

// machines are the ways to run the video of c.
func (s Search) machines(c Choice) []Choice {
	var out []Choice
	for _, m := range s.meshes(c) {
		shardings := []bool{false, true}
		if m.Size() == 1 || s.Fixed["dit-fsdp"] {
			shardings = []bool{c.DiTFSDP}
		}
		places := rests
		if s.Fixed["offload"] || s.Fixed["offload-model"] {
			places = []string{c.Offload}
		}
		for _, shard := range shardings {
			for _, place := range places {
				if place == "file" && !shard && m.Size() > 1 && len(shardings) > 1 {
					continue // each rank would read and convert everything
				}
				o := c
				o.CFG, o.Ring, o.Ulysses, o.DiTFSDP, o.Offload = m.CFG, m.Ring, m.Ulysses, shard, place
				if !s.Fixed["t5-fsdp"] {
					o.T5FSDP = shard && m.Size() > 1
				}
				out = append(out, o)
			}
		}
	}
	return out
}

// meshes are arrangements of all devices, of one, and the base's.
func (s Search) meshes(c Choice) []sharding.Mesh {
	base := sharding.Mesh{CFG: c.CFG, Ring: c.Ring, Ulysses: c.Ulysses, FSDP: c.Ranks()}
	list := []sharding.Mesh{base}
	for _, name := range []string{"nproc", "ulysses", "ring", "cfg-parallel", "nnodes"} {
		if s.Fixed[name] {
			return list
		}
	}
	add := func(m sharding.Mesh, err error) {
		if err == nil && m.Check(m.Size(), s.Heads) == nil && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	for _, n := range []int{s.MaxRanks, 1} {
		if n < 1 {
			continue
		}
		add(sharding.Choose(n, s.Heads, s.Tokens, 1))
		if n%2 == 0 {
			m, err := sharding.Choose(n/2, s.Heads, s.Tokens, 1)
			m.CFG, m.FSDP = 2, n
			add(m, err)
		}
	}
	return list
}

// halved are the machines of the base in 16 bits.
func (s Search) halved() []Choice {
	c := s.Base
	if s.Fixed["dtype"] || c.DType != "fp32" {
		return nil
	}
	c.DType = "bf16"
	return s.machines(c)
}

// lean are the machines of c, in 16 bits unless the type is fixed.
func (s Search) lean(c Choice) []Choice {
	if !s.Fixed["dtype"] && c.DType == "fp32" {
		c.DType = "bf16"
	}
	return s.machines(c)
}

// smaller keeps the frames, shorter the size, and both takes fewer frames at the smallest size.
func (s Search) smaller() []Choice {
	var out []Choice
	for _, c := range s.sizesBelow(s.Base) {
		out = append(out, s.lean(c)...)
	}
	return out
}

func (s Search) shorter() []Choice {
	var out []Choice
	for _, c := range s.framesBelow(s.Base) {
		out = append(out, s.lean(c)...)
	}
	return out
}

func (s Search) both() []Choice {
	var out []Choice
	if small := s.sizesBelow(s.Base); len(small) > 0 {
		for _, c := range s.framesBelow(small[len(small)-1]) {
			out = append(out, s.lean(c)...)
		}
	}
	return out
}

func (s Search) sizesBelow(c Choice) (out []Choice) {
	if s.Fixed["size"] || s.Fixed["max-area"] {
		return nil
	}
	for _, size := range sizes {
		if area := size[0] * size[1]; area < c.Width*c.Height {
			o := c
			o.Width, o.Height = size[0], size[1]
			if c.Height > c.Width {
				o.Width, o.Height = o.Height, o.Width
			}
			out = append(out, o)
		}
	}
	return out
}

func (s Search) framesBelow(c Choice) (out []Choice) {
	if s.Fixed["frames"] {
		return nil
	}
	for _, n := range frames {
		if n < c.Frames {
			o := c
			o.Frames = n
			out = append(out, o)
		}
	}
	return out
}

// faster are the quickest of what fits in fewer steps.
func (s Search) faster(fitting []Option) (out []Choice) {
	if s.Fixed["steps"] {
		return nil
	}
	best := slices.MinFunc(fitting, s.compare).Choice
	for _, n := range steps {
		if n < best.Steps {
			c := best
			c.Steps = n
			out = append(out, c)
		}
	}
	return out
}

// video is how much is made: more is better.
func (c Choice) video() int64 { return int64(c.Width) * int64(c.Height) * int64(c.Frames) }

// compare orders by the video, then its steps, then time, then bytes.
func (s Search) compare(a, b Option) int {
	return cmp.Or(cmp.Compare(b.Choice.video(), a.Choice.video()), cmp.Compare(b.Choice.Steps, a.Choice.Steps),
		cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(a.DeviceBytes+a.HostBytes, b.DeviceBytes+b.HostBytes), cmp.Compare(len(a.Changes), len(b.Changes)))
}

// best leaves out what another option of the same video beats.
func (s Search) best(all []Option) []Option {
	slices.SortStableFunc(all, s.compare)
	var kept []Option
	for _, o := range all {
		beaten := slices.ContainsFunc(kept, func(k Option) bool {
			return k.Choice.video() == o.Choice.video() && k.Choice.Steps == o.Choice.Steps && k.Seconds <= o.Seconds &&
				k.DeviceBytes <= o.DeviceBytes && k.HostBytes <= o.HostBytes
		})
		if !beaten && (s.Most <= 0 || len(kept) < s.Most) {
			kept = append(kept, o)
		}
	}
	return kept
}

// Changes returns the flags that turn base into c.
func (c Choice) Changes(base Choice) []string {
	flags := []string{}
	add := func(differs bool, parts ...string) {
		if differs {
			flags = append(flags, parts...)
		}
	}
	mesh := c.CFG != base.CFG || c.Ring != base.Ring || c.Ulysses != base.Ulysses
	add(mesh, "--nproc", strconv.Itoa(c.Ranks()), "--ulysses", strconv.Itoa(c.Ulysses), "--ring", strconv.Itoa(c.Ring), "--cfg-parallel", strconv.Itoa(c.CFG))
	add(c.DiTFSDP != base.DiTFSDP, "--dit-fsdp="+strconv.FormatBool(c.DiTFSDP))
	add(c.T5FSDP != base.T5FSDP, "--t5-fsdp="+strconv.FormatBool(c.T5FSDP))
	add(c.Offload != base.Offload, "--offload", "dit="+c.Offload)
	add(c.DType != base.DType, "--dtype", c.DType)
	add(c.Width != base.Width || c.Height != base.Height, "--size", fmt.Sprintf("%d*%d", c.Width, c.Height))
	add(c.Frames != base.Frames, "--frames", strconv.Itoa(c.Frames))
	add(c.Steps != base.Steps, "--steps", strconv.Itoa(c.Steps))
	return flags
}
