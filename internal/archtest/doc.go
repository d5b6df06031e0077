// Package archtest holds the tests of the import graph: layers import downwards
// only, and cgo stays where DESIGN says. There is nothing to import here.
package archtest
