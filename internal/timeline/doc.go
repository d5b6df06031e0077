// Package timeline keeps what the ranks of a job take over time, as they and the kernel
// say it: as lines of a log, as warnings about what is not as planned, and as a page with a
// picture. What is not known stays so: null in the log, a gap in the picture, never zero.
//
// Its input comes from workers and is bounded here; text is escaped where it is shown.
package timeline
