package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/plan"
)

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"generate", "--steps", "3"}, "generate --steps 3"},
		{[]string{"--prompt", "it's a cat", ""}, `--prompt 'it'\''s a cat' ''`},
		{[]string{"--size", "832*480"}, "--size '832*480'"},
	} {
		if got := commandLine(tc.args); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestWithoutPlanFlags(t *testing.T) {
	got := withoutPlanFlags([]string{"--gpu", "h100", "--steps", "3", "--run", "--host=4G", "--progressive", "--size", "64*64", "--json", "--hosts", "f"})
	if want := []string{"--steps", "3", "--size", "64*64", "--hosts", "f"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRemedyText(t *testing.T) {
	p := &plan.Plan{}
	if got := remedyText(p, []string{"generate"}); !strings.Contains(got, "no change") {
		t.Errorf("%q", got)
	}
	p.Remedies = []plan.Option{{Changes: []string{"--offload", "dit=host"}}}
	if got := remedyText(p, []string{"generate", "--steps", "2"}); !strings.Contains(got, "wanrun generate --steps 2 --offload dit=host\n") {
		t.Errorf("%q", got)
	}
}
