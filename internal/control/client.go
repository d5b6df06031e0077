package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/wanrun/wanrun/internal/ends"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Session is a worker's side of its stream.
type Session struct {
	conn   *grpc.ClientConn
	stream wanrunv1.Control_AttachClient
	ctx    context.Context // of the work: done on abort
	cancel context.CancelCauseFunc
	hangUp context.CancelFunc // ends the stream, on which a report may follow an abort

	dump     func(file string)
	sendMu   sync.Mutex // one Send at a time
	mu       sync.Mutex
	latest   *wanrunv1.Progress // waits to be sent; a newer one replaces it
	wake     chan struct{}
	reported bool
	received chan struct{} // closed when the launcher has ended the stream
	drain    chan struct{} // closed when it wants the work saved and ended
	drainErr error         // why; set before drain is closed
	done     sync.WaitGroup
}

// Attach connects to the launcher's socket, says hello and returns the job. The
// session's Context is done when the launcher aborts, with an error of the class
// that it names, or when the stream breaks, with one of class ends.PeerLost. dump, which
// may be nil, is called when the launcher wants the worker's stacks in a file.
func Attach(ctx context.Context, socket string, hello *wanrunv1.Hello, dump func(file string)) (*Session, *wanrunv1.Job, error) {
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's mode is the protection
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, nil, ends.Errorf(ends.CannotStart, "control socket %q: %w", socket, err)
	}
	s := &Session{conn: conn, dump: dump, wake: make(chan struct{}, 1), received: make(chan struct{}),
		drain: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	streamCtx, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	s.hangUp = hangUp
	defer context.AfterFunc(ctx, hangUp)() // until there is a job; then ctx ends the work, not the stream
	fail := func(err error) (*Session, *wanrunv1.Job, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.cancel(err)
		hangUp()
		return nil, nil, errors.Join(ends.As(ends.CannotStart, err), conn.Close())
	}
	if s.stream, err = wanrunv1.NewControlClient(conn).Attach(streamCtx); err != nil {
		return fail(fmt.Errorf("attach to launcher: %w", err))
	}
	if err := s.send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Hello{Hello: hello}}); err != nil {
		return fail(fmt.Errorf("say hello to launcher: %w", err))
	}
	first, err := s.stream.Recv()
	if err != nil {
		return fail(fmt.Errorf("wait for job: %w", err))
	}
	if a := first.GetAbort(); a != nil {
		return fail(abortError(a))
	}
	job := first.GetJob()
	if job == nil {
		return fail(errors.New("the launcher answered hello without a job"))
	}
	s.done.Add(2)
	go s.receive()
	go s.sendProgress()
	return s, job, nil
}

func abortError(a *wanrunv1.Abort) error {
	code := ends.Code(a.GetExitCode())
	if code == ends.Done {
		code = ends.Interrupted
	}
	return ends.Errorf(code, "%s", a.GetReason())
}

// Context is done when the launcher aborts or is gone.
func (s *Session) Context() context.Context { return s.ctx }

// Progress sends p without waiting. If sending is slow, older progress is
// dropped for newer.
func (s *Session) Progress(p *wanrunv1.Progress) {
	s.mu.Lock()
	s.latest = p
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Session) takeLatest() *wanrunv1.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.latest
	s.latest = nil
	return p
}

func (s *Session) sendProgress() {
	defer s.done.Done()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		}
		if p := s.takeLatest(); p != nil {
			if err := s.send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Progress{Progress: p}}); err != nil {
				s.cancel(ends.Errorf(ends.PeerLost, "send progress to launcher: %w", err))
				return
			}
		}
	}
}

func (s *Session) send(m *wanrunv1.FromWorker) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.stream.Send(m)
}

// receive takes what comes after the job, an abort and requests for stacks, until the
// launcher ends the stream.
func (s *Session) receive() {
	defer s.done.Done()
	defer close(s.received)
	for {
		m, err := s.stream.Recv()
		if err != nil {
			s.mu.Lock()
			reported := s.reported
			s.mu.Unlock()
			if reported {
				s.cancel(nil)
			} else {
				s.cancel(ends.Errorf(ends.PeerLost, "the launcher is gone: %w", err))
			}
			return
		}
		if a := m.GetAbort(); a != nil {
			s.abort(a)
		}
		if d := m.GetDump(); d != nil && s.dump != nil {
			s.dump(d.GetFile())
		}
	}
}

// abort takes the launcher's wish that the work ends: one of class ends.Retry leaves it
// time to save.
func (s *Session) abort(a *wanrunv1.Abort) {
	err := abortError(a)
	switch {
	case ends.CodeOf(err) != ends.Retry:
		s.cancel(err)
	case s.drainErr == nil: // only this goroutine writes it
		s.drainErr = err
		close(s.drain)
	}
}

// Drain is closed when the launcher wants the work to be saved and to end. Context is not
// done then: that is the worker's to see to.
func (s *Session) Drain() <-chan struct{} { return s.drain }

// DrainCause is why, of class ends.Retry, once Drain is closed; nil before.
func (s *Session) DrainCause() error {
	select {
	case <-s.drain:
		return s.drainErr
	default:
		return nil
	}
}

// Report sends the worker's end, after any progress that waits, and returns when
// the launcher has taken it. It is the session's last message. It works on an
// aborted session too, as long as the stream lives.
func (s *Session) Report(r *wanrunv1.Report) error {
	s.mu.Lock()
	s.reported = true
	p := s.latest
	s.latest = nil
	s.mu.Unlock()
	if p != nil {
		if err := s.send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Progress{Progress: p}}); err != nil {
			return fmt.Errorf("send progress: %w", err)
		}
	}
	if err := s.send(&wanrunv1.FromWorker{Kind: &wanrunv1.FromWorker_Report{Report: r}}); err != nil {
		return fmt.Errorf("send report: %w", err)
	}
	s.sendMu.Lock()
	err := s.stream.CloseSend()
	s.sendMu.Unlock()
	if err != nil {
		return fmt.Errorf("close stream: %w", err)
	}
	select {
	case <-s.received: // the launcher ends the stream once it has the report
		return nil
	case <-time.After(helloTimeout):
		return fmt.Errorf("the launcher did not take the report within %v", helloTimeout)
	}
}

// Close ends the session. Call it after Report, or instead of it.
func (s *Session) Close() error {
	s.cancel(nil)
	s.hangUp()
	err := s.conn.Close()
	s.done.Wait()
	return err
}
