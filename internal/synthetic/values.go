package synthetic

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// weight is one tensor of a file.
type weight struct {
	nn.Param
	dtype tensor.DType
}

func (w weight) elements() int64 {
	n, _ := w.Shape.NumElements()
	return n
}

func (w weight) bytes() int64 { return w.elements() * w.dtype.Size() }

// weights returns the tensors of m by name, as the official files have them.
func (m model) weights() []weight {
	var all []weight
	for _, u := range m.units {
		for _, p := range u.Params {
			all = append(all, weight{p, m.dtype})
		}
	}
	slices.SortFunc(all, func(a, b weight) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// scale returns the middle and the standard deviation of a tensor's values: a matrix
// keeps the variance of what it multiplies, a norm does nothing, a bias adds nothing.
func (w weight) scale() (middle, deviation float64) {
	switch {
	case strings.HasSuffix(w.Name, "bias"):
		return 0, 0
	case strings.HasSuffix(w.Name, ".modulation"):
		return 0, 1 / math.Sqrt(float64(w.Shape[len(w.Shape)-1])) // as the official code begins training
	case strings.HasSuffix(w.Name, ".gamma"), w.Kind == nn.Vector && strings.HasSuffix(w.Name, ".weight"):
		return 1, 0
	case w.Kind == nn.Vector:
		return 0, 0.02
	case w.Kind == nn.Rows:
		return 0, 0.5
	}
	fanIn, _ := w.Shape[1:].NumElements()
	return 0, 1 / math.Sqrt(float64(max(fanIn, 1)))
}

// chunk is how many elements are drawn at a time.
const chunk = 1 << 16

// source draws the values of one tensor.
type source struct {
	state  uint64
	middle float32
	unit   float32 // of a 16-bit integer
}

// write draws the values of w and writes them. With sparse, all but vectors are zeros.
func (w weight) write(to io.Writer, seed uint64, sparse bool) error {
	middle, deviation := w.scale()
	if sparse && w.Kind != nn.Vector {
		middle, deviation = 0, 0
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, w.Name) // a hash takes everything
	s := source{state: seed ^ h.Sum64(), middle: float32(middle), unit: float32(deviation * math.Sqrt(3) / (1 << 15))}
	buf := make([]byte, min(chunk, w.elements())*w.dtype.Size())
	constant := deviation == 0
	for at, n := int64(0), w.elements(); at < n; at += chunk {
		part := buf[:min(chunk, n-at)*w.dtype.Size()]
		if !constant || at == 0 {
			s.fill(part, w.dtype)
		}
		if _, err := to.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// fill draws evenly distributed values, four from each word.
func (s *source) fill(dst []byte, dt tensor.DType) {
	size := int(dt.Size())
	for i := 0; i < len(dst); {
		word := s.next()
		for range 4 {
			if i == len(dst) {
				return
			}
			v := s.middle + float32(int16(word))*s.unit
			word >>= 16
			switch dt {
			case tensor.BF16:
				binary.LittleEndian.PutUint16(dst[i:], tensor.F32ToBF16(v))
			case tensor.F16:
				binary.LittleEndian.PutUint16(dst[i:], tensor.F32ToF16(v))
			default:
				binary.LittleEndian.PutUint32(dst[i:], math.Float32bits(v))
			}
			i += size
		}
	}
}

// next is splitmix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", OOPSLA 2014, figure 16.
func (s *source) next() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
