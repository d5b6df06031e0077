package commtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// everyOp does each collective once, evenly and unevenly, and checks the data.
func everyOp(g comm.Group, at comm.Place, d tensor.DType, seed uint64, most int64) error {
	size, r := g.Size(), rand.New(rand.NewPCG(seed, 7)) // the same on every rank
	m := uneven(r, size, most)
	n, root := r.Int64N(most+1), r.IntN(size)
	counts := m.column(r.IntN(size))
	same := even(size, n)
	return errors.Join(
		allToAll(g, at, d, seed, same, true),
		allToAll(g, at, d, seed, m, false),
		allGather(g, at, d, seed, same[0], true),
		allGather(g, at, d, seed, counts, false),
		broadcast(g, at, d, seed, n, root),
		shift(g, at, d, seed, same[0], 1),
		shift(g, at, d, seed, counts, -1),
		shift(g, at, d, seed, same[0], size),
		allReduce(g, at, seed, n, comm.Sum),
		allReduce(g, at, seed, 1, comm.Max),
		reduceScatter(g, at, seed, same[0], true, comm.Sum),
		reduceScatter(g, at, seed, counts, false, comm.Max),
		g.Barrier(bg, at),
	)
}

func testCollectives(t *testing.T, newGroups New) {
	for size := 1; size <= 8; size++ {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			groups := closed(t, newGroups(t, size, nil))
			all(t, groups, func(g comm.Group) error {
				for i, d := range []tensor.DType{tensor.U8, tensor.BF16, tensor.F32, tensor.F64} {
					at := comm.Place{Phase: "test", Step: i + 1, Block: 3, Purpose: d.String()}
					if err := everyOp(g, at, d, uint64(100*size+i), 700); err != nil {
						return err
					}
				}
				return everyOp(g, comm.Place{}, tensor.I64, uint64(size), 2) // fewer elements than ranks
			})
		})
	}
}

// testLarge moves more than any transport's window.
func testLarge(t *testing.T, newGroups New) {
	for _, size := range []int{2, 3, 5} {
		groups := closed(t, newGroups(t, size, nil))
		all(t, groups, func(g comm.Group) error {
			return everyOp(g, comm.Place{}, tensor.F32, uint64(size), 40<<10)
		})
	}
}

// testReductions sees that results are those of rank order, in F32 for the 16-bit
// types, to the bit, on every rank.
func testReductions(t *testing.T, newGroups New) {
	const size, n = 5, 1003
	type codec struct {
		load  func([]byte) float64
		store func([]byte, float64)
		round func(float64) float64 // of the accumulator
	}
	le := binary.LittleEndian
	to32 := func(v float64) float64 { return float64(float32(v)) }
	codecs := map[tensor.DType]codec{
		tensor.F32: {func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) },
			func(b []byte, v float64) { le.PutUint32(b, math.Float32bits(float32(v))) }, to32},
		tensor.F64: {func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) },
			func(b []byte, v float64) { le.PutUint64(b, math.Float64bits(v)) }, func(v float64) float64 { return v }},
		tensor.BF16: {func(b []byte) float64 { return float64(tensor.BF16ToF32(le.Uint16(b))) },
			func(b []byte, v float64) { le.PutUint16(b, tensor.F32ToBF16(float32(v))) }, to32},
		tensor.F16: {func(b []byte) float64 { return float64(tensor.F16ToF32(le.Uint16(b))) },
			func(b []byte, v float64) { le.PutUint16(b, tensor.F32ToF16(float32(v))) }, to32},
		tensor.I32: {func(b []byte) float64 { return float64(int32(le.Uint32(b))) },
			func(b []byte, v float64) { le.PutUint32(b, uint32(int32(v))) }, func(v float64) float64 { return v }},
		tensor.I64: {func(b []byte) float64 { return float64(int64(le.Uint64(b))) },
			func(b []byte, v float64) { le.PutUint64(b, uint64(int64(v))) }, func(v float64) float64 { return v }},
	}
	groups := closed(t, newGroups(t, size, nil))
	for d, c := range codecs {
		w := int(d.Size())
		values := make([][]byte, size)
		for rank := range values {
			r := rand.New(rand.NewPCG(uint64(rank), uint64(d)))
			values[rank] = make([]byte, n*w)
			for i := range n {
				v := math.Round(r.NormFloat64() * 1e4)
				if d != tensor.I32 && d != tensor.I64 {
					v = r.NormFloat64() * math.Exp2(float64(r.IntN(24)-12))
				}
				c.store(values[rank][i*w:], v)
			}
		}
		for _, op := range []comm.Reduction{comm.Sum, comm.Max} {
			want := make([]byte, n*w)
			for i := range n {
				acc := c.load(values[0][i*w:])
				for rank := 1; rank < size; rank++ {
					v := c.load(values[rank][i*w:])
					if op == comm.Sum {
						acc = c.round(acc + v)
					} else {
						acc = max(acc, v)
					}
				}
				c.store(want[i*w:], acc)
			}
			all(t, groups, func(g comm.Group) error {
				x := alloc(d, n)
				copy(x.data, values[g.Rank()])
				if err := g.AllReduce(bg, comm.Place{}, x.Tensor, op); err != nil {
					return err
				}
				return wantBytes(fmt.Sprintf("%v of %v on rank %d", op, d, g.Rank()), x.data, want)
			})
		}
	}
}

