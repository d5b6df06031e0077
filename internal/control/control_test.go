package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/wanrun/wanrun/internal/ends"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// TestMain also is the other process of TestOtherUser.
func TestMain(m *testing.M) {
	if socket := os.Getenv("CONTROL_TEST_DIAL"); socket != "" {
		_, _, err := Attach(context.Background(), socket, &wanrunv1.Hello{Token: os.Getenv("CONTROL_TEST_TOKEN"), Build: "b"}, nil)
		fmt.Println(err)
		os.Exit(int(ends.CodeOf(err)))
	}
	goleak.VerifyTestMain(m)
}

// recorder is a handler that writes down what it is told.
type recorder struct {
	job    *wanrunv1.Job
	refuse error

	mu     sync.Mutex
	events []string
	more   chan struct{} // one for each event
}

func newRecorder() *recorder {
	return &recorder{job: &wanrunv1.Job{Prompt: "p"}, more: make(chan struct{}, 10_000)}
}

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	r.more <- struct{}{}
}

func (r *recorder) Attached(h *wanrunv1.Hello) (*wanrunv1.Job, error) {
	r.add("attached %d", h.GetRank())
	return r.job, r.refuse
}
func (r *recorder) Progress(rank int, p *wanrunv1.Progress) {
	r.add("progress %d %s %d", rank, p.GetPhase(), p.GetDone())
}
func (r *recorder) Report(rank int, m *wanrunv1.Report) {
	r.add("report %d %d", rank, m.GetExitCode())
}
func (r *recorder) Detached(rank int, err error) { r.add("detached %d %v", rank, err) }
func (r *recorder) Refused(err error)            { r.add("refused %v", err) }

// wait returns the first event that has words in it, which must come soon.
func (r *recorder) wait(t *testing.T, words string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		for _, e := range r.events {
			if strings.Contains(e, words) {
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("no event %q; got %q", words, r.events)
		}
	}
}

func start(t *testing.T, size int, r *recorder, patience time.Duration) *Server {
	t.Helper()
	dir := t.TempDir()
	s, err := serve(dir, size, "b", r, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	})
	return s
}

