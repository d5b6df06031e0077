package timeline

import "slices"

// unknown stands for a number that is not known.
const unknown int64 = -1

// maxPoints bounds a rank's series. When it is full, neighbours become one that has the
// most of both, so that no peak is lost.
const maxPoints = 2048

// value is a point of a series. All zero is never in one: bytes that are not known are
// unknown.
type value struct {
	seconds                                     float64
	rss, anonymous, arena, planned, own, gpuAll int64
}

// span is a phase, or an attempt's part of one.
type span struct {
	name     string
	attempt  int
	from, to float64
	peak     value // the most of each
}

// maxSpans bounds a rank's phases: those of many attempts.
const maxSpans = 1024

// series is a rank over time.
type series struct {
	rank   int
	points []value
	spans  []span
	gpu    *GPU   // the latest
	why    string // nothing is known of one
	last   Point
}

func number(p *int64) int64 {
	if p == nil {
		return unknown
	}
	return *p
}

func valueOf(p Point) value {
	v := value{p.Seconds, number(p.RSS), number(p.Anonymous), number(p.Arena), number(p.Planned), unknown, unknown}
	if p.GPU != nil {
		v.own, v.gpuAll = number(p.GPU.Own), number(p.GPU.Used)
	}
	return v
}

func (v value) most(w value) value {
	return value{v.seconds, max(v.rss, w.rss), max(v.anonymous, w.anonymous), max(v.arena, w.arena), max(v.planned, w.planned), max(v.own, w.own),
		max(v.gpuAll, w.gpuAll)}
}

// gap breaks the lines of a picture.
func gap(seconds float64) value {
	return value{seconds, unknown, unknown, unknown, unknown, unknown, unknown}
}

func (s *series) add(p Point) {
	v := valueOf(p)
	if len(s.points) > 0 && p.Attempt != s.last.Attempt {
		s.points = append(s.points, gap(p.Seconds))
	}
	s.points = append(s.points, v)
	if len(s.points) > maxPoints {
		s.thin()
	}
	at := len(s.spans) - 1
	if at < 0 || s.spans[at].name != p.Phase || s.spans[at].attempt != p.Attempt {
		if at >= 0 && s.spans[at].attempt == p.Attempt {
			s.spans[at].to = p.Seconds
		}
		if len(s.spans) < maxSpans {
			s.spans = append(s.spans, span{name: p.Phase, attempt: p.Attempt, from: p.Seconds, peak: gap(p.Seconds)})
		}
		at = len(s.spans) - 1
	}
	s.spans[at].to, s.spans[at].peak = p.Seconds, s.spans[at].peak.most(v)
	if p.GPU != nil {
		s.gpu = p.GPU
	}
	s.why, s.last = p.GPUUnknown, p
}

// thin halves the points.
func (s *series) thin() {
	half := s.points[:0]
	for pair := range slices.Chunk(s.points, 2) {
		v := pair[0]
		if len(pair) == 2 {
			v = v.most(pair[1])
		}
		half = append(half, v)
	}
	s.points = half
}
