package safetensors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
)

// shardOf makes a file of one-byte tensors.
func shardOf(names ...string) []byte {
	header := map[string]any{}
	for i, name := range names {
		header[name] = map[string]any{"dtype": "U8", "shape": []int{1}, "data_offsets": []int{i, i + 1}}
	}
	b, _ := json.Marshal(header)
	return build(string(b), make([]byte, len(names)))
}

func TestOpenSharded(t *testing.T) {
	const index = `{"metadata":{"total_size":3},"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}}`
	good := fstest.MapFS{"1.safetensors": {Data: shardOf("a", "b")}, "2.safetensors": {Data: shardOf("c")}}
	with := func(name string, data []byte) fstest.MapFS {
		fsys := fstest.MapFS{}
		for k, v := range good {
			fsys[k] = v
		}
		delete(fsys, name)
		if data != nil {
			fsys[name] = &fstest.MapFile{Data: data}
		}
		return fsys
	}
	for _, tc := range []struct {
		name, index string
		files       fstest.MapFS
		want        []string // in the error; nil if good
	}{
		{"good", index, good, nil},
		{"parent folder", `{"weight_map":{"a":"../../etc/passwd"}}`, good, []string{`"../../etc/passwd"`, `"a"`}},
		{"parent folder of the right kind", `{"weight_map":{"a":"../1.safetensors"}}`, good, []string{"not the name of"}},
		{"absolute path", `{"weight_map":{"a":"/etc/1.safetensors"}}`, good, []string{"not the name of"}},
		{"subfolder", `{"weight_map":{"a":"sub/1.safetensors"}}`, good, []string{"not the name of"}},
		{"backslash", `{"weight_map":{"a":"..\\1.safetensors"}}`, good, []string{"not the name of"}},
		{"NUL", `{"weight_map":{"a":"1\u0000.safetensors"}}`, good, []string{"not the name of"}},
		{"empty name", `{"weight_map":{"a":""}}`, good, []string{"not the name of"}},
		{"another kind of file", `{"weight_map":{"a":"model.bin"}}`, good, []string{"not the name of"}},
		{"shard is a number", `{"weight_map":{"a":1}}`, good, []string{`"a"`, "a string expected"}},
		{"no weight_map", `{"metadata":{}}`, good, []string{"weight_map"}},
		{"empty weight_map", `{"weight_map":{}}`, good, []string{"weight_map"}},
		{"weight_map is a list", `{"weight_map":[]}`, good, []string{"an object expected"}},
		{"two weight_maps", `{"weight_map":{"a":"1.safetensors"},"weight_map":{"a":"2.safetensors"}}`, good, []string{"twice"}},
		{"tensor twice in the index", `{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}`, good, []string{"twice"}},
		{"not JSON", `weights`, good, []string{"an object expected"}},
		{"nested deep", `{"metadata":` + strings.Repeat("[", 10_000), good, []string{"nested"}},
		{"missing shards", `{"weight_map":{"a":"1.safetensors","b":"3.safetensors","c":"4.safetensors"}}`, good,
			[]string{"2 of 3 shards are missing", "3.safetensors, 4.safetensors"}},
		{"tensor in two shards", index, with("2.safetensors", shardOf("a", "c")), []string{`tensor "a" is in two shards`, "1.safetensors", "2.safetensors"}},
		{"tensor in the other shard", `{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}}`, good, []string{`"b"`, "the index says 2.safetensors"}},
		{"tensor not in its shard", index, with("2.safetensors", shardOf("d")), []string{`tensor "d" of shard 2.safetensors is not in the index`}},
		{"tensor nowhere", `{"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","e":"2.safetensors"}}`, good,
			[]string{`"e" of 2.safetensors`}},
		{"damaged shard", index, with("2.safetensors", shardOf("c")[:64]), []string{"2.safetensors", "should have at least 65 bytes, got 64"}},
		{"empty shard", index, with("2.safetensors", []byte{}), []string{"2.safetensors", "empty"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := OpenSharded(file.OpenFS("model", tc.files), "x.index.json", []byte(tc.index))
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if got := s.Names(); !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("names %q", got)
				}
				checkSource(t, s)
				return
			}
			if err == nil {
				t.Fatalf("accepted with %q", s.Names())
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to name %q", err, want)
				}
			}
		})
	}
}

// TestShardLinks follows links within the folder only.
func TestShardLinks(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "model")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(base, "out.safetensors"), filepath.Join(dir, "real.safetensors")} {
		if err := os.WriteFile(path, shardOf("a"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"in.safetensors": "real.safetensors", "evil.safetensors": "../out.safetensors"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := file.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	s, err := OpenSharded(folder, "index", []byte(`{"weight_map":{"a":"in.safetensors"}}`))
	if err != nil {
		t.Fatal(err)
	}
	checkSource(t, s)
	_, err = OpenSharded(folder, "index", []byte(`{"weight_map":{"a":"evil.safetensors"}}`))
	if err == nil || !strings.Contains(err.Error(), "evil.safetensors") {
		t.Errorf("a link out of the folder: %v", err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":3},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../../etc/passwd"}}`))
	files := fstest.MapFS{"1.safetensors": {Data: shardOf("a")}, "2.safetensors": {Data: shardOf("b")}}
	f.Fuzz(func(t *testing.T, data []byte) {
		weights, err := readIndex(data)
		if err != nil {
			return
		}
		for _, name := range weights {
			if !file.IsPlain(name) || filepath.Base(name) != name {
				t.Fatalf("shard %q is a path", name)
			}
		}
		if s, err := OpenSharded(file.OpenFS("model", files), "index", data); err == nil {
			checkSource(t, s)
		}
	})
}
