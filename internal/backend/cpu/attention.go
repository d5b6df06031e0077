package cpu

import (
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Blocks of attention: keyBlock keys are packed at a time, for as many queries
// as keep queryFloats floats of unfinished results in the second-level cache.
const (
	keyBlock    = 128
	queryFloats = 48 << 10
)

// Attention computes softmax(q·kᵀ*scale + bias)·v with an online softmax
// (arXiv:2205.14135): for each query the greatest logit so far, the sum of the
// exponentials relative to it, and the weighted sum of values.
func (b *Backend) Attention(dst, q, k, v tensor.Tensor, spec tensor.AttentionSpec) error {
	heads, dim, numQueries := q.Dim(1), q.Dim(2), q.Dim(0)
	a := attention{
		kernels: b.kernels,
		dst:     viewOf(dst), q: viewOf(q), k: viewOf(k), v: viewOf(v),
		bias: viewOf(spec.RelBias).floats(), lse: viewOf(spec.LSE).floats(),
		heads: heads, dim: dim, padded: (dim + tileCols - 1) / tileCols * tileCols,
		numQueries: numQueries, numKeys: k.Dim(0), keyLen: spec.KeyLen, scale: spec.Scale,
	}
	block := max(queryFloats/a.padded/tileRows, 1) * tileRows
	for block > tileRows && heads*((numQueries+block-1)/block) < 2*len(b.pool.workers) {
		block = (block/2 + tileRows - 1) / tileRows * tileRows
	}
	blocks := (numQueries + block - 1) / block
	b.pool.each(int64(heads*blocks), func(w *worker, task int64) {
		first := int(task) % blocks * block
		a.task(w, int(task)/blocks, first, min(block, numQueries-first))
	})
	return nil
}

// attention is one call's arguments.
type attention struct {
	kernels                     kernels
	dst, q, k, v                view
	bias, lse                   []float32
	heads, dim, padded          int
	numQueries, numKeys, keyLen int
	scale                       float32
}

// task computes queries [first, first+n) of one head.
func (a *attention) task(w *worker, head, first, n int) {
	stride := a.heads * a.dim
	pointers := w.rowPointers(a.q, first*stride+head*a.dim, stride, n, a.dim)
	out := w.buffer(bufC, (n+tileRows-1)/tileRows*tileRows*a.padded)
	clear(out)
	state := w.buffer(bufD, 2*n)
	peaks, sums := state[:n], state[n:]
	for i := range peaks {
		peaks[i], sums[i] = negInf, 0
	}
	for k0 := 0; k0 < a.keyLen; k0 += keyBlock {
		numKeys := min(keyBlock, a.keyLen-k0)
		keys, values := a.pack(w, head, k0, numKeys)
		for i := 0; i < n; i += tileRows {
			rows := min(tileRows, n-i)
			a.step(w, head, first+i, k0, numKeys, rows, &pointers[i], keys, values,
				peaks[i:i+rows], sums[i:i+rows], out[i*a.padded:])
		}
	}
	for i := range n {
		at := int64((first+i)*stride + head*a.dim)
		row := out[i*a.padded:][:a.dim]
		target := a.dst.target(w, at, int64(a.dim))
		for j, v := range row {
			target[j] = v / sums[i]
		}
		a.dst.store(target, at)
		if a.lse != nil {
			a.lse[(first+i)*a.heads+head] = peaks[i] + float32(math.Log(float64(sums[i])))
		}
	}
}

// pack returns a block of keys as panels of keys [numKeys/tileCols, dim,
// tileCols] and its values as panels of columns [dim/tileCols, numKeys, tileCols].
func (a *attention) pack(w *worker, head, k0, numKeys int) (keys, values []float32) {
	packed := w.buffer(bufB, keyBlock*a.dim+keyBlock*a.padded)
	keys, values = packed[:keyBlock*a.dim], packed[keyBlock*a.dim:]
	if numKeys%tileCols != 0 {
		clear(keys)
	}
	for t := range numKeys {
		at := int64(((k0+t)*a.heads + head) * a.dim)
		panel, column := keys[t/tileCols*a.dim*tileCols+t%tileCols:], values[t*tileCols:]
		for j, v := range a.k.load(w, bufIn, at, int64(a.dim)) {
			panel[j*tileCols] = v
		}
		row := a.v.load(w, bufIn, at, int64(a.dim))
		for len(row) >= tileCols { // arrays are copied without a call
			*(*[tileCols]float32)(column) = *(*[tileCols]float32)(row)
			row, column = row[tileCols:], column[min(numKeys*tileCols, len(column)):]
		}
		if len(row) > 0 {
			clear(column[copy(column, row):tileCols])
		}
	}
	return keys, values
}

// step takes one block of keys into the results of up to tileRows queries.
func (a *attention) step(w *worker, head, query, k0, numKeys, rows int, pointers **float32,
	keys, values, peaks, sums, out []float32) {
	logits := w.buffer(bufE, tileRows*keyBlock)
	for t := 0; t < numKeys; t += tileCols {
		a.kernels.tile(&logits[t], keyBlock, nil, pointers, 1, a.dim, &keys[t*a.dim])
	}
	var factors [tileRows]float32
	var weights [tileRows]*float32
	for r := range rows {
		row := logits[r*keyBlock:][:numKeys]
		var bias []float32
		if a.bias != nil {
			bias = a.bias[head*(a.numQueries+a.numKeys-1)+k0-(query+r)+a.numQueries-1:][:numKeys]
		}
		factors[r] = a.kernels.softmax(row, a.scale, bias, &peaks[r], &sums[r])
	}
	for r := range weights {
		weights[r] = &logits[min(r, rows-1)*keyBlock]
	}
	for j := 0; j < a.padded; j += tileCols {
		a.kernels.tile(&out[j], a.padded, &factors, &weights[0], 1, numKeys, &values[j*numKeys])
	}
}

var negInf = float32(math.Inf(-1))

// softmaxGo replaces logits by the exponentials of logits*scale + bias relative
// to the new peak, updates peak and sum, and returns the factor for what was
// summed before. The row has room up to a multiple of 8.
func softmaxGo(logits []float32, scale float32, bias []float32, peak, sum *float32) (factor float32) {
	top := *peak
	for i := range logits {
		logits[i] *= scale
		if bias != nil {
			logits[i] += bias[i]
		}
		top = max(top, logits[i])
	}
	if top == negInf { // every key so far is masked by the bias
		clear(logits)
		return 1
	}
	factor = float32(math.Exp(float64(*peak) - float64(top)))
	total := 0.0
	for i, v := range logits {
		e := float32(math.Exp(float64(v - top)))
		logits[i] = e
		total += float64(e)
	}
	*sum = *sum*factor + float32(total)
	*peak = top
	return factor
}