func attach(t *testing.T, s *Server, rank int32) (*Session, *wanrunv1.Job) {
	t.Helper()
	session, job, err := Attach(t.Context(), s.Socket(), &wanrunv1.Hello{Rank: rank, Token: s.Token(), Build: "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session, job
}

func TestWholeRun(t *testing.T) {
	r := newRecorder()
	r.job.Prompt = strings.Repeat("红", 300_000) // near 1 MB
	s := start(t, 2, r, helloTimeout)
	var sessions []*Session
	for rank := range int32(2) {
		session, job := attach(t, s, rank)
		if job.GetPrompt() != r.job.GetPrompt() {
			t.Errorf("rank %d got another job", rank)
		}
		sessions = append(sessions, session)
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	for rank, session := range sessions {
		for i := range int32(100) {
			session.Progress(&wanrunv1.Progress{Phase: "denoise", Done: i + 1})
		}
		if err := session.Report(&wanrunv1.Report{ExitCode: int32(rank)}); err != nil {
			t.Errorf("report of rank %d: %v", rank, err)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		// The newest progress is not lost, and comes before the report.
		r.wait(t, fmt.Sprintf("progress %d denoise 100", rank))
		r.wait(t, fmt.Sprintf("detached %d <nil>", rank))
		if cause := context.Cause(session.Context()); cause != context.Canceled {
			t.Errorf("rank %d ended with %v", rank, cause)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if order := strings.Join(r.events, "\n"); strings.Index(order, "report 0") < strings.Index(order, "progress 0 denoise 100") {
		t.Errorf("report before progress:\n%s", order)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	s := start(t, 1, newRecorder(), helloTimeout)
	for path, want := range map[string]os.FileMode{filepath.Dir(s.Socket()): 0o700, s.Socket(): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode(), err, want)
		}
	}
	if len(s.Token()) != 64 {
		t.Errorf("token of %d letters", len(s.Token()))
	}
}

func TestRefusedPeers(t *testing.T) {
	r := newRecorder()
	s := start(t, 2, r, helloTimeout)
	attach(t, s, 1)
	for _, tc := range []struct {
		name, words string
		hello       *wanrunv1.Hello
	}{
		{"wrong token", "wrong token", &wanrunv1.Hello{Token: s.Token()[1:] + "0", Build: "b"}},
		{"no token", "wrong token", &wanrunv1.Hello{Build: "b"}},
		{"wrong build", `worker build "c", launcher build "b"`, &wanrunv1.Hello{Token: s.Token(), Build: "c"}},
		{"rank too large", "rank 2 of 2", &wanrunv1.Hello{Token: s.Token(), Build: "b", Rank: 2}},
		{"negative rank", "rank -1 of 2", &wanrunv1.Hello{Token: s.Token(), Build: "b", Rank: -1}},
		{"rank twice", "rank 1 attached twice", &wanrunv1.Hello{Token: s.Token(), Build: "b", Rank: 1}},
	} {
		session, _, err := Attach(t.Context(), s.Socket(), tc.hello, nil)
		if err == nil {
			session.Close()
			t.Errorf("%s: attached", tc.name)
			continue
		}
		if !strings.Contains(err.Error(), tc.words) || ends.CodeOf(err) != ends.CannotStart {
			t.Errorf("%s: %v (class %v), want %q", tc.name, err, ends.CodeOf(err), tc.words)
		}
		if strings.Contains(err.Error(), s.Token()) {
			t.Errorf("%s: the error tells the token", tc.name)
		}
		r.wait(t, tc.words)
	}
	// The refusal of the second did not turn the first away.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if strings.HasPrefix(e, "detached 1") {
			t.Error("rank 1 was detached by its double")
		}
	}
}

func TestHandlerRefuses(t *testing.T) {
	r := newRecorder()
	r.refuse = errors.New("stopping")
	s := start(t, 1, r, helloTimeout)
	_, _, err := Attach(t.Context(), s.Socket(), &wanrunv1.Hello{Token: s.Token(), Build: "b"}, nil)
	if err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("attach: %v", err)
	}
	r.wait(t, "refused stopping")
}

// TestGarbage: what is not our protocol is dropped, and a worker still attaches after it.
func TestGarbage(t *testing.T) {
	r := newRecorder()
	s := start(t, 1, r, helloTimeout)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff", "", "\x00"} {
		conn, err := net.Dial("unix", s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	_, job := attach(t, s, 0)
	if job.GetPrompt() != "p" {
		t.Error("no job after garbage")
	}
}

// rawStream opens a stream without saying hello.
func rawStream(t *testing.T, s *Server) wanrunv1.Control_AttachClient {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := wanrunv1.NewControlClient(conn).Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestSlowHello(t *testing.T) {
	r := newRecorder()
	s := start(t, 1, r, 50*time.Millisecond)
	stream := rawStream(t, s)
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "said nothing") {
		t.Errorf("a silent peer got %v", err)
	}
	r.wait(t, "refused a peer said nothing")
}

// TestSilentConnection: one that never speaks HTTP/2 is closed.
func TestSilentConnection(t *testing.T) {
	s := start(t, 1, newRecorder(), 50*time.Millisecond)
	conn, err := net.Dial("unix", s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	for {
		if _, err := conn.Read(buf); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("still open after 10 s")
			}
			return
		}
	}
}

func TestWrongFirstAndLaterMessages(t *testing.T) {
	r := newRecorder()
	s := start(t, 1, r, helloTimeout)
	stream := rawStream(t, s)
	if err := stream.Send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Progress{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "did not begin with hello") {
		t.Errorf("progress before hello got %v", err)
	}
	hello := &wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Hello{Hello: &wanrunv1.Hello{Token: s.Token(), Build: "b"}}}
	stream = rawStream(t, s)
	for range 2 {
		if err := stream.Send(hello); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, "detached 0 rank 0 sent an unexpected message")
}

func TestOversizeMessage(t *testing.T) {
	r := newRecorder()
	s := start(t, 1, r, helloTimeout)
	stream := rawStream(t, s)
	send := func(m *wanrunv1.FromWorker) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Hello{Hello: &wanrunv1.Hello{Token: s.Token(), Build: "b"}}})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Report{Report: &wanrunv1.Report{Error: strings.Repeat("e", maxMessage+1)}}})
	if e := r.wait(t, "detached 0"); !strings.Contains(e, "larger than max") {
		t.Errorf("an oversize report ended with %q", e)
	}
}

