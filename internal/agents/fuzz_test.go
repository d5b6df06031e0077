package agents

import (
	"bytes"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func marshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return data
}

// witness checks what gets through to node 0.
type witness struct {
	t *testing.T
	p *Peer
}

func (w *witness) check(attempt, rank int) {
	if attempt != 0 || rank != 2 && rank != 3 {
		w.t.Errorf("rank %d of attempt %d came through", rank, attempt)
	}
}

func (w *witness) Joined(*Peer)  {}
func (w *witness) Refused(error) {}
func (w *witness) Event(e group.Event) {
	if !ofNode[e.Kind] {
		w.check(e.Attempt, e.Rank)
	}
	if e.Node != 1 || e.Session != "1.1" || e.Kind == group.Join || e.Kind == group.Lost || e.Code < 0 || e.Code > 255 ||
		len(e.Text) > maxText || !utf8.ValidString(e.Text) || bytes.ContainsAny([]byte(e.Text), "\x1b\n\x00") {
		w.t.Errorf("event %+v came through", e)
	}
}
func (w *witness) Line(l node.Line)                                 { w.check(l.Attempt, l.Rank) }
func (w *witness) Progress(attempt, rank int, p *wanrunv1.Progress) { w.check(attempt, rank) }
func (w *witness) Report(attempt, rank int, r *wanrunv1.Report)     { w.check(attempt, rank) }
func (w *witness) Sample(s node.Sample)                             { w.check(s.Attempt, s.Rank) }

// FuzzFromAgent: whatever a node sends, what comes through is of its own ranks, within
// bounds and in time.
func FuzzFromAgent(f *testing.F) {
	f.Add(marshal(f, event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, At: 1, Code: 3, Text: "a\x1b[2Jb"})))
	f.Add(marshal(f, event(&wanrunv1.AgentEvent{Kind: "left"})))
	f.Add(marshal(f, event(&wanrunv1.AgentEvent{Kind: "failing", Rank: 7})))
	f.Add(marshal(f, lines(3, 10)))
	f.Add(marshal(f, &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Pulse{Pulse: &wanrunv1.AgentPulse{Sent: 1 << 62, Echo: -1 << 62, Received: 1}}}))
	f.Add(marshal(f, &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_States{States: &wanrunv1.AgentStates{
		Progress: []*wanrunv1.AgentProgress{{Rank: 2, Progress: &wanrunv1.Progress{Phase: "p"}}},
		Samples:  []*wanrunv1.AgentSample{{Rank: 3, Rss: 5, State: "S"}}}}}))
	f.Add(marshal(f, &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Introduction{Introduction: &wanrunv1.AgentIntroduction{Name: "n", Ranks: 2}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &wanrunv1.FromAgent{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		w := &witness{t: t, p: newPeer(1, "1.1", "n", nil)}
		w.p.own(&node.Start{World: world(2)})
		o, err := testOptions(t, 0, 2).prepareForTest()
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		v := &visit{l: &Listener{options: o, handler: w, closing: make(chan struct{})}, p: w.p, joined: now.Add(-time.Minute),
			pulses: &pulses{}, vigil: newVigil(), lines: newLineQueue(), pace: newPace(), stop: make(chan struct{})}
		w.p.clock.hello(0, now)
		_ = v.take(m, now) // an error is an answer, too
		w.p.clock.offset()
		if at := w.p.shift(time.Unix(0, 1), v.joined, now); at.Before(v.joined) || at.After(now) {
			t.Errorf("shifted to %v", at)
		}
		for _, l := range v.lines.lines {
			w.Line(l)
			if l.At.After(now) || len(l.Text) > maxLine || l.Dropped < 0 {
				t.Errorf("line %+v came through", l)
			}
		}
		if in := m.GetIntroduction(); in != nil && checkIntroduction(in) == nil {
			_ = skew(in, o, []byte("k")) // never panics
		}
	})
}

// prepareForTest sets a rendezvous that is never used.
func (o Options) prepareForTest() (Options, error) {
	o.Rendezvous.File = "/nowhere"
	return o.prepare()
}

// FuzzToAgent: whatever node 0 sends, a command that comes of it is whole and survives the
// way there and back.
func FuzzToAgent(f *testing.F) {
	for _, c := range []node.Command{startCommand(0, 2), {Ask: &node.Ask{Code: 143, Reason: "r"}}, {Signal: 9}, {Dump: true}, {Finish: true}} {
		if c.Start != nil {
			c.Start.Job = nil
		}
		f.Add(marshal(f, orderOf(c)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &wanrunv1.AgentOrder{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		c, err := commandOf(m)
		if err != nil {
			return
		}
		if c.Start != nil {
			for rank, p := range c.Start.World {
				if p.Rank != rank || p.Node < 0 || p.Local < 0 {
					t.Errorf("place %+v of rank %d", p, rank)
				}
			}
			if c.Start.MasterPort < 1 || c.Start.MasterPort > 65535 {
				t.Errorf("port %d", c.Start.MasterPort)
			}
		}
		again, err := commandOf(orderOf(c))
		if err != nil {
			t.Fatalf("the way back: %v", err)
		}
		if again.Signal != c.Signal || again.Dump != c.Dump || again.Finish != c.Finish || (again.Start == nil) != (c.Start == nil) {
			t.Errorf("%+v became %+v", c, again)
		}
	})
}

// FuzzFrames: both sides' reading of a handshake.
func FuzzFrames(f *testing.F) {
	var buf bytes.Buffer
	for _, m := range []proto.Message{&wanrunv1.AgentOffer{Version: 1, JobId: "j", Nonce: make([]byte, numNonce)},
		&wanrunv1.AgentClaim{Version: 1, JobId: "j", Node: 1, Nonce: make([]byte, numNonce), Proof: make([]byte, 32)}} {
		buf.Reset()
		if err := writeFrame(&buf, m); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(buf.Bytes()))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	id := &identity{key: []byte("k"), job: "j", node: 1, nodes: 2}
	f.Fuzz(func(t *testing.T, data []byte) {
		claim, offer := &wanrunv1.AgentClaim{}, &wanrunv1.AgentOffer{}
		if readFrame(bytes.NewReader(data), claim) == nil {
			if _, err := id.judge(claim, &wanrunv1.AgentOffer{Nonce: bytes.Repeat([]byte{1}, numNonce)}, make([]byte, 96)); err == nil {
				t.Error("a claim was good by chance")
			}
		}
		if readFrame(bytes.NewReader(data), offer) == nil && id.consider(offer) == nil && (offer.GetJobId() != "j" || len(offer.GetNonce()) != numNonce) {
			t.Errorf("offer %v was good", offer)
		}
	})
}

// FuzzMeetingPoint: a rendezvous file that is taken has addresses to connect to.
func FuzzMeetingPoint(f *testing.F) {
	f.Add([]byte(`{"version":1,"job_id":"j","addresses":["10.0.0.1:29400","[fd00::1]:1"],"secret":"0123456789abcdef"}`))
	f.Add([]byte(`{"version":1,"addresses":["0.0.0.0:0"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeetingPoint(data)
		if err != nil {
			return
		}
		for _, a := range m.Addresses {
			if !a.IsValid() || a.Port() == 0 {
				t.Errorf("address %v", a)
			}
		}
	})
}
