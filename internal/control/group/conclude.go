package group

import "fmt"

// conclude judges the attempt and goes on to the next, or to the end. given is the cause
// of an attempt that has not started.
func (m *Machine) conclude(given *Cause) {
	at := Attempt{Number: m.attemptNumber(), Ended: m.now, Cause: given}
	left := false
	if a := m.current; a != nil {
		at.Started, at.Cause = a.started, m.cause()
		for _, r := range a.ranks {
			r.Role = m.role(r, at.Cause)
			r.Text = m.rankText(r)
			left = left || r.live()
			at.Ranks = append(at.Ranks, r.RankState)
		}
	}
	restart := at.Cause != nil && m.current != nil && !left && m.mayRestart() && m.retries(at.Cause)
	m.past = append(m.past, at)
	if !restart {
		m.end(at.Cause)
		return
	}
	wait := m.config.backoff(len(m.past))
	text := fmt.Sprintf("attempt %d ended: %s; restart %d of at most %d", at.Number, at.Cause.Text, len(m.past), m.config.MaxRestarts)
	if wait > 0 {
		text += fmt.Sprintf(" in %v", wait)
	}
	m.say(text)
	m.gather(m.now.Add(wait))
}

// mayRestart says that another attempt may follow this one.
func (m *Machine) mayRestart() bool {
	return m.user == nil && (m.current == nil || m.current.timeout.IsZero() && m.current.success.IsZero()) &&
		m.attemptNumber() < m.config.MaxRestarts
}

// end ends the job.
func (m *Machine) end(c *Cause) {
	m.state, m.current = over, nil
	action := Action{Kind: End, Node: AllNodes}
	if c != nil {
		action.Code, action.Text = c.Code, c.Text
	}
	m.act(action)
}

// rankText is what the rank said, or what is known of its failure.
func (m *Machine) rankText(r *rank) string {
	for _, said := range []*report{r.report, r.late, r.notStarted, r.lost} {
		if said != nil {
			return said.text
		}
	}
	return r.words
}
