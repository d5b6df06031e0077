package agents

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// clean makes text fit to be sent and shown: one line of valid UTF-8, at most limit bytes.
func clean(text string, limit int) string {
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") // the cut may have gone through a letter
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// nanos is a time as it is sent; 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// orderOf is a command as it is sent. Exactly one field of a command is set.
func orderOf(c node.Command) *wanrunv1.AgentOrder {
	switch {
	case c.Start != nil:
		s := c.Start
		m := &wanrunv1.AgentStart{Attempt: int32(s.Attempt), World: make([]*wanrunv1.AgentPlace, len(s.World)), MasterAddr: s.MasterAddr,
			MasterPort: int32(s.MasterPort), Secret: s.Secret, Job: s.Job, Restarts: int32(s.Restarts)}
		for _, p := range s.World {
			m.World[p.Rank] = &wanrunv1.AgentPlace{Node: int32(p.Node), Local: int32(p.Local)}
		}
		return &wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Start{Start: m}}
	case c.Ask != nil:
		return &wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Ask{Ask: &wanrunv1.AgentAsk{Code: int32(c.Ask.Code), Reason: clean(c.Ask.Reason, maxText)}}}
	case c.Signal != 0:
		return &wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Signal{Signal: int32(c.Signal)}}
	case c.Dump:
		return &wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Dump{Dump: true}}
	default:
		return &wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Finish{Finish: &wanrunv1.AgentFinish{}}}
	}
}

// commandOf checks an order and returns it as a command.
func commandOf(m *wanrunv1.AgentOrder) (node.Command, error) {
	switch kind := m.GetKind().(type) {
	case *wanrunv1.AgentOrder_Start:
		s, err := startOf(kind.Start)
		return node.Command{Start: s}, err
	case *wanrunv1.AgentOrder_Ask:
		code := kind.Ask.GetCode()
		if code < 0 || code > 255 || len(kind.Ask.GetReason()) > maxText {
			return node.Command{}, fmt.Errorf("ask with code %d and %d bytes of reason", code, len(kind.Ask.GetReason()))
		}
		return node.Command{Ask: &node.Ask{Code: int(code), Reason: kind.Ask.GetReason()}}, nil
	case *wanrunv1.AgentOrder_Signal:
		if kind.Signal < 1 || kind.Signal > 64 {
			return node.Command{}, fmt.Errorf("signal %d, want 1 to 64", kind.Signal)
		}
		return node.Command{Signal: int(kind.Signal)}, nil
	case *wanrunv1.AgentOrder_Dump:
		if !kind.Dump {
			return node.Command{}, errors.New("an order not to dump")
		}
		return node.Command{Dump: true}, nil
	case *wanrunv1.AgentOrder_Finish:
		if code := kind.Finish.GetCode(); code < 0 || code > 255 || len(kind.Finish.GetText()) > maxText {
			return node.Command{}, fmt.Errorf("finish with code %d and %d bytes of text", code, len(kind.Finish.GetText()))
		}
		return node.Command{Finish: true}, nil
	}
	return node.Command{}, errors.New("an order of no known kind")
}

