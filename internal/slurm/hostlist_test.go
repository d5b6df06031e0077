package slurm

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestVerifiedHostlists runs the cases that Slurm itself has been asked about.
func TestVerifiedHostlists(t *testing.T) {
	data, err := os.ReadFile("testdata/hostlists.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Kind     string
			Input    json.RawMessage
			Hosts    []string
			Error    bool
			Hostlist string
			Count    int
			First    string
			Last     string
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 25 {
		t.Fatalf("%d cases, want at least 25", len(file.Cases))
	}
	for _, tc := range file.Cases {
		t.Run(string(tc.Input), func(t *testing.T) {
			if tc.Kind == "fold" {
				var hosts []string
				if err := json.Unmarshal(tc.Input, &hosts); err != nil {
					t.Fatal(err)
				}
				if got := Fold(hosts); got != tc.Hostlist {
					t.Errorf("Fold = %q, want %q", got, tc.Hostlist)
				}
				return
			}
			var list string
			if err := json.Unmarshal(tc.Input, &list); err != nil {
				t.Fatal(err)
			}
			hosts, err := Expand(list)
			switch {
			case tc.Error:
				if err == nil || !strings.Contains(err.Error(), "at byte ") {
					t.Errorf("Expand = %v, %v, want an error with its place", hosts, err)
				}
			case err != nil:
				t.Error(err)
			case tc.Kind == "expand":
				if diff := cmp.Diff(tc.Hosts, hosts); diff != "" {
					t.Error(diff)
				}
			case tc.Kind == "expand_count":
				if len(hosts) != tc.Count || hosts[0] != tc.First || hosts[len(hosts)-1] != tc.Last {
					t.Errorf("%d hosts from %s to %s, want %d from %s to %s",
						len(hosts), hosts[0], hosts[len(hosts)-1], tc.Count, tc.First, tc.Last)
				}
			default:
				t.Errorf("kind %q is not known", tc.Kind)
			}
		})
	}
}

// TestExpandOrder: several brackets in Slurm's order, as scontrol 22.05 gives it.
func TestExpandOrder(t *testing.T) {
	for list, want := range map[string]string{
		"":                       "",
		" ,\n,":                  "",
		"a b":                    "a b",
		"a[1-2],,b":              "a1 a2 b",
		"n[1-0003]":              "n1 n2 n3",
		"n[001-3]":               "n001 n002 n003",
		"a[1-2][3-4]":            "a13 a14 a23 a24",
		"a[1-2][3-4][5-6]":       "a135 a136 a235 a236 a145 a146 a245 a246",
		"r[1-2]c[1-2]n[1-2]":     "r1c1n1 r1c1n2 r2c1n1 r2c1n2 r1c2n1 r1c2n2 r2c2n1 r2c2n2",
		"n[9-11]x[1-2]":          "n9x1 n9x2 n10x1 n10x2 n11x1 n11x2",
		"a[1-2]b[1-2]c[1-2]d[1]": "a1b1c1d1 a2b1c1d1 a1b2c1d1 a2b2c1d1 a1b1c2d1 a2b1c2d1 a1b2c2d1 a2b2c2d1",
	} {
		hosts, err := Expand(list)
		if got := strings.Join(hosts, " "); err != nil || got != want {
			t.Errorf("Expand(%q) = %q, %v, want %q", list, got, err, want)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"node[3-1]", `hostlist "node[3-1]": at byte 5: range 3-1 runs backwards`},
		{"node[1-", `hostlist "node[1-": at byte 4: [ is not closed`},
		{"a,node[1-3", `hostlist "a,node[1-3": at byte 6: [ is not closed`},
		{"n[", `hostlist "n[": at byte 1: [ is not closed`},
		{"n[]", `hostlist "n[]": at byte 2: ']' in brackets, want a number`},
		{"n[1,,2]", `hostlist "n[1,,2]": at byte 4: ',' in brackets, want a number`},
		{"n[1-]", `hostlist "n[1-]": at byte 4: ']' in brackets, want a number`},
		{"n[1, 2]", `hostlist "n[1, 2]": at byte 4: ' ' in brackets, want a number`},
		{"n[0-9:2]", `hostlist "n[0-9:2]": at byte 5: ':' in brackets, want a number, - , or ]`},
		{"n[1[2]]", `hostlist "n[1[2]]": at byte 3: '[' in brackets, want a number, - , or ]`},
		{"n[+1]", `hostlist "n[+1]": at byte 2: '+' in brackets, want a number`},
		{"n1]", `hostlist "n1]": at byte 2: ] without [`},
		{"../x", `hostlist "../x": at byte 2: '/' does not belong in a host name`},
		{"n\x00", `hostlist "n\x00": at byte 1: '\x00' does not belong in a host name`},
		{"n[0-65536]", `hostlist "n[0-65536]": at byte 2: range of more than 65536 hosts`},
		{"n[1234567890123456789]", `hostlist "n[1234567890123456789]": at byte 2: number of 19 digits, want at most 18`},
		{"x,a[0-999]b[0-999]", `hostlist "x,a[0-999]b[0-999]": at byte 2: more than 131072 hosts`},
		{"n[0-65535],n[0-65535],n1", `hostlist "n[0-65535],n[0-65535],n1": at byte 22: more than 131072 hosts`},
	} {
		if hosts, err := Expand(tc.list); err == nil || err.Error() != tc.want {
			t.Errorf("Expand(%q) = %d hosts, %v\nwant %s", tc.list, len(hosts), err, tc.want)
		}
	}
	// A long name is refused before it is multiplied.
	for _, list := range []string{strings.Repeat("a", 256), strings.Repeat("a", 250) + "[1-65535]b", strings.Repeat("n", maxListBytes+1)} {
		if _, err := Expand(list); err == nil || len(err.Error()) > 200 {
			t.Errorf("Expand of %d bytes: %v, want a short error", len(list), err)
		}
	}
}

// TestFoldExpand: folding loses nothing, whatever the names.
func TestFoldExpand(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) string {
		prefix := rapid.SampledFrom([]string{"n", "gpu-", "a1b", ""}).Draw(t, "prefix")
		width := rapid.IntRange(1, 4).Draw(t, "width")
		number := fmt.Sprintf("%0*d", width, rapid.IntRange(0, 120).Draw(t, "number"))
		return prefix + number + rapid.SampledFrom([]string{"", "", "", "-ib"}).Draw(t, "suffix")
	})
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfN(name, 1, 30).Draw(t, "hosts")
		if rapid.Bool().Draw(t, "sorted") {
			slices.Sort(hosts)
		}
		list := Fold(hosts)
		got, err := Expand(list)
		if err != nil {
			t.Fatalf("Expand(%q): %v", list, err)
		}
		if diff := cmp.Diff(hosts, got); diff != "" {
			t.Fatalf("Expand(Fold(hosts)), list %q: %s", list, diff)
		}
	})
}

