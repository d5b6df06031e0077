package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/settings"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// reportSchema changes when a reader of reports has to.
const reportSchema = 1

// File is a report as --report writes it; docs/report.md describes it.
type File struct {
	Schema   int                       `json:"schema"`
	Versions Versions                  `json:"versions"`
	Started  time.Time                 `json:"started"`
	Seconds  float64                   `json:"seconds"`
	Exit     Exit                      `json:"exit"`
	Output   *Output                   `json:"output"` // null if none was made
	Seed     int64                     `json:"seed"`
	Plan     Plan                      `json:"plan"`
	Bytes    Bytes                     `json:"bytes"` // the largest of any rank; of host weights the sum of all
	Ranks    []Rank                    `json:"ranks"`
	Settings map[string]settings.Value `json:"settings"`
	Notices  []string                  `json:"notices"`
	Command  []string                  `json:"command,omitempty"` // of any program
	Attempts []Attempt                 `json:"attempts"`          // each life of the group
	Place    Place                     `json:"placement"`
}

// Place is where the job ran, as its scheduler said.
type Place struct {
	Source   string     `json:"source"` // "slurm", "alone" and so on; "" if that was not found out
	JobID    string     `json:"job_id"` // "" if nobody gave one
	Nodes    int        `json:"nodes"`
	Restarts int        `json:"restarts"` // by the scheduler before this run, as Slurm's requeues
	End      *time.Time `json:"end"`      // the scheduler's time limit; null if none was said
}

func newPlace(p placement.Placement) Place {
	f := Place{Source: string(p.Source), JobID: p.JobID, Nodes: p.NumNodes, Restarts: p.Restarts}
	if !p.End.IsZero() {
		f.End = &p.End
	}
	return f
}

