// Package launcher holds the conformance tests of the launcher: the built program starts
// groups of small programs, and is looked at from outside. There is nothing to import here.
package launcher
