package launch

import (
	"math"

	"github.com/wanrun/wanrun/internal/settings"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// maxPhase bounds a phase's name on the screen.
const maxPhase = 40

// meter turns a rank's progress messages into what is shown. All its numbers come
// from them, the time too.
type meter struct {
	phase       string
	done, total int
	began       float64 // when the phase did, in seconds since the worker's start
	elapsed     float64 // of the last message, as the worker counts
	device, rss int64
}

// update takes the next message. If a new phase begins with it, ended is the one
// before, complete: a worker that is fast leaves messages out. Nonsense is brought into range.
func (m *meter) update(p *wanrunv1.Progress) (ended *meter) {
	phase := settings.Shorten(p.GetPhase(), maxPhase)
	elapsed := p.GetElapsedSeconds()
	if math.IsNaN(elapsed) || math.IsInf(elapsed, 0) || elapsed < m.elapsed {
		elapsed = m.elapsed
	}
	total := max(0, int(p.GetTotal()))
	done := min(max(0, int(p.GetDone())), total)
	if phase != m.phase {
		if m.phase != "" && !m.finished() {
			last := *m
			last.total = max(last.total, 1)
			last.done, last.elapsed = last.total, elapsed
			ended = &last
		}
		m.phase, m.began = phase, m.elapsed
		if done == 0 {
			m.began = elapsed
		}
	}
	m.done, m.total, m.elapsed = done, total, elapsed
	m.device, m.rss = max(0, p.GetDeviceBytes()), max(0, p.GetRssBytes())
	return ended
}

// seconds that the phase has run for.
func (m *meter) seconds() float64 { return m.elapsed - m.began }

// perUnit is the mean time of a unit, 0 before the first is done.
func (m *meter) perUnit() float64 {
	if m.done == 0 {
		return 0
	}
	return m.seconds() / float64(m.done)
}

// eta is how long the phase will still take, if the rest goes like what is done;
// ok is false as long as nothing is.
func (m *meter) eta() (seconds float64, ok bool) {
	return m.perUnit() * float64(m.total-m.done), m.done > 0
}

func (m *meter) finished() bool { return m.total > 0 && m.done == m.total }