func startOf(m *wanrunv1.AgentStart) (*node.Start, error) {
	addr, err := netip.ParseAddr(m.GetMasterAddr())
	switch {
	case err != nil:
		return nil, fmt.Errorf("master address %.60q is not numeric", m.GetMasterAddr())
	case m.GetMasterPort() < 1 || m.GetMasterPort() > 65535:
		return nil, fmt.Errorf("master port %d, want 1 to 65535", m.GetMasterPort())
	case m.GetAttempt() < 0 || m.GetAttempt() > maxAttempts:
		return nil, fmt.Errorf("attempt %d, want 0 to %d", m.GetAttempt(), maxAttempts)
	case m.GetRestarts() < 0:
		return nil, fmt.Errorf("%d restarts", m.GetRestarts())
	case len(m.GetWorld()) == 0 || len(m.GetWorld()) > maxRanks:
		return nil, fmt.Errorf("a world of %d ranks, want 1 to %d", len(m.GetWorld()), maxRanks)
	case len(m.GetSecret()) > maxSecret:
		return nil, fmt.Errorf("a secret of %d bytes, want at most %d", len(m.GetSecret()), maxSecret)
	}
	s := &node.Start{Attempt: int(m.GetAttempt()), MasterAddr: addr.String(), MasterPort: int(m.GetMasterPort()),
		Secret: m.GetSecret(), Job: m.GetJob(), Restarts: int(m.GetRestarts())}
	for rank, p := range m.GetWorld() {
		if p.GetNode() < 0 || p.GetNode() >= maxNodes || p.GetLocal() < 0 || p.GetLocal() >= maxRanks {
			return nil, fmt.Errorf("rank %d is local rank %d of node %d", rank, p.GetLocal(), p.GetNode())
		}
		s.World = append(s.World, group.Place{Rank: rank, Node: int(p.GetNode()), Local: int(p.GetLocal())})
	}
	return s, nil
}

// checkIntroduction checks what a node says of itself.
func checkIntroduction(m *wanrunv1.AgentIntroduction) error {
	switch {
	case m == nil:
		return errors.New("it did not begin with its introduction")
	case m.GetRanks() < 1 || m.GetRanks() > maxRanks:
		return fmt.Errorf("it brings %d ranks, want 1 to %d", m.GetRanks(), maxRanks)
	case m.GetCode() < 0 || m.GetCode() > 255 || len(m.GetText()) > maxText:
		return fmt.Errorf("its introduction has code %d and %d bytes of text", m.GetCode(), len(m.GetText()))
	case len(m.GetName()) > maxName || len(m.GetBuild()) > maxName || len(m.GetProgram()) > maxName || len(m.GetFlags()) > maxFlags:
		return fmt.Errorf("its introduction is too long: name %d, build %d, program %d bytes, want at most %d each; %d flags, want at most %d",
			len(m.GetName()), len(m.GetBuild()), len(m.GetProgram()), maxName, len(m.GetFlags()), maxFlags)
	}
	return nil
}

// remote are the events that a node may tell; Join and Lost node 0 sees itself.
var remote = map[group.EventKind]bool{group.Left: true, group.Started: true, group.NotStarted: true, group.Ready: true, group.Beat: true,
	group.Failing: true, group.Exited: true, group.Silent: true, group.Dumped: true, group.Signaled: true, group.Stop: true,
	group.Finished: true, group.Detached: true, group.Drain: true}

// ofNode are those of them that are about the node and no rank.
var ofNode = map[group.EventKind]bool{group.Left: true, group.Dumped: true, group.Signaled: true, group.Stop: true, group.Drain: true}

// wireEvent is an event as it is sent. Node, session and name the connection tells.
func wireEvent(e group.Event) *wanrunv1.AgentEvent {
	return &wanrunv1.AgentEvent{At: nanos(e.At), Kind: string(e.Kind), Attempt: int32(e.Attempt), Rank: int32(e.Rank), Pid: int32(e.Pid),
		Code: int32(e.Code), Signal: int32(e.Signal), Memory: string(e.Memory), Asked: e.Asked, Stuck: e.Stuck,
		Text: clean(e.Text, maxText), Where: clean(e.Where, maxText)}
}

