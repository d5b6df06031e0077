package slurm

import (
	"strconv"
	"strings"
)

// Fold writes hosts as a hostlist: n3, n1, n2 become n[3,1-2]. It keeps order and
// duplicates, so that Expand gives hosts back; names must be free of blanks, commas
// and brackets. A number is folded only at a name's end.
func Fold(hosts []string) string {
	var list strings.Builder
	for len(hosts) > 0 {
		if list.Len() > 0 {
			list.WriteByte(',')
		}
		n := samePrefix(hosts)
		foldPrefix(&list, hosts[:n])
		hosts = hosts[n:]
	}
	return list.String()
}

// samePrefix returns how many names at the beginning of hosts differ in their last
// number alone.
func samePrefix(hosts []string) int {
	prefix, number := splitNumber(hosts[0])
	if number == "" {
		return 1
	}
	n := 1
	for ; n < len(hosts); n++ {
		if p, num := splitNumber(hosts[n]); p != prefix || num == "" {
			break
		}
	}
	return n
}

// splitNumber splits off the digits at a name's end, at most maxDigits of them:
// a longer number is no number.
func splitNumber(name string) (prefix, number string) {
	i := len(name)
	for i > 0 && isDigit(name[i-1]) {
		i--
	}
	if len(name)-i > maxDigits {
		return name, ""
	}
	return name[:i], name[i:]
}

// foldPrefix writes hosts, which share a prefix, as one item.
func foldPrefix(list *strings.Builder, hosts []string) {
	if len(hosts) == 1 {
		list.WriteString(hosts[0])
		return
	}
	prefix, _ := splitNumber(hosts[0])
	list.WriteString(prefix)
	list.WriteByte('[')
	for i := 0; i < len(hosts); {
		_, number := splitNumber(hosts[i])
		n := runLength(hosts[i:], number)
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(number)
		if n > 1 {
			_, hi := splitNumber(hosts[i+n-1])
			list.WriteByte('-')
			list.WriteString(hi)
		}
		i += n
	}
	list.WriteByte(']')
}

// runLength returns how many hosts from the first on are a range that begins with
// the number lo: each is one more than the one before, written with lo's width.
func runLength(hosts []string, lo string) int {
	first, err := strconv.ParseInt(lo, 10, 64)
	if err != nil {
		return 1
	}
	n := 1
	for ; n < len(hosts) && n < maxRange; n++ {
		if _, number := splitNumber(hosts[n]); number != pad(first+int64(n), len(lo)) {
			break
		}
	}
	return n
}
