package plan

import "encoding/json"

// Request is what the worker is asked to plan, as JSON.
type Request struct {
	// Job is a wanrun.v1.Job as protobuf's JSON. Its picture may be missing: then width and
	// height are the size of one.
	Job json.RawMessage `json:"job"`
	// Official names the task whose official sizes count, where there is no checkpoint.
	Official string `json:"official,omitempty"`
	// Demo takes the built-in model.
	Demo bool `json:"demo,omitempty"`
	// Devices are what each rank runs on; none is this machine's processors.
	Devices []Device `json:"devices,omitempty"`
	Threads int      `json:"threads,omitempty"`
	// PerNode is how many ranks a node has.
	PerNode int    `json:"per_node"`
	Limits  Limits `json:"limits"`
	// Search asks for options, too: "" for none, "first" for the cheapest change if the job
	// does not fit, "all" for the best few.
	Search string   `json:"search,omitempty"`
	Fixed  []string `json:"fixed,omitempty"`
	// MaxRanks bounds those that a search may use.
	MaxRanks int `json:"max_ranks,omitempty"`
	Most     int `json:"most,omitempty"`
}

// Answer is what the worker says.
type Answer struct {
	Plan  *Plan  `json:"plan,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"` // of the error, as in package ends
}

// MaxRequest bounds a Request's JSON.
const MaxRequest = 8 << 20
