package doctor

import "sync"

// filter finds out in one pass over a line whether any of many texts is in it, as nearly all
// lines of a large log say nothing.
type filter struct {
	next [][256]int16 // states; 0 is the start
	hit  []bool
}

// newFilter builds the automaton of Aho and Corasick, "Efficient string matching",
// Communications of the ACM 18(6), 1975, with all transitions filled in.
func newFilter(texts []string) *filter {
	f := &filter{next: make([][256]int16, 1), hit: make([]bool, 1)}
	for _, text := range texts {
		state := int16(0)
		for i := range len(text) {
			to := &f.next[state][text[i]]
			if *to == 0 {
				*to = int16(len(f.next))
				f.next, f.hit = append(f.next, [256]int16{}), append(f.hit, false)
			}
			state = f.next[state][text[i]]
		}
		f.hit[state] = true
	}
	fail := make([]int16, len(f.next))
	var queue []int16
	for _, to := range f.next[0] {
		if to != 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		f.hit[state] = f.hit[state] || f.hit[fail[state]]
		for c := range 256 {
			to, back := f.next[state][c], f.next[fail[state]][c]
			if to == 0 {
				f.next[state][c] = back
				continue
			}
			fail[to] = back
			queue = append(queue, to)
		}
	}
	return f
}

func (f *filter) in(text string) bool {
	state := int16(0)
	for i := range len(text) {
		if state = f.next[state][text[i]]; f.hit[state] {
			return true
		}
	}
	return false
}

// anySign lets lines through that some rule may match.
var anySign = sync.OnceValue(func() *filter {
	texts := []string{"error: ", "exception: ", "killed", "wanrun", ": exit ", ": failed"}
	for _, r := range rules {
		texts = append(texts, r.any...)
	}
	return newFilter(texts)
})

// anyMark lets lines through from which a run's course can be told.
var anyMark = sync.OnceValue(func() *filter {
	texts := []string{"%|", "traceback", `file "`, "finished", "wanrun", "rank", "namespace(", "generate.py", "nproc_per_node"}
	for _, m := range marks {
		texts = append(texts, m.text)
	}
	return newFilter(texts)
})
