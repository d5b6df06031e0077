// Package parallel puts the seams that models declare over the groups of pkg/comm,
// where that is no more than calling collectives: which rows or columns of a
// tensor a rank holds, and how it gets those of others. Sequence parallelism and
// sharded parameters have packages of their own.
package parallel
