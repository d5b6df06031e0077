//go:build cgo

package vram

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
)

const gib = 1 << 30

// server is a node of GPUs. What a function is missing of, its library lacks.
type server struct {
	mock.Interface
	mock.ExtendedInterface
	devices []nvml.Device
	lacks   []string
}

func (s *server) Extensions() nvml.ExtendedInterface { return s }

func (s *server) LookupSymbol(name string) error {
	if slices.Contains(s.lacks, name) {
		return errors.New("undefined symbol")
	}
	return nil
}

func newServer(devices ...nvml.Device) *server {
	s := &server{devices: devices}
	s.InitFunc = func() nvml.Return { return nvml.SUCCESS }
	s.ShutdownFunc = func() nvml.Return { return nvml.SUCCESS }
	s.SystemGetDriverVersionFunc = func() (string, nvml.Return) { return "550.54", nvml.SUCCESS }
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return len(s.devices), nvml.SUCCESS }
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if s.devices[i] == nil {
			return nil, nvml.ERROR_NO_PERMISSION
		}
		return s.devices[i], nvml.SUCCESS
	}
	s.DeviceGetP2PStatusFunc = func(a, b nvml.Device, _ nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
		return nvml.P2P_STATUS_CHIPSET_NOT_SUPPORTED, nvml.SUCCESS
	}
	return s
}

func newDevice(uuid string) *mock.Device {
	return &mock.Device{
		GetUUIDFunc: func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetNameFunc: func() (string, nvml.Return) { return "NVIDIA H100", nvml.SUCCESS },
		GetPciInfoFunc: func() (nvml.PciInfo, nvml.Return) {
			return nvml.PciInfo{Bus: 0x3b}, nvml.SUCCESS
		},
		GetMemoryInfo_v2Func: func() (nvml.Memory_v2, nvml.Return) {
			return nvml.Memory_v2{Total: 80 * gib, Reserved: gib, Used: 30 * gib, Free: 49 * gib}, nvml.SUCCESS
		},
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 80 * gib, Used: 31 * gib, Free: 49 * gib}, nvml.SUCCESS
		},
		GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 20 * gib}, {Pid: 8, UsedGpuMemory: 9 * gib}, {Pid: 9, UsedGpuMemory: math.MaxUint64}}, nvml.SUCCESS
		},
		GetGraphicsRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 8, UsedGpuMemory: 9 * gib}}, nvml.SUCCESS
		},
		GetUtilizationRatesFunc:          func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 97}, nvml.SUCCESS },
		GetTemperatureFunc:               func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 71, nvml.SUCCESS },
		GetPowerUsageFunc:                func() (uint32, nvml.Return) { return 650_000, nvml.SUCCESS },
		GetTotalEccErrorsFunc:            func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 2, nvml.SUCCESS },
		GetCurrentClocksEventReasonsFunc: func() (uint64, nvml.Return) { return 0x4 | 0x20 | 0x1, nvml.SUCCESS },
		GetNvLinkStateFunc: func(link int) (nvml.EnableState, nvml.Return) {
			switch {
			case link < 17:
				return nvml.FEATURE_ENABLED, nvml.SUCCESS
			case link == 17:
				return nvml.FEATURE_DISABLED, nvml.SUCCESS
			}
			return nvml.FEATURE_DISABLED, nvml.ERROR_INVALID_ARGUMENT
		},
	}
}

var root = fstest.MapFS{
	"sys/bus/pci/devices/0000:3b:00.0/numa_node": {Data: []byte("1\n")},
	"proc/8/comm": {Data: []byte("python3\n")},
}

func devices(t *testing.T, s *server) (*Library, []*Device) {
	t.Helper()
	l, err := open(s, root, 7)
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Devices()
	if err != nil {
		t.Fatal(err)
	}
	return l, all
}

