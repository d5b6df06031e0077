package timeline

import (
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// maxRanks bounds how many ranks are remembered; the log has all of them.
const maxRanks = 4096

// Recorder takes what ranks take. Its methods may be called at the same time.
type Recorder struct {
	started time.Time
	warn    func(string)

	mu     sync.Mutex
	log    *lineLog // nil: none is written
	ranks  map[int]*series
	warner *warner
}

// NewRecorder returns the recorder of a job that began at the time started. log, which
// may be nil, gets a line for each point and is closed by Close; warn, which may be nil,
// gets what is not as planned, once.
func NewRecorder(started time.Time, log io.WriteCloser, warn func(string)) *Recorder {
	r := &Recorder{started: started, warn: warn, ranks: map[int]*series{}, warner: newWarner()}
	if log != nil {
		r.log = newLineLog(log)
	}
	return r
}

// Progress takes what a worker of ours says.
func (r *Recorder) Progress(at time.Time, attempt, rank int, p *wanrunv1.Progress) {
	r.add(fromProgress(at, at.Sub(r.started).Seconds(), attempt, rank, p))
}

// Sample takes what the kernel says of any program's rank.
func (r *Recorder) Sample(s node.Sample) {
	r.add(fromSample(s.At.Sub(r.started).Seconds(), s))
}

func (r *Recorder) add(p Point) {
	for _, text := range r.keep(p) {
		if r.warn != nil {
			r.warn(text)
		}
	}
}

func (r *Recorder) keep(p Point) (warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log != nil {
		r.log.add(p)
	}
	s := r.ranks[p.Rank]
	if s == nil {
		if len(r.ranks) >= maxRanks {
			return nil
		}
		s = &series{rank: p.Rank}
		r.ranks[p.Rank] = s
	}
	s.add(p)
	return r.warner.look(p, r.ranks)
}

// Warnings are what was said so far.
func (r *Recorder) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.warner.all)
}

// Close ends the log. Errors: of its disk.
func (r *Recorder) Close() error {
	r.mu.Lock()
	l := r.log
	r.log = nil
	r.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.close()
}

// ordered are the ranks by number. The caller holds mu.
func (r *Recorder) ordered() []*series {
	var all []*series
	for _, rank := range slices.Sorted(maps.Keys(r.ranks)) {
		all = append(all, r.ranks[rank])
	}
	return all
}
