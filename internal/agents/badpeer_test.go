package agents

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func addressOf(o Options) string {
	return net.JoinHostPort(o.Rendezvous.Host, fmt.Sprint(o.Rendezvous.Ports[0]))
}

func connect(t *testing.T, o Options) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addressOf(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// secure does what an agent does, up to the first frame.
func secure(t *testing.T, o Options) (net.Conn, []byte) {
	t.Helper()
	config, err := o.TLS.config()
	if err != nil {
		t.Fatal(err)
	}
	conn, binding, err := (&identity{tls: config}).secureClient(connect(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return conn, binding
}

// TestBadDialers: each is refused on both sides and told; a good node joins after all
// of them, and the job goes well.
func TestBadDialers(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 3)
	o.Secret = testSecret
	_, o = listenAtFree(t, o, r)
	o.Node = 1
	for _, tc := range []struct {
		name   string
		change func(*Options)
		here   string // what the dialer ends with
		there  string // what node 0 is told
	}{
		{"wrong secret", func(o *Options) { o.Secret = []byte("another secret of enough bytes") },
			`node 1 has another secret than node 0 of job "job-a"`, `node 1 has another secret`},
		{"no secret", func(o *Options) { o.Secret = nil }, "another secret", "another secret"},
		{"other job", func(o *Options) { o.JobID = "job-b" },
			`node 1 of job "job-b" came to node 0 of job "job-a"`, `it went away: node 1 of job "job-b" came to node 0 of job "job-a"`},
		{"number too large", func(o *Options) { o.Node, o.Nodes = 3, 4 }, "it says that it is node 3, want 1 to 2 of 3 nodes", "node 3, want 1 to 2"},
		{"no TLS", func(o *Options) { o.TLS.Off, o.JoinTimeout = true, 100*time.Millisecond }, "read the offer", "TLS: tls: first record does not look like a TLS handshake"},
	} {
		bad := o
		tc.change(&bad)
		err := dial(t, bad).wait(t)
		if err == nil || !strings.Contains(err.Error(), tc.here) {
			t.Errorf("%s: ended with %v, want %q", tc.name, err, tc.here)
		}
		if !bad.TLS.Off && ends.CodeOf(err) != ends.Usage {
			t.Errorf("%s: class %v", tc.name, ends.CodeOf(err))
		}
		if e := r.wait(t, tc.there, 1); !strings.Contains(e, "refused 127.0.0.1:") {
			t.Errorf("%s: told as %q", tc.name, e)
		}
		if strings.Contains(err.Error(), string(testSecret)) {
			t.Errorf("%s: the error tells the secret", tc.name)
		}
	}

	// Garbage, at the doors of TCP and of TLS.
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "\x00", "", strings.Repeat("\xff", 100_000)} {
		conn := connect(t, o)
		_, _ = conn.Write([]byte(text)) // it may hang up in the middle
		conn.Close()
	}
	for _, frame := range [][]byte{
		binary.BigEndian.AppendUint32(nil, 64<<20),
		binary.BigEndian.AppendUint32(nil, 0xffffffff),
		{0, 0, 0, 3, 0xff, 0xff, 0xff},
		{0, 0},
	} {
		conn, _ := secure(t, o)
		_, _ = conn.Write(frame) // it may hang up in the middle
		if n, err := io.Copy(io.Discard, conn); err == nil && n > 4096 {
			t.Errorf("garbage was answered with %d bytes", n)
		}
		conn.Close()
	}
	r.wait(t, "a frame of 67108864 bytes, want at most 8192", 1)

	// A claim of another version.
	conn, _ := secure(t, o)
	if err := writeFrame(conn, &wanrunv1.AgentClaim{Version: 99, JobId: "job-a", Node: 1}); err != nil {
		t.Fatal(err)
	}
	offer, verdict := &wanrunv1.AgentOffer{}, &wanrunv1.AgentVerdict{}
	if err := readFrame(conn, offer); err != nil {
		t.Fatal(err)
	}
	if err := readFrame(conn, verdict); err != nil || !strings.Contains(verdict.GetRefusal(), "version 99") {
		t.Errorf("version 99 got %v, %v", verdict, err)
	}

	good := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peers[0].Finish(ends.Done, "")
	if err := good.wait(t); err != nil {
		t.Error(err)
	}
}

// TestPlainListener: --tls off on node 0 alone is told at once, and works when it is off
// everywhere, secret and all.
func TestPlain(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Secret, o.TLS.Off = testSecret, true
	_, o = listenAtFree(t, o, r)
	o.Node = 1
	bad := o
	bad.TLS.Off, bad.JoinTimeout = false, 100*time.Millisecond
	if err := dial(t, bad).wait(t); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("%v", err)
	}
	r.wait(t, "uses TLS where this job has --tls off", 1)
	bad = o
	bad.Secret = []byte("another secret of enough bytes")
	if err := dial(t, bad).wait(t); err == nil || !strings.Contains(err.Error(), "another secret") {
		t.Errorf("%v", err)
	}
	good := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peers[0].Finish(ends.Done, "")
	if err := good.wait(t); err != nil {
		t.Error(err)
	}
}

