package synthetic

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// The storage classes of torch.
var storages = map[tensor.DType]string{tensor.F32: "FloatStorage", tensor.BF16: "BFloat16Storage", tensor.F16: "HalfStorage"}

// pickle is a state dict in protocol 2, whose opcodes it appends.
// Source: CPython, Lib/pickletools.py; PyTorch, torch/_utils.py, _rebuild_tensor_v2.
type pickle []byte

func (p *pickle) op(ops ...byte) { *p = append(*p, ops...) }

func (p *pickle) global(module, name string) { *p = append(*p, "c"+module+"\n"+name+"\n"...) }

func (p *pickle) text(s string) {
	*p = append(binary.LittleEndian.AppendUint32(append(*p, 'X'), uint32(len(s))), s...)
}

func (p *pickle) number(n int64) {
	if n <= math.MaxInt32 {
		*p = binary.LittleEndian.AppendUint32(append(*p, 'J'), uint32(n))
		return
	}
	*p = binary.LittleEndian.AppendUint64(append(*p, 0x8a, 8), uint64(n))
}

// numbers appends a tuple.
func (p *pickle) numbers(n ...int64) {
	p.op('(')
	for _, v := range n {
		p.number(v)
	}
	p.op('t')
}

// dict appends an empty OrderedDict.
func (p *pickle) dict() {
	p.global("collections", "OrderedDict")
	p.op(')', 'R')
}

// tensor appends w, whose storage is the archive's data/key.
func (p *pickle) tensor(key string, w weight) {
	shape, strides, stride := make([]int64, len(w.Shape)), make([]int64, len(w.Shape)), int64(1)
	for i := len(w.Shape) - 1; i >= 0; i-- {
		shape[i], strides[i] = int64(w.Shape[i]), stride
		stride *= shape[i]
	}
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.op('(', '(')
	p.text("storage")
	p.global("torch", storages[w.dtype])
	p.text(key)
	p.text("cpu")
	p.number(w.elements())
	p.op('t', 'Q')
	p.number(0)
	p.numbers(shape...)
	p.numbers(strides...)
	p.op(0x89) // requires no gradient
	p.dict()
	p.op('t', 'R')
}

// stateDict returns data.pkl of weights whose storages are numbered.
func stateDict(all []weight) []byte {
	p := pickle{0x80, 2}
	p.dict()
	p.op('(')
	for i, w := range all {
		p.text(w.Name)
		p.tensor(strconv.Itoa(i), w)
	}
	p.op('u', '.')
	return p
}

// alignment is where torch.save begins the data of storages, in bytes.
const alignment = 64

// writeTorch writes weights as torch.save does: a zip archive of a pickle and one stored
// member for each storage.
func writeTorch(to *out, file string, all []weight, seed uint64, sparse bool) error {
	archive := zip.NewWriter(to)
	descriptor := int64(0) // of the member before, which is written when the next begins
	root := strings.TrimSuffix(file, path.Ext(file))
	member := func(name string, write func(io.Writer) error) error {
		if err := archive.Flush(); err != nil {
			return err
		}
		h := &zip.FileHeader{Name: root + "/" + name, Method: zip.Store}
		const local = 30 + 4 // headers of the member and of its padding
		pad := (alignment - (to.at+descriptor+local+int64(len(h.Name)))%alignment) % alignment
		descriptor = 16
		h.Extra = append([]byte{'F', 'B', byte(pad), 0}, make([]byte, pad)...)
		w, err := archive.CreateHeader(h)
		if err != nil {
			return err
		}
		return write(w)
	}
	small := func(name string, data []byte) error {
		return member(name, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	if err := small("data.pkl", stateDict(all)); err != nil {
		return err
	}
	if err := small("byteorder", []byte("little")); err != nil {
		return err
	}
	for i, w := range all {
		if err := member(fmt.Sprintf("data/%d", i), func(to io.Writer) error { return w.write(to, seed, sparse) }); err != nil {
			return err
		}
	}
	if err := small("version", []byte("3\n")); err != nil {
		return err
	}
	return archive.Close()
}
