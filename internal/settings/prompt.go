package settings

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/ends"
)

// MaxPromptBytes bounds a prompt. The text encoder reads some 512 tokens of it.
const MaxPromptBytes = 1 << 20

// prompts settles both prompts.
func (r *resolver) prompts() {
	demo := r.s.CkptDir == "" && !r.s.Official
	g, given := r.given["prompt"]
	switch {
	case given:
		r.s.Prompt = r.prompt("prompt", g)
		if r.s.Prompt == "" {
			r.notice("the prompt is empty: the video follows the picture alone, or nothing")
		}
	case demo:
		r.s.Prompt = r.in.Demo.Prompt
		r.record("prompt", r.s.Prompt, "the demo model")
	case r.in.Planning:
	default:
		r.fail(ends.Usage, errors.New(`--prompt is missing: say what shall happen, as in --prompt "the red ball moves right"`))
	}
	if g, given := r.given["negative-prompt"]; given && g.Text != "" {
		r.s.Negative = r.prompt("negative-prompt", g)
	} else if r.err == nil {
		r.negativeDefault()
	}
	if demo && r.err == nil {
		r.demoNotice()
	}
}

func (r *resolver) prompt(name string, g Given) string {
	if err := checkPrompt(g.Text); err != nil {
		r.fail(ends.BadInput, fmt.Errorf("%s: %w", g.From, err))
	}
	r.record(name, g.Text, g.From)
	return g.Text
}

func checkPrompt(s string) error {
	if len(s) > MaxPromptBytes {
		return fmt.Errorf("the prompt has %d bytes, want at most %d", len(s), MaxPromptBytes)
	}
	if i := invalidUTF8(s); i >= 0 {
		return fmt.Errorf("the prompt is not UTF-8: byte 0x%02x at %d, after %q", s[i], i, tail(s[:i]))
	}
	return nil
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// tail is the end of a text, to say where something is.
func tail(s string) string {
	const most = 20
	runes := []rune(s)
	if len(runes) > most {
		runes = runes[len(runes)-most:]
	}
	return string(runes)
}

// negativeDefault: the official code uses the task's own negative prompt where
// the user's is empty. A checkpoint may state another, but not an empty one.
func (r *resolver) negativeDefault() {
	spec := r.spec.NegativePrompt
	if spec != nil && *spec != "" {
		r.s.Negative = *spec
		r.record("negative-prompt", *spec, r.checkpt.from)
		return
	}
	r.s.Negative = r.s.Task.NegativePrompt()
	r.record("negative-prompt", r.s.Negative, r.defaultFrom(false))
}

// demoNotice says in one line that the demo model runs and what it was lent.
func (r *resolver) demoNotice() {
	line := "no --ckpt-dir: the built-in demo model runs"
	if r.s.Image == r.in.Demo.Image {
		line += ", on its own picture"
	}
	if _, given := r.given["prompt"]; !given {
		line += fmt.Sprintf(", with the prompt %q", r.s.Prompt)
	}
	r.s.Notices = append([]string{line}, r.s.Notices...)
}