// Attempt is one life of the group of ranks.
type Attempt struct {
	Number  int       `json:"number"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Cause   string    `json:"cause"` // "" if it went well
	Kind    string    `json:"kind"`
	Rank    *int      `json:"rank"`  // that was the cause; null if none was
	Roles   []string  `json:"roles"` // of the ranks in its end
}

func newAttempt(a group.Attempt) Attempt {
	f := Attempt{Number: a.Number, Started: a.Started, Ended: a.Ended, Roles: []string{}}
	if a.Cause != nil {
		f.Cause, f.Kind = a.Cause.Text, string(a.Cause.Kind)
		if a.Cause.Rank >= 0 {
			f.Rank = &a.Cause.Rank
		}
	}
	for _, r := range a.Ranks {
		f.Roles = append(f.Roles, string(r.Role))
	}
	return f
}

// Versions say what made the report.
type Versions struct {
	Build string `json:"build"`
	Go    string `json:"go"`
	OS    string `json:"os"`
	Arch  string `json:"arch"`
}

// Exit is how the run ended.
type Exit struct {
	Code  int    `json:"code"`
	Class string `json:"class"`
	Error string `json:"error"`
	Phase string `json:"phase"`
	Rank  *int   `json:"rank"` // that failed first; null if none did
}

// Output is the file that was made.
type Output struct {
	Path         string `json:"path"`
	Bytes        int64  `json:"bytes"`
	Width        int32  `json:"width"`
	Height       int32  `json:"height"`
	Frames       int32  `json:"frames"`
	FPS          int    `json:"fps"`
	Encoder      string `json:"encoder"`
	ContactSheet string `json:"contact_sheet"`
	Dump         string `json:"dump"`
}

// Bytes are peaks: of device memory as planned and as used, of weights at rest in host
// memory, and of resident host memory, which holds what ranks share once in each of them.
type Bytes struct {
	Predicted     int64 `json:"device_predicted"`
	Used          int64 `json:"device_used"`
	HostPredicted int64 `json:"host_predicted"`
	HostUsed      int64 `json:"host_used"`
	RSSPeak       int64 `json:"rss_peak"`
}

// Rank is one worker.
type Rank struct {
	Rank    int     `json:"rank"`
	Pid     int     `json:"pid"`
	Ended   string  `json:"ended"`
	Error   string  `json:"error"` // that it reported, also if another's failure caused it
	Last    *Last   `json:"last"`  // null if it said nothing
	Backend string  `json:"backend"`
	Seconds float64 `json:"seconds"`
	Bytes   Bytes   `json:"bytes"`
	Phases  []Phase `json:"phases"`
	GPU     *GPU    `json:"gpu"` // null if nothing is known of one
}

// Last is the last that a rank said of its progress, Seconds after the run's start.
type Last struct {
	Phase   string  `json:"phase"`
	Done    int32   `json:"done"`
	Total   int32   `json:"total"`
	Seconds float64 `json:"seconds"`
}

// GPU is a rank's GPU as the driver sees it. null is unknown.
type GPU struct {
	Name     string   `json:"name"`
	UUID     string   `json:"uuid"`
	PCI      string   `json:"pci"`
	NUMA     *int32   `json:"numa"`
	Total    *int64   `json:"total_bytes"`
	OwnPeak  *int64   `json:"own_peak_bytes"`
	UsedPeak *int64   `json:"used_peak_bytes"` // of all processes
	ECC      *int64   `json:"ecc_uncorrected"`
	Events   []string `json:"events"`
}

// Phase is one phase of a rank, with bytes by purpose.
type Phase struct {
	Name      string           `json:"name"`
	Seconds   float64          `json:"seconds"`
	Predicted map[string]int64 `json:"device_predicted"`
	Used      map[string]int64 `json:"device_used"`
	RSSPeak   int64            `json:"rss_peak"`
	// Weights at rest in host memory; what ranks of a node share, one of them counts.
	HostPredicted int64 `json:"host_predicted"`
	HostUsed      int64 `json:"host_used"`
	// Peaks as they were seen each second and at the phase's ends; null if not known.
	AnonymousPeak *int64 `json:"rss_anonymous_peak"`
	GPUOwnPeak    *int64 `json:"gpu_own_peak"`
	GPUUsedPeak   *int64 `json:"gpu_used_peak"`
}

// NewFile puts a report together. r is the zero Result, but for its code and error, if
// nothing was started.
func NewFile(r Result, s settings.Settings, build string) File {
	f := File{Schema: reportSchema,
		Versions: Versions{Build: build, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
		Started:  r.Started, Seconds: r.Seconds,
		Exit: Exit{Code: int(r.Code), Class: r.Code.String(), Error: r.Error, Phase: r.Phase, Rank: r.Failed},
		Seed: s.Seed, Plan: planOf(s), Ranks: []Rank{}, Settings: map[string]settings.Value{}, Notices: append([]string{}, s.Notices...),
		Place: newPlace(s.Launch.Where)}
	for _, v := range s.Values {
		f.Settings[v.Name] = v
	}
	for _, rank := range r.Ranks {
		f.Ranks = append(f.Ranks, newRank(rank, r.Started))
		f.Bytes = f.Bytes.max(f.Ranks[len(f.Ranks)-1].Bytes)
	}
	f.Bytes.HostPredicted, f.Bytes.HostUsed = f.hostWeights()
	if chosen := r.Report().GetCfgBranches(); chosen != "" {
		f.Plan.CFGBranches = chosen
	}
	f.Notices = append(append(f.Notices, r.Notices()...), r.Warnings...)
	f.Attempts = []Attempt{}
	for _, a := range r.Attempts {
		f.Attempts = append(f.Attempts, newAttempt(a))
	}
	if m := r.Report(); m.GetOutput() != "" {
		f.Output = &Output{Path: m.GetOutput(), Bytes: m.GetOutputBytes(), Width: m.GetWidth(), Height: m.GetHeight(),
			Frames: m.GetFrames(), FPS: s.FPS, Encoder: m.GetEncoder(), ContactSheet: s.ContactSheet, Dump: s.Dump}
	}
	return f
}

// NewRunFile puts the report of any program's ranks together.
func NewRunFile(r Result, s settings.Run, build string) File {
	f := NewFile(r, settings.Settings{Launch: s.Launch, Values: s.Values, Notices: s.Notices, Nproc: len(r.Ranks), World: len(r.Ranks)}, build)
	f.Command = s.Program
	return f
}

func (b Bytes) max(c Bytes) Bytes {
	return Bytes{max(b.Predicted, c.Predicted), max(b.Used, c.Used), max(b.HostPredicted, c.HostPredicted), max(b.HostUsed, c.HostUsed), max(b.RSSPeak, c.RSSPeak)}
}

// hostWeights adds up the weights at rest in host memory, of which each rank tells its part.
func (f File) hostWeights() (predicted, used int64) {
	for _, r := range f.Ranks {
		predicted, used = predicted+r.Bytes.HostPredicted, used+r.Bytes.HostUsed
	}
	return predicted, used
}

// Notices are what the ranks had to tell, each once: most is the same on all of them.
func (r Result) Notices() []string {
	var all []string
	for _, rank := range r.Ranks {
		for _, line := range rank.Report.GetNotices() {
			if !slices.Contains(all, line) {
				all = append(all, line)
			}
		}
	}
	return all
}

func newRank(r RankResult, started time.Time) Rank {
	m := r.Report
	rank := Rank{Rank: r.Rank, Pid: r.Pid, Ended: r.Ended, Error: m.GetError(), Backend: m.GetBackend(), Seconds: m.GetSeconds(),
		Bytes: Bytes{m.GetPredictedBytes(), m.GetUsedBytes(), m.GetPredictedHostBytes(), m.GetUsedHostBytes(), m.GetRssPeakBytes()}, Phases: []Phase{}}
	if p := r.Last; p != nil {
		rank.Last = &Last{p.GetPhase(), p.GetDone(), p.GetTotal(), r.LastAt.Sub(started).Seconds()}
		if g := p.GetMemory().GetGpu(); g != nil {
			rank.GPU = &GPU{g.GetName(), g.GetUuid(), g.GetPci(), g.Numa, g.Total, g.OwnPeak, g.UsedPeak, g.EccUncorrected, append([]string{}, g.GetEvents()...)}
		}
	}
	if m == nil && r.Last != nil { // it died; this is the last that it said
		rank.Seconds, rank.Bytes.RSSPeak = r.Last.GetElapsedSeconds(), r.Last.GetRssBytes()
	}
	for _, p := range m.GetPhases() {
		rank.Phases = append(rank.Phases, newPhase(p))
	}
	return rank
}

func newPhase(p *wanrunv1.Phase) Phase {
	phase := Phase{Name: p.GetName(), Seconds: p.GetSeconds(), Predicted: p.GetPredictedBytes(), Used: p.GetUsedBytes(), RSSPeak: p.GetRssPeakBytes(),
		HostPredicted: p.GetPredictedHostBytes(), HostUsed: p.GetUsedHostBytes(), AnonymousPeak: p.RssAnonymousPeak, GPUOwnPeak: p.GpuOwnPeak, GPUUsedPeak: p.GpuUsedPeak}
	if phase.Predicted == nil {
		phase.Predicted = map[string]int64{}
	}
	if phase.Used == nil {
		phase.Used = map[string]int64{}
	}
	return phase
}

// maxReport bounds a report that is read: 4096 ranks.
const maxReport = 64 << 20

// ReadReport reads a report: a file, or report.json in a job's log folder.
func ReadReport(path string) (File, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "report.json")
	}
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err == nil && len(data) > maxReport {
		err = fmt.Errorf("it has more than %d bytes", maxReport)
	}
	var file File
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err == nil && file.Schema != reportSchema {
		err = fmt.Errorf("schema %d, want %d; another version of wanrun wrote it", file.Schema, reportSchema)
	}
	if err != nil {
		return File{}, fmt.Errorf("report %q: %w", path, err)
	}
	return file, nil
}

// Text is a report for people: how it ended, each attempt's cause, and the summary.
func (f File) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "exit %d (%s) after %s\n", f.Exit.Code, f.Exit.Class, formatSeconds(f.Seconds))
	if f.Exit.Error != "" {
		fmt.Fprintf(&b, "%s\n", settings.Escape(f.Exit.Error))
	}
	for _, a := range f.Attempts {
		cause := "went well"
		if a.Cause != "" {
			cause = settings.Escape(a.Cause)
		}
		fmt.Fprintf(&b, "attempt %d: %s\n", a.Number, cause)
	}
	if text := f.Summary(); text != "" {
		b.WriteString("\n" + text)
	}
	return b.String()
}

// CheckReport sees that a report can be written to path, before anything is
// computed. Errors: ends.OutputLost.
func CheckReport(path string) error {
	f, err := createTemp(path)
	if err != nil {
		return reportError(path, err)
	}
	return reportError(path, errors.Join(f.Close(), os.Remove(f.Name())))
}

// Write writes the report under a temporary name and renames it.
// Errors: ends.OutputLost.
func (f File) Write(path string) (err error) {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return reportError(path, err)
	}
	temp, err := createTemp(path)
	if err != nil {
		return reportError(path, err)
	}
	_, err = temp.Write(append(data, '\n'))
	if err := errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close()); err != nil {
		return reportError(path, errors.Join(err, os.Remove(temp.Name())))
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return reportError(path, errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

func createTemp(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, errors.New("it is there and not a regular file")
	}
	return os.CreateTemp(filepath.Dir(path), ".wanrun-report-*")
}

func reportError(path string, err error) error {
	if err == nil {
		return nil
	}
	return ends.As(ends.OutputLost, fmt.Errorf("report %q cannot be written: %w", path, err))
}
