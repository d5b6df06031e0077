package checkpoint_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/checkpoint/safetensors"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// element decodes one stored element.
func element(d tensor.DType, b []byte) float64 {
	le := binary.LittleEndian
	switch d {
	case tensor.F32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case tensor.F64:
		return math.Float64frombits(le.Uint64(b))
	case tensor.BF16:
		return float64(tensor.BF16ToF32(le.Uint16(b)))
	case tensor.F16:
		return float64(tensor.F16ToF32(le.Uint16(b)))
	default:
		return float64(tensor.F8E4M3ToF32(b[0]))
	}
}

// nearest rounds v once, to nearest even, to a float of the given layout.
func nearest(v float64, d tensor.DType) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	minExp, fracBits := -126, 23
	largest := float64(math.MaxFloat32)
	switch d {
	case tensor.BF16:
		fracBits, largest = 7, math.Ldexp(2-math.Ldexp(1, -7), 127)
	case tensor.F16:
		minExp, fracBits, largest = -14, 10, 65504
	}
	_, exp := math.Frexp(v) // v = f * 2^exp, 0.5 <= f < 1
	unit := max(exp-1, minExp) - fracBits
	rounded := math.Ldexp(math.RoundToEven(math.Ldexp(v, -unit)), unit)
	if math.Abs(rounded) > largest {
		return math.Inf(int(math.Copysign(1, v)))
	}
	return math.Copysign(rounded, v)
}

func same(a, b float64) bool {
	return a == b && math.Signbit(a) == math.Signbit(b) || math.IsNaN(a) && math.IsNaN(b)
}

// randomBytes are n elements of any bits, with middles between narrower values,
// ordinary values, zeros, infinities and NaN among them.
func randomBytes(r *rand.Rand, d tensor.DType, n int) []byte {
	size := int(d.Size())
	out := make([]byte, n*size)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	for i := range n {
		v := r.NormFloat64()
		if r.IntN(4) == 0 { // the middle of two bf16 or f16 values, or just beside it
			v = 1 + float64(r.IntN(8))*math.Ldexp(1, -8-r.IntN(4)) + float64(r.IntN(3)-1)*math.Ldexp(1, -40)
		}
		if r.IntN(3) == 0 {
			v *= math.Ldexp(1, r.IntN(60)-40)
		}
		b := out[i*size : (i+1)*size]
		switch {
		case r.IntN(3) == 0: // any bits
		case d == tensor.F32:
			binary.LittleEndian.PutUint32(b, math.Float32bits(float32(v)))
		case d == tensor.F64:
			binary.LittleEndian.PutUint64(b, math.Float64bits(v))
		}
	}
	return out
}

var (
	stored  = []tensor.DType{tensor.F32, tensor.BF16, tensor.F16, tensor.F8E4M3, tensor.F64}
	compute = []tensor.DType{tensor.F32, tensor.BF16, tensor.F16}
)

// checkRead compares Read with one element at a time, by the definition of strides.
func checkRead(t *testing.T, e checkpoint.Entry) {
	t.Helper()
	for _, d := range compute {
		n := int(e.NumElements())
		size := int(d.Size())
		dst := make([]byte, n*size)
		if err := checkpoint.Read(dst, d, e); err != nil {
			t.Fatal(err)
		}
		index := make([]int, len(e.Shape))
		strides := e.Strides
		if strides == nil {
			strides = make([]int64, len(e.Shape))
			for i, s := len(e.Shape)-1, int64(1); i >= 0; i-- {
				strides[i] = s
				s *= int64(e.Shape[i])
			}
		}
		for k := range n {
			at := int64(0)
			for i, x := range index {
				at += int64(x) * strides[i]
			}
			v := element(e.DType, e.Data[at*e.DType.Size():])
			if got, want := element(d, dst[k*size:]), nearest(v, d); !same(got, want) {
				t.Fatalf("%v%v strides %v to %v: element %v is %g, want %g (stored %g)", e.DType, e.Shape, e.Strides, d, index, got, want, v)
			}
			for i := len(index) - 1; i >= 0; i-- {
				if index[i]++; index[i] < e.Shape[i] {
					break
				}
				index[i] = 0
			}
		}
	}
}

