package torchzip

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// good is a tensor of all sixteen floats under the name w.
func good() pickle { return dictOf("w").tensor("0", 16, 0, []int64{4, 4}, []int64{4, 1}).done() }

func TestAccepted(t *testing.T) {
	mutate := func(fn func(a *archiveSpec)) []byte {
		a := saved(good(), sixteen())
		fn(&a)
		return a.bytes()
	}
	plain := func(p pickle) []byte { return saved(p, sixteen()).bytes() }
	want := file.Entry{DType: tensor.F32, Shape: tensor.Shape{4, 4}, Data: sixteen()}
	for _, tc := range []struct {
		name string
		in   []byte
		want file.Entry
	}{
		{"plain", plain(good()), want},
		{"no byteorder, as before torch 2.1", mutate(func(a *archiveSpec) { a.parts = slices.Delete(a.parts, 1, 2) }), want},
		{"zip64 directory", mutate(func(a *archiveSpec) { a.end64 = true }), want},
		{"zip64 entry", mutate(func(a *archiveSpec) { a.parts[2].zip64 = true }), want},
		{"sizes after the data", mutate(func(a *archiveSpec) {
			a.parts[2].flags = flagDescriptor
			a.parts[2].localSize = -int64(len(sixteen()))
		}), want},
		{"ordered dict with metadata", plain(start().hooks().op(opMark).str("w").tensor("0", 16, 0, []int64{4, 4}, []int64{4, 1}).op(opSetItems).
			op(opEmptyDict).str("_metadata").hooks().op(opMark).str("").op(opEmptyDict).str("version").num(1).op(opSetItem, opSetItems, opSetItem, opBuild, opStop)), want},
		{"parameter", plain(dictOf("w").global("torch._utils", "_rebuild_parameter").op(opMark).
			tensor("0", 16, 0, []int64{4, 4}, []int64{4, 1}).op(opTrue).hooks().op(opTuple, opReduce).done()), want},
		{"v3 of an untyped storage", plain(dictOf("w").global("torch._utils", "_rebuild_tensor_v3").op(opMark).storage("UntypedStorage", "0", 64).
			num(8).nums(3).nums(1).op(opFalse).hooks().global("torch", "float8_e4m3fn").op(opTuple, opReduce).done()),
			file.Entry{DType: tensor.F8E4M3, Shape: tensor.Shape{3}, Data: sixteen()[8:11]}},
		{"scalar", plain(dictOf("w").tensor("0", 16, 3, nil, nil).done()), file.Entry{DType: tensor.F32, Shape: tensor.Shape{}, Data: floats(3)}},
		{"transposed", plain(dictOf("w").tensor("0", 16, 0, []int64{4, 4}, []int64{1, 4}).done()),
			file.Entry{DType: tensor.F32, Shape: tensor.Shape{4, 4}, Strides: []int64{1, 4}, Data: sixteen()}},
		{"part of a storage", plain(dictOf("w").tensor("0", 16, 5, []int64{2, 3}, []int64{4, 1}).done()),
			file.Entry{DType: tensor.F32, Shape: tensor.Shape{2, 3}, Strides: []int64{4, 1}, Data: sixteen()[20 : 20+28]}},
		{"any stride where the dim is 1", plain(dictOf("w").tensor("0", 16, 0, []int64{1, 16, 1}, []int64{999, 1, 0}).done()),
			file.Entry{DType: tensor.F32, Shape: tensor.Shape{1, 16, 1}, Data: sixteen()}},
		{"memo", plain(start().op(opEmptyDict, opBinPut, 0, opMark).str("w").op(opBinPut, 1).tensor("0", 16, 0, []int64{4, 4}, []int64{4, 1}).
			op(opLongBinPut, 2, 0, 0, 0).op(opSetItems, opStop)), want},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			e, ok := s.Lookup("w")
			if !ok || e.DType != tc.want.DType || !e.Shape.Equal(tc.want.Shape) || !slices.Equal(e.Strides, tc.want.Strides) ||
				!bytes.Equal(e.Data, tc.want.Data) || e.Name != "w" || e.File != "m.pth" {
				t.Errorf("got %+v, want %+v", e, tc.want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFileOrder lists tensors as they lie in the file, not in the dict.
func TestFileOrder(t *testing.T) {
	p := dictOf("b").tensor("1", 16, 0, []int64{16}, []int64{1}).
		str("a2").tensor("0", 16, 8, []int64{8}, []int64{1}).
		str("a1").tensor("0", 16, 0, []int64{8}, []int64{1}).done()
	s, err := open(saved(p, sixteen(), sixteen()).bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Names(); !slices.Equal(got, []string{"a1", "a2", "b"}) {
		t.Errorf("names %q", got)
	}
}

// TestFixtures reads files that torch.save wrote. The values were taken from the
// files with Python's zipfile and struct.
func TestFixtures(t *testing.T) {
	for _, tc := range []struct {
		path  string
		count int
		name  string
		dtype tensor.DType
		shape tensor.Shape
		first []byte
	}{
		{"ckpt_i2v/Wan2.1_VAE.pth", 194, "encoder.conv1.weight", tensor.F32, tensor.Shape{8, 3, 3, 3, 3}, []byte{0x17, 0xcc, 0x8f, 0xbd, 0xc9, 0xd5, 0x98, 0xbd}},
		{"ckpt_t2v/models_t5_umt5-xxl-enc-bf16.pth", 22, "token_embedding.weight", tensor.BF16, tensor.Shape{4352, 48}, []byte{0x78, 0x3c, 0xb6, 0x3e, 0x79, 0x3e}},
		{"ckpt_i2v/models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth", 68, "log_scale", tensor.F16, tensor.Shape{}, []byte{0x52, 0x41}},
	} {
		t.Run(tc.path, func(t *testing.T) {
			dir, name := filepath.Split(filepath.Join("../../../testdata", tc.path))
			folder, err := file.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			f, err := folder.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(f)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			e, ok := s.Lookup(tc.name)
			if !ok || len(s.Names()) != tc.count || e.DType != tc.dtype || !e.Shape.Equal(tc.shape) || e.Strides != nil {
				t.Fatalf("%d tensors, %q is %v%v with strides %v", len(s.Names()), tc.name, e.DType, e.Shape, e.Strides)
			}
			if !bytes.HasPrefix(e.Data, tc.first) {
				t.Errorf("%q begins with % x, want % x", tc.name, e.Data[:len(tc.first)], tc.first)
			}
		})
	}
}

func FuzzTorchZip(f *testing.F) {
	f.Add(saved(good(), sixteen()).bytes())
	f.Add(archiveSpec{parts: saved(good(), sixteen()).parts, end64: true}.bytes())
	f.Add(saved(dictOf("w").tensor("0", 16, 5, []int64{2, 3}, []int64{4, 1}).done(), sixteen()).bytes())
	f.Fuzz(func(t *testing.T, data []byte) { checkIfOpen(t, data) })
}

// FuzzPickle puts any pickle into a good archive.
func FuzzPickle(f *testing.F) {
	f.Add([]byte(good()))
	f.Add([]byte(dictOf("w").global("os", "system").str("true").op(opTuple1, opReduce).done()))
	f.Add([]byte(dictOf("w").tensor("0", 16, 5, []int64{2, 3}, []int64{4, 1}).done()))
	f.Fuzz(func(t *testing.T, data []byte) { checkIfOpen(t, saved(data, sixteen()).bytes()) })
}

// checkIfOpen looks at all that tensors of a file reach into, if it opens.
func checkIfOpen(t *testing.T, data []byte) {
	s, err := open(data)
	if err != nil {
		return
	}
	for _, name := range s.Names() {
		e, ok := s.Lookup(name)
		n, fits := e.Shape.NumElements()
		size := e.DType.Size()
		if !ok || !fits || n <= 0 || size == 0 || len(e.Data) == 0 || len(e.Data) > len(data) || n > int64(len(data)) {
			t.Fatalf("%q: %v%v strides %v, %d bytes of %d", name, e.DType, e.Shape, e.Strides, len(e.Data), len(data))
		}
		last := n - 1
		if e.Strides != nil {
			last = 0
			for i, d := range e.Shape {
				last += int64(d-1) * e.Strides[i]
			}
		}
		if (last+1)*size != int64(len(e.Data)) {
			t.Fatalf("%q: %v%v strides %v reaches %d elements, has %d bytes", name, e.DType, e.Shape, e.Strides, last+1, len(e.Data))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
