package torchzip

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
)

// pickle writes opcodes, good and bad ones.
type pickle []byte

func start() pickle { return pickle{opProto, 2} }

func (p pickle) op(ops ...byte) pickle { return append(p, ops...) }

func (p pickle) str(s string) pickle {
	p = binary.LittleEndian.AppendUint32(append(p, opBinUnicode), uint32(len(s)))
	return append(p, s...)
}

func (p pickle) num(v int64) pickle {
	if v >= math.MinInt32 && v <= math.MaxInt32 {
		return binary.LittleEndian.AppendUint32(append(p, opBinInt), uint32(int32(v)))
	}
	return binary.LittleEndian.AppendUint64(append(p, opLong1, 8), uint64(v))
}

func (p pickle) global(module, name string) pickle {
	return append(p, "c"+module+"\n"+name+"\n"...)
}

// nums is a tuple of integers.
func (p pickle) nums(values ...int64) pickle {
	p = p.op(opMark)
	for _, v := range values {
		p = p.num(v)
	}
	return p.op(opTuple)
}

// storage is a persistent id.
func (p pickle) storage(kind, key string, count int64) pickle {
	return p.op(opMark).str("storage").global("torch", kind).str(key).str("cpu").num(count).op(opTuple, opBinPersID)
}

// hooks is the empty OrderedDict at the end of a tensor's arguments.
func (p pickle) hooks() pickle {
	return p.global("collections", "OrderedDict").op(opEmptyTuple, opReduce)
}

// tensor is a view of a float storage.
func (p pickle) tensor(key string, count, offset int64, shape, strides []int64) pickle {
	return p.global("torch._utils", "_rebuild_tensor_v2").op(opMark).storage("FloatStorage", key, count).
		num(offset).nums(shape...).nums(strides...).op(opFalse).hooks().op(opTuple, opReduce)
}

// dictOf is a whole pickle of one item, whose value comes next.
func dictOf(name string) pickle { return start().op(opEmptyDict, opMark).str(name) }

// done ends a pickle begun by dictOf.
func (p pickle) done() pickle { return p.op(opSetItems, opStop) }

// part is an entry of an archive; the zero fields are what is usual.
type part struct {
	name string
	data []byte

	method       uint16
	flags        uint16
	localName    string // if other than in the directory
	localSize    int64  // added to the size in the local header
	centralSize  int64  // added to the sizes in the directory
	zip64        bool   // sizes and offset in the extra field
	noCentral    bool
	headerOffset int64 // added to the offset in the directory
}

// archiveSpec is an archive to be written; the zero fields are what is usual.
type archiveSpec struct {
	parts      []part
	end64      bool
	lieEntries int64 // added to the number of entries of the end records
	lieOffset  int64 // added to the directory offset
	behind     []byte
	between    []byte // after the directory, before the end record
	comment    []byte
}

func (a archiveSpec) bytes() []byte {
	le := binary.LittleEndian
	var out, dir []byte
	n := uint64(0)
	for _, p := range a.parts {
		offset := uint64(int64(len(out)) + p.headerOffset)
		name := p.localName
		if name == "" {
			name = p.name
		}
		crc := crc32.ChecksumIEEE(p.data)
		size := uint64(len(p.data))
		out = le.AppendUint32(out, localMagic)
		out = le.AppendUint16(out, 20)
		out = le.AppendUint16(out, p.flags)
		out = le.AppendUint16(out, p.method)
		out = le.AppendUint32(out, 0)
		var extra []byte
		if p.zip64 {
			extra = le.AppendUint16(le.AppendUint16(nil, 1), 16)
			extra = le.AppendUint64(le.AppendUint64(extra, size+uint64(p.localSize)), size+uint64(p.localSize))
			out = le.AppendUint32(out, crc)
			out = le.AppendUint64(out, math.MaxUint64)
		} else {
			out = le.AppendUint32(out, crc)
			out = le.AppendUint32(out, uint32(size+uint64(p.localSize)))
			out = le.AppendUint32(out, uint32(size+uint64(p.localSize)))
		}
		out = le.AppendUint16(out, uint16(len(name)))
		out = le.AppendUint16(out, uint16(len(extra)))
		out = append(append(append(out, name...), extra...), p.data...)
		if p.noCentral {
			continue
		}
		n++
		size += uint64(p.centralSize)
		dir = le.AppendUint32(dir, centralMagic)
		dir = append(dir, 20, 0, 20, 0)
		dir = le.AppendUint16(dir, p.flags)
		dir = le.AppendUint16(dir, p.method)
		dir = le.AppendUint32(dir, 0)
		dir = le.AppendUint32(dir, crc)
		extra = nil
		if p.zip64 {
			extra = le.AppendUint16(le.AppendUint16(nil, 1), 24)
			extra = le.AppendUint64(le.AppendUint64(le.AppendUint64(extra, size), size), offset)
			dir = le.AppendUint64(dir, math.MaxUint64)
		} else {
			dir = le.AppendUint32(le.AppendUint32(dir, uint32(size)), uint32(size))
		}
		dir = le.AppendUint16(dir, uint16(len(p.name)))
		dir = le.AppendUint16(dir, uint16(len(extra)))
		dir = append(dir, make([]byte, 10)...)
		if p.zip64 {
			dir = le.AppendUint32(dir, math.MaxUint32)
		} else {
			dir = le.AppendUint32(dir, uint32(offset))
		}
		dir = append(append(dir, p.name...), extra...)
	}
	offset := uint64(int64(len(out)) + a.lieOffset)
	out = append(append(out, dir...), a.between...)
	n += uint64(a.lieEntries)
	n16, size32, offset32 := uint16(n), uint32(len(dir)), uint32(offset)
	if a.end64 {
		at := uint64(len(out))
		out = le.AppendUint32(out, end64Magic)
		out = le.AppendUint64(out, end64Size-12)
		out = append(out, 45, 0, 45, 0)
		out = le.AppendUint64(out, 0) // disks
		out = le.AppendUint64(le.AppendUint64(out, n), n)
		out = le.AppendUint64(le.AppendUint64(out, uint64(len(dir))), offset)
		out = le.AppendUint32(out, locatorMagic)
		out = le.AppendUint32(out, 0)
		out = le.AppendUint64(out, at)
		out = le.AppendUint32(out, 1)
		n16, size32, offset32 = math.MaxUint16, math.MaxUint32, math.MaxUint32
	}
	out = le.AppendUint32(out, endMagic)
	out = le.AppendUint32(out, 0)
	out = le.AppendUint16(le.AppendUint16(out, n16), n16)
	out = le.AppendUint32(le.AppendUint32(out, size32), offset32)
	out = le.AppendUint16(out, uint16(len(a.comment)))
	return append(append(out, a.comment...), a.behind...)
}

// floats are little-endian F32.
func floats(values ...float32) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// sixteen is a storage of the floats 0 to 15.
func sixteen() []byte {
	var v []float32
	for i := range 16 {
		v = append(v, float32(i))
	}
	return floats(v...)
}

// saved is an archive as torch.save writes it.
func saved(p pickle, storages ...[]byte) archiveSpec {
	a := archiveSpec{parts: []part{{name: "m/data.pkl", data: p}, {name: "m/byteorder", data: []byte("little")}}}
	for i, s := range storages {
		a.parts = append(a.parts, part{name: fmt.Sprintf("m/data/%d", i), data: s})
	}
	a.parts = append(a.parts, part{name: "m/version", data: []byte("3\n")})
	return a
}

func open(data []byte) (*Source, error) { return New(file.New("m.pth", data)) }
