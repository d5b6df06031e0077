package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/task"
)

const (
	demoSpec   = "../../examples/demo-model/checkpoint/model_spec.json"
	demoConfig = "../../examples/demo-model/checkpoint/config.json"
)

// files are what a test's ReadFile finds.
var files = map[string]string{
	"i2v/config.json":    `{"model_type": "i2v", "dim": 5120, "num_heads": 40}`,
	"t2v/config.json":    `{"model_type": "t2v", "dim": 5120, "num_heads": 40}`,
	"t2v13/config.json":  `{"model_type": "t2v", "dim": 1536, "num_heads": 12}`,
	"flf/config.json":    `{"model_type": "flf2v", "dim": 5120}`,
	"vace/config.json":   `{"model_type": "vace", "dim": 5120}`,
	"broken/config.json": `{"model_type": `,
	"spec/config.json":   `{"model_type": "i2v", "dim": 160}`,
	"spec/model_spec.json": `{"sample_fps": 8, "sample_neg_prompt": "nothing bad", "defaults":
		{"frame_num": 13, "max_area": 4096, "sampling_steps": 12, "shift": 3, "guide_scale": 3, "solver": "dpm++"}}`,
	"badspec/config.json":     `{"model_type": "i2v"}`,
	"badspec/model_spec.json": `{"defaults": {"frame_num": 12}}`,
	"run.yaml":                "# a run\nsteps: 20\nframe_num: 9\nprompt: 'from the file'\nt5-cpu: true\nsize: 832*480\n",
	"area.yaml":               "max-area: 4096\n",
}

func inputs(t testing.TB, env []string, args ...string) Inputs {
	t.Helper()
	spec, err := os.ReadFile(demoSpec)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(demoConfig)
	if err != nil {
		t.Fatal(err)
	}
	return Inputs{
		Args: args, Env: env,
		ReadFile: func(path string, limit int64) ([]byte, error) {
			data, ok := files[path]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			if int64(len(data)) > limit {
				return nil, errors.New("too long")
			}
			return []byte(data), nil
		},
		Exists: func(path string) bool { return strings.HasPrefix(path, "taken") },
		Now:    time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Random: func() int64 { return 77 },
		Demo:   Demo{Config: config, Spec: spec, Image: "demo:in.jpg", Prompt: "the red ball moves right"},
	}
}

func resolve(t testing.TB, env []string, args ...string) (Settings, error) {
	t.Helper()
	return Resolve(inputs(t, env, args...))
}

// values are the settled values by name.
func values(s Settings) map[string]Value {
	m := map[string]Value{}
	for _, v := range s.Values {
		m[v.Name] = v
	}
	return m
}

// base makes an i2v run legal; a flag that a test adds comes after it.
var base = []string{"--ckpt_dir", "i2v", "--image", "in.jpg", "--prompt", "x"}

