// Package sharding says who holds what: the mesh of ranks and its axes, how
// many ranks may share the heads of an attention, which tokens and heads each of
// them gets, and how the parameters of a unit are laid out over ranks.
//
// It is arithmetic alone: nothing here computes, moves or allocates.
package sharding
