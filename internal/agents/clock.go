package agents

import (
	"sync"
	"time"

	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// clock estimates how far another node's clock is ahead of ours, from pulses that
// went there and came back: of the last ones, that with the shortest way tells most, as
// in NTP (RFC 5905, section 10).
type clock struct {
	mu      sync.Mutex
	samples []clockSample // the latest last
}

type clockSample struct{ ahead, roundTrip time.Duration }

const numClockSamples = 16

// hello gives a first, one-way estimate: the message's way counts as offset.
func (c *clock) hello(theirs int64, ours time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const unknown = time.Hour // more than any way takes
	c.samples = []clockSample{{time.Duration(theirs - ours.UnixNano()), unknown}}
}

// add takes in a pulse of theirs that came at now, by our clock. Readings that no honest
// clock gives are left out.
func (c *clock) add(p *wanrunv1.AgentPulse, now time.Time) {
	if p.GetEcho() == 0 {
		return
	}
	way := (now.UnixNano() - p.GetEcho()) - (p.GetSent() - p.GetReceived())
	if way < 0 || way > int64(time.Minute) {
		return
	}
	// Half of each difference, so that no sum overflows.
	s := clockSample{time.Duration((p.GetReceived()-p.GetEcho())/2 + (p.GetSent()-now.UnixNano())/2), time.Duration(way)}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A difference that the ways cannot explain is a clock that was set.
	const drift = 20 * time.Millisecond
	if len(c.samples) > 0 {
		best := c.best()
		if (s.ahead - best.ahead).Abs() > (s.roundTrip+best.roundTrip)/2+drift {
			c.samples = nil
		}
	}
	c.samples = append(c.samples, s)
	if len(c.samples) > numClockSamples {
		c.samples = c.samples[1:]
	}
}

func (c *clock) best() clockSample {
	var best clockSample
	for i, s := range c.samples {
		if i == 0 || s.roundTrip <= best.roundTrip {
			best = s
		}
	}
	return best
}

// offset returns the best estimate; zeros if there is none.
func (c *clock) offset() (ahead, roundTrip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.best()
	return s.ahead, s.roundTrip
}

// pulses makes a side's pulses.
type pulses struct {
	mu       sync.Mutex
	echo     int64 // sent of the last one that came
	received int64 // when
}

func (p *pulses) came(m *wanrunv1.AgentPulse, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.echo, p.received = m.GetSent(), now.UnixNano()
}

func (p *pulses) next(now time.Time) *wanrunv1.AgentPulse {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &wanrunv1.AgentPulse{Sent: now.UnixNano(), Echo: p.echo, Received: p.received}
	p.echo, p.received = 0, 0
	return m
}

// waiting is true if a pulse came since the last one of ours.
func (p *pulses) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.echo != 0
}
