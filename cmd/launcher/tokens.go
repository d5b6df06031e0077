package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/tokenizer"
	"github.com/wanrun/wanrun/internal/tokenizer/clean"
)

const aboutTokens = `Standard input is a JSON list of prompts. Standard output is a JSON list with, for each, "cleaned",
the prompt as it is encoded; "ids", the tokens as the encoder gets them, </s> included, cut to the
text length and not padded; and "cut_at", the byte of the cleaned prompt at which the first
dropped token begins, or null. Without --ckpt-dir it is the demo model's tokenizer.
`

// Bounds on what tokens reads.
const (
	maxPromptsBytes = 64 << 20
	officialTextLen = 512 // original config, text_len
	maxTextLen      = 1 << 16
)

func tokensFlags() []settings.Flag {
	return append([]settings.Flag{
		{Name: "ckpt-dir", Kind: settings.Folder, Local: true, Help: "the checkpoint whose tokenizer is asked"},
		{Name: "json", Kind: settings.Switch, Local: true, Help: "JSON in and out; there is no other form"},
	}, helpFlags()...)
}

// encoded is one prompt's row of the output.
type encoded struct {
	Cleaned string  `json:"cleaned"`
	IDs     []int32 `json:"ids"`
	CutAt   *int    `json:"cut_at"`
}

// tokens prints the ids of the prompts on stdin.
func tokens(w world, args []string) error {
	parsed, done, err := w.parse("tokens", args, 0)
	if err != nil || done {
		return err
	}
	if on, err := parsed.Switch("json"); err != nil || !on {
		return errors.Join(err, ends.Errorf(ends.Usage, "tokens reads and prints JSON: add --json"))
	}
	tok, textLen, err := openTokenizer(parsed.Given["ckpt-dir"].Text)
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	prompts, err := readPrompts(w.stdin)
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	rows := make([]encoded, 0, len(prompts))
	for i, p := range prompts {
		if len(p) > settings.MaxPromptBytes {
			return ends.Errorf(ends.BadInput, "prompt %d has %d bytes, want at most %d", i, len(p), settings.MaxPromptBytes)
		}
		rows = append(rows, encode(tok, textLen, p))
	}
	out := json.NewEncoder(w.stdout)
	out.SetEscapeHTML(false)
	return out.Encode(rows)
}

func encode(tok *tokenizer.Tokenizer, textLen int, prompt string) encoded {
	row := encoded{Cleaned: clean.Prompt(prompt)}
	e := tok.Encode(row.Cleaned, textLen)
	row.IDs = e.IDs
	if e.CutAt >= 0 {
		row.CutAt = &e.CutAt
	}
	return row
}

// readPrompts reads a JSON list of strings.
func readPrompts(r io.Reader) ([]string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPromptsBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read prompts: %w", err)
	case len(data) > maxPromptsBytes:
		return nil, fmt.Errorf("more than %d MiB of prompts", maxPromptsBytes>>20)
	case !utf8.Valid(data):
		return nil, errors.New("the prompts are not UTF-8")
	}
	var prompts []string
	if err := json.Unmarshal(data, &prompts); err != nil {
		return nil, fmt.Errorf("want a JSON list of prompts on standard input: %w", err)
	}
	return prompts, nil
}

// openTokenizer opens a checkpoint's tokenizer, or the demo model's, and says how
// many ids its text encoder takes.
func openTokenizer(dir string) (*tokenizer.Tokenizer, int, error) {
	if dir == "" {
		tok, err := tokenizer.Open(examples.DemoTokenizer())
		return tok, officialTextLen, err
	}
	textLen, err := readTextLen(dir)
	if err != nil {
		return nil, 0, err
	}
	tok, err := tokenizer.Open(os.DirFS(filepath.Join(dir, "google", "umt5-xxl")))
	if err != nil {
		return nil, 0, fmt.Errorf("tokenizer of %q: %w", dir, err)
	}
	return tok, textLen, nil
}

// readTextLen reads text_len from a checkpoint's config.json, which need not be there: the tokenizer is.
func readTextLen(dir string) (int, error) {
	path := filepath.Join(dir, "config.json")
	data, err := readFile(path, settings.MaxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return officialTextLen, nil
	}
	if err != nil {
		return 0, err
	}
	config := struct {
		TextLen int `json:"text_len"`
	}{officialTextLen}
	if err := json.Unmarshal(data, &config); err != nil {
		return 0, fmt.Errorf("%q: %w", path, err)
	}
	if config.TextLen < 1 || config.TextLen > maxTextLen {
		return 0, fmt.Errorf("%q: text_len is %d, want 1 to %d", path, config.TextLen, maxTextLen)
	}
	return config.TextLen, nil
}
