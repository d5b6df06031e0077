package checkpoint

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Want is a tensor that a model needs.
type Want struct {
	Name  string
	Shape tensor.Shape
}

// most is how many tensors of one kind a message names.
const most = 12

// Check compares the tensors of src with what model wants. Those that are not
// wanted are extra, unless ignore, which may be nil, says that they do not matter.
//
// Errors: ErrCheckpoint, with all missing, extra, wrongly shaped and wrongly
// typed tensors, a dozen of each by name.
func Check(model string, src Source, want []Want, ignore func(name string) bool) error {
	var missing, extra, shapes, types []string
	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Name] = true
		e, ok := src.Lookup(w.Name)
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("%s %v", w.Name, w.Shape))
		case !e.Shape.Equal(w.Shape):
			shapes = append(shapes, fmt.Sprintf("%s: expected %v, got %v", w.Name, w.Shape, e.Shape))
		case !IsFloat(e.DType):
			types = append(types, fmt.Sprintf("%s: expected a floating-point type, got %v", w.Name, e.DType))
		}
	}
	for _, name := range src.Names() {
		if !wanted[name] && (ignore == nil || !ignore(name)) {
			e, _ := src.Lookup(name)
			extra = append(extra, fmt.Sprintf("%.128q %v", name, e.Shape))
		}
	}
	if len(missing)+len(extra)+len(shapes)+len(types) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the tensors do not fit the model (%d wanted, %d in the file)", model, len(want), len(src.Names()))
	section(&b, "missing", missing)
	section(&b, "extra", extra)
	section(&b, "of another shape", shapes)
	section(&b, "of another type", types)
	return failf("%s", b.String())
}

func section(b *strings.Builder, what string, items []string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, "\n  %d %s:", len(items), what)
	for _, item := range items[:min(len(items), most)] {
		fmt.Fprintf(b, "\n    %s", item)
	}
	if len(items) > most {
		fmt.Fprintf(b, "\n    and %d more", len(items)-most)
	}
}
