package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named is a test as docs/launcher.md names it: folder, function and case.
var named = regexp.MustCompile("`(?:([a-z][a-z/]*)\\.)?(Test\\w+)(?:/([^`]+))?`")

// TestDocs sees that docs/launcher.md has its 98 rows, and that every test exists that it
// names; what is done, wholly or in part, names one.
func TestDocs(t *testing.T) {
	const root = "../../.."
	sources := map[string]string{}
	source := func(folder string) string {
		if _, ok := sources[folder]; ok {
			return sources[folder]
		}
		files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("no tests in %s (%v)", folder, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources[folder] += string(data)
		}
		return sources[folder]
	}
	row := 0
	for _, line := range linesOf(readFile(t, root, "docs/launcher.md")) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ \d+ $`).MatchString(cells[1]) {
			continue
		}
		row++
		if strings.TrimSpace(cells[1]) != fmt.Sprint(row) {
			t.Errorf("row %s follows row %d", cells[1], row-1)
		}
		tests := named.FindAllStringSubmatch(cells[4], -1)
		switch state := strings.TrimSpace(cells[3]); state {
		case "done", "partly":
			if len(tests) == 0 {
				t.Errorf("row %d is %s, and no test is named", row, state)
			}
		case "GPU", "not built":
		default:
			t.Errorf("row %d has the state %q", row, state)
		}
		for _, m := range tests {
			folder, function, name := m[1], m[2], m[3]
			if folder == "" {
				folder = "internal/endtoend/launcher"
			}
			if !strings.Contains(source(folder), "\nfunc "+function+"(t *testing.T)") {
				t.Errorf("row %d: %s has no %s", row, folder, function)
			}
			if name != "" && !strings.Contains(source(folder), `"`+name+`"`) {
				t.Errorf("row %d: %s of %s has no case %q", row, function, folder, name)
			}
		}
	}
	if row != 98 {
		t.Errorf("%d rows, want 98", row)
	}
}
