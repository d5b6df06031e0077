package checkpoint

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/strictjson"
)

// object is a JSON object whose values are taken one by one, each within
// bounds. The first error sticks; a key that is left over is one too, as what it
// says would be ignored.
type object struct {
	path     string
	values   map[string]any // string, bool, nil, number, []any, *object
	taken    map[string]bool
	err      error
	children []*object
}

type number string

const (
	maxKeys  = 1000
	maxArray = 8192
)

func parseObject(path string, data []byte) (*object, error) {
	r, err := strictjson.New(data, 8)
	if err == nil {
		var v any
		if v, err = readValue(r, path); err == nil {
			err = r.End()
		}
		if o, ok := v.(*object); ok && err == nil {
			return o, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("not a JSON object")
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

func readValue(r *strictjson.Reader, path string) (any, error) {
	switch c := r.Kind(); c {
	case '{':
		o := &object{path: path, values: map[string]any{}, taken: map[string]bool{}}
		return o, r.Object(func(key string) error {
			if len(o.values) == maxKeys {
				return fmt.Errorf("more than %d keys", maxKeys)
			}
			v, err := readValue(r, path+": "+strconv.Quote(key))
			o.values[key] = v
			return err
		})
	case '[':
		list := []any{}
		err := r.Array(func() error {
			if len(list) == maxArray {
				return fmt.Errorf("an array of more than %d elements", maxArray)
			}
			v, err := readValue(r, path)
			list = append(list, v)
			return err
		})
		return list, err
	case '"':
		b, err := r.String()
		return string(b), err
	case 't', 'f':
		return r.Bool()
	case 'n':
		return nil, r.Skip()
	default:
		b, err := r.Number()
		return number(b), err
	}
}

func (o *object) errorf(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf("%s: %s", o.path, fmt.Sprintf(format, args...))
	}
}

// errorOf returns the first error of the objects and their children.
func errorOf(objects ...*object) error {
	for _, o := range objects {
		if o.err != nil {
			return o.err
		}
		if err := errorOf(o.children...); err != nil {
			return err
		}
	}
	return nil
}

// show is how messages name a value.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case number:
		return fmt.Sprintf("%.32s", string(v))
	case string:
		return fmt.Sprintf("%.64q", v)
	case []any:
		return fmt.Sprintf("an array of %d", len(v))
	case *object:
		return "an object"
	default:
		return fmt.Sprint(v)
	}
}

// take returns the value of key and whether there is one.
func (o *object) take(key string) (any, bool) {
	v, ok := o.values[key]
	if ok {
		o.taken[key] = true
	}
	return v, ok
}

// child returns the object under key, nil if there is none.
func (o *object) child(key string) *object {
	v, ok := o.take(key)
	if !ok {
		return nil
	}
	c, ok := v.(*object)
	if !ok {
		o.errorf("%s is not an object", key)
		return nil
	}
	if !slices.Contains(o.children, c) {
		o.children = append(o.children, c)
	}
	return c
}

// merge adds what more says. Where both speak they must agree.
func (o *object) merge(more *object) {
	for key, v := range more.values {
		mine, ok := o.values[key]
		if ok && !sameJSON(mine, v) {
			o.errorf("%s is %s, %s says %s", key, show(mine), more.path, show(v))
		}
		o.values[key] = v
	}
}

func sameJSON(a, b any) bool {
	x, isX := a.(number)
	y, isY := b.(number)
	if isX && isY {
		fx, errX := strconv.ParseFloat(string(x), 64)
		fy, errY := strconv.ParseFloat(string(y), 64)
		return errX == nil && errY == nil && fx == fy
	}
	listA, isA := a.([]any)
	listB, isB := b.([]any)
	if isA && isB {
		return slices.EqualFunc(listA, listB, sameJSON)
	}
	if isA || isB || isX || isY {
		return false
	}
	return a == b // strings, bools, nil; two objects are never the same
}

