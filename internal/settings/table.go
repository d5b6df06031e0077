package settings

import (
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/task"
)

// Kind is what a flag's value looks like.
type Kind int

// The kinds of values.
const (
	Text   Kind = iota
	Number      // whole
	Real        // a decimal number
	Choice      // one of Flag.Choices
	Switch      // alone it means true; --name=false turns it off
	Bool        // wants its value spelled out: True or False
	File        // a path
	Folder      // a path of a folder
)

// Flag is one row of a command's table.
type Flag struct {
	Name    string   // with dashes
	Letter  string   // the one-letter form, or ""
	Other   []string // more spellings: the official ones and short ones
	Kind    Kind
	Value   string // what stands for the value in help; "" follows from Kind
	Choices []string
	Group   string
	Help    string
	// Local flags are for the command line alone: neither environment nor
	// configuration file set them.
	Local bool
	// Many flags may be repeated; each adds to Given.Many.
	Many bool
}

// TakesValue says that the flag is followed by a value.
func (f Flag) TakesValue() bool { return f.Kind != Switch }

// Placeholder is what stands for the value in help.
func (f Flag) Placeholder() string {
	switch {
	case f.Value != "":
		return f.Value
	case f.Kind == Number:
		return "N"
	case f.Kind == Real:
		return "X"
	case f.Kind == Choice:
		return strings.Join(f.Choices, "|")
	case f.Kind == Bool:
		return "True|False"
	case f.Kind == File:
		return "FILE"
	case f.Kind == Folder:
		return "DIR"
	case f.Kind == Text:
		return "TEXT"
	default:
		return ""
	}
}

// Env is the flag's environment variable.
func (f Flag) Env() string { return envName(f.Name) }

func envName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Groups of the table, in the order of the help text.
const (
	groupInput   = "What to make"
	groupVideo   = "Size and sampling"
	groupOutput  = "Output"
	groupMachine = "Ranks and machine"
	groupRun     = "This program"
	groupElse    = "Official flags without use here"
)

// Encoders that --encoder names.
func encoders() []string { return []string{"auto", "ffmpeg", "builtin"} }

// Flags returns the table of `wanrun generate`.
func Flags() []Flag {
	return slices.Concat(inputFlags(), videoFlags(), outputFlags(), machineFlags(), launchFlags(), []Flag{
		{Name: "worker", Kind: File, Group: groupRun, Help: "the wanworker program; by default the one beside wanrun, or in PATH"},
	}, programFlags(), elseFlags())
}

func inputFlags() []Flag {
	names := make([]string, 0, len(task.Names()))
	for _, n := range task.Names() {
		names = append(names, string(n))
	}
	return []Flag{
		{Name: "prompt", Value: "TEXT", Group: groupInput, Help: "what shall happen, in any language"},
		{Name: "negative-prompt", Value: "TEXT", Group: groupInput,
			Help: "what shall not; empty means the checkpoint's or the task's own"},
		{Name: "image", Kind: File, Group: groupInput, Help: "the first frame (i2v): JPEG, PNG or WebP"},
		{Name: "first-frame", Kind: File, Group: groupInput, Help: "the first frame (flf2v)"},
		{Name: "last-frame", Kind: File, Group: groupInput, Help: "the last frame (flf2v)"},
		{Name: "ckpt-dir", Kind: Folder, Group: groupInput, Help: "a checkpoint in the official layout; without it the built-in demo model runs"},
		{Name: "task", Kind: Choice, Choices: names, Value: "TASK", Group: groupInput,
			Help: "follows from the pictures and the checkpoint if not given"},
		{Name: "exif-orient", Kind: Switch, Group: groupInput, Help: "turn pictures as their EXIF data says; the official code does not"},
		{Name: "compat", Kind: Switch, Group: groupInput, Help: "do what the official code does where that is plainly a fault (the crop of a last frame)"},
	}
}