// TestSpellings gives every spelling of every row, in dashes, underscores and as
// an environment variable, and sees where it arrives.
func TestSpellings(t *testing.T) {
	sample := map[string]string{
		"prompt": "a cat", "negative-prompt": "dogs", "image": "a.jpg", "ckpt-dir": "i2v", "task": "i2v-14B",
		"size": "832*480", "max-area": "4096", "frames": "13", "fps": "24", "steps": "7", "solver": "dpm++", "shift": "2.5",
		"guide-scale": "1.5", "seed": "5", "noise-rng": "torch-cpu", "output": "o.mp4", "contact-sheet": "c.png",
		"encoder": "builtin", "ffmpeg": "/bin/ff", "dump": "d.safetensors", "report": "r.json", "nproc": "1", "ulysses": "1",
		"ring": "1", "cfg-parallel": "1", "offload": "dit=host", "offload-model": "False", "cfg-batch": "false", "fsdp-size": "1", "device": "cpu", "dtype": "bf16", "threads": "3", "mem-limit": "8GiB",
		"run-dir": "run", "save-every": "2", "log-format": "json", "grace": "3s", "worker": "/bin/w",
		"nnodes": "1", "node-rank": "0", "rdzv": "127.0.0.1:29400", "job-id": "j1", "ssh": "rsh", "placement": "alone", "secret-file": "s", "tls": "off",
		"iface": "lo", "join-timeout": "1m0s", "bind": "none", "gpu-visibility": "one", "max-restarts": "2", "retry-on": "oom,code=3",
		"hang-timeout": "5s", "timeout": "1h0m0s", "straggler-timeout": "5s", "stop-before": "1m0s", "success": "rank0", "on-usr1": "drain",
		"log-dir": "logs", "log-max": "1G", "show": "0,4-7", "prefix": "none", "metrics": ":9090", "trace": "t.json", "vram-log": "v.jsonl",
	}
	// Rows that are refused, that another test gives, or that need other inputs.
	elsewhere := map[string]bool{"first-frame": true, "last-frame": true, "config": true, "help": true, "explain": true, "dry-run": true, "json": true, "hosts": true,
		"use-prompt-extend": true, "prompt-extend-method": true, "prompt-extend-model": true, "prompt-extend-target-lang": true,
		"src-video": true, "src-mask": true, "src-ref-images": true}
	for _, f := range Flags() {
		if elsewhere[f.Name] {
			continue
		}
		text, ok := sample[f.Name]
		if !ok && f.TakesValue() {
			t.Errorf("--%s has no sample", f.Name)
		}
		want := text
		if !f.TakesValue() {
			want = "true"
		} else if f.Kind == Bool {
			want = strings.ToLower(text)
		}
		for _, name := range append([]string{f.Name}, f.Other...) {
			for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_")} {
				forms := [][]string{{"--" + spelling, text}, {"--" + spelling + "=" + text}}
				if !f.TakesValue() {
					forms = [][]string{{"--" + spelling}, {"--" + spelling + "=True"}}
				}
				for _, form := range forms {
					s, err := resolve(t, nil, append(append([]string{}, base...), form...)...)
					got := values(s)[f.Name]
					if err != nil || got.Text != want || got.From != "--"+f.Name {
						t.Errorf("%v: %q from %q (%v), want %q from --%s", form, got.Text, got.From, err, want, f.Name)
					}
				}
			}
			args := without(base, f.Name)
			env := envName(name) + "=" + text
			if !f.TakesValue() {
				env = envName(name) + "=yes"
			}
			s, err := resolve(t, []string{env, "HOME=/x"}, args...)
			got := values(s)[f.Name]
			if err != nil || got.Text != want || got.From != envName(name) {
				t.Errorf("%s: %q from %q (%v), want %q", env, got.Text, got.From, err, want)
			}
		}
		if f.Letter != "" {
			form := []string{"-" + f.Letter}
			if f.TakesValue() {
				form = append(form, text)
			}
			s, err := resolve(t, nil, append(append([]string{}, base...), form...)...)
			if got := values(s)[f.Name]; err != nil || got.Text != want {
				t.Errorf("%v: %q (%v), want %q", form, got.Text, err, want)
			}
		}
	}
}

// without leaves a flag and its value out.
func without(args []string, name string) []string {
	var kept []string
	for i := 0; i < len(args); i += 2 {
		if dashed(args[i]) != "--"+name {
			kept = append(kept, args[i], args[i+1])
		}
	}
	return kept
}

