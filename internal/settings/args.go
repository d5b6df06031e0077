package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wanrun/wanrun/internal/ends"
)

// Args is a parsed command line.
type Args struct {
	Given      map[string]Given // by the row's name
	Positional []string
}

// Given is a value as it was given.
type Given struct {
	Text string
	From string // what to call it in an error: "--frames", "WANRUN_FRAMES", "run.yaml:3: frames"
	rank int    // of its source, the highest wins
	// Many are all values of a flag that was repeated, in their order.
	Many []string
}

// The ranks of the sources.
const (
	rankDefault = iota
	rankCheckpoint
	rankConfig
	rankEnv
	rankFlag
)

// rawValue takes a flag's text as it is, for the resolver to read.
type rawValue struct {
	flag  Flag
	given map[string]Given
}

func (v *rawValue) String() string { return "" }
func (v *rawValue) Type() string   { return "text" }
func (v *rawValue) Set(s string) error {
	g := Given{Text: s, From: "--" + v.flag.Name, rank: rankFlag}
	if v.flag.Many {
		g.Many = append(v.given[v.flag.Name].Many, s)
	}
	v.given[v.flag.Name] = g
	return nil
}

// ParseArgs reads args by the table. Errors: ends.Usage.
func ParseArgs(flags []Flag, args []string) (Args, error) { return parseArgs(flags, args, false) }

// ParseUntil reads args by the table until the first that is no flag, or "--": that
// and what follows belongs to another program and comes back as it is.
func ParseUntil(flags []Flag, args []string) (Args, error) { return parseArgs(flags, args, true) }

func parseArgs(flags []Flag, args []string, until bool) (Args, error) {
	parsed := Args{Given: map[string]Given{}}
	set := pflag.NewFlagSet("wanrun", pflag.ContinueOnError)
	set.SetOutput(discard{})
	set.Usage = func() {}
	set.SetInterspersed(!until)
	set.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if f, ok := lookup(flags, dashed(name)); ok {
			return pflag.NormalizedName(f.Name)
		}
		return pflag.NormalizedName(dashed(name))
	})
	for _, f := range flags {
		p := set.VarPF(&rawValue{f, parsed.Given}, f.Name, f.Letter, f.Help)
		if !f.TakesValue() {
			p.NoOptDefVal = "true"
		}
	}
	if err := set.Parse(args); err != nil {
		return Args{}, ends.As(ends.Usage, argsError(flags, err))
	}
	parsed.Positional = set.Args()
	return parsed, nil
}

// argsError words what pflag found.
func argsError(flags []Flag, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			if len(letters) > 1 { // -frames for --frames
				if near := Nearest(dashed(letters), spellings(flags)); near != "" {
					return fmt.Errorf("unknown flag %s; did you mean --%s?", Escape("-"+letters), near)
				}
			}
			return fmt.Errorf("unknown flag %s; see --help", Escape("-"+name))
		}
		hint := Suggest("--%s", dashed(name), spellings(flags))
		if hint == "" {
			hint = "; see --help"
		}
		return fmt.Errorf("unknown flag %s%s", Escape("--"+name), hint)
	case errors.As(err, &missing):
		if f, ok := lookup(flags, missing.GetFlag().Name); ok {
			return fmt.Errorf("--%s needs a value: %s", f.Name, f.Placeholder())
		}
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is not a flag; see --help", Escape(syntax.GetSpecifiedFlag()))
	}
	return errors.New(Escape(err.Error()))
}

// NoPositional refuses arguments that belong to no flag.
func (a Args) NoPositional() error {
	if len(a.Positional) == 0 {
		return nil
	}
	word := a.Positional[0]
	hint := "; see --help"
	switch {
	case isBool(word):
		hint = "; a switch takes its value with =, as in --t5-cpu=" + strings.ToLower(word)
	case isPicture(word):
		hint = "; a picture is given with --image"
	}
	return ends.Errorf(ends.Usage, "unexpected argument %q%s", word, hint)
}

func isBool(s string) bool {
	_, err := parseBool(s)
	return err == nil
}

func isPicture(path string) bool {
	path = strings.ToLower(path)
	for _, ext := range []string{".jpg", ".jpeg", ".png", ".webp"} {
		if strings.HasSuffix(path, ext) {
			return true
		}
	}
	return false
}

// discard drops what pflag would print: errors are worded here.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Switch says whether a switch is on. Errors: ends.Usage.
func (a Args) Switch(name string) (bool, error) {
	g, ok := a.Given[name]
	if !ok {
		return false, nil
	}
	on, err := parseBool(g.Text)
	if err != nil {
		return false, ends.Errorf(ends.Usage, "%s: %w", g.From, err)
	}
	return on, nil
}
