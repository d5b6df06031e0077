// Package guard starts the ranks of a node so that none of them, and nothing that they
// start, outlives the launcher, whatever dies.
//
// Start runs this program once more as the guard: a small process in a session of its own
// that starts the ranks and reaps them. Three layers end what a job has running:
//
//   - PR_SET_PDEATHSIG: the kernel kills a rank when the guard dies. It does not reach
//     what a rank started.
//   - The guard is the child subreaper of all that descends from it: a grandchild that
//     left its group, its session or its parent becomes the guard's child, and stays to
//     be found. The guard holds one end of a socket pair. When the other end closes,
//     however the launcher died, it kills all that descends from it and leaves. A guard
//     that is stopped goes on then: SIGCONT is its own parent-death signal.
//   - cgroup.kill, where the job may make a control group (version 2, Linux 5.14): all at
//     once, and no process can escape by forking.
//
// The launcher is a subreaper, too: if the guard dies, ranks die by the first layer, the
// launcher inherits what they left, and the Guard sweeps it.
//
// Nothing polls: ranks' ends come by pidfd through one epoll instance, in the order
// in which the kernel saw them. The socket is close-on-exec on both sides, so that no
// rank has it.
package guard
