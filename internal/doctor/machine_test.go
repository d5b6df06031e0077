package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/settings"
)

// healthy is a machine on which all is well.
func healthy() Machine {
	root := fstest.MapFS{
		"proc/cpuinfo":     {Data: []byte("processor: 0\nflags\t\t: fpu avx2 fma avx512f amx_bf16\n")},
		"proc/meminfo":     {Data: []byte("MemTotal: 67108864 kB\nMemAvailable: 50331648 kB\n")},
		"proc/self/limits": {Data: []byte("Max open files            65536                524288               files\nMax locked memory         unlimited            unlimited            bytes\n")},
	}
	return Machine{Root: root, Lookup: environ.List(nil), Processors: 8, Ranks: 2, Build: "b1",
		Statfs:   func(string) (int64, int64, error) { return 64 << 30, 60 << 30, nil },
		LookPath: func(name string) (string, error) { return "/bin/" + name, nil },
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			switch name {
			case "/w/wanworker":
				return []byte("wanworker b1\n"), nil
			case "/bin/ffmpeg":
				return []byte(" V..... libx264   libx264 H.264\n"), nil
			case "nvidia-smi":
				return []byte("0, NVIDIA H100, 81559, 4, 0\n1, NVIDIA H100, 81559, 40000, 0\n2, NVIDIA H100, 81559, 4, 3\n3, NVIDIA H100, [N/A], [N/A], [N/A]\n"), nil
			}
			return nil, errors.New("no such program: " + name)
		},
		Writable: func(string) error { return nil }, Hostname: func() (string, error) { return "box", nil },
		Resolve: func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil },
		Listen:  func() error { return nil }, InTime: func() (bool, error) { return true, nil },
		Now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), Worker: "/w/wanworker", Temp: "/tmp", Out: "."}
}

