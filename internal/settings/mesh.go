package settings

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/task"
	"github.com/wanrun/wanrun/pkg/sharding"
)

// maxRanks bounds the ranks of a machine.
const maxRanks = 1024

// branches of guidance: each step has a forward with the prompt and one without.
const branches = 2

// degrees are what was asked for; 0 is left out.
type degrees struct {
	ranks, ulysses, ring, cfg int // ranks: of all nodes
	nodes                     int // or agents, where each is one rank
}

// mesh settles how many ranks there are and how they share a step. Without
// --nproc they are as many as the degrees need; with it, degrees left out are chosen.
func (r *resolver) mesh() {
	nodes := max(r.in.Nodes, 1)
	perNode := r.degree("nproc", maxRanks)
	if r.in.RanksPerNode > 0 { // somebody has started them, and --nproc has been held against it
		perNode = r.in.RanksPerNode
	}
	if perNode == 0 && r.s.GPU != "" && !r.degreeGiven() {
		perNode = r.gpus // one rank each
	}
	d := degrees{perNode * nodes, r.degree("ulysses", maxRanks), r.degree("ring", maxRanks), r.degree("cfg-parallel", branches), nodes}
	if d.ranks == 0 && nodes > 1 && d.product() == 1 {
		d.ranks = nodes
	}
	m := sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 1}
	if r.err == nil {
		m = r.settleMesh(d)
	}
	r.s.World, r.s.Nproc, r.s.CFG, r.s.Ring, r.s.Ulysses = m.Size(), max(m.Size()/nodes, 1), m.CFG, m.Ring, m.Ulysses
	absent := "default"
	if d.ranks > 1 {
		absent = fmt.Sprintf("chosen for %d ranks and %d heads", d.ranks, r.checkpt.heads)
	}
	r.s.meshChosen = d.ranks > 1 && (d.ulysses == 0 || d.ring == 0 || d.cfg == 0)
	r.recordDegree("ulysses", m.Ulysses, absent)
	r.recordDegree("ring", m.Ring, absent)
	r.recordDegree("cfg-parallel", m.CFG, absent)
	absent = "default"
	if m.Size() > 1 {
		absent = "the product of the degrees"
		if nodes > 1 {
			absent += fmt.Sprintf(", over %d nodes", nodes)
		}
	}
	r.recordDegree("nproc", r.s.Nproc, absent)
}

// degree reads a number of ranks; 0 if it was not given.
func (r *resolver) degree(name string, most int) int {
	g, given := r.given[name]
	if !given {
		return 0
	}
	n, err := parseInt(g.Text)
	if err == nil && (n < 1 || n > most) {
		err = fmt.Errorf("%d, want 1 to %d; nearest is %d", n, most, min(max(n, 1), most))
	}
	if err != nil {
		r.failAt(g, err)
		return 0
	}
	return n
}

func (r *resolver) recordDegree(name string, n int, absent string) {
	from := absent
	if g, given := r.given[name]; given {
		from = g.From
	}
	r.record(name, strconv.Itoa(n), from)
}

func (r *resolver) settleMesh(d degrees) sharding.Mesh {
	one := sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 1}
	if d.ranks <= 1 && d.product() == 1 {
		return one
	}
	heads := r.checkpt.heads
	if heads < 1 {
		r.fail(ends.BadInput, fmt.Errorf("the checkpoint's config.json does not say num_heads, from 1 to %d: several ranks cannot share its attention", maxHeads))
		return one
	}
	m, err := d.settle(heads, r.tokens())
	if err != nil {
		r.fail(ends.Usage, err)
		return one
	}
	return m
}

// tokens is about how many rows the DiT's sequence has: a picture's aspect is not known
// here. Patches are 2x2 latent pixels, a latent pixel 8x8 of the video's.
func (r *resolver) tokens() int {
	const patch = 16
	area := r.s.Size.Area()
	if area == 0 {
		area = r.s.MaxArea
	}
	return task.LatentFrames(max(r.s.Frames, 1)) * max(area/(patch*patch), 1)
}

// product is the number of ranks that the given degrees need.
func (d degrees) product() int { return max(d.ulysses, 1) * max(d.ring, 1) * max(d.cfg, 1) }

