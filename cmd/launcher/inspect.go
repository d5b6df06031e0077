package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/media"
	"github.com/wanrun/wanrun/internal/settings"
)

const aboutInspect = `The file is one that wanrun made, .mp4 or .png.
`

func inspectFlags() []settings.Flag {
	return append([]settings.Flag{{Name: "json", Kind: settings.Switch, Local: true, Help: "print the stored JSON as it is"}}, helpFlags()...)
}

// inspect prints the settings that are stored in a file.
func inspect(w world, args []string) error {
	parsed, done, err := w.parse("inspect", args, 1)
	if err != nil || done {
		return err
	}
	stored, err := media.ReadMetadata(parsed.Positional[0])
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	if on, err := parsed.Switch("json"); err != nil {
		return err
	} else if on {
		fmt.Fprintf(w.stdout, "%s\n", bytes.TrimSpace(stored))
		return nil
	}
	lines, err := readable(stored)
	if err != nil {
		return ends.Errorf(ends.BadInput, "%q holds no settings of wanrun: %w", parsed.Positional[0], err)
	}
	_, err = io.WriteString(w.stdout, lines)
	return err
}

// readable writes a JSON object as lines of "key  value", in its own order and
// safe to print: the file may be anyone's.
func readable(stored []byte) (string, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(stored, &values); err != nil {
		return "", err
	}
	var keys []string
	for key := range values {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return bytes.Index(stored, keyBytes(a)) - bytes.Index(stored, keyBytes(b))
	})
	var b strings.Builder
	for _, key := range keys {
		text := string(values[key])
		var s string
		if json.Unmarshal(values[key], &s) == nil {
			text = s
		}
		fmt.Fprintf(&b, "%-17s %s\n", settings.Escape(key), settings.Escape(text))
	}
	return b.String(), nil
}

func keyBytes(key string) []byte {
	quoted, err := json.Marshal(key)
	if err != nil {
		return []byte(key)
	}
	return quoted
}
