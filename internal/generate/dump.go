package generate

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Dump keeps what a run computes, for comparing with other implementations. Names,
// shapes and types are those of the golden runs in testdata/e2e: PyTorch's
// channels-first order, a batch of 1 dropped.
type Dump struct {
	arrays map[string]array
}

type array struct {
	dtype tensor.DType
	shape []int
	data  []byte
}

// NewDump returns an empty dump.
func NewDump() *Dump { return &Dump{arrays: map[string]array{}} }

// floats keeps a copy of x; a nil Dump keeps nothing.
func (d *Dump) floats(name string, x []float32, shape ...int) {
	if d != nil {
		d.arrays[name] = array{tensor.F32, shape, append([]byte(nil), tensor.FloatBytes(x)...)}
	}
}

// step appends x to the array whose first dim counts the steps.
func (d *Dump) step(name string, x []float32, shape ...int) {
	if d == nil {
		return
	}
	a := d.arrays[name]
	if a.shape == nil {
		a = array{dtype: tensor.F32, shape: append([]int{0}, shape...)}
	}
	a.shape[0]++
	a.data = append(a.data, tensor.FloatBytes(x)...)
	d.arrays[name] = a
}

func (d *Dump) ints(name string, x []int64) {
	if d == nil {
		return
	}
	var data []byte
	for _, v := range x {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	d.arrays[name] = array{tensor.I64, []int{len(x)}, data}
}

// frames appends byte frames [h, w, 3].
func (d *Dump) frames(rgb []byte, h, w int) {
	if d == nil {
		return
	}
	const name = "video_uint8_FHWC"
	a := d.arrays[name]
	if a.shape == nil {
		a = array{dtype: tensor.U8, shape: []int{0, h, w, 3}}
	}
	a.shape[0] += len(rgb) / (h * w * 3)
	a.data = append(a.data, rgb...)
	d.arrays[name] = a
}

// WriteTo writes the dump as a safetensors file.
func (d *Dump) WriteTo(w io.Writer) (int64, error) {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	names := slices.Sorted(maps.Keys(d.arrays))
	header := map[string]entry{}
	offset := int64(0)
	for _, name := range names {
		a := d.arrays[name]
		end := offset + int64(len(a.data))
		header[name] = entry{a.dtype.String(), a.shape, [2]int64{offset, end}}
		offset = end
	}
	text, err := json.Marshal(header)
	if err != nil {
		return 0, fmt.Errorf("dump header: %w", err)
	}
	for len(text)%8 != 0 { // the data that follow are aligned
		text = append(text, ' ')
	}
	chunks := [][]byte{binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text}
	for _, name := range names {
		chunks = append(chunks, d.arrays[name].data)
	}
	total := int64(0)
	for _, c := range chunks {
		n, err := w.Write(c)
		total += int64(n)
		if err != nil {
			return total, fmt.Errorf("write dump: %w", err)
		}
	}
	return total, nil
}
