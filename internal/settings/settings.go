// Package settings turns a command line, the environment, a configuration file and
// a checkpoint's own defaults into one resolved set of settings, and says
// where each of them came from.
//
// Every setting is one row of the table in table.go; the flags, environment
// variables, configuration keys, help text, documentation and shell completion all
// follow from it. A setting comes from the first of: flag, environment,
// configuration file, the checkpoint's model_spec.json, the task's official default.
package settings

import "github.com/wanrun/wanrun/internal/task"

// Settings are those of one run, checked, with nothing left to default.
type Settings struct {
	Task     task.Name
	CkptDir  string // "" is the built-in demo model
	Prompt   string
	Negative string // never empty: the official code has no run without one

	Image     string // first frame; "" if the task has none
	LastImage string // last frame (flf2v)

	Size    task.Size // for tasks without a picture; else zero
	MaxArea int       // pixels, for tasks that follow a picture; else 0
	Frames  int       // 4n+1
	FPS     int
	Steps   int
	Solver  string
	Shift   float64
	Guide   float64
	Seed    int64 // >= 0
	Noise   string

	ExifOrient bool
	Compat     bool

	DType   string // fp32, bf16 or fp16
	Device  string // cpu
	Threads int    // of a rank; 0: the worker counts its processors

	// World ranks, Nproc on each node, are CFG x Ring x Ulysses.
	World, Nproc, CFG, Ring, Ulysses int
	DiTFSDP, T5FSDP                  bool   // weights are sharded over the ranks
	FSDPSize                         int    // over groups of so many, a divisor of World
	OffloadDiT                       string // where the DiT's weights rest: OnDevice, OnHost or InFile
	CompatPadding                    bool
	CFGBranches                      string // how the branches of guidance run: Auto, Together or Apart

	ScanWeights bool
	MemLimit    int64 // bytes that a rank may reserve; 0: no limit
	NoRefuse    bool  // start although the plan says that it does not fit
	Auto        bool  // change what the user has not fixed, so that it fits

	// What a plan is for: GPU "" is this machine's processors, HostMemory 0 unknown.
	GPU        string
	HostMemory int64
	Official   bool            // sizes of the official checkpoint of the task
	More       map[string]bool // switches of Inputs.More
	Fixed      []string        // names of the rows that somebody has given a value

	Output       string
	Overwrite    bool
	RunDir       string // where the unfinished run is kept
	SaveEvery    int    // after so many steps; 0: after the last alone
	KeepRunDir   bool
	ContactSheet string // "" for none, as for the next two
	Dump         string
	Report       string
	Encoder      string
	FFmpeg       string // "" looks for it

	Launch    Launch
	Worker    string // wanworker's path; "" looks for it
	LogFormat string // auto, plain or json
	Verbose   bool
	Quiet     bool
	Explain   bool
	Help      bool

	// Notices tell the user, one line each, what a setting means or what was
	// assumed.
	Notices []string
	// Values are all settings in the order of the table.
	Values []Value
	// Plan says in a line how the ranks share the work, Why what that follows from,
	// "" for one rank.
	Plan, Why string

	meshChosen bool // some degree was left to us
}

// Value is one resolved setting and its origin.
type Value struct {
	Name string `json:"name"`
	Text string `json:"value"`
	From string `json:"from"`
}
