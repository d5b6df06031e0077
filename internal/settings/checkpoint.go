package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/task"
)

// MaxJSONBytes bounds a checkpoint's config.json and model_spec.json.
const MaxJSONBytes = 1 << 20

// model is what the settings need to know of a checkpoint. The worker reads and
// checks the rest.
type model struct {
	modelType string // "" if the checkpoint does not say
	dim       int
	heads     int // 0 if the checkpoint does not say
	defaults  task.Defaults
	from      string // what to call the defaults' origin
}

// readModel looks into a checkpoint's two small JSON files, or the demo model's.
// Errors: ends.BadInput.
func readModel(in Inputs, dir string) (model, error) {
	if dir == "" {
		return demoModel(in.Demo)
	}
	m, err := readConfigJSON(in.ReadFile, dir)
	if err != nil {
		return model{}, ends.As(ends.BadInput, err)
	}
	spec, err := in.ReadFile(filepath.Join(dir, "model_spec.json"), MaxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil // as in the official checkpoints
	}
	if err != nil {
		return model{}, ends.As(ends.BadInput, fmt.Errorf("checkpoint: %w", err))
	}
	if m.defaults, err = task.SpecDefaults(spec); err != nil {
		return model{}, ends.As(ends.BadInput, fmt.Errorf("checkpoint %q: %w", dir, err))
	}
	m.from = "model_spec.json of the checkpoint"
	return m, nil
}

func readConfigJSON(read ReadFile, dir string) (model, error) {
	data, err := read(filepath.Join(dir, "config.json"), MaxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return model{}, fmt.Errorf("%q has no config.json; --ckpt-dir wants a folder in the official layout", dir)
	}
	if err != nil {
		return model{}, fmt.Errorf("checkpoint: %w", err)
	}
	m, err := parseConfigJSON(data)
	if err != nil {
		return model{}, fmt.Errorf("%q: %w", filepath.Join(dir, "config.json"), err)
	}
	return m, nil
}

// maxHeads bounds num_heads; the largest model has 40.
const maxHeads = 1 << 12

func parseConfigJSON(data []byte) (model, error) {
	var c struct {
		ModelType string `json:"model_type"`
		Dim       int    `json:"dim"`
		NumHeads  int    `json:"num_heads"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return model{}, err
	}
	if c.NumHeads < 0 || c.NumHeads > maxHeads {
		c.NumHeads = 0 // the worker says what is wrong with it
	}
	return model{modelType: c.ModelType, dim: c.Dim, heads: c.NumHeads}, nil
}

func demoModel(demo Demo) (model, error) {
	m, err := parseConfigJSON(demo.Config)
	if err == nil {
		m.defaults, err = task.SpecDefaults(demo.Spec)
	}
	if err != nil {
		return model{}, ends.As(ends.Bug, fmt.Errorf("demo model: %w", err))
	}
	m.from = "the demo model"
	return m, nil
}
