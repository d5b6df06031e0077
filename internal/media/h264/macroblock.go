package h264

// mbKind is how a macroblock is predicted.
type mbKind uint8

const (
	kindI4 mbKind = iota
	kindI16
	kindP16
)

// mbInfo is what later macroblocks of the slice need to know about one.
// Blocks are in raster order.
type mbInfo struct {
	inter   bool
	mv      vector      // zero unless inter
	mode4   [16]uint8   // intra 4x4 modes; intra4DC unless I4x4
	nonZero [16]uint8   // coefficients of each luma block, without an I16x16's DC
	chroma  [2][4]uint8 // the same for Cb and Cr
}

// coded is one macroblock's levels and modes on their way to the stream.
type coded struct {
	kind     mbKind
	mode16   int
	chromaMd int
	rem4     [16]int // by coding order: -1 as predicted, else rem_intra4x4_pred_mode
	vd       vector  // vector less its prediction
	cbpLuma  int     // a bit for each 8x8 block
	cbpC     int     // 0 none, 1 DC, 2 DC and AC
	dc       levels
	luma     [16]levels // raster order
	chromaDC [2]levels
	chroma   [2][4]levels
}

// prediction is the predicted samples of a macroblock.
type prediction struct {
	y [256]uint8
	c [2][64]uint8
}

// blockX and blockY give a luma block's place by coding order (clause 6.4.3).
var (
	blockX = [16]int{0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3}
	blockY = [16]int{0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3}
)

// topRightInside says for which luma blocks, raster order, the block to the top
// right lies in the same macroblock and is coded before it.
var topRightInside = [16]bool{4: true, 6: true, 8: true, 9: true, 10: true, 12: true, 14: true}

// macroblock encodes the macroblock in column mx, row my.
func (s *slice) macroblock(mx, my int) {
	m := s.mb(mx, my)
	*m = mbInfo{}
	if s.enc.intra {
		s.intra(mx, my, m, 1<<30)
		s.write(mx, my, m)
		return
	}
	x, y := 16*mx, 16*my
	n := s.neighbourVectors(mx, my)
	skip := n.skip()
	lo, hi := s.vectorRange(x, y)
	if skip.within(lo, hi) {
		s.enc.ref.predictLuma(s.pred.y[:], x, y, skip)
		if s.lumaVanishes(x, y) {
			s.setInter(m, x, y, skip, vector{})
			if s.cur.cbpC == 0 {
				s.skipRun++
				return
			}
			*m = mbInfo{}
		}
	}
	pred := n.predict()
	v, cost := s.search(x, y, &n, pred)
	inter := s.pred.y
	// An intra macroblock is only worth trying where motion predicts badly.
	if cost > s.enc.intraWorth && s.intra(mx, my, m, cost) {
		s.write(mx, my, m)
		return
	}
	*m = mbInfo{}
	s.pred.y = inter
	s.setInter(m, x, y, v, vector{v.x - pred.x, v.y - pred.y})
	s.write(mx, my, m)
}

// setInter codes and reconstructs the macroblock at luma x, y with vector v;
// its luma prediction is in s.pred.y.
func (s *slice) setInter(m *mbInfo, x, y int, v, vd vector) {
	e := s.enc
	m.inter, m.mv = true, v
	for i := range m.mode4 {
		m.mode4[i] = intra4DC
	}
	c := &s.cur
	c.kind, c.vd, c.cbpLuma = kindP16, vd, 0
	for b := range 16 {
		bx, by := 4*(b&3), 4*(b>>2)
		dst := e.rec.y.from(x+bx, y+by)
		n := s.codeBlock(&c.luma[b], e.src.y.from(x+bx, y+by), s.pred.y[16*by+bx:], 16, dst, deadZoneInter)
		m.nonZero[b] = uint8(n)
		if n > 0 {
			c.cbpLuma |= 1 << (bx/8 + by/8*2)
		}
	}
	for i := range 2 {
		e.ref.predictChromaInter(s.pred.c[i][:], i, x, y, v)
	}
	s.codeChroma(m, x/2, y/2, deadZoneInter)
}

// lumaVanishes says whether the difference to s.pred.y quantises to nothing.
func (s *slice) lumaVanishes(x, y int) bool {
	src := &s.enc.src.y
	var l levels
	for b := range 16 {
		bx, by := 4*(b&3), 4*(b>>2)
		r := difference(src.from(x+bx, y+by), src.stride, s.pred.y[16*by+bx:], 16)
		forward(&r)
		if s.enc.luma.quantize(&r, &l, 0, deadZoneInter) > 0 {
			return false
		}
	}
	return true
}

