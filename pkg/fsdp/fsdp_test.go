package fsdp_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// params is the map type of some model.
type params map[string]tensor.Tensor

// weights is what a model asks of a store.
type weights interface {
	Acquire(ops tensor.Ops, unit string) (params, func())
	Rows(ops tensor.Ops, name string, rows []int32) tensor.Tensor
}

var _ weights = fsdp.Weights[params]{}

// file is a Reader that makes up element i of a parameter and notes what is read.
type file struct {
	mu   sync.Mutex
	read map[string]map[int64]int // how often each element was
	fail error
}

// value is small enough to be exact in every type.
func value(name string, i int64) float32 {
	return float32((int64(len(name))*31+int64(name[len(name)-1])+i*7)%251) - 125
}

func (f *file) ReadRange(p fsdp.Param, first int64, dst []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.read[p.Name] == nil {
		if f.read == nil {
			f.read = map[string]map[int64]int{}
		}
		f.read[p.Name] = map[int64]int{}
	}
	for i := range int64(len(dst)) / p.DType.Size() {
		f.read[p.Name][first+i]++
		v := value(p.Name, first+i)
		at := dst[i*p.DType.Size():]
		switch p.DType {
		case tensor.F32:
			copy(at, tensor.FloatBytes([]float32{v}))
		case tensor.BF16:
			h := tensor.F32ToBF16(v)
			at[0], at[1] = byte(h), byte(h>>8)
		}
	}
	return nil
}

// stack returns a model of some layers: vectors, matrices of two types and a table.
func stack(layers int) []fsdp.Unit {
	unit := func(name string, n, k int) fsdp.Unit {
		return fsdp.Unit{Name: name, Params: []fsdp.Param{
			{Local: "norm", Name: name + ".norm", DType: tensor.F32, Shape: tensor.Shape{k}},
			{Local: "w", Name: name + ".w", Kind: tensor.MatrixWeight, DType: tensor.BF16, Shape: tensor.Shape{n, k}},
			{Local: "bias", Name: name + ".bias", DType: tensor.F32, Shape: tensor.Shape{n}},
			{Local: "w32", Name: name + ".w32", Kind: tensor.MatrixWeight, DType: tensor.F32, Shape: tensor.Shape{n, 5}},
		}}
	}
	units := []fsdp.Unit{
		{Name: "embedding", Params: []fsdp.Param{{Local: "table", Name: "table", DType: tensor.F32, Shape: tensor.Shape{100, 6}, Rows: true}}},
		unit("root", 70, 33),
	}
	for i := range layers {
		units = append(units, unit(fmt.Sprintf("blocks.%d", i), 41, 60))
	}
	return append(units, unit("head", 3, 60))
}

// forward uses every unit of a stack once: its result depends on every element of
// every parameter.
func forward(ops tensor.Ops, w weights, units []fsdp.Unit) (out []float32) {
	for _, u := range units[1:] {
		k := u.Params[0].Shape[0]
		p, release := w.Acquire(ops, u.Name)
		ops.Scope(func() {
			x := make([]float32, k*k) // the identity: the product shows the weight itself
			for i := range k {
				x[i*k+i] = 1
			}
			five := make([]float32, 25)
			for i := range 5 {
				five[i*6] = 1
			}
			y := ops.MatMul(ops.FromFloats(x, k, k), p["w"], p["bias"], tensor.NoActivation, tensor.F32)
			z := ops.MatMul(ops.FromFloats(five, 5, 5), p["w32"], tensor.Tensor{}, tensor.NoActivation, tensor.F32)
			if ops.Err() != nil {
				return
			}
			out = append(out, ops.Floats(y)...)
			out = append(out, ops.Floats(z)...)
			out = append(out, ops.Floats(p["norm"])...)
		})
		release()
	}
	return append(out, ops.Floats(w.Rows(ops, "table", []int32{99, 0, 42}))...)
}

