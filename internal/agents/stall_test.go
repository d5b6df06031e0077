package agents

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
)

// cable carries bytes between an agent and node 0 until it is cut: then both sides keep
// their connections and hear nothing.
type cable struct {
	at   int
	cut  func()
	mend func()
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	whole := make(chan struct{}) // closed while the cable is
	close(whole)
	var work sync.WaitGroup
	var mu sync.Mutex // of whole and conns
	var conns []net.Conn
	c := &cable{at: l.Addr().(*net.TCPAddr).Port,
		cut: func() { mu.Lock(); whole = make(chan struct{}); mu.Unlock() }, mend: func() { mu.Lock(); close(whole); mu.Unlock() }}
	carry := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			mu.Lock()
			wait := whole
			mu.Unlock()
			<-wait
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, in, out)
			mu.Unlock()
			work.Go(func() { carry(in, out) })
			work.Go(func() { carry(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return c
}

// TestCutCable: a network that is silent is noticed on both sides within the time for
// which pulses may be missed.
func TestCutCable(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	c := newCable(t, addressOf(o))
	o.Node = 1
	o.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{c.at}}
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peer(t, "1.1").Do(startCommand(0, 2))
	r.wait(t, "started node=1", 2)
	time.Sleep(2 * quick.lost) // pulses alone keep it up
	if r.count("lost") > 0 {
		t.Fatalf("lost while the cable was whole: %v", r.all())
	}
	began := time.Now()
	c.cut()
	defer c.mend()
	if e := r.wait(t, "lost node=1", 1); !strings.Contains(e, "nothing was heard of it for 0.") {
		t.Errorf("told as %q", e)
	}
	// windDown waits for the goodbye on this side alone.
	err := d.wait(t)
	if ends.CodeOf(err) != ends.PeerLost || !strings.Contains(err.Error(), "nothing was heard of it") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 3*quick.lost {
		t.Errorf("noticed on both sides after %v, lost is %v", took, quick.lost)
	}
	if did := d.node(t, 0).did(); !strings.HasSuffix(did, "signal 9; finish") {
		t.Errorf("did %q", did)
	}
}

// TestLinesNeverHoldUpEvents: while node 0 takes no line at all, events pass, and what
// does not fit is dropped and counted, the newest lines last.
func TestLinesNeverHoldUpEvents(t *testing.T) {
	r := newRecorder()
	r.lineHold = make(chan struct{})
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node = 1
	o.timing.lost = 5 * time.Second // the goodbye waits for lines that long
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peer(t, "1.1").Do(startCommand(0, 2))
	r.wait(t, "started node=1", 2)
	f := d.node(t, 0)
	const numLines = 20_000
	text := strings.Repeat("x", 1000) // 20 MB in all
	began := time.Now()
	for i := range numLines {
		f.sink.Line(node.Line{At: time.Now(), Rank: 2, Stream: "stdout", Text: text})
		if i == numLines/2 {
			f.sink.Line(node.Line{At: time.Now(), Rank: 3, Stream: "stderr", Text: "quiet"})
		}
	}
	f.sink.Line(node.Line{At: time.Now(), Rank: 2, Stream: "stdout", Text: "last words"})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the agent was held up for %v", took)
	}
	began = time.Now()
	f.sink.Event(group.Event{At: time.Now(), Kind: group.Exited, Rank: 2, Code: 3})
	r.wait(t, "exited node=1", 1)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the event took %v", took)
	}
	r.mu.Lock()
	numTaken := len(r.events)
	r.mu.Unlock()
	if numTaken > 10 {
		t.Errorf("%d events, want no lines yet", numTaken)
	}
	close(r.lineHold)
	r.peer(t, "1.1").Finish(ends.Done, "")
	r.wait(t, "left node=1", 1)
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
	shown, dropped := 0, 0
	var last string
	for _, e := range r.all() {
		if strings.HasPrefix(e, "line 0.2 stdout") {
			shown++
			dropped += number(t, e, "dropped=")
			last = e
		}
	}
	if shown+dropped != numLines+1 || dropped == 0 {
		t.Errorf("%d lines shown, %d dropped, want %d in all and some dropped", shown, dropped, numLines+1)
	}
	if bytes := shown * 1064; bytes < lineBudget/2 || bytes > lineBudget+2*lineWindow+lineBatch {
		t.Errorf("%d bytes were kept, budget %d", bytes, lineBudget)
	}
	if !strings.Contains(last, "last words") || r.count("quiet") != 1 {
		t.Errorf("last words %q, %d lines of the quiet rank", last, r.count("quiet"))
	}
}

// number reads the number behind words.
func number(t *testing.T, text, words string) int {
	t.Helper()
	_, rest, ok := strings.Cut(text, words)
	if !ok {
		t.Fatalf("no %q in %q", words, text)
	}
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// TestClockOffset: a node whose clock is an hour behind, and then set right, tells
// times that node 0 understands.
func TestClockOffset(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node = 1
	var mu sync.Mutex
	behind := time.Hour
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(-behind)
	}
	o.Now = now
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	p := r.peer(t, "1.1")
	p.Do(startCommand(0, 2))
	r.wait(t, "started node=1", 2)
	check := func(n int) {
		t.Helper()
		time.Sleep(5 * quick.pulse)
		before := time.Now()
		d.node(t, 0).sink.Event(group.Event{At: now(), Kind: group.Exited, Rank: 2})
		after := time.Now()
		time.Sleep(20 * time.Millisecond)
		r.wait(t, "exited", n)
		r.mu.Lock()
		at := r.raw[len(r.raw)-1].At
		r.mu.Unlock()
		ahead, way := p.Offset()
		if slack := 15 * time.Millisecond; at.Before(before.Add(-slack)) || at.After(after.Add(slack)) {
			t.Errorf("event at %v, want %v to %v (offset %v, way %v)", at, before, after, ahead, way)
		}
	}
	check(1)
	mu.Lock()
	behind = 0
	mu.Unlock()
	check(2)
	// Times before the node joined, and in the future, are brought within bounds.
	d.node(t, 0).sink.Event(group.Event{At: time.Unix(1, 0), Kind: group.Exited, Rank: 2})
	d.node(t, 0).sink.Event(group.Event{At: time.Now().Add(time.Hour), Kind: group.Exited, Rank: 2})
	r.wait(t, "exited", 4)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.raw {
		if e.At.Before(r.raw[0].At) || e.At.After(time.Now()) {
			t.Errorf("%s at %v", e.Kind, e.At)
		}
	}
}
