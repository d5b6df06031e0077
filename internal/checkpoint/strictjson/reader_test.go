package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

// decode builds what Skip walks over, for comparing with another reader.
func decode(r *Reader) (any, error) {
	switch r.Kind() {
	case '{':
		m := map[string]any{}
		return m, r.Object(func(key string) error {
			v, err := decode(r)
			m[key] = v
			return err
		})
	case '[':
		l := []any{}
		err := r.Array(func() error {
			v, err := decode(r)
			l = append(l, v)
			return err
		})
		return l, err
	case '"':
		b, err := r.String()
		return string(b), err
	case 't', 'f':
		return r.Bool()
	case 'n':
		return nil, r.Skip()
	}
	return r.Float()
}

func document(data []byte, depth int) (any, error) {
	r, err := New(data, depth)
	if err != nil {
		return nil, err
	}
	v, err := decode(r)
	if err != nil {
		return nil, err
	}
	return v, r.End()
}

func TestDocuments(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		valid    bool
	}{
		{"empty object", ` {} `, true},
		{"nested", `{"a":[1,-2.5e3,{"b":[]}],"c":null,"d":true,"e":false}`, true},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é"`, true},
		{"zero", `[0,-0,0.5,1E+2,10]`, true},
		{"nothing", ``, false},
		{"only space", "  ", false},
		{"trailing comma in object", `{"a":1,}`, false},
		{"trailing comma in array", `[1,]`, false},
		{"leading comma", `[,1]`, false},
		{"no comma", `[1 2]`, false},
		{"no colon", `{"a" 1}`, false},
		{"unquoted key", `{a:1}`, false},
		{"repeated key", `{"a":1,"a":2}`, false},
		{"repeated key, escaped", `{"a":1,"\u0061":2}`, false},
		{"repeated key, nested", `[{"a":{"b":1,"b":1}}]`, false},
		{"not closed", `{"a":[1`, false},
		{"two documents", `{} {}`, false},
		{"rest", `1x`, false},
		{"leading zero", `01`, false},
		{"plus", `+1`, false},
		{"bare point", `1.`, false},
		{"no digits before point", `.5`, false},
		{"bare exponent", `1e`, false},
		{"NaN", `NaN`, false},
		{"too large", `1e999`, false},
		{"control character", "\"a\nb\"", false},
		{"control character after escape", "\"\\n\nb\"", false},
		{"no end of string", `"abc`, false},
		{"no end of string, escape", `"abc\`, false},
		{"no end of string after escape", `"a\nbc`, false},
		{"unknown escape", `"\x41"`, false},
		{"short unicode escape", `"\u12"`, false},
		{"bad unicode escape", `"\u12g4"`, false},
		{"signed unicode escape", `"\u+123"`, false},
		{"half surrogate", `"\ud800"`, false},
		{"two high surrogates", `"\ud800\ud800"`, false},
		{"low surrogate first", `"\ude00\ud83d"`, false},
		{"not UTF-8", "\"\xff\"", false},
		{"byte order mark", "\ufeff{}", false},
		{"comment", `{/**/}`, false},
		{"wrong word", `trye`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := document([]byte(tc.in), 10)
			if tc.valid != (err == nil) {
				t.Fatalf("error %v, want valid = %v", err, tc.valid)
			}
			if tc.valid {
				compare(t, tc.in, got)
			}
		})
	}
}

// compare checks against encoding/json.
func compare(t *testing.T, in string, got any) {
	t.Helper()
	var want any
	if err := json.Unmarshal([]byte(in), &want); err != nil {
		t.Fatalf("encoding/json refuses %q: %v", in, err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("%q: got %s, want %s", in, a, b)
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if _, err := document(nested(5), 5); err != nil {
		t.Errorf("5 deep: %v", err)
	}
	for _, n := range []int{6, 10_000, 10_000_000} {
		if _, err := document(nested(n), 5); err == nil || !strings.Contains(err.Error(), "nested more than 5 deep") {
			t.Errorf("%d deep: %v", n, err)
		}
	}
}

func TestInt(t *testing.T) {
	for _, tc := range []struct {
		in    string
		want  int64
		valid bool
	}{
		{"12", 12, true}, {"-9223372036854775808", -1 << 63, true}, {"9223372036854775808", 0, false},
		{"1.0", 0, false}, {"1e2", 0, false}, {"1e30", 0, false}, {`"1"`, 0, false}, {"null", 0, false}, {"-", 0, false},
	} {
		r, err := New([]byte(tc.in), 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Int()
		if tc.valid != (err == nil) || got != tc.want {
			t.Errorf("Int of %q = %d, %v", tc.in, got, err)
		}
	}
}

// FuzzDocument accepts nothing that encoding/json refuses, and reads the same.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x\u0041"],"b":{"c":null}}`, `[true,false]`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `-0.1e+5`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := document(data, 100); err == nil {
			compare(t, string(data), got)
		}
	})
}
