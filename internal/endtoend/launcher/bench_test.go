package launcher

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// BenchmarkTable prints what starting and ending cost, beside what is required: medians
// of some runs each. `make launcher-bench` runs it once.
func BenchmarkTable(b *testing.B) {
	for b.Loop() {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\nranks\tstart ms\trequired\tothers gone ms\trequired\tlauncher gone ms\trequired\tTERM ms\trequired\tline ms\trequired\tRSS MiB\trequired\t")
		for _, n := range []int{2, 4, 8, 16} {
			const runs = 5
			var starts, others, ends, terms, lines []float64
			var rss []float64
			for range runs {
				x := measure(b, n)
				starts, others, ends = append(starts, x.start), append(others, x.others), append(ends, x.end)
				terms, lines, rss = append(terms, x.term), append(lines, x.line), append(rss, x.rss)
			}
			fmt.Fprintf(w, "%d\t%.1f\t%d\t%.1f\t300\t%.1f\t200\t%.1f\t300\t%.2f\t50\t%.1f\t30\t\n", n, median(starts), 150+5*n, median(others),
				median(ends), median(terms), median(lines), median(rss))
		}
		w.Flush()
	}
}

type measured struct {
	start, others, end, term, line float64 // ms
	rss                            float64 // MiB, of launcher and guard
}

func measure(b *testing.B, n int) (x measured) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	l := run(b, setup{}, "[ $RANK = 1 ] && { date +%s%N; while [ ! -e $T/die ]; do sleep 0.01; done; date +%s%N > $T/died; exit 3; }\nexec sleep 100",
		"--nproc", strconv.Itoa(n), "--show", "1", "--prefix", "none")
	pids := l.pids(n)
	x.start = ms(time.Since(l.started))
	time.Sleep(200 * time.Millisecond)
	for _, p := range l.overhead() {
		x.rss += float64(statusOf(b, p.pid, "VmRSS")) / 1024
	}
	l.touch("die")
	died := l.moment("died")
	ranks := gone(b, pids)
	l.wantCode(3)
	x.others, x.end = ms(ranks.Sub(died)), ms(l.at.Sub(ranks))
	if stamps := l.stdout.stamps(); len(stamps) > 0 {
		ns, err := strconv.ParseInt(stamps[0].text, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		x.line = ms(stamps[0].at.Sub(time.Unix(0, ns)))
	}
	l = run(b, setup{}, "exec sleep 100", "--nproc", strconv.Itoa(n))
	pids = l.pids(n)
	time.Sleep(50 * time.Millisecond)
	at := l.signal(syscall.SIGTERM)
	ranks = gone(b, pids)
	l.wantCode(143)
	x.term = ms(ranks.Sub(at))
	return x
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
