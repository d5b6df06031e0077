package agents

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
)

// otherProcess is a node in a process of its own, with the usual times.
func otherProcess(role string) int {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv("AGENTS_TEST_OPTIONS")), &o); err != nil {
		fmt.Println(err)
		return 1
	}
	if role == "zero" {
		r := newRecorder()
		if _, err := Listen(context.Background(), o, r); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("listens")
		for range r.more {
			for _, e := range r.all() {
				fmt.Println(e)
			}
		}
	}
	err := Dial(context.Background(), o, func(sink node.Sink) node.Agent {
		fmt.Println("joined")
		return &fakeNode{sink: sink, me: o.Node}
	})
	fmt.Println("ended:", err)
	return int(ends.CodeOf(err))
}

// process starts a node and returns it once it has printed words.
func process(t *testing.T, role string, o Options, words string) *exec.Cmd {
	t.Helper()
	o.timing = timing{}
	text, err := json.Marshal(struct {
		Options
		Resolve, Now, Say *struct{} `json:",omitempty"` // functions stay here
	}{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AGENTS_TEST_ROLE="+role, "AGENTS_TEST_OPTIONS="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-read
		_ = cmd.Wait() // how it ended, the test has asked
	})
	seen := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.Contains(s.Text(), words) {
				once.Do(func() { close(seen) })
			}
		}
	}()
	select {
	case <-seen:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not say %q", role, words)
	}
	return cmd
}

// TestKilledAgent: node 0 notices a killed process at once, and one that is stopped within
// five seconds; the third node does not suffer.
func TestKilledAgent(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 4)
	o.timing = usual
	_, o = listenAtFree(t, o, r)
	var cmds []*exec.Cmd
	for number := 1; number < 4; number++ {
		mine := o
		mine.Node = number
		cmds = append(cmds, process(t, "agent", mine, "joined"))
	}
	began := time.Now()
	if err := cmds[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if e := r.wait(t, "lost node=1", 1); !strings.Contains(e, "its connection broke") {
		t.Errorf("killed: %q", e)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a killed node was lost after %v", took)
	}
	began = time.Now()
	if err := cmds[1].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if e := r.wait(t, "lost node=2", 1); !strings.Contains(e, "nothing was heard of it for") {
		t.Errorf("stopped: %q", e)
	}
	if took := time.Since(began); took > 5*time.Second || took < 2*time.Second {
		t.Errorf("a stopped node was lost after %v", took)
	}
	if n := r.count("lost node=3"); n > 0 {
		t.Error("node 3 was lost, too")
	}
}

// TestKilledNodeZero: the others notice at once, kill their ranks and end.
func TestKilledNodeZero(t *testing.T) {
	o := testOptions(t, 0, 2)
	o.Rendezvous.File = t.TempDir() + "/meet"
	zero := process(t, "zero", o, "listens")
	o.Node = 1
	d := dial(t, o)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		d.mu.Lock()
		n := len(d.nodes)
		d.mu.Unlock()
		if n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not joined")
		}
	}
	began := time.Now()
	if err := zero.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); ends.CodeOf(err) != ends.PeerLost {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("ended after %v", took)
	}
	if did := d.node(t, 0).did(); did != "signal 9; finish" {
		t.Errorf("did %q", did)
	}
}