// want is what forward returns, by the definition.
func want(units []fsdp.Unit) (out []float32) {
	for _, u := range units[1:] {
		norm, w, bias, w32 := u.Params[0], u.Params[1], u.Params[2], u.Params[3]
		n, k := w.Shape[0], w.Shape[1]
		for i := range k {
			for j := range n {
				out = append(out, value(w.Name, int64(j*k+i))+value(bias.Name, int64(j)))
			}
		}
		for i := range 5 {
			for j := range n {
				out = append(out, value(w32.Name, int64(j*5+i)))
			}
		}
		for i := range k {
			out = append(out, value(norm.Name, int64(i)))
		}
	}
	for _, row := range []int64{99, 0, 42} {
		for i := range int64(6) {
			out = append(out, value("table", row*6+i))
		}
	}
	return out
}

// settings are all ways of resting and prefetching.
func settings() (out []fsdp.Options) {
	for _, rest := range []fsdp.Rest{fsdp.OnDevice, fsdp.OnHost, fsdp.InFile} {
		for _, serial := range []bool{false, true} {
			out = append(out, fsdp.Options{Rest: rest, Serial: serial, Cyclic: true, Phase: "denoise"})
		}
	}
	return append(out, fsdp.Options{Rest: fsdp.OnDevice}, fsdp.Options{Rest: fsdp.InFile})
}

// runStack runs two forwards of a stack on size ranks.
func runStack(t *testing.T, size int, units []fsdp.Unit, opts fsdp.Options, plain bool) (files []*file, result ranktest.Result) {
	files = make([]*file, size)
	for rank := range files {
		files[rank] = &file{}
	}
	expected := want(units)
	result = ranktest.Run(t, size, func(r ranktest.Rank) {
		if plain {
			r.Ops = tensor.NewOps(r.Context(), rowMajor{r.Backend()}, r.Space())
		}
		var reader fsdp.Reader
		if !r.Planning {
			reader = files[r.Rank]
		}
		opts := opts
		opts.Group = r.Group
		store := fsdp.Open(r.Ops, units, reader, opts)
		for range 2 {
			got := forward(r.Ops, fsdp.Weights[params]{Store: store}, units)
			if !r.Planning && r.Err() == nil {
				golden.Compare(t, fmt.Sprintf("rank %d", r.Rank), got, expected, 0)
			}
		}
		r.Fail(store.Close())
	})
	return files, result
}

// planStack plans one forward of a stack: TestStore sees that a run takes the same.
func planStack(t *testing.T, size int, units []fsdp.Unit, opts fsdp.Options, plain bool) ranktest.Result {
	return ranktest.Plan(t, size, func(r ranktest.Rank) {
		if plain {
			r.Ops = tensor.NewOps(r.Context(), rowMajor{r.Backend()}, r.Space())
		}
		opts := opts
		opts.Group = r.Group
		store := fsdp.Open(r.Ops, units, nil, opts)
		forward(r.Ops, fsdp.Weights[params]{Store: store}, units)
		r.Fail(store.Close())
	})
}

// rowMajor is a backend without packed layouts, as a GPU is.
type rowMajor struct{ tensor.Backend }

func (rowMajor) PackedBytes(tensor.WeightKind, tensor.DType, tensor.Shape) int64 { return 0 }

// Every setting on every number of ranks gives the weights themselves.
func TestStore(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 5, 6, 8} {
		for _, opts := range settings() {
			for _, plain := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d ranks/rest %d serial %v cyclic %v row-major %v", size, opts.Rest, opts.Serial, opts.Cyclic, plain), func(t *testing.T) {
					runStack(t, size, stack(3), opts, plain)
				})
			}
		}
	}
}

