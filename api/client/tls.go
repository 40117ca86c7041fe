package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/api/credentials"
)

// dialTimeout bounds connecting to another machine with the TLS handshake.
const dialTimeout = 10 * time.Second

// ServerURL checks the address of a gateway on another machine,
// https://HOST:PORT, and gives it without a slash at its end.
func ServerURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("server %q is not https://HOST:PORT", s)
	case u.Scheme == "http":
		return "", fmt.Errorf("server %q: a gateway is reached over TLS only: write https://", s)
	case u.Scheme != "https" || u.Hostname() == "" || u.Port() == "":
		return "", fmt.Errorf("server %q is not https://HOST:PORT", s)
	case u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("server %q: give https://HOST:PORT and nothing more", s)
	}
	return "https://" + u.Host, nil
}

// NewTLS gives a client of the gateway on another machine. The files hold the
// client's own certificate and who signs the gateway's; they are read now, and
// again for new connections when they change. Nothing is opened yet.
func NewTLS(server string, f credentials.Files) (*Client, error) {
	base, err := ServerURL(server)
	if err != nil {
		return nil, err
	}
	files, err := credentials.Open(f)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		set := files.Current()
		d := tls.Dialer{Config: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{set.Certificate},
			RootCAs:      set.CAs,
			NextProtos:   []string{"http/1.1"},
		}}
		return d.DialContext(ctx, network, addr)
	}
	return &Client{
		http: &http.Client{
			Transport: &http.Transport{DialTLSContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute},
			// No gateway sends its clients elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base:   base,
		target: base,
	}, nil
}

// Distrust tells that the two ends did not believe each other's certificates,
// as opposed to nobody being there.
func Distrust(err error) bool {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &record) ||
		err != nil && strings.Contains(err.Error(), "remote error: tls: ")
}