func TestAbortThenReport(t *testing.T) {
	r := newRecorder()
	s := start(t, 1, r, helloTimeout)
	session, _ := attach(t, s, 0)
	s.Abort(ends.Interrupted, "stopped by SIGINT")
	<-session.Context().Done()
	cause := context.Cause(session.Context())
	if ends.CodeOf(cause) != ends.Interrupted || cause.Error() != "stopped by SIGINT" {
		t.Errorf("aborted with %v, class %v", cause, ends.CodeOf(cause))
	}
	if err := session.Report(&wanrunv1.Report{ExitCode: int32(ends.Interrupted)}); err != nil {
		t.Errorf("report after abort: %v", err)
	}
	r.wait(t, "report 0 130")
	r.wait(t, "detached 0 <nil>")
}

// TestAbortDoesNotWait: a worker that reads nothing holds up its job, but neither an
// abort nor the end.
func TestAbortDoesNotWait(t *testing.T) {
	r := newRecorder()
	r.job.Prompt = strings.Repeat("x", maxMessage/2) // more than the stream's window
	s := start(t, 1, r, helloTimeout)
	stream := rawStream(t, s)
	if err := stream.Send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Hello{Hello: &wanrunv1.Hello{Token: s.Token(), Build: "b"}}}); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "attached 0")
	done := make(chan struct{})
	go func() {
		s.Abort(ends.Interrupted, "stop")
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("abort waits for a worker that does not read")
	}
}

func TestBrokenStreams(t *testing.T) {
	r := newRecorder()
	s := start(t, 2, r, helloTimeout)
	session, _ := attach(t, s, 0)
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	r.wait(t, "detached 0 rank 0 closed its stream without a report")

	// The launcher goes: the worker's context ends as a lost peer.
	other := newRecorder()
	gone, err := Serve(t.TempDir(), 1, "b", other)
	if err != nil {
		t.Fatal(err)
	}
	session, _ = attach(t, gone, 0)
	if err := gone.Close(); err != nil {
		t.Error(err)
	}
	<-session.Context().Done()
	if cause := context.Cause(session.Context()); ends.CodeOf(cause) != ends.PeerLost {
		t.Errorf("without its launcher: %v, class %v", cause, ends.CodeOf(cause))
	}
	if err := session.Report(&wanrunv1.Report{}); err == nil {
		t.Error("a report was delivered to nobody")
	}
}

func TestNoLauncher(t *testing.T) {
	_, _, err := Attach(t.Context(), filepath.Join(t.TempDir(), "none.sock"), &wanrunv1.Hello{}, nil)
	if ends.CodeOf(err) != ends.CannotStart {
		t.Errorf("attach to nothing: %v, class %v", err, ends.CodeOf(err))
	}
}

// TestAttachEndsWithContext: a launcher that never answers does not hold a worker that is to stop.
func TestAttachEndsWithContext(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "mute.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(ends.Errorf(ends.Terminated, "stopped by SIGTERM")) })
	_, _, err = Attach(ctx, listener.Addr().String(), &wanrunv1.Hello{}, nil)
	if ends.CodeOf(err) != ends.Terminated {
		t.Errorf("attach: %v, class %v, want that of the stop", err, ends.CodeOf(err))
	}
}

// TestProxyVariables: a proxy for the network is nothing to a socket.
func TestProxyVariables(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	attach(t, start(t, 1, newRecorder(), helloTimeout), 0)
}

// TestOtherUser: another user is refused by the kernel's word, even where the
// socket's mode would let them in and they know the token.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	r := newRecorder()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := Serve(dir, 1, "b", r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	program := filepath.Join(dir, "peer.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(s.Socket()): 0o755, s.Socket(): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Dir = dir
	cmd.Env = []string{"CONTROL_TEST_DIAL=" + s.Socket(), "CONTROL_TEST_TOKEN=" + s.Token()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != int(ends.CannotStart) {
		t.Errorf("another user's worker ended with %v: %s", err, out)
	}
	if e := r.wait(t, "refused "); !strings.Contains(e, "of user 65534 is not this user's") {
		t.Errorf("refused as %q", e)
	}
}
