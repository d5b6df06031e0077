// Package cgroup reads what the control groups of this process allow and count:
// memory, processes killed for memory, CPU time, and whether a group can be killed as a
// whole. It knows versions 1 and 2 and the hybrid of both.
//
// Every function reads from the root of a file system, os.DirFS("/") outside tests, and
// writes nothing. What cannot be read is unknown, never zero.
package cgroup

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Groups are the control groups of a process.
type Groups struct {
	Memory  Group // where memory is limited and counted
	CPU     Group // where CPU time is
	Unified Group // version 2's tree: all there is, or beside version 1's
}

// Group is one control group. The zero value is none.
type Group struct {
	Version int    // 1 or 2
	Path    string // in its hierarchy, as in /proc/self/cgroup: for messages
	Folder  string // below the file system's root, without a leading slash
	mount   string // where the hierarchy, or what is seen of it, begins
}

// Exists returns whether there is such a group.
func (g Group) Exists() bool { return g.Version != 0 }

// Child returns the group called name below g, whether it exists or not; name has no
// slash in it.
func (g Group) Child(name string) Group {
	g.Path, g.Folder = path.Join(g.Path, name), path.Join(g.Folder, name)
	return g
}

// chain returns the folders whose limits bind the group: its own and its ancestors'
// as far as they can be seen, the group's first.
func (g Group) chain() []string {
	var folders []string
	for f := g.Folder; ; f = path.Dir(f) {
		folders = append(folders, f)
		if f == g.mount || f == "." {
			return folders
		}
	}
}

// Of returns the groups of the process that reads. A system without control groups has
// none of the three, without an error; an error is a file that cannot be understood.
func Of(root fs.FS) (Groups, error) {
	memberships, err := readMemberships(root)
	if err != nil {
		return Groups{}, err
	}
	mounts, err := readMounts(root)
	if err != nil {
		return Groups{}, err
	}
	var g Groups
	g.Unified = find(mounts, memberships, "")
	for controller, into := range map[string]*Group{"memory": &g.Memory, "cpu": &g.CPU} {
		if *into = find(mounts, memberships, controller); !into.Exists() {
			*into = g.Unified
		}
	}
	return g, nil
}

// find returns the group of a controller of version 1, or of version 2 for "".
func find(mounts []mount, memberships map[string]string, controller string) Group {
	own, ok := memberships[controller]
	if !ok {
		return Group{}
	}
	for _, m := range mounts {
		if !m.holds(controller) {
			continue
		}
		g := Group{Version: 1, Path: own, mount: m.folder, Folder: path.Join(m.folder, m.below(own))}
		if !fs.ValidPath(g.Folder) { // not UTF-8
			continue
		}
		if controller == "" {
			g.Version = 2
		}
		return g
	}
	return Group{}
}

// readMemberships returns the group of each controller of version 1, and of version 2
// under "".
func readMemberships(root fs.FS) (map[string]string, error) {
	data, err := read(root, "proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read the process's control groups: %w", err)
	}
	memberships := map[string]string{}
	for line := range strings.Lines(data) {
		// ID:CONTROLLERS:PATH; version 2 is "0::PATH".
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !path.IsAbs(parts[2]) {
			return nil, fmt.Errorf("/proc/self/cgroup: line %.80q is not ID:CONTROLLERS:PATH", line)
		}
		for _, controller := range strings.Split(parts[1], ",") {
			memberships[controller] = parts[2]
		}
	}
	return memberships, nil
}

// mount is one mounted hierarchy.
type mount struct {
	root        string          // of the hierarchy, as the process sees group paths
	folder      string          // where it is mounted, without a leading slash
	unified     bool            // version 2
	controllers map[string]bool // of version 1
}

func (m mount) holds(controller string) bool {
	if controller == "" {
		return m.unified
	}
	return !m.unified && m.controllers[controller]
}

// below returns the folder of a group below the mount. In a container the group's path
// is often that of the host, of which only the container's own part is mounted.
func (m mount) below(group string) string {
	if m.root == "/" {
		// "/../x" is a group outside the namespace: its mount shows the namespace's root.
		return path.Clean("/" + group)
	}
	rest, ok := strings.CutPrefix(group, m.root)
	if !ok || rest != "" && rest[0] != '/' {
		return "/"
	}
	return path.Clean("/" + rest)
}

// readMounts returns the mounted hierarchies in order. A line of mountinfo is
//
//	36 35 98:0 /root /mount/point rw,noatime shared:1 - cgroup2 source rw,options
//
// Source: proc_pid_mountinfo(5).
func readMounts(root fs.FS) ([]mount, error) {
	data, err := read(root, "proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	var mounts []mount
	for line := range strings.Lines(data) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			return nil, fmt.Errorf("/proc/self/mountinfo: line %.80q has not the fields of a mount", line)
		}
		kind := right[0]
		if kind != "cgroup" && kind != "cgroup2" {
			continue
		}
		point := strings.TrimPrefix(path.Clean(unescape(left[4])), "/")
		if !fs.ValidPath(point) {
			continue
		}
		m := mount{root: path.Clean(unescape(left[3])), folder: point, unified: kind == "cgroup2", controllers: map[string]bool{}}
		for _, option := range strings.Split(right[2], ",") {
			m.controllers[option] = true
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// unescape undoes mountinfo's \ooo.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			out.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func isOctal(s string) bool {
	return '0' <= s[0] && s[0] <= '3' && '0' <= s[1] && s[1] <= '7' && '0' <= s[2] && s[2] <= '7'
}

// read returns a small file of the kernel's.
func read(root fs.FS, name string) (string, error) {
	const most = 1 << 20 // mountinfo of a busy container host
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	return string(data), err
}
