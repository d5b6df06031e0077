package comm

import "errors"

// The ways in which a group ends before its Close. ErrAborted matches every
// Failure; the others say which kind it is.
var (
	ErrAborted  = errors.New("group aborted")
	ErrTimeout  = errors.New("collective timed out")
	ErrMismatch = errors.New("ranks disagree")
	ErrPeerLost = errors.New("peer lost")
)

// Failure is why a group ended: the first cause that reached this rank. It is the
// same text on every rank that the first finder told.
type Failure struct {
	Kind error // ErrAborted, ErrTimeout, ErrMismatch or ErrPeerLost
	Rank int   // the rank to blame, counted in the whole job; -1 if none or several
	By   int   // the rank that found it
	Text string
	// Cause is set only in the process that found the failure.
	Cause error
}

// Error returns the text.
func (f *Failure) Error() string { return f.Text }

// Is matches ErrAborted and the kind.
func (f *Failure) Is(target error) bool { return target == ErrAborted || target == f.Kind }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