// TestOfficialCommands are the command lines of the official README, and what they mean here.
func TestOfficialCommands(t *testing.T) {
	type want struct {
		task    task.Name
		size    string
		area    int
		frames  int
		steps   int
		shift   float64
		guide   float64
		solver  string
		notices int
	}
	for _, tc := range []struct {
		line string
		want want
	}{
		{"--task i2v-14B --size 1280*720 --ckpt_dir i2v --image examples/i2v_input.JPG --prompt p",
			want{task.I2V14B, "0*0", 921600, 81, 40, 5, 5, "unipc", 0}},
		{"--task i2v-14B --size 832*480 --ckpt_dir i2v --image examples/i2v_input.JPG --prompt p",
			want{task.I2V14B, "0*0", 399360, 81, 40, 3, 5, "unipc", 0}},
		{"--nproc_per_node 1 --task i2v-14B --size 720*1280 --ckpt_dir i2v --image a.jpg --dit_fsdp --t5_fsdp --ulysses_size 1 --prompt p",
			want{task.I2V14B, "0*0", 921600, 81, 40, 5, 5, "unipc", 1}},
		{"--task t2v-14B --size 1280*720 --ckpt_dir t2v --prompt p",
			want{task.T2V14B, "1280*720", 0, 81, 50, 5, 5, "unipc", 0}},
		{"--task t2v-1.3B --size 832*480 --ckpt_dir t2v13 --offload_model True --t5_cpu --sample_shift 8 --sample_guide_scale 6 --prompt p",
			want{task.T2V13B, "832*480", 0, 81, 50, 8, 6, "unipc", 1}},
		{"--task t2v-14B --size 480*832 --ckpt_dir t2v --prompt p --frame_num 49 --sample_solver dpm++ --sample_steps 25 --base_seed 42",
			want{task.T2V14B, "480*832", 0, 49, 25, 5, 5, "dpm++", 0}},
		{"--task t2i-14B --size 1024*1024 --ckpt_dir t2v --prompt p",
			want{task.T2I14B, "1024*1024", 0, 1, 50, 5, 5, "unipc", 0}},
		{"--task flf2v-14B --size 1280*720 --ckpt_dir flf --first_frame a.png --last_frame b.png --prompt p",
			want{task.FLF2V14B, "0*0", 921600, 81, 50, 16, 5, "unipc", 0}},
		// Inferred.
		{"--ckpt_dir t2v13 --prompt p", want{task.T2V13B, "832*480", 0, 81, 50, 5, 5, "unipc", 0}},
		{"--ckpt_dir t2v --prompt p --frames 1", want{task.T2I14B, "1280*720", 0, 1, 50, 5, 5, "unipc", 0}},
		{"--ckpt_dir flf --first_frame a --last_frame b --prompt p", want{task.FLF2V14B, "0*0", 921600, 81, 50, 16, 5, "unipc", 0}},
		{"--ckpt_dir i2v --image a --prompt p --max-area 4096", want{task.I2V14B, "0*0", 4096, 81, 40, 3, 5, "unipc", 0}},
		{"--ckpt_dir spec --image a --prompt p", want{task.I2V14B, "0*0", 4096, 13, 12, 3, 3, "dpm++", 0}},
		{"--image a --prompt p", want{task.I2V14B, "0*0", 4096, 13, 12, 3, 3, "unipc", 1}},
		{"--image a", want{task.I2V14B, "0*0", 4096, 13, 12, 3, 3, "unipc", 1}},
		{"", want{task.I2V14B, "0*0", 4096, 13, 12, 3, 3, "unipc", 1}},
	} {
		s, err := resolve(t, nil, strings.Fields(tc.line)...)
		if err != nil {
			t.Errorf("%s: %v", tc.line, err)
			continue
		}
		got := want{s.Task, s.Size.String(), s.MaxArea, s.Frames, s.Steps, s.Shift, s.Guide, s.Solver, len(s.Notices)}
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v; notices %q", tc.line, got, tc.want, s.Notices)
		}
		if s.Nproc != 1 || s.Device != "cpu" || s.DType != "fp32" || s.Seed < 0 || s.Negative == "" || s.Output == "" {
			t.Errorf("%s: not settled: %+v", tc.line, s)
		}
	}
}