func videoFlags() []Flag {
	return []Flag{
		{Name: "size", Value: "W*H", Group: groupVideo, Help: "sides are multiples of 16; with a picture only the area counts, and the picture gives the aspect"},
		{Name: "max-area", Kind: Number, Value: "PIXELS", Group: groupVideo, Help: "the area, for tasks that follow a picture; instead of --size"},
		{Name: "frames", Other: []string{"frame-num"}, Kind: Number, Group: groupVideo, Help: "4n+1 frames"},
		{Name: "fps", Kind: Number, Group: groupVideo, Help: "frames a second of the video"},
		{Name: "steps", Other: []string{"sample-steps"}, Kind: Number, Group: groupVideo, Help: "denoising steps"},
		{Name: "solver", Other: []string{"sample-solver"}, Kind: Choice, Choices: task.Solvers(), Group: groupVideo, Help: "the sampler"},
		{Name: "shift", Other: []string{"sample-shift"}, Kind: Real, Group: groupVideo, Help: "of the noise schedule"},
		{Name: "guide-scale", Other: []string{"sample-guide-scale"}, Kind: Real, Group: groupVideo, Help: "classifier-free guidance"},
		{Name: "seed", Other: []string{"base-seed"}, Kind: Number, Group: groupVideo, Help: "of the noise; negative draws one"},
		{Name: "noise-rng", Value: "RNG", Group: groupVideo,
			Help: "whose random numbers a seed means: torch-cuda (H100), torch-cuda:GPU or torch-cpu"},
	}
}

func outputFlags() []Flag {
	return []Flag{
		{Name: "output", Letter: "o", Other: []string{"save-file"}, Kind: File, Group: groupOutput,
			Help: ".mp4, or .png for a single frame; by default named for task, time and seed"},
		{Name: "overwrite", Kind: Switch, Group: groupOutput, Help: "replace files that exist; without it they are left alone and the run is refused"},
		{Name: "contact-sheet", Kind: File, Group: groupOutput, Help: "a PNG of all frames"},
		{Name: "encoder", Kind: Choice, Choices: encoders(), Group: groupOutput, Help: "who makes the .mp4"},
		{Name: "ffmpeg", Kind: File, Group: groupOutput, Help: "the ffmpeg program; by default the one in PATH"},
		{Name: "dump", Kind: File, Group: groupOutput, Help: "a .safetensors file of what the run computed, for comparisons"},
		{Name: "run-dir", Kind: Folder, Group: groupOutput,
			Help: "where the unfinished run is kept, to go on with; by default a hidden folder beside the output, removed when that is made"},
		{Name: "save-every", Kind: Number, Value: "STEPS", Group: groupOutput, Help: "how often; 0 keeps the run after the last step alone"},
		{Name: "keep-run-dir", Kind: Switch, Group: groupOutput, Help: "leave the folder there when the output is made, as one that --run-dir names is"},
		{Name: "report", Kind: File, Group: groupOutput, Help: "a JSON file on how the run went (docs/report.md), also when it failed"},
	}
}

