package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/settings"
)

var update = flag.Bool("update", false, "rewrite docs/cli.md")

const docsPath = "../../docs/cli.md"

// TestDocs holds docs/cli.md to the tables that the program runs by.
func TestDocs(t *testing.T) {
	want := docs()
	if *update {
		if err := os.WriteFile(docsPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("docs/cli.md is stale; go test ./cmd/launcher -run TestDocs -update writes it (-want +got)\n%s", d)
	}
}

func docs() string {
	var b strings.Builder
	b.WriteString(`# The command line

Written by ` + "`go test ./cmd/launcher -run TestDocs -update`" + ` from the tables that the program runs by.

`)
	for _, c := range commands() {
		fmt.Fprintf(&b, "    wanrun %s\n", strings.TrimSpace(c.name+" "+c.args))
	}
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n## wanrun %s\n\n%s.\n", c.name, strings.ToUpper(c.help[:1])+c.help[1:])
		if c.about != "" {
			b.WriteString("\n" + c.about)
		}
		if c.name == "generate" {
			b.WriteString(docsRules)
		}
		flagTables(&b, c.flags())
	}
	b.WriteString(docsExit)
	for _, e := range exits {
		fmt.Fprintf(&b, "| %d | `%s` | %s |\n", int(e.code), e.code, e.meaning)
	}
	return b.String()
}

func flagTables(b *strings.Builder, flags []settings.Flag) {
	cell := strings.NewReplacer("|", `\|`)
	for _, group := range settings.Groups(flags) {
		if group == "" {
			continue // --help and the few that the usage line shows
		}
		fmt.Fprintf(b, "\n### %s\n\n| flag | also | variable | what |\n| --- | --- | --- | --- |\n", group)
		for _, f := range flags {
			if f.Group != group {
				continue
			}
			name := "--" + f.Name
			if p := f.Placeholder(); p != "" {
				name += " " + p
			}
			var also []string
			if f.Letter != "" {
				also = append(also, "`-"+f.Letter+"`")
			}
			for _, other := range f.Other {
				also = append(also, "`--"+other+"`")
			}
			env := "`" + f.Env() + "`"
			if f.Local {
				env = ""
			}
			help := f.Help
			if f.Kind == settings.Choice && f.Value != "" {
				help += ": " + strings.Join(f.Choices, ", ")
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", cell.Replace(name), strings.Join(also, " "), env, cell.Replace(help))
		}
	}
}

const docsRules = `
Rules:

- Every flag can be written with underscores, as the official ones are. A switch alone means true;
  ` + "`--t5-cpu=false`" + ` turns it off. ` + "`--offload-model`" + ` wants its value spelled out.
- A variable that is empty counts as not set. Other spellings of a flag have variables too: ` + "`WANRUN_FRAME_NUM`" + `.
- A configuration file has lines of ` + "`KEY: VALUE`" + `, keys as the flags in any spelling. Unknown keys, keys given
  twice, lists, anchors and tags are refused with their line.
- The task follows from the pictures and from the checkpoint's ` + "`config.json`" + ` if it is not given.
- ` + "`--size`" + ` of a task that follows a picture is only an area, as in the official code. If ` + "`--size`" + ` and ` + "`--max-area`" + `
  come from different sources, the higher one counts; from one source they must agree.
- Without ` + "`--output`" + ` the name is made of task, time and seed, as in ` + "`i2v-14B_20260304-050607_seed42.mp4`" + `.
  A file that exists is never replaced without ` + "`--overwrite`" + `; that holds for the contact sheet, the dump and the report too.
- An empty ` + "`--negative-prompt`" + ` means the checkpoint's or the task's own: the official code has no run without one.
- ` + "`--nproc N`" + ` starts N worker processes. They are cfg x ring x ulysses; degrees that are left out are chosen: first the best balance of
  heads and tokens (within 10 % is as good as even), then the smallest ring, then the smallest cfg. So 8 ranks run 40 heads as ulysses 8 and 12 heads as
  cfg 2 x ulysses 4. Without ` + "`--nproc`" + ` there are as many ranks as the degrees need: ` + "`--ulysses 8`" + ` means 8.
  Degrees that do not make ` + "`--nproc`" + ` are refused with the nearest that do. ` + "`--ulysses`" + ` may be anything up to the number of heads; where it
  does not divide them, the plan says what that costs. ` + "`--explain`" + ` prints the plan and why it is so.
- ` + "`--offload dit=host`" + ` keeps the DiT's weights in host memory once a machine: whole and shared by its ranks, or, with ` + "`--dit-fsdp`" + `, a part with each.
  ` + "`dit=file`" + ` includes ` + "`--dit-fsdp`" + ` unless that is turned off, so that each rank reads its part alone. The official ` + "`--offload_model True`" + ` means ` + "`dit=host`" + `
  on several ranks with ` + "`--dit-fsdp`" + `, and changes nothing else: weights are released after the phase that needs them in any case. ` + "`--offload`" + ` goes before it.
- ` + "`--fsdp-size N`" + ` shards weights within groups of N consecutive ranks: each rank keeps 1/N of them and gathers from its group alone. N divides the ranks.
- ` + "`--cfg-batch auto`" + ` runs both branches of guidance in one forward if what the ranks of a machine will then take fits into the memory that is
  free and that the control group allows, less 64 MiB a rank; else one after the other, if that takes less. What was chosen, and why, is told and in the report.
- Prompts and pictures that are not spread are encoded by a rank each, with the threads of all ranks of the machine, which wait.
- The processors are divided among the ranks of a machine unless ` + "`--threads`" + ` says how many each has.
- The ranks of a run end together: when one fails, the others are asked to end and, 150 ms later, killed. The line and the exit code are those of
  the rank that failed first; ranks that only lost a peer are not taken for the cause.
- The first Ctrl-C (or SIGTERM, SIGHUP, SIGQUIT) asks the workers to end; after ` + "`--grace`" + ` they get SIGTERM, 2 s later SIGKILL. A
  second one kills at once. Signals that the caller ignores, as nohup does with SIGHUP, stay ignored.
- With ` + "`--log-format json`" + ` standard error has one JSON object a line, and standard output the report as one line of JSON.
`

const docsExit = `
## Exit codes

| code | class | what |
| --- | --- | --- |
`