// TestFalseNodeZero: who listens without the secret learns nothing and gets nobody.
func TestFalseNodeZero(t *testing.T) {
	config, err := TLS{}.config()
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyOf(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{key: key, tls: config, job: "job-a", node: 1, timeout: 5 * time.Second}
	server, client := net.Pipe()
	defer server.Close()
	go func() {
		conn := tls.Server(server, config)
		_ = writeFrame(conn, &wanrunv1.AgentOffer{Version: protocolVersion, JobId: "job-a", Nonce: make([]byte, numNonce)})
		_ = readFrame(conn, &wanrunv1.AgentClaim{})
		_ = writeFrame(conn, &wanrunv1.AgentVerdict{Proof: make([]byte, 32)})
	}()
	if _, err := id.greet(t.Context(), client); err == nil || !strings.Contains(err.Error(), "does not know the secret") {
		t.Errorf("false proof: %v", err)
	}
}

// TestBetween: one that sits between agent and node 0, and passes every word of their
// proofs on, has two connections with two bindings: no proof fits.
func TestBetween(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Secret = testSecret
	_, o = listenAtFree(t, o, r)
	o.Node = 1
	middle, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	config, err := TLS{}.config()
	if err != nil {
		t.Fatal(err)
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		in, err := middle.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		agent := tls.Server(in, config)
		out, err := tls.Dial("tcp", addressOf(o), config)
		if err != nil {
			return
		}
		defer out.Close()
		back := make(chan struct{})
		go func() { defer close(back); _, _ = io.Copy(agent, out); in.Close() }()
		_, _ = io.Copy(out, agent)
		out.Close()
		<-back
	}()
	fooled := o
	fooled.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{middle.Addr().(*net.TCPAddr).Port}}
	if err := dial(t, fooled).wait(t); err == nil || !strings.Contains(err.Error(), "another secret") {
		t.Errorf("through the middle: %v", err)
	}
	<-passed
	r.wait(t, "another secret", 1)
	if r.count("join") > 0 {
		t.Error("somebody joined through the middle")
	}
}

// TestReplay: a claim that was good once is worth nothing again, with TLS or without.
func TestReplay(t *testing.T) {
	for _, off := range []bool{false, true} {
		r := newRecorder()
		o := testOptions(t, 0, 2)
		o.Secret, o.TLS.Off = testSecret, off
		_, o = listenAtFree(t, o, r)
		key, err := keyOf(testSecret)
		if err != nil {
			t.Fatal(err)
		}
		conn, binding := secure(t, o)
		offer := &wanrunv1.AgentOffer{}
		if err := readFrame(conn, offer); err != nil {
			t.Fatal(err)
		}
		nonce := bytes.Repeat([]byte{7}, numNonce)
		claim := &wanrunv1.AgentClaim{Version: protocolVersion, JobId: o.JobID, Node: 1, Nonce: nonce,
			Proof: (&identity{key: key}).proof("agent", binding, offer.GetNonce(), nonce, 1, o.JobID)}
		for i, want := range []bool{true, false} {
			if i > 0 {
				conn, _ = secure(t, o)
				if err := readFrame(conn, offer); err != nil {
					t.Fatal(err)
				}
			}
			verdict := &wanrunv1.AgentVerdict{}
			if err := writeFrame(conn, claim); err != nil {
				t.Fatal(err)
			}
			if err := readFrame(conn, verdict); err != nil {
				t.Fatal(err)
			}
			if good := verdict.GetRefusal() == "" && len(verdict.GetProof()) == 32; good != want {
				t.Errorf("tls off %v, time %d: %v", off, i, verdict)
			}
		}
		// Node 0's own proof does not pass for an agent's.
		if bytes.Equal((&identity{key: key}).proof("agent", binding, nonce, nonce, 1, "j"), (&identity{key: key}).proof("node 0", binding, nonce, nonce, 1, "j")) {
			t.Error("both roles have one proof")
		}
	}
}

// TestSlowLoris: 200 silent connections neither stay open nor keep a node out.
func TestSlowLoris(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Secret = testSecret
	o.timing.patience, o.timing.complaints = 2*time.Second, usual.complaints
	_, o = listenAtFree(t, o, r)
	var conns []net.Conn
	for range 200 {
		conns = append(conns, connect(t, o))
	}
	o.Node = 1
	began := time.Now()
	good := dial(t, o)
	r.wait(t, "join node=1", 1)
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("joined after %v", took)
	}
	for i, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("connection %d is still open", i)
		}
	}
	r.peers[0].Finish(ends.Done, "")
	if err := good.wait(t); err != nil {
		t.Error(err)
	}
	if n := r.count("refused"); n == 0 || n > 30 {
		t.Errorf("%d complaints", n)
	}
}

