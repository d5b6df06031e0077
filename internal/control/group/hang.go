package group

import (
	"fmt"
	"time"
)

// hang is what is known of a group that does not go on. When one rank hangs, the others
// soon wait for it and look the same: which one it was is decided when the stacks are
// written, and all that will be noticed was.
type hang struct {
	at    time.Time // the first sign
	signs []sign    // of the ranks that were noticed, in the order of the messages
}

// sign is that a rank does not go on.
type sign struct {
	at   time.Time
	rank *rank
	text string // the evidence, "" if it is only that nothing was heard
}

// silent takes note of a rank that does not go on.
func (m *Machine) silent(r *rank, at time.Time, text string) {
	a := m.current
	if a.hang == nil && a.stage != nothing {
		return // all end already
	}
	if a.hang == nil {
		a.hang = &hang{at: at}
		a.note(sign{at, r, text})
		m.say(fmt.Sprintf("%s does not go on: stacks are written, and the job ends", m.who(r)))
		m.dump()
		return
	}
	if a.stage == dumping {
		a.note(sign{at, r, text})
	}
}

func (a *attempt) note(s sign) {
	for _, seen := range a.hang.signs {
		if seen.rank == s.rank {
			return
		}
	}
	a.hang.signs = append(a.hang.signs, s)
	if s.at.Before(a.hang.at) {
		a.hang.at = s.at
	}
}

// culprit is the sign of the rank that the others wait for: one that is held from
// outside; else one that is elsewhere than most; else the first that was silent.
func (a *attempt) culprit() sign {
	best := a.hang.signs[0]
	majority, _ := a.majority()
	weight := func(s sign) int {
		switch {
		case s.rank.stuck:
			return 2
		case majority != "" && s.rank.Where != majority:
			return 1
		default:
			return 0
		}
	}
	for _, s := range a.hang.signs[1:] {
		if w, b := weight(s), weight(best); w > b || (w == b && s.at.Before(best.at)) {
			best = s
		}
	}
	return best
}

// majority is where more than half of the ranks are, and how many; "" if there is no
// such place.
func (a *attempt) majority() (where string, size int) {
	counts := map[string]int{}
	for _, r := range a.ranks {
		if r.Where == "" {
			continue
		}
		counts[r.Where]++
		if counts[r.Where]*2 > len(a.ranks) {
			where = r.Where
		}
	}
	return where, counts[where]
}

// hangCause names the rank that hangs, the evidence, and where the others are.
func (m *Machine) hangCause() *Cause {
	a := m.current
	s := a.culprit()
	text := m.who(s.rank) + " hangs"
	if s.text != "" {
		text += ": " + s.text
	} else {
		text += fmt.Sprintf(": it has not gone on for %v", m.config.HangTimeout)
	}
	if majority, size := a.majority(); majority != "" && size > 1 {
		switch {
		case size == len(a.ranks):
			text += fmt.Sprintf("; all %d are in %s", size, majority)
		case s.rank.Where != majority && s.rank.Where != "":
			text += fmt.Sprintf("; %d of %d are in %s, rank %d is in %s", size, len(a.ranks), majority, s.rank.Rank, s.rank.Where)
		default:
			text += fmt.Sprintf("; %d of %d are in %s", size, len(a.ranks), majority)
		}
	} else if s.rank.Where != "" {
		text += " in " + s.rank.Where
	}
	return &Cause{At: a.hang.at, Kind: CauseHang, Rank: s.rank.Rank, Node: s.rank.Node, Code: hangCode, Text: text}
}
