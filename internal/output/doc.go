// Package output takes what the ranks of a job print to where people look: whole lines
// to the console, every byte to files, the last words to the report.
//
// Nothing here holds up a rank. Read takes what comes from a rank's pipe as fast as it
// comes; Files writes it as it is; Console keeps what a slow terminal has not taken yet,
// up to a bound, and drops the rest with a count.
package output

// Stdout and Stderr name the streams of a rank in node.Line.Stream.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)
