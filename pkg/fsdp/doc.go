// Package fsdp keeps a model's parameters sharded over the ranks of a group and makes
// them whole unit by unit: a unit is gathered before its use, while the one
// before it computes, and its memory is used again after it is released. It
// implements a model's Weights.
//
// A rank holds 1/P of each unit's bytes (sharding.Layout), at rest on the device, in
// host memory or in the checkpoint's file, and reads only that part of it. Beside
// that it has room for two gathered units, whatever the depth of the model. Nothing is
// replicated but a rounding to 256 bytes a parameter and shard; parameters of which
// single rows are read (embedding tables) stay in their file.
//
// The group may be a part of the job's ranks, so that weights are sharded within it and
// replicated between groups, or one rank alone. What ranks of a node then keep twice in
// host memory, they may keep once (Options.Twins).
//
// Source: PyTorch FSDP, arXiv:2304.11277; ZeRO stage 3, arXiv:1910.02054.
package fsdp
