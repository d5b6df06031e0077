package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHosts starts the second node by a stand-in for ssh, which runs the command here: the
// machine has no other host, and no ssh server.
func TestHosts(t *testing.T) {
	dir := t.TempDir()
	ssh, hosts := filepath.Join(dir, "ssh"), filepath.Join(dir, "hosts")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\nshift\nexec sh -c \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hosts, []byte("127.0.0.1 slots=2\nlocalhost slots=2 # the same machine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rdzv := freePort(t)
	l := run(t, setup{}, "echo $RANK $GROUP_RANK $WORLD_SIZE secret=$WANRUN_SECRET; sleep 0.3; [ $RANK != 3 ] || exit 5; exec sleep 100",
		"--hosts", hosts, "--ssh", ssh, "--rdzv", rdzv, "--show", "all")
	l.wantCode(5)
	l.wantSaid("rank 3 of 4", "exited with code 5")
	for _, want := range []string{"] 3 1 4 secret=\n", "] 0 0 4 secret=\n"} {
		if out := l.stdout.String(); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	l.clean()
}
