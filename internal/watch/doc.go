// Package watch says what can be known of a rank's process from outside: its memory, CPU
// time and state each second, that it hangs, where it hangs, and who or what killed it.
//
// It reads /proc, the control groups' counters and the kernel's log; it changes nothing in
// a process that it looks at. Files are read from the root of a file system,
// os.DirFS("/") outside tests; the time comes in. What cannot be read is unknown, -1 or "",
// never zero.
package watch

import (
	"io"
	"io/fs"
)

// Unknown stands for a number of bytes that could not be read.
const Unknown int64 = -1

// Target is a rank's process.
type Target struct {
	Attempt, Rank int
	Pid           int
	Ours          bool // a worker of ours, that says where it is; not any program
}

// read returns the beginning of a file of the kernel's.
func read(root fs.FS, name string) (string, error) {
	const most = 64 << 10
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	return string(data), err
}
