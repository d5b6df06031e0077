package jobs

import (
	"context"
	"time"
)

// Job is what a launcher lets others do. The methods may be called at the same time, and
// Status must not wait for a rank or a node.
type Job interface {
	Status() Status
	// Stop asks the job to end, as a first SIGTERM does. by is one printable line.
	Stop(by string)
	// Stacks writes the stacks of all ranks and returns the folder.
	Stacks(ctx context.Context) (folder string, err error)
}

// Schema changes when a reader of a Status has to.
const Schema = 1

// State is what a job does.
type State string

// The states.
const (
	Gathering  State = "gathering"  // nodes are still to come, or ranks to start
	Running    State = "running"    // all ranks were started
	Restarting State = "restarting" // an attempt failed, and another follows
	Ending     State = "ending"     // the ranks are being ended, or have ended
)

// Status is a job at one moment.
type Status struct {
	Schema      int       `json:"schema"`
	ID          string    `json:"id"`
	Name        string    `json:"name"` // for people; "" for none
	Pid         int       `json:"pid"`  // of the launcher
	State       State     `json:"state"`
	Attempt     int       `json:"attempt"`
	Restarts    int       `json:"restarts"`     // so far
	MaxRestarts int       `json:"max_restarts"` // of the job
	Started     time.Time `json:"started"`      // the launcher
	Now         time.Time `json:"now"`          // when this was taken
	// StartSeconds is the time from the launcher's start to the moment when all ranks of
	// the latest attempt ran; of a later attempt, from the end of the one before. null
	// until then.
	StartSeconds *float64 `json:"start_seconds"`
	// TeardownSeconds is the time from what ended the latest attempt to the end of its
	// last rank. null until then.
	TeardownSeconds *float64 `json:"teardown_seconds"`
	World           int      `json:"world"` // ranks, 0 until the nodes have met
	Nodes           []Node   `json:"nodes"`
	Ranks           []Rank   `json:"ranks"`   // of the latest attempt, by rank
	Command         []string `json:"command"` // without secrets
	LogDir          string   `json:"log_dir"` // "" if no log is written
	Exit            *Exit    `json:"exit"`    // null while the job goes on
}

// Node is one node of a job.
type Node struct {
	Node   int    `json:"node"`
	Name   string `json:"name"`
	Joined bool   `json:"joined"`
	// Age is the time since it was last heard of; null if it never was.
	Age *float64 `json:"heartbeat_age_seconds"`
}

// Rank is one rank. A field that nothing is known of is null or "".
type Rank struct {
	Rank  int       `json:"rank"`
	Node  int       `json:"node"`
	Local int       `json:"local"`
	Host  string    `json:"host"`
	Pid   int       `json:"pid"` // 0 if it was not started
	State RankState `json:"state"`
	Where string    `json:"where"` // phase and step, or what the kernel says that it waits for
	// Ready is that it works: one of our workers has loaded what it needs for its first
	// phase and says so; another program was started.
	Ready bool `json:"ready"`
	// Age is the time since its last sign of life.
	Age     *float64 `json:"heartbeat_age_seconds"`
	RSS     *int64   `json:"rss_bytes"`
	RSSPeak *int64   `json:"rss_peak_bytes"`
	CPU     *float64 `json:"cpu_seconds"`
	Proc    string   `json:"proc_state"` // of /proc: R, S, D, T, Z
	// Arena is what is in use of the memory that the rank reserved, Reserved all of that.
	Arena     *int64 `json:"arena_bytes"`
	Reserved  *int64 `json:"reserved_bytes"`
	Anonymous *int64 `json:"rss_anonymous_bytes"`
	// GPU is what the rank's process has of its GPU's memory, GPUUsed what all processes
	// have.
	GPU        *int64 `json:"gpu_bytes"`
	GPUUsed    *int64 `json:"gpu_used_bytes"`
	GPUTotal   *int64 `json:"gpu_total_bytes"`
	GPUName    string `json:"gpu_name"`
	GPUUnknown string `json:"gpu_unknown"` // why nothing is known of a GPU
	// Phase, Done and Total are what Where says of a worker of ours, and ETA is how long the
	// phase will still take if the rest goes like what is done.
	Phase      string   `json:"phase"`
	Done       int32    `json:"done"`
	Total      int32    `json:"total"`
	ETA        *float64 `json:"eta_seconds"`
	LogBytes   int64    `json:"log_bytes"`   // lines so far, in all attempts
	LogDropped int64    `json:"log_dropped"` // lines that nobody took in time
	Code       *int     `json:"code"`        // its exit code once it has ended by itself
	Signal     *int     `json:"signal"`      // what killed it
}

// RankState is what a rank does.
type RankState string

// The states of a rank.
const (
	RankStarting RankState = "starting" // its process is being made
	RankUp       RankState = "up"       // its process runs
	RankFailing  RankState = "failing"  // it has said that it fails
	RankEnded    RankState = "ended"
	RankLost     RankState = "lost" // went with its node
)

// Exit is how a job ends.
type Exit struct {
	Code  int    `json:"code"`
	Class string `json:"class"`
	Text  string `json:"text"`
}

// Up returns how many ranks run, and how many of them are ready.
func (s Status) Up() (up, ready int) {
	for _, r := range s.Ranks {
		if r.State == RankUp {
			up++
			if r.Ready {
				ready++
			}
		}
	}
	return up, ready
}

// Ready is that all ranks of the world run and work.
func (s Status) Ready() bool {
	_, ready := s.Up()
	return s.State == Running && s.World > 0 && ready == s.World
}
