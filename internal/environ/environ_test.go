package environ

import (
	"strings"
	"testing"
)

func TestReader(t *testing.T) {
	r := NewReader(List([]string{"A=1", "A=2", "B=", "C=x=y", "none", "D=99"}))
	if !r.Has("A", "C") || r.Has("A", "B") || r.Has("none") {
		t.Error("Has: A and C are set, B and none are not")
	}
	if got := r.First("none", "B", "C", "A"); got != "C" {
		t.Errorf("First = %q, want C", got)
	}
	if got := r.Int("A", 0, 9, -1); got != 2 {
		t.Errorf("Int(A) = %d, want 2", got)
	}
	if got := r.Int("B", 0, 9, -1); got != -1 {
		t.Errorf("Int(B) = %d, want the absent value", got)
	}
	if got := r.Text("C"); got != "x=y" {
		t.Errorf("Text(C) = %q", got)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	r.Int("D", 0, 9, 0)
	r.Int("C", 0, 9, 0)
	if err := r.Err(); err == nil || err.Error() != `D="99", want a number from 0 to 9` {
		t.Errorf("error %v, want that of D", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	for value, want := range map[string]string{
		"a\nb":                     "printable",
		"\x1b[2J":                  "printable",
		"\xff":                     "printable",
		strings.Repeat("a", 1<<20): "bytes",
	} {
		r := NewReader(Map(map[string]string{"V": value}))
		if got := r.Text("V"); got != "" || r.Err() == nil || !strings.Contains(r.Err().Error(), want) || len(r.Err().Error()) > 200 {
			t.Errorf("Text of %.10q = %.10q, %v", value, got, r.Err())
		}
	}
	for _, value := range []string{"one", "1.5", "0x1", " 1", "-1", "99999999999999999999", strings.Repeat("1", 1<<20)} {
		r := NewReader(Map(map[string]string{"V": value}))
		if got := r.Int("V", 0, 9, 5); got != 5 || r.Err() == nil || len(r.Err().Error()) > 200 {
			t.Errorf("Int of %.10q = %d, %v", value, got, r.Err())
		}
	}
}
