package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/vram"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// watchInterval is how often the launcher hears what the rank takes.
const watchInterval = time.Second

// monitor tells the launcher where this rank is and what it takes: when the worker says
// where it is, and each second between.
type monitor struct {
	send  func(*wanrunv1.Progress)
	log   *zap.Logger
	start time.Time
	lib   *vram.Library // nil: nothing is known of a GPU
	gpu   *vram.Device
	why   string // not

	mu      sync.Mutex
	last    *wanrunv1.Progress
	reading vram.Reading
	own     int64 // peaks since the start
	used    int64
	events  []string
	plan    planned
	phases  map[string]*phasePeaks

	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// planned are bytes of this rank by its plan; vram.Unknown before there is one.
type planned struct {
	phases  map[string]int64
	held    int64
	process int64 // anonymous memory of the process, at the most
	device  int64 // of the GPU; Unknown for a rank without one
}

// plannedBytes are what a rank on a backend should take by its plan.
func plannedBytes(r *generate.Result, backend string) planned {
	p := planned{phases: map[string]int64{}, held: r.Peak().Total(), device: vram.Unknown}
	for _, phase := range r.Phases {
		p.phases[phase.Name] = phase.Peak.Total()
	}
	p.process = r.HostWeights() + processBytes
	if backend == "cpu" {
		p.process += p.held
	} else {
		p.device = p.held
	}
	return p
}

// phasePeaks are what was seen in a phase, vram.Unknown if nothing was.
type phasePeaks struct{ anonymous, own, used int64 }

var noPlan = planned{held: vram.Unknown, process: vram.Unknown, device: vram.Unknown}

// gpuConfig says which GPU is the rank's.
type gpuConfig struct {
	Library string  // NVML's
	Visible *string // CUDA_VISIBLE_DEVICES, nil where it is not set
	Local   int     // which of those is this rank's
}

// watchMemory starts a monitor. fail is called when the GPU cannot be trusted any more.
// device is the job's: a rank on the CPU has no GPU.
func watchMemory(c gpuConfig, device string, send func(*wanrunv1.Progress), log *zap.Logger, fail func(error), start time.Time) *monitor {
	m := &monitor{send: send, log: log, start: start, own: vram.Unknown, used: vram.Unknown, plan: noPlan, phases: map[string]*phasePeaks{}}
	if device == "cpu" {
		m.why = "the rank computes on the CPU"
	} else if err := m.openGPU(c); err != nil {
		m.why = err.Error()
		log.Info("nothing is known of the GPU's memory", zap.Error(err))
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.stopped.Go(func() { m.run(ctx) })
	if m.gpu != nil {
		m.stopped.Go(func() { m.watchErrors(ctx, fail) })
	}
	return m
}

func (m *monitor) openGPU(c gpuConfig) (err error) {
	path := c.Library
	if path == "" {
		path = vram.DefaultLibrary
	}
	if m.lib, err = vram.Open(path, os.DirFS("/"), os.Getpid()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = m.lib.Close()
			m.lib, m.gpu = nil, nil
		}
	}()
	devices, err := m.lib.Devices()
	if err != nil {
		return err
	}
	facts := make([]vram.Facts, len(devices))
	for i, d := range devices {
		facts[i] = d.Facts
	}
	index, uuid, err := vram.Choose(c.Visible, c.Local, facts)
	if err != nil {
		return err
	}
	if index == vram.Unknown {
		m.gpu, err = m.lib.Part(uuid)
		return err
	}
	m.gpu = devices[index]
	return nil
}

// close stops the monitor. Nothing is sent when it has returned.
func (m *monitor) close() {
	m.stop()
	m.stopped.Wait()
	if m.lib != nil {
		if err := m.lib.Close(); err != nil {
			m.log.Info("NVML", zap.Error(err))
		}
	}
}

func (m *monitor) run(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.tick()
		}
	}
}

// watchErrors ends the rank when the driver tells of an error after which the GPU cannot
// be trusted, and notes others.
func (m *monitor) watchErrors(ctx context.Context, fail func(error)) {
	err := m.lib.Watch(ctx, []*vram.Device{m.gpu}, func(e vram.Event) {
		m.mu.Lock()
		const most = 16
		if text := e.String(); len(m.events) < most && !slices.Contains(m.events, text) {
			m.events = append(m.events, text)
		}
		m.mu.Unlock()
		if e.Fatal() {
			m.log.Error("GPU", zap.String("event", e.String()))
			fail(ends.Errorf(ends.DeviceFailure, "%s", e))
		} else {
			m.log.Warn("GPU", zap.String("event", e.String()))
		}
	})
	if err != nil {
		m.log.Info("errors of the GPU will not be seen", zap.Error(err))
	}
}

