package placement

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/environ"
)

// Host is a line of a hostfile.
type Host struct {
	Name  string
	Slots int // ranks; 0: not said
}

// maxHosts bounds a hostfile.
const maxHosts = 4096

// ParseHosts reads a hostfile: a host a line, with "slots=8" behind it as Open MPI and
// DeepSpeed write it, or "host:8" as MPICH does. What follows # is a comment. Hosts that
// come twice are refused: ranks are told apart by node.
func ParseHosts(text string) ([]Host, error) {
	var hosts []Host
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		h := Host{Name: fields[0]}
		if name, count, ok := strings.Cut(h.Name, ":"); ok && strings.Count(h.Name, ":") == 1 {
			h.Name = name
			fields = append(fields, "slots="+count)
		}
		user, host, hasUser := strings.Cut(h.Name, "@")
		if !hasUser {
			user, host = "", h.Name
		}
		if err := environ.CheckHost(host); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if hasUser {
			if err := environ.CheckHost(user); err != nil { // a user's name has no other characters
				return nil, fmt.Errorf("line %d: user: %w", i+1, err)
			}
		}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "slots":
				n, err := strconv.Atoi(value)
				if err != nil || n < 1 || n > maxRanks {
					return nil, fmt.Errorf("line %d: slots=%q, want 1 to %d", i+1, value, maxRanks)
				}
				h.Slots = n
			case "max_slots", "max-slots":
			default:
				return nil, fmt.Errorf("line %d: %q is not known; want HOST slots=N", i+1, field)
			}
		}
		if earlier, twice := seen[h.Name]; twice {
			return nil, fmt.Errorf("line %d: host %q is there already, in line %d", i+1, h.Name, earlier)
		}
		seen[h.Name] = i + 1
		if hosts = append(hosts, h); len(hosts) > maxHosts {
			return nil, fmt.Errorf("more than %d hosts", maxHosts)
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("no host in it")
	}
	for _, h := range hosts {
		if h.Slots != hosts[0].Slots {
			return nil, fmt.Errorf("hosts %s and %s have %d and %d slots; every node has as many ranks", hosts[0].Name, h.Name, hosts[0].Slots, h.Slots)
		}
	}
	return hosts, nil
}
