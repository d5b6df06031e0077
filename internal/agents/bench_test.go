package agents

import (
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// arrivals passes on when lines and events come.
type arrivals struct {
	peers chan *Peer
	lines chan time.Time
	kinds chan group.EventKind
}

func (a *arrivals) Joined(p *Peer)                        { a.peers <- p }
func (a *arrivals) Refused(error)                         {}
func (a *arrivals) Event(e group.Event)                   { a.kinds <- e.Kind }
func (a *arrivals) Line(node.Line)                        { a.lines <- time.Now() }
func (a *arrivals) Progress(int, int, *wanrunv1.Progress) {}
func (a *arrivals) Report(int, int, *wanrunv1.Report)     {}
func (a *arrivals) Sample(node.Sample)                    {}

// BenchmarkLine is the way of one line from a node to node 0, over loopback with TLS.
func BenchmarkLine(b *testing.B) {
	a := &arrivals{make(chan *Peer, 1), make(chan time.Time), make(chan group.EventKind, 100)}
	o := testOptions(b, 0, 2)
	o.timing = usual
	o.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{freePort(b)}}
	l, err := Listen(b.Context(), o, a)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	o.Node = 1
	sinks := make(chan node.Sink, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Dial(b.Context(), o, func(sink node.Sink) node.Agent { sinks <- sink; return &fakeNode{sink: sink, me: 1} })
	}()
	p, sink := <-a.peers, <-sinks
	p.Do(startCommand(0, 2))
	for kind := range a.kinds {
		if kind == group.Started {
			break
		}
	}
	var worst time.Duration
	for b.Loop() {
		began := time.Now()
		sink.Line(node.Line{At: began, Rank: 2, Stream: stdout, Text: "a line of an ordinary length, as programs print them"})
		worst = max(worst, (<-a.lines).Sub(began))
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-us")
	p.Finish(ends.Done, "")
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
