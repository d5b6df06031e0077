package picture

import (
	"errors"
	"fmt"
	"slices"
)

// scan is one SOS segment's header and the state of its entropy decoder.
type scan struct {
	comps          []*jpegComponent
	ss, se, ah, al uint // spectral band and successive approximation (G.1.1.1)
	r              bitReader
	eobRun         int32 // blocks left in a run of ended bands (G.1.2.2)
}

// readScan reads a SOS segment (B.2.3) and the picture data behind it.
func (d *jpegDecoder) readScan(seg []byte) error {
	if d.comps == nil {
		return errors.New("picture data before the frame header")
	}
	if d.numScans++; d.numScans > maxScans {
		return fmt.Errorf("more than %d scans", maxScans)
	}
	if len(seg) < 1 || seg[0] < 1 || seg[0] > 4 || len(seg) != 4+2*int(seg[0]) {
		return errors.New("scan header has a wrong length")
	}
	n := int(seg[0])
	s := &scan{r: bitReader{data: d.data, pos: d.pos}}
	for i := range n {
		c, err := d.scanComponent(s, seg[1+2*i])
		if err != nil {
			return err
		}
		c.dcTable, c.acTable = int(seg[2+2*i]>>4), int(seg[2+2*i]&15)
		if c.dcTable > 3 || c.acTable > 3 {
			return fmt.Errorf("scan uses huffman tables %d and %d, expected 0..3", c.dcTable, c.acTable)
		}
		if c.quant == nil {
			if c.quant = d.quant[c.tq]; c.quant == nil {
				return fmt.Errorf("quantisation table %d is missing", c.tq)
			}
		}
		c.dcPrev = 0
		s.comps = append(s.comps, c)
	}
	s.ss, s.se, s.ah, s.al = uint(seg[1+2*n]), uint(seg[2+2*n]), uint(seg[3+2*n]>>4), uint(seg[3+2*n]&15)
	if err := d.checkScan(s); err != nil {
		return err
	}
	if err := d.countScan(s); err != nil {
		return err
	}
	single := !d.progressive && n == len(d.comps) && d.numScans == 1
	if err := d.allocate(single); err != nil {
		return err
	}
	if err := d.decodeScan(s); err != nil {
		return err
	}
	d.pos, d.scanned = s.r.pos, single
	return nil
}

// scanComponent finds a scan's component by its identifier, none of them twice.
func (d *jpegDecoder) scanComponent(s *scan, id uint8) (*jpegComponent, error) {
next:
	for i := range d.comps {
		if d.comps[i].id != id {
			continue
		}
		for _, taken := range s.comps {
			if taken == &d.comps[i] {
				continue next
			}
		}
		return &d.comps[i], nil
	}
	return nil, fmt.Errorf("scan names colour component %d, which the frame does not have", id)
}