func difference(src []uint8, stride int, pred []uint8, predStride int) (r block) {
	for y := range 4 {
		a, b := (*[4]uint8)(src[y*stride:]), (*[4]uint8)(pred[y*predStride:])
		for x := range a {
			r[4*y+x] = int32(a[x]) - int32(b[x])
		}
	}
	return r
}

// codeBlock transforms, quantises and reconstructs a whole 4x4 luma block and
// returns its number of levels.
func (s *slice) codeBlock(l *levels, src, pred []uint8, predStride int, dst []uint8, deadZone int32) int {
	e := s.enc
	r := difference(src, e.src.y.stride, pred, predStride)
	forward(&r)
	n := e.luma.quantize(&r, l, 0, deadZone)
	if n == 0 {
		for y := range 4 {
			copy(dst[y*e.rec.y.stride:][:4], pred[y*predStride:])
		}
		return 0
	}
	e.luma.restore(l, &r, 0)
	inverseAdd(&r, pred, predStride, dst, e.rec.y.stride)
	return n
}

// intra chooses the best intra prediction and, if its cost is below limit,
// codes and reconstructs the macroblock with it and returns true.
func (s *slice) intra(mx, my int, m *mbInfo, limit int) bool {
	e, x, y := s.enc, 16*mx, 16*my
	edges := s.edges(mx, my)
	src, rec := &e.src.y, &e.rec.y

	var trial, best [256]uint8
	cost16, mode16 := 1<<30, 0
	for mode := range numIntra16 {
		if !predict16(trial[:], rec.pix, rec.at(x, y), rec.stride, mode, edges) {
			continue
		}
		if c := satd(src.from(x, y), src.stride, trial[:], 16, 16) + 3*e.lambda; c < cost16 {
			cost16, mode16, best = c, mode, trial
		}
	}
	for i := range m.mode4 {
		m.mode4[i] = intra4DC
	}
	cost4 := s.intra4(mx, my, m, edges, min(limit, cost16))
	if min(cost4, cost16) >= limit {
		return false
	}
	c := &s.cur
	if cost4 < cost16 {
		c.kind = kindI4
	} else {
		c.kind, c.mode16 = kindI16, mode16
		for i := range m.mode4 {
			m.mode4[i] = intra4DC
		}
		s.pred.y = best
		s.codeIntra16(m, x, y)
	}
	s.intraChroma(m, x/2, y/2, edges)
	return true
}

// codeIntra16 codes and reconstructs I16x16 luma from s.pred.y.
func (s *slice) codeIntra16(m *mbInfo, x, y int) {
	e, c := s.enc, &s.cur
	var r [16]block
	var dc block
	c.cbpLuma = 0
	for b := range 16 {
		bx, by := 4*(b&3), 4*(b>>2)
		r[b] = difference(e.src.y.from(x+bx, y+by), e.src.y.stride, s.pred.y[16*by+bx:], 16)
		forward(&r[b])
		dc[b] = r[b][0]
		n := e.luma.quantize(&r[b], &c.luma[b], 1, deadZoneIntra)
		m.nonZero[b] = uint8(n)
		if n > 0 {
			c.cbpLuma = 15
		}
	}
	e.luma.quantizeLumaDC(dc, &c.dc)
	dc = e.luma.restoreLumaDC(&c.dc)
	for b := range 16 {
		bx, by := 4*(b&3), 4*(b>>2)
		e.luma.restore(&c.luma[b], &r[b], 1)
		r[b][0] = dc[b]
		inverseAdd(&r[b], s.pred.y[16*by+bx:], 16, e.rec.y.from(x+bx, y+by), e.rec.y.stride)
	}
}

