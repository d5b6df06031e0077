package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/noise"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/internal/task"
)

// ReadFile returns a file's contents; one of more than limit bytes is an error.
type ReadFile func(path string, limit int64) ([]byte, error)

// Demo is what there is to know of the built-in demo model.
type Demo struct {
	Config []byte // its config.json
	Spec   []byte // its model_spec.json
	Image  string // the name that stands for its picture
	Prompt string // used when none is given
}

// Inputs are all that Resolve looks at.
type Inputs struct {
	Args     []string // without the program's and the command's name
	Env      []string // as os.Environ
	ReadFile ReadFile
	Exists   func(path string) bool
	Now      time.Time    // names the output
	Random   func() int64 // draws a seed, >= 0
	// Processors are those that the ranks share; 0 leaves it to each of them to count.
	Processors int
	// Place finds out where this process stands; nil: it is alone.
	Place func(placement.Given) (placement.Placement, error)
	// Nodes is how many share the job, 0 and 1 this one alone; RanksPerNode is how many
	// ranks each of them has because somebody started them so, else 0.
	Nodes, RanksPerNode int
	// Planning settles a job that is not to run: prompt, pictures and checkpoint may be
	// missing, and it may be for devices that are not here. More are rows beside Flags.
	Planning bool
	More     []Flag
	Demo     Demo
}

// Resolve settles every setting. Errors have the class ends.Usage for flags and
// values, ends.BadInput for files and prompts, and ends.OutputLost for outputs that
// exist. With an error, what was settled until then is returned too: where a report
// is to go, for one.
func Resolve(in Inputs) (Settings, error) {
	r := &resolver{in: in, flags: slices.Concat(Flags(), in.More), given: map[string]Given{}}
	r.err = r.collect()
	// What decides how errors and help are shown comes first.
	r.s.Help = r.truth("help", false)
	if r.s.Help {
		return r.s, r.err
	}
	r.program()
	r.planning()
	r.model()
	r.inputs()
	r.video()
	r.machine()
	r.prompts()
	r.outputs()
	r.s.Values = r.inTableOrder()
	return r.s, r.err
}

// resolver settles one setting after the other; the first error sticks.
type resolver struct {
	in       Inputs
	flags    []Flag
	given    map[string]Given
	checkpt  model
	defaults task.Defaults
	spec     task.Defaults // those of the checkpoint alone
	s        Settings
	err      error

	gpus       int      // of a plan
	rest       bool     // what follows the flags belongs to another program
	positional []string // what did
}

// collect reads flags, environment and configuration file, and lays them over each other.
func (r *resolver) collect() error {
	args, err := parseArgs(r.flags, r.in.Args, r.rest)
	if err != nil {
		return err
	}
	r.given, r.positional = args.Given, args.Positional
	if !r.rest {
		if err := args.NoPositional(); err != nil {
			return err
		}
	}
	env, strange, err := readEnv(r.flags, r.in.Env)
	if err != nil {
		return err
	}
	r.s.Notices = append(r.s.Notices, strange...)
	r.given = layer(args.Given, env)
	path, ok := r.given["config"]
	if !ok {
		return nil
	}
	data, err := r.in.ReadFile(path.Text, MaxConfigBytes)
	if err != nil {
		return ends.As(ends.Usage, fmt.Errorf("%s: %w", path.From, err))
	}
	config, err := readConfig(r.flags, path.Text, data)
	if err != nil {
		return ends.As(ends.Usage, err)
	}
	r.given = layer(r.given, config)
	return nil
}

func (r *resolver) fail(code ends.Code, err error) {
	if r.err == nil {
		r.err = ends.As(code, err)
	}
}

func (r *resolver) failAt(g Given, err error) {
	r.fail(ends.Usage, fmt.Errorf("%s: %w", g.From, err))
}

func (r *resolver) notice(format string, args ...any) {
	r.s.Notices = append(r.s.Notices, fmt.Sprintf(format, args...))
}

// record keeps a settled value; a later one of the same name replaces it.
func (r *resolver) record(name, text, from string) {
	v := Value{name, text, from}
	if i := slices.IndexFunc(r.s.Values, func(v Value) bool { return v.Name == name }); i >= 0 {
		r.s.Values[i] = v
		return
	}
	r.s.Values = append(r.s.Values, v)
}

// text settles a free text; check may be nil.
func (r *resolver) text(name, def, defFrom string, check func(string) error) string {
	value, from := def, defFrom
	if g, ok := r.given[name]; ok {
		value, from = g.Text, g.From
		if check != nil {
			if err := check(g.Text); err != nil {
				r.failAt(g, err)
			}
		}
	}
	r.record(name, value, from)
	return value
}

