package group

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
)

// ParseReasons reads a list such as "signal,oom,node,code=3". "none" is the empty one.
func ParseReasons(list string) ([]Reason, error) {
	if strings.TrimSpace(list) == "none" {
		return nil, nil
	}
	var reasons []Reason
	for part := range strings.SplitSeq(list, ",") {
		r, err := parseReason(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, r)
	}
	return reasons, nil
}

func parseReason(s string) (Reason, error) {
	if number, ok := strings.CutPrefix(s, "code="); ok {
		code, err := strconv.Atoi(number)
		if err != nil || code < 1 || code > 255 {
			return Reason{}, fmt.Errorf("reason to restart %q: want code= with a number from 1 to 255", s)
		}
		return Reason{Kind: ReasonCode, Code: ends.Code(code)}, nil
	}
	switch kind := ReasonKind(s); kind {
	case ReasonSignal, ReasonMemory, ReasonNode, ReasonHang, ReasonAny:
		return Reason{Kind: kind}, nil
	}
	return Reason{}, fmt.Errorf("reason to restart %q: want signal, oom, node, hang, any, code=N, or none alone", s)
}
