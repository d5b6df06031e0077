package wan

import "github.com/wanrun/wanrun/pkg/tensor"

// SeqParallel spreads the sequence of a forward over the ranks of a group. All
// else of the model works on rows, so that these three are the only places where
// a rank sees other ranks' tokens. Every rank of the group calls them in the same
// order. Errors stick to ops.
type SeqParallel interface {
	// Shard returns the rows that this rank holds of a sequence of numTokens:
	// count > 0 of them from start on. All ranks together cover the sequence in
	// rank order; rows from numTokens on are padding, which the model sets to zero
	// after the patch embedding and does not rotate.
	Shard(numTokens int) (start, count int)
	// Attend returns the attention [count, N, H] of this rank's queries over the
	// keys and values of the whole sequence; q, k and v [count, N, H] are this
	// rank's rows of the whole. spec.KeyLen is the number of tokens of the whole
	// sequence: keys behind it are padding and masked. (The original code attends
	// to them; an implementation that is to agree with it raises KeyLen.)
	Attend(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor
	// Gather returns all rows [numTokens, C] without padding of a tensor of which
	// y [count, C] are this rank's.
	Gather(ops tensor.Ops, y tensor.Tensor, numTokens int) tensor.Tensor
}

// Whole is the SeqParallel of one rank, which holds the sequence alone.
type Whole struct{}

// Shard returns the whole sequence.
func (Whole) Shard(numTokens int) (start, count int) { return 0, numTokens }

// Attend is plain attention.
func (Whole) Attend(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
	return ops.Attention(q, k, v, spec)
}

// Gather returns y.
func (Whole) Gather(_ tensor.Ops, y tensor.Tensor, _ int) tensor.Tensor { return y }
