package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

const (
	maxStatus = 16 << 20 // bytes; 10,000 ranks make 4 MiB
	maxAnswer = 64 << 10
	// maxRecord is a line of 64 KiB with each byte escaped.
	maxRecord = 512 << 10
	maxBy     = 200
)

type stopRequest struct {
	By string `json:"by"`
}

type stacksAnswer struct {
	Folder string `json:"folder"`
}

type errorAnswer struct {
	Error string `json:"error"`
}

// record is a line of a rank on the wire, or the end of the log.
type record struct {
	At      time.Time `json:"t"`
	Attempt int       `json:"attempt"`
	Rank    int       `json:"rank"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial,omitempty"`
	Dropped int       `json:"dropped,omitempty"`
	End     bool      `json:"end,omitempty"`
}

func toRecord(l node.Line) record {
	return record{At: l.At, Attempt: l.Attempt, Rank: l.Rank, Stream: l.Stream, Text: l.Text, Partial: l.Partial, Dropped: l.Dropped}
}

func (r record) line() node.Line {
	return node.Line{At: r.At, Attempt: r.Attempt, Rank: r.Rank, Stream: r.Stream, Text: r.Text, Partial: r.Partial, Dropped: r.Dropped}
}

// parseRecord reads one line of a log.
func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("record %.80q: %w", b, err)
	}
	if !r.End && r.Stream != "stdout" && r.Stream != "stderr" {
		return record{}, fmt.Errorf("record of stream %.20q, want stdout or stderr", r.Stream)
	}
	if r.Attempt < 0 || r.Rank < 0 || r.Dropped < 0 {
		return record{}, fmt.Errorf("record of attempt %d, rank %d with %d lines dropped, want none below 0", r.Attempt, r.Rank, r.Dropped)
	}
	r.Text = printable(r.Text)
	return r, nil
}

// parseStatus reads a Status from a launcher that may be of another version.
func parseStatus(b []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(b, &s); err != nil {
		return Status{}, fmt.Errorf("status: %w", err)
	}
	if s.Schema != Schema {
		return Status{}, fmt.Errorf("status of schema %d, want %d: it is another version of wanrun", s.Schema, Schema)
	}
	return s, nil
}

// readBounded reads all of r.
func readBounded(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = errors.New("more than " + strconv.FormatInt(most, 10) + " bytes")
	}
	return b, err
}

// printable makes another's text fit for a terminal: one line without control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || strconv.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