// testInPlace gathers with src lying in dst.
func testInPlace(t *testing.T, newGroups New) {
	groups := closed(t, newGroups(t, 3, nil))
	counts := []int64{5, 1, 40_000}
	all(t, groups, func(g comm.Group) error {
		dst, begin, n := alloc(tensor.F32, sum(counts)), sum(counts[:g.Rank()]), counts[g.Rank()]
		fill(dst.data[4*begin:4*(begin+n)], 1, g.Rank())
		if err := g.AllGather(bg, comm.Place{}, dst.Tensor, dst.Slice(int(begin), int(n)), counts); err != nil {
			return err
		}
		var want []byte
		for peer, n := range counts {
			part := make([]byte, 4*n)
			fill(part, 1, peer)
			want = append(want, part...)
		}
		return wantBytes("gather in place", dst.data, want)
	})
}

// testPairs sends between two ranks while others do not take part.
func testPairs(t *testing.T, newGroups New) {
	groups := closed(t, newGroups(t, 4, nil))
	all(t, groups, func(g comm.Group) error {
		for i := range 20 {
			x := alloc(tensor.U8, int64(i*1000))
			at := comm.Place{Purpose: "frames", Step: i}
			if g.Rank() != 0 { // every rank's to rank 0
				fill(x.data, uint64(i), g.Rank())
				if err := g.Send(bg, at, x.Tensor, 0); err != nil {
					return err
				}
				continue
			}
			for from := g.Size() - 1; from > 0; from-- {
				if err := g.Recv(bg, at, x.Tensor, from); err != nil {
					return err
				}
				want := make([]byte, len(x.data))
				fill(want, uint64(i), from)
				if err := wantBytes(fmt.Sprintf("recv %d from %d", i, from), x.data, want); err != nil {
					return err
				}
			}
		}
		return g.Barrier(bg, comm.Place{})
	})
}

// delays is a failpoint that holds a rank up at random, in an order that the seed
// gives.
func delays(seed uint64, rank int) func(string) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, uint64(rank)))
	return func(string) {
		mu.Lock()
		n := r.IntN(12)
		mu.Unlock()
		switch {
		case n == 0:
			time.Sleep(time.Duration(n*37) * time.Microsecond)
		case n < 6:
			runtime.Gosched()
		}
	}
}

