package kernels

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// hostCompiler returns a C++ compiler that knows C++17, or skips and says why.
func hostCompiler(t testing.TB) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CXX"), "g++", "c++", "clang++"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("kernels were not run on the host: no C++ compiler ($CXX, g++, c++, clang++); install g++")
	return ""
}

// kernelPattern finds a kernel and its launch bound in a source.
var kernelPattern = regexp.MustCompile(`(?m)^KERNEL\((\d+)\)\s+(\w+)\(`)

// instancePattern finds kernels that a macro makes: its third argument on, and the bound
// of the macro that is a number or WARPS * 32.
var instancePattern = regexp.MustCompile(`(?m)^(ATTENTION|CONV)\((\w+), [^)]*?(?:, (\d+))?\)$`)

// entries returns the kernels of a source and the most threads of each.
func entries(source string) map[string]int {
	found := map[string]int{}
	var threads int
	for _, m := range kernelPattern.FindAllStringSubmatch(source, -1) {
		if m[2] != "name" {
			fmt.Sscan(m[1], &threads)
			found[m[2]] = threads
		}
	}
	for _, m := range instancePattern.FindAllStringSubmatch(source, -1) {
		threads = 128 // as CONV has it
		if m[1] == "ATTENTION" {
			fmt.Sscan(m[3], &threads)
			threads *= 32
		}
		found[m[2]] = threads
	}
	return found
}

// unit returns the host program's part for a module: its source and an entry for each kernel.
func unit(source string) string {
	var b strings.Builder
	b.WriteString("#define WANRUN_HOST\n#line 1 \"kernel\"\n" + source)
	for name, threads := range entries(source) {
		fmt.Fprintf(&b, "\nstatic host::Entry<&%s> entry_%s(%q, %d);", name, name, name, threads)
	}
	return b.String() + "\n"
}

// buildHost compiles engine, server and modules into a program, with parts already
// compiled taken from the cache.
func buildHost(t testing.TB, modules map[Module]string) string {
	t.Helper()
	cxx := hostCompiler(t)
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(here, "../../../.cache/kernels")
	if os.MkdirAll(cache, 0o755) != nil {
		cache = t.TempDir() // a checkout that cannot be written
	}
	flags := []string{"-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-pthread", "-I", here, "-I", filepath.Join(here, "host")}
	var shared strings.Builder
	for _, name := range []string{"port.h", "types.h", "host/host.h", "host/engine.h"} {
		shared.WriteString(read(t, name))
	}
	units := []string{read(t, "host/engine.cc"), read(t, "host/server.cc")}
	for _, m := range Modules() {
		if source, ok := modules[m]; ok {
			units = append(units, unit(source))
		}
	}
	objects := make([]string, len(units))
	failures := make([]error, len(units))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	for i, source := range units {
		sum := sha256.Sum256([]byte(cxx + strings.Join(flags, " ") + shared.String() + source))
		objects[i] = filepath.Join(cache, fmt.Sprintf("%x.o", sum[:12]))
		if _, err := os.Stat(objects[i]); err == nil {
			continue
		}
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			made := fmt.Sprintf("%s.%d", objects[i], os.Getpid())
			cmd := exec.Command(cxx, append(flags, "-x", "c++", "-c", "-o", made, "-")...)
			cmd.Stdin = strings.NewReader(source)
			if out, err := cmd.CombinedOutput(); err != nil {
				failures[i] = fmt.Errorf("%s: %w\n%.3000s", cxx, err, out)
				return
			}
			failures[i] = os.Rename(made, objects[i])
		})
	}
	wait.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "host")
	if out, err := exec.Command(cxx, append([]string{"-pthread", "-o", program}, objects...)...).CombinedOutput(); err != nil {
		t.Fatalf("link: %v\n%s", err, out)
	}
	return program
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sources returns the kernels' files.
func sources(t testing.TB) map[Module]string {
	t.Helper()
	all := map[Module]string{}
	for _, m := range Modules() {
		all[m] = read(t, string(m)+".cu")
	}
	return all
}

// host is a running program that has memory and launches kernels; see host/server.cc.
type host struct {
	*testing.T
	in     io.WriteCloser
	out    io.Reader
	stderr *bytes.Buffer
	cmd    *exec.Cmd
	rng    *rand.Rand
	seed   uint64
}

func startHost(t *testing.T, program string) *host {
	t.Helper()
	h := &host{T: t, stderr: &bytes.Buffer{}, cmd: exec.Command(program, fmt.Sprint(runtime.GOMAXPROCS(0))), rng: rand.New(rand.NewPCG(3, 4))}
	h.cmd.Stderr = h.stderr
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if h.out, err = h.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.in.Close()
		h.cmd.Wait() // ends with the input, or has ended with a fault
	})
	return h
}

// with returns the host for a subtest.
func (h *host) with(t *testing.T) *host {
	sub := *h
	sub.T = t
	return &sub
}

func (h *host) send(parts ...any) error {
	var b bytes.Buffer
	for _, p := range parts {
		switch v := p.(type) {
		case byte:
			b.WriteByte(v)
		case string:
			binary.Write(&b, binary.LittleEndian, uint64(len(v)))
			b.WriteString(v)
		case []byte:
			b.Write(v)
		default:
			binary.Write(&b, binary.LittleEndian, v)
		}
	}
	_, err := h.in.Write(b.Bytes())
	return err
}

