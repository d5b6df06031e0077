package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// kinds are the findings of wanrun's classes of ends.
var kinds = map[string]Kind{
	ends.Usage.String(): Usage, ends.BadInput.String(): BadInput, ends.Refused.String(): Refused, ends.PeerLost.String(): PeerLost,
	ends.Bug.String(): Bug, ends.CannotStart.String(): CannotStart, ends.OutputLost.String(): OutputLost, ends.Retry.String(): Retry,
	ends.DeviceMemory.String(): DeviceMemory, ends.HostMemory.String(): HostMemory, ends.DeviceFailure.String(): DeviceLost,
	ends.Hang.String(): Hang, ends.NotExecutable.String(): CannotStart, ends.NotFound.String(): CannotStart,
	ends.Interrupted.String(): Interrupted, ends.Terminated.String(): Terminated, "signal_9": Killed, "signal_11": Crash, "signal_7": BusError,
	"signal_6": Crash, "signal_1": Hangup,
}

var (
	// "wanrun: FAILED  rank 1 was killed by the kernel in denoise (3 of 12): out of memory, …" and "wanrun: exit 77  …".
	failedLine = regexp.MustCompile(`^\S{1,40}: FAILED  (.*)$`)
	exitLine   = regexp.MustCompile(`^\S{1,40}: exit (\d{1,3})  (.*)$`)
	ofOurRank  = regexp.MustCompile(`\brank (\d{1,6})\b`)
	ourLimit   = regexp.MustCompile(`limit (\d[\d.]* [KMGT]?i?B)`)
	ourUsed    = regexp.MustCompile(`rank used (\d[\d.]* [KMGT]?i?B)`)
)

// fromWanrun reads wanrun's own verdict.
func (s *sign) fromWanrun() bool {
	if kind, ok := kinds[s.line.class]; ok {
		s.verdict(kind, s.line.text)
		return true
	}
	if m := exitLine.FindStringSubmatch(s.line.text); m != nil {
		code := ends.Code(atoi(m[1]))
		kind, ok := kinds[code.String()]
		if code == ends.Done || !ok {
			return false
		}
		s.verdict(kind, m[2])
		return true
	}
	if m := failedLine.FindStringSubmatch(s.line.text); m != nil {
		if strings.Contains(m[1], "by the kernel") && strings.Contains(m[1], "out of memory") {
			s.verdict(HostMemory, m[1])
			return true
		}
		return false
	}
	text, ok := strings.CutPrefix(s.line.text, "wanrun: ")
	if !ok {
		return false
	}
	text, isError := strings.CutPrefix(text, "error: ")
	lower := strings.ToLower(text)
	for _, w := range oneLiners {
		if strings.Contains(lower, w.text) {
			s.verdict(w.kind, text)
			return true
		}
	}
	if isError {
		s.verdict(Said, text)
		s.weight = general
	}
	return isError
}

// oneLiners are lines of wanrun's that end it before there is a report.
var oneLiners = []struct {
	text string
	kind Kind
}{
	{"did you mean", Usage}, {"see --help", Usage}, {"unknown flag", Usage}, {"unexpected argument", Usage},
	{"nodes, missing node", NoRendezvous}, {"cannot be written", OutputLost}, {"arena exhausted", DeviceMemory}, {"out of memory", HostMemory},
}

// verdict takes a class and the line that goes with it.
func (s *sign) verdict(kind Kind, text string) {
	s.kind, s.weight, s.ours, s.name = kind, root, true, text
	switch kind {
	case Killed:
		s.weight = byKill
	case PeerLost:
		s.weight = peer
	case Terminated, Crash, BusError, Bug:
		s.weight = general
	case HostMemory:
		if m := ourLimit.FindStringSubmatch(text); m != nil {
			s.limit, s.inGroup = firstSize(m[1]), strings.Contains(text, "cgroup")
		}
		if m := ourUsed.FindStringSubmatch(text); m != nil {
			s.used = firstSize(m[1])
		}
	}
	if m := ofOurRank.FindStringSubmatch(text); m != nil && s.rank < 0 {
		s.rank = atoi(m[1])
	}
	if m := wanrunPhase.FindStringSubmatch(text); m != nil {
		s.phase, s.step, s.steps = m[1], atoi(m[2]), atoi(m[3])
	}
}

// maxReport bounds a report: thousands of ranks of some KiB.
const maxReport = 64 << 20

// report is what of wanrun's report.json is looked at.
type report struct {
	Schema int `json:"schema"`
	Exit   struct {
		Code  int    `json:"code"`
		Class string `json:"class"`
		Error string `json:"error"`
		Phase string `json:"phase"`
		Rank  *int   `json:"rank"`
	} `json:"exit"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Plan    struct {
		Ranks int `json:"ranks"`
	} `json:"plan"`
	Ranks []struct {
		Last *struct {
			Phase string `json:"phase"`
			Done  int    `json:"done"`
			Total int    `json:"total"`
		} `json:"last"`
	} `json:"ranks"`
	Settings map[string]struct {
		Value string `json:"value"`
		From  string `json:"from"`
	} `json:"settings"`
}

// readReport reads a report. Errors: what is none.
func readReport(r io.Reader) (report, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxReport+1))
	if err != nil {
		return report{}, fmt.Errorf("report: %w", err)
	}
	if len(data) > maxReport {
		return report{}, fmt.Errorf("report has more than %d bytes", maxReport)
	}
	var f report
	if err := json.Unmarshal(data, &f); err != nil {
		return report{}, fmt.Errorf("report: %w", err)
	}
	if f.Schema < 1 || f.Exit.Class == "" {
		return report{}, errors.New("it is no report of wanrun's: no schema or exit class")
	}
	return f, nil
}

// sign is what the report says of the end; nil if all went well.
func (f report) sign(source int) *sign {
	text := f.Exit.Error
	if text == "" {
		text = "exit " + f.Exit.Class
	}
	s := read(line{source: source, number: 1, rank: -1, class: f.Exit.Class, text: text, lower: strings.ToLower(text)})
	if f.Exit.Code == 0 {
		return nil
	}
	if s == nil {
		s = read(line{source: source, number: 1, rank: -1, class: ends.Bug.String(), text: text})
		s.kind, s.weight = RankFailed, general
	}
	if f.Exit.Rank != nil && *f.Exit.Rank >= 0 {
		s.rank = *f.Exit.Rank
	}
	if f.Exit.Phase != "" {
		s.phase = f.Exit.Phase
	}
	if s.rank >= 0 && s.rank < len(f.Ranks) && f.Ranks[s.rank].Last != nil {
		last := f.Ranks[s.rank].Last
		s.step, s.steps = last.Done, last.Total
		if s.phase == "" {
			s.phase = last.Phase
		}
	}
	s.ours = true
	return s
}

// asked are the settings that the user gave.
func (f report) asked() asked {
	a := asked{ours: true}
	for name, v := range f.Settings {
		if v.From != "default" && (strings.HasPrefix(v.From, "--") || strings.HasPrefix(v.From, "WANRUN_") || strings.Contains(v.From, ".y")) {
			a.set(name, v.Value)
		}
	}
	if f.Plan.Ranks > 0 && f.Plan.Ranks <= 1<<16 {
		a.nproc = f.Plan.Ranks
	}
	return a
}
