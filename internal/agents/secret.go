package agents

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MinSecret is how many bytes a secret has at least. A person's short password could be
// found by trying, by whoever makes a node talk to them; a secret is best generated.
const MinSecret = 16

const maxSecret = 4096

// NewSecret returns a fresh secret: 64 letters and digits.
func NewSecret() ([]byte, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("make a secret: %w", err)
	}
	return []byte(hex.EncodeToString(raw[:])), nil
}

// ReadSecret reads a secret from a file that nobody else may read. White space around it
// does not count.
func ReadSecret(path string) ([]byte, error) {
	data, err := readPrivate(path, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	secret := bytes.TrimSpace(data)
	if err := checkSecret(secret); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecret || len(secret) > maxSecret {
		return fmt.Errorf("a secret of %d bytes, want %d to %d; \"openssl rand -hex 32\" makes one", len(secret), MinSecret, maxSecret)
	}
	return nil
}

// readPrivate reads a small file of this user that no other can read or write.
func readPrivate(path string, limit int64) ([]byte, error) {
	// A pipe in the file's place must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Mode&0o077 != 0:
		return nil, fmt.Errorf("%s has mode %#o: others can read it; chmod 600 it", path, st.Mode&0o777)
	case int(st.Uid) != os.Getuid() && st.Uid != 0:
		return nil, fmt.Errorf("%s belongs to user %d, not to this one (%d)", path, st.Uid, os.Getuid())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, nil
}

// noSecret stands for the secret of jobs that stay on one machine's loopback. Everybody
// knows it: there, it keeps jobs apart by their ids and keeps nobody out.
var noSecret = []byte("wanrun: loopback, no secret")

// keyOf returns the key that proofs are made with.
func keyOf(secret []byte) ([]byte, error) {
	if secret == nil {
		secret = noSecret
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "wanrun agents", sha256.Size)
	if err != nil {
		return nil, errors.New("derive a key from the secret: " + err.Error())
	}
	return key, nil
}
