package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

const (
	// wordEvery is how often it is said who is missing.
	wordEvery = 10 * time.Second
	// maxRanks bounds the ranks of a node, whoever says so.
	maxRanks = 4096
	// maxDead bounds how many agents that are gone are remembered for each node.
	maxDead = 64
)

// nodeState is what is known of a node.
type nodeState struct {
	name    string // what people call it; "" if unknown
	joined  bool
	session string   // of the agent, if joined
	dead    []string // the agents that are not to come back
	ranks   int      // that it brings; fixed by the first start
	fixed   bool
	why     string // it is not there
}

func (n *nodeState) bury(session string) {
	n.dead = append(n.dead, session)
	if len(n.dead) > maxDead {
		n.dead = n.dead[1:]
	}
}

// gather begins an attempt: it starts when all nodes are there, but not before a time.
func (m *Machine) gather(notBefore time.Time) {
	m.state, m.current = gathering, nil
	m.since, m.notBefore, m.nextWord = m.now, notBefore, m.now.Add(wordEvery)
}

// full says that all nodes are there.
func (m *Machine) full() bool {
	return !slices.ContainsFunc(m.nodes, func(n nodeState) bool { return !n.joined })
}

// met says that the attempt can start.
func (m *Machine) met() bool { return m.full() && !m.now.Before(m.notBefore) }

// join takes in a node's agent, or turns it away.
func (m *Machine) join(e Event) {
	refuse := func(session, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		m.act(Action{Kind: Refuse, Node: e.Node, Session: session, Text: text})
		if m.state != over {
			m.say("refused an agent: " + text)
		}
	}
	name := plain(e.Name, maxName)
	if e.Node < 0 || e.Node >= m.config.Nodes {
		refuse(e.Session, "%q says that it is node %d, but there are %d nodes, numbered from 0", name, e.Node, m.config.Nodes)
		return
	}
	n := &m.nodes[e.Node]
	switch {
	case n.joined && n.session == e.Session, slices.Contains(n.dead, e.Session):
		return // said twice, or late
	case m.state == over:
		refuse(e.Session, "the job is over")
	case n.joined && m.state == gathering && e.Node != 0:
		text := fmt.Sprintf("%q and %q both say that they are node %d; give each its own number (--node-rank)", n.name, name, e.Node)
		m.act(Action{Kind: Refuse, Node: e.Node, Session: n.session, Text: text})
		m.act(Action{Kind: Refuse, Node: e.Node, Session: e.Session, Text: text})
		m.say("refused two agents: " + text)
		n.bury(n.session)
		n.bury(e.Session)
		n.joined, n.session, n.why = false, "", text
	case n.joined && m.state == gathering: // the launcher itself, which goes on
		refuse(e.Session, "%q says that it is node 0, which is the launcher's own (%q); give each node its own number (--node-rank)", name, n.name)
	case n.joined:
		refuse(e.Session, "%q says that it is %s, which is there already and runs attempt %d", name, m.label(e.Node), m.attemptNumber())
	case m.state == running && !m.mayRestart():
		refuse(e.Session, "attempt %d is running, and no other will follow", m.attemptNumber())
	case e.Ranks < 1 || e.Ranks > maxRanks:
		n.why = fmt.Sprintf("it brings %d ranks, want 1 to %d", e.Ranks, maxRanks)
		refuse(e.Session, "node %d (%s): %s", e.Node, name, n.why)
	case n.fixed && n.ranks != e.Ranks:
		n.why = fmt.Sprintf("it brings %d ranks and had %d before", e.Ranks, n.ranks)
		refuse(e.Session, "node %d (%s): %s", e.Node, name, n.why)
	case e.Skew != "" && !m.config.AllowSkew:
		n.why = "it differs from node 0: " + plain(e.Skew, maxText)
		refuse(e.Session, "node %d (%s): %s; --allow-skew lets it join", e.Node, name, n.why)
	default:
		m.admit(n, e, name)
	}
}

// admit takes in an agent that may join.
func (m *Machine) admit(n *nodeState, e Event, name string) {
	n.joined, n.session, n.ranks, n.why = true, e.Session, e.Ranks, ""
	if name != "" {
		n.name = name
	}
	if e.Skew != "" {
		m.say(fmt.Sprintf("%s differs from node 0: %s", m.label(e.Node), plain(e.Skew, maxText)))
	}
	if m.config.Nodes > 1 {
		m.inform(fmt.Sprintf("%s has joined: %d of %d nodes", m.label(e.Node), m.numJoined(), m.config.Nodes))
	}
	if e.Code != 0 && m.state == gathering {
		text := plain(e.Text, maxText)
		if text == "" {
			text = "the program cannot be run"
		}
		m.conclude(&Cause{At: e.At, Kind: CauseNotStarted, Rank: -1, Node: e.Node, Code: codeOf(e.Code), Text: m.onNode(e.Node) + text})
	}
}