func TestRead(t *testing.T) {
	l, all := devices(t, newServer(newDevice("GPU-a"), nil, newDevice("GPU-c")))
	want := []Facts{{Index: 0, UUID: "GPU-a", Name: "NVIDIA H100", PCI: "0000:3b:00.0", NUMA: 1, Driver: "550.54"},
		{Index: 1, NUMA: Unknown, Driver: "550.54", Problem: codes[nvml.ERROR_NO_PERMISSION]},
		{Index: 2, UUID: "GPU-c", Name: "NVIDIA H100", PCI: "0000:3b:00.0", NUMA: 1, Driver: "550.54"}}
	for i, d := range all {
		if diff := cmp.Diff(want[i], d.Facts); diff != "" {
			t.Errorf("GPU %d:\n%s", i, diff)
		}
	}
	got := all[0].Read()
	wantReading := Reading{Total: 80 * gib, Used: 30 * gib, Free: 49 * gib, Own: 20 * gib, Utilization: 97, Temperature: 71, Power: 650_000,
		Others:     []Process{{8, 9 * gib, "python3"}, {9, Unknown, ""}},
		Throttling: []string{"power limit", "temperature"}, ECCUncorrected: 2, LinksUp: 17, LinksDown: 1}
	if diff := cmp.Diff(wantReading, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(unread(codes[nvml.ERROR_NO_PERMISSION]), all[1].Read()); diff != "" {
		t.Errorf("a GPU that is not ours:\n%s", diff)
	}
	if diff := cmp.Diff([]Peer{{0, 2, false, "the chipset does not let them"}}, l.Peers(all)); diff != "" {
		t.Error(diff)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A library that lacks everything that it may lack leaves all unknown, and none of the
// functions is called: the mock would panic.
func TestReadLacking(t *testing.T) {
	s := newServer(&mock.Device{})
	s.lacks = []string{"nvmlSystemGetDriverVersion", "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2",
		"nvmlDeviceGetPciInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature",
		"nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
		"nvmlDeviceGetNvLinkState", "nvmlDeviceGetP2PStatus", "nvmlEventSetCreate", "nvmlDeviceGetHandleByUUID"}
	l, all := devices(t, s)
	if diff := cmp.Diff(Facts{Index: 0, NUMA: Unknown}, all[0].Facts); diff != "" {
		t.Error(diff)
	}
	r := all[0].Read()
	if r.Problem == "" {
		t.Error("no problem is named")
	}
	if diff := cmp.Diff(unread(r.Problem), r); diff != "" {
		t.Error(diff)
	}
	if l.Peers(all) != nil || l.Watch(t.Context(), all, nil) == nil {
		t.Error("peers or events without their functions")
	}
	if _, err := l.Part("MIG-1"); err == nil {
		t.Error("a part without its function")
	}
}

// What the driver refuses is unknown; the older function stands in for the newer one.
func TestReadRefused(t *testing.T) {
	d := newDevice("GPU-a")
	d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, nvml.ERROR_ARGUMENT_VERSION_MISMATCH }
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
	d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED }
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		return 0, nvml.ERROR_NOT_SUPPORTED
	}
	d.GetNvLinkStateFunc = func(int) (nvml.EnableState, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
	_, all := devices(t, newServer(d))
	r := all[0].Read()
	if r.Used != 31*gib || r.Own != 0 || r.Utilization != Unknown || r.ECCUncorrected != Unknown || r.LinksUp != Unknown || r.LinksDown != Unknown {
		t.Errorf("%+v", r)
	}
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
	if r := all[0].Read(); r.Used != Unknown || !strings.Contains(r.Problem, "fallen off the bus") {
		t.Errorf("a lost GPU: %+v", r)
	}
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return []nvml.ProcessInfo{{Pid: 4000}}, nvml.SUCCESS }
	if r := all[0].Read(); r.Own != Unknown {
		t.Errorf("own bytes where only another is listed: %d", r.Own)
	}
}

