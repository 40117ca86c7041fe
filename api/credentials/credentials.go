package credentials

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files names the PEM files.
type Files struct {
	Certificate string // with what leads to the CA behind it
	Key         string // nobody but its owner, and a group that only reads, may open it
	CA          string // who signs the other end's certificate; empty: the system's CAs
}

// Set is what the files held at one time. It is never changed.
type Set struct {
	Certificate tls.Certificate
	CAs         *x509.CertPool // nil: the system's
	// Generation tells sets apart: it grows whenever files were read anew.
	Generation uint64
}

// lookEvery is how often at most the files are looked at, and maxFile what is
// read of one: a CA file can hold a few hundred certificates.
const (
	lookEvery = time.Second
	maxFile   = 4 << 20
)

// Source gives the present set. Its methods may be called from several
// goroutines at once.
type Source struct {
	files Files
	now   func() time.Time

	set atomic.Pointer[Set]

	mu     sync.Mutex
	looked time.Time
	seen   [3]stamp // of the files as they were read, or last failed to be
	err    error    // why seen was not taken
}

// Open reads the files. The error says which one is wrong.
func Open(f Files) (*Source, error) { return open(f, time.Now) }

func open(f Files, now func() time.Time) (*Source, error) {
	s := &Source{files: f, now: now, looked: now()}
	seen, err := f.stamps()
	if err != nil {
		return nil, err
	}
	set, err := f.read()
	if err != nil {
		return nil, err
	}
	set.Generation = 1
	s.seen = seen
	s.set.Store(set)
	return s, nil
}

// Current gives what the files hold. Where they were changed to something that
// cannot be used, it gives the last good set; Err says why.
func (s *Source) Current() *Set {
	if s.mu.TryLock() {
		if now := s.now(); now.Sub(s.looked) >= lookEvery || now.Before(s.looked) {
			s.looked = now
			s.look()
		}
		s.mu.Unlock()
	}
	return s.set.Load()
}

// Err says why the files as they are now are not in use; nil: they are.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// look reads the files again where they changed, or were found half changed;
// with mu.
func (s *Source) look() {
	seen, err := s.files.stamps()
	if err == nil && seen == s.seen && s.err == nil {
		return
	}
	var set *Set
	if err == nil {
		set, err = s.files.read()
	}
	if err != nil {
		s.err = err
		return
	}
	set.Generation = s.set.Load().Generation + 1
	s.seen, s.err = seen, nil
	s.set.Store(set)
}

// stamp tells whether a file is still the one that was read.
type stamp struct {
	id       string // of the file itself, where the system has one
	size     int64
	modified time.Time
}

func (f Files) stamps() (out [3]stamp, err error) {
	for i, p := range []string{f.Certificate, f.Key, f.CA} {
		if p == "" {
			continue
		}
		fi, err := os.Stat(p)
		if err != nil {
			return out, fmt.Errorf("%s: %w", what[i], err)
		}
		if !fi.Mode().IsRegular() {
			return out, fmt.Errorf("%s %s: it is not a regular file", what[i], p)
		}
		out[i] = stamp{fileID(fi), fi.Size(), fi.ModTime()}
	}
	return out, nil
}

// what the files are, in the order of stamps.
var what = [3]string{"certificate", "private key", "CA certificates"}

func (f Files) read() (*Set, error) {
	cert, err := readFile(what[0], f.Certificate, nil)
	if err != nil {
		return nil, err
	}
	key, err := readFile(what[1], f.Key, checkKeyMode)
	if err != nil {
		return nil, err
	}
	set := &Set{}
	if set.Certificate, err = pair(f, cert, key); err != nil {
		return nil, err
	}
	if f.CA == "" {
		return set, nil
	}
	ca, err := readFile(what[2], f.CA, nil)
	if err != nil {
		return nil, err
	}
	if set.CAs, err = pool(ca); err != nil {
		return nil, fmt.Errorf("CA certificates %s: %w", f.CA, err)
	}
	return set, nil
}

func pair(f Files, cert, key []byte) (tls.Certificate, error) {
	if !hasBlock(cert, "CERTIFICATE") {
		return tls.Certificate{}, fmt.Errorf("certificate %s: it holds no certificate in PEM form", f.Certificate)
	}
	if !hasBlock(key, "PRIVATE KEY") {
		return tls.Certificate{}, fmt.Errorf("private key %s: it holds no unencrypted private key in PEM form", f.Key)
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return c, fmt.Errorf("certificate %s and private key %s: %w", f.Certificate, f.Key, err)
	}
	return c, nil
}

func hasBlock(b []byte, kind string) bool {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return false
		}
		if block.Type == kind || kind == "PRIVATE KEY" && (block.Type == "RSA PRIVATE KEY" || block.Type == "EC PRIVATE KEY") {
			return true
		}
	}
}

// pool is strict where x509.CertPool passes over what it cannot read: a CA that
// is not trusted for a typing error is hard to find.
func pool(b []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	n, begun := 0, bytes.Count(b, []byte("-----BEGIN CERTIFICATE-----"))
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file: %w", n, err)
		}
		p.AddCert(c)
	}
	switch {
	case n == 0:
		return nil, errors.New("it holds no certificate in PEM form, so nobody could be trusted")
	case n < begun:
		return nil, fmt.Errorf("%d of its %d certificates cannot be read as PEM", begun-n, begun)
	}
	return p, nil
}

// readFile reads a file that passes check, which sees the very file that is
// read.
func readFile(what, path string, check func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if fi.Size() > maxFile {
		return nil, fmt.Errorf("%s %s: it has %d bytes, at most %d are read", what, path, fi.Size(), maxFile)
	}
	if check != nil {
		if err := check(fi); err != nil {
			return nil, fmt.Errorf("%s %s: %w", what, path, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}
