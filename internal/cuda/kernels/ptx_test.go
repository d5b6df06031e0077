package kernels

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPTXIsOfTheseSources sees that nobody changed a source and left its PTX behind.
func TestPTXIsOfTheseSources(t *testing.T) {
	headers := read(t, "port.h") + read(t, "types.h")
	for m, source := range sources(t) {
		want := fmt.Sprintf("%x", sha256.Sum256([]byte(headers+source)))
		if first, _, _ := strings.Cut(m.PTX(), "\n"); !strings.HasSuffix(first, ": "+want) {
			t.Errorf("ptx/%s.ptx was made of other sources; run make cuda-prefix kernels", m)
		}
	}
}

// TestEntries sees that the embedded PTX has every kernel of the sources, of one target.
func TestEntries(t *testing.T) {
	for m, source := range sources(t) {
		want := slices.Sorted(maps.Keys(entries(source)))
		got := m.Entries()
		slices.Sort(got)
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s has kernels %v, its source %v", m, got, want)
		}
		if !strings.Contains(m.PTX(), ".target sm_80") {
			t.Errorf("%s is not for sm_80", m)
		}
		if line := regexp.MustCompile(`(?m)^.*\.local\s+\.align.*$`).FindString(m.PTX()); line != "" {
			t.Errorf("%s keeps something in local memory: %s", m, line)
		}
	}
}
