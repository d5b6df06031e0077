package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// A plan and what is measured agree within this part, and within what the plan does not
	// know of: buffers of the program, and on a GPU the driver's context and its libraries.
	driftPart    = 0.03
	hostSlack    = 64 * mib
	deviceSlack  = 1 * gib
	balancePart  = 0.10
	hostSpread   = 256 * mib
	deviceSpread = 512 * mib
	// lasting is how long ranks must differ before it is said: they do not enter a phase at
	// the same moment.
	lasting = 3 * time.Second
	// maxWarnings bounds what is said of one job.
	maxWarnings = 32
)

// warner finds what is not as it should be, and says each thing once.
type warner struct {
	said   map[string]bool
	apart  time.Time // since when the ranks differ; zero if they do not
	all    []string
	firstE map[int]int64 // errors that a GPU had before the run, by rank
}

func newWarner() *warner { return &warner{said: map[string]bool{}, firstE: map[int]int64{}} }

// say returns the text if the key is new.
func (w *warner) say(key, text string) []string {
	if w.said[key] || len(w.all) >= maxWarnings {
		return nil
	}
	w.said[key] = true
	w.all = append(w.all, text)
	return []string{text}
}

// look returns what is to be said about a new point.
func (w *warner) look(p Point, ranks map[int]*series) (warnings []string) {
	warnings = append(warnings, w.drift(p)...)
	if p.GPU != nil {
		warnings = append(warnings, w.health(p.Rank, p.GPU)...)
	}
	return append(warnings, w.balance(p, ranks)...)
}

func (w *warner) drift(p Point) (warnings []string) {
	beyond := func(used, planned *int64, slack int64) bool {
		return used != nil && planned != nil && float64(*used) > float64(*planned)*(1+driftPart)+float64(slack)
	}
	if beyond(p.Anonymous, p.Expected, hostSlack) {
		warnings = append(warnings, w.say(fmt.Sprint("host ", p.Rank), fmt.Sprintf("rank %d takes %s of host memory in %s, where the plan expects at most %s: please report this",
			p.Rank, bytesText(*p.Anonymous), place(p.Phase), bytesText(*p.Expected)))...)
	}
	if p.GPU != nil && beyond(p.GPU.Own, p.GPU.Expected, deviceSlack) {
		warnings = append(warnings, w.say(fmt.Sprint("device ", p.Rank), fmt.Sprintf("rank %d takes %s of its GPU in %s, where the plan expects %s: please report this",
			p.Rank, bytesText(*p.GPU.Own), place(p.Phase), bytesText(*p.GPU.Expected)))...)
	}
	return warnings
}

func place(phase string) string {
	if phase == "" {
		return "its start"
	}
	return phase
}

// harmless are reasons for a low clock of a GPU that is well.
var harmless = []string{"power limit", "as slow as another GPU"}

func (w *warner) health(rank int, g *GPU) (warnings []string) {
	for _, why := range g.Throttling {
		if !slices.Contains(harmless, why) {
			warnings = append(warnings, w.say(fmt.Sprint("slow ", rank, why), fmt.Sprintf("rank %d: the GPU is slowed down: %s; the whole group waits for it", rank, why))...)
		}
	}
	if g.LinksDown != nil && *g.LinksDown > 0 && g.LinksUp != nil {
		warnings = append(warnings, w.say(fmt.Sprint("links ", rank), fmt.Sprintf("rank %d: %d of %d NVLinks are down; exchanges between GPUs are slow",
			rank, *g.LinksDown, *g.LinksDown+*g.LinksUp))...)
	}
	if g.ECC != nil {
		first, seen := w.firstE[rank]
		if !seen {
			w.firstE[rank] = *g.ECC
		} else if *g.ECC > first {
			warnings = append(warnings, w.say(fmt.Sprint("ecc ", rank), fmt.Sprintf("rank %d: the GPU has had %d memory errors that could not be corrected since the run began; the output may be wrong",
				rank, *g.ECC-first))...)
		}
	}
	for _, event := range g.Events {
		warnings = append(warnings, w.say("event "+event, fmt.Sprintf("rank %d: %s", rank, event))...)
	}
	return warnings
}

// excess is how much more than planned a rank takes, and of what. Ranks may differ by plan.
func excess(p Point) (n int64, what string, spread int64, ok bool) {
	if g := p.GPU; g != nil && g.Own != nil && g.Expected != nil {
		return *g.Own - *g.Expected, "its GPU", max(deviceSpread, int64(balancePart*float64(*g.Expected))), true
	}
	if p.GPU == nil && p.Anonymous != nil && p.Expected != nil {
		return *p.Anonymous - *p.Expected, "host memory", max(hostSpread, int64(balancePart*float64(*p.Expected))), true
	}
	return 0, "", 0, false
}

// balance compares the ranks that are in the same phase as a new point's.
func (w *warner) balance(p Point, ranks map[int]*series) []string {
	_, what, spread, ok := excess(p)
	if !ok || p.Phase == "" {
		return nil
	}
	type one struct {
		rank int
		n    int64
	}
	var all []one
	for rank, s := range ranks {
		l := s.last
		n, of, _, ok := excess(l)
		if ok && of == what && l.Attempt == p.Attempt && l.Phase == p.Phase && p.At.Sub(l.At) < lasting {
			all = append(all, one{rank, n})
		}
	}
	if len(all) < 2 {
		return nil
	}
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.rank, b.rank))
	})
	most, median := all[len(all)-1], all[(len(all)-1)/2]
	if float64(most.n)-float64(median.n) <= float64(spread) {
		w.apart = time.Time{}
		return nil
	}
	if w.apart.IsZero() {
		w.apart = p.At
	}
	if p.At.Sub(w.apart) < lasting {
		return nil
	}
	return w.say("balance "+p.Phase, fmt.Sprintf("rank %d takes %s more of %s in %s than most ranks do, beyond what the plan says", most.rank,
		bytesText(most.n-median.n), what, p.Phase))
}

// bytesText writes bytes for people.
func bytesText(n int64) string {
	switch {
	case n < 0:
		return "-" + bytesText(-max(n, -1<<62))
	case n >= 10*gib:
		return trim(fmt.Sprintf("%.1f", float64(n)/gib)) + " GiB"
	case n >= gib:
		return trim(fmt.Sprintf("%.2f", float64(n)/gib)) + " GiB"
	}
	return fmt.Sprintf("%d MiB", (n+mib/2)/mib)
}

func trim(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }
