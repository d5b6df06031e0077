package watch

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Core returns where the core file of a rank is that a signal has ended, or why there is
// none; "" if nothing is known. dumped is what wait4 says. Call it before Remove.
func (s *Sampler) Core(attempt, rank, signal int, dumped bool) string {
	s.mu.Lock()
	w := s.ranks[key{attempt, rank}]
	if w == nil {
		s.mu.Unlock()
		return ""
	}
	c := coreOf{pid: w.Pid, signal: signal, folder: w.folder, since: w.added}
	limit := w.core
	s.mu.Unlock()
	if !dumped {
		if limit == "0" {
			return "no core file: the limit is 0 (ulimit -c unlimited allows one)"
		}
		return ""
	}
	pattern, err := read(s.Root, "proc/sys/kernel/core_pattern")
	if err != nil {
		return ""
	}
	usesPID, _ := read(s.Root, "proc/sys/kernel/core_uses_pid")
	return c.find(s.Root, strings.TrimSpace(pattern), strings.TrimSpace(usesPID) == "1")
}

// coreOf is a process that has dumped core.
type coreOf struct {
	pid, signal int
	folder      string // its current directory
	since       time.Time
}

// find looks for the file that core_pattern names. Source: core(5).
func (c coreOf) find(root fs.FS, pattern string, usesPID bool) string {
	if program, ok := strings.CutPrefix(pattern, "|"); ok {
		name, _, _ := strings.Cut(strings.TrimSpace(program), " ")
		text := "core handed to " + printable(name, 128)
		if path.Base(name) == "systemd-coredump" {
			text += fmt.Sprintf(" (coredumpctl info %d)", c.pid)
		}
		return text
	}
	glob, hasPID := c.glob(pattern)
	if usesPID && !hasPID {
		glob += "." + strconv.Itoa(c.pid)
	}
	if !path.IsAbs(glob) {
		if !path.IsAbs(c.folder) {
			return ""
		}
		glob = path.Join(escapeGlob(c.folder), glob)
	}
	names, err := fs.Glob(root, strings.TrimPrefix(path.Clean(glob), "/"))
	if err != nil {
		return ""
	}
	var newest string
	var at time.Time
	for _, name := range names {
		// A file system's clock may be some milliseconds behind.
		info, err := fs.Stat(root, name)
		if err == nil && info.Mode().IsRegular() && !info.ModTime().Before(c.since.Add(-time.Second)) && info.ModTime().After(at) {
			newest, at = name, info.ModTime()
		}
	}
	if newest == "" {
		return ""
	}
	return "core file " + printable("/"+newest, 1024)
}

// glob turns core_pattern into a pattern of file names, with * for what is not known here.
func (c coreOf) glob(pattern string) (glob string, hasPID bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteString(escapeGlob(pattern[i : i+1]))
			continue
		}
		if i++; i == len(pattern) {
			break // a single % at the end is dropped
		}
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'p':
			b.WriteString(strconv.Itoa(c.pid))
			hasPID = true
		case 's':
			b.WriteString(strconv.Itoa(c.signal))
		default:
			b.WriteByte('*')
		}
	}
	return b.String(), hasPID
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
