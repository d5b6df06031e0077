package plan

// Schema names the form of a Plan's JSON.
const Schema = "wanrun-plan/1"

// Plan is what a run will take.
type Plan struct {
	Schema string `json:"schema"`
	Task   string `json:"task"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Frames int    `json:"frames"`
	Steps  int    `json:"steps"`
	DType  string `json:"dtype"`
	// Sizes says where sizes come from: "headers" of the checkpoint, its "config", or the
	// "official" ones.
	Sizes string `json:"sizes"`
	// DeviceIsHost says that a rank's device memory is the host's, as on a CPU.
	DeviceIsHost bool     `json:"device_is_host"`
	Devices      []Device `json:"devices"` // of each rank
	Ranks        []Rank   `json:"ranks"`
	Nodes        []Node   `json:"nodes"`
	// Seconds is how long the slowest rank of each phase is estimated to take, in sum.
	Seconds  float64  `json:"seconds"`
	Branches string   `json:"cfg_branches,omitempty"`
	Fits     bool     `json:"fits"`
	Verdict  string   `json:"verdict"` // in a line
	Short    []Short  `json:"short,omitempty"`
	Remedies []Option `json:"remedies,omitempty"` // what would fit, the cheapest change first
}

// Rank is one rank's part.
type Rank struct {
	Rank int `json:"rank"`
	Node int `json:"node"`
	// DeviceReservedBytes are reserved for the whole run: the most of each purpose. It is
	// exact, and LibraryBytes is not: what driver and libraries take beside it.
	DeviceReservedBytes int64   `json:"device_reserved_bytes"`
	LibraryBytes        int64   `json:"library_bytes"`
	Phases              []Phase `json:"phases"`
}

// Phase is what a rank takes and does in a phase.
type Phase struct {
	Name string `json:"name"`
	// DevicePeakBytes are the most bytes in use at once of all purposes, library workspace
	// among them.
	DevicePeakBytes int64            `json:"device_peak_bytes"`
	DeviceBytes     map[string]int64 `json:"device_bytes"`
	// HostAnonymousBytes are the process's own beside the device bytes: its base, and at
	// most twice its live arrays, as garbage is collected then.
	HostAnonymousBytes int64 `json:"host_anonymous_bytes"`
	// HostSharedBytes are weights in memory that the node's ranks share; one of them counts it.
	HostSharedBytes int64 `json:"host_shared_bytes"`
	// HostFileBytes are of mapped files, all ranks together: cache, which the kernel can drop.
	HostFileBytes int64        `json:"host_file_bytes"`
	FLOPs         int64        `json:"flops"`
	Work          Work         `json:"work"`
	Collectives   []Collective `json:"collectives,omitempty"`
	Seconds       float64      `json:"seconds"`
}

// Work divides what a phase does by what bounds it.
type Work struct {
	MatMulFLOPs    int64 `json:"matmul_flops"`
	AttentionFLOPs int64 `json:"attention_flops"`
	ConvFLOPs      int64 `json:"conv_flops"`
	OtherFLOPs     int64 `json:"other_flops"`
	MemoryBytes    int64 `json:"memory_bytes"` // read and written, every operand once
	// Weights, as they are used, from files and from host memory.
	FromFileBytes int64 `json:"from_file_bytes"`
	FromHostBytes int64 `json:"from_host_bytes"`
}

// Collective is what a rank's collectives of one kind and purpose move.
type Collective struct {
	Op            string `json:"op"`
	Purpose       string `json:"purpose"`
	Calls         int64  `json:"calls"`
	SentBytes     int64  `json:"sent_bytes"`
	ReceivedBytes int64  `json:"received_bytes"`
}

// Node is what the ranks of a node take of its host memory.
type Node struct {
	Node               int   `json:"node"`
	Ranks              int   `json:"ranks"`
	HostAnonymousBytes int64 `json:"host_anonymous_bytes"`
	HostSharedBytes    int64 `json:"host_shared_bytes"`
	HostFileBytes      int64 `json:"host_file_bytes"`
	DeviceBytes        int64 `json:"device_bytes"` // where the device's memory is the host's
}

// Needs are the bytes that cannot be dropped.
func (n Node) Needs() int64 { return n.HostAnonymousBytes + n.HostSharedBytes + n.DeviceBytes }

// Short is something of which there is not enough.
type Short struct {
	What  string `json:"what"`
	Needs int64  `json:"needs_bytes"`
	Has   int64  `json:"has_bytes"`
	By    string `json:"by"`   // what sets the limit
	Help  string `json:"help"` // what changes it
}

// Limits are what there is; 0 is unknown.
type Limits struct {
	HostBytes int64  `json:"host_bytes,omitempty"` // of each node
	HostBy    string `json:"host_by,omitempty"`
	ShmBytes  int64  `json:"shm_bytes,omitempty"` // /dev/shm
	// LockedBytes is how much a process may lock, -1 without limit.
	LockedBytes int64 `json:"locked_bytes,omitempty"`
	// ArenaBytes bounds what a rank reserves.
	ArenaBytes int64 `json:"arena_bytes,omitempty"`
}