// eventOf checks an event and returns it, with the time of the node's own clock.
func eventOf(m *wanrunv1.AgentEvent) (group.Event, error) {
	e := group.Event{At: timeOf(m.GetAt()), Kind: group.EventKind(m.GetKind()), Attempt: int(m.GetAttempt()), Rank: int(m.GetRank()),
		Pid: int(m.GetPid()), Code: int(m.GetCode()), Signal: int(m.GetSignal()), Memory: group.Memory(m.GetMemory()), Asked: m.GetAsked(), Stuck: m.GetStuck(),
		Text: clean(m.GetText(), maxText), Where: clean(m.GetWhere(), maxText)}
	switch {
	case !remote[e.Kind]:
		return e, fmt.Errorf("an event %.40q", m.GetKind())
	case e.Attempt < 0 || e.Attempt > maxAttempts || e.Rank < 0 || e.Rank >= maxRanks || e.Pid < 0:
		return e, fmt.Errorf("an event of attempt %d, rank %d, process %d", e.Attempt, e.Rank, e.Pid)
	case e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > 64:
		return e, fmt.Errorf("an event with code %d and signal %d", e.Code, e.Signal)
	case len(m.GetText()) > maxText || len(m.GetWhere()) > maxText:
		return e, fmt.Errorf("an event with %d bytes of text, want at most %d", max(len(m.GetText()), len(m.GetWhere())), maxText)
	}
	switch e.Memory {
	case group.MemoryUnknown, group.OutOfMemory, group.EnoughMemory:
		return e, nil
	}
	return e, fmt.Errorf("an event with memory %.40q", m.GetMemory())
}

func checkRank(attempt, rank int32) error {
	if attempt < 0 || attempt > maxAttempts || rank < 0 || rank >= maxRanks {
		return fmt.Errorf("rank %d of attempt %d", rank, attempt)
	}
	return nil
}

func wireSample(s node.Sample) *wanrunv1.AgentSample {
	return &wanrunv1.AgentSample{At: nanos(s.At), Attempt: int32(s.Attempt), Rank: int32(s.Rank), Rss: s.RSS, RssPeak: s.RSSPeak,
		CpuNs: int64(s.CPU), State: clean(s.State, 16), Wchan: clean(s.Wchan, maxName)}
}

func sampleOf(m *wanrunv1.AgentSample) (node.Sample, error) {
	if err := checkRank(m.GetAttempt(), m.GetRank()); err != nil {
		return node.Sample{}, err
	}
	if m.GetRss() < -1 || m.GetRssPeak() < -1 || m.GetCpuNs() < 0 || len(m.GetState()) > 16 || len(m.GetWchan()) > maxName {
		return node.Sample{}, fmt.Errorf("a sample of %d and %d bytes, %d ns, state %.20q", m.GetRss(), m.GetRssPeak(), m.GetCpuNs(), m.GetState())
	}
	return node.Sample{At: timeOf(m.GetAt()), Attempt: int(m.GetAttempt()), Rank: int(m.GetRank()), RSS: m.GetRss(), RSSPeak: m.GetRssPeak(),
		CPU: time.Duration(m.GetCpuNs()), State: m.GetState(), Wchan: m.GetWchan()}, nil
}

const (
	stdout = "stdout"
	stderr = "stderr"
)

func wireLine(l node.Line) *wanrunv1.AgentLine {
	return &wanrunv1.AgentLine{At: nanos(l.At), Attempt: int32(l.Attempt), Rank: int32(l.Rank), Stderr: l.Stream == stderr,
		Text: []byte(l.Text), Partial: l.Partial, Dropped: int64(l.Dropped)}
}

func lineOf(m *wanrunv1.AgentLine) (node.Line, error) {
	if err := checkRank(m.GetAttempt(), m.GetRank()); err != nil {
		return node.Line{}, err
	}
	if len(m.GetText()) > maxLine || m.GetDropped() < 0 || m.GetDropped() > 1<<40 {
		return node.Line{}, fmt.Errorf("a line of %d bytes after %d lost ones", len(m.GetText()), m.GetDropped())
	}
	l := node.Line{At: timeOf(m.GetAt()), Attempt: int(m.GetAttempt()), Rank: int(m.GetRank()), Stream: stdout,
		Text: string(m.GetText()), Partial: m.GetPartial(), Dropped: int(m.GetDropped())}
	if m.GetStderr() {
		l.Stream = stderr
	}
	return l, nil
}

// endOf is the result that a finished node ends with.
func endOf(f *wanrunv1.AgentFinish) error {
	if f.GetCode() == 0 {
		return nil
	}
	return ends.Errorf(ends.Code(f.GetCode()), "%s", f.GetText())
}
