package cpu

import (
	"sync"
	"sync/atomic"
)

// pool runs loops on a fixed number of goroutines, the caller's included.
type pool struct {
	workers []*worker // workers[0] belongs to the caller
	jobs    chan *job
	done    sync.WaitGroup
}

// worker is the scratch of one thread. Its buffers grow to the largest need and
// stay, so that ops allocate nothing once warm.
type worker struct {
	buffers  [numBuffers][]float32
	pointers []*float32
}

// job is one parallel loop: tasks 0..n-1 are handed out in order of arrival.
type job struct {
	next, left atomic.Int64
	n          int64
	run        func(w *worker, task int64)
	finished   chan struct{}
}

func newPool(threads int) *pool {
	threads = max(threads, 1)
	p := &pool{workers: make([]*worker, threads), jobs: make(chan *job, threads)}
	for i := range p.workers {
		p.workers[i] = &worker{}
	}
	for _, w := range p.workers[1:] {
		p.done.Go(func() {
			for j := range p.jobs {
				j.work(w)
			}
		})
	}
	return p
}

func (j *job) work(w *worker) {
	for {
		task := j.next.Add(1) - 1
		if task >= j.n {
			return
		}
		j.run(w, task)
		if j.left.Add(-1) == 0 {
			close(j.finished)
		}
	}
}

// each calls run for every task in [0, n) and waits. Which thread runs a task
// is not defined, so a task must depend on its number alone.
func (p *pool) each(n int64, run func(w *worker, task int64)) {
	if n <= 1 || len(p.workers) == 1 {
		for task := range n {
			run(p.workers[0], task)
		}
		return
	}
	j := &job{n: n, run: run, finished: make(chan struct{})}
	j.left.Store(n)
	// A full queue means that the others have not woken up for earlier jobs:
	// the caller does not wait for them, only for tasks that were begun.
	for range min(int64(len(p.workers)), n) - 1 {
		select {
		case p.jobs <- j:
		default:
		}
	}
	j.work(p.workers[0])
	<-j.finished
}

// ranges calls run for consecutive ranges of at most grain of [0, n) and waits.
func (p *pool) ranges(n, grain int64, run func(w *worker, lo, hi int64)) {
	grain = max(grain, 1)
	p.each((n+grain-1)/grain, func(w *worker, task int64) {
		run(w, task*grain, min((task+1)*grain, n))
	})
}

// close ends the goroutines and waits for them.
func (p *pool) close() {
	close(p.jobs)
	p.done.Wait()
}

// The buffers of a worker, one for each simultaneous use.
const (
	bufIn = iota
	bufIn2
	bufOut
	bufA
	bufB
	bufC
	bufD
	bufE
	numBuffers
)

// buffer returns n floats of scratch whose contents are not defined.
func (w *worker) buffer(which, n int) []float32 {
	if cap(w.buffers[which]) < n {
		w.buffers[which] = make([]float32, n)
	}
	return w.buffers[which][:n]
}
