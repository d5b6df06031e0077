package sharding

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		name    string
		part    func(n, rank, size int) Range
		n, size int
		want    []Range
	}{
		{"even divides", Even, 8, 4, []Range{{0, 2}, {2, 2}, {4, 2}, {6, 2}}},
		{"even pads", Even, 10, 4, []Range{{0, 3}, {3, 3}, {6, 3}, {9, 3}}},
		{"even with ranks of padding alone", Even, 9, 8, []Range{{0, 2}, {2, 2}, {4, 2}, {6, 2}, {8, 2}, {10, 2}, {12, 2}, {14, 2}}},
		{"balanced", Balanced, 10, 4, []Range{{0, 3}, {3, 3}, {6, 2}, {8, 2}}},
		{"12 heads over 8", Balanced, 12, 8, []Range{{0, 2}, {2, 2}, {4, 2}, {6, 2}, {8, 1}, {9, 1}, {10, 1}, {11, 1}}},
		{"balanced, too few", Balanced, 2, 3, []Range{{0, 1}, {1, 1}, {2, 0}}},
		{"tokens, too few", Tokens, 2, 3, []Range{{0, 1}, {1, 1}, {2, 1}}},
		{"tokens", Tokens, 5, 3, []Range{{0, 2}, {2, 2}, {4, 1}}},
	} {
		if got := All(tc.part, tc.n, tc.size); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %d over %d = %v, want %v", tc.name, tc.n, tc.size, got, tc.want)
		}
	}
	for _, tc := range []struct{ n, want int }{{0, 0}, {3, 0}, {4, 1}, {5, 2}, {9, 2}} {
		if got := (Range{3, 2}).Overlap(tc.n); got != (Range{3, tc.want}) {
			t.Errorf("rows 3 and 4 of %d real ones: %v, want %d", tc.n, got, tc.want)
		}
	}
}

// Parts follow each other without gap, cover everything, and differ as they say.
func TestRangesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, size := rapid.IntRange(1, 100000).Draw(t, "n"), rapid.IntRange(1, 64).Draw(t, "size")
		for name, part := range map[string]func(n, rank, size int) Range{"even": Even, "balanced": Balanced, "tokens": Tokens} {
			parts := All(part, n, size)
			end, least, most := 0, n+1, 0
			for _, p := range parts {
				if p.Start != end {
					t.Fatalf("%s: part %v after entry %d", name, p, end)
				}
				end = p.End()
				least, most = min(least, p.Count), max(most, p.Count)
			}
			switch {
			case end < n, name == "balanced" && end != n, name == "tokens" && end != max(n, size), name == "even" && end >= n+size*((n+size-1)/size):
				t.Fatalf("%s: parts of %d end at %d", name, n, end)
			case most-least > 1, name != "balanced" && least == 0:
				t.Fatalf("%s: parts of %d to %d", name, least, most)
			}
		}
	})
}

func TestDegrees(t *testing.T) {
	for heads, want := range map[int][]int{40: {1, 2, 4, 5, 8, 10, 20, 40}, 12: {1, 2, 3, 4, 6, 12}, 1: {1}, 13: {1, 13}} {
		if got := Divisors(heads); !slices.Equal(got, want) {
			t.Errorf("divisors of %d: %v, want %v", heads, got, want)
		}
	}
	for _, tc := range []struct {
		heads, degree int
		want          []int
	}{{40, 8, []int{8}}, {40, 3, []int{2, 4}}, {40, 6, []int{5, 8}}, {12, 8, []int{6, 12}}, {12, 16, []int{12}}, {12, 0, []int{1}}} {
		if got := Nearest(tc.heads, tc.degree); !slices.Equal(got, tc.want) {
			t.Errorf("nearest to %d of %d heads: %v, want %v", tc.degree, tc.heads, got, tc.want)
		}
	}
	err := CheckEven(12, 8)
	if err == nil || !strings.Contains(err.Error(), "12 heads do not divide over 8 ranks; nearest choices that do: 6 and 12, of [1 2 3 4 6 12]") {
		t.Errorf("12 heads over 8: %v", err)
	}
	for _, tc := range []struct {
		heads, degree   int
		even, supported bool
	}{{40, 8, true, true}, {40, 3, false, true}, {12, 8, false, true}, {12, 13, false, false}, {12, 0, false, false}, {12, -2, false, false}} {
		if got := CheckEven(tc.heads, tc.degree) == nil; got != tc.even {
			t.Errorf("%d heads over %d even: %v", tc.heads, tc.degree, got)
		}
		if got := CheckUneven(tc.heads, tc.degree) == nil; got != tc.supported {
			t.Errorf("%d heads over %d: %v", tc.heads, tc.degree, got)
		}
	}
	for _, tc := range []struct {
		n, size int
		want    float64
	}{{12, 8, 16.0 / 12}, {40, 8, 1}, {40, 6, 1.05}, {1, 4, 4}, {0, 4, 1}} {
		if got := Imbalance(tc.n, tc.size); got != tc.want {
			t.Errorf("imbalance of %d over %d: %v, want %v", tc.n, tc.size, got, tc.want)
		}
	}
}

