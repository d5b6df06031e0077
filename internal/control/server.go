package control

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wanrun/wanrun/internal/ends"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// ErrNoReport is what Handler.Detached gets if a worker closed its stream, or died,
// before it reported.
var ErrNoReport = errors.New("closed its stream without a report")

// Handler is what the launcher does with its workers' messages. Calls for one
// rank come in order; calls for different ranks come at the same time.
type Handler interface {
	// Attached gives the job to the worker of rank, or refuses it.
	Attached(hello *wanrunv1.Hello) (*wanrunv1.Job, error)
	Progress(rank int, p *wanrunv1.Progress)
	Report(rank int, r *wanrunv1.Report)
	// Detached tells that the stream of rank ended; err is nil after a report.
	Detached(rank int, err error)
	// Refused tells of a peer that was turned away.
	Refused(err error)
}

// Server is the launcher's side.
type Server struct {
	wanrunv1.UnimplementedControlServer
	handler  Handler
	size     int
	build    string
	token    string
	folder   string
	patience time.Duration // for hello
	grpc     *grpc.Server
	serveErr chan error

	aborts sync.WaitGroup // and dumps, that are being sent

	mu       sync.Mutex
	attached map[int]*peer
}

// peer is an attached worker. A worker that does not read can hold a send up for
// as long as its stream lives, so that nothing else waits for sendMu.
type peer struct {
	stream wanrunv1.Control_AttachServer
	sendMu sync.Mutex
}

func (p *peer) send(m *wanrunv1.ToWorker) error {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	return p.stream.Send(m)
}

// Serve opens a socket in a fresh folder below dir that only this user can enter,
// for size workers of the same build.
func Serve(dir string, size int, build string, handler Handler) (*Server, error) {
	return serve(dir, size, build, handler, helloTimeout)
}

func serve(dir string, size int, build string, handler Handler, patience time.Duration) (*Server, error) {
	folder, err := os.MkdirTemp(dir, "c-") // mode 0700; short, for a socket's path has 107 bytes at most
	if err != nil {
		return nil, ends.Errorf(ends.CannotStart, "control socket: %w", err)
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, ends.As(ends.CannotStart, errors.Join(err, os.RemoveAll(folder)))
	}
	s := &Server{handler: handler, size: size, build: build, token: hex.EncodeToString(secret[:]), folder: folder, patience: patience,
		serveErr: make(chan error, 1), attached: map[int]*peer{}}
	listener, err := net.Listen("unix", s.Socket())
	if err == nil {
		err = os.Chmod(s.Socket(), 0o600)
	}
	if err != nil {
		return nil, ends.As(ends.CannotStart, errors.Join(fmt.Errorf("control socket: %w", err), os.RemoveAll(folder)))
	}
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(4), grpc.ConnectionTimeout(patience), grpc.WaitForHandlers(true))
	wanrunv1.RegisterControlServer(s.grpc, s)
	go func() { s.serveErr <- s.grpc.Serve(&ownPeers{Listener: listener, refused: handler.Refused}) }()
	return s, nil
}

// Socket is the path that workers attach to.
func (s *Server) Socket() string { return filepath.Join(s.folder, "control.sock") }

// Token is the secret that a worker shows in its hello.
func (s *Server) Token() string { return s.token }

// Seal removes the socket and its folder, once nobody else is to attach; streams
// that are open stay so. What is gone already needs no one to remove it.
func (s *Server) Seal() error { return os.RemoveAll(s.folder) }

// Close ends all streams and removes the socket and its folder. No call of the
// handler is running or follows when it returns.
func (s *Server) Close() error {
	s.grpc.Stop()
	err := <-s.serveErr
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	s.aborts.Wait()
	return errors.Join(err, os.RemoveAll(s.folder))
}

