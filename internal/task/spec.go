package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// maxSpecBytes and maxNegativeBytes are far above any honest model_spec.json.
const (
	maxSpecBytes     = 1 << 20
	maxNegativeBytes = 1 << 16
)

// SpecDefaults reads the defaults that a checkpoint's model_spec.json states: the
// section "defaults", "sample_fps" and "sample_neg_prompt". Other sections describe
// the model and are passed over. Within "defaults" an unknown key is an error, as is a value out of range.
func SpecDefaults(data []byte) (Defaults, error) {
	d, err := specDefaults(data)
	if err != nil {
		return Defaults{}, fmt.Errorf("model_spec.json: %w", err)
	}
	return d, nil
}

func specDefaults(data []byte) (Defaults, error) {
	if len(data) > maxSpecBytes {
		return Defaults{}, fmt.Errorf("%d bytes, want at most %d", len(data), maxSpecBytes)
	}
	if !utf8.Valid(data) {
		return Defaults{}, fmt.Errorf("not UTF-8")
	}
	var spec struct {
		Defaults       json.RawMessage `json:"defaults"`
		FPS            *int            `json:"sample_fps"`
		NegativePrompt *string         `json:"sample_neg_prompt"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return Defaults{}, err
	}
	d := Defaults{FPS: spec.FPS, NegativePrompt: spec.NegativePrompt}
	if err := d.readSection(spec.Defaults); err != nil {
		return Defaults{}, fmt.Errorf("defaults: %w", err)
	}
	return d, d.check()
}

func (d *Defaults) readSection(section json.RawMessage) error {
	if section == nil {
		return nil
	}
	var values struct {
		Size       *string  `json:"size"`
		MaxArea    *int     `json:"max_area"`
		FrameNum   *int     `json:"frame_num"`
		Steps      *int     `json:"sampling_steps"`
		Shift      *float64 `json:"shift"`
		GuideScale *float64 `json:"guide_scale"`
		Solver     *string  `json:"solver"`
	}
	decoder := json.NewDecoder(bytes.NewReader(section))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&values); err != nil {
		return fmt.Errorf("%w; known: size, max_area, frame_num, sampling_steps, shift, guide_scale, solver", err)
	}
	if values.Size != nil {
		size, err := ParseSize(*values.Size)
		if err != nil {
			return err
		}
		d.Size = &size
	}
	d.MaxArea, d.FrameNum, d.Steps = values.MaxArea, values.FrameNum, values.Steps
	d.Shift, d.GuideScale, d.Solver = values.Shift, values.GuideScale, values.Solver
	return nil
}

// check holds every value that is there to its range.
func (d Defaults) check() error {
	for _, err := range []error{
		checkIf(d.Size, CheckSize),
		checkIf(d.MaxArea, CheckArea),
		checkIf(d.FrameNum, CheckFrames),
		checkIf(d.Steps, CheckSteps),
		checkIf(d.Shift, CheckShift),
		checkIf(d.GuideScale, CheckGuide),
		checkIf(d.Solver, CheckSolver),
		checkIf(d.FPS, CheckFPS),
		checkIf(d.NegativePrompt, checkNegative),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkIf[T any](v *T, check func(T) error) error {
	if v == nil {
		return nil
	}
	return check(*v)
}

func checkNegative(prompt string) error {
	if len(prompt) > maxNegativeBytes {
		return fmt.Errorf("sample_neg_prompt has %d bytes, want at most %d", len(prompt), maxNegativeBytes)
	}
	return nil
}
