package cgroup

import (
	"io/fs"
	"path"
)

// Kill says whether whole groups can be made and killed below a group.
type Kill struct {
	// Supported: the kernel has cgroup.kill (5.14) and the group is version 2's. The root
	// of a hierarchy has no such file even then; Supported is false there, and a group
	// made below it tells.
	Supported bool
	// Delegated: the group's folder belongs to the user, or uid is 0, so that groups may
	// be made in it unless the mount is read-only: only trying tells.
	Delegated bool
	// Folder is where to make a group, with a leading slash; "" where there is none.
	Folder string
}

// Kill looks at the group's folder as the user uid; owner returns the user that a file
// belongs to, and false if that is not known.
func (g Group) Kill(root fs.FS, uid uint32, owner func(fs.FileInfo) (uint32, bool)) Kill {
	if g.Version != 2 {
		return Kill{}
	}
	k := Kill{Folder: "/" + g.Folder}
	if _, err := fs.Stat(root, path.Join(g.Folder, "cgroup.kill")); err == nil {
		k.Supported = true
	}
	if info, err := fs.Stat(root, g.Folder); err == nil {
		user, known := owner(info)
		k.Delegated = uid == 0 || known && user == uid
	}
	return k
}
