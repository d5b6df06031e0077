package doctor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Files of a checkpoint in the official layout.
const (
	configFile   = "config.json"
	ditFile      = "diffusion_pytorch_model.safetensors"
	ditIndexFile = ditFile + ".index.json"
	t5File       = "models_t5_umt5-xxl-enc-bf16.pth"
	clipFile     = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
	vaeFile      = "Wan2.1_VAE.pth"
	tokenizerDir = "google/umt5-xxl"
)

const getAgain = "download it again: huggingface-cli download Wan-AI/NAME --local-dir DIR goes on where it stopped; with git: git lfs pull"

// CheckCheckpoint looks whether a folder is a whole checkpoint of the official layout, and
// of the task given ("" for any). It reads heads and ends of files, not the weights.
func CheckCheckpoint(dir string, root fs.FS, task string) []Check {
	for _, f := range []struct{ name, what string }{
		{"high_noise_model", "a Wan2.2 A14B checkpoint"}, {"low_noise_model", "a Wan2.2 A14B checkpoint"}, {"Wan2.2_VAE.pth", "a Wan2.2 checkpoint"},
		{"model_index.json", "a checkpoint in the diffusers layout"}, {"adapter_config.json", "a LoRA, not a whole model"},
		{"pytorch_lora_weights.safetensors", "a LoRA, not a whole model"},
	} {
		if _, err := fs.Stat(root, f.name); err == nil {
			return []Check{check("checkpoint", Fail, "give the folder of a Wan2.1 model in the original layout, such as Wan-AI/Wan2.1-I2V-14B-480P", "%q is %s (it has %s)", dir, f.what, f.name)}
		}
	}
	kind, checks := modelType(dir, root, task)
	if kind == "" {
		return checks
	}
	checks = append(checks, weights(root)...)
	files := []string{t5File, vaeFile}
	if kind == "i2v" || kind == "flf2v" {
		files = append(files, clipFile)
	}
	for _, name := range files {
		size, err := wholeArchive(root, name)
		checks = append(checks, fileCheck(name, size, err))
	}
	_, fast := fs.Stat(root, path.Join(tokenizerDir, "tokenizer.json"))
	_, slow := fs.Stat(root, path.Join(tokenizerDir, "spiece.model"))
	if fast != nil && slow != nil {
		checks = append(checks, check("tokenizer", Fail, getAgain, "neither tokenizer.json nor spiece.model is in %s", tokenizerDir))
	} else {
		checks = append(checks, check("tokenizer", Pass, "", "%s", tokenizerDir))
	}
	if left := unfinished(root); left != "" {
		checks = append(checks, check("download", Warn, "let the download finish, or remove what is left of it", "%s is left of a download that has not finished", left))
	}
	return checks
}

func fileCheck(name string, size int64, err error) Check {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return check(name, Fail, getAgain, "it is not there")
	case err != nil:
		return check(name, Fail, getAgain, "%v", err)
	}
	return check(name, Pass, "", "%s", formatBytes(size))
}

// modelType reads config.json. kind is "" if nothing else is worth looking at.
func modelType(dir string, root fs.FS, task string) (kind string, checks []Check) {
	data, err := readSmall(root, configFile)
	if err != nil {
		return "", []Check{check("checkpoint", Fail, "--ckpt-dir is a folder with config.json, "+t5File+" and so on", "%q is no checkpoint folder: %v", dir, err)}
	}
	var c struct {
		ModelType string `json:"model_type"`
		Dim       int    `json:"dim"`
	}
	if err := json.Unmarshal(data, &c); err != nil || c.ModelType == "" {
		return "", []Check{check("config.json", Fail, getAgain, "it does not say model_type (%v)", err)}
	}
	size := map[int]string{1536: "1.3B", 5120: "14B"}[c.Dim] // original configs, dim
	name := c.ModelType
	if size != "" {
		name += "-" + size
	}
	if !slices.Contains([]string{"t2v", "i2v", "flf2v"}, c.ModelType) {
		return "", []Check{check("config.json", Fail, "wanrun runs t2v, i2v and flf2v", "model_type is %q", c.ModelType)}
	}
	want, wantSize, _ := strings.Cut(task, "-")
	if want == "t2i" { // a picture is a video of one frame
		want = "t2v"
	}
	if task != "" && (want != c.ModelType || size != "" && wantSize != size) {
		return c.ModelType, []Check{check("task", Fail, "give the folder of a "+task+" model, or leave --task out", "the checkpoint is %s, the task %s", name, task)}
	}
	return c.ModelType, []Check{check("model", Pass, "", "%s (dim %d)", name, c.Dim)}
}