func TestMachine(t *testing.T) {
	no := errors.New("it does not work")
	files := func(m *Machine, name, text string) { m.Root.(fstest.MapFS)[name] = &fstest.MapFile{Data: []byte(text)} }
	for _, tc := range []struct {
		name  string
		spoil func(*Machine)
		check string // that is not well
		state State
		text  string // in its words
	}{
		{name: "all is well", spoil: func(*Machine) {}},
		{"no worker", func(m *Machine) { m.WorkerErr = no }, "worker", Fail, "make build"},
		{"another build", func(m *Machine) { m.Build = "b2" }, "worker", Fail, `"b1"`},
		{"worker does not run", func(m *Machine) { m.Worker = "/x" }, "worker", Fail, "no such program"},
		{"more ranks than processors", func(m *Machine) { m.Ranks = 9 }, "processors", Warn, "8 may be used by 9 ranks"},
		{"an old processor", func(m *Machine) { files(m, "proc/cpuinfo", "flags: fpu sse2\n") }, "instructions", Warn, "AVX2"},
		{"a hidden processor", func(m *Machine) { delete(m.Root.(fstest.MapFS), "proc/cpuinfo") }, "instructions", Unknown, ""},
		{"little memory", func(m *Machine) { files(m, "proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n") }, "memory", Warn, "1 GiB can be used of the machine's 4 GiB"},
		{"unknown memory", func(m *Machine) { files(m, "proc/meminfo", "") }, "memory", Unknown, ""},
		{"strict overcommit", func(m *Machine) { files(m, "proc/sys/vm/overcommit_memory", "2\n") }, "overcommit", Warn, "sysctl"},
		{"few files", func(m *Machine) {
			files(m, "proc/self/limits", "Max open files            64                64               files\n")
		}, "open files", Warn, "ulimit -n 65536"},
		{"locked memory", func(m *Machine) {
			files(m, "proc/self/limits", "Max open files            65536                64               files\nMax locked memory         65536            65536            bytes\n")
		}, "locked memory", Warn, "ulimit -l unlimited"},
		{"small shm", func(m *Machine) {
			m.Statfs = func(name string) (int64, int64, error) {
				if name == "/dev/shm" {
					return 64 << 20, 60 << 20, nil
				}
				return 64 << 30, 60 << 30, nil
			}
		}, "/dev/shm", Warn, "--shm-size"},
		{"full disk", func(m *Machine) {
			m.Statfs = func(name string) (int64, int64, error) {
				if name == "." {
					return 64 << 30, 1 << 20, nil
				}
				return 64 << 30, 60 << 30, nil
			}
		}, "output folder", Warn, "1 MiB free"},
		{"read-only", func(m *Machine) { m.Writable = func(string) error { return no } }, "output folder", Fail, "may write to"},
		{"no ffmpeg", func(m *Machine) { m.LookPath = func(string) (string, error) { return "", no } }, "", Pass, ""},
		{"a poor ffmpeg", func(m *Machine) {
			run := m.Run
			m.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
				if name == "/bin/ffmpeg" {
					return []byte("mpeg4"), nil
				}
				return run(ctx, name, args...)
			}
		}, "ffmpeg", Warn, "libx264"},
		{"a wrong ffmpeg", func(m *Machine) { m.FFmpeg = "/x/ffmpeg" }, "ffmpeg", Warn, "--encoder builtin"},
		{"no loopback", func(m *Machine) { m.Listen = func() error { return no } }, "loopback", Fail, "lo"},
		{"a name without address", func(m *Machine) { m.Resolve = func(context.Context, string) ([]string, error) { return nil, no } }, "host name", Warn, "/etc/hosts"},
		{"an old clock", func(m *Machine) { m.Now = time.Unix(0, 0).UTC() }, "clock", Fail, "1970-01-01"},
		{"an unknown clock", func(m *Machine) { m.InTime = func() (bool, error) { return false, no } }, "clock", Unknown, ""},
		{"hidden cards", func(m *Machine) { m.Lookup = environ.List([]string{"CUDA_VISIBLE_DEVICES="}) }, "environment", Warn, "hides graphics cards"},
		{"a card twice", func(m *Machine) { m.Lookup = environ.List([]string{"CUDA_VISIBLE_DEVICES=0,1,0"}) }, "environment", Warn, "share a card"},
		{"preload", func(m *Machine) { m.Lookup = environ.List([]string{"LD_PRELOAD=/x.so"}) }, "environment", Warn, "/x.so"},
		{"slow nccl", func(m *Machine) { m.Lookup = environ.List([]string{"NCCL_P2P_DISABLE=1"}) }, "environment", Warn, "slower"},
		{"driver without devices", func(m *Machine) { files(m, "proc/driver/nvidia/version", "NVRM 550.54.15") }, "GPU", Warn, "--gpus all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := healthy()
			tc.spoil(&m)
			found := tc.check == ""
			for _, c := range CheckMachine(t.Context(), m) {
				if c.State != Pass && c.Name != tc.check && c.Name != "temp folder" {
					t.Errorf("also %+v", c)
				}
				if c.Name == tc.check && c.State == tc.state && strings.Contains(c.Text+" "+c.Fix, tc.text) {
					found = true
				}
				if c.State == Fail && c.Fix == "" || c.Text != settings.Escape(c.Text) {
					t.Errorf("%+v: no remedy, or not safe to print", c)
				}
			}
			if !found {
				t.Errorf("no %s %s %q in %+v", tc.check, tc.state, tc.text, CheckMachine(t.Context(), m))
			}
		})
	}
}

func TestCards(t *testing.T) {
	m := healthy()
	root := m.Root.(fstest.MapFS)
	root["proc/driver/nvidia/version"] = &fstest.MapFile{Data: []byte("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n")}
	for i := range 4 {
		root[fmt.Sprintf("dev/nvidia%d", i)] = &fstest.MapFile{}
	}
	var got []string
	for _, c := range m.devices(t.Context()) {
		got = append(got, fmt.Sprint(c.Name, " ", c.State))
	}
	if want := "GPU driver pass, GPU 0 pass, GPU 1 warn, GPU 2 fail, GPU 3 unknown"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// checkpointFS is a whole small checkpoint of an i2v model.
func checkpointFS() fstest.MapFS {
	shard := func(end int) []byte {
		header := fmt.Sprintf(`{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,%d]}}`, end)
		b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(b, header...), make([]byte, 8)...)
	}
	pth := []byte("PK\x03\x04 weights PK\x05\x06 0123456789012345")
	return fstest.MapFS{
		"config.json":   {Data: []byte(`{"model_type":"i2v","dim":5120}`)},
		ditIndexFile:    {Data: []byte(`{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}`)},
		"a.safetensors": {Data: shard(8)}, "b.safetensors": {Data: shard(8)},
		t5File: {Data: pth}, clipFile: {Data: pth}, vaeFile: {Data: pth}, tokenizerDir + "/spiece.model": {Data: []byte("x")},
	}
}

