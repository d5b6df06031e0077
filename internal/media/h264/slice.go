package h264

// slice is a run of whole macroblock rows, coded apart from the others so that
// they can be done at the same time. It owns its scratch space.
type slice struct {
	enc              *Encoder
	firstRow, endRow int
	w                bitWriter
	skipRun          int
	pred             prediction
	cur              coded
	filter           []int32 // column sums of the half sample filter
}

// sliceRows is about how many macroblock rows a slice has, and maxSlices how
// many slices a picture has at most. They depend on the picture's size alone:
// the stream must not depend on the threads.
const (
	sliceRows = 8
	maxSlices = 8
)

func newSlices(e *Encoder) []*slice {
	n := min(max(e.mbH/sliceRows, 1), maxSlices)
	out := make([]*slice, n)
	for i := range out {
		out[i] = &slice{enc: e, firstRow: i * e.mbH / n, endRow: (i + 1) * e.mbH / n}
	}
	return out
}

func (s *slice) mb(mx, my int) *mbInfo { return &s.enc.mbs[my*s.enc.mbW+mx] }

// edges says which neighbours the macroblock has in its slice.
func (s *slice) edges(mx, my int) edges {
	top := my > s.firstRow
	return edges{left: mx > 0, top: top, topLeft: top && mx > 0, topRight: top && mx+1 < s.enc.mbW}
}

// encode makes the slice of the current picture: converts its rows, codes them,
// and leaves the payload in s.w.
func (s *slice) encode(rgb []byte) {
	e := s.enc
	convertRows(e.src, rgb, e.cfg.Width, e.cfg.Height, 16*s.firstRow, 16*s.endRow)
	s.w.reset()
	s.skipRun = 0
	s.header()
	for my := s.firstRow; my < s.endRow; my++ {
		for mx := range e.mbW {
			s.macroblock(mx, my)
		}
	}
	if s.skipRun > 0 {
		s.w.ue(uint32(s.skipRun))
	}
	s.w.trailing()
}

// write puts the current macroblock into the stream (clauses 7.3.5 to 7.3.5.3).
func (s *slice) write(mx, my int, m *mbInfo) {
	w, c := &s.w, &s.cur
	intraType := uint32(0) // offset of the intra types in Table 7-13
	if !s.enc.intra {
		w.ue(uint32(s.skipRun))
		s.skipRun = 0
		intraType = 5
	}
	cbp := uint8(c.cbpLuma | c.cbpC<<4)
	switch c.kind {
	case kindI16:
		t := 1 + c.mode16 + 4*c.cbpC
		if c.cbpLuma != 0 {
			t += 12
		}
		w.ue(intraType + uint32(t))
		w.ue(uint32(c.chromaMd))
		w.se(0) // mb_qp_delta
	case kindI4:
		w.ue(intraType)
		for _, rem := range c.rem4 {
			if rem < 0 {
				w.put(1, 1)
			} else {
				w.put(uint32(rem), 4)
			}
		}
		w.ue(uint32(c.chromaMd))
		w.ue(uint32(cbpIntra[cbp]))
	case kindP16:
		w.ue(0)
		w.se(c.vd.x)
		w.se(c.vd.y)
		w.ue(uint32(cbpInter[cbp]))
	}
	if c.kind != kindI16 && cbp != 0 {
		w.se(0) // mb_qp_delta
	}
	s.writeLuma(mx, my, m)
	s.writeChroma(mx, my, m)
}

func (s *slice) writeLuma(mx, my int, m *mbInfo) {
	w, c := &s.w, &s.cur
	have := s.edges(mx, my)
	var left, top *mbInfo
	if have.left {
		left = s.mb(mx-1, my)
	}
	if have.top {
		top = s.mb(mx, my-1)
	}
	first := 0
	if c.kind == kindI16 {
		w.residual(&c.dc, 0, 16, tokenTable(lumaNC(m, left, top, 0, 0)))
		first = 1
	}
	for i := range 16 {
		if c.cbpLuma>>(i/4)&1 == 0 {
			continue
		}
		bx, by := blockX[i], blockY[i]
		w.residual(&c.luma[4*by+bx], first, 16, tokenTable(lumaNC(m, left, top, bx, by)))
	}
}

func (s *slice) writeChroma(mx, my int, m *mbInfo) {
	w, c := &s.w, &s.cur
	if c.cbpC == 0 {
		return
	}
	for i := range 2 {
		w.residual(&c.chromaDC[i], 0, 4, chromaDCToken)
	}
	if c.cbpC == 1 {
		return
	}
	have := s.edges(mx, my)
	for i := range 2 {
		for b := range 4 {
			bx, by := b&1, b>>1
			var n neighbourCount
			if bx > 0 {
				n.add(m.chroma[i][b-1])
			} else if have.left {
				n.add(s.mb(mx-1, my).chroma[i][b+1])
			}
			if by > 0 {
				n.add(m.chroma[i][b-2])
			} else if have.top {
				n.add(s.mb(mx, my-1).chroma[i][b+2])
			}
			w.residual(&c.chroma[i][b], 1, 16, tokenTable(n.mean()))
		}
	}
}

// neighbourCount is nC: the mean number of coefficients of the blocks to the
// left and above, of those that are there.
type neighbourCount struct{ sum, n int }

func (c *neighbourCount) add(v uint8) { c.sum, c.n = c.sum+int(v), c.n+1 }

func (c *neighbourCount) mean() int {
	if c.n == 2 {
		return (c.sum + 1) >> 1
	}
	return c.sum
}

func lumaNC(m, left, top *mbInfo, bx, by int) int {
	var n neighbourCount
	if bx > 0 {
		n.add(m.nonZero[4*by+bx-1])
	} else if left != nil {
		n.add(left.nonZero[4*by+3])
	}
	if by > 0 {
		n.add(m.nonZero[4*(by-1)+bx])
	} else if top != nil {
		n.add(top.nonZero[12+bx])
	}
	return n.mean()
}
