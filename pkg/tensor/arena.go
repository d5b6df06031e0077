package tensor

import (
	"errors"
	"fmt"
	"math"
)

// ErrArena marks an allocation that does not fit what was reserved. With a
// reservation made from a plan of the same code it is a bug.
var ErrArena = errors.New("arena exhausted")

// Purpose says what an arena's bytes are for. Each purpose is one reservation,
// reported on its own.
type Purpose uint8

// The purposes, in the order in which reports list them.
const (
	Weights      Purpose = iota // parameters that rest on the device
	Gathered                    // units gathered for use, then freed
	Activations                 // temporaries of a forward
	Latents                     // what outlives a forward: context, K/V of cross-attention, latents
	VAEWorkspace                // feature caches and pictures of the VAE
	Collective                  // send and receive buffers
	NumPurposes  int     = iota
)

var purposeNames = [NumPurposes]string{"weights", "gathered", "activations", "latents", "vae_workspace", "collective"}

// String returns the purpose's name in reports.
func (p Purpose) String() string { return purposeNames[p] }

// align is the rounding of every allocation: a cache line pair on the CPU, and
// what CUDA's vector loads and cuBLASLt want.
const align = 256

// RoundUp returns n rounded up to the arena's alignment.
func RoundUp(n int64) int64 { return (n + align - 1) &^ (align - 1) }

// Arena hands out memory of one reservation in stack order. It is not safe for
// concurrent use: one goroutine issues a rank's ops.
type Arena struct {
	mem      Memory
	capacity int64
	top      int64
	peak     int64
	shared   *budget // of all arenas of a space; nil: each has its own reservation alone
}

// budget bounds what the arenas of a space hold together.
type budget struct{ left int64 }

// NewArena returns an arena over mem, or, with a nil mem, one without limit for
// planning.
func NewArena(mem Memory) *Arena {
	if mem == nil {
		return &Arena{capacity: math.MaxInt64}
	}
	return &Arena{mem: mem, capacity: mem.Bytes()}
}

// Used returns the bytes that are allocated now.
func (a *Arena) Used() int64 { return a.top }

// Peak returns the most bytes that were ever allocated at once.
func (a *Arena) Peak() int64 { return a.peak }

// Capacity returns the bytes of the reservation.
func (a *Arena) Capacity() int64 { return a.capacity }

// Memory returns the reservation, nil when planning.
func (a *Arena) Memory() Memory { return a.mem }

// alloc returns the offset of n fresh bytes.
func (a *Arena) alloc(n int64) (int64, error) {
	if n < 0 || n > math.MaxInt64-align || RoundUp(n) > a.capacity-a.top {
		return 0, fmt.Errorf("%d bytes asked, %d of %d in use: %w", n, a.top, a.capacity, ErrArena)
	}
	if b := a.shared; b != nil {
		if RoundUp(n) > b.left {
			return 0, fmt.Errorf("%d bytes asked, %d left of the limit on all arenas: %w: %w", n, b.left, ErrArena, ErrNoMemory)
		}
		b.left -= RoundUp(n)
	}
	offset := a.top
	a.top += RoundUp(n)
	a.peak = max(a.peak, a.top)
	return offset, nil
}

// Mark returns the present top, for Release.
func (a *Arena) Mark() int64 { return a.top }

// Release frees everything allocated since mark.
func (a *Arena) Release(mark int64) {
	if mark > a.top {
		panic("tensor: arena released out of order")
	}
	if a.shared != nil {
		a.shared.left += a.top - mark
	}
	a.top = mark
}

// Space is the set of arenas of one rank, one a purpose.
type Space [NumPurposes]*Arena

// Reserve makes a space with the given capacity for each purpose.
// What was reserved before an error is released.
func Reserve(b Backend, bytes [NumPurposes]int64) (*Space, error) {
	var s Space
	for p := range s {
		mem, err := b.Reserve(bytes[p], Purpose(p))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reserve %d bytes for %v: %w", bytes[p], Purpose(p), err), s.Close())
		}
		s[p] = NewArena(mem)
	}
	return &s, nil
}

// Limit bounds the bytes that all arenas of the space, which are empty, hold together: an
// allocation beyond it fails with ErrArena and ErrNoMemory.
func (s *Space) Limit(bytes int64) {
	b := &budget{left: bytes}
	for _, a := range s {
		a.shared = b
	}
}

// Unlimited returns a space without memory behind it, for planning.
func Unlimited() *Space {
	var s Space
	for p := range s {
		s[p] = NewArena(nil)
	}
	return &s
}

// Peaks returns the peak of each purpose.
func (s *Space) Peaks() (bytes [NumPurposes]int64) {
	for p, a := range s {
		bytes[p] = a.peak
	}
	return bytes
}

// Used returns the bytes in use of each purpose.
func (s *Space) Used() (bytes [NumPurposes]int64) {
	for p, a := range s {
		bytes[p] = a.top
	}
	return bytes
}

// ResetPeaks makes the present use the peak, so that phases are told apart.
func (s *Space) ResetPeaks() {
	for _, a := range s {
		a.peak = a.top
	}
}

// Close releases the memory behind the arenas.
func (s *Space) Close() error {
	var errs []error
	for p, a := range s {
		if a != nil && a.mem != nil {
			errs = append(errs, a.mem.Release())
		}
		s[p] = nil
	}
	return errors.Join(errs...)
}
