package output

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/node"
)

func TestRing(t *testing.T) {
	r := NewRing(NewRedactor([]string{"X_TOKEN=hunter22"}))
	for i := range 100 {
		r.Add(line(2, Stderr, fmt.Sprint("line ", i)))
	}
	r.Add(line(2, Stdout, "out"))
	r.Add(line(3, Stdout, "my token is hunter22"))
	r.Add(node.Line{Attempt: 1, Rank: 4, Stream: Stderr, Text: "half ", Partial: true})
	r.Add(node.Line{Attempt: 1, Rank: 4, Stream: Stderr, Text: "whole"})
	r.Add(node.Line{Attempt: 1, Rank: 4, Stream: Stderr, Text: "next"})
	r.Add(node.Line{Attempt: 1, Rank: 7, Stream: Stderr, Text: "prompt", Partial: true})
	r.Add(line(7, Stderr, ""))
	r.Add(line(7, Stderr, "next"))
	r.Add(line(5, Stderr, strings.Repeat("ü", 100000)))
	r.Add(line(6, "neither", "x"))

	var want []string
	for i := 80; i < 100; i++ {
		want = append(want, fmt.Sprint("line ", i))
	}
	for rank, want := range map[int][]string{2: want, 3: {"my token is <redacted>"}, 4: {"half whole", "next"}, 7: {"prompt", "next"}, 6: nil, 9: nil} {
		if diff := cmp.Diff(want, r.LastWords(1, rank)); diff != "" {
			t.Errorf("rank %d (-want +got):\n%s", rank, diff)
		}
	}
	if got := r.Last(1, 2, Stdout); len(got) != 1 || got[0].Text != "out" {
		t.Errorf("stdout of rank 2 is %v", got)
	}
	if got := r.LastWords(1, 5)[0]; len(got) > maxLastLine || !strings.HasSuffix(got, "ü…") {
		t.Errorf("%d bytes are kept of a long line, want at most %d, and whole characters", len(got), maxLastLine)
	}

	// A new attempt takes the old one's place; what comes late of the old one is nothing.
	r.Add(node.Line{Attempt: 2, Rank: 2, Stream: Stderr, Text: "new"})
	r.Add(node.Line{Attempt: 1, Rank: 2, Stream: Stderr, Text: "late"})
	if diff := cmp.Diff([]string{"new"}, r.LastWords(2, 2)); diff != "" {
		t.Errorf("new attempt (-want +got):\n%s", diff)
	}
	if got := r.LastWords(1, 2); fmt.Sprint(got) != "[out]" {
		t.Errorf("stderr of the old attempt is still there: %q", got)
	}
}
