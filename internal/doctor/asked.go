package doctor

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// asked is what a log says was asked for, by the names of wanrun's flags.
type asked struct {
	values map[string]string
	nproc  int // ranks, 0: not known
	torch  bool
	ours   bool
}

// kept are the flags that a command line of wanrun's repeats, in its order.
var kept = []string{"task", "ckpt-dir", "size", "max-area", "frames", "image", "first-frame", "last-frame", "prompt", "negative-prompt",
	"steps", "solver", "shift", "guide-scale", "seed", "output", "nproc", "ulysses", "ring", "cfg-parallel", "dit-fsdp", "t5-fsdp",
	"offload", "dtype", "cfg-batch"}

// spelled are the official program's other names.
var spelled = map[string]string{"frame-num": "frames", "sample-steps": "steps", "sample-solver": "solver", "sample-shift": "shift",
	"sample-guide-scale": "guide-scale", "base-seed": "seed", "save-file": "output", "ulysses-size": "ulysses", "ring-size": "ring",
	"nproc-per-node": "nproc"}

// seen are flags that change what is said, but are not repeated.
var seen = []string{"t5-cpu", "offload-model"}

const maxArgument = 4096 // bytes of a value, as prompts are long

func (a *asked) set(name, value string) {
	name = strings.ReplaceAll(name, "_", "-")
	if s, ok := spelled[name]; ok {
		name = s
	}
	if !slices.Contains(kept, name) && !slices.Contains(seen, name) || len(value) > maxArgument {
		return
	}
	if value == "None" || value == "False" || value == "" {
		return
	}
	if a.values == nil {
		a.values = map[string]string{}
	}
	if name == "nproc" {
		if n := atoi(value); n > 0 && n <= 1<<16 {
			a.nproc = max(a.nproc, n)
		}
		return
	}
	a.values[name] = value
}

func (a asked) on(name string) bool {
	v := strings.ToLower(a.values[name])
	return v == "true" || v == "1"
}

func (a asked) number(name string) int { return atoi(a.values[name]) }

// ranks is how many there were.
func (a asked) ranks() int {
	return max(a.nproc, max(a.number("ulysses"), 1)*max(a.number("ring"), 1))
}

// namespace is what the official program logs: "Generation job args: Namespace(task='i2v-14B', …)".
var pair = regexp.MustCompile(`(\w{1,40})=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\w.+*/-]{1,256})`)

func (a *asked) follow(l line) {
	switch {
	case strings.Contains(l.lower, "job args: namespace("):
		a.torch = true
		for _, m := range pair.FindAllStringSubmatch(l.text[strings.Index(l.lower, "namespace("):], 64) {
			a.set(m[1], unquote(m[2]))
		}
	case strings.Contains(l.text, "generate.py ") && strings.Contains(l.text, " --"):
		a.torch = true
		a.words(l.text)
	case strings.Contains(l.text, "wanrun ") && strings.Contains(l.text, " --") && commandLike.MatchString(l.text):
		a.ours = true
		a.words(l.text)
	case strings.Contains(l.lower, "nproc_per_node"):
		if n := numberAfter(strings.NewReplacer("=", " ", ":", " ").Replace(l.lower), "nproc_per_node"); n > 0 && n <= 1<<16 {
			a.nproc = max(a.nproc, int(n))
		}
	}
}

// commandLike is a shell's echo of wanrun's command line.
var commandLike = regexp.MustCompile(`(?:^|[$#+>] ?|/|srun .{0,200})wanrun (?:generate )?--`)

func (a *asked) words(text string) {
	words := shellWords(text)
	for i, w := range words {
		name, ok := strings.CutPrefix(w, "--")
		if !ok {
			continue
		}
		name, value, has := strings.Cut(name, "=")
		if !has {
			if value = "True"; i+1 < len(words) && !strings.HasPrefix(words[i+1], "--") {
				value = words[i+1]
			}
		}
		a.set(name, value)
	}
}

// shellWords splits as a shell does, without expanding anything.
func shellWords(text string) []string {
	var words []string
	var b strings.Builder
	quote, open := byte(0), false
	for i := 0; i < len(text) && len(words) < 512; i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			open = true
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\t':
			if open {
				words, open = append(words, b.String()), false
				b.Reset()
			}
		default:
			b.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, b.String())
	}
	return words
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '\'' || s[0] == '"') {
		s = s[1 : len(s)-1]
		return strings.NewReplacer(`\'`, `'`, `\"`, `"`, `\\`, `\`, `\n`, " ").Replace(s)
	}
	return s
}

// command is the command line of wanrun for what was asked, with changes: a flag with an
// empty value is dropped.
func (a asked) command(changes map[string]string) string {
	values := map[string]string{}
	for name, v := range a.values {
		values[name] = v
	}
	delete(values, "offload-model") // the official one, which costs host memory, is not repeated
	delete(values, "t5-cpu")
	if v := values["seed"]; strings.HasPrefix(v, "-") {
		delete(values, "seed")
	}
	if a.values["solver"] == "unipc" {
		delete(values, "solver")
	}
	for name, v := range changes {
		if values[name] = v; v == "" {
			delete(values, name)
		}
	}
	if _, ok := values["ckpt-dir"]; !ok {
		values["ckpt-dir"] = "DIR"
	}
	task := values["task"]
	if strings.HasPrefix(task, "i2v") && values["image"] == "" {
		values["image"] = "in.jpg"
	}
	if values["ulysses"] == "1" {
		delete(values, "ulysses")
	}
	if values["ring"] == "1" {
		delete(values, "ring")
	}
	n := a.ranks()
	if v, ok := changes["nproc"]; ok {
		n = atoi(v)
	}
	delete(values, "nproc")
	if n > 1 {
		values["nproc"] = strconv.Itoa(n)
	}
	b := "wanrun"
	for _, name := range kept {
		v, ok := values[name]
		if !ok {
			continue
		}
		switch name {
		case "dit-fsdp", "t5-fsdp":
			if n > 1 {
				b += " --" + name
			}
		default:
			b += " --" + name + " " + shellQuote(v)
		}
	}
	return b
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellQuote writes a word so that a shell takes it as it is, and a terminal, too.
func shellQuote(s string) string {
	if plainWord.MatchString(s) && !strings.HasPrefix(s, "-") {
		return s
	}
	return "'" + strings.ReplaceAll(settings.Escape(s), "'", `'\''`) + "'"
}
