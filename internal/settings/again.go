package settings

import (
	"fmt"
	"slices"
	"strings"
)

// Again returns the flags with which a run can go on somewhere else: what was given or
// drawn and says what to make or on how many ranks, with paths that abs makes absolute.
// How ranks are started, watched and logged is not among them, nor is the folder from
// which the run goes on, nor any program.
func (s Settings) Again(abs func(path string) (string, error)) ([]string, error) {
	always := []string{"task", "seed", "output", "keep-run-dir"}
	texts := map[string]string{}
	for _, v := range s.Values {
		texts[v.Name] = v.Text
	}
	var args []string
	for _, f := range Flags() {
		text, settled := texts[f.Name]
		if !settled || !goesOn(f) || !slices.Contains(always, f.Name) && !slices.Contains(s.Fixed, f.Name) {
			continue
		}
		if (f.Kind == File || f.Kind == Folder) && text != "" {
			var err error
			if text, err = abs(text); err != nil {
				return nil, err
			}
		}
		args = append(args, "--"+f.Name+"="+text)
	}
	return args, nil
}

// goesOn says that a flag is kept for a run to go on.
func goesOn(f Flag) bool {
	return slices.Contains([]string{groupInput, groupVideo, groupOutput, groupMachine}, f.Group) && !slices.Contains([]string{"run-dir", "report", "ffmpeg"}, f.Name)
}

// CheckAgain holds flags that were kept to what Again returns: they come from a file.
func CheckAgain(args []string) error {
	for _, arg := range args {
		name, _, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		f, known := lookup(Flags(), name)
		if !ok || !known || !goesOn(f) || !strings.HasPrefix(arg, "--") {
			return fmt.Errorf("%q is no flag that a saved run keeps", Shorten(arg, 60))
		}
	}
	return nil
}
