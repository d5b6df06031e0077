// Package endtoend holds the tests of the built programs, run as a user runs them.
// There is nothing to import here.
package endtoend
