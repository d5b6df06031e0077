package worker

import (
	"bytes"
	"os"
	"strconv"
)

// rssPeak is this process's resident memory in bytes, the most so far; 0 where /proc does
// not tell.
func rssPeak() int64 { return statusBytes("VmHWM:") }

func statusBytes(key string) int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return parseStatus(data, key)
}

// parseStatus returns the value of a "Key:  123 kB" line in bytes.
func parseStatus(data []byte, key string) int64 {
	for line := range bytes.Lines(data) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		kb, err := strconv.ParseInt(string(fields[0]), 10, 64)
		if err != nil {
			return 0
		}
		return kb << 10
	}
	return 0
}
