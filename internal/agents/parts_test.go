package agents

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/placement"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }

var twoInterfaces = []iface{
	{"lo", []netip.Addr{ip("127.0.0.1"), ip("::1")}},
	{"eth0", []netip.Addr{ip("10.0.0.7"), ip("fd00::7")}},
	{"ib0", []netip.Addr{ip("192.168.5.7")}},
}

func TestToBind(t *testing.T) {
	names := map[string][]netip.Addr{
		"gpu-00":  {ip("10.0.0.7")},
		"debian":  {ip("127.0.1.1")}, // /etc/hosts of Debian: its own name
		"both":    {ip("127.0.1.1"), ip("192.168.5.7")},
		"service": {ip("172.20.0.1")},
	}
	for _, tc := range []struct {
		name, host, iface string
		secret            bool
		want              string // addresses, or words of the error
	}{
		{"own address", "10.0.0.7", "", true, "[10.0.0.7]"},
		{"own v6 address", "fd00::7", "", true, "[fd00::7]"},
		{"own name", "gpu-00", "", true, "[10.0.0.7]"},
		{"loopback", "127.0.0.5", "", false, "[127.0.0.5]"},
		{"localhost", "localhost", "", false, "[127.0.0.1 ::1]"},
		{"name that is loopback here", "debian", "", true, "[::]"},
		{"the same without a secret", "debian", "", false, "[127.0.1.1]"},
		{"loopback and another", "both", "", true, "[127.0.1.1 192.168.5.7]"},
		{"address of a service", "service", "", true, "[::]"},
		{"unknown name", "nobody", "", true, `address of node 0 "nobody"`},
		{"interface", "gpu-00", "ib0", true, "[192.168.5.7]"},
		{"cidr", "gpu-00", "10.0.0.0/8", true, "[10.0.0.7]"},
		{"no such interface", "gpu-00", "eth9", true, "eth0 [10.0.0.7 fd00::7]"},
		{"wrong cidr", "gpu-00", "10.0.0.0/99", true, "want an interface's name or a CIDR"},
	} {
		o := Options{Rendezvous: placement.Rendezvous{Host: tc.host, Ports: []int{1}}, Iface: tc.iface, Say: func(string) {},
			interfaces: func() ([]iface, error) { return twoInterfaces, nil },
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				if a, ok := names[host]; ok {
					return a, nil
				}
				return nil, os.ErrNotExist
			}}
		if tc.secret {
			o.Secret = testSecret
		}
		got, err := o.toBind(t.Context())
		text := strings.Trim(strings.Join(strings.Fields(strings.Trim(stringOf(got), "[]")), " "), " ")
		if err != nil {
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
			}
		} else if "["+text+"]" != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

func stringOf(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " ")
}

func TestNoSecretOffLoopback(t *testing.T) {
	o := testOptions(t, 0, 2)
	o.Rendezvous = placement.Rendezvous{Host: "10.0.0.7", Ports: []int{freePort(t)}}
	o.interfaces = func() ([]iface, error) { return twoInterfaces, nil }
	if _, err := Listen(t.Context(), o, newRecorder()); ends.CodeOf(err) != ends.Usage || !strings.Contains(err.Error(), "without a secret") {
		t.Errorf("listen: %v", err)
	}
	o.Node = 1
	if err := Dial(t.Context(), o, nil); ends.CodeOf(err) != ends.Usage || !strings.Contains(err.Error(), "there is no secret") {
		t.Errorf("dial: %v", err)
	}
	o.Secret = []byte("short")
	if err := Dial(t.Context(), o, nil); ends.CodeOf(err) != ends.Usage || !strings.Contains(err.Error(), "a secret of 5 bytes, want 16") {
		t.Errorf("dial: %v", err)
	}
}

// TestPortsOfOthers: two jobs with the same candidate ports find their own node 0.
func TestPortsOfOthers(t *testing.T) {
	ports := []int{freePort(t), freePort(t), freePort(t)}
	for _, job := range []string{"job-a", "job-b"} {
		o := testOptions(t, 0, 2)
		o.JobID, o.Rendezvous = job, placement.Rendezvous{Host: "127.0.0.1", Ports: ports}
		r := newRecorder()
		l := startListener(t, o, r)
		if got := int(l.Addrs()[0].Port()); slices.Index(ports, got) != map[string]int{"job-a": 0, "job-b": 1}[job] {
			t.Errorf("%s listens at %d of %v", job, got, ports)
		}
		o.Node = 1
		d := dial(t, o)
		r.wait(t, "join node=1", 1)
		r.peers[0].Finish(ends.Done, "")
		if err := d.wait(t); err != nil {
			t.Errorf("%s: %v", job, err)
		}
	}
}

