package settings

import (
	"fmt"
	"slices"
	"strings"
)

// HelpText lists flags by group, as --help shows them.
func HelpText(flags []Flag) string {
	var b strings.Builder
	for _, group := range Groups(flags) {
		if group != "" {
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		for _, f := range flags {
			if f.Group == group {
				writeFlag(&b, f)
			}
		}
	}
	return b.String()
}

func writeFlag(b *strings.Builder, f Flag) {
	const column = 32
	left := "      --" + f.Name
	if f.Letter != "" {
		left = "  -" + f.Letter + ", --" + f.Name
	}
	if p := f.Placeholder(); p != "" {
		left += " " + p
	}
	if len(left) >= column {
		fmt.Fprintf(b, "%s\n%*s", left, column, "")
	} else {
		fmt.Fprintf(b, "%-*s", column, left)
	}
	b.WriteString(f.Help)
	if f.Kind == Choice && f.Value != "" {
		b.WriteString(": " + strings.Join(f.Choices, ", "))
	}
	if len(f.Other) > 0 {
		b.WriteString(" (also --" + strings.Join(f.Other, ", --") + ")")
	}
	b.WriteString("\n")
}

// Groups lists the groups of a table in their order.
func Groups(flags []Flag) []string {
	var groups []string
	for _, f := range flags {
		if !slices.Contains(groups, f.Group) {
			groups = append(groups, f.Group)
		}
	}
	return groups
}

// ExplainText lists each value with where it came from, and how the ranks share the
// work, for --explain.
func (s Settings) ExplainText() string {
	text := ExplainValues(s.Values) + fmt.Sprintf("\nplan: %s\n", s.Plan)
	if s.Why != "" {
		text += fmt.Sprintf("why: %s\n", s.Why)
	}
	return text
}

// ExplainValues lists each value with where it came from.
func ExplainValues(values []Value) string {
	const longest = 60 // prompts are long
	var b strings.Builder
	for _, v := range values {
		text := Shorten(v.Text, longest)
		if text == "" {
			text = `""`
		}
		fmt.Fprintf(&b, "%-26s%-30s  %s\n", v.Name, text, Escape(v.From))
	}
	return b.String()
}
