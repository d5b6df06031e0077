package doctor

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// Diagnosis is what logs say of a run.
type Diagnosis struct {
	Program  string    `json:"program"` // "wanrun", "torch", or "" if the logs do not show it
	Ranks    int       `json:"ranks"`   // 0: not known
	Finished bool      `json:"finished"`
	Findings []Finding `json:"findings"` // the cause first; empty if nothing went wrong
	Notes    []string  `json:"notes"`
	Read     []Read    `json:"read"`
}

// Roles of findings.
const (
	Cause       = "cause"
	Also        = "also"        // as likely, from another log or of another kind
	Consequence = "consequence" // followed from the cause
)

// Finding is one thing that went wrong.
type Finding struct {
	Kind     Kind       `json:"kind"`
	Role     string     `json:"role"`
	Ranks    []int      `json:"ranks"` // empty: not known
	Phase    string     `json:"phase"` // as in reports, or one of the official program's; "" if not known
	Step     int        `json:"step"`  // of Steps that were done; 0 of 0 if not known
	Steps    int        `json:"steps"`
	What     string     `json:"what"`
	Why      string     `json:"why"`
	Do       []string   `json:"do"`
	Command  string     `json:"command"` // of wanrun that avoids it, "" if a command line does not
	Evidence []Evidence `json:"evidence"`
}