func TestCheckpoint(t *testing.T) {
	set := func(root fstest.MapFS, name, text string) { root[name] = &fstest.MapFile{Data: []byte(text)} }
	for _, tc := range []struct {
		name, task string
		spoil      func(fstest.MapFS)
		check      string
		state      State
		text       string
	}{
		{name: "whole", task: "i2v-14B", spoil: func(fstest.MapFS) {}},
		{name: "any task", spoil: func(fstest.MapFS) {}},
		{"another task", "t2v-14B", func(fstest.MapFS) {}, "task", Fail, "the checkpoint is i2v-14B, the task t2v-14B"},
		{"another size", "i2v-1.3B", func(fstest.MapFS) {}, "task", Fail, "leave --task out"},
		{"no config", "", func(r fstest.MapFS) { delete(r, "config.json") }, "checkpoint", Fail, "no checkpoint folder"},
		{"broken config", "", func(r fstest.MapFS) { set(r, "config.json", "{") }, "config.json", Fail, "model_type"},
		{"vace", "", func(r fstest.MapFS) { set(r, "config.json", `{"model_type":"vace"}`) }, "config.json", Fail, `"vace"`},
		{"diffusers", "", func(r fstest.MapFS) { set(r, "model_index.json", "{}") }, "checkpoint", Fail, "diffusers"},
		{"wan 2.2", "", func(r fstest.MapFS) { set(r, "high_noise_model/x", "") }, "checkpoint", Fail, "Wan2.2"},
		{"lora", "", func(r fstest.MapFS) { set(r, "adapter_config.json", "") }, "checkpoint", Fail, "LoRA"},
		{"shard missing", "", func(r fstest.MapFS) { delete(r, "b.safetensors") }, "b.safetensors", Fail, "it is not there"},
		{"shard cut", "", func(r fstest.MapFS) {
			r["b.safetensors"].Data = r["b.safetensors"].Data[:len(r["b.safetensors"].Data)-3]
		}, "b.safetensors", Fail, "the download stopped early"},
		{"shard cut in the header", "", func(r fstest.MapFS) { r["b.safetensors"].Data = r["b.safetensors"].Data[:40] }, "b.safetensors", Fail, "cut off"},
		{"shard empty", "", func(r fstest.MapFS) { set(r, "b.safetensors", "") }, "b.safetensors", Fail, "0 bytes"},
		{"shard of lies", "", func(r fstest.MapFS) { set(r, "b.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}") }, "b.safetensors", Fail, "cut off"},
		{"pointer", "", func(r fstest.MapFS) { set(r, "a.safetensors", "version https://git-lfs.github.com/spec/v1\noid x\n") }, "a.safetensors", Fail, "Git LFS pointer"},
		{"path out", "", func(r fstest.MapFS) { set(r, ditIndexFile, `{"weight_map":{"x":"../../etc/passwd"}}`) }, ditIndexFile, Fail, "no file of this folder"},
		{"index empty", "", func(r fstest.MapFS) { set(r, ditIndexFile, `{}`) }, ditIndexFile, Fail, "lists no tensors"},
		{"neither index nor file", "", func(r fstest.MapFS) { delete(r, ditIndexFile) }, ditFile, Fail, "it is not there"},
		{"t5 missing", "", func(r fstest.MapFS) { delete(r, t5File) }, t5File, Fail, "it is not there"},
		{"t5 cut", "", func(r fstest.MapFS) { set(r, t5File, "PK\x03\x04 wei") }, t5File, Fail, "its end is missing"},
		{"vae is a pointer", "", func(r fstest.MapFS) { set(r, vaeFile, "version https://git-lfs.github.com/spec/v1\n") }, vaeFile, Fail, "Git LFS"},
		{"clip of another kind", "", func(r fstest.MapFS) { set(r, clipFile, "\x80\x02}") }, clipFile, Fail, "torch"},
		{"no tokenizer", "", func(r fstest.MapFS) { delete(r, tokenizerDir+"/spiece.model") }, "tokenizer", Fail, "spiece.model"},
		{"downloading", "", func(r fstest.MapFS) { set(r, "a.safetensors.aria2", "") }, "download", Warn, "a.safetensors.aria2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := checkpointFS()
			tc.spoil(root)
			checks := CheckCheckpoint("/m", root, tc.task)
			found := tc.check == ""
			for _, c := range checks {
				if c.State != Pass && c.Name != tc.check {
					t.Errorf("also %+v", c)
				}
				found = found || c.Name == tc.check && c.State == tc.state && strings.Contains(c.Text+" "+c.Fix, tc.text)
			}
			if !found || Failed(checks) != (tc.state == Fail) {
				t.Errorf("no %s %s %q in %+v", tc.check, tc.state, tc.text, checks)
			}
		})
	}
}

