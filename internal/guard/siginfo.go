package guard

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childOf returns the process that waitid tells of, 0 if none. The structure's fields for
// children begin after three integers, aligned as a pointer is.
func childOf(info *unix.Siginfo) int {
	if info.Signo == 0 {
		return 0
	}
	b := (*[unsafe.Sizeof(*info)]byte)(unsafe.Pointer(info))
	const at = (12 + unsafe.Sizeof(uintptr(0)) - 1) / unsafe.Sizeof(uintptr(0)) * unsafe.Sizeof(uintptr(0))
	return int(int32(binary.NativeEndian.Uint32(b[at:])))
}
