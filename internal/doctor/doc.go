// Package doctor says in words that a newcomer understands why a run failed and whether
// this machine is ready for one.
//
// Analyze reads logs: wanrun's own and its reports, those of the official program under
// python or torchrun, of Slurm, Kubernetes and the kernel. Each line is held against a
// table of signs; Diagnosis names the cause, what only followed from it, the phase, what to
// change, and the command line of wanrun that avoids it. CheckMachine and CheckCheckpoint
// look at the machine and at a checkpoint folder.
//
// Logs are anyone's: reading is bounded, and what is quoted is safe to print.
package doctor