func TestPrecedence(t *testing.T) {
	file := []string{"--config", "run.yaml", "--ckpt-dir", "spec", "--image", "a"}
	for _, tc := range []struct {
		name       string
		env        []string
		args       []string
		key        string
		text, from string
	}{
		{"task default", nil, base, "steps", "40", "default of i2v-14B"},
		{"checkpoint", nil, []string{"--ckpt-dir", "spec", "--image", "a", "--prompt", "p"}, "steps", "12", "model_spec.json of the checkpoint"},
		{"demo", nil, nil, "steps", "12", "the demo model"},
		{"file over checkpoint", nil, file, "steps", "20", "run.yaml:2: steps"},
		{"file in the official spelling", nil, file, "frames", "9", "run.yaml:3: frame_num"},
		{"environment over file", []string{"WANRUN_STEPS=21"}, file, "steps", "21", "WANRUN_STEPS"},
		{"flag over environment", []string{"WANRUN_STEPS=21"}, append(file, "--sample_steps", "22"), "steps", "22", "--steps"},
		{"last flag wins", nil, append(base, "--steps", "3", "--sample-steps", "4"), "steps", "4", "--steps"},
		{"file named by the environment", []string{"WANRUN_CONFIG=run.yaml"}, base, "steps", "20", "run.yaml:2: steps"},
		{"empty variable", []string{"WANRUN_STEPS="}, base, "steps", "40", "default of i2v-14B"},
		{"file's size over checkpoint's area", nil, file, "max-area", "399360", "run.yaml:6: size"},
		{"area flag over file's size", nil, append(file, "--max-area", "5000"), "max-area", "5000", "--max-area"},
		{"size flag over file's area", nil, append(base, "--config", "area.yaml", "--size", "832x480"), "max-area", "399360", "--size"},
		{"negative of the checkpoint", nil, append(file, "--negative-prompt", ""), "negative-prompt", "nothing bad", "model_spec.json of the checkpoint"},
		{"negative of the task", nil, base, "negative-prompt", task.I2V14B.NegativePrompt(), "default of i2v-14B"},
		{"drawn seed", nil, base, "seed", "77", "drawn"},
		{"asked to draw", nil, append(base, "--base_seed", "-1"), "seed", "77", "drawn, as --seed says"},
		{"switch off", nil, append(file, "--t5-cpu=false"), "t5-cpu", "false", "--t5-cpu"},
		{"default name", nil, base, "output", "i2v-14B_20260304-050607_seed77.mp4", "named for task, time and seed"},
		{"noise spelled out", nil, base, "noise-rng", "torch-cuda", "default"},
		{"two variables agree", []string{"WANRUN_STEPS=5", "WANRUN_SAMPLE_STEPS=5"}, base, "steps", "5", "WANRUN_SAMPLE_STEPS"},
	} {
		s, err := resolve(t, tc.env, tc.args...)
		got := values(s)[tc.key]
		if err != nil || got.Text != tc.text || got.From != tc.from {
			t.Errorf("%s: %s is %q from %q (%v), want %q from %q", tc.name, tc.key, got.Text, got.From, err, tc.text, tc.from)
		}
	}
}