// rogue is an agent that has the secret and bad manners.
func rogue(t *testing.T, o Options, introduce bool) *meeting {
	t.Helper()
	o, err := o.prepare()
	if err != nil {
		t.Fatal(err)
	}
	d := &dialer{Options: o}
	if d.tls, err = o.TLS.config(); err != nil {
		t.Fatal(err)
	}
	conn, err := d.meet(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &meeting{d: d, conn: conn}
	client, err := grpc.NewClient("passthrough:///node-0", grpc.WithTransportCredentials(proven{}),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return conn, nil }),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if m.stream, err = wanrunv1.NewAgentsClient(client).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if introduce {
		if err := m.stream.Send(&wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Introduction{
			Introduction: &wanrunv1.AgentIntroduction{Name: "rogue\x1b[2J", Ranks: 2, Clock: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func event(e *wanrunv1.AgentEvent) *wanrunv1.FromAgent {
	return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Happenings{Happenings: &wanrunv1.AgentHappenings{
		List: []*wanrunv1.AgentHappening{{Kind: &wanrunv1.AgentHappening_Event{Event: e}}}}}}
}

func lines(n, size int) *wanrunv1.FromAgent {
	m := &wanrunv1.AgentLines{}
	for range n {
		m.List = append(m.List, &wanrunv1.AgentLine{Rank: 2, Text: make([]byte, size)})
	}
	return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Lines{Lines: m}}
}

// TestRogues: nodes that have proved themselves and then misbehave are lost, each for
// its own reason, and the other node does not notice.
func TestRogues(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 3)
	r.lineHold = make(chan struct{})
	defer close(r.lineHold)
	_, o = listenAtFree(t, o, r)
	o.Node = 2
	good := dial(t, o)
	r.wait(t, "join node=2 session=2.1", 1)
	o.Node = 1
	session := 1
	for _, tc := range []struct {
		name  string
		m     *wanrunv1.FromAgent
		words string
	}{
		{"foreign rank", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 0}), "speaks for rank 0 of attempt 0"},
		{"foreign attempt", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, Attempt: 1}), "speaks for rank 2 of attempt 1"},
		{"join", event(&wanrunv1.AgentEvent{Kind: "join"}), `an event "join"`},
		{"negative rank", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: -1}), "rank -1"},
		{"code", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, Code: 256}), "code 256"},
		{"memory", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, Memory: "\x1b[31m"}), `memory "\x1b[31m"`},
		{"nothing", &wanrunv1.FromAgent{}, "no known kind"},
		{"second introduction", &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Introduction{}}, "no known kind"},
		{"64 MiB", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, Text: strings.Repeat("x", 64<<20)}), "larger than max"},
		{"long text", event(&wanrunv1.AgentEvent{Kind: "exited", Rank: 2, Text: strings.Repeat("x", maxText+1)}), "bytes of text"},
		{"lines beyond the window", lines(1+lineWindow/(1000+lineCost), 1000), "lines that were not asked for"},
		{"long line", lines(1, maxLine+1), "a line of 262145 bytes"},
		{"empty report", &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Happenings{Happenings: &wanrunv1.AgentHappenings{
			List: []*wanrunv1.AgentHappening{{Kind: &wanrunv1.AgentHappening_Report{}}}}}}, "empty report"},
	} {
		session++
		m := rogue(t, o, true)
		name := fmt.Sprintf("1.%d", session)
		r.wait(t, "join node=1 session="+name, 1)
		r.peer(t, name).Do(node.Command{Start: &node.Start{World: world(3), MasterAddr: "127.0.0.1", MasterPort: 1}})
		_ = m.stream.Send(tc.m) // node 0 may hang up in the middle
		if e := r.wait(t, "lost node=1 session="+name, 1); !strings.Contains(e, tc.words) {
			t.Errorf("%s: %q, want %q", tc.name, e, tc.words)
		}
		m.conn.Close() // so that the next one is let in
	}
	select {
	case err := <-good.end:
		t.Fatalf("the good node ended: %v", err)
	default:
	}
	r.peer(t, "2.1").Finish(ends.Done, "")
	if err := good.wait(t); err != nil {
		t.Error(err)
	}
}

// TestSilentAfterProof: one that proves itself and then says nothing, or something else
// than its introduction, is turned away.
func TestSilentAfterProof(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node = 1
	m := rogue(t, o, false)
	if _, err := m.stream.Recv(); err == nil {
		t.Error("answered nothing with something")
	}
	r.wait(t, "refused node 1", 1)
	m = rogue(t, o, false)
	if err := m.stream.Send(lines(1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.stream.Recv(); err == nil || !strings.Contains(err.Error(), "did not begin with its introduction") {
		t.Errorf("%v", err)
	}
	// Connections of one node are few.
	for range maxPerNode + 3 {
		config, err := TLS{}.config()
		if err != nil {
			t.Fatal(err)
		}
		key, err := keyOf(nil)
		if err != nil {
			t.Fatal(err)
		}
		id := &identity{key: key, tls: config, job: o.JobID, node: 1, timeout: time.Second}
		if _, err := id.greet(t.Context(), connect(t, o)); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, "node 1 has 4 connections already", 1)
	if r.count("join") > 0 {
		t.Error("somebody joined")
	}
}