// A rank reads its own elements, once if they rest in memory, and no others: the ranks
// together read everything.
func TestReadsOwnShard(t *testing.T) {
	const size = 3
	units := stack(2)
	for _, opts := range settings() {
		files, _ := runStack(t, size, units, opts, false)
		times := 1
		if opts.Rest == fsdp.InFile {
			times = 2 // two forwards
		}
		for _, u := range units[1:] {
			for _, p := range u.Params {
				n, _ := p.Shape.NumElements()
				for i := range n {
					readers := 0
					for rank, f := range files {
						got := f.read[p.Name][i]
						if got > 0 {
							readers++
						}
						// The unit after the last forward may have been prefetched.
						if got != 0 && got != times && !(opts.Rest == fsdp.InFile && u.Name == "root" && got == 3) {
							t.Fatalf("%+v: rank %d read element %d of %s %d times, want %d", opts, rank, i, p.Name, got, times)
						}
					}
					if readers != 1 {
						t.Fatalf("%+v: %d ranks read element %d of %s", opts, readers, i, p.Name)
					}
				}
			}
		}
		for rank, f := range files {
			if n := len(f.read["table"]); n != 3*6 {
				t.Errorf("rank %d read %d elements of the table, want those of 3 rows", rank, n)
			}
		}
	}
}

// bytesOf returns the bytes of a unit's parameters without any rounding.
func bytesOf(u fsdp.Unit) (bytes int64) {
	for _, p := range u.Params {
		if n, _ := p.Shape.NumElements(); !p.Rows {
			bytes += n * p.DType.Size()
		}
	}
	return bytes
}

// A rank holds 1/P of the units and room for two gathered ones, whatever the depth.
func TestBytes(t *testing.T) {
	sum := func(units []fsdp.Unit) (all, largest int64) {
		for _, u := range units {
			all, largest = all+bytesOf(u), max(largest, bytesOf(u))
		}
		return all, largest
	}
	for _, size := range []int{1, 2, 4, 8} {
		for _, opts := range settings() {
			for _, plain := range []bool{false, true} {
				gathered := map[int]int64{}
				for _, layers := range []int{2, 12} {
					units := stack(layers)
					all, largest := sum(units)
					result := planStack(t, size, units, opts, plain)
					// Each parameter and shard may be rounded up to 256 bytes, and a packed
					// matrix to whole panels of 16 rows.
					rounding := int64(len(units)) * sharding.Align * 6
					for rank, peak := range result.Peaks {
						name := fmt.Sprintf("%d ranks, %d layers, rest %d, serial %v, row-major %v, rank %d", size, layers, opts.Rest, opts.Serial, plain, rank)
						want := all / int64(size)
						if opts.Rest != fsdp.OnDevice {
							want, rounding = 0, 0
						}
						if got := peak[tensor.Weights]; got < want || got > want+rounding {
							t.Errorf("%s: %d bytes of weights, want %d", name, got, want)
						}
						units := int64(2)
						if opts.Serial && plain {
							units = 1
						}
						panels := int64(16 * (60*2 + 33*2 + 5*4))
						if got := peak[tensor.Gathered]; got < largest || got > units*(largest+5*sharding.Align+sharding.Align*int64(size))+panels {
							t.Errorf("%s: %d bytes gathered, want at most %d units of %d", name, got, units, largest)
						}
						gathered[rank] = max(gathered[rank], peak[tensor.Gathered])
						if peak[tensor.Gathered] != gathered[rank] {
							t.Errorf("%s: %d bytes gathered, with fewer layers %d", name, peak[tensor.Gathered], gathered[rank])
						}
					}
				}
			}
		}
	}
}

// What is received for a forward is the units' bytes times (P-1)/P.
func TestTraffic(t *testing.T) {
	const size = 4
	units := stack(5)
	_, result := runStack(t, size, units, fsdp.Options{Rest: fsdp.OnDevice, Phase: "denoise"}, false)
	plain := int64(0)
	for _, u := range units {
		plain += bytesOf(u)
	}
	rounding := int64(len(units)) * sharding.Align * (4 + size)
	for rank, traffic := range result.Traffic {
		sent, received := ranktest.Sent(traffic, "weights")
		least := 2 * plain * (size - 1) / size
		if received < least || received > least+2*rounding || sent != received {
			t.Errorf("rank %d: %d bytes sent and %d received for 2 forwards, want %d and rounding", rank, sent, received, least)
		}
	}
}

