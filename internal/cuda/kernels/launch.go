package kernels

import "math"

// Type is how elements are stored; arithmetic is F32 unless a kernel says otherwise.
type Type int

// The types, as types.h numbers them.
const (
	F32 Type = iota
	BF16
	F16
)

// Size is the bytes of an element.
func (t Type) Size() int {
	if t == F32 {
		return 4
	}
	return 2
}

// Address is a place in device memory; 0 is none.
type Address uint64

// Buffer is memory that holds elements of a type.
type Buffer struct {
	At   Address
	Type Type
}

// Launch is one kernel with its arguments.
type Launch struct {
	Module Module
	Kernel string
	Grid   [3]int // blocks
	Block  int    // threads
	Shared int    // bytes of dynamic shared memory; above 48 KiB the function must be told first
	// Args holds each argument in the low bytes of its own word.
	Args []uint64
}

// maxBlocks bounds the grids of kernels whose threads stride over the rest.
const maxBlocks = 4096

func newLaunch(m Module, kernel string, grid [3]int, block, shared int, args ...any) Launch {
	words := make([]uint64, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case Address:
			words[i] = uint64(v)
		case Type:
			words[i] = uint64(v)
		case int:
			words[i] = uint64(int64(v))
		case int64:
			words[i] = uint64(v)
		case float32:
			words[i] = uint64(math.Float32bits(v))
		default:
			panic("an argument of an unknown type") // this package's own calls are all there are
		}
	}
	return Launch{m, kernel, grid, block, shared, words}
}

// striding returns a launch over n elements, per of which a thread takes at once.
func striding(m Module, kernel string, n int64, per int64, args ...any) Launch {
	blocks := min((n+256*per-1)/(256*per), maxBlocks)
	return newLaunch(m, kernel, [3]int{int(max(blocks, 1)), 1, 1}, 256, 0, args...)
}

// reduction is the shared memory of block_sum and block_max.
const reduction = 32 * 4
