package wan_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// mail carries host data between the ranks of a test: mail[from][to].
type mail [][]chan []float32

func newMail(size int) mail {
	m := make(mail, size)
	for from := range m {
		for range size {
			m[from] = append(m[from], make(chan []float32, 1))
		}
	}
	return m
}

// exchange sends parts[to] to each rank and returns what each rank sent.
func (m mail) exchange(rank int, parts [][]float32) [][]float32 {
	for to, part := range parts {
		m[rank][to] <- part
	}
	got := make([][]float32, len(parts))
	for from := range got {
		got[from] = <-m[from][rank]
	}
	return got
}

// headParallel is one rank of a group that trades tokens for heads, attends to
// the whole sequence with its share of the heads, and trades back: the smallest
// SeqParallel of that kind, on the host, to test the model's side of it.
type headParallel struct {
	mail       mail
	rank, size int
	// attendPadding is what the original code does.
	attendPadding bool
}

func (p headParallel) Shard(numTokens int) (start, count int) {
	count = (numTokens + p.size - 1) / p.size
	return p.rank * count, count
}

// toHeads turns this rank's rows of all heads into all rows of its heads.
func (p headParallel) toHeads(ops tensor.Ops, x tensor.Tensor) tensor.Tensor {
	rows, n, h := x.Dim(0), x.Dim(1)/p.size, x.Dim(2)
	host := ops.Floats(x)
	parts := make([][]float32, p.size)
	for to := range parts {
		for row := range rows {
			at := (row*p.size + to) * n * h
			parts[to] = append(parts[to], host[at:at+n*h]...)
		}
	}
	var all []float32
	for _, part := range p.mail.exchange(p.rank, parts) {
		all = append(all, part...)
	}
	return ops.Cast(ops.FromFloats(all, rows*p.size, n, h), x.DType())
}

// toRows undoes toHeads.
func (p headParallel) toRows(ops tensor.Ops, y tensor.Tensor) tensor.Tensor {
	rows, n, h := y.Dim(0)/p.size, y.Dim(1), y.Dim(2)
	host := ops.Floats(y)
	parts := make([][]float32, p.size)
	for to := range parts {
		parts[to] = host[to*rows*n*h : (to+1)*rows*n*h]
	}
	all := make([]float32, rows*p.size*n*h)
	for from, part := range p.mail.exchange(p.rank, parts) {
		for row := range rows {
			copy(all[(row*p.size+from)*n*h:], part[row*n*h:(row+1)*n*h])
		}
	}
	return ops.Cast(ops.FromFloats(all, rows, n*p.size, h), y.DType())
}

func (p headParallel) Attend(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
	q, k, v = p.toHeads(ops, q), p.toHeads(ops, k), p.toHeads(ops, v)
	if p.attendPadding {
		spec.KeyLen = k.Dim(0)
	}
	return p.toRows(ops, ops.Attention(q, k, v, spec))
}

func (p headParallel) Gather(ops tensor.Ops, y tensor.Tensor, numTokens int) tensor.Tensor {
	parts := make([][]float32, p.size)
	for to := range parts {
		parts[to] = ops.Floats(y)
	}
	var all []float32
	for _, part := range p.mail.exchange(p.rank, parts) {
		all = append(all, part...)
	}
	return ops.FromFloats(all, p.size*y.Dim(0), y.Dim(1)).Slice(0, numTokens)
}

// The original code's sequence-parallel forward on 2, 4 and 8 ranks, with token
// counts that do not divide, ranks with nothing but padding among them. What
// each rank returns is compared.
func TestSequenceParallel(t *testing.T) {
	data := golden.Load(t, "../../../testdata/usp/usp.safetensors")
	for i, tc := range []struct {
		checkpoint string
		timestep   int64
		padded     bool // no group size divides the tokens
	}{{"i2v", 700, false}, {"i2v", 250, true}, {"t2v", 900, true}, {"t2v", 31, false}, {"flf2v", 500, true}} {
		key := fmt.Sprintf("case%d", i)
		single := data[key+".single"]
		for _, size := range []int{1, 2, 4, 8} {
			want := single
			if masked, ok := data[fmt.Sprintf("%s.sp%d.masked", key, size)]; ok != (tc.padded && size > 1) {
				t.Fatalf("%s, %d ranks: reference of its own: %v", key, size, ok)
			} else if ok {
				want = masked
			}
			name := fmt.Sprintf("%s %d ranks", key, size)
			t.Run(name, func(t *testing.T) {
				runRanks(t, tc.checkpoint, data, key, tc.timestep, size, false, want, single)
			})
			if upstream, ok := data[fmt.Sprintf("%s.sp%d.upstream", key, size)]; ok {
				t.Run(name+" padding attended", func(t *testing.T) {
					runRanks(t, tc.checkpoint, data, key, tc.timestep, size, true, upstream)
				})
			}
		}
	}
}

func runRanks(t *testing.T, name string, data map[string]golden.Tensor, key string, timestep int64, size int, attendPadding bool, wants ...golden.Tensor) {
	box := newMail(size)
	models, ranks := make([]*wan.Model, size), make([]tensor.Ops, size)
	for rank := range size {
		ranks[rank] = newOps(t, 1)
		models[rank] = open(t, ranks[rank], name, tensor.F32)
		models[rank].Seq = headParallel{mail: box, rank: rank, size: size, attendPadding: attendPadding}
	}
	in := inputOf(models[0].Config, data, key)
	outs := make([][]float32, size)
	var wg sync.WaitGroup
	for rank := range size {
		wg.Go(func() { outs[rank] = forward(ranks[rank], models[rank], in, timestep) })
	}
	wg.Wait()
	for rank, out := range outs {
		if err := ranks[rank].Err(); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
		for _, want := range wants {
			golden.CompareShape(t, fmt.Sprintf("rank %d", rank), []int{in.t, in.h, in.w, models[rank].OutDim}, out, channelsLast(want), tolF32)
		}
	}
}
