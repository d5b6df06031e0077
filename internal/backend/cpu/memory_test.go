package cpu

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// residentBytes reads the process's resident memory.
func residentBytes(t *testing.T) int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm to read resident memory from")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestReservedIsNotResident sees that a reservation costs what is touched of it,
// and nothing after its release.
func TestReservedIsNotResident(t *testing.T) {
	const size, touched, slack = 256 << 20, 64 << 20, 16 << 20
	before := residentBytes(t)
	m, err := reserve(size)
	if err != nil {
		t.Fatal(err)
	}
	if grown := residentBytes(t) - before; grown > slack {
		t.Errorf("reserving %d bytes made %d resident", size, grown)
	}
	for i := 0; i < touched; i += os.Getpagesize() {
		m.data[i] = 1
	}
	if grown := residentBytes(t) - before; grown < touched-slack || grown > touched+slack {
		t.Errorf("touching %d bytes made %d resident", touched, grown)
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if grown := residentBytes(t) - before; grown > slack {
		t.Errorf("%d bytes are resident after the release", grown)
	}
}

func TestCloseEndsThreads(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := New(5)
	if b.Threads() != 5 {
		t.Errorf("%d threads, want 5", b.Threads())
	}
	m, err := b.Reserve(1<<20, tensor.Activations)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Fill(tensor.New(m, 0, tensor.F32, tensor.Shape{1 << 18}), 1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := m.Release(); err != nil {
		t.Error(err)
	}
	if got := New(0); got.Threads() != 1 {
		t.Errorf("New(0) has %d threads, want 1", got.Threads())
	} else {
		got.Close()
	}
}

// TestPoolRunsEachOnce sees every task run once, also when tasks are many, few
// or none, and from jobs that follow each other closely.
func TestPoolRunsEachOnce(t *testing.T) {
	p := newPool(4)
	defer p.close()
	for round := range 300 {
		n := round % 17
		counts := make([]int32, n)
		p.each(int64(n), func(_ *worker, task int64) { counts[task]++ })
		for i, c := range counts {
			if c != 1 {
				t.Fatalf("round %d: task %d ran %d times", round, i, c)
			}
		}
	}
	covered := make([]bool, 1000)
	p.ranges(1000, 64, func(_ *worker, lo, hi int64) {
		for i := lo; i < hi; i++ {
			covered[i] = true
		}
	})
	for i, ok := range covered {
		if !ok {
			t.Fatalf("element %d was left out", i)
		}
	}
}

// TestOperands sees F32 and F16 operands split into BF16 parts without loss.
func TestOperands(t *testing.T) {
	values := []float32{0, 1, -1, 0.1, 1.0 / 3, 16777215, -1e-20, 3e38, 1.17549435e-38}
	for i := range 1000 {
		values = append(values, float32(i)*1.2345678)
	}
	w := &worker{}
	parts := operands(w, view{tensor.F32, tensor.FloatBytes(values)}, tensor.BF16, 0, int64(len(values)))
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	for i, v := range values {
		sum := 0.0
		for _, p := range parts {
			sum += float64(tensor.BF16ToF32(cast[uint16](p)[i]))
		}
		if diff := sum - float64(v); diff > 0x1p-133 || diff < -0x1p-133 {
			t.Errorf("%v became parts with sum %v", v, sum)
		}
	}
}
