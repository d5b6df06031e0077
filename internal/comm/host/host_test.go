package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/comm/commtest"
	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestMain(m *testing.M) {
	if ranChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

func secret(t testing.TB) []byte {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// job returns the configurations of the ranks of a job on the given nodes, with
// slots so few and small that most messages need all of them many times.
func job(t testing.TB, nodes []int, opts func(rank int) comm.Options) []Config {
	cfgs := make([]Config, len(nodes))
	shared := Config{Size: len(nodes), Nodes: nodes, Secret: secret(t), SlotBytes: 4096, Slots: 3, ConnectTimeout: 20 * time.Second}
	if shared.needsRoot() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		shared.Root = l.Addr().String()
		defer func() { cfgs[0].RootListener = l }()
	}
	for rank := range cfgs {
		cfgs[rank] = shared
		cfgs[rank].Rank = rank
		if opts != nil {
			cfgs[rank].Options = opts(rank)
		}
	}
	return cfgs
}

// connect joins all ranks in this process.
func connect(ctx context.Context, cfgs []Config) ([]comm.Group, []error) {
	groups, errs := make([]comm.Group, len(cfgs)), make([]error, len(cfgs))
	var wait sync.WaitGroup
	for i := range cfgs {
		wait.Add(1)
		go func() {
			defer wait.Done()
			groups[i], errs[i] = Connect(ctx, cfgs[i])
		}()
	}
	wait.Wait()
	return groups, errs
}

func conformance(t *testing.T, node func(rank int) int) {
	commtest.Run(t, func(t testing.TB, size int, opts func(rank int) comm.Options) []comm.Group {
		nodes := make([]int, size)
		for rank := range nodes {
			nodes[rank] = node(rank)
		}
		groups, errs := connect(context.Background(), job(t, nodes, opts))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return groups
	})
}

func TestConformanceOneNode(t *testing.T) { conformance(t, func(int) int { return 0 }) }

func TestConformanceTCP(t *testing.T) { conformance(t, func(rank int) int { return rank }) }

func TestConformanceTwoNodes(t *testing.T) { conformance(t, func(rank int) int { return rank % 2 }) }

// TestNobodyComes names the ranks that did not connect.
func TestNobodyComes(t *testing.T) {
	cfgs := job(t, []int{0, 0, 0, 0}, nil)
	cfgs[0].ConnectTimeout = 300 * time.Millisecond
	_, errs := connect(context.Background(), []Config{cfgs[0], cfgs[2]})
	for _, err := range errs {
		if !errors.Is(err, comm.ErrTimeout) || !strings.Contains(err.Error(), "rank 0 waited 300ms for rank(s) 1 3 to connect") {
			t.Errorf("error %v", err)
		}
	}
}

// TestOtherSecret keeps a rank of another job out, by both ways, and lets the job go on.
func TestOtherSecret(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		cfgs := job(t, []int{0, 1}, nil)
		refused := make(chan error, 10)
		cfgs[0].Refused = func(err error) { refused <- err }
		stranger := cfgs[1]
		stranger.Secret = secret(t)
		stranger.RootListener = nil
		first := make(chan struct{})
		go func() {
			defer close(first)
			if g, err := Connect(context.Background(), stranger); err == nil || !strings.Contains(err.Error(), "does not know the job's secret") {
				t.Errorf("a rank with another secret: group %v, error %v", g, err)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var group comm.Group
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			group, err = Connect(ctx, cfgs[0])
		}()
		<-first
		if err := <-refused; err == nil {
			t.Error("nothing refused")
		}
		late, lateErr := Connect(ctx, cfgs[1])
		<-done
		if err := errors.Join(err, lateErr); err != nil {
			t.Fatal(err)
		}
		closeAll(t, []comm.Group{group, late})
	})
	t.Run("squatter", func(t *testing.T) {
		// Somebody else listens where rank 0 should: rank 1 must not take it for rank 0.
		cfgs := job(t, []int{0, 0}, nil)
		l, err := net.Listen(nearAddress(&cfgs[1], 0))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write(make([]byte, 1000))
				_, _ = conn.Read(make([]byte, 1000))
				_ = conn.Close()
			}
		}()
		if _, err := Connect(context.Background(), cfgs[1]); err == nil || !strings.Contains(err.Error(), "does not know the job's secret") {
			t.Errorf("squatter: %v", err)
		}
	})
}

// TestGarbage sends nonsense, nothing, and half messages to a rank that waits for
// others: the job starts all the same.
func TestGarbage(t *testing.T) {
	for _, nodes := range [][]int{{0, 0}, {0, 1}} {
		cfgs := job(t, nodes, nil)
		network, address := "tcp", cfgs[0].Root
		if cfgs[0].near(1) {
			network, address = nearAddress(&cfgs[0], 0)
		}
		var groups [2]comm.Group
		var errs [2]error
		done := make(chan struct{})
		go func() {
			defer close(done)
			groups[0], errs[0] = Connect(context.Background(), cfgs[0])
		}()
		for _, said := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 1<<16), []byte(magic), append([]byte(magic), make([]byte, 100)...)} {
			var conn net.Conn
			for conn == nil { // until it listens
				conn, _ = net.Dial(network, address)
			}
			_, _ = conn.Write(said)
			defer conn.Close() // the slow ones stay open
		}
		groups[1], errs[1] = Connect(context.Background(), cfgs[1])
		<-done
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		closeAll(t, groups[:])
	}
}