func TestReadContiguous(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, d := range stored {
		for _, shape := range []tensor.Shape{{}, {1}, {3}, {7, 5}, {1, 4, 1}, {1023}, {1024}, {1025}, {3, 1111}} {
			n, _ := shape.NumElements()
			checkRead(t, checkpoint.Entry{Name: "w", DType: d, Shape: shape, Data: randomBytes(r, d, int(n))})
		}
	}
}

func TestReadEveryHalf(t *testing.T) {
	data := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(data[2*i:], uint16(i))
	}
	for _, d := range []tensor.DType{tensor.BF16, tensor.F16} {
		checkRead(t, checkpoint.Entry{Name: "w", DType: d, Shape: tensor.Shape{1 << 16}, Data: data})
	}
	checkRead(t, checkpoint.Entry{Name: "w", DType: tensor.F8E4M3, Shape: tensor.Shape{2 << 16}, Data: data})
}

// TestReadStrided permutes, narrows and steps through tensors at random.
func TestReadStrided(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		d := stored[i%len(stored)]
		rank := 1 + r.IntN(5)
		shape, strides := make(tensor.Shape, rank), make([]int64, rank)
		extent := int64(1)
		for _, k := range r.Perm(rank) { // any order of the dims in memory, with gaps
			shape[k] = 1 + r.IntN(6)
			if r.IntN(20) == 0 {
				shape[k] = 1100
				if extent > 1000 {
					shape[k] = 2
				}
			}
			strides[k] = extent
			if r.IntN(3) == 0 {
				strides[k] += int64(r.IntN(3))
			}
			extent += int64(shape[k]-1) * strides[k]
		}
		e := checkpoint.Entry{Name: "w", DType: d, Shape: shape, Strides: strides}
		e.Data = randomBytes(r, d, int(extent))
		checkRead(t, e)
		start := r.IntN(shape[0])
		rows := e.Rows(start, 1+r.IntN(shape[0]-start))
		checkRead(t, rows)
		checkRead(t, rows.Permute(r.Perm(rank)...))
	}
}

func TestReadConvPermutation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	e := checkpoint.Entry{Name: "w", DType: tensor.F32, Shape: tensor.Shape{5, 7, 3, 2, 4}}
	e.Data = randomBytes(r, e.DType, int(e.NumElements()))
	p := e.Permute(0, 2, 3, 4, 1)
	if want := (tensor.Shape{5, 3, 2, 4, 7}); !p.Shape.Equal(want) {
		t.Fatalf("shape %v, want %v", p.Shape, want)
	}
	checkRead(t, p)
	checkRead(t, p.Rows(2, 2))
}