// TestRefusals is the table of what is refused: code, and words of the one line.
func TestRefusals(t *testing.T) {
	with := func(args ...string) []string { return append(append([]string{}, base...), args...) }
	for _, tc := range []struct {
		args  []string
		env   string
		code  ends.Code
		words string
	}{
		{with("--frams", "13"), "", ends.Usage, "unknown flag --frams; did you mean --frames?"},
		{with("--sample_step", "13"), "", ends.Usage, "did you mean --sample-steps?"},
		{with("--xyzzyqwert"), "", ends.Usage, "unknown flag --xyzzyqwert; see --help"},
		{with("-steps", "3"), "", ends.Usage, "did you mean --steps?"},
		{with("-z"), "", ends.Usage, "unknown flag -z"},
		{with("--steps"), "", ends.Usage, "--steps needs a value: N"},
		{with("--offload_model"), "", ends.Usage, "--offload-model needs a value: True|False"},
		{with("--t5_cpu", "True"), "", ends.Usage, `unexpected argument "True"|--t5-cpu=true`},
		{[]string{"in.jpg"}, "", ends.Usage, "--image"},
		{with("--offload_model", "maybe"), "", ends.Usage, "neither True nor False"},
		{with("--frames", "80"), "", ends.Usage, "--frames: |nearest are 77 and 81"},
		{with("--frames", "0"), "", ends.Usage, "nearest is 1"},
		{with("--frames", "-1"), "", ends.Usage, "nearest is 1"},
		{with("--frames", "1000000000"), "", ends.Usage, "nearest is 4093"},
		{with("--frames", "99999999999999999999"), "", ends.Usage, "nearest is 4093"},
		{with("--frames", "8.5"), "", ends.Usage, "not a whole number"},
		{with("--size", "831*480"), "", ends.Usage, "nearest is 832*480"},
		{with("--size", "big"), "", ends.Usage, "WIDTH*HEIGHT"},
		{with("--steps", "0"), "", ends.Usage, "nearest is 1"},
		{with("--shift", "0"), "", ends.Usage, "nearest is 0.0001"},
		{with("--shift", "NaN"), "", ends.Usage, "not a number"},
		{with("--shift", "1e4", "--steps", "9999"), "", ends.Usage, "--shift, --steps|nearest shift"},
		{with("--guide-scale", "Inf"), "", ends.Usage, "nearest is 100"},
		{with("--guide-scale", "1e999"), "", ends.Usage, "nearest is 100"},
		{with("--seed", "18446744073709551616"), "", ends.Usage, "nearest is 9223372036854775807"},
		{with("--seed", "x"), "", ends.Usage, "whole number"},
		{with("--max-area", "3"), "", ends.Usage, "nearest is 256"},
		{with("--max-area", "4096", "--size", "832*480"), "", ends.Usage, "--max-area: 4096|give one of them"},
		{with("--fps", "0"), "", ends.Usage, "nearest is 1"},
		{with("--solver", "unipcc"), "", ends.Usage, "did you mean unipc?"},
		{with("--device", "cdua"), "", ends.Usage, "did you mean cuda?"},
		{with("--noise-rng", "torch"), "", ends.Usage, "torch-cpu"},
		{with("--task", "i2v-14"), "", ends.Usage, "did you mean i2v-14B?"},
		{with("--threads", "-2"), "", ends.Usage, "nearest is 0"},
		{with("--grace", "soon"), "", ends.Usage, "10s"},
		{with("--grace", "-1s"), "", ends.Usage, "nearest is 0s"},
		{with("--frames", "80"), "WANRUN_STEPS=0", ends.Usage, "--frames|81"},
		{base, "WANRUN_STEPS=0", ends.Usage, "WANRUN_STEPS: |nearest is 1"},
		{base, "WANRUN_CONFIG=none.yaml", ends.Usage, "WANRUN_CONFIG: |none.yaml"},

		{with("--nproc", "0"), "", ends.Usage, "nearest is 1"},
		{with("--nproc", "1025"), "", ends.Usage, "nearest is 1024"},
		{with("--nproc", "1e3"), "", ends.Usage, "not a whole number"},
		{with("--cfg-parallel", "3"), "", ends.Usage, "--cfg-parallel: 3, want 1 to 2; nearest is 2"},
		{with("--ulysses", "41"), "", ends.Usage, "--ulysses 41: 40 heads cannot be shared by 41 ranks|40"},
		{with("--ulysses", "32", "--ring", "64"), "", ends.Usage, "2048 ranks, want at most 1024"},
		{with("--nproc", "8", "--ulysses", "3"), "", ends.Usage, "--ulysses 3: 3 ranks, not --nproc 8|nearest: --ulysses 2 or 4, or --nproc 3"},
		{with("--nproc", "8", "--ulysses_size", "4", "--ring_size", "4"), "", ends.Usage, "16 ranks, not --nproc 8|--ulysses 2, or --ring 2, or --nproc 16"},
		{with("--nproc", "8", "--ulysses", "2", "--ring", "2", "--cfg-parallel", "1"), "", ends.Usage, "nearest: --ulysses 4, or --ring 4, or --cfg-parallel 2, or --nproc 4"},
		{with("--nproc", "8", "--ulysses", "1", "--ring", "1"), "", ends.Usage, "1 ranks, not --nproc 8, and the degrees left out cannot"},
		{with("--nproc", "1", "--ulysses", "8"), "", ends.Usage, "8 ranks, not --nproc 1|--ulysses 1, or --nproc 8"},
		{with("--offload", "dit=cloud"), "", ends.Usage, `--offload: "cloud" is not known; one of device, host, file`},
		{with("--offload", "host"), "", ends.Usage, "want dit=device"},
		{with("--offload", "t5=host"), "", ends.Usage, "want dit=device"},
		{with("--nproc", "8", "--dit-fsdp", "--fsdp-size", "3"), "", ends.Usage, "--fsdp-size: groups of 3 do not divide 8 ranks; nearest: 2 or 4"},
		{with("--nproc", "8", "--dit-fsdp", "--fsdp-size", "16"), "", ends.Usage, "groups of 16 do not divide 8 ranks; nearest: 8"},
		{with("--nproc", "8", "--dit-fsdp", "--fsdp-size", "-1"), "", ends.Usage, "groups of -1 do not divide 8 ranks; nearest: 1"},
		{with("--cfg-batch", "perhaps"), "", ends.Usage, "--cfg-batch: "},
		{[]string{"--ckpt-dir", "flf", "--first-frame", "a", "--last-frame", "b", "--prompt", "p", "--nproc", "2"}, "", ends.BadInput, "config.json does not say num_heads"},
		{with("--device", "cuda"), "", ends.Usage, "this build runs on the CPU"},
		{with("--use_prompt_extend"), "", ends.Usage, "prompts are used as they are"},
		{with("--src_video", "v.mp4"), "", ends.Usage, "VACE is not supported"},

		{[]string{"--ckpt-dir", "i2v", "--image", "a"}, "", ends.Usage, "--prompt is missing"},
		{[]string{"--ckpt-dir", "i2v", "--prompt", "p"}, "", ends.Usage, "needs a picture: --image"},
		{[]string{"--ckpt-dir", "t2v", "--prompt", "p", "--image", "a"}, "", ends.BadInput, "this is a t2v checkpoint, you asked for i2v"},
		{[]string{"--ckpt-dir", "flf", "--prompt", "p", "--first-frame", "a"}, "", ends.Usage, "--last-frame is missing"},
		{[]string{"--ckpt-dir", "vace", "--prompt", "p"}, "", ends.Usage, `model type "vace" cannot be run`},
		{[]string{"--ckpt-dir", "t2v", "--prompt", "p", "--max-area", "4096"}, "", ends.Usage, "follows no picture; give --size"},
		{[]string{"--ckpt-dir", "t2v", "--prompt", "p", "--task", "t2i-14B", "--frames", "81"}, "", ends.Usage, "nearest is 1"},
		{[]string{"--task", "t2v-14B", "--prompt", "p"}, "", ends.Usage, "the built-in demo model|i2v checkpoint"},
		{[]string{"--first-frame", "a", "--last-frame", "b"}, "", ends.Usage, "the built-in demo model"},
		{with("--image", ""), "", ends.Usage, "empty file name"},
		{with("--image", "a\xff.jpg"), "", ends.Usage, "not UTF-8"},
		{[]string{"--ckpt-dir", "nowhere", "--prompt", "p"}, "", ends.BadInput, "has no config.json"},
		{[]string{"--ckpt-dir", "broken", "--prompt", "p"}, "", ends.BadInput, "config.json"},
		{[]string{"--ckpt-dir", "badspec", "--prompt", "p"}, "", ends.BadInput, "model_spec.json|nearest are 9 and 13"},
		{with("--prompt", "a\xffb"), "", ends.BadInput, `byte 0xff at 1, after "a"`},
		{with("--prompt", strings.Repeat("a", MaxPromptBytes+1)), "", ends.BadInput, "1048577 bytes"},
		{with("--negative-prompt", "\xc0"), "", ends.BadInput, "--negative-prompt: "},

		{with("--output", "x.avi"), "", ends.Usage, "must end in .mp4"},
		{with("--output", "x"), "", ends.Usage, "must end in .mp4"},
		{with("--output", "x.png"), "", ends.Usage, "a .png holds one frame, not 81"},
		{with("--contact-sheet", "x.jpg"), "", ends.Usage, "must end in .png"},
		{with("--dump", "x.bin"), "", ends.Usage, "must end in .safetensors"},
		{with("--output", "a.png", "--frames", "1", "--contact-sheet", "./a.png"), "", ends.Usage, "one file"},
		{with("--image", "a.png", "--contact-sheet", "a.png"), "", ends.Usage, "one file"},
		{with("--output", "taken.mp4"), "", ends.OutputLost, `"taken.mp4" exists; give another name, or --overwrite`},
		{with("--report", "taken.json"), "", ends.OutputLost, "exists"},
	} {
		var env []string
		if tc.env != "" {
			env = []string{tc.env}
		}
		_, err := resolve(t, env, tc.args...)
		name := fmt.Sprintf("%.100q %s", tc.args[min(len(tc.args), 6):], tc.env)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if code := ends.CodeOf(err); code != tc.code {
			t.Errorf("%s: code %d, want %d (%v)", name, code, tc.code, err)
		}
		for _, w := range strings.Split(tc.words, "|") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q lacks %q", name, err, w)
			}
		}
		if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 600 {
			t.Errorf("%s: not one line: %q", name, err)
		}
	}
}