// TestRealLayout looks at the repository's tiny checkpoints, which are whole.
func TestRealLayout(t *testing.T) {
	for name, task := range map[string]string{"ckpt_i2v": "i2v-14B", "ckpt_t2v": "t2v-14B", "ckpt_flf2v": "flf2v-14B"} {
		dir := "../../testdata/" + name
		checks := CheckCheckpoint(dir, os.DirFS(dir), task)
		for _, c := range checks {
			if c.State != Pass {
				t.Errorf("%s: %+v", name, c)
			}
		}
		var b bytes.Buffer
		if err := WriteChecks(&b, checks); err != nil || !strings.Contains(b.String(), "0 failures") {
			t.Errorf("%s (%v)", b.String(), err)
		}
	}
}

func FuzzSafetensorsHead(f *testing.F) {
	for _, file := range checkpointFS() {
		f.Add(file.Data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		root := fstest.MapFS{"x": {Data: data}}
		for _, look := range []func() (int64, error){func() (int64, error) { return wholeSafetensors(root, "x") }, func() (int64, error) { return wholeArchive(root, "x") }} {
			if size, err := look(); err == nil && size != int64(len(data)) {
				panic("a file of another size")
			}
		}
	})
}

func TestFolder(t *testing.T) {
	index := `{"schema":1,"job":"j","world":2,"node":0,"started":"2026-03-01T10:00:00Z","ended":null,"ranks":[
{"attempt":0,"rank":0,"code":1,"out":"attempt_0/rank_000.out","err":"attempt_0/rank_000.err"},
{"attempt":1,"rank":0,"code":0,"out":"attempt_1/rank_000.out","err":"attempt_1/rank_000.err"},
{"attempt":1,"rank":1,"signal":9,"out":"attempt_1/rank_001.out","err":"attempt_1/rank_001.err"}]}`
	root := fstest.MapFS{"index.json": {Data: []byte(index)}, "launcher.log": {Data: []byte("x\n")},
		"attempt_0/rank_000.err": {Data: []byte("ModuleNotFoundError: No module named 'x'\n")},
		"attempt_1/rank_001.err": {Data: []byte("INFO: Creating WanT2V pipeline.\nKilled\n")}, "attempt_1/rank_000.out": {Data: []byte("y\n")}}
	sources, closer, err := Folder("logs/j", root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sources {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "logs/j/launcher.log logs/j/attempt_1/rank_001.err logs/j/attempt_1/rank_000.out" {
		t.Errorf("read %s: want the last attempt's, the failed rank first", got)
	}
	d := Analyze(sources)
	if len(d.Findings) != 1 || d.Findings[0].Kind != Killed || fmt.Sprint(d.Findings[0].Ranks) != "[1]" || d.Findings[0].Phase != loadT5 {
		t.Errorf("%+v", d)
	}
	if err := closer(); err != nil {
		t.Error(err)
	}
	delete(root, "index.json")
	if sources, _, err = Folder("logs/j", root); err != nil || len(sources) != 4 {
		t.Errorf("without an index %d logs (%v)", len(sources), err)
	}
	if _, _, err := Folder("e", fstest.MapFS{"a.png": {}}); err == nil {
		t.Error("a folder without logs is read")
	}
}
