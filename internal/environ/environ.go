// Package environ reads environment variables that other programs have set: bounded,
// checked, and with errors that name the variable.
package environ

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Lookup returns the value of a variable and whether it is set, as os.LookupEnv.
type Lookup func(name string) (value string, set bool)

// List returns a Lookup over entries of the form NAME=VALUE, as from os.Environ; the
// last of several wins.
func List(entries []string) Lookup {
	values := make(map[string]string, len(entries))
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok {
			values[name] = value
		}
	}
	return Map(values)
}

// Map returns a Lookup over values.
func Map(values map[string]string) Lookup {
	return func(name string) (string, bool) {
		value, set := values[name]
		return value, set
	}
}

// maxText bounds names and addresses; hostlists are longer and have bounds of their own.
const maxText = 1024

// Reader reads variables and keeps the first error. An empty variable counts as unset.
type Reader struct {
	lookup Lookup
	err    error
}

// NewReader returns a Reader of lookup.
func NewReader(lookup Lookup) *Reader { return &Reader{lookup: lookup} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail keeps err if it is the first.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Has returns whether all of names are set.
func (r *Reader) Has(names ...string) bool {
	for _, name := range names {
		if r.Raw(name) == "" {
			return false
		}
	}
	return true
}

// Raw returns a variable as it is, of any length and content.
func (r *Reader) Raw(name string) string {
	value, _ := r.lookup(name)
	return value
}

// First returns the first of names that is set, "" if none is.
func (r *Reader) First(names ...string) string {
	for _, name := range names {
		if r.Has(name) {
			return name
		}
	}
	return ""
}

// Text returns a short printable value.
func (r *Reader) Text(name string) string {
	value := r.Raw(name)
	switch {
	case len(value) > maxText:
		r.Fail(fmt.Errorf("%s has %d bytes, want at most %d", name, len(value), maxText))
		return ""
	case !printable(value):
		r.Fail(fmt.Errorf("%s=%q is not printable text", name, value))
		return ""
	}
	return value
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// Int returns the variable's number, absent if it is not set. A value that is no
// number from lo to hi is an error.
func (r *Reader) Int(name string, lo, hi, absent int) int {
	return r.Number(name, r.Raw(name), lo, hi, absent)
}

// Number is Int for a value that the caller has taken out of the variable.
func (r *Reader) Number(name, value string, lo, hi, absent int) int {
	if value == "" {
		return absent
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < lo || n > hi {
		if len(value) > 40 {
			value = value[:40] + "…"
		}
		r.Fail(fmt.Errorf("%s=%q, want a number from %d to %d", name, value, lo, hi))
		return absent
	}
	return n
}

// Host returns a host name or an IP address without brackets.
func (r *Reader) Host(name string) string {
	value := r.Text(name)
	if value == "" {
		return ""
	}
	if err := CheckHost(value); err != nil {
		r.Fail(fmt.Errorf("%s: %w", name, err))
		return ""
	}
	return value
}

// Port returns a TCP port, 0 if the variable is not set.
func (r *Reader) Port(name string) int { return r.Int(name, 1, math.MaxUint16, 0) }