// path settles a file's name. It travels as text, so that it must be UTF-8.
func (r *resolver) path(name string) string {
	return r.text(name, "", "not given", func(s string) error {
		switch {
		case s == "":
			return errors.New("an empty file name")
		case !utf8.ValidString(s):
			return fmt.Errorf("file name %q is not UTF-8; rename the file", s)
		case slices.Contains([]byte(s), 0):
			return fmt.Errorf("file name %q has a zero byte", s)
		}
		return nil
	})
}

func (r *resolver) truth(name string, def bool) bool {
	value, from := def, "default"
	if g, ok := r.given[name]; ok {
		b, err := parseBool(g.Text)
		if err != nil {
			r.failAt(g, err)
		}
		value, from = b, g.From
	}
	r.record(name, strconv.FormatBool(value), from)
	return value
}

func (r *resolver) choice(name, def, defFrom string) string {
	f, _ := lookup(r.flags, name)
	value, from := def, defFrom
	if g, ok := r.given[name]; ok {
		c, err := parseChoice(g.Text, f.Choices)
		if err != nil {
			r.failAt(g, err)
		}
		value, from = c, g.From
	}
	r.record(name, value, from)
	return value
}

func (r *resolver) number(name string, def int, defFrom string, check func(int) error) int {
	value, from := def, defFrom
	if g, ok := r.given[name]; ok {
		n, err := parseInt(g.Text)
		if err == nil {
			err = check(n)
		}
		if err != nil {
			r.failAt(g, err)
		}
		value, from = n, g.From
	}
	r.record(name, strconv.Itoa(value), from)
	return value
}

func (r *resolver) real(name string, def float64, defFrom string, check func(float64) error) float64 {
	value, from := def, defFrom
	if g, ok := r.given[name]; ok {
		x, err := parseReal(g.Text)
		if err == nil {
			err = check(x)
		}
		if err != nil {
			r.failAt(g, err)
		}
		value, from = x, g.From
	}
	r.record(name, strconv.FormatFloat(value, 'g', -1, 64), from)
	return value
}

// inTableOrder sorts the settled values as the table is.
func (r *resolver) inTableOrder() []Value {
	index := map[string]int{}
	for i, f := range r.flags {
		index[f.Name] = i
	}
	values := slices.Clone(r.s.Values)
	slices.SortStableFunc(values, func(a, b Value) int { return index[a.Name] - index[b.Name] })
	return slices.DeleteFunc(values, func(v Value) bool {
		f, _ := lookup(r.flags, v.Name)
		return f.Local
	})
}

// program settles what concerns the launcher itself.
func (r *resolver) program() {
	r.s.Explain = r.truth("explain", false)
	r.s.LogFormat = r.choice("log-format", "auto", "default")
	r.s.Verbose = r.truth("verbose", false)
	r.s.Quiet = r.truth("quiet", false)
	r.path("config")
	r.s.Worker = r.path("worker")
	r.s.Report = r.path("report")
	r.s.Overwrite = r.truth("overwrite", false)
	r.launch()
}

// model reads what the checkpoint says of itself.
func (r *resolver) model() {
	r.s.CkptDir = r.path("ckpt-dir")
	if r.err != nil {
		return
	}
	if r.s.Official {
		r.checkpt = officialModel(r.given["task"].Text)
		return
	}
	m, err := readModel(r.in, r.s.CkptDir)
	if err != nil {
		r.fail(ends.BadInput, err)
		return
	}
	r.checkpt, r.spec = m, m.defaults
}

// inputs settles the pictures and the task, which follow from each other.
func (r *resolver) inputs() {
	image, first, last := r.path("image"), r.path("first-frame"), r.path("last-frame")
	r.s.ExifOrient = r.truth("exif-orient", false)
	r.s.Compat = r.truth("compat", false)
	demo := r.s.CkptDir == "" && !r.s.Official
	if demo && image == "" && first == "" && last == "" && r.wantsPicture() {
		image = r.in.Demo.Image
		r.record("image", image, "the demo model")
	}
	r.vace()
	if r.err != nil {
		return
	}
	var err error
	if g, ok := r.given["task"]; ok {
		if r.s.Task, err = task.Parse(g.Text); err != nil {
			r.failAt(g, fmt.Errorf("%w%s", err, Suggest("%s", g.Text, r.choices("task"))))
			return
		}
		r.record("task", string(r.s.Task), g.From)
		image, first, last := r.planned(image, first, last)
		err = r.s.Task.CheckInputs(image != "", first != "", last != "", r.checkpt.modelType)
	} else {
		frames := 0
		if g, ok := r.given["frames"]; ok {
			frames, _ = parseInt(g.Text) // an error is told where frames are settled
		}
		planned := image
		if r.in.Planning && image == "" && r.checkpt.modelType == task.KindI2V {
			planned = unnamed
		}
		r.s.Task, err = task.Infer(planned != "", first != "", last != "", frames, r.checkpt.modelType)
		r.s.Task = r.s.Task.WithDim(r.checkpt.dim)
		r.record("task", string(r.s.Task), r.taskOrigin(image, first, last))
	}
	if err != nil {
		if demo {
			err = fmt.Errorf("the built-in demo model, which runs without --ckpt-dir: %w", err)
		}
		code := ends.Usage
		if errors.Is(err, task.ErrOtherModel) && !demo {
			code = ends.BadInput
		}
		r.fail(code, err)
		return
	}
	r.s.Image, r.s.LastImage = image, last
	if r.s.Task.Kind() == task.KindFLF2V {
		r.s.Image = first
	}
}

