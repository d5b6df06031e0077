package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// build makes a file of a header, padded to 8 bytes as writers do, and data.
func build(header string, data []byte) []byte {
	for len(header)%8 != 0 {
		header += " "
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}

func open(data []byte) (*Source, error) { return New(file.New("x.safetensors", data)) }

func TestHeader(t *testing.T) {
	b8 := make([]byte, 8)
	one := func(fields string) []byte { return build(`{"w":{`+fields+`}}`, b8) }
	length := func(n uint64, rest string) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), rest...) }
	const fine = `"dtype":"F32","shape":[2],"data_offsets":[0,8]`
	for _, tc := range []struct {
		name string
		in   []byte
		want string // in the error; "" if the file is good
	}{
		{"good", one(fine), ""},
		{"good with metadata", build(`{"__metadata__":{"format":"pt"},"w":{`+fine+`}}`, b8), ""},
		{"good without tensors", build(`{}`, nil), ""},
		{"good scalar", build(`{"w":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, b8), ""},
		{"good, not in order", build(`{"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, b8), ""},
		{"no bytes", nil, "too few"},
		{"7 bytes", make([]byte, 7), "too few"},
		{"header length 0", length(0, "{}"), "empty"},
		{"header of 100 MB and a byte", length(100_000_001, "{}"), "at most 100000000"},
		{"header length 2^63", length(1<<63, "{}"), "at most 100000000"},
		{"header length 2^64-1", length(1<<64-1, "{}"), "at most 100000000"},
		{"header beyond the file", length(3, "{}"), "header of 3 bytes in a file of 10"},
		{"not UTF-8", build("{\"w\xff\":{"+fine+"}}", b8), "UTF-8"},
		{"not JSON", build("hello", nil), "an object expected"},
		{"JSON array", build("[]", nil), "an object expected"},
		{"bytes after the JSON", build("{}{}", nil), "after the end"},
		{"nested deep", build(`{"w":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`}`, b8), `tensor "w"`},
		{"nested deep in shape", one(`"dtype":"F32","shape":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `,"data_offsets":[0,8]`), `"w"`},
		{"duplicate name", build(`{"w":{`+fine+`},"w":{`+fine+`}}`, b8), `"w" overlaps`},
		{"duplicate name, escaped", build(`{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0077":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, b8), `"w" occurs twice`},
		{"metadata is a string", build(`{"__metadata__":"x","w":{`+fine+`}}`, b8), "__metadata__"},
		{"metadata holds a number", build(`{"__metadata__":{"a":1},"w":{`+fine+`}}`, b8), "__metadata__"},
		{"metadata twice", build(`{"__metadata__":{},"__metadata__":{},"w":{`+fine+`}}`, b8), "twice"},
		{"metadata as a tensor", build(`{"__metadata__":{`+fine+`}}`, b8), "__metadata__"},
		{"tensor is a number", build(`{"w":1}`, b8), `tensor "w"`},
		{"tensor is null", build(`{"w":null}`, b8), `tensor "w"`},
		{"unknown dtype", one(`"dtype":"F33","shape":[2],"data_offsets":[0,8]`), `tensor "w": unknown dtype "F33"`},
		{"dtype is no string", one(`"dtype":1,"shape":[2],"data_offsets":[0,8]`), `tensor "w"`},
		{"no dtype", one(`"shape":[2],"data_offsets":[0,8]`), `tensor "w"`},
		{"no shape", one(`"dtype":"F32","data_offsets":[0,8]`), `tensor "w"`},
		{"no offsets", one(`"dtype":"F32","shape":[2]`), `tensor "w"`},
		{"dtype twice", one(fine + `,"dtype":"F32"`), `tensor "w": a field occurs twice`},
		{"shape twice", one(fine + `,"shape":[2]`), `tensor "w": a field occurs twice`},
		{"offsets twice", one(fine + `,"data_offsets":[0,8]`), `tensor "w": a field occurs twice`},
		{"unknown field", one(fine + `,"extra":1`), `tensor "w": unknown field "extra"`},
		{"negative dim", one(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), `tensor "w": shape: dim -2`},
		{"two negative dims", one(`"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]`), `tensor "w": shape: dim -1`},
		{"fractional dim", one(`"dtype":"F32","shape":[2.0],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"dim 1e30", one(`"dtype":"F32","shape":[1e30],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"dim of 31 digits", one(`"dtype":"F32","shape":[1000000000000000000000000000000],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"dim is a string", one(`"dtype":"F32","shape":["2"],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"zero size", build(`{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, nil), `tensor "w": shape: dim 0`},
		{"zero size among others", build(`{"e":{"dtype":"F32","shape":[2,0],"data_offsets":[8,8]},"w":{`+fine+`}}`, b8), `tensor "e": shape: dim 0`},
		{"nine dims", one(`"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]`), `tensor "w": shape: more than 8`},
		{"product overflows to 4", one(`"dtype":"U8","shape":[4294967296,4294967296,4],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"product overflows to 8", one(`"dtype":"U8","shape":[6148914691236517206,3],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"bytes overflow", one(`"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]`), `tensor "w": shape`},
		{"shape too small", one(`"dtype":"F32","shape":[1],"data_offsets":[0,8]`), `tensor "w": F32[1] has 4 bytes`},
		{"shape too large", one(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), `tensor "w": F32[3] has 12 bytes`},
		{"offsets reversed", one(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), `tensor "w": data_offsets [8, 0] are reversed`},
		{"offsets negative", one(`"dtype":"F32","shape":[2],"data_offsets":[-8,0]`), `tensor "w": data_offsets: -8`},
		{"offsets fractional", one(`"dtype":"F32","shape":[2],"data_offsets":[0,8.0]`), `tensor "w": data_offsets`},
		{"one offset", one(`"dtype":"F32","shape":[2],"data_offsets":[0]`), `tensor "w": data_offsets: two numbers`},
		{"three offsets", one(`"dtype":"F32","shape":[2],"data_offsets":[0,8,8]`), `tensor "w": data_offsets: more`},
		{"no offset", one(`"dtype":"F32","shape":[2],"data_offsets":[]`), `tensor "w": data_offsets: two numbers`},
		{"beyond the end", one(`"dtype":"F32","shape":[4],"data_offsets":[0,16]`), `tensor "w": the file should have at least`},
		{"far beyond the end", one(`"dtype":"U8","shape":[4611686018427387904],"data_offsets":[0,4611686018427387904]`), `tensor "w"`},
		{"hole in front", one(`"dtype":"U8","shape":[7],"data_offsets":[1,8]`), `tensor "w": a hole of 1 bytes`},
		{"hole between", build(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, b8), `tensor "w": a hole of 2 bytes`},
		{"hole behind", one(`"dtype":"U8","shape":[7],"data_offsets":[0,7]`), "header accounts for"},
		{"overlap", build(`{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"w":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, b8), `tensor "w" overlaps "a"`},
		{"same range", build(`{"a":{`+fine+`},"w":{`+fine+`}}`, b8), `tensor "w" overlaps "a"`},
		{"inside another", build(`{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, b8), `tensor "w" overlaps "a"`},
		{"not aligned", build(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"F32","shape":[1],"data_offsets":[2,6]},"x":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}`, b8), `tensor "w": byte`},
		{"header makes data unaligned", append(length(uint64(len(`{"w":{`+fine+`}}`)+1), ` {"w":{`+fine+`}}`), b8...), `tensor "w": byte`},
		{"name too long", build(`{"`+strings.Repeat("w", 5000)+`":{`+fine+`}}`, b8), "at most 4096"},
		{"truncated", one(fine)[:len(one(fine))-1], `the file should have at least 72 bytes, got 71`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open(tc.in)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkSource(t, s)
				return
			}
			if err == nil {
				t.Fatalf("accepted with %q", s.Names())
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "x.safetensors") || len(err.Error()) > 500 {
				t.Errorf("got %q, want it to name the file and %q", err, tc.want)
			}
		})
	}
}

// checkSource looks at every byte of every tensor.
func checkSource(t *testing.T, s *Source) {
	t.Helper()
	for _, name := range s.Names() {
		e, ok := s.Lookup(name)
		n, fits := e.Shape.NumElements()
		if !ok || e.Name != name || !fits || int64(len(e.Data)) != n*e.DType.Size() || e.DType == tensor.Invalid {
			t.Fatalf("%q: %v%v has %d bytes", name, e.DType, e.Shape, len(e.Data))
		}
		for i := range e.Data {
			_ = e.Data[i]
		}
	}
	if _, ok := s.Lookup("no such tensor"); ok {
		t.Fatal("found a tensor that is not there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// manyTensors makes a file of n tensors of one byte.
func manyTensors(n int) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"blocks.%d.weight":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}`, i, i, i+1)
	}
	b.WriteByte('}')
	return build(b.String(), make([]byte, n))
}

// TestHeaderBounds opens files with as many tensors as a header can hold: what is
// accepted takes little more memory than the header, what is not is refused at once.
func TestHeaderBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a header of 70 MB")
	}
	for _, tc := range []struct {
		n    int
		want string
	}{
		{maxTensors, ""},
		{1_000_000, `more than 131072 tensors, from "blocks.131072.weight" on`},
	} {
		data := manyTensors(tc.n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		s, err := open(data)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%d tensors: %v, want %q", tc.n, err, tc.want)
		case err == nil:
			checkSource(t, s)
		}
		headerBytes := binary.LittleEndian.Uint64(data)
		grown := after.TotalAlloc - before.TotalAlloc
		t.Logf("%d tensors: header %d bytes, %v, %d bytes allocated in all", tc.n, headerBytes, took, grown)
		if limit := 3*headerBytes + 20<<20; grown > limit {
			t.Errorf("%d tensors: %d bytes allocated for a header of %d", tc.n, grown, headerBytes)
		}
		if took > 4*time.Second { // 1 s is the aim; test machines are shared
			t.Errorf("%d tensors: %v", tc.n, took)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`), 8)
	f.Add([]byte(`{"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]},"v":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`), 8)
	f.Add([]byte(`{"w":{"dtype":"F8_E4M3","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}`), 4)
	f.Fuzz(func(t *testing.T, header []byte, n int) {
		if n < 0 || n > 1<<16 {
			return
		}
		for _, data := range [][]byte{build(string(header), make([]byte, n)), header} {
			if s, err := open(data); err == nil {
				checkSource(t, s)
			}
		}
	})
}
