//go:build cgo

package vram

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Library is NVML, opened. Its methods, and those of its devices, may be called at the
// same time.
type Library struct {
	api    nvml.Interface
	root   fs.FS
	pid    int
	driver string
}

// Device is a GPU.
type Device struct {
	Facts
	handle nvml.Device
	lib    *Library
}

// Open opens the library at path, or by a name that the dynamic linker finds. root is
// os.DirFS("/"), from where the names of processes and NUMA nodes are read; pid is the
// process whose memory is its own.
// Errors: ErrNotBuilt; no library; a driver that does not answer.
func Open(path string, root fs.FS, pid int) (*Library, error) {
	// What NVML's binding calls first must be there: a missing symbol would end the
	// process, and nothing can be looked up before that call.
	probe := dl.New(path, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := probe.Open(); err != nil {
		return nil, fmt.Errorf("no NVML: %w", err)
	}
	has := probe.Lookup("nvmlInit_v2") == nil || probe.Lookup("nvmlInit") == nil
	if !has || probe.Lookup("nvmlShutdown") != nil {
		return nil, errors.Join(fmt.Errorf("%q is no NVML: it lacks nvmlInit", path), probe.Close())
	}
	defer func() { _ = probe.Close() }() // the library stays open for the binding
	return open(nvml.New(nvml.WithLibraryPath(path)), root, pid)
}

func open(api nvml.Interface, root fs.FS, pid int) (*Library, error) {
	l := &Library{api: api, root: root, pid: pid}
	if ret := api.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML does not start: %s", l.text(ret))
	}
	if l.has("nvmlSystemGetDriverVersion") {
		if version, ret := api.SystemGetDriverVersion(); ret == nvml.SUCCESS {
			l.driver = version
		}
	}
	return l, nil
}

// Close ends the use of the library. Nothing of it may be called any more.
func (l *Library) Close() error {
	if ret := l.api.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("NVML: shut down: code %d", ret)
	}
	return nil
}

// has returns whether the library has one of the symbols, which are a function's versions.
func (l *Library) has(symbols ...string) bool {
	for _, name := range symbols {
		if l.api.Extensions().LookupSymbol(name) == nil {
			return true
		}
	}
	return false
}

// codes are those that users meet; the binding's own text needs a function of the library.
// Source: nvml.h, nvmlReturn_t.
var codes = map[nvml.Return]string{
	nvml.ERROR_UNINITIALIZED: "it was not started", nvml.ERROR_INVALID_ARGUMENT: "there is no such GPU", nvml.ERROR_NOT_SUPPORTED: "this GPU or driver does not tell",
	nvml.ERROR_NO_PERMISSION: "it is not permitted here, as in a container that was not given this GPU", nvml.ERROR_NOT_FOUND: "it was not found",
	nvml.ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded", nvml.ERROR_TIMEOUT: "the driver did not answer in time",
	nvml.ERROR_LIBRARY_NOT_FOUND: "the library was not found", nvml.ERROR_GPU_IS_LOST: "the GPU is lost: it has fallen off the bus, restart the node",
	nvml.ERROR_RESET_REQUIRED: "the GPU must be reset", nvml.ERROR_OPERATING_SYSTEM: "the operating system does not let it, as a control group does",
	nvml.ERROR_LIB_RM_VERSION_MISMATCH: "library and driver are of different versions: restart the node, or the container with the driver's own library",
	nvml.ERROR_INSUFFICIENT_POWER:      "a power cable of the GPU is missing", nvml.ERROR_IRQ_ISSUE: "the GPU's interrupts do not come",
}

func (l *Library) text(ret nvml.Return) string {
	if text := codes[ret]; text != "" {
		return text
	}
	return "code " + strconv.Itoa(int(ret))
}

// maxDevices bounds how many GPUs a node is believed to have.
const maxDevices = 256

