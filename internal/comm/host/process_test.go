package host

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// child is what a test process is told: its place in the job, what to do, and
// where rank Victim kills itself.
type child struct {
	Rank, Size int
	Nodes      []int
	Root       string
	Secret     string
	Op         string
	Victim     int
	Point      string
	Stop       bool // the victim is stopped, not killed
	Timeout    time.Duration
}

// report is what a child says at its end, or just before the victim kills itself.
type report struct {
	At   int64 // nanoseconds of the clock that processes share
	Lost int   // the rank that the failure blames
	Kind bool  // it is comm.ErrPeerLost
	Text string
}

const childVar = "WANRUN_COMM_TEST_CHILD"

// ranChild does the work of a child process, if this is one.
func ranChild() bool {
	var c child
	text := os.Getenv(childVar)
	if text == "" {
		return false
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	err := c.run()
	r := report{At: time.Now().UnixNano(), Lost: -1, Kind: errors.Is(err, comm.ErrPeerLost)}
	var f *comm.Failure
	if errors.As(err, &f) {
		r.Lost = f.Rank
	}
	if err != nil {
		r.Text = err.Error()
	}
	say(r)
	return true
}

func say(r report) {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

// run joins the job and repeats the collective until it fails.
func (c child) run() error {
	key, err := hex.DecodeString(c.Secret)
	if err != nil {
		return err
	}
	passed := 0
	cfg := Config{
		Rank: c.Rank, Size: c.Size, Nodes: c.Nodes, Root: c.Root, Secret: key, SlotBytes: 4096, Slots: 4,
		ConnectTimeout: 30 * time.Second,
		Options: comm.Options{Timeout: c.Timeout, Failpoint: func(name string) {
			if c.Rank != c.Victim || name != c.Point {
				return
			}
			if passed++; passed < 3 && !c.Stop && !strings.HasPrefix(name, "connect") {
				return // not the very first
			}
			say(report{At: time.Now().UnixNano()})
			signal := syscall.SIGKILL
			if c.Stop {
				signal = syscall.SIGSTOP
			}
			_ = syscall.Kill(os.Getpid(), signal) // itself
			time.Sleep(time.Hour)
		}},
	}
	g, err := Connect(context.Background(), cfg)
	if err != nil {
		return err
	}
	for err == nil {
		err = c.collective(g)
	}
	end := report{At: time.Now().UnixNano()}
	closeErr := g.Close()
	if d := time.Duration(time.Now().UnixNano() - end.At); d > 200*time.Millisecond {
		return fmt.Errorf("close took %v after %w", d, err)
	}
	return errors.Join(err, closeErr)
}

func (c child) collective(g comm.Group) error {
	const n = 20_000
	buffer := func(n int) tensor.Tensor {
		x, err := comm.OfBytes(tensor.F32, make([]byte, 4*n), n)
		if err != nil {
			panic(err)
		}
		return x
	}
	ctx, at := context.Background(), comm.Place{Phase: "denoise"}
	switch c.Op {
	case "all-to-all":
		return g.AllToAll(ctx, at, buffer(n*c.Size), buffer(n*c.Size), nil, nil)
	case "big": // more than sockets hold
		return g.AllToAll(ctx, at, buffer(30*n*c.Size), buffer(30*n*c.Size), nil, nil)
	case "all-gather":
		return g.AllGather(ctx, at, buffer(n*c.Size), buffer(n), nil)
	case "reduce-scatter":
		return g.ReduceScatter(ctx, at, buffer(n), buffer(n*c.Size), nil, comm.Sum)
	case "all-reduce":
		return g.AllReduce(ctx, at, buffer(n), comm.Sum)
	case "broadcast":
		return g.Broadcast(ctx, at, buffer(n), c.Victim)
	case "shift":
		return g.Shift(ctx, at, buffer(n), buffer(n), 1)
	case "memory":
		m, err := ShareMemory(ctx, g, 1<<20)
		if err != nil {
			return err
		}
		return m.Close()
	case "send": // from the victim to rank 0; the others compute and watch
		switch g.Rank() {
		case c.Victim:
			return g.Send(ctx, at, buffer(n), 0)
		case 0:
			return g.Recv(ctx, at, buffer(n), c.Victim)
		}
		<-g.Done()
		return g.Err()
	default:
		return g.Barrier(ctx, at)
	}
}

// promptly is how soon every rank must end when one is killed.
const promptly = 300 * time.Millisecond

// TestKilledProcess kills a rank inside each collective and while ranks connect,
// and sees that every other rank ends at once, names it, and leaves nothing.
func TestKilledProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks for what is left in Linux's places")
	}
	type kill struct {
		op, point string
		nodes     []int
		victim    int
	}
	near, far := []int{0, 0, 0}, []int{0, 0, 1}
	cases := []kill{
		{"start", "connect.linked", []int{0, 0, 0, 0}, 1}, {"start", "connect.linked", near, 2}, {"start", "connect.linked", far, 2},
		{"barrier", "barrier.announced", near, 1}, {"barrier", "barrier.matched", far, 0},
		{"send", "send.announced", near, 1}, {"send", "send.moving", near, 2},
		{"memory", "broadcast.matched", near, 0}, {"memory", "broadcast.matched", near, 1},
	}
	for _, op := range []string{"all-to-all", "all-gather", "reduce-scatter", "all-reduce", "broadcast", "shift"} {
		cases = append(cases, kill{op, op + ".matched", near, 1}, kill{op, op + ".moving", near, 2}, kill{op, op + ".moving", far, 1})
	}
	if testing.Short() {
		cases = cases[:5]
	}
	for _, k := range cases {
		t.Run(fmt.Sprintf("%s/%s/%d of %v", k.op, k.point, k.victim, k.nodes), func(t *testing.T) {
			// A loaded machine may stop all of us for longer: the best of two counts.
			took := killed(t, k.op, k.point, k.nodes, k.victim)
			if took > promptly {
				took = killed(t, k.op, k.point, k.nodes, k.victim)
			}
			if took > promptly {
				t.Errorf("the last rank ended %v after the death, expected %v at most", took, promptly)
			}
		})
	}
}