// checkScan checks the scan's parameters, and that the tables it uses exist.
func (d *jpegDecoder) checkScan(s *scan) error {
	if len(s.comps) > 1 {
		blocks := 0
		for _, c := range s.comps {
			blocks += c.h * c.v
		}
		if blocks > 10 { // B.2.3; libjpeg's D_MAX_BLOCKS_IN_MCU
			return fmt.Errorf("%d blocks in an MCU, limit 10", blocks)
		}
	}
	needDC, needAC := true, true
	if d.progressive {
		bad := s.al > 13 || s.ah > 0 && s.ah-1 != s.al
		if s.ss == 0 {
			bad = bad || s.se != 0
		} else {
			bad = bad || s.se < s.ss || s.se > 63 || len(s.comps) != 1
		}
		if bad {
			return fmt.Errorf("progressive scan of coefficients %d to %d, bits %d to %d", s.ss, s.se, s.ah, s.al)
		}
		needDC, needAC = s.ss == 0 && s.ah == 0, s.ss > 0
	} else {
		// Sequential: libjpeg warns of other values and goes on as if these stood there.
		s.ss, s.se, s.ah, s.al = 0, 63, 0, 0
	}
	missing := func(c *jpegComponent) bool {
		return needDC && d.dc[c.dcTable] == nil || needAC && d.ac[c.acTable] == nil
	}
	if !d.progressive && slices.ContainsFunc(s.comps, missing) {
		if err := d.useTypicalTables(); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(s.comps, missing) {
		return errors.New("a huffman table is missing")
	}
	return nil
}

// countScan notes which coefficients the scan makes exact, and bounds the work
// that scans repeated without end could cause: no coefficient of 8-bit samples
// has more than 14 bits to be sent.
func (d *jpegDecoder) countScan(s *scan) error {
	blocks := 0
	for i := range d.comps {
		blocks += d.comps[i].paddedX * d.comps[i].paddedY
	}
	for _, c := range s.comps {
		d.visits += int64(c.paddedX*c.paddedY) * int64(s.se-s.ss+1)
		if s.al == 0 {
			for k := s.ss; k <= s.se; k++ {
				c.exact |= 1 << k
			}
		}
	}
	if d.visits > 14*64*int64(blocks) {
		return errors.New("the same coefficients are sent again and again")
	}
	return nil
}

// allocate makes room for the picture at its first scan. A file too short to
// hold even one bit for each block is refused before.
func (d *jpegDecoder) allocate(single bool) error {
	if d.comps[0].plane != nil {
		return nil
	}
	blocks := 0
	for i := range d.comps {
		blocks += d.comps[i].blocksX * d.comps[i].blocksY
	}
	if len(d.data)-d.pos < blocks/8 {
		return fmt.Errorf("%d bytes of data cannot hold %d x %d pixels: %w", len(d.data)-d.pos, d.w, d.h, errTruncated)
	}
	for i := range d.comps {
		c := &d.comps[i]
		c.plane = make([]uint8, c.paddedX*c.paddedY*64)
		if !single {
			c.coef = make([]int16, c.paddedX*c.paddedY*64)
		}
	}
	return nil
}

// decodeScan decodes all MCUs of the scan.
func (d *jpegDecoder) decodeScan(s *scan) error {
	decode := d.blockDecoder(s)
	numX, numY := d.mcusX, d.mcusY
	if len(s.comps) == 1 { // not interleaved: an MCU is one block (A.2.2)
		numX, numY = s.comps[0].blocksX, s.comps[0].blocksY
	}
	left, next := d.restart, uint8(0)
	var scratch [64]int16
	for my := range numY {
		for mx := range numX {
			if d.restart > 0 {
				if left == 0 {
					if err := s.restart(next); err != nil {
						return err
					}
					left, next = d.restart, (next+1)&7
				}
				left--
			}
			for _, c := range s.comps {
				h, v := c.h, c.v
				if len(s.comps) == 1 {
					h, v = 1, 1
				}
				for y := my * v; y < (my+1)*v; y++ {
					for x := mx * h; x < (mx+1)*h; x++ {
						at := (y*c.paddedX + x) * 64
						b := &scratch
						if c.coef != nil {
							b = (*[64]int16)(c.coef[at : at+64])
						}
						last, err := decode(c, b)
						if err != nil {
							return s.where(err, my, numY)
						}
						if c.coef == nil {
							idctBlock(b, c.quant, last, c.plane[y*c.paddedX*64+x*8:], c.paddedX*8)
							clear(scratch[:])
						}
					}
				}
			}
			if s.r.overrun() {
				return s.where(nil, my, numY)
			}
		}
	}
	return nil
}

// where completes the error of a scan that breaks off in a row of MCUs.
func (s *scan) where(err error, my, numY int) error {
	if s.r.pad > 0 {
		if s.r.pos+1 < len(s.r.data) {
			err = errors.New("picture data are damaged (they end early, before another marker)")
		} else {
			err = errTruncated
		}
	}
	return fmt.Errorf("%w (in row %d of %d of blocks)", err, my+1, numY)
}

// restart passes the restart marker number next (F.2.1.3.1).
func (s *scan) restart(next uint8) error {
	s.r.reset()
	s.eobRun = 0
	for _, c := range s.comps {
		c.dcPrev = 0
	}
	d := jpegDecoder{data: s.r.data, pos: s.r.pos}
	m, err := d.nextMarker()
	if err != nil {
		return err
	}
	if m != markerRST0+next {
		return fmt.Errorf("picture data are damaged (marker %#02x, expected restart %d)", m, next)
	}
	s.r.pos = d.pos
	return nil
}

// blockDecoder chooses the procedure for the scan's blocks. It adds the scan's
// share to the block b and returns the zigzag index of the last coefficient
// that may be non-zero (sequential scans only).
func (d *jpegDecoder) blockDecoder(s *scan) func(c *jpegComponent, b *[64]int16) (int, error) {
	switch {
	case !d.progressive:
		return func(c *jpegComponent, b *[64]int16) (int, error) {
			return s.sequential(c, b, d.dc[c.dcTable], d.ac[c.acTable])
		}
	case s.ss == 0 && s.ah == 0:
		return func(c *jpegComponent, b *[64]int16) (int, error) { return 0, s.dcFirst(c, b, d.dc[c.dcTable]) }
	case s.ss == 0:
		return func(_ *jpegComponent, b *[64]int16) (int, error) { return 0, s.dcRefine(b) }
	case s.ah == 0:
		return func(c *jpegComponent, b *[64]int16) (int, error) { return 0, s.acFirst(b, d.ac[c.acTable]) }
	}
	return func(c *jpegComponent, b *[64]int16) (int, error) { return 0, s.acRefine(b, d.ac[c.acTable]) }
}

// sequential decodes a whole block (F.2.2.1, F.2.2.2).
func (s *scan) sequential(c *jpegComponent, b *[64]int16, dc, ac *huffmanTable) (int, error) {
	r := &s.r
	if err := s.dcDiff(c, dc); err != nil {
		return 0, err
	}
	b[0] = int16(c.dcPrev)
	last := 0
	for k := 1; k < 64; k++ {
		if r.n < 32 {
			r.fill()
		}
		sym := r.symbol(ac)
		if sym < 0 {
			return 0, errHuffmanCode
		}
		run, size := int(sym>>4), uint(sym&15)
		if size == 0 {
			if run != 15 {
				break
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return 0, errHuffmanCode
		}
		b[naturalOrder[k]] = int16(r.extended(size))
		last = k
	}
	return last, nil
}

// dcDiff adds the next difference to the component's DC prediction.
func (s *scan) dcDiff(c *jpegComponent, dc *huffmanTable) error {
	if s.r.n < 32 {
		s.r.fill()
	}
	size := s.r.symbol(dc)
	if size < 0 || size > 15 {
		return errHuffmanCode
	}
	c.dcPrev += s.r.extended(uint(size))
	return nil
}
