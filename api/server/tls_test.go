package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/credentials"
	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// remote is a gateway that serves other machines.
type remote struct {
	t     *testing.T
	ca    *credentialstest.CA
	url   string
	files credentials.Files // its own
	log   *lockedBuffer
	ahead atomic.Int64 // by how much its clock is, in nanoseconds
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *lockedBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// serveTLS serves until the test ends; o says whom it believes.
func serveTLS(t *testing.T, o server.TLSOptions) *remote {
	t.Helper()
	r := &remote{t: t, ca: credentialstest.New(t, "datacenter"), log: &lockedBuffer{}}
	r.files = r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	o.Address, o.Certificate, o.Key, o.ClientCA = "127.0.0.1:0", r.files.Certificate, r.files.Key, r.files.CA
	log := slog.New(slog.NewTextHandler(r.log, nil))
	o.Log = log
	l, err := server.ListenTLS(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l.SetClock(func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) })
	r.url = "https://" + l.Addr().String()
	store := servertest.NewStore(site)
	s := server.New(store, &servertest.Backend{Store: store}, nil, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// client makes one whose certificate the gateway's CA signed.
func (r *remote) client(l credentialstest.Leaf) *client.Client {
	r.t.Helper()
	return r.clientWith(r.ca.Issue(r.t.TempDir(), l))
}

func (r *remote) clientWith(f credentials.Files) *client.Client {
	r.t.Helper()
	c, err := client.NewTLS(r.url, f)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

var northwind = v1.Tenant{Name: "northwind", Encap: "vxlan", Subnets: []v1.Subnet{{VSID: 7001, Prefixes: []string{"10.1.1.0/24"}}}}

func TestRemote(t *testing.T) {
	r := serveTLS(t, server.TLSOptions{})
	c := r.client(credentialstest.Leaf{Name: "operator"})
	if v, err := c.Version(t.Context()); err != nil || v.API != v1.APIVersion {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := c.CreateTenant(t.Context(), northwind); err != nil {
		t.Fatal(err)
	}
	if l, err := c.Tenants(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if !strings.Contains(r.log.String(), "client=operator") {
		t.Errorf("the log does not say who made the tenant:\n%s", r.log)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	r := serveTLS(t, server.TLSOptions{})
	wrong := credentialstest.New(t, "somebody").Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
	wrong.CA = r.files.CA
	ended := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator", Ended: true})
	notClient := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator", Server: true})
	for name, f := range map[string]credentials.Files{"signed by another CA": wrong, "expired": ended, "not for clients": notClient} {
		_, err := r.clientWith(f).Version(t.Context())
		var gone *client.Unreachable
		if !errors.As(err, &gone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A client that is not shown the CA it knows goes no further.
	other := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
	credentialstest.New(t, "somebody").Write(other.CA)
	_, err := r.clientWith(other).Version(t.Context())
	if !client.Distrust(err) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("gateway of another CA: %v", err)
	}
	for name, c := range map[string]*tls.Config{
		"no certificate":  {InsecureSkipVerify: true},
		"TLS 1.2 at most": {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
	} {
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		resp, err := h.Get(r.url + "/v1/version")
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: answered %s", name, resp.Status)
		} else if !strings.Contains(err.Error(), "tls:") {
			t.Errorf("%s: %v", name, err)
		}
		h.CloseIdleConnections()
	}
	if !strings.Contains(r.log.String(), "TLS handshake error") {
		t.Errorf("the log says nothing of them:\n%s", r.log)
	}
}

func TestPlainHTTPAtTheTLSPort(t *testing.T) {
	r := serveTLS(t, server.TLSOptions{})
	resp, err := http.Get("http" + strings.TrimPrefix(r.url, "https") + "/v1/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "HTTPS") {
		t.Errorf("%s: %s", resp.Status, b)
	}
}

// Names are those of the subject, of DNS and of URIs.
func TestRights(t *testing.T) {
	r := serveTLS(t, server.TLSOptions{
		Allow: []string{"operator", "ops.example.net", "spiffe://dc/ops"}, Peers: []string{"host7"}, ReadOnly: []string{"monitor", "Board.example.net"},
	})
	for _, c := range []struct {
		leaf        credentialstest.Leaf
		read, write bool
	}{
		{credentialstest.Leaf{Name: "operator"}, true, true},
		{credentialstest.Leaf{Name: "x", DNS: []string{"OPS.example.net"}}, true, true},
		{credentialstest.Leaf{URI: "spiffe://dc/ops"}, true, true},
		{credentialstest.Leaf{Name: "Operator"}, false, false},
		{credentialstest.Leaf{Name: "x", URI: "spiffe://dc/OPS"}, false, false},
		{credentialstest.Leaf{}, false, false},
		{credentialstest.Leaf{Name: "host7"}, true, false},
		{credentialstest.Leaf{Name: "monitor"}, true, false},
		{credentialstest.Leaf{Name: "x", DNS: []string{"board.example.net"}}, true, false},
		{credentialstest.Leaf{Name: "operator", DNS: []string{"board.example.net"}}, true, false}, // the least of the rights
	} {
		cl := r.client(c.leaf)
		_, err := cl.Version(t.Context())
		if refused(err) == c.read || err != nil && !refused(err) {
			t.Errorf("%+v reads: %v", c.leaf, err)
		}
		_, err = cl.Apply(t.Context(), &v1.Document{Tenants: []v1.Tenant{northwind}}, true)
		if refused(err) == c.write || err != nil && !refused(err) {
			t.Errorf("%+v writes: %v", c.leaf, err)
		}
		if err := cl.DeletePort(t.Context(), "vm1"); refused(err) == c.write {
			t.Errorf("%+v deletes: %v", c.leaf, err)
		}
		if _, err := cl.ExportS2SKey(t.Context(), "contoso", "hq", ""); refused(err) == c.write {
			t.Errorf("%+v takes a key: %v", c.leaf, err)
		}
		cl.Close()
	}
}

func refused(err error) bool {
	var p *v1.Problem
	return errors.As(err, &p) && p.Type == v1.ProblemForbidden && p.Status == http.StatusForbidden && p.Detail != ""
}

// A CA that is taken out of the file, and a certificate whose time ends, count
// for connections that are open already.
func TestTrustEndsOnOpenConnections(t *testing.T) {
	t.Parallel()
	r := serveTLS(t, server.TLSOptions{})
	short := r.client(credentialstest.Leaf{Name: "short", For: 20 * time.Minute})
	long := r.client(credentialstest.Leaf{Name: "long"})
	for _, c := range []*client.Client{short, long} {
		if _, err := c.Version(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.ahead.Store(int64(30 * time.Minute))
	if _, err := short.Version(t.Context()); !refused(err) {
		t.Errorf("after its time: %v", err)
	}
	if _, err := long.Version(t.Context()); err != nil {
		t.Error(err)
	}
	next := credentialstest.New(t, "next")
	next.Write(r.files.CA)
	eventually(t, "its CA went", func() bool { _, err := long.Version(t.Context()); return refused(err) })
	f := next.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
	r.ca.Write(f.CA)
	if _, err := r.clientWith(f).Version(t.Context()); err != nil {
		t.Errorf("of the new CA: %v", err)
	}
}

// The gateway's certificate is renewed under running clients.
func TestRenewedServerCertificate(t *testing.T) {
	t.Parallel()
	r := serveTLS(t, server.TLSOptions{})
	serial := func() string {
		f := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
		pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	if err := writeRenewed(r); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate is shown", func() bool { return serial() != before })
}

// eventually waits for what follows the files, which are looked at once a second.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func writeRenewed(r *remote) error {
	f := r.ca.Issue(r.t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	for from, to := range map[string]string{f.Certificate: r.files.Certificate, f.Key: r.files.Key} {
		if err := copyFile(from, to); err != nil {
			return err
		}
	}
	return nil
}

// Whoever says nothing, or says it slowly, is let go, and does not keep others
// out.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	r := serveTLS(t, server.TLSOptions{})
	addr := strings.TrimPrefix(r.url, "https://")
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := slow.Write([]byte("GET /v1/version HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
				_, _ = fmt.Fprintf(slow, "X-%d: y\r\n", i)
			}
		}
	}()
	begun := time.Now()
	for name, c := range map[string]net.Conn{"silent": silent, "slow": slow} {
		_ = c.SetReadDeadline(begun.Add(time.Minute))
		_, err := io.Copy(io.Discard, c)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: still connected after %v", name, time.Since(begun))
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	r := serveTLS(t, server.TLSOptions{})
	f := r.ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "operator"})
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = c.Write([]byte("GET /v1/version HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 100<<10) + "\r\n\r\n"))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %s", resp.Status)
	}
}

// One address cannot take all connections.
func TestManyConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	f := credentialstest.New(t, "datacenter").Issue(t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	l, err := server.ListenTLS(t.Context(), server.TLSOptions{Address: "127.0.0.1:0", Certificate: f.Certificate, Key: f.Key, ClientCA: f.CA})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	closed := make(chan struct{}, 100)
	for range 100 {
		c := dial()
		go func() { _, _ = c.Read(make([]byte, 1)); closed <- struct{}{} }()
	}
	for range 36 {
		<-closed
	}
	var first net.Conn
	for i := range 64 {
		if c := <-taken; i == 0 {
			first = c
		} else {
			defer c.Close()
		}
	}
	if len(taken)+len(closed) > 0 {
		t.Errorf("of 100 connections %d more than 64 were taken, %d more than 36 closed", len(taken), len(closed))
	}
	_ = first.Close()
	dial()
	_ = (<-taken).Close() // there is room again
}

func TestListenTLSRefusals(t *testing.T) {
	ca := credentialstest.New(t, "ca")
	f := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := server.TLSOptions{Address: "127.0.0.1:0", Certificate: f.Certificate, Key: f.Key, ClientCA: f.CA}
	for says, spoil := range map[string]func(o *server.TLSOptions){
		"is not ADDR:PORT":           func(o *server.TLSOptions) { o.Address = "gateway.example.net:8443" },
		"no address of this machine": func(o *server.TLSOptions) { o.Address = "192.0.2.1:8443" },
		"address already in use":     func(o *server.TLSOptions) { o.Address = taken.Addr().String() },
		"clients' CA":                func(o *server.TLSOptions) { o.ClientCA = "" },
		"no such file":               func(o *server.TLSOptions) { o.Key = "/nonexistent" },
	} {
		o := good
		spoil(&o)
		if _, err := server.ListenTLS(t.Context(), o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

// copyFile moves a copy into place, as those who renew certificates do.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
