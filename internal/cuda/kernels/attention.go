package kernels

// AttentionCall is softmax(q kᵀ scale + bias) v per head: Q, O [sq, n, d], K, V [sk, n, d] of
// one Type, the first KeyLen keys.
type AttentionCall struct {
	Type          Type
	O, Q, K, V    Address
	LSE           Address // [sq, n] F32, or 0
	Bias          Address // [n, sq+sk-1] F32 of the distance key - query, or 0
	Sq, Sk        int
	KeyLen, N, D  int
	Scale         float32
	Parts         Address // ScratchBytes of memory, or 0 for one pass
	Multiprocs    int     // of the device; 0 for one pass
	ForceSplits   int     // 0 to choose; tests alone set it
	ForceLongTile bool    // tests alone set it
}

const (
	keyTile   = 64
	maxSplits = 16
	// longSequence is from where on blocks of 128 queries are used.
	longSequence = 2048
)

// matrixUnits reports whether a kernel with matrix instructions serves the call.
func (c AttentionCall) matrixUnits() bool {
	return c.Type != F32 && c.Bias == 0 && (c.D == 64 || c.D == 80 || c.D == 128)
}

func (c AttentionCall) warps() int {
	if c.D == 128 && (c.Sq >= longSequence || c.ForceLongTile) {
		return 8
	}
	return 4
}

// splits is over how many blocks the keys of a query are shared: as many as fill
// the device once, each with four tiles at least.
func (c AttentionCall) splits() int {
	if !c.matrixUnits() {
		return 1
	}
	tiles := (c.KeyLen + keyTile - 1) / keyTile
	splits := c.ForceSplits
	if splits == 0 {
		blocks := (c.Sq + 16*c.warps() - 1) / (16 * c.warps()) * c.N
		splits = min(c.Multiprocs/max(blocks, 1), tiles/4, maxSplits)
	}
	splits = max(min(splits, tiles), 1)
	per := (tiles + splits - 1) / splits
	return (tiles + per - 1) / per // none of them empty
}

// ScratchBytes is the memory that Parts must have, 0 if the call does not share keys.
func (c AttentionCall) ScratchBytes() int64 {
	if s := c.splits(); s > 1 {
		return int64(s) * int64(c.Sq) * int64(c.N) * int64(c.D+1) * 4
	}
	return 0
}

// Launches returns the kernels of the call, in order.
func (c AttentionCall) Launches() []Launch {
	if !c.matrixUnits() {
		return []Launch{newLaunch(Softmax, "attention_any", [3]int{c.Sq, c.N, 1}, 128, reduction+128*4+2*c.D*4,
			c.O, c.Q, c.K, c.V, c.Bias, c.LSE, c.Type, c.Sq, c.Sk, c.KeyLen, c.N, c.D, c.Scale)}
	}
	splits := 1
	if c.Parts != 0 {
		splits = c.splits()
	}
	tiles := (c.KeyLen + keyTile - 1) / keyTile
	perSplit := (tiles + splits - 1) / splits * keyTile
	name, row := "attention_bf16_", c.D*2
	if c.Type == F16 {
		name = "attention_f16_"
	}
	switch c.D {
	case 64:
		name += "64"
	case 80:
		name, row = name+"80", 176
	default:
		name += "128"
	}
	warps := c.warps()
	if warps == 8 {
		name += "_long"
	}
	scale := float32(float64(c.Scale) * 1.4426950408889634)
	var parts, partLSE Address
	if splits > 1 {
		parts = c.Parts
		partLSE = parts + Address(splits*c.Sq*c.N*c.D*4)
	}
	grid := [3]int{(c.Sq + 16*warps - 1) / (16 * warps), c.N, splits}
	out := []Launch{newLaunch(Attention, name, grid, 32*warps, 4*keyTile*row,
		c.O, c.Q, c.K, c.V, c.LSE, parts, partLSE, c.Sq, c.KeyLen, c.N, perSplit, scale)}
	if splits > 1 {
		rows := c.Sq * c.N
		out = append(out, newLaunch(Softmax, "attention_join", [3]int{rows, 1, 1}, 128, 0,
			c.O, c.LSE, parts, partLSE, c.Type, rows, splits, c.D))
	}
	return out
}
