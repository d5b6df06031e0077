package timeline

import (
	"time"

	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Point is what a rank takes at one moment, a line of the log. Numbers are bytes unless
// their names say otherwise; nil is unknown.
type Point struct {
	At      time.Time `json:"t"`
	Seconds float64   `json:"seconds"` // since the launcher's start
	Attempt int       `json:"attempt"`
	Rank    int       `json:"rank"`
	Phase   string    `json:"phase"`
	Done    int32     `json:"done"` // of Total units of the phase
	Total   int32     `json:"total"`

	Arena     *int64 `json:"arena_bytes"`    // in use of what the rank reserved
	Planned   *int64 `json:"planned_bytes"`  // the peak of the arena in this phase, by the plan
	Held      *int64 `json:"reserved_bytes"` // by the whole run
	RSS       *int64 `json:"rss_bytes"`
	RSSPeak   *int64 `json:"rss_peak_bytes"`
	Anonymous *int64 `json:"rss_anonymous_bytes"`
	File      *int64 `json:"rss_file_bytes"`
	Shared    *int64 `json:"rss_shared_bytes"`
	// Expected is the most that Anonymous should be, by the plan.
	Expected *int64 `json:"expected_anonymous_bytes"`

	GPU        *GPU   `json:"gpu"`
	GPUUnknown string `json:"gpu_unknown,omitempty"` // why nothing is known of a GPU
}

// GPU is a rank's GPU.
type GPU struct {
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	PCI         string    `json:"pci"`
	NUMA        *int32    `json:"numa"`
	Total       *int64    `json:"total_bytes"`
	Used        *int64    `json:"used_bytes"`
	Free        *int64    `json:"free_bytes"`
	Own         *int64    `json:"own_bytes"` // of the rank's process
	OwnPeak     *int64    `json:"own_peak_bytes"`
	UsedPeak    *int64    `json:"used_peak_bytes"`
	Expected    *int64    `json:"expected_own_bytes"`
	Others      []Process `json:"others"`
	Utilization *int32    `json:"utilization_percent"`
	Temperature *int32    `json:"temperature_celsius"`
	Power       *int32    `json:"power_milliwatts"`
	Throttling  []string  `json:"throttling"`
	ECC         *int64    `json:"ecc_uncorrected"`
	LinksUp     *int32    `json:"nvlinks_up"`
	LinksDown   *int32    `json:"nvlinks_down"`
	Events      []string  `json:"events"`
}

// Process is another process with memory on the GPU.
type Process struct {
	Pid   int32  `json:"pid"`
	Name  string `json:"name"`
	Bytes *int64 `json:"bytes"`
}

// known is nil for what cannot be: a number below zero.
func known(n *int64) *int64 {
	if n == nil || *n < 0 {
		return nil
	}
	return n
}

const (
	maxText = 200 // bytes of a text
	maxList = 64  // entries of a list
)

func short(s string) string { return s[:min(len(s), maxText)] }

func shortAll(list []string) []string {
	all := []string{}
	for _, s := range list[:min(len(list), maxList)] {
		all = append(all, short(s))
	}
	return all
}

// fromProgress is what a worker of ours says of itself.
func fromProgress(at time.Time, seconds float64, attempt, rank int, p *wanrunv1.Progress) Point {
	m := p.GetMemory()
	x := Point{At: at, Seconds: seconds, Attempt: attempt, Rank: rank, Phase: short(p.GetPhase()), Done: p.GetDone(), Total: p.GetTotal(),
		GPUUnknown: short(m.GetGpuUnknown())}
	if rss := p.GetRssBytes(); rss > 0 {
		x.RSS = &rss
	}
	if m == nil {
		return x
	}
	x.Held, x.RSSPeak, x.Anonymous, x.File = known(m.Held), known(m.RssPeak), known(m.RssAnonymous), known(m.RssFile)
	x.Shared, x.Expected, x.Planned = known(m.RssShared), known(m.ExpectedAnonymous), known(m.Planned)
	if arena := p.GetDeviceBytes(); x.Held != nil && arena >= 0 {
		x.Arena = &arena
	}
	if g := m.GetGpu(); g != nil {
		x.GPU = newGPU(g)
	}
	return x
}

func newGPU(g *wanrunv1.Gpu) *GPU {
	x := &GPU{UUID: short(g.GetUuid()), Name: short(g.GetName()), PCI: short(g.GetPci()), NUMA: g.Numa, Total: known(g.Total), Used: known(g.Used),
		Free: known(g.Free), Own: known(g.Own), OwnPeak: known(g.OwnPeak), UsedPeak: known(g.UsedPeak), Expected: known(g.ExpectedOwn),
		Utilization: g.UtilizationPercent, Temperature: g.TemperatureCelsius, Power: g.PowerMilliwatts, Throttling: shortAll(g.GetThrottling()),
		ECC: known(g.EccUncorrected), LinksUp: g.NvlinksUp, LinksDown: g.NvlinksDown, Events: shortAll(g.GetEvents()), Others: []Process{}}
	for _, p := range g.GetOthers()[:min(len(g.GetOthers()), maxList)] {
		x.Others = append(x.Others, Process{Pid: p.GetPid(), Name: short(p.GetName()), Bytes: known(p.Bytes)})
	}
	return x
}

// fromSample is what the kernel says of any program's rank.
func fromSample(seconds float64, s node.Sample) Point {
	return Point{At: s.At, Seconds: seconds, Attempt: s.Attempt, Rank: s.Rank, RSS: known(&s.RSS), RSSPeak: known(&s.RSSPeak),
		GPUUnknown: "the launcher does not look at GPUs, and this program says nothing of them"}
}