func TestAcceptedOddities(t *testing.T) {
	for _, args := range [][]string{
		{"--prompt", ""}, {"--prompt", "🎈🎈"}, {"--prompt", "שלום"}, {"--prompt", "a\x1b[31mb\n\x00"}, {"--prompt", strings.Repeat("a", MaxPromptBytes)},
		{"--output", "taken.mp4", "--overwrite"}, {"--output", "taken.mp4", "--explain"}, {"--output", "X.MP4"},
		{"--frames", "1", "--output", "x.png"}, {"--offload_model", "False"}, {"--prompt-extend-method", "local_qwen"},
		{"--use_prompt_extend=false"}, {"--shift", "1e0"}, {"--device", "CPU"}, {"--task", "I2V-14b"}, {"--seed", "-9223372036854775808"},
	} {
		if _, err := resolve(t, nil, append(append([]string{}, base...), args...)...); err != nil {
			t.Errorf("%.60q: %v", args, err)
		}
	}
}

// TestReportSurvives: where a report is to go is known although another setting is wrong.
func TestReportSurvives(t *testing.T) {
	s, err := resolve(t, nil, append(append([]string{}, base...), "--report", "r.json", "--frames", "80")...)
	if err == nil || s.Report != "r.json" {
		t.Errorf("report %q, error %v", s.Report, err)
	}
}

