package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/hnvgate/hnvgate/api/credentials"
)

// TLSOptions says where the API listens for other machines, and whom it
// believes. Who they are is said by their certificates.
type TLSOptions struct {
	Address     string // ADDR:PORT of this machine
	Certificate string // of this end, PEM file, with what leads to its CA
	Key         string // of the certificate
	ClientCA    string // who signs the clients' certificates

	// Names of clients: the subject's common name, or a DNS or URI name of the
	// certificate. One in several lists has the least of their rights.
	Allow    []string // may do everything; empty: whoever the CA signed
	Peers    []string // may read, and report what they learned
	ReadOnly []string // may read

	Log *slog.Logger // nil: slog.Default
}

// TLSListener listens for other machines; ServeTLS answers on it.
type TLSListener struct {
	net.Listener
	files *credentials.Source
	names names
	log   *fewLines
	now   func() time.Time

	config atomic.Pointer[tlsConfig]
}

// tlsConfig is a set of credentials in the form that crypto/tls wants.
type tlsConfig struct {
	generation uint64
	config     *tls.Config
}

// maxPerSource bounds the connections from one address, so that a machine that
// only opens them leaves room for others.
const maxPerSource = 64

// ListenTLS reads the files and listens. The files are read again when they
// change, and hold for connections that are open already.
func ListenTLS(ctx context.Context, o TLSOptions) (*TLSListener, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.ClientCA == "" {
		return nil, errors.New("remote API: the clients' CA is not given")
	}
	if _, err := netip.ParseAddrPort(o.Address); err != nil {
		return nil, fmt.Errorf("remote API: address %q is not ADDR:PORT", o.Address)
	}
	files, err := credentials.Open(credentials.Files{Certificate: o.Certificate, Key: o.Key, CA: o.ClientCA})
	if err != nil {
		return nil, fmt.Errorf("remote API: %w", err)
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", o.Address)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil, fmt.Errorf("remote API: %s is no address of this machine now: give it to an interface first, or correct listen.address", o.Address)
	}
	if err != nil {
		return nil, fmt.Errorf("remote API: %w", err)
	}
	l := &TLSListener{files: files, names: newNames(o), log: &fewLines{log: o.Log.With("component", "api")}, now: time.Now}
	l.Listener = tls.NewListener(newSourceLimit(netutil.LimitListener(tcp, maxConnections), maxPerSource), &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return l.current(), nil
		},
	})
	return l, nil
}

// Err says why the certificate files as they are now are not in use; nil: they
// are.
func (l *TLSListener) Err() error {
	l.files.Current()
	return l.files.Err()
}

// CertificateEnds is when this end's certificate ceases to hold.
func (l *TLSListener) CertificateEnds() time.Time {
	return l.files.Current().Certificate.Leaf.NotAfter
}

// current gives the configuration for a handshake that begins now.
func (l *TLSListener) current() *tls.Config {
	set := l.files.Current()
	if c := l.config.Load(); c != nil && c.generation == set.Generation {
		return c.config
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{set.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    set.CAs,
		NextProtos:   []string{"http/1.1"}, // one request at a time: what bounds connections bounds requests
		// A resumed session would carry the trust of former files along.
		SessionTicketsDisabled: true,
	}
	l.config.Store(&tlsConfig{set.Generation, c})
	return c
}

// ServeTLS answers other machines until ctx ends, as Serve does on the socket,
// but each by its rights. It closes the listener.
func (s *Server) ServeTLS(ctx context.Context, l *TLSListener) error {
	srv := s.httpServer(l.admit(s.Handler()))
	srv.ErrorLog = log.New(l.log, "", 0)
	srv.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, new(atomic.Uint64))
	}
	return s.serve(ctx, srv, l)
}

// connKey finds, in a request's context, with which generation of the files the
// certificate of its connection was last verified.
type connKey struct{}

// verify tells whether the connection's certificate is still one to believe:
// connections outlive both certificates and changes of the CA file.
func (l *TLSListener) verify(r *http.Request) (*x509.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, errors.New("the connection shows no client certificate")
	}
	chain := r.TLS.PeerCertificates
	leaf := chain[0]
	set := l.files.Current()
	seen, ok := r.Context().Value(connKey{}).(*atomic.Uint64)
	if ok && seen.Load() == set.Generation && l.now().Before(leaf.NotAfter) {
		return leaf, nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: set.CAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime: l.now(),
	})
	if err != nil {
		return leaf, fmt.Errorf("the client certificate of %s is not believed any more: %w", called(leaf), err)
	}
	if ok {
		seen.Store(set.Generation)
	}
	return leaf, nil
}
