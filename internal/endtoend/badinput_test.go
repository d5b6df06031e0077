package endtoend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pngOf returns a PNG that claims a size and holds no picture.
func pngOf(w, h uint32) []byte {
	ihdr := append([]byte("IHDR"), make([]byte, 13)...)
	binary.BigEndian.PutUint32(ihdr[4:], w)
	binary.BigEndian.PutUint32(ihdr[8:], h)
	ihdr[12], ihdr[13] = 8, 2
	out := []byte("\x89PNG\r\n\x1a\n")
	for _, chunk := range [][]byte{ihdr, []byte("IDATx\x9c"), []byte("IEND")} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(chunk)-4))
		out = append(out, chunk...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
	}
	return out
}

// TestBadInputs runs wanrun with what users and files get wrong: the class of
// the end, one clear line that says what, no output and nothing left behind.
func TestBadInputs(t *testing.T) {
	t.Parallel()
	const (
		usage = 64
		input = 65
	)
	jpeg, err := os.ReadFile(repo(t, "examples/in.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		file  []byte // contents of in.file, if any
		args  []string
		code  int
		words string // in the line that says why
	}{
		// Pictures.
		{"picture of 0 bytes", []byte{}, []string{"--image", "in.file"}, input, "empty"},
		{"truncated jpeg", jpeg[:len(jpeg)/2], []string{"--image", "in.file"}, input, "in.file"},
		{"png bomb", pngOf(65535, 65535), []string{"--image", "in.file"}, input, "65535"},
		{"not a picture", []byte("#!/bin/sh\necho hello\n"), []string{"--image", "in.file"}, input, "in.file"},
		{"picture is a folder", nil, []string{"--image", "/"}, input, "/"},
		{"picture is missing", nil, []string{"--image", "nowhere.png"}, input, "nowhere.png"},
		// Numbers.
		{"frames 80", nil, []string{"--frames", "80"}, usage, "81"},
		{"frames 0", nil, []string{"--frames", "0"}, usage, "1"},
		{"frames -1", nil, []string{"--frames", "-1"}, usage, "1"},
		{"frames 1e9", nil, []string{"--frames", "1000000000"}, usage, "4093"},
		{"size 831x480", nil, []string{"--task", "t2v-14B", "--ckpt-dir", repo(t, "testdata/ckpt_t2v"), "--size", "831*480"}, usage, "832"},
		{"steps 0", nil, []string{"--steps", "0"}, usage, "1"},
		{"shift 0", nil, []string{"--shift", "0"}, usage, "shift"},
		{"shift NaN", nil, []string{"--shift", "NaN"}, usage, "shift"},
		{"guide Inf", nil, []string{"--guide-scale", "Inf"}, usage, "100"},
		{"seed 2^64", nil, []string{"--seed", "18446744073709551616"}, usage, "9223372036854775807"},
		{"unknown solver", nil, []string{"--solver", "euler"}, usage, "unipc"},
		{"unknown noise", nil, []string{"--noise-rng", "torch-cuda:h1000"}, usage, "h100"},
		{"unknown flag", nil, []string{"--framse", "81"}, usage, "frames"},
		// Prompts.
		{"prompt of 1.5 MB", nil, []string{"--config", "in.file"}, input, "prompt"},
		{"prompt not UTF-8", nil, []string{"--prompt", "\xff\xfe"}, input, "UTF-8"},
		// Checkpoints.
		{"checkpoint missing", nil, []string{"--ckpt-dir", "nowhere"}, input, "nowhere"},
		{"t2v checkpoint for i2v", nil, []string{"--task", "i2v-14B", "--ckpt-dir", repo(t, "testdata/ckpt_t2v")}, input, "t2v checkpoint"},
		{"empty checkpoint folder", nil, []string{"--ckpt-dir", "."}, input, "config.json"},
		// Output.
		{"output folder missing", nil, []string{"-o", "nowhere/out.mp4"}, 73, "nowhere"},
		{"output name too long", nil, []string{"-o", strings.Repeat("x", 300) + ".mp4"}, 73, "long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := []string{"--image", repo(t, "examples/in.jpg"), "--prompt", "x", "--frames", "5", "--steps", "1"}
			if slices.Contains(tc.args, "t2v-14B") {
				args = args[2:]
			}
			if tc.name == "prompt of 1.5 MB" {
				tc.file = []byte("prompt: " + strings.Repeat("a", 3<<19) + "\n")
				args = append(args[:2], args[4:]...)
			}
			if !slices.Contains(tc.args, "-o") {
				args = append(args, "-o", "out.mp4")
			}
			if tc.file != nil {
				if err := os.WriteFile(filepath.Join(dir, "in.file"), tc.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := wanrun(t, dir, append(args, tc.args...)...)
			expectRefusal(t, got, tc.code, tc.words)
			if left := slices.DeleteFunc(files(t, dir), func(f string) bool { return f == "in.file" }); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// expectRefusal asserts the exit code and that one line of at most a few hundred
// characters says why.
func expectRefusal(t *testing.T, got ended, code int, words string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code %d, want %d:\n%s%s", got.code, code, got.stdout, got.stderr)
	}
	var lines []string
	for line := range strings.Lines(got.stderr) {
		if strings.Contains(line, words) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		t.Errorf("no line of the error output has %q:\n%s", words, got.stderr)
	}
	for _, line := range lines {
		if len(line) > 1500 { // the names of twelve wrong tensors fit
			t.Errorf("a line of %d characters: %.200q…", len(line), line)
		}
	}
	if strings.Contains(got.stderr, "goroutine ") {
		t.Errorf("a Go stack in the error output:\n%s", got.stderr)
	}
}

// copyCheckpoint copies the demo checkpoint so that a test can damage it.
func copyCheckpoint(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ckpt")
	if err := os.CopyFS(dir, os.DirFS(repo(t, "examples/demo-model/checkpoint"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBadCheckpoints damages the demo checkpoint in the ways of hostile and
// broken downloads. The readers' own tests have many more; here each class is
// seen to reach the user as one line with the right code.
func TestBadCheckpoints(t *testing.T) {
	t.Parallel()
	const shard = "diffusion_pytorch_model-00001-of-00002.safetensors"
	const vae = "Wan2.1_VAE.pth"
	edit := func(name string, change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(from, to string) func([]byte) []byte {
		return func(data []byte) []byte {
			out := bytes.Replace(data, []byte(from), []byte(to), 1)
			if bytes.Equal(out, data) {
				panic(fmt.Sprintf("%q is not there", from))
			}
			return out
		}
	}
	header := func(text string) func([]byte) []byte {
		return func([]byte) []byte {
			return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		words  string
	}{
		{"safetensors: one byte short", edit(shard, func(b []byte) []byte { return b[:len(b)-1] }), shard},
		{"safetensors: header length 0", edit(shard, func(b []byte) []byte { return append(make([]byte, 8), b[8:]...) }), shard},
		{"safetensors: header beyond the file", edit(shard, func(b []byte) []byte {
			return append(binary.LittleEndian.AppendUint64(nil, 1<<40), b[8:]...)
		}), shard},
		{"safetensors: not JSON", edit(shard, header("not json")), shard},
		{"safetensors: nested deep", edit(shard, header(strings.Repeat("[", 10000))), shard},
		{"safetensors: dtype unknown", edit(shard, replace(`"BF16"`, `"BF99"`)), "BF99"},
		{"safetensors: a NaN, looked for", edit(shard, func(b []byte) []byte {
			return append(b[:len(b)-2], 0xc0, 0x7f) // the last element, BF16
		}), "1 NaN"},
		{"safetensors: a weight transposed", edit(shard, replace("[640,160]", "[160,640]")), "expected [640, 160], got [160, 640]"},
		{"index: path out of the folder", edit("diffusion_pytorch_model.safetensors.index.json", replace(shard, "../../etc/passwd")), "passwd"},
		{"index: missing shard", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, shard)); err != nil {
				t.Fatal(err)
			}
		}, shard},
		{"pth: not a zip", edit(vae, func([]byte) []byte { return []byte("hello") }), vae},
		{"pth: truncated", edit(vae, func(b []byte) []byte { return b[:len(b)/2] }), vae},
		{"pth: another global", edit(vae, replace("collections\nOrderedDict", "posix\nsystem\nOrdered___")), vae},
		{"config: not JSON", edit("config.json", func([]byte) []byte { return []byte("{") }), "config.json"},
		{"config: heads do not divide", edit("config.json", replace(`"num_heads": 8`, `"num_heads": 7`)), "heads"},
		{"config: other width", edit("config.json", replace(`"ffn_dim": 640`, `"ffn_dim": 641`)), "ffn"},
		{"tokenizer: not JSON", edit("google/umt5-xxl/tokenizer.json", func([]byte) []byte { return []byte("]") }), "tokenizer.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir, ckpt := t.TempDir(), copyCheckpoint(t)
			tc.damage(t, ckpt)
			got := wanrun(t, dir, "--image", repo(t, "examples/in.jpg"), "--prompt", "x", "--frames", "5", "--steps", "1",
				"--ckpt-dir", ckpt, "-o", "out.mp4", "--scan-weights")
			expectRefusal(t, got, 65, tc.words)
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestOddPrompts runs prompts that are strange but legal: they make a video, a
// prompt that is cut says where, and nothing of them reaches the terminal raw.
func TestOddPrompts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, prompt string
		words        string // in the error output
	}{
		{"emoji alone", "🐶🏃‍♂️🎬", ""},
		{"right to left", "كرة حمراء תנועה", ""},
		{"terminal escape", "red \x1b[31mball\x1b[0m\x07", ""},
		{"newlines", "red\nball\r\nmoves", ""},
		{"too many tokens", strings.Repeat("the red ball moves right, ", 200), "512 are used"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := wanrun(t, t.TempDir(), "--image", repo(t, "examples/in.jpg"), "--prompt", tc.prompt, "--frames", "1", "--steps", "1", "-o", "out.png")
			if got.code != 0 || !strings.Contains(got.stderr, tc.words) {
				t.Errorf("exit code %d, want 0 and %q:\n%s%s", got.code, tc.words, got.stdout, got.stderr)
			}
			if strings.ContainsAny(got.stdout+got.stderr, "\x1b\x07\r") {
				t.Errorf("control characters on the terminal: %q", got.stdout+got.stderr)
			}
		})
	}
}