func machineFlags() []Flag {
	return []Flag{
		{Name: "nproc", Other: []string{"nproc-per-node"}, Kind: Number, Group: groupMachine, Help: "ranks on this machine, a process each; by default what the degrees below need"},
		{Name: "ulysses", Other: []string{"ulysses-size"}, Kind: Number, Group: groupMachine, Help: "ranks that share a sequence by heads"},
		{Name: "ring", Other: []string{"ring-size"}, Kind: Number, Group: groupMachine, Help: "ranks that share a sequence in a ring"},
		{Name: "cfg-parallel", Kind: Choice, Choices: []string{"1", "2"}, Group: groupMachine,
			Help: "2 runs the two branches of guidance on two halves of the ranks"},
		{Name: "dit-fsdp", Kind: Switch, Group: groupMachine, Help: "shard the DiT's weights over the ranks"},
		{Name: "t5-fsdp", Kind: Switch, Group: groupMachine, Help: "shard T5's weights over the ranks"},
		{Name: "fsdp-size", Kind: Number, Group: groupMachine,
			Help: "shard weights within groups of so many ranks, each group with a copy of its own; 0 is one group of all"},
		{Name: "t5-cpu", Kind: Switch, Group: groupMachine, Help: "run T5 on the CPU"},
		{Name: "offload", Value: "dit=PLACE", Group: groupMachine,
			Help: "where the DiT's weights rest between uses: on the device, in host memory, once a machine, or in the file (device, host, file)"},
		{Name: "offload-model", Kind: Bool, Group: groupMachine, Help: "True on several ranks with --dit-fsdp is --offload dit=host"},
		{Name: "cfg-batch", Value: "auto|True|False", Group: groupMachine,
			Help: "run both branches of guidance together, so that weights are gathered once for both; False needs less memory; auto is True where it fits"},
		{Name: "compat-padding", Kind: Switch, Group: groupMachine, Help: "attend to the tokens that pad a sequence to the ranks, as the official code does"},
		{Name: "device", Kind: Choice, Choices: []string{"auto", "cpu", "cuda"}, Group: groupMachine, Help: "where to compute"},
		{Name: "dtype", Kind: Choice, Choices: []string{"auto", "fp32", "bf16", "fp16"}, Group: groupMachine,
			Help: "of weights and matrix products; auto is fp32 on a CPU"},
		{Name: "scan-weights", Kind: Switch, Group: groupMachine, Help: "look at every weight for NaN and infinity before the run"},
		{Name: "mem-limit", Value: "SIZE", Group: groupMachine, Help: "how much a rank may reserve, as in 8GiB; 0 is all there is"},
		{Name: "auto", Kind: Switch, Group: groupMachine,
			Help: "if the plan does not fit, change what is not given: ranks, sharding, where weights rest, dtype, then size and frames"},
		{Name: "no-refuse", Kind: Switch, Group: groupMachine, Help: "start although the plan says that it does not fit"},
		{Name: "threads", Kind: Number, Group: groupMachine, Help: "of a rank; 0 divides the processors among the ranks"},
	}
}

// programFlags are those of this program, whatever it starts.
func programFlags() []Flag {
	return []Flag{
		{Name: "config", Kind: File, Group: groupRun, Help: "a YAML file whose keys are these flags"},
		{Name: "explain", Kind: Switch, Group: groupRun, Local: true, Help: "print each setting and where it came from, and start nothing"},
		{Name: "dry-run", Kind: Switch, Group: groupRun, Local: true, Help: "print who would be started where, with which CPUs and variables, and start nothing"},
		{Name: "json", Kind: Switch, Group: groupRun, Local: true, Help: "with --dry-run: as JSON"},
		{Name: "log-format", Kind: Choice, Choices: []string{"auto", "plain", "json"}, Group: groupRun,
			Help: "of progress and log lines; auto draws a bar on a terminal"},
		{Name: "verbose", Letter: "v", Kind: Switch, Group: groupRun, Help: "log more"},
		{Name: "quiet", Letter: "q", Kind: Switch, Group: groupRun, Help: "print errors and the output's path alone"},
		{Name: "help", Letter: "h", Kind: Switch, Group: groupRun, Local: true, Help: "print this"},
	}
}

func elseFlags() []Flag {
	return []Flag{
		{Name: "use-prompt-extend", Kind: Switch, Group: groupElse, Help: "refused: prompts are used as they are"},
		{Name: "prompt-extend-method", Value: "NAME", Group: groupElse, Help: "ignored, with a notice"},
		{Name: "prompt-extend-model", Value: "NAME", Group: groupElse, Help: "ignored, with a notice"},
		{Name: "prompt-extend-target-lang", Value: "LANG", Group: groupElse, Help: "ignored, with a notice"},
		{Name: "src-video", Kind: File, Group: groupElse, Help: "refused: VACE is not supported"},
		{Name: "src-mask", Kind: File, Group: groupElse, Help: "refused: VACE is not supported"},
		{Name: "src-ref-images", Value: "FILES", Group: groupElse, Help: "refused: VACE is not supported"},
	}
}

// lookup finds a row by any of its spellings, in dashes.
func lookup(flags []Flag, name string) (Flag, bool) {
	for _, f := range flags {
		if f.Name == name || slices.Contains(f.Other, name) {
			return f, true
		}
	}
	return Flag{}, false
}

// spellings lists every name of every row.
func spellings(flags []Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(append(names, f.Name), f.Other...)
	}
	return names
}

// dashed is a name with underscores, as the official ones are, in our spelling.
func dashed(name string) string { return strings.ReplaceAll(name, "_", "-") }