func TestIPv6(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Rendezvous = placement.Rendezvous{Host: "::1", Ports: []int{freePort(t)}}
	if l, err := listen(t.Context(), []netip.Addr{ip("::1")}, []int{0}); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		l[0].Close()
	}
	startListener(t, o, r)
	o.Node = 1
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	if a := r.peers[0].Addr().Addr(); a != ip("::1") {
		t.Errorf("came from %v", a)
	}
	r.peers[0].Finish(ends.Done, "")
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
}

func TestRendezvousFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meet")
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Rendezvous = placement.Rendezvous{File: path}
	l, err := Listen(t.Context(), o, r)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	m, err := readMeetingPoint(path)
	if err != nil || m.JobID != "job-a" || len(m.Secret) != 64 || len(m.Addresses) == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, tc := range []struct {
		mode  os.FileMode
		words string
	}{{0o644, "others can read it"}, {0o620, "others can read it"}} {
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := readMeetingPoint(path); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("mode %v: %v", tc.mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Node, o.JobID = 1, "" // any job of that file
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peers[0].Finish(ends.Done, "")
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	o.JobID, o.JoinTimeout = "job-b", 100*time.Millisecond
	if _, err := writeMeetingPoint(path, m); err != nil {
		t.Fatal(err)
	}
	if err := Dial(t.Context(), o, nil); ends.CodeOf(err) != ends.Retry || !strings.Contains(err.Error(), `is of job "job-a", this is node 1 of job "job-b"`) {
		t.Errorf("%v", err)
	}
	// Another job's file is left alone.
	if err := removeMeetingPoint(path, []byte("mine")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestSkew(t *testing.T) {
	key := []byte("k")
	base := Options{Build: "b1", Program: "p1", Flags: map[string]string{"--a": "1", "--b": "2"}}
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"same", func(*Options) {}, ""},
		{"build", func(o *Options) { o.Build = "b2" }, `build is "b2", node 0 has "b1"`},
		{"program", func(o *Options) { o.Program = "" }, `program is "", node 0 has "p1"`},
		{"flags", func(o *Options) { o.Flags = map[string]string{"--a": "9", "--c": "3"} },
			"--a has another value than on node 0; --b is not given, node 0 has it; --c is given, node 0 has it not"},
	} {
		o := base
		tc.change(&o)
		in := &wanrunv1.AgentIntroduction{Build: o.Build, Program: o.Program, Flags: digests(o.Flags, key)}
		if got := skew(in, base, key); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	// It comes with the event, too.
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node, o.Build, o.Code, o.Text = 1, "b2", 127, "no such program"
	o.Flags = map[string]string{"--steps": "21"}
	dial(t, o)
	e := r.wait(t, "join node=1", 1)
	r.mu.Lock()
	code := r.raw[0].Code
	r.mu.Unlock()
	if !strings.Contains(e, `build is \"b2\", node 0 has \"b1\"; --steps has another value`) || !strings.Contains(e, "no such program") || code != 127 {
		t.Errorf("%s", e)
	}
}

// authority writes a CA, and a certificate that signer, or the CA, has made.
func authority(t *testing.T, dir string) TLS {
	t.Helper()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys := make([]*ecdsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, keys[0].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, keys[1].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	return TLS{Cert: write("cert", "CERTIFICATE", leafDER), Key: write("key", "PRIVATE KEY", key), CA: write("ca", "CERTIFICATE", caDER)}
}

func TestTLSFiles(t *testing.T) {
	ours, others := authority(t, t.TempDir()), authority(t, t.TempDir())
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.TLS = ours
	_, o = listenAtFree(t, o, r)
	o.Node = 1
	bad := o
	bad.TLS, bad.JoinTimeout = others, 50*time.Millisecond
	if err := dial(t, bad).wait(t); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("%v", err)
	}
	bad.TLS = TLS{} // it trusts anybody; node 0 does not
	if err := dial(t, bad).wait(t); err == nil {
		t.Error("joined without a certificate of the authority")
	}
	r.wait(t, "unknown authority", 1)
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peers[0].Finish(ends.Done, "")
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]TLS{"": {}, "auto": {}, "off": {Off: true}, "a,b,c": {Cert: "a", Key: "b", CA: "c"}} {
		if got, err := ParseTLS(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"on", "a,b", "a,,c", ","} {
		if _, err := ParseTLS(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, tc := range []struct {
		text, words string
		mode        os.FileMode
	}{
		{" 0123456789abcdef\n", "", 0o600},
		{"0123456789abcde\n", "a secret of 15 bytes", 0o600},
		{"0123456789abcdef", "others can read it", 0o640},
		{strings.Repeat("x", 5000), "longer than 4096", 0o600},
	} {
		if err := os.WriteFile(path, []byte(tc.text), tc.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(path)
		if tc.words == "" && (err != nil || string(got) != "0123456789abcdef") || tc.words != "" && (err == nil || !strings.Contains(err.Error(), tc.words)) {
			t.Errorf("%.20q: %q, %v", tc.text, got, err)
		}
	}
	if _, err := ReadSecret("/dev/zero"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("/dev/zero: %v", err)
	}
}
