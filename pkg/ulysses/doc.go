// Package ulysses spreads the attention of one sequence over the ranks of a
// group: all-to-all attention (Ulysses), ring attention, and both together (USP). It
// is a model's SeqParallel for groups, and knows nothing of models.
//
// The P ranks of a sequence are arranged as ring x ulysses, ulysses innermost, and
// hold its tokens in rank order. What a rank sends for one attention over L tokens of
// D = N·H channels, e bytes each, when everything divides:
//
//	all-to-all of q, k, v   3 (L/P) D e (U-1)/U    one fused exchange a piece
//	all-to-all of the output  (L/P) D e (U-1)/U
//	ring                      2 (L/P) D e    k and v of each other chunk
//
// The heads of a rank are exchanged in pieces, up to five: while the attention of one
// piece is computed, q, k and v of the next come and the output of the last leaves, so
// that only the first piece in and the last one out are waited for. The bytes are the
// same, the messages as many times more, and the buffers smaller. In a ring, keys and
// values of the next chunk come while those in hand are attended to.
//
// Source: DeepSpeed Ulysses, arXiv:2309.14509, section 3; Ring Attention,
// arXiv:2310.01889; USP, arXiv:2405.07719.
package ulysses
