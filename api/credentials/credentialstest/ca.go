package credentialstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/credentials"
)

// CA signs certificates.
type CA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New gives a CA with a key of its own.
func New(t testing.TB, name string) *CA {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	ca := &CA{t: t, cert: c, key: key}
	ca.cert = ca.sign(c, key)
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (ca *CA) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	ca.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		ca.t.Fatal(err)
	}
	c.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, c, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return out
}

// Leaf says what a certificate shall be like.
type Leaf struct {
	Name   string   // common name
	DNS    []string // further names
	URI    string
	Server bool          // for 127.0.0.1 and localhost; else for clients
	Ended  bool          // its time is over
	For    time.Duration // how long it holds; 0: an hour
}

// Issue writes a certificate, its key and this CA's certificate into dir.
func (ca *CA) Issue(dir string, l Leaf) credentials.Files {
	ca.t.Helper()
	if l.For == 0 {
		l.For = time.Hour
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: l.Name}, DNSNames: l.DNS, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(l.For), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if l.Server {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		c.DNSNames = append(c.DNSNames, "localhost")
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if l.URI != "" {
		u, err := url.Parse(l.URI)
		if err != nil {
			ca.t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	if l.Ended {
		c.NotAfter = time.Now().Add(-time.Minute)
	}
	key := newKey(ca.t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	f := credentials.Files{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	ca.write(f.Certificate, 0o644, "CERTIFICATE", ca.sign(c, key).Raw)
	ca.write(f.Key, 0o600, "PRIVATE KEY", der)
	ca.Write(f.CA)
	return f
}

// Write writes the CA's own certificate.
func (ca *CA) Write(path string) { ca.t.Helper(); ca.write(path, 0o644, "CERTIFICATE", ca.cert.Raw) }

// write moves the file into its place, as those who renew certificates do.
func (ca *CA) write(path string, mode os.FileMode, kind string, der []byte) {
	ca.t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		ca.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		ca.t.Fatal(err)
	}
}
