package h264

import (
	"bytes"
	"fmt"
	"math"
	"testing"
)

// TestCodesArePrefixFree: no code word begins another, so that a stream can be
// read back at all, and the words use up the code space that the standard's do.
func TestCodesArePrefixFree(t *testing.T) {
	check := func(name string, words []vlc, wantSum float64) {
		t.Helper()
		sum := 0.0
		for i, a := range words {
			if a.n == 0 {
				continue
			}
			sum += math.Pow(2, -float64(a.n))
			for j, b := range words {
				if i != j && b.n >= a.n && b.bits>>(b.n-a.n) == a.bits {
					t.Errorf("%s: %0*b begins %0*b", name, a.n, a.bits, b.n, b.bits)
				}
			}
		}
		if sum != wantSum {
			t.Errorf("%s: the words use %v of the code space, want %v", name, sum, wantSum)
		}
	}
	// Table 9-5 leaves words unused: those of 16, 14 and 10 bits that are zero
	// but for the last bit or wholly, and two of the 64 of fixed length.
	for i, want := range []float64{1 - 2./65536, 1 - 2./16384, 1 - 1./1024, 62. / 64, 1} {
		var words []vlc
		for _, row := range coeffToken[i] {
			words = append(words, row...)
		}
		check(fmt.Sprintf("coeff_token %d", i), words, want)
	}
	for i, row := range totalZeros {
		want := 1.0
		if i == 0 {
			want = 1 - 1./512
		}
		if len(row) != 16-i {
			t.Errorf("total_zeros %d has %d words, want %d", i+1, len(row), 16-i)
		}
		check(fmt.Sprintf("total_zeros %d", i+1), row, want)
	}
	for i, row := range chromaDCTotalZeros {
		check(fmt.Sprintf("chroma total_zeros %d", i+1), row, 1)
	}
	for i, row := range runBefore {
		want := 1.0
		if i == 6 {
			want = 1 - 1./2048
		}
		check(fmt.Sprintf("run_before %d", i+1), row, want)
	}
}

func TestCodedBlockPatternsAreAllThere(t *testing.T) {
	for name, table := range map[string][48]uint8{"intra": cbpIntra, "inter": cbpInter} {
		seen := map[uint8]bool{}
		for _, code := range table {
			seen[code] = true
		}
		if len(seen) != 48 {
			t.Errorf("%s: %d code numbers, want 48", name, len(seen))
		}
	}
}

// TestExpGolomb are the first words of Table 9-2 and 9-3.
func TestExpGolomb(t *testing.T) {
	var w bitWriter
	for v := range 5 {
		w.ue(uint32(v)) // 1 010 011 00100 00101
	}
	for _, v := range []int{1, -1, 2, -2} {
		w.se(v) // 010 011 00100 00101
	}
	w.trailing()
	// 1010 0110 0100 0010 1010 0110 0100 0010 1 + stop bit
	if want := []byte{0xA6, 0x42, 0xA6, 0x42, 0xC0}; !bytes.Equal(w.buf, want) {
		t.Errorf("wrote %08b, want %08b", w.buf, want)
	}
}

func TestEmulationPrevention(t *testing.T) {
	for _, tc := range []struct{ in, want []byte }{
		{[]byte{0, 0, 1}, []byte{0, 0, 3, 1}},
		{[]byte{0, 0, 0, 0, 0, 3}, []byte{0, 0, 3, 0, 0, 3, 0, 3}},
		{[]byte{0, 0, 4, 0, 1, 0, 0}, []byte{0, 0, 4, 0, 1, 0, 0}},
	} {
		got := appendNAL(nil, nalSlice, tc.in)
		if want := append([]byte{0x61}, tc.want...); !bytes.Equal(got, want) {
			t.Errorf("% x becomes % x, want % x", tc.in, got, want)
		}
	}
}

// TestResidual is the worked example of the CAVLC literature: a 4x4 block whose
// scan is 0 3 0 1 -1 -1 0 1, with nC 0.
func TestResidual(t *testing.T) {
	var w bitWriter
	w.residual(&levels{0, 3, 0, 1, -1, -1, 0, 1}, 0, 16, 0)
	n := 8*len(w.buf) + w.n
	w.put(0, (8-w.n)%8)
	// coeff_token 0000100, signs 0 1 1, levels 1 0010, total_zeros 111, runs 10 1 1 (last implied)
	const want = "000010001110010111101101"
	got := ""
	for _, b := range w.buf {
		got += fmt.Sprintf("%08b", b)
	}
	if got[:n] != want {
		t.Errorf("wrote %s, want %s", got[:n], want)
	}
}
