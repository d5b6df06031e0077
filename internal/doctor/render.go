package doctor

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes a diagnosis for people.
func (d Diagnosis) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, r := range d.Read {
		if r.Error != "" {
			fmt.Fprintf(&b, "%s could not be read to its end: %s\n", r.Name, r.Error)
		}
	}
	if len(d.Findings) == 0 {
		switch {
		case d.Finished:
			b.WriteString("The run ended well.\n")
		default:
			b.WriteString("Nothing in these logs is known to the doctor.\nUseful are: all that the program printed, on all ranks; the output of dmesg -T; what Slurm wrote (slurm-JOB.out).\n")
		}
	}
	for i, f := range d.Findings {
		if i > 0 {
			b.WriteString("\n")
		}
		f.text(&b)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "\nNote: %s.\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var headings = map[string]string{Cause: "CAUSE", Also: "ALSO", Consequence: "THEN"}

// width of the text, in characters.
const width = 96

func (f Finding) text(b *strings.Builder) {
	fmt.Fprintf(b, "%-6s %s\n", headings[f.Role], wrap(f.What, 7))
	where := rankList(f.Ranks)
	if f.Phase != "" {
		words := phaseWords[f.Phase]
		if words == "" {
			words = "in " + f.Phase
		}
		if where != "" {
			where += ", "
		}
		where += words
		if f.Steps > 0 {
			where += fmt.Sprintf(" (%d of %d steps done)", f.Step, f.Steps)
		}
	}
	if where != "" {
		fmt.Fprintf(b, "Where  %s\n", wrap(where, 7))
	}
	if f.Role == Consequence {
		f.quotes(b, 1)
		return
	}
	fmt.Fprintf(b, "Why    %s\n", wrap(f.Why, 7))
	for i, line := range f.Do {
		head := "Do     "
		if i > 0 {
			head = "       "
		}
		fmt.Fprintf(b, "%s- %s\n", head, wrap(line, 9))
	}
	if f.Command != "" {
		fmt.Fprintf(b, "wanrun %s\n", strings.TrimPrefix(f.Command, "wanrun "))
	}
	f.quotes(b, maxEvidence)
}

func (f Finding) quotes(b *strings.Builder, most int) {
	for i, e := range f.Evidence[:min(len(f.Evidence), most)] {
		head := "Seen   "
		if i > 0 {
			head = "       "
		}
		fmt.Fprintf(b, "%s%s:%d  %s\n", head, e.Log, e.Line, e.Text)
	}
}

// wrap breaks a text at spaces and indents what follows the first line.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