// planIs notes the plan once there is one.
func (m *monitor) planIs(p planned) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plan = p
}

// say sends where the rank is. A phase's ends are measured anew, and what is said between
// them has the GPU's figures of the last second.
func (m *monitor) say(p *wanrunv1.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := m.last.GetPhase() != p.GetPhase() || p.GetDone() == p.GetTotal()
	m.last = p
	m.measure(p, fresh)
	m.send(p)
}

// tick says the last again, with new figures.
func (m *monitor) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		return
	}
	p := proto.CloneOf(m.last)
	p.ElapsedSeconds = time.Since(m.start).Seconds()
	m.measure(p, true)
	m.send(p)
}

// measure fills in what the rank takes. The caller holds mu.
func (m *monitor) measure(p *wanrunv1.Progress, gpu bool) {
	memory := &wanrunv1.Memory{GpuUnknown: m.why}
	p.Memory = memory
	anonymous := int64(vram.Unknown)
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		p.RssBytes = parseStatus(status, "VmRSS:")
		anonymous = statusField(status, "RssAnon:")
		memory.RssAnonymous, memory.RssFile = optional(anonymous), optional(statusField(status, "RssFile:"))
		memory.RssShared, memory.RssPeak = optional(statusField(status, "RssShmem:")), optional(statusField(status, "VmHWM:"))
	}
	if n, ok := m.plan.phases[p.GetPhase()]; ok {
		memory.Planned = &n
	}
	memory.Held, memory.ExpectedAnonymous = optional(m.plan.held), optional(m.plan.process)
	peaks := m.phases[p.GetPhase()]
	if peaks == nil {
		peaks = &phasePeaks{vram.Unknown, vram.Unknown, vram.Unknown}
		m.phases[p.GetPhase()] = peaks
	}
	peaks.anonymous = max(peaks.anonymous, anonymous)
	if m.gpu == nil {
		return
	}
	if gpu {
		m.reading = m.gpu.Read()
	}
	m.own, m.used = max(m.own, m.reading.Own), max(m.used, m.reading.Used)
	peaks.own, peaks.used = max(peaks.own, m.reading.Own), max(peaks.used, m.reading.Used)
	memory.Gpu, memory.GpuUnknown = m.gpuMessage(), m.reading.Problem
}

func (m *monitor) gpuMessage() *wanrunv1.Gpu {
	r, f := m.reading, m.gpu.Facts
	g := &wanrunv1.Gpu{Uuid: f.UUID, Name: f.Name, Pci: f.PCI, Numa: optional32(f.NUMA), Total: optional(r.Total), Used: optional(r.Used),
		Free: optional(r.Free), Own: optional(r.Own), OwnPeak: optional(m.own), UsedPeak: optional(m.used),
		UtilizationPercent: optional32(r.Utilization), TemperatureCelsius: optional32(r.Temperature), PowerMilliwatts: optional32(r.Power),
		Throttling: r.Throttling, EccUncorrected: optional(r.ECCUncorrected), NvlinksUp: optional32(r.LinksUp), NvlinksDown: optional32(r.LinksDown),
		Events: slices.Clone(m.events), ExpectedOwn: optional(m.plan.device)}
	for _, p := range r.Others {
		g.Others = append(g.Others, &wanrunv1.GpuProcess{Pid: int32(p.Pid), Bytes: optional(p.Bytes), Name: p.Name})
	}
	return g
}

// peaksOf are a phase's; what is not known is nil.
func (m *monitor) peaksOf(phase string) (anonymous, own, used *int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.phases[phase]
	if p == nil {
		return nil, nil, nil
	}
	return optional(p.anonymous), optional(p.own), optional(p.used)
}

// holders says who has a GPU's memory, for an error about a lack of it; "" if that is not
// known.
func (m *monitor) holders() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.reading
	if m.gpu == nil || r.Free == vram.Unknown {
		return ""
	}
	text := fmt.Sprintf("%s has %d of %d MiB free", m.gpu.UUID, r.Free>>20, r.Total>>20)
	for _, p := range r.Others {
		text += fmt.Sprintf("; process %d (%s) has ", p.Pid, p.Name)
		if p.Bytes == vram.Unknown {
			text += "an unknown part"
		} else {
			text += fmt.Sprintf("%d MiB", p.Bytes>>20)
		}
	}
	return text
}

func optional(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func optional32(n int) *int32 {
	if n < 0 {
		return nil
	}
	v := int32(n)
	return &v
}

// statusField is parseStatus, but vram.Unknown for a line that is not there.
func statusField(status []byte, key string) int64 {
	if !bytes.Contains(status, []byte("\n"+key)) {
		return vram.Unknown
	}
	return parseStatus(status, key)
}