// settle returns the mesh for a model with heads and a sequence of about so many
// tokens, or what is wrong with the degrees and the nearest that are right.
func (d degrees) settle(heads, tokens int) (sharding.Mesh, error) {
	if d.ulysses > 0 {
		if err := sharding.CheckUneven(heads, d.ulysses); err != nil {
			return sharding.Mesh{}, fmt.Errorf("--ulysses %d: %w", d.ulysses, err)
		}
	}
	switch {
	case d.ranks == 0 && d.product()%d.nodes != 0:
		return sharding.Mesh{}, fmt.Errorf("%s are %d ranks, which %d nodes cannot share evenly; nearest: a product of the degrees of %d",
			d.text(), d.product(), d.nodes, max((d.product()+d.nodes/2)/d.nodes, 1)*d.nodes)
	case d.ranks == 0 && d.product() > maxRanks:
		return sharding.Mesh{}, fmt.Errorf("%s are %d ranks, want at most %d", d.text(), d.product(), maxRanks)
	case d.ranks == 0:
		return sharding.Mesh{CFG: max(d.cfg, 1), Ring: max(d.ring, 1), Ulysses: max(d.ulysses, 1), FSDP: d.product()}, nil
	case d == degrees{ranks: d.ranks, nodes: d.nodes}:
		return sharding.Choose(d.ranks, heads, tokens, branches)
	}
	m, ok := d.complete(heads, tokens)
	if !ok {
		return m, d.mismatch(heads)
	}
	return m, m.Check(d.ranks, heads)
}

// complete chooses the degrees that are left out as sharding.Choose does: balance
// first, then the smallest ring, then the smallest cfg. Not ok if none make so many ranks.
func (d degrees) complete(heads, tokens int) (best sharding.Mesh, ok bool) {
	const enough = 1.10 // a loss of balance that does not matter, as for sharding.Choose
	free := func(given, degree int) bool { return given == 0 || given == degree }
	bestLoss := 0.0
	for cfg := 1; cfg <= branches; cfg++ {
		if d.ranks%cfg != 0 || !free(d.cfg, cfg) {
			continue
		}
		for _, ulysses := range sharding.Divisors(d.ranks / cfg) {
			m := sharding.Mesh{CFG: cfg, Ring: d.ranks / cfg / ulysses, Ulysses: ulysses, FSDP: d.ranks}
			if ulysses > heads || !free(d.ulysses, ulysses) || !free(d.ring, m.Ring) {
				continue
			}
			loss := max(sharding.Imbalance(heads, ulysses)*sharding.Imbalance(tokens, m.SequenceSize()), enough)
			if !ok || loss < bestLoss || (loss == bestLoss && m.Ring < best.Ring) {
				best, bestLoss, ok = m, loss, true
			}
		}
	}
	return best, ok
}

// text writes the degrees that were given: "--ulysses 4 x --ring 2".
func (d degrees) text() string {
	var parts []string
	for _, f := range d.named() {
		if *f.degree > 0 {
			parts = append(parts, fmt.Sprintf("--%s %d", f.name, *f.degree))
		}
	}
	return strings.Join(parts, " x ")
}

type namedDegree struct {
	name   string
	degree *int
}

func (d *degrees) named() []namedDegree {
	return []namedDegree{{"ulysses", &d.ulysses}, {"ring", &d.ring}, {"cfg-parallel", &d.cfg}}
}

// mismatch says that the degrees cannot make the ranks, and what the nearest value
// of one of them is that could.
func (d degrees) mismatch(heads int) error {
	line := fmt.Sprintf("%s: %d ranks, not --nproc %d", d.text(), d.product(), d.ranks/d.nodes)
	if d.nodes > 1 {
		line += fmt.Sprintf(" on each of %d nodes", d.nodes)
	}
	if d.ulysses == 0 || d.ring == 0 || d.cfg == 0 {
		line += ", and the degrees left out cannot make up for it"
	}
	var near []string
	for i := range d.named() {
		if n, ok := d.nearest(i, heads); ok {
			near = append(near, n)
		}
	}
	if d.product()%d.nodes == 0 {
		near = append(near, fmt.Sprintf("--nproc %d", d.product()/d.nodes))
	}
	return fmt.Errorf("%s; nearest: %s", line, strings.Join(near, ", or "))
}

// nearest finds the values next to degree i, which was given, with which the others
// make the ranks: "--ulysses 2 or 4".
func (d degrees) nearest(i, heads int) (string, bool) {
	f := d.named()[i]
	asked := *f.degree
	if asked == 0 {
		return "", false
	}
	below, above := 0, 0
	for _, n := range sharding.Divisors(d.ranks) {
		*f.degree = n
		if _, ok := d.complete(heads, 1); !ok {
			continue
		}
		if n < asked {
			below = n
		} else if above == 0 {
			above = n
		}
	}
	var words []string
	for _, n := range []int{below, above} {
		if n > 0 {
			words = append(words, strconv.Itoa(n))
		}
	}
	return "--" + f.name + " " + strings.Join(words, " or "), len(words) > 0
}