// intra4 codes luma block by block, each with the mode that fits best, and
// returns the cost, or something above limit as soon as that is reached. The
// reconstruction is left in the picture.
func (s *slice) intra4(mx, my int, m *mbInfo, have edges, limit int) int {
	e, c := s.enc, &s.cur
	src, rec := &e.src.y, &e.rec.y
	cost := 8 * e.lambda // more header bits than I16x16
	c.cbpLuma = 0
	var edge edge4
	var trial, best [16]uint8
	for i := range 16 {
		bx, by := blockX[i], blockY[i]
		b := 4*by + bx
		x, y := 16*mx+4*bx, 16*my+4*by
		at := rec.at(x, y)
		edge.load(rec.pix, at, rec.stride, blockEdges(b, have))
		predicted := s.predictMode4(mx, my, m, have, bx, by)
		blockCost, mode := 1<<30, 0
		for candidate := range numIntra4 {
			if !edge.allows(candidate) {
				continue
			}
			edge.predict(&trial, candidate)
			rate := 4 * e.lambda
			if candidate == predicted {
				rate = e.lambda
			}
			if k := rate + satd4(src.from(x, y), src.stride, trial[:], 4); k < blockCost {
				blockCost, mode, best = k, candidate, trial
			}
		}
		cost += blockCost
		if cost >= limit {
			return cost
		}
		m.mode4[b] = uint8(mode)
		switch {
		case mode == predicted:
			c.rem4[i] = -1
		case mode < predicted:
			c.rem4[i] = mode
		default:
			c.rem4[i] = mode - 1
		}
		n := s.codeBlock(&c.luma[b], src.from(x, y), best[:], 4, rec.pix[at:], deadZoneIntra)
		m.nonZero[b] = uint8(n)
		if n > 0 {
			c.cbpLuma |= 1 << (bx/2 + by/2*2)
		}
	}
	return cost
}

// blockEdges narrows the macroblock's neighbours to those of its block b,
// raster order.
func blockEdges(b int, mb edges) edges {
	bx, by := b&3, b>>2
	e := edges{left: bx > 0 || mb.left, top: by > 0 || mb.top}
	switch {
	case bx > 0 && by > 0:
		e.topLeft = true
	case bx > 0:
		e.topLeft = mb.top
	case by > 0:
		e.topLeft = mb.left
	default:
		e.topLeft = mb.topLeft
	}
	switch {
	case by > 0:
		e.topRight = topRightInside[b]
	case bx < 3:
		e.topRight = mb.top
	default:
		e.topRight = mb.topRight
	}
	return e
}

// predictMode4 is clause 8.3.1.1.
func (s *slice) predictMode4(mx, my int, m *mbInfo, have edges, bx, by int) int {
	if bx == 0 && !have.left || by == 0 && !have.top {
		return intra4DC
	}
	var left, top uint8
	if bx > 0 {
		left = m.mode4[4*by+bx-1]
	} else {
		left = s.mb(mx-1, my).mode4[4*by+3]
	}
	if by > 0 {
		top = m.mode4[4*(by-1)+bx]
	} else {
		top = s.mb(mx, my-1).mode4[12+bx]
	}
	return int(min(left, top))
}

// intraChroma chooses a mode for both chroma components and codes them.
func (s *slice) intraChroma(m *mbInfo, x, y int, have edges) {
	e := s.enc
	cost := 1 << 30
	var trial [2][64]uint8
modes:
	for mode := range numChroma {
		c := e.lambda * ueBits(uint32(mode))
		for i := range 2 {
			p := &e.rec.c[i]
			if !predictChroma(trial[i][:], p.pix, p.at(x, y), p.stride, mode, have) {
				continue modes
			}
			c += satd(e.src.c[i].from(x, y), e.src.c[i].stride, trial[i][:], 8, 8)
		}
		if c < cost {
			cost, s.cur.chromaMd, s.pred.c = c, mode, trial
		}
	}
	s.codeChroma(m, x, y, deadZoneIntra)
}

// codeChroma codes and reconstructs both chroma components from s.pred.c.
func (s *slice) codeChroma(m *mbInfo, x, y int, deadZone int32) {
	e, c := s.enc, &s.cur
	c.cbpC = 0
	for i := range 2 {
		var r [4]block
		var dc [4]int32
		src, rec := &e.src.c[i], &e.rec.c[i]
		for b := range 4 {
			bx, by := 4*(b&1), 4*(b>>1)
			r[b] = difference(src.from(x+bx, y+by), src.stride, s.pred.c[i][8*by+bx:], 8)
			forward(&r[b])
			dc[b] = r[b][0]
			n := e.chroma.quantize(&r[b], &c.chroma[i][b], 1, deadZone)
			m.chroma[i][b] = uint8(n)
			if n > 0 {
				c.cbpC = 2
			}
		}
		if e.chroma.quantizeChromaDC(dc, &c.chromaDC[i], deadZone) > 0 {
			c.cbpC = max(c.cbpC, 1)
		}
		dc = e.chroma.restoreChromaDC(&c.chromaDC[i])
		for b := range 4 {
			bx, by := 4*(b&1), 4*(b>>1)
			e.chroma.restore(&c.chroma[i][b], &r[b], 1)
			r[b][0] = dc[b]
			inverseAdd(&r[b], s.pred.c[i][8*by+bx:], 8, rec.from(x+bx, y+by), rec.stride)
		}
	}
}
