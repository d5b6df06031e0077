package h264

// tokenTable selects the coeff_token table for nC >= 0 (clause 9.2.1).
func tokenTable(nC int) int {
	switch {
	case nC < 2:
		return 0
	case nC < 4:
		return 1
	case nC < 8:
		return 2
	}
	return 3
}

// residual writes one block of levels[first:end], scan order, with the token
// table given (clauses 7.3.5.3.2 and 9.2). end-first is 4 (chroma DC), 15 or 16.
func (w *bitWriter) residual(l *levels, first, end, table int) {
	// Values and the zeros before each, from the highest frequency down.
	var value [16]int32
	var run [16]int
	total, zeros, totalZero := 0, 0, 0
	for i := end - 1; i >= first; i-- {
		if l[i] == 0 {
			if total > 0 {
				zeros++
				totalZero++
			}
			continue
		}
		if total > 0 {
			run[total-1] = zeros
		}
		zeros = 0
		value[total] = l[i]
		total++
	}
	ones := 0
	for ones < total && ones < 3 && (value[ones] == 1 || value[ones] == -1) {
		ones++
	}
	w.code(coeffToken[table][ones][total])
	if total == 0 {
		return
	}
	for i := 0; i < ones; i++ {
		w.flag(value[i] < 0)
	}
	suffixLen := 0
	if total > 10 && ones < 3 {
		suffixLen = 1
	}
	for i := ones; i < total; i++ {
		v := value[i]
		size := v
		if v < 0 {
			size = -v
		}
		code := uint32(2*size - 2)
		if v < 0 {
			code++
		}
		if i == ones && ones < 3 {
			code -= 2 // a level of one here would have been a trailing one
		}
		w.level(code, suffixLen)
		if suffixLen == 0 {
			suffixLen = 1
		}
		if size > 3<<uint(suffixLen-1) && suffixLen < 6 {
			suffixLen++
		}
	}
	if total == end-first {
		return
	}
	if table == chromaDCToken {
		w.code(chromaDCTotalZeros[total-1][totalZero])
	} else {
		w.code(totalZeros[total-1][totalZero])
	}
	left := totalZero
	for i := 0; i < total-1 && left > 0; i++ {
		w.code(runBefore[min(left, 7)-1][run[i]])
		left -= run[i]
	}
}

// level writes level_prefix and level_suffix (clause 9.2.2.1). Prefixes above
// 15 are not part of the Baseline profile; minQP keeps codes below them.
func (w *bitWriter) level(code uint32, suffixLen int) {
	switch {
	case suffixLen == 0 && code < 14:
		w.put(1, int(code)+1)
	case suffixLen == 0 && code < 30:
		w.put(1, 15)
		w.put(code-14, 4)
	case suffixLen > 0 && code < 15<<uint(suffixLen):
		w.put(1, int(code>>uint(suffixLen))+1)
		w.put(code&(1<<uint(suffixLen)-1), suffixLen)
	default:
		base := uint32(15) << uint(suffixLen)
		if suffixLen == 0 {
			base = 30
		}
		if code-base >= 1<<12 {
			panic("h264: level does not fit level_prefix 15")
		}
		w.put(1, 16)
		w.put(code-base, 12)
	}
}