// The next unit is on its way while this one is in use.
func TestPrefetch(t *testing.T) {
	units := stack(2)
	ranktest.Run(t, 2, func(r ranktest.Rank) {
		var reader fsdp.Reader
		if !r.Planning {
			reader = &file{}
		}
		store := fsdp.Open(r.Ops, units, reader, fsdp.Options{Group: r.Group})
		for i, u := range units[1:] {
			_, release := store.Acquire(r.Ops, u.Name)
			// A group's collectives take turns: what has ended before this one was begun
			// before it, by this rank and without an Acquire of the next unit.
			r.Fail(r.Group.Barrier(r.Context(), comm.Place{Purpose: "test"}))
			gathered := 0
			for _, c := range r.Group.History() {
				if c.Op == comm.OpAllGather && c.State == comm.Finished {
					gathered++
				}
			}
			if want := min(i+2, len(units)-1); gathered != want {
				r.Fail(fmt.Errorf("%d units gathered while unit %d is in use, want %d", gathered, i, want))
			}
			release()
		}
		r.Fail(store.Close())
	})
}

// Units in an order of their own, the same on every rank, still come whole.
func TestUnusualOrder(t *testing.T) {
	units := stack(3)
	order := []string{"blocks.2", "root", "root", "head", "blocks.0"}
	for _, opts := range settings() {
		for _, plain := range []bool{false, true} {
			ranktest.Run(t, 3, func(r ranktest.Rank) {
				if plain {
					r.Ops = tensor.NewOps(r.Context(), rowMajor{r.Backend()}, r.Space())
				}
				opts := opts
				opts.Group = r.Group
				var reader fsdp.Reader
				if !r.Planning {
					reader = &file{}
				}
				store := fsdp.Open(r.Ops, units, reader, opts)
				for _, name := range order {
					p, release := store.Acquire(r.Ops, name)
					got := r.Floats(p["norm"])
					for i, v := range got {
						if w := value(name+".norm", int64(i)); !r.Planning && v != w {
							r.Fail(fmt.Errorf("element %d of %s is %v, want %v", i, name, v, w))
						}
					}
					release()
				}
				r.Fail(store.Close())
			})
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		run        func(r ranktest.Rank, s *fsdp.Store)
	}{
		{"unknown unit", `no unit "nose"`, func(r ranktest.Rank, s *fsdp.Store) { s.Acquire(r.Ops, "nose") }},
		{"two at a time", `"head" acquired while "root" is in use`, func(r ranktest.Rank, s *fsdp.Store) {
			s.Acquire(r.Ops, "root")
			s.Acquire(r.Ops, "head")
		}},
		{"closed in use", `while unit "root" is in use`, func(r ranktest.Rank, s *fsdp.Store) { s.Acquire(r.Ops, "root") }},
		{"unknown table", "no parameter of rows", func(r ranktest.Rank, s *fsdp.Store) { s.Rows(r.Ops, "root.w", []int32{0}) }},
		{"no rows", "no rows asked", func(r ranktest.Rank, s *fsdp.Store) { s.Rows(r.Ops, "table", nil) }},
		{"row out of range", `row 100 of "table", which has 100`, func(r ranktest.Rank, s *fsdp.Store) { s.Rows(r.Ops, "table", []int32{100}) }},
		{"negative row", `row -1 of "table"`, func(r ranktest.Rank, s *fsdp.Store) { s.Rows(r.Ops, "table", []int32{-1}) }},
	} {
		memory := ranktest.Bytes{tensor.Weights: 1 << 20, tensor.Gathered: 1 << 20, tensor.Activations: 1 << 20}
		result := ranktest.Try(t, 1, []ranktest.Bytes{memory}, func(r ranktest.Rank) {
			s := fsdp.Open(r.Ops, stack(1), &file{}, fsdp.Options{Group: r.Group})
			tc.run(r, s)
			r.Fail(s.Close())
		})
		if err := result.Errs[0]; err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	for _, units := range [][]fsdp.Unit{
		{{Name: "a"}, {Name: "a"}},
		{{Name: "a", Params: []fsdp.Param{{Name: "w", DType: tensor.I8, Shape: tensor.Shape{1}}}}},
		{{Name: "a", Params: []fsdp.Param{{Name: "w", DType: tensor.F32, Shape: tensor.Shape{0}}}}},
		{{Name: "a", Params: []fsdp.Param{{Name: "w", DType: tensor.F32, Shape: tensor.Shape{math.MaxInt, 2}}}}},
	} {
		result := ranktest.Plan(t, 1, func(r ranktest.Rank) { fsdp.Open(r.Ops, units, nil, fsdp.Options{Group: r.Group}) })
		if !errors.Is(result.Errs[0], tensor.ErrShape) {
			t.Errorf("%+v: %v, want ErrShape", units, result.Errs[0])
		}
	}
}

// A file that one rank cannot read ends the job on every rank, with the cause where it
// is, wherever the weights rest.
func TestReadError(t *testing.T) {
	lost := errors.New("the disk is gone")
	units := stack(2)
	for _, opts := range settings() {
		planned := ranktest.Plan(t, 3, func(r ranktest.Rank) {
			opts := opts
			opts.Group = r.Group
			s := fsdp.Open(r.Ops, units, nil, opts)
			forward(r.Ops, fsdp.Weights[params]{Store: s}, units)
			r.Fail(s.Close())
		})
		result := ranktest.Try(t, 3, planned.Peaks, func(r ranktest.Rank) {
			opts := opts
			opts.Group = r.Group
			f := &file{}
			if r.Rank == 1 {
				f.fail = lost
			}
			s := fsdp.Open(r.Ops, units, f, opts)
			forward(r.Ops, fsdp.Weights[params]{Store: s}, units)
			if r.Err() != nil {
				r.Group.Abort(r.Err()) // before what is under way is waited for
			}
			r.Fail(s.Close())
		})
		for rank, err := range result.Errs {
			if err == nil || (rank == 1 && !errors.Is(err, lost)) || !(errors.Is(err, lost) || errors.Is(err, comm.ErrAborted)) {
				t.Errorf("rest %d: rank %d: %v", opts.Rest, rank, err)
			}
		}
	}
}

func TestHostMemory(t *testing.T) {
	units := stack(2)
	for _, tc := range []struct {
		name string
		host func(n int64) ([]byte, error)
		want error
	}{
		{"given", func(n int64) ([]byte, error) { return slices.Repeat([]byte{0xff}, int(n)), nil }, nil},
		{"refused", func(n int64) ([]byte, error) { return nil, tensor.ErrNoMemory }, tensor.ErrNoMemory},
		{"too little", func(n int64) ([]byte, error) { return make([]byte, n-1), nil }, tensor.ErrNoMemory},
	} {
		memory := ranktest.Bytes{tensor.Gathered: 1 << 20, tensor.Activations: 1 << 20}
		result := ranktest.Try(t, 1, []ranktest.Bytes{memory}, func(r ranktest.Rank) {
			s := fsdp.Open(r.Ops, units, &file{}, fsdp.Options{Group: r.Group, Rest: fsdp.OnHost, Host: tc.host})
			got := forward(r.Ops, fsdp.Weights[params]{Store: s}, units)
			if r.Err() == nil {
				golden.Compare(t, tc.name, got, want(units), 0)
			}
			if got, want := s.HostBytes(), s.ShardBytes(); got != want || got == 0 {
				t.Errorf("%s: %d bytes on the host of %d", tc.name, got, want)
			}
			r.Fail(s.Close())
		})
		if err := result.Errs[0]; !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}