// lose takes note that an agent is gone, and with it the ranks of its node.
func (m *Machine) lose(e Event) {
	if e.Node < 0 || e.Node >= m.config.Nodes || m.state == over {
		return
	}
	n := &m.nodes[e.Node]
	if !n.joined || n.session != e.Session {
		if !slices.Contains(n.dead, e.Session) {
			n.bury(e.Session) // should its Join come later
		}
		return
	}
	n.bury(n.session)
	n.joined, n.session = false, ""
	n.why = plain(e.Text, maxText)
	if n.why == "" {
		n.why = "its connection ended"
		if e.Kind == Left {
			n.why = "it left"
		}
	}
	if m.state != running || !m.current.loseNode(e.Node) {
		if m.config.Nodes > 1 {
			m.say(fmt.Sprintf("%s is gone, on which nothing ran: %s", m.label(e.Node), n.why))
		}
		return
	}
	m.current.losses = append(m.current.losses, loss{e.At, e.Node, n.why})
	m.say(m.lossText(e.Node, n.why))
	m.fail(m.label(e.Node) + " is lost, and the others end with it")
}

// missing gives up: the nodes did not meet.
func (m *Machine) missing() {
	at := m.since.Add(m.config.JoinTimeout)
	m.conclude(&Cause{At: at, Kind: CauseMissing, Rank: -1, Node: m.firstMissing(), Code: ends.Retry,
		Text: fmt.Sprintf("%s after %v", m.missingText(), m.config.JoinTimeout)})
}

func (m *Machine) sayMissing() {
	for !m.now.Before(m.nextWord) {
		m.nextWord = m.nextWord.Add(wordEvery)
	}
	m.say(m.missingText())
}

// missingText is "3 of 4 nodes, missing node 2 (gpu-07)".
func (m *Machine) missingText() string {
	const maxListed = 8
	var list []string
	numMissing := 0
	for i, n := range m.nodes {
		if n.joined {
			continue
		}
		if numMissing++; numMissing > maxListed {
			continue
		}
		text := m.label(i)
		if n.why != "" {
			text += ": " + n.why
		}
		list = append(list, text)
	}
	text := fmt.Sprintf("%d of %d nodes, missing %s", m.numJoined(), m.config.Nodes, strings.Join(list, ", "))
	if numMissing > maxListed {
		text += fmt.Sprintf(" and %d more", numMissing-maxListed)
	}
	return text
}

func (m *Machine) numJoined() int {
	count := 0
	for _, n := range m.nodes {
		if n.joined {
			count++
		}
	}
	return count
}

func (m *Machine) firstMissing() int {
	return slices.IndexFunc(m.nodes, func(n nodeState) bool { return !n.joined })
}

// start starts the attempt on all nodes: rank = the ranks of the nodes before + local.
func (m *Machine) start() {
	var table []Place
	for i, n := range m.nodes {
		for local := range n.ranks {
			table = append(table, Place{Rank: len(table), Node: i, Local: local})
		}
	}
	if m.config.World > 0 && len(table) != m.config.World {
		m.conclude(&Cause{At: m.now, Kind: CauseWorld, Rank: -1, Node: -1, Code: ends.Usage, Text: m.worldText(len(table))})
		return
	}
	a := &attempt{number: m.attemptNumber(), started: m.now, dumped: make([]bool, m.config.Nodes)}
	for _, p := range table {
		r := &rank{RankState: RankState{Place: p}}
		if m.config.StartTimeout > 0 {
			r.due = m.now.Add(m.config.StartTimeout)
		}
		a.ranks = append(a.ranks, r)
	}
	for i := range m.nodes {
		m.nodes[i].fixed = true
	}
	if m.started.IsZero() {
		m.started = m.now
	}
	m.state, m.current = running, a
	m.act(Action{Kind: Start, Node: AllNodes, Attempt: a.number, Table: table})
}

// worldText says what ranks there are and what there must be.
func (m *Machine) worldText(size int) string {
	var counts []string
	for _, n := range m.nodes {
		counts = append(counts, fmt.Sprint(n.ranks))
	}
	if len(counts) > 8 {
		counts = append(counts[:8], "...")
	}
	return fmt.Sprintf("%d ranks wanted, the nodes bring %s = %d (--nproc)", m.config.World, strings.Join(counts, " + "), size)
}
