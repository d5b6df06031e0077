// Package launch runs a job: it starts the worker process, speaks with it over the
// control channel, shows how far it is, ends it when asked, and says how it ended.
//
// The worker cannot outlive the launcher: the kernel kills it when the thread
// that started it is gone, and its control stream breaks. Nothing of a run stays
// behind: not its processes, not its socket.
package launch
