// Package slurm reads what Slurm tells a process: its environment, its hostlists
// ("gpu-[01-04,07]") and the addresses that scontrol knows. It starts nothing and
// asks no daemon by itself.
//
// Slurm's own tool is a poor reader of its own grammar: scontrol exits 0 for a
// hostlist that it refuses. Here a wrong list is an error with the place in it.
package slurm
