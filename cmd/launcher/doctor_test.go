package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/doctor"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/version"
)

func TestDoctorLogs(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "run.log")
	if err := os.WriteFile(log, []byte("INFO: Creating WanT2V pipeline.\nKilled\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "", "doctor", log).check(t, "a file", ends.Done, "CAUSE  The program was killed from outside", "")
	call(t, "", "doctor", log).check(t, "a file", ends.Done, "Note: this build of wanrun computes on the CPU", "")
	call(t, "", "doctor", dir).check(t, "a folder", ends.Done, "while T5, the text encoder, was being loaded", "")
	call(t, "[1.2] Out of memory: Killed process 7 (python3) total-vm:1kB, anon-rss:2048kB\n", "doctor", "-", log).
		check(t, "with the kernel's log", ends.Done, "CAUSE  The machine ran out of main memory (RAM)", "")
	r := call(t, "", "doctor", "--json", log)
	var d doctor.Diagnosis
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || len(d.Findings) != 1 || d.Findings[0].Kind != doctor.Killed {
		t.Errorf("%s (%v)", r.stdout, err)
	}
	call(t, "", "doctor", filepath.Join(dir, "none")).check(t, "no such log", ends.BadInput, "", "no such file")
	call(t, "", "doctor", t.TempDir()).check(t, "an empty folder", ends.BadInput, "", "no logs in")
	call(t, "", "doctor", "--help").check(t, "help", ends.Done, "usage: wanrun doctor", "")
}

func TestDoctorMachine(t *testing.T) {
	worker := filepath.Join(t.TempDir(), "wanworker")
	if err := os.WriteFile(worker, []byte("#!/bin/sh\necho wanworker "+version.Version+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "o.mp4")
	r := call(t, "", "doctor", "--worker", worker, "-o", out, "--ckpt-dir", "../../testdata/ckpt_i2v", "--task", "i2v-14B", "--json")
	var found struct{ Checks []doctor.Check }
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || len(found.Checks) < 12 || r.code != ends.Done {
		t.Errorf("%+v (%v)", r, err)
	}
	r = call(t, "", "doctor", "--worker", worker, "-o", out, "--ckpt-dir", "../../testdata/ckpt_i2v", "--task", "t2v-14B")
	r.check(t, "another task", ends.BadInput, "FAIL  task", "")
	r = call(t, "", "doctor", "--worker", "/nowhere/wanworker")
	r.check(t, "no worker", ends.CannotStart, "FAIL  worker", "")
	if strings.Contains(r.stderr, "wanrun:") {
		t.Errorf("told twice: %q", r.stderr)
	}
	call(t, "", "doctor", "--nproc", "0").check(t, "nproc", ends.Usage, "", "--nproc")
}
