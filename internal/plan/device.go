package plan

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Device are a device's figures. Rates are a second's.
type Device struct {
	Name        string `json:"name"`
	MemoryBytes int64  `json:"memory_bytes"` // that a process can have; 0: host memory
	// PeakFLOPs is the data sheet's, dense, in 16 bits.
	PeakFLOPs float64 `json:"peak_flops"`
	// What runs are assumed to reach.
	MatMulFLOPs    float64 `json:"matmul_flops"`
	AttentionFLOPs float64 `json:"attention_flops"`
	ConvFLOPs      float64 `json:"conv_flops"` // of the VAE, in F32
	MemoryRate     float64 `json:"memory_bytes_per_second"`
	LinkRate       float64 `json:"link_bytes_per_second"`  // to other ranks, each way
	FetchRate      float64 `json:"fetch_bytes_per_second"` // from host memory
	FileRate       float64 `json:"file_bytes_per_second"`  // from files, converted
	// LibraryBytes are taken by the driver's context, libraries' workspace and collectives'
	// buffers: an estimate.
	LibraryBytes int64 `json:"library_bytes"`
	// From says what the rates are: "estimate", "given" or "measured".
	From string `json:"from"`
}

// The shares of a data sheet's peaks that a run is assumed to reach.
const (
	matMulShare    = 0.65
	attentionShare = 0.50
	convShare      = 0.50
	memoryShare    = 0.80
	linkShare      = 0.70
)

// fileRate is that of one rank which reads weights and converts them.
const fileRate = 1.5e9

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// sheet is a row of data sheets: TFLOP/s dense in 16 bits and in F32, GB/s of memory, of the
// link to other devices, and of the bus to the host, each way.
type sheet struct {
	name                              string
	memory                            int64
	half, single, memoryGB, link, bus float64
}

// sheets are from the makers' data sheets. Memory is what the driver reports.
func sheets() []sheet {
	return []sheet{
		{"b200", 179 * gib, 2250, 80, 8000, 900, 50},
		{"h200", 140 * gib, 989, 67, 4800, 450, 50},
		{"h100", 81559 * mib, 989, 67, 3350, 450, 50},
		{"a100", 80 * gib, 312, 19.5, 2039, 300, 25},
		{"a100-40", 40 * gib, 312, 19.5, 1555, 300, 25},
		{"l40s", 46068 * mib, 362, 91.6, 864, 25, 25},
		{"a6000", 49140 * mib, 155, 38.7, 768, 25, 25},
		{"5090", 32607 * mib, 210, 105, 1792, 50, 50},
		{"4090", 24564 * mib, 165, 82.6, 1008, 25, 25},
		{"3090", 24 * gib, 71, 35.6, 936, 25, 25},
		{"a10", 23028 * mib, 125, 31.2, 600, 25, 25},
		{"l4", 23034 * mib, 121, 30.3, 300, 25, 25},
	}
}

// unknownDevice stands for one of which only the memory is given.
const unknownDevice = "a100"

// Known lists the names of devices.
func Known() []string {
	var names []string
	for _, s := range sheets() {
		names = append(names, s.name)
	}
	return names
}

func (s sheet) device() Device {
	const tera, giga = 1e12, 1e9
	return Device{Name: s.name, MemoryBytes: s.memory, PeakFLOPs: s.half * tera, MatMulFLOPs: matMulShare * s.half * tera,
		AttentionFLOPs: attentionShare * s.half * tera, ConvFLOPs: convShare * s.single * tera, MemoryRate: memoryShare * s.memoryGB * giga,
		LinkRate: linkShare * s.link * giga, FetchRate: linkShare * s.bus * giga, FileRate: fileRate, LibraryBytes: 800 * mib, From: "estimate"}
}

// maxDevices bounds a list of devices.
const maxDevices = 1024

// ParseDevices reads a list such as "h100x8", "80GiB,80GiB" or "24GiBx2:150": names or
// sizes, how many, and, behind a colon, the TFLOP/s that matrix products reach.
func ParseDevices(text string) ([]Device, error) {
	var all []Device
	for _, part := range strings.Split(text, ",") {
		d, count, err := parseDevice(strings.ToLower(strings.TrimSpace(part)))
		if err != nil {
			return nil, err
		}
		if len(all)+count > maxDevices {
			return nil, fmt.Errorf("more than %d devices", maxDevices)
		}
		for range count {
			all = append(all, d)
		}
	}
	return all, nil
}

func parseDevice(text string) (Device, int, error) {
	const most = 60
	if len(text) > most {
		return Device{}, 0, fmt.Errorf("%q is not a device", text[:most]+"…")
	}
	name, rate, hasRate := strings.Cut(text, ":")
	count := 1
	if i := strings.LastIndexByte(name, 'x'); i > 0 {
		n, err := strconv.Atoi(name[i+1:])
		if err != nil || n < 1 || n > maxDevices {
			return Device{}, 0, fmt.Errorf("%q: %q devices, want 1 to %d", text, name[i+1:], maxDevices)
		}
		name, count = name[:i], n
	}
	all := sheets()
	i := slices.IndexFunc(all, func(s sheet) bool { return s.name == name })
	if i < 0 {
		bytes, err := ParseBytes(name)
		if err != nil || bytes < mib {
			return Device{}, 0, fmt.Errorf("%q is neither a size, as in 80GiB, nor a device of the table: %s", name, strings.Join(Known(), ", "))
		}
		i = slices.IndexFunc(all, func(s sheet) bool { return s.name == unknownDevice })
		all[i].memory = bytes
		all[i].name = FormatBytes(bytes)
	}
	d := all[i].device()
	if all[i].name == FormatBytes(d.MemoryBytes) {
		d.From = "estimate, with the rates of an " + unknownDevice
	}
	if hasRate {
		tera, err := strconv.ParseFloat(rate, 64)
		if err != nil || !(tera > 0) || tera > 1e6 {
			return Device{}, 0, fmt.Errorf("%q: %q is not a number of TFLOP/s", text, rate)
		}
		scale := tera * 1e12 / d.MatMulFLOPs
		d.MatMulFLOPs, d.AttentionFLOPs, d.ConvFLOPs, d.From = tera*1e12, d.AttentionFLOPs*scale, d.ConvFLOPs*scale, "given"
	}
	return d, count, nil
}

// ParseBytes reads a size, as in 24GiB, 80G or 512M, in powers of 1024.
func ParseBytes(text string) (int64, error) {
	number, unit := strings.ToLower(strings.TrimSpace(text)), int64(1)
	number = strings.TrimSuffix(strings.TrimSuffix(number, "b"), "i")
	for i, letter := range []string{"k", "m", "g", "t"} {
		if cut, ok := strings.CutSuffix(number, letter); ok {
			number, unit = strings.TrimSpace(cut), 1<<(10*(i+1))
			break
		}
	}
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || !(x >= 0) || x*float64(unit) > math.MaxInt64/4 {
		return 0, fmt.Errorf("%q is not a size, as in 512MiB or 80GiB", text)
	}
	return int64(x * float64(unit)), nil
}

// FormatBytes writes bytes for people.
func FormatBytes(n int64) string {
	switch {
	case n >= 100*gib:
		return fmt.Sprintf("%.0f GiB", float64(n)/gib)
	case n >= gib:
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	case n >= mib:
		return fmt.Sprintf("%.0f MiB", float64(n)/mib)
	default:
		return fmt.Sprintf("%d KiB", (n+kib-1)/kib)
	}
}