// finish refuses keys that were neither taken nor are allowed to be ignored.
func (o *object) finish(ignored ...string) {
	var left []string
	for key := range o.values {
		if !o.taken[key] && !slices.Contains(ignored, key) {
			left = append(left, fmt.Sprintf("%.64q", key))
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		o.errorf("unknown keys %s: the model may be one that wanrun does not know", strings.Join(left[:min(len(left), most)], ", "))
	}
}

func (o *object) toInt(key string, v any, lo, hi int) int {
	n, ok := v.(number)
	i, err := strconv.Atoi(string(n))
	if !ok || err != nil {
		o.errorf("%s is %s, want an integer", key, show(v))
		return lo
	}
	if i < lo || i > hi {
		o.errorf("%s is %d, want %d to %d", key, i, lo, hi)
		return lo
	}
	return i
}

func (o *object) toFloat(key string, v any, lo, hi float64) float64 {
	n, ok := v.(number)
	f, err := strconv.ParseFloat(string(n), 64)
	if !ok || err != nil || math.IsNaN(f) {
		o.errorf("%s is %s, want a number", key, show(v))
		return lo
	}
	if f < lo || f > hi {
		o.errorf("%s is %g, want %g to %g", key, f, lo, hi)
		return lo
	}
	return f
}

// integer returns a value in [lo, hi], def if there is none.
func (o *object) integer(key string, def, lo, hi int) int {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	return o.toInt(key, v, lo, hi)
}

// needed returns a value in [1, hi] that must be there.
func (o *object) needed(key string, hi int) int {
	v, ok := o.take(key)
	if !ok {
		o.errorf("%s is missing", key)
		return 1
	}
	return o.toInt(key, v, 1, hi)
}

// eps returns the small number that a norm adds.
func (o *object) eps(key string, def float64) float64 {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	return o.toFloat(key, v, 1e-12, 1e-2)
}

// list returns an array of length n, or any if n < 0, and false if there is none.
func (o *object) list(key string, n int) ([]any, bool) {
	v, ok := o.take(key)
	if !ok {
		return nil, false
	}
	l, ok := v.([]any)
	if !ok || n >= 0 && len(l) != n {
		o.errorf("%s is %s, want an array of %d", key, show(v), n)
		return nil, false
	}
	return l, true
}

func (o *object) integers(key string, def []int, n, lo, hi int) []int {
	l, ok := o.list(key, n)
	if !ok {
		return slices.Clone(def)
	}
	out := make([]int, len(l))
	for i, v := range l {
		out[i] = o.toInt(key, v, lo, hi)
	}
	return out
}

func (o *object) floats(key string, def []float32, n int, lo, hi float64) []float32 {
	l, ok := o.list(key, n)
	if !ok {
		if len(def) != n {
			o.errorf("%s is missing, and not known for %d channels", key, n)
		}
		return slices.Clone(def)
	}
	out := make([]float32, len(l))
	for i, v := range l {
		out[i] = float32(o.toFloat(key, v, lo, hi))
	}
	return out
}

func (o *object) bools(key string, def []bool) []bool {
	l, ok := o.list(key, len(def))
	if !ok {
		return slices.Clone(def)
	}
	out := make([]bool, len(l))
	for i, v := range l {
		b, ok := v.(bool)
		if !ok {
			o.errorf("%s is %s, want true or false", key, show(v))
		}
		out[i] = b
	}
	return out
}

func (o *object) text(key, def string) string {
	v, ok := o.take(key)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok {
		o.errorf("%s is %s, want a string", key, show(v))
	}
	return s
}

func (o *object) oneOf(key string, allowed ...string) string {
	s := o.text(key, "")
	if !slices.Contains(allowed, s) {
		o.errorf("%s is %.64q, want one of %s", key, s, strings.Join(allowed, ", "))
	}
	return s
}

// fixed refuses any value but the one that the models here are written for.
func (o *object) fixed(key string, want any) {
	if v, ok := o.take(key); ok && v != want {
		o.errorf("%s is %s, only %v is supported", key, show(v), want)
	}
}

// divides checks that part divides whole.
func (o *object) divides(partKey string, part int, wholeKey string, whole int) {
	if part <= 0 || whole%part != 0 {
		o.errorf("%s %d does not divide %s %d", partKey, part, wholeKey, whole)
	}
}
