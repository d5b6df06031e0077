package worker

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/ends"
)

func TestDevices(t *testing.T) {
	list := func(library string) (d Devices, text string) {
		var out bytes.Buffer
		if code := DevicesMain(library, &out); code != ends.Done {
			t.Fatalf("exit %d", code)
		}
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		return d, out.String()
	}
	none, text := list(filepath.Join(t.TempDir(), "none.so"))
	if len(none.GPUs) != 0 || !strings.Contains(none.Problem, "no NVML") || !strings.Contains(text, `"gpus": []`) {
		t.Errorf("without a library: %s", text)
	}
	t.Setenv("FAKE_NVML_PID", "1")
	one, text := list(fakeNVML(t))
	if one.Problem != "" || len(one.GPUs) != 1 || *one.GPUs[0].Free != 600<<20 || one.GPUs[0].UUID != "GPU-fake" || one.GPUs[0].Power != nil ||
		len(one.GPUs[0].Processes) != 1 || *one.GPUs[0].Processes[0].Bytes != 300<<20 {
		t.Errorf("the fake: %s", text)
	}
	if !strings.Contains(text, `"power_milliwatts": null`) {
		t.Errorf("unknown is not null: %s", text)
	}
}
