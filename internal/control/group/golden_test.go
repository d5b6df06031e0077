package group

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

var update = flag.Bool("update", false, "rewrite the machine's answers in testdata")

// epoch is when the conversations begin.
var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// TestConversations replays testdata/*.txt. A line is a comment (#), a setting of the
// configuration (config key=value ...), an event (time kind [ranks] key=value ...), or
// an answer of the machine (>), which -update rewrites. The times at which the machine
// wants a tick are kept between the events; "end" ticks until nothing is wanted.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("conversations %v: %v", files, err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := replay(string(data))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wantLines, gotLines := strings.Split(string(data), "\n"), strings.Split(got, "\n")
			for i := range max(len(wantLines), len(gotLines)) {
				if i >= len(wantLines) || i >= len(gotLines) || wantLines[i] != gotLines[i] {
					t.Fatalf("line %d differs; got the conversation\n%s", i+1, got)
				}
			}
		})
	}
}

// talk is a conversation that is replayed.
type talk struct {
	config Config
	m      *Machine
	now    time.Time
	nodeOf map[int]int // by rank
	number int         // of the attempt
	b      strings.Builder
}

func replay(text string) (string, error) {
	tk := &talk{config: Defaults(Any), now: epoch, nodeOf: map[int]int{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fields, err := words(line)
		if err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
		if len(fields) > 0 && fields[0] == ">" {
			continue
		}
		fmt.Fprintln(&tk.b, line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case fields[0] == "config":
			err = tk.configure(fields[1:])
		case fields[0] == "end":
			tk.ticks(tk.now.Add(24 * time.Hour))
			tk.outcome()
		default:
			err = tk.event(fields)
		}
		if err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return tk.b.String(), nil
}

// words splits at spaces; a value may be quoted.
func words(line string) ([]string, error) {
	var all []string
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		if rest[0] == '#' || rest[0] == '>' {
			return append(all, rest[:1]), nil
		}
		end := strings.IndexAny(rest, " \"")
		if end < 0 {
			return append(all, rest), nil
		}
		word := rest[:end]
		if rest[end] == '"' {
			quoted, err := strconv.QuotedPrefix(rest[end:])
			if err != nil {
				return nil, err
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			word, end = word+value, end+len(quoted)
		}
		all, rest = append(all, word), rest[end:]
	}
	return all, nil
}

func (tk *talk) configure(fields []string) error {
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		d, errD := time.ParseDuration(value)
		n, errN := strconv.Atoi(value)
		c := &tk.config
		durations := map[string]*time.Duration{"join": &c.JoinTimeout, "start": &c.StartTimeout, "hang": &c.HangTimeout, "timeout": &c.Timeout,
			"straggler": &c.StragglerAfter, "grace": &c.Grace, "failgrace": &c.FailGrace, "draingrace": &c.DrainGrace, "backoff": &c.Backoff}
		numbers := map[string]*int{"nodes": &c.Nodes, "world": &c.World, "restarts": &c.MaxRestarts}
		var err error
		switch {
		case key == "mode":
			nodes := c.Nodes
			*c = Defaults(Mode(value))
			c.Nodes = nodes
		case key == "names":
			c.Names = strings.Split(value, ",")
		case key == "success":
			c.Success = Success(value)
		case key == "usr1":
			c.OnUSR1 = OnUSR1(value)
		case key == "allowskew":
			c.AllowSkew = true
		case key == "retry":
			c.RetryOn, err = ParseReasons(value)
		case durations[key] != nil:
			*durations[key], err = d, errD
		case numbers[key] != nil:
			*numbers[key], err = n, errN
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// event takes "1.5s exited 0-2 code=3 at=1.4s".
func (tk *talk) event(fields []string) error {
	if tk.m == nil {
		tk.m = New(tk.config)
	}
	after, err := time.ParseDuration(fields[0])
	if err != nil || len(fields) < 2 {
		return fmt.Errorf("want a time and an event: %q (%v)", fields, err)
	}
	e := Event{Kind: EventKind(fields[1]), At: epoch.Add(after), Attempt: tk.number}
	ranks := []int{0}
	isRank := false
	for _, field := range fields[2:] {
		key, value, ok := strings.Cut(field, "=")
		n, errN := strconv.Atoi(value)
		switch {
		case !ok && field == "asked":
			e.Asked = true
		case !ok && field == "stuck":
			e.Stuck = true
		case !ok:
			isRank = true
			first, last, _ := strings.Cut(field, "-")
			from, err := strconv.Atoi(first)
			to := from
			if err == nil && last != "" {
				to, err = strconv.Atoi(last)
			}
			if err != nil {
				return err
			}
			ranks = nil
			for r := from; r <= to; r++ {
				ranks = append(ranks, r)
			}
		case key == "at":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			e.At = epoch.Add(d)
		case key == "name":
			e.Name = value
		case key == "session":
			e.Session = value
		case key == "skew":
			e.Skew = value
		case key == "text":
			e.Text = value
		case key == "where":
			e.Where = value
		case key == "memory":
			e.Memory = Memory(value)
		case errN != nil:
			return fmt.Errorf("%s: %w", field, errN)
		case key == "node":
			e.Node = n
		case key == "ranks":
			e.Ranks = n
		case key == "attempt":
			e.Attempt = n
		case key == "pid":
			e.Pid = n
		case key == "code":
			e.Code = n
		case key == "signal":
			e.Signal = n
		default:
			return fmt.Errorf("unknown key %q", key)
		}
	}
	if e.Session == "" && (e.Kind == Join || e.Kind == Lost || e.Kind == Left) {
		e.Session = fmt.Sprint("s", e.Node)
	}
	at := epoch.Add(after)
	tk.ticks(at)
	tk.now = at
	for _, r := range ranks {
		one := e
		if isRank {
			one.Rank, one.Node = r, tk.nodeOf[r]
			if one.Pid == 0 && one.Kind == Started {
				one.Pid = 100 + r
			}
		}
		tk.answer(tk.m.Step(at, one))
	}
	return nil
}

// ticks lets the machine's deadlines before a time come.
func (tk *talk) ticks(until time.Time) {
	if tk.m == nil {
		return
	}
	for range 1000 {
		d := tk.m.Deadline()
		if d.IsZero() || !d.Before(until) {
			return
		}
		tk.now = d
		tk.answer(tk.m.Step(d, Event{Kind: Tick, At: d}))
	}
}

func (tk *talk) answer(actions []Action) {
	for _, a := range actions {
		fmt.Fprintf(&tk.b, "    > %v ", tk.now.Sub(epoch))
		switch a.Kind {
		case Start:
			tk.number = a.Attempt
			fmt.Fprintf(&tk.b, "start attempt %d:", a.Attempt)
			for _, p := range a.Table {
				tk.nodeOf[p.Rank] = p.Node
				fmt.Fprintf(&tk.b, " %d=%d.%d", p.Rank, p.Node, p.Local)
			}
		case Ask:
			fmt.Fprintf(&tk.b, "ask (%v): %s", a.Code, a.Text)
		case Pass:
			fmt.Fprintf(&tk.b, "pass signal %d", a.Signal)
		case Refuse:
			fmt.Fprintf(&tk.b, "refuse %s: %s", a.Session, a.Text)
		case Say:
			if a.Info {
				fmt.Fprint(&tk.b, "info: ", a.Text)
			} else {
				fmt.Fprint(&tk.b, "say: ", a.Text)
			}
		case End:
			fmt.Fprintf(&tk.b, "end with %d: %s", int(a.Code), a.Text)
		default:
			fmt.Fprint(&tk.b, a.Kind)
		}
		tk.b.WriteByte('\n')
	}
}

// outcome writes how the job ended.
func (tk *talk) outcome() {
	o := tk.m.Outcome()
	if len(o.Attempts) == 0 {
		fmt.Fprintf(&tk.b, "    > not over\n")
		return
	}
	for _, a := range o.Attempts {
		fmt.Fprintf(&tk.b, "    > attempt %d:", a.Number)
		if c := a.Cause; c != nil {
			fmt.Fprintf(&tk.b, " %s at %v, rank %d, node %d, code %d;", c.Kind, c.At.Sub(epoch), c.Rank, c.Node, int(c.Code))
		}
		roles := map[Role][]int{}
		for _, r := range a.Ranks {
			roles[r.Role] = append(roles[r.Role], r.Rank)
		}
		for _, role := range []Role{TheCause, Consequence, Later, Ended, Well, WithNode, Never, Remains} {
			if len(roles[role]) > 0 {
				fmt.Fprintf(&tk.b, " %s %s;", role, ranges(roles[role]))
			}
		}
		tk.b.WriteByte('\n')
	}
	fmt.Fprintf(&tk.b, "    > exit code %d (%v)\n", int(o.Code), ends.Code(o.Code))
}