// TestProtocol lets a rank send frames that no rank sends: its peers end the job and
// name it.
func TestProtocol(t *testing.T) {
	for name, frame := range map[string][]byte{
		"kind":        {1, 0, 0, 0, 99},
		"oversize":    {255, 255, 255, 255, 1},
		"short":       {3, 0, 0, 0, byte(frameAnnounce), 1, 2},
		"unsent ack":  appendChunk(nil, frameAck, chunkFrame{group: 1, slot: 2}),
		"far slot":    appendChunk(nil, frameSlot, chunkFrame{group: 1, slot: 1 << 30, length: 1}),
		"long chunk":  appendChunk(nil, frameSlot, chunkFrame{group: 1, slot: 0, length: 4097}),
		"inline":      appendChunk(nil, frameInline, chunkFrame{group: 1, slot: inlineSlot, length: 1}),
		"no group":    appendChunk(nil, frameSlot, chunkFrame{group: 77, slot: 0, length: 1}),
		"early bytes": appendChunk(nil, frameByeAck, chunkFrame{}),
	} {
		t.Run(name, func(t *testing.T) {
			groups, errs := connect(context.Background(), job(t, []int{0, 0}, nil))
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			// What rank 1's end of the connection to rank 0 says.
			l := carrierOf(groups[1]).link(0)
			l.mu.Lock()
			_, err := l.conn.Write(frame)
			l.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if name == "early bytes" {
				_ = l.conn.Close()
			}
			<-groups[0].Done()
			var f *comm.Failure
			if !errors.As(groups[0].Err(), &f) || f.Rank != 1 {
				t.Errorf("failure %v does not blame rank 1", groups[0].Err())
			}
			closeAll(t, groups)
		})
	}
}

// TestChecksum changes a byte on its way.
func TestChecksum(t *testing.T) {
	cfgs := job(t, []int{0, 0}, func(int) comm.Options { return comm.Options{Checksum: true} })
	cfgs[1].corrupt = func(slot []byte) { slot[len(slot)/2] ^= 4 }
	groups, errs := connect(context.Background(), cfgs)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for _, g := range groups {
		wait.Add(1)
		go func() {
			defer wait.Done()
			x, err := comm.OfBytes(tensor.U8, make([]byte, 100), 100)
			if err != nil {
				t.Error(err)
				return
			}
			// Rank 1 has its data out of its hands when the other finds it wrong.
			err = g.Broadcast(context.Background(), comm.Place{}, x, 1)
			if g.Rank() == 0 && (err == nil || !strings.Contains(err.Error(), "from rank 1: checksum")) {
				t.Errorf("rank 0: %v", err)
			}
		}()
	}
	wait.Wait()
	<-groups[1].Done()
	closeAll(t, groups)
}

func closeAll(t testing.TB, groups []comm.Group) {
	var wait sync.WaitGroup
	for _, g := range groups {
		if g == nil {
			continue
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	wait.Wait()
}

// carrierOf returns the transport under a group of this package.
func carrierOf(g comm.Group) *carrier { return g.(*engine.Group).Carrier().(*carrier) }

func TestConfig(t *testing.T) {
	good := Config{Rank: 0, Size: 1, Secret: make([]byte, 16)}
	for name, change := range map[string]func(*Config){
		"rank":        func(c *Config) { c.Rank = 1 },
		"no size":     func(c *Config) { c.Size = 0 },
		"secret":      func(c *Config) { c.Secret = c.Secret[:15] },
		"nodes":       func(c *Config) { c.Nodes = []int{0, 1} },
		"slot":        func(c *Config) { c.SlotBytes = 1000 },
		"slots":       func(c *Config) { c.Slots = -1 },
		"segment":     func(c *Config) { c.SlotBytes, c.Slots = 1<<20, 1<<15 },
		"no root":     func(c *Config) { c.Size, c.Nodes = 2, []int{0, 1} },
		"root's port": func(c *Config) { c.Size, c.Nodes, c.Root = 2, []int{0, 1}, "127.0.0.1:nothing" },
	} {
		c := good
		change(&c)
		if g, err := Connect(context.Background(), c); err == nil {
			t.Errorf("%s: group %v for %+v", name, g, c)
		}
	}
	g, err := Connect(context.Background(), good)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Barrier(context.Background(), comm.Place{}), g.Close()); err != nil {
		t.Error(fmt.Errorf("a job of one: %w", err))
	}
}
