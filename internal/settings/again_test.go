package settings

import (
	"strings"
	"testing"
)

// TestAgain: what Again returns settles the same run, from another folder too.
func TestAgain(t *testing.T) {
	abs := func(path string) (string, error) { return "/data/" + path, nil }
	s, err := resolve(t, []string{"WANRUN_SHIFT=2"}, append(append([]string{}, base...), "--steps", "7", "--log-dir", "logs", "--report", "r.json", "--ffmpeg", "/bin/ff", "-o", "a b.mp4", "--dit_fsdp")...)
	if err != nil {
		t.Fatal(err)
	}
	args, err := s.Again(abs)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(args, " ")
	for _, want := range []string{"--ckpt-dir=/data/i2v", "--image=/data/in.jpg", "--prompt=x", "--steps=7", "--shift=2", "--seed=", "--output=/data/a b.mp4",
		"--dit-fsdp=true", "--task=i2v-14B", "--keep-run-dir=false"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %s", got, want)
		}
	}
	for _, other := range []string{"--log-dir", "--report", "--ffmpeg", "--run-dir", "--solver"} {
		if strings.Contains(got, other) {
			t.Errorf("%q has %s", got, other)
		}
	}
	if err := CheckAgain(args); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"--worker=/bin/sh", "--ffmpeg=/bin/sh", "--config=x", "-o", "x", "--output", "--nnodes=3", ""} {
		if CheckAgain([]string{bad}) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
