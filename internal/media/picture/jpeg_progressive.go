package picture

// The four block procedures of progressive scans (T.81, annex G). Coefficients
// are kept as int16 and wrap like libjpeg's JCOEF.

func (s *scan) dcFirst(c *jpegComponent, b *[64]int16, dc *huffmanTable) error {
	if err := s.dcDiff(c, dc); err != nil {
		return err
	}
	b[0] = int16(c.dcPrev << s.al)
	return nil
}

func (s *scan) dcRefine(b *[64]int16) error {
	if s.r.n < 32 {
		s.r.fill()
	}
	if s.r.bits(1) != 0 {
		b[0] |= 1 << s.al
	}
	return nil
}

func (s *scan) acFirst(b *[64]int16, ac *huffmanTable) error {
	if s.eobRun > 0 {
		s.eobRun--
		return nil
	}
	r := &s.r
	for k := s.ss; k <= s.se; k++ {
		if r.n < 32 {
			r.fill()
		}
		sym := r.symbol(ac)
		if sym < 0 {
			return errHuffmanCode
		}
		run, size := uint(sym>>4), uint(sym&15)
		if size == 0 {
			if run != 15 { // the band ends here, and in 2^run+bits-1 more blocks
				s.eobRun = 1<<run - 1 + r.bits(run)
				break
			}
			k += 15
			continue
		}
		if k += run; k > s.se {
			return errHuffmanCode
		}
		b[naturalOrder[k]] = int16(r.extended(size) << s.al)
	}
	return nil
}

// acRefine adds one bit to every coefficient of the band that is not zero, and
// places new coefficients of +-1 between them (G.1.2.3).
func (s *scan) acRefine(b *[64]int16, ac *huffmanTable) error {
	r := &s.r
	k := s.ss
	if s.eobRun == 0 {
		for ; k <= s.se; k++ {
			if r.n < 32 {
				r.fill()
			}
			sym := r.symbol(ac)
			if sym < 0 {
				return errHuffmanCode
			}
			run := int(sym >> 4)
			value := int16(0)
			switch sym & 15 {
			case 0:
				if run != 15 {
					s.eobRun = 1<<run + r.bits(uint(run))
				}
			case 1:
				value = -1 << s.al
				if r.bits(1) != 0 {
					value = 1 << s.al
				}
			default: // libjpeg only warns, but nothing good can follow
				return errHuffmanCode
			}
			if s.eobRun > 0 {
				break
			}
			k = s.refineUntil(b, k, run)
			if value != 0 {
				if k > s.se {
					return errHuffmanCode
				}
				b[naturalOrder[k]] = value
			}
		}
	}
	if s.eobRun > 0 {
		s.refineUntil(b, k, -1)
		s.eobRun--
	}
	return nil
}

// refineUntil refines from k on and stops at the zero coefficient after run
// others, or behind the band; it returns where.
func (s *scan) refineUntil(b *[64]int16, k uint, run int) uint {
	for ; k <= s.se; k++ {
		p := &b[naturalOrder[k]]
		if *p == 0 {
			if run == 0 {
				break
			}
			run--
			continue
		}
		if s.r.n < 32 {
			s.r.fill()
		}
		bit := int16(1) << s.al
		if s.r.bits(1) != 0 && *p&bit == 0 {
			if *p > 0 {
				*p += bit
			} else {
				*p -= bit
			}
		}
	}
	return k
}