// Evidence is a line of a log.
type Evidence struct {
	Log  string `json:"log"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// Bounds on what is kept of a log.
const (
	maxSigns    = 4096 // of a log; the last is replaced when there are more
	maxEvidence = 4    // lines of a finding
)

// analysis collects while logs are read.
type analysis struct {
	sources []Source
	signs   []*sign
	asked   asked
	phase   string // where the log that says so stopped
	step    int
	steps   int
	known   bool // some log is one of a run
	done    bool
	ranks   map[int]bool
	result  Diagnosis
}

// Analyze reads logs of one run and says what they mean. It never fails: what cannot be
// read is told in Diagnosis.Read.
func Analyze(sources []Source) Diagnosis {
	a := &analysis{sources: sources, ranks: map[int]bool{}}
	for i, s := range sources {
		if s.Rank < 0 {
			s.Rank = rankOfName(s.Name)
		}
		if strings.HasSuffix(s.Name, ".json") {
			a.report(i, s)
		} else {
			a.log(i, s)
		}
	}
	return a.conclude()
}

// report reads a log that may be a report.
func (a *analysis) report(index int, s Source) {
	data, err := io.ReadAll(io.LimitReader(s.Read, maxReport+1))
	f, reportErr := readReport(bytes.NewReader(data))
	if err != nil || reportErr != nil {
		s.Read = bytes.NewReader(data)
		a.log(index, s)
		return
	}
	a.result.Read = append(a.result.Read, Read{Name: settings.Shorten(s.Name, maxQuote), Lines: bytes.Count(data, []byte{'\n'}), Bytes: int64(len(data))})
	a.known = true
	a.asked = f.asked()
	if sign := f.sign(index); sign != nil {
		a.signs = append(a.signs, sign)
	} else {
		a.done = true
	}
}

func (a *analysis) log(index int, s Source) {
	t := &tracker{}
	seen := map[string]*sign{}
	info := scan(index, s, func(l line) {
		if anyMark().in(l.lower) {
			a.asked.follow(l)
			t.follow(l)
		} else {
			t.pass(l)
		}
		if l.rank >= 0 && len(a.ranks) < 1<<16 {
			a.ranks[l.rank] = true
		}
		if l.class == "" && !anySign().in(l.lower) {
			return
		}
		sign := read(l)
		if sign == nil {
			return
		}
		if sign.phase == "" {
			sign.phase, sign.step, sign.steps = t.where(l), t.step, t.steps
		}
		key := fmt.Sprint(sign.kind, " ", sign.rank)
		if old := seen[key]; old != nil {
			old.merge(sign)
			return
		}
		if len(seen) < maxSigns {
			seen[key] = sign
			a.signs = append(a.signs, sign)
		}
	})
	a.result.Read = append(a.result.Read, info)
	if t.phase != "" {
		a.known = true
		a.phase, a.step, a.steps = t.phase, t.step, t.steps
	}
	a.done = a.done || t.finished
}

// merge takes what a later line says of the same.
func (s *sign) merge(later *sign) {
	s.times++
	for _, n := range []struct {
		into *int64
		from int64
	}{{&s.pid, later.pid}, {&s.need, later.need}, {&s.free, later.free}, {&s.total, later.total}, {&s.reserved, later.reserved},
		{&s.allocated, later.allocated}, {&s.foreign, later.foreign}, {&s.limit, later.limit}, {&s.used, later.used}} {
		if *n.into == unknown {
			*n.into = n.from
		}
	}
	if s.name == "" {
		s.name = later.name
	}
	s.inGroup = s.inGroup || later.inGroup
	if s.phase == "" {
		s.phase, s.step, s.steps = later.phase, later.step, later.steps
	}
}

// conclude weighs the signs.
func (a *analysis) conclude() Diagnosis {
	d := a.result
	d.Findings, d.Notes = []Finding{}, []string{}
	d.Finished = a.done
	for _, r := range d.Read {
		if r.Cut {
			d.Notes = append(d.Notes, fmt.Sprintf("%s is larger than %s: of it the beginning and the end were read, or the beginning alone", r.Name, formatBytes(MaxLog)))
		}
	}
	switch {
	case a.asked.ours || slices.ContainsFunc(a.signs, func(s *sign) bool { return s.ours }):
		d.Program = "wanrun"
	case a.asked.torch || a.known:
		d.Program = "torch"
	}
	if n := max(a.asked.ranks(), len(a.ranks)); n > 1 || a.known {
		d.Ranks = n
	}
	a.asked.nproc = max(a.asked.nproc, len(a.ranks))
	a.explainKills()
	slices.SortStableFunc(a.signs, func(x, y *sign) int { return cmp.Compare(x.weight, y.weight) })
	if len(a.signs) == 0 {
		if a.known && !a.done {
			a.signs = []*sign{a.silence()}
		} else {
			return d
		}
	}
	cause := a.signs[0]
	if a.done && cause.weight > root && cause.kind != OutputLost && cause.kind != RankFailed {
		// The program says that it finished: warnings of libraries are no failure.
		return d
	}
	byKind := map[Kind]int{}
	for _, s := range a.signs {
		if i, ok := byKind[s.kind]; ok {
			d.Findings[i].add(a, s)
			continue
		}
		f := a.finding(s)
		switch {
		case s == cause:
			f.Role = Cause
		case s.weight == root || s.kind == OtherKilled:
			f.Role = Also
		default:
			f.Role = Consequence
		}
		byKind[s.kind] = len(d.Findings)
		d.Findings = append(d.Findings, f)
	}
	for i := range d.Findings {
		slices.Sort(d.Findings[i].Ranks)
	}
	return d
}

// explainKills gives a SIGKILL the reason that the kernel or Slurm wrote elsewhere, and
// what they wrote the phase in which it happened.
func (a *analysis) explainKills() {
	var kill, memory *sign
	for _, s := range a.signs {
		if s.kind == Killed && kill == nil {
			kill = s
		}
		if s.kind == HostMemory && (memory == nil || memory.limit == unknown && s.limit != unknown) {
			memory = s
		}
	}
	for _, s := range a.signs {
		if s.phase == "" && s.line.source >= 0 { // the kernel's log and Slurm's know no phases
			s.phase, s.step, s.steps = a.phase, a.step, a.steps
		}
		if s.kind == DeviceMemory && s.phase == afterSteps {
			s.phase = vaeDecode // the model leaves the device before, so it is the decode that asks for memory
		}
	}
	if kill == nil || memory == nil {
		// A kill of a process whose number the run's log has is the run's, whatever its name.
		for _, s := range a.signs {
			if kill != nil && s.kind == OtherKilled && s.pid != unknown && s.pid == kill.pid {
				s.kind, s.weight, memory = HostMemory, root, s
			}
		}
		if kill == nil || memory == nil {
			return
		}
	}
	if memory.rank < 0 {
		memory.rank = kill.rank
	}
	memory.phase, memory.step, memory.steps = cmp.Or(memory.phase, kill.phase), cmp.Or(memory.step, kill.step), cmp.Or(memory.steps, kill.steps)
	kill.weight = consequence
}

// silence is the sign of a log that stops without a word.
func (a *analysis) silence() *sign {
	s := &sign{kind: Stopped, weight: general, rank: -1, phase: a.phase, step: a.step, steps: a.steps, line: line{source: -1}, pid: unknown, signal: unknown,
		need: unknown, free: unknown, total: unknown, reserved: unknown, allocated: unknown, foreign: unknown, limit: unknown, used: unknown}
	return s
}

func (a *analysis) finding(s *sign) Finding {
	f := Finding{Kind: s.kind, Ranks: []int{}, Phase: s.phase, Step: s.step, Steps: s.steps, Do: []string{}, Evidence: []Evidence{}}
	t := a.explain(s)
	f.What, f.Why, f.Do, f.Command = t.what, t.why, append(f.Do, t.do...), t.command
	for _, text := range []*string{&f.What, &f.Why} {
		*text = settings.Escape(*text)
	}
	f.add(a, s)
	return f
}

// add notes another sign of the same kind.
func (f *Finding) add(a *analysis, s *sign) {
	if s.rank >= 0 && !slices.Contains(f.Ranks, s.rank) {
		f.Ranks = append(f.Ranks, s.rank)
	}
	if s.line.source < 0 || len(f.Evidence) >= maxEvidence {
		return
	}
	f.Evidence = append(f.Evidence, Evidence{Log: settings.Shorten(a.sources[s.line.source].Name, maxQuote), Line: s.line.number,
		Text: settings.Shorten(strings.TrimSpace(s.line.text), maxQuote)})
}