// Abort tells every attached worker to end, without waiting for those that do not
// read. Workers that attach later are told by the handler's Attached.
func (s *Server) Abort(code ends.Code, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &wanrunv1.ToWorker{Kind: &wanrunv1.ToWorker_Abort{Abort: &wanrunv1.Abort{Reason: reason, ExitCode: int32(code)}}}
	for _, p := range s.attached {
		s.aborts.Go(func() {
			// A worker whose stream is broken is already ending.
			_ = p.send(m)
		})
	}
}

// Dump asks the worker of rank to write its stacks to file, and does not wait until it
// has. Errors: it is not attached.
func (s *Server) Dump(rank int, file string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.attached[rank]
	if p == nil {
		return fmt.Errorf("rank %d is not attached", rank)
	}
	m := &wanrunv1.ToWorker{Kind: &wanrunv1.ToWorker_Dump{Dump: &wanrunv1.Dump{File: file}}}
	s.aborts.Go(func() {
		// A worker whose stream is broken is already ending.
		_ = p.send(m)
	})
	return nil
}

// Attach serves one worker.
func (s *Server) Attach(stream wanrunv1.Control_AttachServer) error {
	hello, p, err := s.hello(stream)
	if err != nil {
		s.handler.Refused(err)
		return status.Error(codes.PermissionDenied, err.Error())
	}
	rank := int(hello.GetRank())
	job, err := s.handler.Attached(hello)
	if err != nil {
		s.leave(rank)
		s.handler.Refused(err)
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer s.leave(rank)
	err = p.send(&wanrunv1.ToWorker{Kind: &wanrunv1.ToWorker_Job{Job: job}})
	if err == nil {
		err = s.receive(stream, rank)
	}
	s.handler.Detached(rank, err)
	return nil
}

// hello reads and checks the first message and enters the rank.
func (s *Server) hello(stream wanrunv1.Control_AttachServer) (*wanrunv1.Hello, *peer, error) {
	type first struct {
		m   *wanrunv1.FromWorker
		err error
	}
	got := make(chan first, 1)
	go func() { // ends with the stream, at the latest when Attach returns
		m, err := stream.Recv()
		got <- first{m, err}
	}()
	var f first
	select {
	case f = <-got:
	case <-time.After(s.patience):
		return nil, nil, fmt.Errorf("a peer said nothing for %v", s.patience)
	}
	if f.err != nil {
		return nil, nil, fmt.Errorf("read hello: %w", f.err)
	}
	hello := f.m.GetHello()
	switch {
	case hello == nil:
		return nil, nil, errors.New("a peer did not begin with hello")
	case subtle.ConstantTimeCompare([]byte(hello.GetToken()), []byte(s.token)) != 1:
		return nil, nil, errors.New("a peer showed a wrong token")
	case hello.GetBuild() != s.build:
		return nil, nil, fmt.Errorf("worker build %.80q, launcher build %q: install both from one build", hello.GetBuild(), s.build)
	case hello.GetRank() < 0 || int(hello.GetRank()) >= s.size:
		return nil, nil, fmt.Errorf("rank %d of %d", hello.GetRank(), s.size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.attached[int(hello.GetRank())]; taken {
		return nil, nil, fmt.Errorf("rank %d attached twice", hello.GetRank())
	}
	p := &peer{stream: stream}
	s.attached[int(hello.GetRank())] = p
	return hello, p, nil
}

func (s *Server) leave(rank int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, rank)
}

// receive hands on the worker's messages until its report.
func (s *Server) receive(stream wanrunv1.Control_AttachServer, rank int) error {
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled):
			return fmt.Errorf("rank %d %w", rank, ErrNoReport)
		case err != nil:
			return fmt.Errorf("rank %d: %w", rank, err)
		}
		switch kind := m.GetKind().(type) {
		case *wanrunv1.FromWorker_Progress:
			s.handler.Progress(rank, kind.Progress)
		case *wanrunv1.FromWorker_Report:
			s.handler.Report(rank, kind.Report)
			return nil
		default:
			return fmt.Errorf("rank %d sent an unexpected message", rank)
		}
	}
}