// testRandom runs sequences of collectives in which ranks are held up at random.
func testRandom(t *testing.T, newGroups New) {
	seeds := 8
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			plan := rand.New(rand.NewPCG(seed, 0))
			size, calls := 2+plan.IntN(5), 40
			groups := closed(t, newGroups(t, size, func(rank int) comm.Options {
				return comm.Options{Failpoint: delays(seed, rank), Checksum: seed%2 == 0}
			}))
			all(t, groups, func(g comm.Group) error {
				r := rand.New(rand.NewPCG(seed, 1))
				for i := range calls {
					if err := randomOp(g, r, uint64(i)); err != nil {
						return fmt.Errorf("call %d: %w", i, err)
					}
				}
				return nil
			})
		})
	}
}

// randomOp does one collective that r, which is the same on every rank, draws.
func randomOp(g comm.Group, r *rand.Rand, seed uint64) error {
	size := g.Size()
	most := []int64{3, 200, 20_000}[r.IntN(3)]
	m, n, root := uneven(r, size, most), r.Int64N(most+1), r.IntN(size)
	at := comm.Place{Phase: "random", Step: int(seed)}
	switch op := r.IntN(7); op {
	case 0:
		return allToAll(g, at, tensor.BF16, seed, m, false)
	case 1:
		return allGather(g, at, tensor.BF16, seed, m[root], false)
	case 2:
		return broadcast(g, at, tensor.U8, seed, n, root)
	case 3:
		return shift(g, at, tensor.F32, seed, m[root], root)
	case 4:
		return allReduce(g, at, seed, n, comm.Sum)
	case 5:
		return reduceScatter(g, at, seed, m[root], false, comm.Max)
	default:
		return g.Barrier(bg, at)
	}
}

// testConcurrent uses the job's group, its rows and its columns at the same time,
// in different orders on different ranks.
func testConcurrent(t *testing.T, newGroups New) {
	const size, columns = 6, 3
	groups := closed(t, newGroups(t, size, func(rank int) comm.Options { return comm.Options{Failpoint: delays(3, rank)} }))
	all(t, groups, func(g comm.Group) error {
		row, err := g.Split(bg, comm.Place{}, g.Rank()/columns, g.Rank())
		if err != nil {
			return err
		}
		column, err := g.Split(bg, comm.Place{}, g.Rank()%columns, g.Rank())
		if err != nil {
			return err
		}
		var wait sync.WaitGroup
		errs := make([]error, 3)
		for i, sub := range []comm.Group{g, row, column} {
			if g.Rank() == 4 && i == 2 { // this rank does them one after the other
				wait.Wait()
			}
			wait.Add(1)
			go func() {
				defer wait.Done()
				r := rand.New(rand.NewPCG(uint64(i), 5))
				for k := range 25 {
					if errs[i] = randomOp(sub, r, uint64(k)); errs[i] != nil {
						return
					}
				}
			}()
		}
		wait.Wait()
		return errors.Join(errors.Join(errs...), row.Close(), column.Close())
	})
}

// testStalled stops rank 1 when all have come and before it moves its bytes.
func testStalled(t *testing.T, newGroups New) {
	release := make(chan struct{})
	groups := closed(t, newGroups(t, 3, func(rank int) comm.Options {
		if rank != 1 {
			return comm.Options{Timeout: 200 * time.Millisecond}
		}
		return comm.Options{Failpoint: func(name string) {
			if name == "all-to-all.matched" {
				<-release
			}
		}}
	}))
	errs := each(t, groups, func(g comm.Group) error {
		if g.Rank() == 1 { // it goes on when it could know
			go func() { <-g.Done(); close(release) }()
		}
		return g.AllToAll(bg, comm.Place{Step: 2}, alloc(tensor.F32, 30).Tensor, alloc(tensor.F32, 30).Tensor, nil, nil)
	})
	wantKinds(t, errs, comm.ErrTimeout)
	wantText(t, errs, "waits in all-to-all #1 (step 2); 40 of 40 bytes from rank 1 have not come; given up after 200ms")
	var f *comm.Failure
	if !errors.As(errs[0], &f) || f.Rank != 1 {
		t.Errorf("failure %+v does not blame rank 1", f)
	}
}