func (h *host) number() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(h.out, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// died says what the program wrote before it ended.
func (h *host) died(err error) error {
	h.in.Close()
	h.cmd.Wait()
	return fmt.Errorf("the host program ended (%w): %s", err, h.stderr)
}

func (h *host) bytesAt(b []byte) Address {
	h.Helper()
	err := h.send(byte('A'), uint64(len(b)), b)
	if err == nil {
		var at uint64
		if at, err = h.number(); err == nil {
			return Address(at)
		}
	}
	h.Fatal(h.died(err))
	return 0
}

func (h *host) readBytes(at Address, n int) []byte {
	h.Helper()
	err := h.send(byte('R'), uint64(at), uint64(n))
	b := make([]byte, n)
	if err == nil {
		if _, err = io.ReadFull(h.out, b); err == nil {
			return b
		}
	}
	h.Fatal(h.died(err))
	return nil
}

func (h *host) free() {
	if err := h.send(byte('F')); err != nil {
		h.Fatal(h.died(err))
	}
}

// try launches and returns what the host found wrong.
func (h *host) try(l Launch) error {
	args := []any{byte('L'), l.Kernel}
	h.seed++
	for _, v := range []int{l.Grid[0], l.Grid[1], l.Grid[2], l.Block, l.Shared} {
		args = append(args, uint64(v))
	}
	args = append(args, h.seed, uint64(len(l.Args)), l.Args)
	if err := h.send(args...); err != nil {
		return h.died(err)
	}
	n, err := h.number()
	if err != nil {
		return h.died(err)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(h.out, text); err != nil {
		return h.died(err)
	}
	if n > 0 {
		return fmt.Errorf("%s: %s", l.Kernel, text)
	}
	return nil
}

func (h *host) launch(ls ...Launch) {
	h.Helper()
	for _, l := range ls {
		if err := h.try(l); err != nil {
			h.Fatal(err)
		}
	}
}

// values puts numbers, which it rounds to d in place, into memory.
func (h *host) values(d Type, v []float64) Buffer {
	h.Helper()
	return Buffer{h.bytesAt(encode(d, v)), d}
}

func (h *host) random(d Type, n int, scale float64) (Buffer, []float64) {
	h.Helper()
	v := make([]float64, n)
	for i := range v {
		v[i] = h.rng.NormFloat64() * scale
	}
	return h.values(d, v), v
}

// vector is a random F32 vector's address.
func (h *host) vector(n int, scale float64) (Address, []float64) {
	h.Helper()
	b, v := h.random(F32, n, scale)
	return b.At, v
}

// empty is memory of NaN.
func (h *host) empty(d Type, n int) Buffer {
	return Buffer{h.bytesAt(bytes.Repeat([]byte{0xff}, n*d.Size())), d}
}

func (h *host) read(b Buffer, n int) []float64 {
	h.Helper()
	raw := h.readBytes(b.At, n*b.Type.Size())
	out := make([]float64, n)
	for i := range out {
		out[i] = decode(b.Type, raw[i*b.Type.Size():])
	}
	return out
}

// result is the oracle's answer and, for each element, how large the numbers were
// that its arithmetic handled. Where factors are rounded to fewer bits than F32,
// rounded is the size of what they make; sizes if nil.
type result struct{ values, sizes, rounded []float64 }

func newResult(n int) result { return result{values: make([]float64, n), sizes: make([]float64, n)} }

// check compares n elements at b: each may be off by its own rounding and by ulps F32
// roundings of its size, plus extra times the size of what is rounded further. NaN equals NaN alone.
func (h *host) check(what string, b Buffer, want result, ulps, extra float64) {
	h.Helper()
	if err := h.differs(what, b, want, ulps, extra); err != nil {
		h.Error(err)
	}
}

// differs says where b is off by more than check allows.
func (h *host) differs(what string, b Buffer, want result, ulps, extra float64) error {
	h.Helper()
	got := h.read(b, len(want.values))
	worst, at := 0.0, -1
	for i, w := range want.values {
		rounded := want.sizes[i]
		if want.rounded != nil {
			rounded = want.rounded[i]
		}
		allowed := roundoff(b.Type)*math.Abs(w) + ulps*0x1p-24*want.sizes[i] + extra*rounded + subnormal(b.Type)
		off := math.Abs(got[i]-w) / allowed
		if math.IsNaN(w) && math.IsNaN(got[i]) || got[i] == w {
			off = 0
		}
		if !(off <= worst) {
			worst, at = off, i
			if math.IsNaN(off) {
				break
			}
		}
	}
	if !(worst <= 1) {
		return fmt.Errorf("%s: element %d of %d is %v, want %v: off by %.3g times what is allowed", what, at, len(got), got[at], want.values[at], worst)
	}
	return nil
}

func roundoff(d Type) float64  { return [...]float64{0x1p-24, 0x1p-8, 0x1p-11}[d] }
func subnormal(d Type) float64 { return [...]float64{0x1p-126, 0x1p-126, 0x1p-24}[d] }