func TestMesh(t *testing.T) {
	m := Mesh{CFG: 2, Ring: 2, Ulysses: 3, FSDP: 4}
	if err := m.Check(12, 12); err != nil {
		t.Fatal(err)
	}
	const rank = 10 // cfg 1, ring 1, ulysses 1
	if got := m.Coord(rank); got != (Coord{1, 1, 1}) {
		t.Errorf("coord of %d: %+v", rank, got)
	}
	for axis, want := range map[Axis][]int{CFG: {4, 10}, Ring: {7, 10}, Ulysses: {9, 10, 11}, Sequence: {6, 7, 8, 9, 10, 11}, FSDP: {8, 9, 10, 11}} {
		if got := m.Group(axis, rank); !slices.Equal(got, want) {
			t.Errorf("%v group of rank %d: %v, want %v", axis, rank, got, want)
		}
	}
	if got := m.String(); got != "cfg 2, ring 2, ulysses 3, fsdp 4" {
		t.Errorf("text %q", got)
	}
	if got := (Mesh{1, 1, 1, 1}).String(); got != "one rank" {
		t.Errorf("text %q", got)
	}
	for _, tc := range []struct {
		m            Mesh
		world, heads int
		want         string
	}{
		{Mesh{1, 1, 8, 8}, 4, 40, "ulysses degree 8; want 1 to the 4 ranks"},
		{Mesh{0, 1, 1, 1}, 1, 40, "cfg degree 0"},
		{Mesh{3, 1, 1, 1}, 3, 40, "2 branches"},
		{Mesh{1, 2, 3, 8}, 8, 12, "are 6 ranks, but there are 8"},
		{Mesh{1, 1, 8, 3}, 8, 40, "does not divide the 8 ranks; choices: [1 2 4 8]"},
		{Mesh{1, 1, 16, 16}, 16, 12, "nearest choices that do: 12"},
		{Mesh{1, 1 << 31, 1 << 31, 1}, 1 << 31, 1 << 31, "ranks, but there are"},
	} {
		if err := tc.m.Check(tc.world, tc.heads); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v for %d ranks and %d heads: %v, want %q", tc.m, tc.world, tc.heads, err, tc.want)
		}
	}
}

// On every axis the groups partition the ranks, have the axis's size and are
// what all their members see.
func TestMeshProperty(t *testing.T) {
	degree := rapid.IntRange(1, 5)
	rapid.Check(t, func(t *rapid.T) {
		m := Mesh{CFG: rapid.IntRange(1, 2).Draw(t, "cfg"), Ring: degree.Draw(t, "ring"), Ulysses: degree.Draw(t, "ulysses")}
		m.FSDP = rapid.SampledFrom(Divisors(m.Size())).Draw(t, "fsdp")
		sizes := map[Axis]int{CFG: m.CFG, Ring: m.Ring, Ulysses: m.Ulysses, Sequence: m.SequenceSize(), FSDP: m.FSDP}
		for rank := range m.Size() {
			if got := m.Rank(m.Coord(rank)); got != rank {
				t.Fatalf("rank %d comes back as %d", rank, got)
			}
			for axis, size := range sizes {
				group := m.Group(axis, rank)
				if len(group) != size || !slices.Contains(group, rank) {
					t.Fatalf("%v group of %d: %v, want %d ranks", axis, rank, group, size)
				}
				for _, other := range group {
					if !slices.Equal(m.Group(axis, other), group) {
						t.Fatalf("%v groups of %d and %d differ", axis, rank, other)
					}
				}
			}
		}
	})
}