// weights looks at the files of the DiT.
func weights(root fs.FS) []Check {
	if _, err := fs.Stat(root, ditIndexFile); err != nil {
		size, err := wholeSafetensors(root, ditFile)
		return []Check{fileCheck(ditFile, size, err)}
	}
	data, err := readSmall(root, ditIndexFile)
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil || len(index.WeightMap) == 0 {
		return []Check{check(ditIndexFile, Fail, getAgain, "it lists no tensors (%v)", err)}
	}
	var shards []string
	for _, name := range index.WeightMap {
		if !slices.Contains(shards, name) {
			shards = append(shards, name)
		}
		if len(shards) > 1<<10 {
			break
		}
	}
	slices.Sort(shards)
	var checks []Check
	var total int64
	for _, name := range shards {
		if !filepath.IsLocal(name) || path.Base(name) != name {
			checks = append(checks, check(ditIndexFile, Fail, getAgain, "it names %q, which is no file of this folder", name))
			continue
		}
		size, err := wholeSafetensors(root, name)
		if err != nil {
			checks = append(checks, fileCheck(name, size, err))
		}
		total += size
	}
	if len(checks) == 0 {
		checks = append(checks, check("DiT", Pass, "", "%d files, %s", len(shards), formatBytes(total)))
	}
	return checks
}

// maxSmall bounds JSON files and the headers of weights.
const maxSmall = 64 << 20

func readSmall(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s has more than %s", name, formatBytes(maxSmall))
	}
	if err == nil && isPointer(data) {
		err = errors.New("it is a Git LFS pointer, a small text in the place of the file")
	}
	return data, err
}

func isPointer(head []byte) bool { return bytes.HasPrefix(head, []byte("version https://git-lfs")) }

// open opens a regular file for reading at any place.
func open(root fs.FS, name string) (f fs.File, at io.ReaderAt, size int64, err error) {
	if f, err = root.Open(name); err != nil {
		return nil, nil, 0, err
	}
	info, err := f.Stat()
	at, ok := f.(io.ReaderAt)
	if err == nil && (!ok || !info.Mode().IsRegular()) {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, nil, 0, errors.Join(err, f.Close())
	}
	return f, at, info.Size(), nil
}

// wholeSafetensors sees that a file is as long as its header says:
// 8 bytes with the header's length, the header in JSON, the tensors.
func wholeSafetensors(root fs.FS, name string) (int64, error) {
	f, at, size, err := open(root, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, min(size, 32))
	if _, err := at.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return size, err
	}
	if isPointer(head) {
		return size, errors.New("it is a Git LFS pointer, a small text in the place of the weights")
	}
	const lengthBytes = 8
	if size < lengthBytes {
		return size, fmt.Errorf("it has %d bytes, which are no weights", size)
	}
	n := binary.LittleEndian.Uint64(head)
	if n > maxSmall || int64(n) > size-lengthBytes {
		return size, fmt.Errorf("it is cut off or no safetensors file: %s, with a header of %d bytes", formatBytes(size), n)
	}
	header := make([]byte, n)
	if _, err := at.ReadAt(header, lengthBytes); err != nil {
		return size, err
	}
	var tensors map[string]json.RawMessage
	if err := json.Unmarshal(header, &tensors); err != nil {
		return size, fmt.Errorf("its header is broken: %w", err)
	}
	end := int64(0)
	for key, value := range tensors {
		var t struct {
			Offsets [2]int64 `json:"data_offsets"`
		}
		if key == "__metadata__" {
			continue
		}
		if err := json.Unmarshal(value, &t); err != nil || t.Offsets[1] < t.Offsets[0] || t.Offsets[0] < 0 {
			return size, fmt.Errorf("its header is broken at tensor %.80q", key)
		}
		end = max(end, t.Offsets[1])
	}
	if want := size - lengthBytes - int64(n); end != want {
		return size, fmt.Errorf("it has %d bytes of weights, its header says %d: the download stopped early, or something was added", want, end)
	}
	return size, nil
}

// wholeArchive sees that a .pth file has its end, which zip archives need: a download that
// stopped early has not.
func wholeArchive(root fs.FS, name string) (int64, error) {
	f, at, size, err := open(root, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, min(size, 32))
	if _, err := at.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return size, err
	}
	if isPointer(head) {
		return size, errors.New("it is a Git LFS pointer, a small text in the place of the weights")
	}
	if !bytes.HasPrefix(head, []byte("PK\x03\x04")) {
		return size, errors.New("it is no file that torch wrote (or one in its old format, which wanrun does not read)")
	}
	// The end record has 22 bytes and a comment of at most 65535.
	tail := make([]byte, min(size, 22+65535))
	if _, err := at.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return size, err
	}
	if !bytes.Contains(tail, []byte("PK\x05\x06")) {
		return size, fmt.Errorf("its end is missing after %s: the download stopped early", formatBytes(size))
	}
	return size, nil
}

// unfinished names a file that a download leaves until it is done.
func unfinished(root fs.FS) string {
	for _, pattern := range []string{"*.incomplete", "*.aria2", "*.part", "*.crdownload", ".cache/huggingface/download/*.incomplete"} {
		if names, err := fs.Glob(root, pattern); err == nil && len(names) > 0 {
			return names[0]
		}
	}
	return ""
}
