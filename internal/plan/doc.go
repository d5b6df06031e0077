// Package plan is what is known of a run before it starts: bytes and work of each phase
// and rank, as the worker found them by running its own code without numbers, seconds
// estimated from a device's figures, whether it fits into what there is, and which change
// would make it fit. It only computes, and is part of the launcher and of the worker.
package plan
