package settings

import (
	"fmt"
	"strconv"

	"github.com/wanrun/wanrun/internal/task"
)

// size settles --size and --max-area and returns the output's area for the
// shift's default. For tasks that follow a picture the size is only an area, as in
// the official code; the one from the higher source counts.
func (r *resolver) size() int {
	size, sizeFrom, sizeGiven := r.givenSize()
	area, areaFrom, areaGiven := r.givenArea()
	if r.err != nil {
		return 0
	}
	if !r.s.Task.FollowsPicture() {
		if areaGiven {
			r.failAt(areaFrom, fmt.Errorf("%s follows no picture; give --size W*H", r.s.Task))
		}
		return r.fixedSize(size, sizeFrom, sizeGiven)
	}
	if r.in.Planning { // the size of a picture that is not there
		r.s.Size = r.s.Task.DefaultSize()
		if sizeGiven {
			r.s.Size = size
		}
	}
	switch {
	case sizeGiven && areaGiven && sizeFrom.rank == areaFrom.rank && size.Area() != area:
		r.failAt(areaFrom, fmt.Errorf("%d pixels, but %s says %v, which has %d; give one of them", area, sizeFrom.From, size, size.Area()))
	case sizeGiven && (!areaGiven || sizeFrom.rank > areaFrom.rank):
		area, areaFrom = size.Area(), Given{From: sizeFrom.From}
	case !areaGiven:
		area, areaFrom = r.defaultArea()
	}
	r.s.MaxArea = area
	if sizeGiven {
		r.record("size", size.String(), sizeFrom.From)
	} else {
		r.record("size", "", "the picture's aspect at --max-area")
	}
	r.record("max-area", strconv.Itoa(area), areaFrom.From)
	return area
}

func (r *resolver) givenSize() (task.Size, Given, bool) {
	g, ok := r.given["size"]
	if !ok {
		return task.Size{}, g, false
	}
	size, err := task.ParseSize(g.Text)
	if err != nil {
		r.failAt(g, err)
	}
	return size, g, true
}

func (r *resolver) givenArea() (int, Given, bool) {
	g, ok := r.given["max-area"]
	if !ok {
		return 0, g, false
	}
	area, err := parseInt(g.Text)
	if err == nil {
		err = task.CheckArea(area)
	}
	if err != nil {
		r.failAt(g, err)
	}
	return area, g, true
}

func (r *resolver) fixedSize(size task.Size, from Given, given bool) int {
	if !given {
		size, from = r.s.Task.DefaultSize(), Given{From: r.defaultFrom(false)}
		if r.spec.Size != nil {
			size, from = *r.spec.Size, Given{From: r.checkpt.from}
		}
	}
	r.s.Size = size
	r.record("max-area", "", "not used: "+string(r.s.Task)+" has --size")
	r.record("size", size.String(), from.From)
	return size.Area()
}

func (r *resolver) defaultArea() (int, Given) {
	switch {
	case r.spec.MaxArea != nil:
		return *r.spec.MaxArea, Given{From: r.checkpt.from}
	case r.spec.Size != nil:
		return r.spec.Size.Area(), Given{From: r.checkpt.from}
	default:
		return r.s.Task.DefaultSize().Area(), Given{From: r.defaultFrom(false)}
	}
}
