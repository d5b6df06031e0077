package local

import (
	"errors"
	"net"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

var errStopping = errors.New("the run is being stopped")

// handler hands what workers of ours say to the sink.
type handler struct{ at *attempt }

func (h handler) rank(number int) *rank {
	for _, r := range h.at.ranks {
		if r.Rank == number {
			return r
		}
	}
	return nil
}

// Attached gives a worker the job.
func (h handler) Attached(hello *wanrunv1.Hello) (*wanrunv1.Job, error) {
	at := h.at
	r := h.rank(int(hello.GetRank()))
	if r == nil {
		return nil, errors.New("the rank is another node's")
	}
	at.mu.Lock()
	stopping := at.stopping
	if !stopping {
		r.mu.Lock()
		r.attached = true
		r.mu.Unlock()
		at.attached++
	}
	all := at.attached == len(at.ranks)
	at.mu.Unlock()
	if stopping {
		return nil, errStopping
	}
	at.event(r, group.Event{Kind: group.Ready, Pid: int(hello.GetPid())})
	if all {
		// Nobody else is to come.
		if err := at.server.Seal(); err != nil {
			at.agent.Say(err.Error())
		}
	}
	return at.job(), nil
}

// job is the job with what is this attempt's own.
func (at *attempt) job() *wanrunv1.Job {
	job := proto.CloneOf(at.start.Job)
	job.World = &wanrunv1.World{Secret: at.start.Secret, Attempt: int32(at.start.Attempt),
		Root: net.JoinHostPort(at.start.MasterAddr, strconv.Itoa(at.start.MasterPort))}
	for _, p := range at.start.World {
		job.World.Nodes = append(job.World.Nodes, int32(p.Node))
	}
	return job
}

// Progress hands on where a worker is.
func (h handler) Progress(rank int, p *wanrunv1.Progress) {
	at := h.at
	r := h.rank(rank)
	where := node.Where(p)
	at.agent.sampler.Beat(at.start.Attempt, rank, where)
	at.event(r, group.Event{Kind: group.Beat, Where: where})
	at.agent.sink.Progress(at.start.Attempt, rank, p)
}

// Report hands on how a worker's work ended.
func (h handler) Report(rank int, m *wanrunv1.Report) {
	at := h.at
	r := h.rank(rank)
	at.agent.sink.Report(at.start.Attempt, rank, m)
	if m.GetExitCode() == 0 {
		at.event(r, group.Event{Kind: group.Finished})
		return
	}
	at.event(r, group.Event{Kind: group.Failing, Code: int(m.GetExitCode()), Text: m.GetError(), Where: m.GetPhase()})
}

// Detached tells that a worker's stream ended.
func (h handler) Detached(rank int, err error) {
	r := h.rank(rank)
	e := group.Event{Kind: group.Detached}
	if err != nil {
		e.Text = err.Error()
		if !errors.Is(err, control.ErrNoReport) {
			e.Code = int(ends.PeerLost)
		}
	}
	h.at.event(r, e)
	close(r.detached)
}

// Refused notes why a peer was turned away: if a rank never attaches, that is why.
func (h handler) Refused(err error) {
	h.at.mu.Lock()
	defer h.at.mu.Unlock()
	if h.at.refused == nil && !errors.Is(err, errStopping) {
		h.at.refused = err
	}
}