func TestNotices(t *testing.T) {
	for _, tc := range []struct {
		env   []string
		args  []string
		words string
	}{
		{nil, []string{"--image", "a"}, `no --ckpt-dir: the built-in demo model runs, with the prompt "the red ball moves right"`},
		{nil, nil, "on its own picture, with the prompt"},
		{nil, append(base, "--t5_cpu"), "--t5-cpu: all runs on the CPU here"},
		{nil, append(base, "--dit_fsdp"), "--dit-fsdp: for several ranks, without effect on one"},
		{nil, append(base, "--offload", "dit=file", "--compat-padding"), "--compat-padding: for several ranks"},
		{nil, append(base, "--offload_model", "False"), "--offload-model: "},
		{[]string{"WANRUN_STPES=3", "WANRUN_TOKEN=x", "WANRUN_LOG_LEVEL=debug"}, base, "WANRUN_STPES is not a setting; did you mean WANRUN_STEPS?"},
	} {
		s, err := resolve(t, tc.env, tc.args...)
		if err != nil || len(s.Notices) != 1 || !strings.Contains(s.Notices[0], tc.words) {
			t.Errorf("%v: notices %q (%v), want one with %q", tc.args, s.Notices, err, tc.words)
		}
	}
}

// TestEveryRowSettled sees that no flag is accepted and then forgotten.
func TestEveryRowSettled(t *testing.T) {
	s, err := resolve(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	settled := values(s)
	for _, f := range Flags() {
		if _, ok := settled[f.Name]; !ok && !f.Local && f.Group != groupElse {
			t.Errorf("--%s has no value in --explain", f.Name)
		}
	}
	if s.Image != "demo:in.jpg" || s.Prompt == "" || len(s.Values) != len(settled) {
		t.Errorf("demo run: %+v", s)
	}
	if out := s.ExplainText(); !strings.Contains(out, "steps") || strings.Count(out, "\n") != len(s.Values)+2 || !strings.HasSuffix(out, "\nplan: one rank\n") {
		t.Errorf("explain prints\n%s", out)
	}
	var names []string
	for _, f := range Flags() {
		names = append(names, spellings([]Flag{f})...)
	}
	counts := map[string]int{}
	for _, n := range names {
		counts[n]++
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 1 })
	if len(counts) > 0 {
		t.Errorf("spellings used twice: %v", counts)
	}
}
