package guard

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// span is a part of our address space.
type span struct{ begin, end uintptr }

// cleanSpans reads /proc/self/smaps and returns the parts that are a file's, cannot be
// written, and have no page that differs from the file.
func cleanSpans(smaps []byte) []span {
	var list []span
	var at span
	candidate := false
	for line := range bytes.Lines(smaps) {
		f := bytes.Fields(line)
		if len(f) >= 6 && len(f[1]) == 4 { // begin-end r-xp offset device inode file
			begin, end, _ := bytes.Cut(f[0], []byte("-"))
			b, err := strconv.ParseUint(string(begin), 16, 64)
			e, endErr := strconv.ParseUint(string(end), 16, 64)
			at = span{uintptr(b), uintptr(e)}
			candidate = err == nil && endErr == nil && b < e && f[1][0] == 'r' && f[1][1] == '-' && f[1][3] == 'p' && f[5][0] == '/'
		}
		if candidate && len(f) == 3 && string(f[0]) == "Anonymous:" && string(f[1]) == "0" {
			list = append(list, at)
		}
	}
	return list
}

// forgetStart gives back what only the start of the program needed, most of it code of
// packages that a guard has no use for. What is needed again comes from the page cache.
func forgetStart() {
	debug.FreeOSMemory()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return // only memory is lost
	}
	for _, s := range cleanSpans(smaps) {
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, s.begin, s.end-s.begin, unix.MADV_DONTNEED)
	}
}
