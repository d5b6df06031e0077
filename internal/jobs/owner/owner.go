// Package owner marks temporary folders with the process that they belong to, so that
// what a killed process left can be told from what is in use.
package owner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FileName is the owner's file in its folder.
const FileName = "owner.json"

const (
	version = 1
	maxFile = 4 << 10
)

// Owner is what the file says. A process number alone says nothing: numbers come back,
// and mean others in another namespace, after a restart, and on another machine.
type Owner struct {
	Version   int    `json:"version"`
	Pid       int    `json:"pid"`
	Start     uint64 `json:"start"`         // clock ticks, of /proc/PID/stat
	Boot      string `json:"boot"`          // the kernel's random id of this boot
	Namespace string `json:"pid_namespace"` // in which Pid counts
	Host      string `json:"host"`
	Machine   string `json:"machine"` // of machine-id(5), "" where there is none
	Locked    bool   `json:"locked"`  // the owner holds a lock on the file while it lives
	Job       string `json:"job"`
}

// Claim marks folder, which is this process's, with it. The claim holds until the
// process ends or Release.
type Claim struct{ file *os.File }

// Take claims a folder for a job.
func Take(folder, job string) (*Claim, error) {
	self, err := Self(job)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", folder, err)
	}
	f, err := os.OpenFile(filepath.Join(folder, FileName), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	// A file system without locks has the numbers alone.
	self.Locked = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	data, err := json.Marshal(self)
	if err == nil {
		_, err = f.Write(append(data, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim %s: %w", folder, err), f.Close())
	}
	return &Claim{f}, nil
}

// Release gives the claim up. The file stays, as what it marks may.
func (c *Claim) Release() error { return c.file.Close() }

// Self is this process as an owner.
func Self(job string) (Owner, error) {
	o := Owner{Version: version, Pid: os.Getpid(), Job: job}
	start, _, err := StartOf(o.Pid)
	if err != nil {
		return Owner{}, err
	}
	o.Start = start
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Owner{}, err
	}
	o.Boot = strings.TrimSpace(string(boot))
	if o.Namespace, err = os.Readlink("/proc/self/ns/pid"); err != nil {
		return Owner{}, err
	}
	if id, err := os.ReadFile("/etc/machine-id"); err == nil {
		o.Machine = strings.TrimSpace(string(id))
	}
	o.Host, err = os.Hostname()
	return o, err
}

// Parse reads an owner's file.
func Parse(data []byte) (Owner, error) {
	if len(data) > maxFile {
		return Owner{}, fmt.Errorf("owner's file of %d bytes, want at most %d", len(data), maxFile)
	}
	var o Owner
	if err := json.Unmarshal(data, &o); err != nil {
		return Owner{}, fmt.Errorf("owner's file: %w", err)
	}
	if o.Version != version || o.Pid < 1 || o.Start == 0 || o.Boot == "" || o.Namespace == "" {
		return Owner{}, fmt.Errorf("owner's file of version %d with process %d started at %d, want version %d and a process", o.Version, o.Pid, o.Start, version)
	}
	return o, nil
}

// Dead says whether the process is known to be dead, by one that sees what self does;
// why is in words why it is not.
func (o Owner) Dead(self Owner, locked bool) (dead bool, why string) {
	switch {
	case locked:
		return false, fmt.Sprintf("process %d of %s holds its lock", o.Pid, o.Host)
	case o.Boot != self.Boot && (o.Machine == "" || o.Machine != self.Machine || o.Host != self.Host):
		return false, "it may be of another machine, " + strconv.Quote(o.Host)
	case o.Boot != self.Boot:
		return true, "" // this machine was started again since
	case o.Namespace != self.Namespace && !o.Locked:
		return false, "its process is in another container"
	case o.Namespace != self.Namespace:
		return true, "" // it had a lock, and nobody has it now
	case Alive(o.Pid, o.Start):
		return false, fmt.Sprintf("process %d runs", o.Pid)
	}
	return true, ""
}

// Alive says whether the process runs that had the number pid and began at start.
func Alive(pid int, start uint64) bool {
	now, state, err := StartOf(pid)
	return err == nil && now == start && state != 'Z' && state != 'X'
}

// StartOf returns when a process began, in clock ticks, which with its number is its
// identity, and its state.
func StartOf(pid int) (start uint64, state byte, err error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(stat)
}

// parseStat reads /proc/PID/stat. The name, in parentheses, may hold anything, as a
// closing parenthesis. Source: proc_pid_stat(5).
func parseStat(stat []byte) (start uint64, state byte, err error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("stat %.60q has %d fields after the name, want 20 or more", stat, len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("start time is %.20q, want a number", fields[19])
	}
	return start, fields[0][0], nil
}