// wantsPicture says that nothing but the demo's own picture is missing: no task
// without one was asked for.
func (r *resolver) wantsPicture() bool {
	g, ok := r.given["task"]
	if !ok {
		return true
	}
	name, err := task.Parse(g.Text)
	return err == nil && name.Kind() == task.KindI2V
}

func (r *resolver) taskOrigin(image, first, last string) string {
	switch {
	case first != "" || last != "":
		return "follows from --first-frame and --last-frame"
	case image != "":
		return "follows from --image"
	case r.checkpt.modelType != "":
		return "follows from the checkpoint"
	default:
		return "follows from the inputs"
	}
}

func (r *resolver) choices(name string) []string {
	f, _ := lookup(r.flags, name)
	return f.Choices
}

// vace refuses the official flags of a model that is not supported, and prompt extension.
func (r *resolver) vace() {
	for _, name := range []string{"src-video", "src-mask", "src-ref-images"} {
		if g, ok := r.given[name]; ok {
			r.failAt(g, errors.New("VACE is not supported; tasks are i2v, t2v, t2i and flf2v"))
		}
	}
	if g, ok := r.given["use-prompt-extend"]; ok && r.truth("use-prompt-extend", false) {
		r.failAt(g, errors.New("prompts are used as they are, no language model rewrites them; write the long prompt yourself"))
	}
	for _, name := range []string{"prompt-extend-method", "prompt-extend-model", "prompt-extend-target-lang"} {
		if g, ok := r.given[name]; ok {
			r.notice("%s does nothing: prompts are not extended", g.From)
		}
	}
}

// video settles size and sampling from what was given, the checkpoint, and the task.
func (r *resolver) video() {
	if r.err != nil {
		return // the defaults follow from the task
	}
	area := r.size()
	r.defaults = r.spec.Over(task.Official(r.s.Task, area))
	if r.s.Task.Kind() == task.KindT2I {
		one := 1
		r.defaults.FrameNum, r.spec.FrameNum = &one, nil
	}
	d, from := r.defaults, r.defaultFrom
	r.s.Frames = r.number("frames", *d.FrameNum, from(r.spec.FrameNum != nil), r.s.Task.CheckFrames)
	r.s.FPS = r.number("fps", *d.FPS, from(r.spec.FPS != nil), task.CheckFPS)
	r.s.Steps = r.number("steps", *d.Steps, from(r.spec.Steps != nil), task.CheckSteps)
	r.s.Solver = r.choice("solver", *d.Solver, from(r.spec.Solver != nil))
	r.s.Shift = r.real("shift", *d.Shift, from(r.spec.Shift != nil), task.CheckShift)
	r.s.Guide = r.real("guide-scale", *d.GuideScale, from(r.spec.GuideScale != nil), task.CheckGuide)
	if r.err == nil {
		if err := sampler.Check(r.s.Solver, r.s.Steps, r.s.Shift); err != nil {
			r.fail(ends.Usage, fmt.Errorf("--shift, --steps: %w", err))
		}
	}
	r.seed()
	r.s.Noise = r.text("noise-rng", "torch-cuda", "default", func(s string) error {
		_, err := noise.ParseKind(s)
		return err
	})
	if kind, err := noise.ParseKind(r.s.Noise); err == nil {
		r.s.Noise = kind.String()
	}
}

func (r *resolver) defaultFrom(ofCheckpoint bool) string {
	if ofCheckpoint {
		return r.checkpt.from
	}
	return "default of " + string(r.s.Task)
}

func (r *resolver) seed() {
	g, ok := r.given["seed"]
	if !ok {
		g = Given{Text: "-1", From: "default"}
	}
	seed, err := task.ParseSeed(g.Text)
	if err != nil {
		r.failAt(g, err)
		return
	}
	from := g.From
	if seed < 0 {
		seed, from = r.in.Random(), "drawn, as "+g.From+" says"
		if !ok {
			from = "drawn"
		}
	}
	r.s.Seed = seed
	r.record("seed", strconv.FormatInt(seed, 10), from)
}