// killed runs a job with a victim and returns how long after its death the last
// other rank had ended.
func killed(t *testing.T, op, point string, nodes []int, victim int) time.Duration {
	key := secret(t)
	c := child{Size: len(nodes), Nodes: nodes, Secret: hex.EncodeToString(key), Op: op, Victim: victim, Point: point, Timeout: 30 * time.Second}
	reports := c.start(t, key, nil)
	last := int64(0)
	for rank, r := range reports {
		if rank == victim {
			continue
		}
		if !r.Kind || r.Lost != victim || !strings.Contains(r.Text, fmt.Sprintf("rank %d", victim)) {
			t.Errorf("rank %d ended with %+v, expected rank %d lost", rank, r, victim)
		}
		last = max(last, r.At)
	}
	t.Logf("last rank after %v; rank 0 said %q", time.Duration(last-reports[victim].At), reports[0].Text)
	return time.Duration(last - reports[victim].At)
}

// TestStoppedProcess stops a rank, whose connections stay open: the other, which
// may be stuck in a write to it, gives up at the deadline and names it.
func TestStoppedProcess(t *testing.T) {
	for _, nodes := range [][]int{{0, 0}, {0, 1}} {
		key := secret(t)
		c := child{Size: 2, Nodes: nodes, Secret: hex.EncodeToString(key), Op: "big", Victim: 1, Point: "all-to-all.matched",
			Stop: true, Timeout: 2 * time.Second}
		reports := c.start(t, key, func(victim *os.Process, done <-chan struct{}) {
			<-done
			_ = victim.Kill() // it waits for nothing else
		})
		if r := reports[0]; r.Kind || r.Lost != 1 || !strings.Contains(r.Text, "bytes from rank 1 have not come; given up after 2s") {
			t.Errorf("on nodes %v: %+v", nodes, r)
		}
	}
}

// start runs the job's processes to their end, sees that the others exit in order
// and that nothing is left, and returns what each said. after, if set, is told of
// the victim and when the others are done.
func (c child) start(t *testing.T, key []byte, after func(victim *os.Process, othersDone <-chan struct{})) []report {
	dir := t.TempDir()
	if c.Nodes[len(c.Nodes)-1] != 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
		if err != nil {
			t.Fatal(err)
		}
		c.Root = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	reports, states := make([]report, c.Size), make([]string, c.Size)
	var wait, others sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var victim *os.Process
	for rank := range c.Size {
		c.Rank = rank
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		cmd.Env = append(os.Environ(), childVar+"="+string(text), "TMPDIR="+dir, "GOMAXPROCS=2")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := &others
		if rank == c.Victim {
			victim, ended = cmd.Process, &wait
		}
		wait.Add(1)
		ended.Add(1)
		go func() {
			defer wait.Done()
			defer ended.Done()
			line, _ := bufio.NewReader(out).ReadBytes('\n') // what is missing is noticed by its parser
			if err := json.Unmarshal(line, &reports[rank]); err != nil {
				t.Errorf("rank %d said %q: %v", rank, line, err)
			}
			states[rank] = fmt.Sprint(cmd.Wait())
		}()
	}
	othersDone := make(chan struct{})
	go func() { others.Wait(); close(othersDone) }()
	if after != nil {
		after(victim, othersDone)
	}
	wait.Wait()
	for rank, state := range states {
		if want := "<nil>"; rank != c.Victim && state != want || rank == c.Victim && !strings.Contains(state, "killed") {
			t.Errorf("rank %d ended with %s", rank, state)
		}
	}
	nothingLeft(t, dir, key, c.Nodes)
	return reports
}

// nothingLeft looks where segments, sockets and files could be.
func nothingLeft(t *testing.T, dir string, key []byte, nodes []int) {
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files %v are left (%v)", left, err)
	}
	if left, err = filepath.Glob("/dev/shm/*wanrun*"); err != nil || len(left) > 0 {
		t.Errorf("shared memory %v is left (%v)", left, err)
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for rank := range nodes {
		_, name := nearAddress(&Config{Rank: rank, Nodes: nodes, Secret: key}, rank)
		if strings.Contains(string(sockets), name) {
			t.Errorf("socket %s of rank %d is left", name, rank)
		}
	}
}
