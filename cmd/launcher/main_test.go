package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/media"
	"github.com/wanrun/wanrun/internal/version"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// TestMain is also a fake worker, which reports what it was asked for.
func TestMain(m *testing.M) {
	guard.Main()
	if len(os.Args) == 2 && os.Args[1] == "plan" {
		os.Exit(1) // a worker that cannot plan: the run goes on without
	}
	if os.Getenv("WANRUN_CONTROL") == "" {
		goleak.VerifyTestMain(m)
		return
	}
	rank, err := strconv.Atoi(os.Getenv("WANRUN_RANK"))
	if err != nil {
		os.Exit(97)
	}
	session, job, err := control.Attach(context.Background(), os.Getenv("WANRUN_CONTROL"),
		&wanrunv1.Hello{Rank: int32(rank), Token: os.Getenv("WANRUN_TOKEN"), Build: version.Version}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	report := &wanrunv1.Report{Output: job.GetOutput(), OutputBytes: 2048, Width: 64, Height: 64, Frames: job.GetFrameNum(), Encoder: "fake",
		Notices: []string{"prompt " + job.GetPrompt(), "image " + job.GetImage()}}
	if job.GetPrompt() == "ranks" {
		report.Notices = []string{fmt.Sprintf("mesh %d x %d x %d, %s of %s, %d threads", job.GetCfg(), job.GetRing(), job.GetUlysses(),
			os.Getenv("WANRUN_LOCAL_RANK"), os.Getenv("WANRUN_LOCAL_WORLD_SIZE"), job.GetThreads())}
	}
	if job.GetPrompt() == "fail" {
		report = &wanrunv1.Report{ExitCode: int32(ends.BadInput), Error: "it is bad", Phase: "tokenize"}
	}
	if err := session.Report(report); err != nil {
		os.Exit(98)
	}
	os.Exit(int(report.GetExitCode()))
}

// result is what a run of the program gave.
type result struct {
	code           ends.Code
	stdout, stderr string
}

// call runs the program with the fake worker.
func call(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	w := world{args: args, env: []string{"WANRUN_WORKER=" + self, "XDG_RUNTIME_DIR=" + t.TempDir()}, exe: "/nowhere/wanrun", tempDir: t.TempDir(), stdin: strings.NewReader(stdin),
		stdout: &stdout, stderr: &stderr, width: func() int { return 80 }, now: time.Now,
		processors: 6, random: func() int64 { return 5 }, signals: func() (<-chan os.Signal, func()) { return nil, func() {} }}
	code := w.run()
	if left, err := os.ReadDir(w.tempDir); err != nil || len(left) > 0 {
		t.Errorf("%v: left behind %v (%v)", args, left, err)
	}
	return result{code, stdout.String(), stderr.String()}
}

func (r result) check(t *testing.T, name string, code ends.Code, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("%s: code %d, stdout %q, stderr %q; want %d, %q, %q", name, r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

func TestGenerate(t *testing.T) {
	t.Chdir(t.TempDir())
	r := call(t, "", "--image", "in.jpg", "--prompt", "the red ball", "-o", "o.mp4", "--report", "r.json")
	r.check(t, "plain", ends.Done, "o.mp4  64x64  13 frames  8 fps  fake  2.00 KiB  seed 5\n",
		"wanrun: no --ckpt-dir: the built-in demo model runs\nwanrun: prompt the red ball\nwanrun: image in.jpg\n")
	data, err := os.ReadFile("r.json")
	if err != nil {
		t.Fatal(err)
	}
	var file launch.File
	if err := json.Unmarshal(data, &file); err != nil || file.Output.Path != "o.mp4" || file.Settings["prompt"].Text != "the red ball" || len(file.Notices) != 3 {
		t.Errorf("report %s (%v)", data, err)
	}

	r = call(t, "", "generate", "-q", "-o", "o.mp4")
	if r != (result{ends.Done, "o.mp4\n", ""}) {
		t.Errorf("quiet: %+v", r)
	}
	r = call(t, "", "--log-format", "json", "-o", "o.mp4")
	if err := json.Unmarshal([]byte(r.stdout), &file); err != nil || r.code != ends.Done || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("json: %+v (%v)", r, err)
	}
	r = call(t, "")
	r.check(t, "bare", ends.Done, "_seed5.mp4", "on its own picture, with the prompt")
	r.check(t, "bare", ends.Done, "i2v-14B_2", "image demo:in.jpg")
}

func TestGenerateOnSeveralRanks(t *testing.T) {
	t.Chdir(t.TempDir())
	r := call(t, "", "--nproc", "4", "--ulysses", "2", "--prompt", "ranks", "-o", "o.mp4", "--log-format", "json")
	var file launch.File
	if err := json.Unmarshal([]byte(r.stdout), &file); err != nil || r.code != ends.Done || len(file.Ranks) != 4 {
		t.Fatalf("%+v (%v)", r, err)
	}
	all := strings.Join(file.Notices, "\n")
	for rank := range 4 {
		if want := fmt.Sprintf("mesh 2 x 1 x 2, %d of 4, 1 threads", rank); !strings.Contains(all, want) {
			t.Errorf("notices %q lack %q", file.Notices, want)
		}
	}
	r = call(t, "", "--nproc", "8", "--ulysses", "3")
	r.check(t, "illegal", ends.Usage, "", "nearest: --ulysses 2 or 4, or --nproc 3")
	r = call(t, "", "--nproc", "8", "--explain")
	r.check(t, "explain", ends.Done, "plan: 8 ranks: ulysses 8; 1 of 8 heads each", "")
}

func TestGenerateFails(t *testing.T) {
	t.Chdir(t.TempDir())
	report := func() launch.Exit {
		t.Helper()
		data, err := os.ReadFile("r.json")
		if err != nil {
			t.Fatal(err)
		}
		var file launch.File
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove("r.json"); err != nil {
			t.Fatal(err)
		}
		return file.Exit
	}
	call(t, "", "--prompt", "fail", "--report", "r.json").check(t, "worker's error", ends.BadInput, "", "wanrun: error: it is bad (in tokenize)\n")
	first := 0
	if d := cmp.Diff(launch.Exit{Code: 65, Class: "bad_input", Error: "it is bad (in tokenize)", Phase: "tokenize", Rank: &first}, report()); d != "" {
		t.Errorf("exit in report (-want +got)\n%s", d)
	}
	call(t, "", "--worker", "none", "--report", "r.json").check(t, "no worker", ends.NotFound, "", "does not exist")
	if e := report(); e.Code != 127 || e.Class != "not_found" {
		t.Errorf("exit in report %+v", e)
	}
	call(t, "", "--frames", "80", "--report", "r.json").check(t, "usage", ends.Usage, "", "wanrun: --frames: frame number is 80, want 4n+1; nearest are 77 and 81\n")
	if e := report(); e.Class != "usage" {
		t.Errorf("exit in report %+v", e)
	}
	call(t, "", "--report", "no/r.json").check(t, "report's folder", ends.OutputLost, "", "cannot be written")
	if err := os.WriteFile("r.json", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, "", "--report", "r.json").check(t, "report exists", ends.OutputLost, "", "exists")
	if data, err := os.ReadFile("r.json"); err != nil || string(data) != "mine" {
		t.Errorf("the report that was there is now %q (%v)", data, err)
	}
	call(t, "", "--nproc", "8", "--ring", "3").check(t, "ranks", ends.Usage, "", "wanrun: --ring 3: 3 ranks, not --nproc 8")
	call(t, "", "--prompt", "\x1b[2J\xff").check(t, "escapes", ends.BadInput, "", `not UTF-8`)
	if left, err := os.ReadDir("."); err != nil || len(left) != 1 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

func TestSmallCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tc := range []struct {
		args           []string
		code           ends.Code
		stdout, stderr string
	}{
		{[]string{"version"}, ends.Done, "wanrun " + version.Version, ""},
		{[]string{"--version"}, ends.Done, "wanrun " + version.Version, ""},
		{[]string{"help"}, ends.Done, "wanrun inspect FILE", ""},
		{[]string{"--help"}, ends.Done, "--frames N", ""},
		{[]string{"-h"}, ends.Done, "(also --frame-num)", ""},
		{[]string{"help", "tokens"}, ends.Done, `"cut_at"`, ""},
		{[]string{"tokens", "--help"}, ends.Done, `"cut_at"`, ""},
		{[]string{"help", "generate"}, ends.Done, "usage: wanrun generate [FLAGS]", ""},
		{[]string{"--explain", "--steps", "7"}, ends.Done, "steps                     7                               --steps", ""},
		{[]string{"generat"}, ends.Usage, "", "did you mean generate?"},
		{[]string{"xyz"}, ends.Usage, "", "one of generate, run, plan, fit"},
		{[]string{"inspect"}, ends.Usage, "", "usage: wanrun inspect FILE"},
		{[]string{"inspect", "none.mp4"}, ends.BadInput, "", "none.mp4"},
		{[]string{"inspect", "a", "b"}, ends.Usage, "", "usage"},
		{[]string{"version", "x"}, ends.Usage, "", "usage"},
		{[]string{"tokens"}, ends.Usage, "", "add --json"},
		{[]string{"tokens", "--json", "--ckpt-dir", "none"}, ends.BadInput, "", "none"},
		{[]string{"tokens", "--jsn"}, ends.Usage, "", "did you mean --json?"},
		{[]string{"completion", "bsh"}, ends.Usage, "", "did you mean bash?"},
		{[]string{"completion"}, ends.Usage, "", "usage"},
	} {
		call(t, "[]", tc.args...).check(t, strings.Join(tc.args, " "), tc.code, tc.stdout, tc.stderr)
	}
}

func TestTokens(t *testing.T) {
	prompts := []string{"the red ball moves right", "a &lt;b&gt;  &amp;amp; “c”", "", strings.Repeat("ball ", 600)}
	in, err := json.Marshal(prompts)
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, string(in), "tokens", "--json")
	var rows []struct {
		Cleaned *string
		IDs     []int32 `json:"ids"`
		CutAt   *int    `json:"cut_at"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || r.code != ends.Done || len(rows) != len(prompts) {
		t.Fatalf("%+v: %v", r, err)
	}
	if *rows[1].Cleaned != `a <b> & "c"` || !strings.Contains(r.stdout, `a <b> & \"c\"`) || !strings.Contains(r.stdout, `"cut_at":null`) {
		t.Errorf("cleaned %q in %.300s", *rows[1].Cleaned, r.stdout)
	}
	for i, wantLen := range []int{7, -1, 1, officialTextLen} {
		ids := rows[i].IDs
		if len(ids) == 0 || ids[len(ids)-1] != 1 || (wantLen >= 0 && len(ids) != wantLen) {
			t.Errorf("prompt %d has %d ids, the last of %v; want %d and </s>", i, len(ids), ids, wantLen)
		}
	}
	if at := rows[3].CutAt; at == nil || *at <= 0 || *at >= len(*rows[3].Cleaned) {
		t.Errorf("cut at %v", at)
	}
	// A checkpoint's own text_len cuts.
	dir := t.TempDir()
	src := "../../examples/demo-model/checkpoint/google"
	if err := os.CopyFS(filepath.Join(dir, "google"), os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"text_len": 4}`), 0o644); err != nil {
		t.Fatal(err)
	}
	r = call(t, string(in), "tokens", "--ckpt-dir", dir, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || len(rows[0].IDs) != 4 || *rows[0].CutAt != len("the red b") {
		t.Errorf("text_len 4: %+v (%v)", r, err)
	}
	for in, words := range map[string]string{"": "JSON list", `{"a": 1}`: "JSON list", "[1]": "JSON list", "[\"\xff\"]": "not UTF-8", `["` + strings.Repeat("a", 1<<20+1) + `"]`: "prompt 0 has"} {
		call(t, in, "tokens", "--json").check(t, fmt.Sprintf("%.20q", in), ends.BadInput, "", words)
	}
	for _, config := range []string{`{"text_len": 0}`, `{"text_len": 99999999}`, `{`} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		call(t, "[]", "tokens", "--ckpt-dir", dir, "--json").check(t, config, ends.BadInput, "", "config.json")
	}
}

func TestInspect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	const stored = `{"prompt":"a\u001b[2J\nb","seed":42,"plan":{"ranks":1}}`
	writePNG(t, path, stored)
	call(t, "", "inspect", path).check(t, "lines", ends.Done,
		"prompt            a\\x1b[2J\\nb\nseed              42\nplan              {\"ranks\":1}\n", "")
	call(t, "", "inspect", "--json", path).check(t, "json", ends.Done, stored+"\n", "")
	writePNG(t, path, `[1]`)
	call(t, "", "inspect", path).check(t, "not ours", ends.BadInput, "", "holds no settings")
}

func writePNG(t *testing.T, path, metadata string) {
	t.Helper()
	w, err := media.Create(path, media.Options{W: 16, H: 16, FPS: 8, NumFrames: 1, Metadata: []byte(metadata)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFrame(make([]byte, 16*16*3)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompletion sees that each script is one, and that bash's answers.
func TestCompletion(t *testing.T) {
	for shell, words := range map[string]string{"bash": "--offload-model", "zsh": "#compdef wanrun", "fish": "-l offload-model"} {
		call(t, "", "completion", shell).check(t, shell, ends.Done, words, "")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash to try the script in")
	}
	script := call(t, "", "completion", "bash").stdout + `
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _wanrun; echo "${COMPREPLY[*]}"; }
ask wanrun --solver u
ask wanrun ins
ask wanrun --contact
`
	out, err := exec.Command(bash, "-c", script).CombinedOutput()
	if err != nil || string(out) != "unipc\ninspect\n--contact-sheet\n" {
		t.Errorf("bash answers %q (%v)", out, err)
	}
}