// TestReadRoundsOnce has values that rounding to F32 first would get wrong.
func TestReadRoundsOnce(t *testing.T) {
	for _, tc := range []struct {
		v    float64
		d    tensor.DType
		want float64
	}{
		{1 + math.Ldexp(1, -8) + math.Ldexp(1, -40), tensor.BF16, 1 + math.Ldexp(1, -7)},
		{1 + math.Ldexp(1, -8), tensor.BF16, 1},
		{1 + 3*math.Ldexp(1, -8) - math.Ldexp(1, -40), tensor.BF16, 1 + math.Ldexp(1, -7)},
		{1 + math.Ldexp(1, -11) + math.Ldexp(1, -40), tensor.F16, 1 + math.Ldexp(1, -10)},
		{65520 - math.Ldexp(1, -30), tensor.F16, 65504},
		{-65520, tensor.F16, math.Inf(-1)},
		{1e300, tensor.BF16, math.Inf(1)},
		{1e-300, tensor.F16, 0},
	} {
		e := checkpoint.Entry{DType: tensor.F64, Shape: tensor.Shape{1}, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(tc.v))}
		dst := make([]byte, 2)
		if err := checkpoint.Read(dst, tc.d, e); err != nil {
			t.Fatal(err)
		}
		if got := element(tc.d, dst); !same(got, tc.want) {
			t.Errorf("%b to %v = %b, want %b", tc.v, tc.d, got, tc.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	e := checkpoint.Entry{Name: "w", DType: tensor.F32, Shape: tensor.Shape{2}, Data: make([]byte, 8)}
	integers := e
	integers.DType = tensor.I32
	for _, tc := range []struct {
		name  string
		bytes int
		d     tensor.DType
		e     checkpoint.Entry
	}{
		{"short", 7, tensor.F32, e}, {"long", 12, tensor.F32, e}, {"to integers", 8, tensor.I32, e}, {"of integers", 8, tensor.F32, integers},
	} {
		err := checkpoint.Read(make([]byte, tc.bytes), tc.d, tc.e)
		if !errors.Is(err, checkpoint.ErrCheckpoint) || !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("%s: %v, want ErrCheckpoint naming the tensor", tc.name, err)
		}
	}
}

// TestReadTruncated cuts a file after it was opened.
func TestReadTruncated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	const n = 1 << 18
	header := fmt.Sprintf(`{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}`, n, 4*n)
	header += strings.Repeat(" ", 8-len(header)%8)
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	if err := os.WriteFile(path, append(data, make([]byte, 4*n)...), 0o600); err != nil {
		t.Fatal(err)
	}
	folder, err := file.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	f, err := folder.Open("w.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	src, err := safetensors.New(f)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	e, _ := src.Lookup("w")
	for _, d := range compute {
		dst := make([]byte, n*d.Size())
		if err := checkpoint.Read(dst, d, e); err != nil {
			t.Fatalf("before: %v", err)
		}
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	for _, d := range compute {
		dst := make([]byte, n*d.Size())
		err := checkpoint.Read(dst, d, e)
		if !errors.Is(err, checkpoint.ErrCheckpoint) || !errors.Is(err, file.ErrLost) || !strings.Contains(err.Error(), path) {
			t.Errorf("to %v after: %v, want an error that names the file", d, err)
		}
	}
}

// weightBytes are n values of the size of a model's weights.
func weightBytes(d tensor.DType, n int) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	le := binary.LittleEndian
	out := make([]byte, 0, n*int(d.Size()))
	for range n {
		switch v := r.NormFloat64() * 0.02; d {
		case tensor.F32:
			out = le.AppendUint32(out, math.Float32bits(float32(v)))
		case tensor.F64:
			out = le.AppendUint64(out, math.Float64bits(v))
		case tensor.BF16:
			out = le.AppendUint16(out, tensor.F32ToBF16(float32(v)))
		case tensor.F16:
			out = le.AppendUint16(out, tensor.F32ToF16(float32(v)))
		default:
			out = append(out, byte(r.Uint32())&0xbf)
		}
	}
	return out
}

func BenchmarkRead(b *testing.B) {
	const n = 1 << 22
	for _, s := range stored {
		for _, d := range compute {
			b.Run(fmt.Sprintf("%v to %v", s, d), func(b *testing.B) {
				e := checkpoint.Entry{DType: s, Shape: tensor.Shape{n}, Data: weightBytes(s, n)}
				dst := make([]byte, n*d.Size())
				b.SetBytes(int64(len(dst)))
				for b.Loop() {
					if err := checkpoint.Read(dst, d, e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("conv F32 to F32", func(b *testing.B) {
		e := checkpoint.Entry{DType: tensor.F32, Shape: tensor.Shape{384, 384, 3, 3, 3}}
		e.Data = make([]byte, 4*e.NumElements())
		e = e.Permute(0, 2, 3, 4, 1)
		dst := make([]byte, len(e.Data))
		b.SetBytes(int64(len(dst)))
		for b.Loop() {
			if err := checkpoint.Read(dst, tensor.F32, e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