func TestWatch(t *testing.T) {
	d := newDevice("GPU-a")
	d.RegisterEventsFunc = func(types uint64, _ nvml.EventSet) nvml.Return {
		if types&nvml.EventTypeDoubleBitEccError != 0 {
			return nvml.ERROR_NOT_SUPPORTED
		}
		return nvml.SUCCESS
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := 0
	set := &mock.EventSet{FreeFunc: func() nvml.Return { return nvml.SUCCESS }}
	set.WaitFunc = func(uint32) (nvml.EventData, nvml.Return) {
		waits++
		switch waits {
		case 1:
			return nvml.EventData{}, nvml.ERROR_TIMEOUT
		case 2:
			return nvml.EventData{Device: d, EventType: nvml.EventTypeXidCriticalError, EventData: 48}, nvml.SUCCESS
		case 3:
			return nvml.EventData{Device: d, EventType: 1 << 40}, nvml.SUCCESS
		case 4:
			return nvml.EventData{Device: d, EventType: nvml.EventTypeDoubleBitEccError}, nvml.SUCCESS
		}
		return nvml.EventData{}, nvml.ERROR_GPU_IS_LOST
	}
	s := newServer(d)
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return set, nvml.SUCCESS }
	l, all := devices(t, s)
	var got []Event
	err := l.Watch(ctx, all, func(e Event) { got = append(got, e) })
	want := []Event{{XID, 48, "GPU-a"}, {DoubleBit, 0, "GPU-a"}, {XID, 79, ""}}
	if diff := cmp.Diff(want, got); diff != "" || err == nil {
		t.Errorf("error %v\n%s", err, diff)
	}
	cancel()
	if err := l.Watch(ctx, all, nil); err != nil {
		t.Errorf("a cancelled watch: %v", err)
	}
	if n := len(set.FreeCalls()); n != 2 {
		t.Errorf("%d sets freed, want 2", n)
	}
}

// A binding that calls what a library lacks ends the process; so do wrong layouts. Both
// show only with a real library.
func TestFakeLibrary(t *testing.T) {
	path := fakeLibrary(t)
	t.Setenv("FAKE_NVML_PID", "self")
	t.Setenv("FAKE_NVML_XID", "79")
	l, err := Open(path, root, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Devices()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Facts{UUID: "GPU-fake", Name: "Fake 1000", PCI: "0000:3b:00.0", NUMA: 1, Driver: "450.80"}, all[0].Facts); diff != "" {
		t.Error(diff)
	}
	want := unread("")
	want.Total, want.Used, want.Free, want.Own = 1000<<20, 400<<20, 600<<20, 300<<20
	if diff := cmp.Diff(want, all[0].Read()); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got Event
	if err := l.Watch(ctx, all, func(e Event) { got = e; cancel() }); err != nil {
		t.Error(err)
	}
	if got != (Event{XID, 79, "GPU-fake"}) || !got.Fatal() || !strings.Contains(got.String(), "fallen off the bus") {
		t.Errorf("event %q", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// fakeLibrary builds the test double.
func fakeLibrary(t *testing.T) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build the fake library with")
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-O1", "-o", path, "testdata/fakenvml.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none.so"), root, 1); err == nil || !strings.Contains(err.Error(), "no NVML") {
		t.Errorf("no library: %v", err)
	}
	if _, err := Open("libc.so.6", root, 1); err == nil || !strings.Contains(err.Error(), "lacks nvmlInit") {
		t.Errorf("another library: %v", err)
	}
	s := newServer()
	s.InitFunc = func() nvml.Return { return nvml.ERROR_LIB_RM_VERSION_MISMATCH }
	if _, err := open(s, root, 1); err == nil || !strings.Contains(err.Error(), "different versions") {
		t.Errorf("versions: %v", err)
	}
	s = newServer()
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 1 << 30, nvml.SUCCESS }
	l, err := open(s, root, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Devices(); err == nil {
		t.Error("2^30 GPUs are believed")
	}
}
