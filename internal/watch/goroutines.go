package watch

import (
	"fmt"
	"os"
	"runtime"
)

// Goroutines writes where all goroutines of this process are to a file, which appears
// whole. A worker calls it when it is asked for its stacks; a signal would end it.
func Goroutines(file string) error {
	const first, most = 256 << 10, 32 << 20 // bytes; what is longer is cut
	buf := make([]byte, first)
	n := runtime.Stack(buf, true)
	for n == len(buf) && len(buf) < most {
		buf = make([]byte, 4*len(buf))
		n = runtime.Stack(buf, true)
	}
	temporary := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(temporary, buf[:n], 0o600); err != nil {
		os.Remove(temporary)
		return fmt.Errorf("write goroutines: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		os.Remove(temporary)
		return fmt.Errorf("write goroutines: %w", err)
	}
	return nil
}
