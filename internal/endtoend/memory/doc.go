// Package memory tests what runs take of memory against what was planned, with the real
// programs on checkpoints of random weights.
package memory