// Devices returns the GPUs of the node in the order of the bus. One that this process may
// not use, or that is lost, is there with its Problem.
func (l *Library) Devices() ([]*Device, error) {
	if !l.has("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount") || !l.has("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex") {
		return nil, errors.New("NVML: this library cannot list GPUs")
	}
	count, ret := l.api.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML: count GPUs: %s", l.text(ret))
	}
	if count < 0 || count > maxDevices {
		return nil, fmt.Errorf("NVML tells of %d GPUs, at most %d are believed", count, maxDevices)
	}
	devices := make([]*Device, count)
	for i := range devices {
		handle, ret := l.api.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			devices[i] = &Device{Facts: Facts{Index: i, NUMA: Unknown, Driver: l.driver, Problem: l.text(ret)}, lib: l}
			continue
		}
		devices[i] = l.device(handle, i)
	}
	return devices, nil
}

// Part returns the part of a GPU (MIG), or the GPU, with a UUID.
func (l *Library) Part(uuid string) (*Device, error) {
	if !l.has("nvmlDeviceGetHandleByUUID") {
		return nil, errors.New("NVML: this library finds no GPU by its UUID")
	}
	handle, ret := l.api.DeviceGetHandleByUUID(uuid)
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML: GPU %.100q: %s", uuid, l.text(ret))
	}
	return l.device(handle, Unknown), nil
}

func (l *Library) device(handle nvml.Device, index int) *Device {
	d := &Device{Facts: Facts{Index: index, NUMA: Unknown, Driver: l.driver}, handle: handle, lib: l}
	if l.has("nvmlDeviceGetUUID") {
		if uuid, ret := handle.GetUUID(); ret == nvml.SUCCESS {
			d.UUID = uuid
		}
	}
	if l.has("nvmlDeviceGetName") {
		if name, ret := handle.GetName(); ret == nvml.SUCCESS {
			d.Name = name
		}
	}
	if l.has("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo") {
		if pci, ret := handle.GetPciInfo(); ret == nvml.SUCCESS {
			d.PCI = address(pci)
		}
	}
	if d.PCI != "" {
		d.NUMA = numaNode(l.root, d.PCI)
	}
	return d
}

// address is a GPU's place on the bus as the kernel writes it; NVML has more digits of the
// domain, in capitals.
func address(pci nvml.PciInfo) string {
	return fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
}

// numaNode is what the kernel says of a device on the bus; it says -1 where there are no
// such nodes or the firmware tells of none.
func numaNode(root fs.FS, pci string) int {
	text, err := fs.ReadFile(root, "sys/bus/pci/devices/"+pci+"/numa_node")
	if err != nil {
		return Unknown
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 0 {
		return Unknown
	}
	return n
}

// bytesOf brings NVML's unsigned numbers into range: what it does not know is all ones.
func bytesOf(n uint64) int64 {
	if n > math.MaxInt64 {
		return Unknown
	}
	return int64(n)
}

// Read reads the GPU now.
func (d *Device) Read() Reading {
	if d.handle == nil {
		return unread(d.Problem)
	}
	r := unread("")
	d.readMemory(&r)
	d.readProcesses(&r)
	d.readHealth(&r)
	d.readLinks(&r)
	return r
}

func (d *Device) readMemory(r *Reading) {
	l := d.lib
	ret := nvml.ERROR_NOT_SUPPORTED
	// The second version leaves out of "used" what the driver keeps for itself.
	if l.has("nvmlDeviceGetMemoryInfo_v2") {
		var m nvml.Memory_v2
		if m, ret = d.handle.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			r.Total, r.Used, r.Free = bytesOf(m.Total), bytesOf(m.Used), bytesOf(m.Free)
			return
		}
	}
	if l.has("nvmlDeviceGetMemoryInfo") {
		var m nvml.Memory
		if m, ret = d.handle.GetMemoryInfo(); ret == nvml.SUCCESS {
			r.Total, r.Used, r.Free = bytesOf(m.Total), bytesOf(m.Used), bytesOf(m.Free)
			return
		}
	}
	r.Problem = "NVML: memory of the GPU: " + l.text(ret)
}

// maxProcesses bounds how many processes of a GPU are kept.
const maxProcesses = 64