// TestExpandCount: an item has the product of its brackets' hosts, all different
// when the ranges do not overlap.
func TestExpandCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list strings.Builder
		want := 1
		for i := range rapid.IntRange(0, 4).Draw(t, "brackets") {
			lo := rapid.IntRange(0, 200).Draw(t, "lo")
			n := rapid.IntRange(1, 6).Draw(t, "n")
			fmt.Fprintf(&list, "%c[%0*d-%d]", 'a'+i, rapid.IntRange(1, 5).Draw(t, "width"), lo, lo+n-1)
			want *= n
		}
		list.WriteString("z")
		hosts, err := Expand(list.String())
		if err != nil {
			t.Fatalf("Expand(%q): %v", list.String(), err)
		}
		if len(hosts) != want {
			t.Fatalf("Expand(%q) has %d hosts, want %d", list.String(), len(hosts), want)
		}
		slices.Sort(hosts)
		if unique := len(slices.Compact(hosts)); unique != want {
			t.Fatalf("Expand(%q): %d of %d hosts differ", list.String(), unique, want)
		}
	})
}

func FuzzExpand(f *testing.F) {
	for _, list := range []string{"", "gpu-[01-02]", "r[1-2]c[1-2]n[1-2]x", "n[3-1]", "n[1-2-3]", "a b,,c\n", "n[999999999999999999]"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		hosts, err := Expand(list)
		if err != nil {
			if hosts != nil {
				t.Errorf("Expand(%q): hosts beside the error %v", list, err)
			}
			return
		}
		if len(hosts) > maxHosts {
			t.Fatalf("Expand(%q): %d hosts", list, len(hosts))
		}
		again, err := Expand(Fold(hosts))
		if err != nil || !slices.Equal(again, hosts) {
			t.Errorf("Expand(Fold(Expand(%q))): %v, %d hosts, want %d", list, err, len(again), len(hosts))
		}
	})
}

func TestParseCounts(t *testing.T) {
	for _, tc := range []struct {
		list string
		want []int
		err  string
	}{
		{"1", []int{1}, ""},
		{"2(x3),1", []int{2, 2, 2, 1}, ""},
		{"16(x2)", []int{16, 16}, ""},
		{"2,1", []int{2, 1}, ""},
		{"", nil, `list of counts "": at byte 0: "" is no number from 0 to 1048576`},
		{"2,", nil, `list of counts "2,": at byte 2: "" is no number from 0 to 1048576`},
		{"2(x3", nil, `list of counts "2(x3": at byte 1: want (xN), N at least 1`},
		{"2(x0)", nil, `list of counts "2(x0)": at byte 1: want (xN), N at least 1`},
		{"1,2(3)", nil, `list of counts "1,2(3)": at byte 2: "2(3)" is no number from 0 to 1048576`},
		{"-1", nil, `list of counts "-1": at byte 0: "-1" is no number from 0 to 1048576`},
		{"1(x131073)", nil, `list of counts "1(x131073)": at byte 0: more than 131072 nodes`},
	} {
		got, err := ParseCounts(tc.list)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
			t.Errorf("ParseCounts(%q) = %v, %v\nwant %v, %s", tc.list, got, err, tc.want, tc.err)
		}
	}
}

func FuzzParseCounts(f *testing.F) {
	for _, list := range []string{"1", "2(x3),1", "16(x2)", "2(x", "(x2)", "1,,1"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		counts, err := ParseCounts(list)
		if err == nil && (len(counts) == 0 || len(counts) > maxHosts || slices.Min(counts) < 0) {
			t.Errorf("ParseCounts(%q) = %d counts", list, len(counts))
		}
	})
}
