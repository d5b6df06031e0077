package main

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/plan"
	"github.com/wanrun/wanrun/internal/settings"
)

// checkPlan plans the job before anything is started, and refuses one that does not fit,
// with what would; with --auto it returns the settings of that instead. What else is wrong
// with the job its ranks say themselves.
func (w world) checkPlan(s settings.Settings, args []string) (settings.Settings, error) {
	if index, _ := s.Launch.Where.Agent(); index > 0 || (s.NoRefuse && !s.Auto) {
		return s, nil // node 0 has looked, or nobody shall
	}
	request, err := w.planRequest(s)
	if err != nil {
		return s, err
	}
	request.Search = "first"
	p, err := w.askPlan(s, request)
	if err != nil || p.Fits {
		return s, nil
	}
	if s.Auto && len(p.Remedies) > 0 {
		changes := p.Remedies[0].Changes
		changed, err := settings.Resolve(w.inputs(append(args[:len(args):len(args)], changes...)))
		if err != nil {
			return s, fmt.Errorf("--auto: %s: %w", commandLine(changes), err)
		}
		changed.Notices = append(changed.Notices, fmt.Sprintf("--auto: the plan %s; changed to %s", p.Verdict, commandLine(changes)))
		changed.Seed = s.Seed
		return changed, nil
	}
	if len(p.Remedies) == 0 && !s.Auto {
		request.Fixed = nil // then what was asked for has to give way
		if freed, err := w.askPlan(s, request); err == nil {
			p = freed
		}
	}
	if s.NoRefuse {
		return s, nil
	}
	return s, w.refuse(p, args)
}

// refuse tells what does not fit and what would.
func (w world) refuse(p *plan.Plan, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"generate"}, args...)
	}
	fmt.Fprint(w.stderr, "wanrun: refused: the plan ", escapeLines(p.Verdict+"\n"+p.Table()+remedyText(p, args)))
	return &toldError{ends.Errorf(ends.Refused, "the plan %s", p.Verdict)}
}
