package agents

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"
)

// TLS says how connections are encrypted. The zero value makes certificates for the job.
type TLS struct {
	// Off sends everything in the clear. Both sides still prove themselves when they
	// connect, but whoever sits between them can change what follows.
	Off bool
	// Cert, Key and CA are PEM files of an authority of the user's, beside the secret.
	Cert, Key, CA string
}

// ParseTLS reads auto, off, or CERT,KEY,CA.
func ParseTLS(text string) (TLS, error) {
	switch text {
	case "", "auto":
		return TLS{}, nil
	case "off":
		return TLS{Off: true}, nil
	}
	files := strings.Split(text, ",")
	if len(files) != 3 || files[0] == "" || files[1] == "" || files[2] == "" {
		return TLS{}, fmt.Errorf("%.80q: want auto, off, or the files CERT,KEY,CA", text)
	}
	return TLS{Cert: files[0], Key: files[1], CA: files[2]}, nil
}

// config returns one configuration for both roles, or nil when t is off.
func (t TLS) config() (*tls.Config, error) {
	if t.Off {
		return nil, nil
	}
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert,
		// Who the other side is, the proofs over this very connection show: a name, an
		// authority and a clock, which nodes need not share, would add nothing.
		InsecureSkipVerify: true,
	}
	if t.Cert == "" {
		cert, err := ephemeral()
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
		return c, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", t.Cert, err)
	}
	c.Certificates = []tls.Certificate{cert}
	roots, err := readRoots(t.CA)
	if err != nil {
		return nil, err
	}
	// Nodes have no names that a certificate could be checked against; the chain is.
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the peer showed no certificate")
		}
		between := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
	return c, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	defer f.Close()
	const most = 1 << 20
	pem, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", path, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authority %s has no certificate in PEM form", path)
	}
	return roots, nil
}

// ephemeral makes a certificate that lives in this process alone.
func ephemeral() (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wanrun"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)} // nobody looks: the connection's proof counts
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}
