package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/peercred"
)

const (
	headerPatience = 2 * time.Second  // of a request on the socket
	answerPatience = 10 * time.Second // of who asked
	stacksPatience = 60 * time.Second // py-spy and gdb on every rank take a while
	closePatience  = time.Second      // for followers to get the last lines
	maxHeader      = 4 << 10
	maxConnections = 64
	maxFollowers   = 16
)

// ErrRunning is that a job of this id is registered by a launcher that lives.
var ErrRunning = errors.New("a job of this id is running")

// Registration is a job in the folder.
type Registration struct {
	folder *folder
	name   string
	inode  uint64
	job    Job
	feed   *feed
	server *http.Server
	served chan struct{}

	ctx    context.Context // of Stacks, and of that alone
	cancel context.CancelFunc
	stacks sync.Mutex
}

// Register makes the job known in the folder dir (see Folder), which it makes if need be,
// and answers for it until Close.
// Errors: ErrRunning; a folder that others may enter; an id that is "" or too long.
func Register(dir, id string, job Job) (*Registration, error) {
	name, err := fileName(id)
	if err != nil {
		return nil, err
	}
	f, err := openFolder(dir, true)
	if err != nil {
		return nil, err
	}
	r := &Registration{folder: f, name: name, job: job, feed: newFeed(), served: make(chan struct{})}
	listener, err := r.listen()
	if err != nil {
		f.close()
		return nil, fmt.Errorf("register job %q in %s: %w", id, dir, err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.server = &http.Server{
		Handler: r.routes(), ReadHeaderTimeout: headerPatience, ReadTimeout: answerPatience,
		IdleTimeout: headerPatience, MaxHeaderBytes: maxHeader,
		ErrorLog: quiet(), // who asks in the wrong way is told so
	}
	go func() {
		defer close(r.served)
		_ = r.server.Serve(&ownListener{Listener: newLimit(listener, maxConnections)})
	}()
	return r, nil
}

// listen makes the socket under another name first: at no moment is there a JOB.sock that
// nobody listens on, which others take for one of a dead launcher.
func (r *Registration) listen() (net.Listener, error) {
	lock, err := r.folder.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if _, err := os.Lstat(r.folder.at(r.name)); err == nil {
		alive, err := r.folder.alive(r.name)
		if err != nil {
			return nil, err
		}
		if alive {
			return nil, ErrRunning
		}
		if err := os.Remove(r.folder.at(r.name)); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	temp := r.folder.at(newPrefix + strconv.Itoa(os.Getpid()))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by then it has another name
	err = os.Chmod(temp, 0o600)
	if err == nil {
		r.inode, err = inodeOf(temp)
	}
	if err == nil {
		err = os.Rename(temp, r.folder.at(r.name))
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(temp))
	}
	return listener, nil
}

func inodeOf(path string) (uint64, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s has no inode", path)
	}
	return sys.Ino, nil
}

// alive says whether somebody listens on the socket. One whose listener has no time to
// accept is alive.
func (f *folder) alive(name string) (bool, error) {
	conn, err := net.DialTimeout("unix", f.at(name), headerPatience)
	switch {
	case err == nil:
		return true, conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, nil
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded):
		return true, nil
	}
	return false, err
}

// Log hands a line to those who follow and keeps it for those who come. It never waits
// for anybody.
func (r *Registration) Log(l node.Line) { r.feed.add(l) }

// Close takes the job out of the folder, gives those who follow a second to read the
// rest, and ends all connections.
func (r *Registration) Close() error {
	err := r.remove()
	r.cancel()
	r.feed.close()
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	if r.server.Shutdown(ctx) != nil {
		_ = r.server.Close() // somebody does not read
	}
	<-r.served
	r.folder.close()
	return err
}

// remove removes the socket, unless it is another's by now.
func (r *Registration) remove() error {
	lock, err := r.folder.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	inode, err := inodeOf(r.folder.at(r.name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && inode != r.inode {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(r.folder.at(r.name))
}

func (r *Registration) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, r.status())
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, q *http.Request) {
		var asked stopRequest
		body, err := readBounded(q.Body, maxAnswer)
		if err == nil {
			err = json.Unmarshal(body, &asked)
		}
		if err != nil {
			answer(w, http.StatusBadRequest, errorAnswer{err.Error()})
			return
		}
		by := printable(asked.By)
		if len(by) > maxBy {
			by = strings.ToValidUTF8(by[:maxBy], "")
		}
		r.job.Stop(by)
		answer(w, http.StatusAccepted, struct{}{})
	})
	mux.HandleFunc("POST /v1/stacks", func(w http.ResponseWriter, q *http.Request) {
		if !r.stacks.TryLock() {
			answer(w, http.StatusConflict, errorAnswer{"stacks are being written for somebody else"})
			return
		}
		defer r.stacks.Unlock()
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it ended the request, not the answer
		ctx, cancel := context.WithTimeout(q.Context(), stacksPatience)
		defer cancel()
		defer context.AfterFunc(r.ctx, cancel)()
		folder, err := r.job.Stacks(ctx)
		if err != nil {
			answer(w, http.StatusInternalServerError, errorAnswer{err.Error()})
			return
		}
		answer(w, http.StatusOK, stacksAnswer{folder})
	})
	mux.HandleFunc("GET /v1/log", r.log)
	return mux
}

func (r *Registration) status() Status {
	s := r.job.Status()
	s.Schema = Schema
	return s
}

// log sends what is kept, and with follow=1 what comes.
func (r *Registration) log(w http.ResponseWriter, q *http.Request) {
	f, err := r.feed.subscribe(q.URL.Query().Get("follow") == "1")
	if err != nil {
		answer(w, http.StatusServiceUnavailable, errorAnswer{err.Error()})
		return
	}
	defer r.feed.leave(f)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // a follower says nothing more
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for {
		if control.Flush() != nil { // with the first one, who follows knows that it does
			return
		}
		lines, over, err := f.next(q.Context())
		for _, l := range lines {
			if encoder.Encode(toRecord(l)) != nil {
				return // it went away
			}
		}
		if err != nil {
			return
		}
		if over {
			_ = encoder.Encode(record{End: true, Dropped: f.lost()})
			return
		}
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerPatience))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

// ownListener lets this user's processes in, and nobody else's.
type ownListener struct{ net.Listener }

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !sameUser(conn) {
			conn.Close()
			continue
		}
		return conn, nil
	}
}

func sameUser(conn net.Conn) bool {
	if limited, ok := conn.(*limitedConn); ok {
		conn = limited.Conn
	}
	return peercred.SameUser(conn) == nil
}
