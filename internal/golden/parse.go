package golden

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
)

// maxHeader is far above any reference file's header.
const maxHeader = 16 << 20

type header struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// parse reads a safetensors file: a little-endian length, a JSON header of that
// length, then the data that the header's offsets point into.
func parse(data []byte) (map[string]Tensor, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a safetensors file", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-8) {
		return nil, fmt.Errorf("header of %d bytes does not fit into a file of %d", n, len(data))
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+n], &entries); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	body := data[8+n:]
	tensors := make(map[string]Tensor, len(entries))
	for name, raw := range entries {
		if name == "__metadata__" {
			continue
		}
		var h header
		if err := json.Unmarshal(raw, &h); err != nil {
			return nil, fmt.Errorf("read header of tensor %q: %w", name, err)
		}
		t, err := decode(h, body)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		tensors[name] = t
	}
	return tensors, nil
}

func decode(h header, body []byte) (Tensor, error) {
	size, ok := elementSize[h.DType]
	if !ok {
		return Tensor{}, fmt.Errorf("element type %q is not known", h.DType)
	}
	begin, end := h.Offsets[0], h.Offsets[1]
	if begin < 0 || begin > end || end > int64(len(body)) {
		return Tensor{}, fmt.Errorf("offsets %v lie outside of the %d data bytes", h.Offsets, len(body))
	}
	raw := body[begin:end]
	if n, ok := numElements(h.Shape, len(raw)/size); !ok || n*size != len(raw) {
		return Tensor{}, fmt.Errorf("shape %v of %s needs another size than the stored %d bytes", h.Shape, h.DType, len(raw))
	}
	t := Tensor{Shape: h.Shape, DType: h.DType}
	n := len(raw) / size
	switch h.DType {
	case "U8", "BOOL":
		t.U8 = append([]uint8{}, raw...)
	case "I64", "I32":
		t.I64 = make([]int64, n)
		for i := range t.I64 {
			if size == 8 {
				t.I64[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
			} else {
				t.I64[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
			}
		}
	default:
		t.F32 = make([]float32, n)
		for i := range t.F32 {
			t.F32[i] = float(h.DType, raw[i*size:])
		}
	}
	return t, nil
}

var elementSize = map[string]int{
	"F32": 4, "F64": 8, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1,
}

// numElements multiplies the dims and says no to a product above limit.
func numElements(shape []int, limit int) (int, bool) {
	n := 1
	for _, d := range shape {
		if d == 0 {
			return 0, true
		}
		if d < 0 || n > limit/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

func float(dtype string, b []byte) float32 {
	switch dtype {
	case "F32":
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	case "F64":
		return float32(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case "BF16":
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	default: // F16
		return half(binary.LittleEndian.Uint16(b))
	}
}

// half widens an IEEE binary16 value, which is exact.
func half(h uint16) float32 {
	exponent, fraction := int(h>>10&31), float64(h&1023)
	var v float64
	switch {
	case exponent == 31 && fraction != 0:
		v = math.NaN()
	case exponent == 31:
		v = math.Inf(1)
	case exponent == 0:
		v = math.Ldexp(fraction, -24)
	default:
		v = math.Ldexp(fraction+1024, exponent-25)
	}
	if h>>15 != 0 {
		v = -v
	}
	return float32(v)
}
