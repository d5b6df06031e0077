package jobs

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/control/group"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func TestPace(t *testing.T) {
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	say := func(phase string, done int32) *wanrunv1.Progress {
		return &wanrunv1.Progress{Phase: phase, Done: done, Total: 10}
	}
	for _, tc := range []struct {
		name  string
		story []float64 // second, units done, ...
		now   float64
		want  float64 // -1: unknown
	}{
		{"nothing done", []float64{0, 0}, 5, -1},
		{"two of ten in 4 s", []float64{0, 0, 2, 1, 4, 2}, 4, 16},
		{"a second later", []float64{0, 0, 2, 1, 4, 2}, 5, 15},
		{"said again", []float64{0, 0, 2, 1, 4, 2, 5, 2}, 5, 15},
		{"slower than before", []float64{0, 0, 2, 1}, 60, 0},
		{"heard in the middle", []float64{0, 5}, 1, -1},
	} {
		var p pace
		for i := 0; i < len(tc.story); i += 2 {
			p.update(at(tc.story[i]), say("denoise", int32(tc.story[i+1])))
		}
		got := -1.0
		if eta := p.eta(at(tc.now)); eta != nil {
			got = *eta
		}
		if got != tc.want {
			t.Errorf("%s: %v s, want %v", tc.name, got, tc.want)
		}
	}
}

// What a worker knows of a GPU is on the board; what it does not know any more is not.
func TestBoardMemory(t *testing.T) {
	b := NewBoard(Info{Started: began, Ours: true, Nodes: []string{"a"}, Now: func() time.Time { return began }})
	b.Action(began, group.Action{Kind: group.Start, Table: []group.Place{{Rank: 0}}})
	p := &wanrunv1.Progress{Phase: "denoise", Done: 1, Total: 4, Memory: &wanrunv1.Memory{Held: proto.Int64(9), RssAnonymous: proto.Int64(8),
		Gpu: &wanrunv1.Gpu{Name: "H100", Own: proto.Int64(5), Used: proto.Int64(6), Total: proto.Int64(7)}}}
	b.Progress(began, 0, 0, p)
	r := b.Status().Ranks[0]
	if *r.Arena != 0 || *r.Reserved != 9 || *r.Anonymous != 8 || *r.GPU != 5 || *r.GPUUsed != 6 || *r.GPUTotal != 7 || r.GPUName != "H100" || r.Phase != "denoise" || r.Done != 1 || r.Total != 4 {
		t.Errorf("%+v", r)
	}
	b.Progress(began, 0, 0, &wanrunv1.Progress{Phase: "denoise", Memory: &wanrunv1.Memory{GpuUnknown: "it is gone"}})
	r = b.Status().Ranks[0]
	if r.GPU != nil || r.GPUUsed != nil || r.GPUTotal != nil || r.Reserved != nil || r.GPUUnknown != "it is gone" {
		t.Errorf("%+v", r)
	}
}
