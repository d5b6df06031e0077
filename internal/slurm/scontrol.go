package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Command runs a program and returns its standard output.
type Command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Address returns the address under which Slurm itself reaches node: an IP address,
// or a name where the site has given names. It serves where node names are not in
// DNS. It asks scontrol getaddrs, which is there since 23.02, then scontrol show node.
func Address(ctx context.Context, run Command, node string) (string, error) {
	if hosts, err := Expand(node); err != nil || len(hosts) != 1 || hosts[0] != node || node[0] == '-' {
		return "", fmt.Errorf("%q is no node name", node)
	}
	out, err := run(ctx, "scontrol", "getaddrs", node)
	if err == nil {
		if address, err := parseGetaddrs(out, node); err == nil {
			return address, nil
		}
	}
	out, err = run(ctx, "scontrol", "show", "node", node, "-o")
	if err != nil {
		return "", fmt.Errorf("ask scontrol for the address of node %s: %w", node, err)
	}
	return parseShowNode(out, node)
}

// End returns when the running job has to end by its time limit, for a Slurm that
// does not set SLURM_JOB_END_TIME (before 23.02). The zero time means no limit. Slurm
// writes the machine's local time.
func End(ctx context.Context, run Command, job string, local *time.Location) (time.Time, error) {
	if job == "" || strings.Trim(job, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("%q is no Slurm job id", job)
	}
	out, err := run(ctx, "scontrol", "show", "job", job, "-o")
	if err != nil {
		return time.Time{}, fmt.Errorf("ask scontrol for the end of job %s: %w", job, err)
	}
	return parseEnd(out, local)
}

var errNoAddress = errors.New("no usable address in it")

// parseGetaddrs reads "gpu-01: 127.0.0.1:16818", addresses of IPv6 in brackets.
func parseGetaddrs(out []byte, node string) (string, error) {
	for line := range strings.Lines(string(limit(out))) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || name != node {
			continue
		}
		if address, err := netip.ParseAddrPort(strings.TrimSpace(rest)); err == nil && usable(address.Addr()) {
			return address.Addr().Unmap().String(), nil
		}
	}
	return "", fmt.Errorf("scontrol getaddrs %s: %w", node, errNoAddress)
}

// parseShowNode reads NodeAddr= of "NodeName=gpu-01 … NodeAddr=127.0.0.1 …".
func parseShowNode(out []byte, node string) (string, error) {
	fields := bytes.Fields(limit(out))
	for _, field := range fields {
		value, ok := strings.CutPrefix(string(field), "NodeAddr=")
		if !ok {
			continue
		}
		if address, err := netip.ParseAddr(value); err == nil {
			if usable(address) {
				return address.Unmap().String(), nil
			}
			break
		}
		if hosts, err := Expand(value); err == nil && len(hosts) == 1 && hosts[0] == value {
			return value, nil
		}
		break
	}
	return "", fmt.Errorf("scontrol show node %s: %w", node, errNoAddress)
}

func usable(address netip.Addr) bool {
	return !address.IsUnspecified() && !address.IsMulticast()
}

func parseEnd(out []byte, local *time.Location) (time.Time, error) {
	for _, field := range bytes.Fields(limit(out)) {
		value, ok := strings.CutPrefix(string(field), "EndTime=")
		if !ok {
			continue
		}
		if value == "Unknown" || value == "None" {
			return time.Time{}, nil
		}
		end, err := time.ParseInLocation("2006-01-02T15:04:05", value, local)
		if err != nil {
			return time.Time{}, fmt.Errorf("scontrol show job: EndTime=%s is no time like 2026-01-31T12:00:00 (SLURM_TIME_FORMAT must be unset)", clip(value))
		}
		return end, nil
	}
	return time.Time{}, errors.New("scontrol show job: no EndTime in it")
}

// limit cuts what a program has printed to what its answer can have.
func limit(out []byte) []byte { return out[:min(len(out), 1<<16)] }
