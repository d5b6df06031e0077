package cpu

// NewExact returns the fastest backend of this machine whose result for a row
// depends on that row alone, and not on how many others there are: however a
// sequence is spread over ranks, the bits are the same. Libraries choose other
// kernels, and so another order of sums, for other numbers of rows.
func NewExact(threads int) *Backend { return newFast(threads) }
