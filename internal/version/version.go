// Package version names the build.
package version

// Version is set by the linker to the commit that was built.
var Version = "unknown"
