package output

import (
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/node"
)

func TestParseShow(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want string // ranks of 0..7 shown: o stdout, e stderr, b both, - none
		err  string
	}{
		{"", "beeeeeee", ""},
		{"0", "b-------", ""},
		{"all", "bbbbbbbb", ""},
		{"none", "--------", ""},
		{"failed", "--------", ""},
		{"0,4-7", "b---bbbb", ""},
		{"2, 1 ,1-2", "-bb-----", ""},
		{"8", "", "there is no rank 8; the last one is 7"},
		{"7-4", "", "goes backwards"},
		{"-1", "", `"-1" is neither a rank nor a range`},
		{"first", "", `"first" is neither`},
		{"0,", "", `"" is neither`},
		{"0-99999999999999999999", "", "neither"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			show, err := ParseShow(tc.in, 8)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for rank := range 8 {
				out, err := show.Shows(rank, Stdout), show.Shows(rank, Stderr)
				switch {
				case out && err:
					got += "b"
				case out:
					got += "o"
				case err:
					got += "e"
				default:
					got += "-"
				}
			}
			if got != tc.want || show.Failed() != (tc.in == "failed") {
				t.Errorf("shows %s (failed %v), want %s", got, show.Failed(), tc.want)
			}
		})
	}
}

func TestParsePrefixErrors(t *testing.T) {
	for in, want := range map[string]string{
		"{host":   "{host is none of",
		"{pid} ":  "{pid is none of {rank}, {local}, {node}, {host}, {stream}, {time}",
		"rank}":   "closes nothing",
		"{}":      "{ is none of",
		"{{rank}": "closes nothing",
	} {
		if _, err := ParsePrefix(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePrefix(%q): error %v, want one with %q", in, err, want)
		}
	}
}

// FuzzFlags gives any flags: no panic, and a prefix is safe to print.
func FuzzFlags(f *testing.F) {
	f.Add("0,4-7", "[r{rank} {host}:{local}] ")
	f.Add("0-1048575,0-1048575", "{{{time}}}{")
	f.Fuzz(func(t *testing.T, show, prefix string) {
		if s, err := ParseShow(show, 0); err == nil {
			s.Shows(3, Stdout)
		}
		if p, err := ParsePrefix(prefix); err == nil {
			text := string(p.appendTo(nil, node.Line{Stream: Stdout}, Where{Host: prefix}))
			if text != printable(text) && !strings.Contains(prefix, "\t") {
				t.Errorf("prefix %q is not safe to print", text)
			}
		}
	})
}

func TestRedact(t *testing.T) {
	r := NewRedactor([]string{"HF_TOKEN=hunter22-of-env", "DB_PASSWORD=hunter22", "API_KEY=1", "HOME=/home/me-and-you", "PATH=/bin:/usr/bin", "junk"})
	for _, tc := range []struct{ in, want string }{
		{"plain words, 3 tokens per second", "plain words, 3 tokens per second"},
		{"tokens: 512", "tokens: <redacted>"}, // rather too much than too little
		{"using hunter22-of-env and hunter22.", "using <redacted> and <redacted>."},
		{"home is /home/me-and-you, flag 1", "home is /home/me-and-you, flag 1"},
		{"git clone https://me:pw@host/x.git?a=b", "git clone https://<redacted>@host/x.git?a=b"},
		{"GET https://h/x?token=abc123&size=3", "GET https://h/x?token=<redacted>&size=3"},
		{"https://s3/x?X-Amz-Signature=ff00&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=<redacted>&X-Amz-Date=1"},
		{"https://blob/x?sv=1&sig=a%2Fb", "https://blob/x?sv=1&sig=<redacted>"},
		{"Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer <redacted>"},
		{"WANDB_API_KEY=0123abc next", "WANDB_API_KEY=<redacted> next"},
		{`{"client_secret": "s p a c e", "n": 1}`, `{"client_secret": <redacted>, "n": 1}`},
		{"run --hub-token abc --steps 3", "run --hub-token <redacted> --steps 3"},
		{"login hf_abcdefghijklmnopqrst done", "login <redacted> done"},
		{"monkey = banana, keyboard: yes", "monkey = banana, keyboard: yes"},
		{"http://host:80/path", "http://host:80/path"},
	} {
		if got := r.Redact(tc.in); got != tc.want {
			t.Errorf("Redact(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
	if got := (*Redactor)(nil).Redact("token=x"); got != "token=x" {
		t.Errorf("no redactor made %q", got)
	}
}

// FuzzRedact gives any text around a secret that is known: it never remains.
func FuzzRedact(f *testing.F) {
	r := NewRedactor([]string{"A_SECRET=QqZz-0451-QqZz"})
	f.Add("token=", "&x")
	f.Add("https://u:p@", "Bearer ")
	f.Fuzz(func(t *testing.T, before, after string) {
		if got := r.Redact(before + "QqZz-0451-QqZz" + after); strings.Contains(got, "QqZz-0451-QqZz") {
			t.Errorf("the secret remains: %q", got)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	r := NewRedactor([]string{"HF_TOKEN=hunter22-of-env"})
	for name, text := range map[string]string{"plain": strings.Repeat("step 3 of 40 loss 0.25 ", 5), "hinted": "GET https://h/x?token=abc123&size=3"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r.Redact(text)
			}
		})
	}
}