func (d *Device) readProcesses(r *Reading) {
	l := d.lib
	if !l.has("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses") {
		return
	}
	all, ret := d.handle.GetComputeRunningProcesses()
	if ret != nvml.SUCCESS {
		return
	}
	if l.has("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses") {
		if more, ret := d.handle.GetGraphicsRunningProcesses(); ret == nvml.SUCCESS {
			all = append(all, more...)
		}
	}
	// Numbers of processes are those of the machine. In a container with own numbers ours
	// is not on the list, and then it is not known what is ours.
	seen := map[uint32]bool{}
	for _, p := range all {
		if seen[p.Pid] {
			continue // it computes and draws: NVML lists it twice, with the same bytes
		}
		seen[p.Pid] = true
		if int64(p.Pid) == int64(l.pid) {
			r.Own = bytesOf(p.UsedGpuMemory)
			continue
		}
		if len(r.Others) < maxProcesses && p.Pid <= math.MaxInt32 {
			r.Others = append(r.Others, Process{Pid: int(p.Pid), Bytes: bytesOf(p.UsedGpuMemory), Name: l.processName(int(p.Pid))})
		}
	}
	if len(all) == 0 {
		r.Own = 0
	}
}

// processName is what the kernel calls a process, "" if it is not of this machine's view.
func (l *Library) processName(pid int) string {
	text, err := fs.ReadFile(l.root, "proc/"+strconv.Itoa(pid)+"/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// slow are the reasons for a low clock that a user can do something about.
// Source: nvml.h, nvmlClocksEventReason*.
var slow = []struct {
	bit  uint64
	text string
}{
	{nvml.ClocksEventReasonSwPowerCap, "power limit"}, {0x8, "hardware slowdown"}, {nvml.ClocksEventReasonSwThermalSlowdown, "temperature"},
	{0x40, "temperature (hardware)"}, {0x80, "power brake"}, {nvml.ClocksEventReasonSyncBoost, "as slow as another GPU"},
}

func (d *Device) readHealth(r *Reading) {
	l := d.lib
	if l.has("nvmlDeviceGetUtilizationRates") {
		if u, ret := d.handle.GetUtilizationRates(); ret == nvml.SUCCESS && u.Gpu <= 100 {
			r.Utilization = int(u.Gpu)
		}
	}
	if l.has("nvmlDeviceGetTemperature") {
		if t, ret := d.handle.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS && t < 1000 {
			r.Temperature = int(t)
		}
	}
	if l.has("nvmlDeviceGetPowerUsage") {
		if p, ret := d.handle.GetPowerUsage(); ret == nvml.SUCCESS && p <= math.MaxInt32 {
			r.Power = int(p)
		}
	}
	if l.has("nvmlDeviceGetTotalEccErrors") {
		if n, ret := d.handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); ret == nvml.SUCCESS {
			r.ECCUncorrected = bytesOf(n)
		}
	}
	reasons, ret := uint64(0), nvml.ERROR_NOT_SUPPORTED
	switch {
	case l.has("nvmlDeviceGetCurrentClocksEventReasons"):
		reasons, ret = d.handle.GetCurrentClocksEventReasons()
	case l.has("nvmlDeviceGetCurrentClocksThrottleReasons"):
		reasons, ret = d.handle.GetCurrentClocksThrottleReasons()
	}
	for _, s := range slow {
		if ret == nvml.SUCCESS && reasons&s.bit != 0 {
			r.Throttling = append(r.Throttling, s.text)
		}
	}
}

// maxLinks is how many NVLinks a GPU may have; those that it has come first.
// Source: nvml.h, NVML_NVLINK_MAX_LINKS.
const maxLinks = nvml.NVLINK_MAX_LINKS

func (d *Device) readLinks(r *Reading) {
	if !d.lib.has("nvmlDeviceGetNvLinkState") {
		return
	}
	for link := range maxLinks {
		state, ret := d.handle.GetNvLinkState(link)
		if ret != nvml.SUCCESS {
			break
		}
		r.LinksUp, r.LinksDown = max(r.LinksUp, 0), max(r.LinksDown, 0)
		if state == nvml.FEATURE_ENABLED {
			r.LinksUp++
		} else {
			r.LinksDown++
		}
	}
}

// Peers tells of each pair of GPUs whether they read each other's memory. A pair of which
// that is not known is left out.
func (l *Library) Peers(devices []*Device) []Peer {
	if !l.has("nvmlDeviceGetP2PStatus") {
		return nil
	}
	var peers []Peer
	for a, d := range devices {
		for b, e := range devices[:a] {
			if d.handle == nil || e.handle == nil {
				continue
			}
			status, ret := l.api.DeviceGetP2PStatus(e.handle, d.handle, nvml.P2P_CAPS_INDEX_READ)
			if ret != nvml.SUCCESS {
				continue
			}
			p := Peer{A: b, B: a, Direct: status == nvml.P2P_STATUS_OK}
			if !p.Direct {
				p.Why = noPeer[status]
			}
			peers = append(peers, p)
		}
	}
	return peers
}

var noPeer = map[nvml.GpuP2PStatus]string{
	nvml.P2P_STATUS_CHIPSET_NOT_SUPPORTED: "the chipset does not let them", nvml.P2P_STATUS_GPU_NOT_SUPPORTED: "these GPUs cannot",
	nvml.P2P_STATUS_IOH_TOPOLOGY_NOT_SUPPORTED: "they are on different bridges", nvml.P2P_STATUS_DISABLED_BY_REGKEY: "the driver's settings forbid it",
	nvml.P2P_STATUS_NOT_SUPPORTED: "not supported", nvml.P2P_STATUS_UNKNOWN: "unknown",
}

// patience is how long one wait for an event may last: a cancel takes as long.
const patience = 200 * time.Millisecond

// Watch tells of errors of the devices until ctx ends, from the goroutine that calls it.
// Errors: the driver cannot tell of events.
func (l *Library) Watch(ctx context.Context, devices []*Device, tell func(Event)) (err error) {
	if !l.has("nvmlEventSetCreate") || !l.has("nvmlEventSetWait_v2", "nvmlEventSetWait") || !l.has("nvmlDeviceRegisterEvents") || !l.has("nvmlEventSetFree") {
		return errors.New("NVML: this library tells of no events")
	}
	set, ret := l.api.EventSetCreate()
	if ret != nvml.SUCCESS {
		return fmt.Errorf("NVML: events: %s", l.text(ret))
	}
	defer func() {
		if ret := set.Free(); ret != nvml.SUCCESS && err == nil {
			err = fmt.Errorf("NVML: end of events: %s", l.text(ret))
		}
	}()
	registered := 0
	for _, d := range devices {
		if d.handle == nil {
			continue
		}
		if ret = d.handle.RegisterEvents(nvml.EventTypeXidCriticalError|nvml.EventTypeDoubleBitEccError, set); ret == nvml.ERROR_NOT_SUPPORTED {
			ret = d.handle.RegisterEvents(nvml.EventTypeXidCriticalError, set) // a GPU without ECC
		}
		if ret == nvml.SUCCESS {
			registered++
		}
	}
	if registered == 0 {
		return fmt.Errorf("NVML: events of no GPU can be had: %s", l.text(ret))
	}
	for ctx.Err() == nil {
		data, ret := set.Wait(uint32(patience / time.Millisecond))
		switch ret {
		case nvml.SUCCESS:
			if e, known := l.event(data); known {
				tell(e)
			}
		case nvml.ERROR_TIMEOUT:
		default:
			if ret == nvml.ERROR_GPU_IS_LOST {
				tell(Event{Kind: XID, Number: 79})
			}
			return fmt.Errorf("NVML: wait for events: %s", l.text(ret))
		}
	}
	return nil
}

func (l *Library) event(data nvml.EventData) (e Event, known bool) {
	switch data.EventType {
	case nvml.EventTypeXidCriticalError:
		e = Event{Kind: XID, Number: data.EventData}
	case nvml.EventTypeDoubleBitEccError:
		e = Event{Kind: DoubleBit}
	default:
		return e, false
	}
	if data.Device != nil && l.has("nvmlDeviceGetUUID") {
		if uuid, ret := data.Device.GetUUID(); ret == nvml.SUCCESS {
			e.UUID = uuid
		}
	}
	return e, true
}
