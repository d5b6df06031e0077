package placement

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCPUs bounds CPU numbers: Linux's own limit, NR_CPUS, is 8192 on x86-64.
const maxCPUs = 8192

// ParseCPUList reads a list of CPUs as Linux writes it, "0-3,8,10-11"; the result is
// sorted and has each CPU once. An empty list is no error.
func ParseCPUList(list string) ([]int, error) {
	list = strings.TrimSpace(list)
	if list == "" {
		return nil, nil
	}
	var cpus []int
	for entry := range strings.SplitSeq(list, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(entry), "-")
		if !ranged {
			hi = lo
		}
		first, err1 := strconv.ParseUint(lo, 10, 16)
		last, err2 := strconv.ParseUint(hi, 10, 16)
		if err1 != nil || err2 != nil || last < first || last >= maxCPUs {
			return nil, fmt.Errorf("CPU list %.80q: %.20q is no CPU or range of them, 0 to %d", list, entry, maxCPUs-1)
		}
		for cpu := int(first); cpu <= int(last); cpu++ {
			cpus = append(cpus, cpu)
		}
		if len(cpus) > 4*maxCPUs {
			return nil, fmt.Errorf("CPU list %.80q names more than %d CPUs", list, 4*maxCPUs)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

// FormatCPUList writes sorted CPUs as Linux does.
func FormatCPUList(cpus []int) string {
	var list []string
	for i := 0; i < len(cpus); {
		end := i
		for end+1 < len(cpus) && cpus[end+1] == cpus[end]+1 {
			end++
		}
		if end == i {
			list = append(list, strconv.Itoa(cpus[i]))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", cpus[i], cpus[end]))
		}
		i = end + 1
	}
	return strings.Join(list, ",")
}
