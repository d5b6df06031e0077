package launch

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// maxStoredPrompt bounds the prompts that are stored in an output, in bytes.
const maxStoredPrompt = 64 << 10

// Stored are the settings that an output file holds, which `wanrun inspect` prints.
// Folders of the machine that made it are left out.
type Stored struct {
	Program    string  `json:"program"`
	Build      string  `json:"build"`
	Task       string  `json:"task"`
	Checkpoint string  `json:"checkpoint"` // the folder's name; "demo" is the built-in model
	Prompt     string  `json:"prompt"`
	Negative   string  `json:"negative_prompt"`
	Image      string  `json:"image,omitempty"`
	LastImage  string  `json:"last_image,omitempty"`
	Size       string  `json:"size,omitempty"`
	MaxArea    int     `json:"max_area,omitempty"`
	Frames     int     `json:"frames"`
	FPS        int     `json:"fps"`
	Steps      int     `json:"steps"`
	Solver     string  `json:"solver"`
	Shift      float64 `json:"shift"`
	Guide      float64 `json:"guide_scale"`
	Seed       int64   `json:"seed"`
	Noise      string  `json:"noise_rng"`
	DType      string  `json:"dtype"`
	Device     string  `json:"device"`
	ExifOrient bool    `json:"exif_orient,omitempty"`
	Compat     bool    `json:"compat,omitempty"`
	Plan       Plan    `json:"plan"`
}

// Plan is how the work was divided: ranks are cfg x ring x ulysses.
type Plan struct {
	Ranks         int    `json:"ranks"`
	CFG           int    `json:"cfg"`
	Ring          int    `json:"ring"`
	Ulysses       int    `json:"ulysses"`
	DiTFSDP       bool   `json:"dit_fsdp,omitempty"`
	T5FSDP        bool   `json:"t5_fsdp,omitempty"`
	FSDPSize      int    `json:"fsdp_size,omitempty"` // ranks that share one copy of sharded weights
	OffloadDiT    string `json:"offload_dit,omitempty"`
	CompatPadding bool   `json:"compat_padding,omitempty"`
	// CFGBranches says how the branches of guidance ran: together or apart. Before the run
	// it may be auto. Where they run on ranks of their own it is empty.
	CFGBranches string `json:"cfg_branches,omitempty"`
}

func planOf(s settings.Settings) Plan {
	p := Plan{Ranks: s.World, CFG: s.CFG, Ring: s.Ring, Ulysses: s.Ulysses, DiTFSDP: s.DiTFSDP, T5FSDP: s.T5FSDP, CompatPadding: s.CompatPadding}
	if (p.Ranks > 1 && s.DiTFSDP) || s.OffloadDiT != settings.OnDevice {
		p.OffloadDiT = s.OffloadDiT
	}
	if s.DiTFSDP || s.T5FSDP {
		p.FSDPSize = s.FSDPSize
	}
	if s.CFG <= 1 {
		p.CFGBranches = s.CFGBranches
	}
	return p
}

// Store returns what of s an output holds.
func Store(s settings.Settings, build string) Stored {
	st := Stored{Program: "wanrun", Build: build, Task: string(s.Task), Checkpoint: "demo",
		Prompt: cutPrompt(s.Prompt), Negative: cutPrompt(s.Negative), Image: base(s.Image), LastImage: base(s.LastImage),
		MaxArea: s.MaxArea, Frames: s.Frames, FPS: s.FPS, Steps: s.Steps, Solver: s.Solver, Shift: s.Shift,
		Guide: s.Guide, Seed: s.Seed, Noise: s.Noise, DType: s.DType, Device: s.Device, ExifOrient: s.ExifOrient,
		Compat: s.Compat, Plan: planOf(s)}
	if s.CkptDir != "" {
		st.Checkpoint = base(filepath.Clean(s.CkptDir))
	}
	if s.Size.Area() > 0 {
		st.Size = s.Size.String()
	}
	return st
}

func base(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

func cutPrompt(s string) string {
	if len(s) <= maxStoredPrompt {
		return s
	}
	whole := strings.ToValidUTF8(s[:maxStoredPrompt], "")
	return fmt.Sprintf("%s… (%d bytes in all)", whole, len(s))
}

// Job is what every worker is given for s.
func Job(s settings.Settings, build string) (*wanrunv1.Job, error) {
	stored, err := json.Marshal(Store(s, build))
	if err != nil {
		return nil, fmt.Errorf("settings to store: %w", err)
	}
	return &wanrunv1.Job{
		Task: string(s.Task), CkptDir: s.CkptDir, Prompt: s.Prompt, NegativePrompt: s.Negative,
		Image: s.Image, LastImage: s.LastImage, Width: int32(s.Size.Width), Height: int32(s.Size.Height),
		MaxArea: int64(s.MaxArea), FrameNum: int32(s.Frames), Steps: int32(s.Steps), Solver: s.Solver, Shift: s.Shift,
		GuideScale: s.Guide, Seed: s.Seed, NoiseRng: s.Noise, Fps: int32(s.FPS), Dtype: s.DType, Device: s.Device,
		ExifOrient: s.ExifOrient, Compat: s.Compat, Output: s.Output, Dump: s.Dump, Encoder: s.Encoder, Ffmpeg: s.FFmpeg,
		ContactSheet: s.ContactSheet, SettingsJson: string(stored), Threads: int32(s.Threads), ScanWeights: s.ScanWeights,
		Cfg: int32(s.CFG), Ring: int32(s.Ring), Ulysses: int32(s.Ulysses), DitFsdp: s.DiTFSDP, T5Fsdp: s.T5FSDP,
		OffloadDit: s.OffloadDiT, CompatPadding: s.CompatPadding, CfgBranches: s.CFGBranches, FsdpSize: int32(s.FSDPSize),
		RunDir: s.RunDir, SaveEvery: int32(s.SaveEvery), KeepRunDir: s.KeepRunDir,
		MemLimit: s.MemLimit,
	}, nil
}
