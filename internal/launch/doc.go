// Package launch runs a job: it starts a worker process for each rank, speaks with them
// over the control channel, shows how far they are, ends them when asked, and says how
// they ended.
//
// The ranks of a job live and die together: when one fails, the others are asked to
// end and killed soon after, and the failure that came first is the one that is told.
// No worker can outlive the launcher: the kernel kills it when the thread that started
// it is gone, and its control stream breaks. Nothing of a run stays behind: not its
// processes, not its socket.
package launch
