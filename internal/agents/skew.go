package agents

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// digests returns what tells whether flags are the same without telling their values.
func digests(flags map[string]string, key []byte) map[string][]byte {
	result := map[string][]byte{}
	for name, value := range flags {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("flag\x00" + name + "\x00" + value))
		result[clean(name, maxName)] = mac.Sum(nil)[:16]
	}
	return result
}

// skew says what differs between an agent and node 0, "" if nothing does.
func skew(in *wanrunv1.AgentIntroduction, o Options, key []byte) string {
	var all []string
	if in.GetBuild() != o.Build {
		all = append(all, fmt.Sprintf("build is %q, node 0 has %q", clean(in.GetBuild(), maxName), o.Build))
	}
	// A node that cannot run the program has none to compare; that is told instead.
	if in.GetCode() == 0 && in.GetProgram() != o.Program {
		all = append(all, fmt.Sprintf("program is %.12q, node 0 has %.12q", clean(in.GetProgram(), maxName), o.Program))
	}
	own := digests(o.Flags, key)
	names := slices.Collect(maps.Keys(own))
	for name := range in.GetFlags() {
		if _, ok := own[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	const most = 8 // differences told by name
	numFlags := 0
	for _, name := range names {
		mine, here := own[name]
		theirs, there := in.GetFlags()[name]
		if here && there && bytes.Equal(mine, theirs) {
			continue
		}
		if numFlags++; numFlags > most {
			continue
		}
		switch name := clean(name, 60); {
		case !there:
			all = append(all, name+" is not given, node 0 has it")
		case !here:
			all = append(all, name+" is given, node 0 has it not")
		default:
			all = append(all, name+" has another value than on node 0")
		}
	}
	if numFlags > most {
		all = append(all, fmt.Sprintf("and %d flags more", numFlags-most))
	}
	return strings.Join(all, "; ")
}