func TestChoose(t *testing.T) {
	for _, tc := range []struct {
		world, heads, tokens, branches int
		want                           string
	}{
		{1, 40, 32760, 2, "one rank"},
		{8, 40, 32760, 2, "ulysses 8, fsdp 8"},
		{8, 40, 75600, 1, "ulysses 8, fsdp 8"},
		{8, 12, 32760, 2, "cfg 2, ulysses 4, fsdp 8"},
		{8, 12, 32760, 1, "ring 2, ulysses 4, fsdp 8"},
		{5, 12, 32760, 2, "ring 5, fsdp 5"},
		{3, 40, 32760, 2, "ulysses 3, fsdp 3"}, // 14, 13, 13 heads: 1.05
		{7, 40, 32760, 2, "ulysses 7, fsdp 7"},
		{6, 12, 32760, 2, "ulysses 6, fsdp 6"},
		{16, 40, 75600, 2, "cfg 2, ulysses 8, fsdp 16"},
		{16, 12, 75600, 2, "cfg 2, ring 2, ulysses 4, fsdp 16"},
		{4, 40, 2, 2, "cfg 2, ulysses 2, fsdp 4"}, // 2 tokens: no use for 4 ranks on one sequence
	} {
		m, err := Choose(tc.world, tc.heads, tc.tokens, tc.branches)
		if err != nil {
			t.Fatal(err)
		}
		if m.String() != tc.want {
			t.Errorf("%d ranks, %d heads, %d tokens, %d branches: %v, want %s", tc.world, tc.heads, tc.tokens, tc.branches, m, tc.want)
		}
	}
	if _, err := Choose(0, 40, 1, 1); err == nil {
		t.Error("no ranks accepted")
	}
	rapid.Check(t, func(t *rapid.T) {
		world, heads := rapid.IntRange(1, 256).Draw(t, "world"), rapid.IntRange(1, 64).Draw(t, "heads")
		m, err := Choose(world, heads, rapid.IntRange(1, 100000).Draw(t, "tokens"), rapid.IntRange(1, 2).Draw(t, "branches"))
		if err == nil {
			err = m.Check(world, heads)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestLayout(t *testing.T) {
	l, err := NewLayout([]Param{{"a", 100, 4}, {"b", 65, 2}, {"c", 256, 4}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := Layout{Size: 3, ShardBytes: 768, Slots: []Slot{
		{Param{"a", 100, 4}, 0}, {Param{"b", 65, 2}, 512}, {Param{"c", 256, 4}, 768}}}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	for rank, want := range [][]Piece{{{0, 0, 100, 0}, {1, 0, 65, 512}}, {{2, 0, 192, 0}}, {{2, 192, 64, 0}}} {
		if d := cmp.Diff(want, l.Shard(rank)); d != "" {
			t.Errorf("rank %d: %s", rank, d)
		}
	}
	for _, tc := range []struct {
		params []Param
		size   int
	}{
		{[]Param{{"a", 1, 4}}, 0}, {[]Param{{"a", 0, 4}}, 1}, {[]Param{{"a", 1 << 62, 4}}, 1},
		{[]Param{{"a", 1 << 59, 2}, {"b", 1 << 59, 2}, {"c", 1 << 59, 2}}, 1},
	} {
		if _, err := NewLayout(tc.params, tc.size); err == nil {
			t.Errorf("%v over %d ranks accepted", tc.params, tc.size)
		}
	}
}

// Every element is in exactly one shard, where the layout says, and the rounding
// is bounded.
func TestLayoutProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params := make([]Param, rapid.IntRange(0, 12).Draw(t, "params"))
		plain := int64(0)
		for i := range params {
			params[i] = Param{"p", rapid.Int64Range(1, 5000).Draw(t, "n"), rapid.SampledFrom([]int64{2, 4}).Draw(t, "bytes")}
			plain += params[i].Elements * params[i].ElementBytes
		}
		size := rapid.IntRange(1, 9).Draw(t, "size")
		l, err := NewLayout(params, size)
		if err != nil {
			t.Fatal(err)
		}
		if l.ShardBytes%Align != 0 || l.Bytes() < plain || l.Bytes() > plain+Align*int64(len(params)+size) {
			t.Fatalf("%d bytes in %d shards of %d", plain, size, l.ShardBytes)
		}
		next := make([]int64, len(params))
		for rank := range size {
			for _, p := range l.Shard(rank) {
				s := l.Slots[p.Slot]
				if p.First != next[p.Slot] || int64(rank)*l.ShardBytes+p.At != s.Offset+p.First*s.ElementBytes ||
					p.At+p.Count*s.ElementBytes > l.ShardBytes {
					t.Fatalf("rank %d: piece %+v of slot %+v after element %d", rank, p, s, next[p.Slot])
				}
				next[p.Slot] += p.Count
			}
		}
		for i, n := range next {
			if n != params[i].Elements {
				t.Fatalf("parameter %d: %d of %d elements are in shards", i, n, params[i].Elements)
			}
		}
	})
}
