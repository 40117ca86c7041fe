package client

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	c := New(path)
	t.Cleanup(func() {
		c.Close()
		_ = srv.Close()
		<-done
	})
	return c
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	_, err := New(path).Version(t.Context())
	var gone *Unreachable
	if !errors.As(err, &gone) || gone.Target != path || !strings.Contains(err.Error(), "no gateway answers at "+path) {
		t.Errorf("%v", err)
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"html":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>no</h1>", 502) },
		"empty": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"half problem": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(422)
			_, _ = w.Write([]byte(`{"type":`))
		},
	} {
		_, err := serve(t, h).Version(t.Context())
		var p *v1.Problem
		if !errors.As(err, &p) || p.Status < 400 || p.Detail == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }).Version(t.Context()); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("another answer: %v", err)
	}
	_, err := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }).Version(t.Context())
	var gone *Unreachable
	if !errors.As(err, &gone) {
		t.Errorf("cut off: %v", err)
	}
}

// Keys hold slashes, colons and brackets; each stays in its segment.
func TestPaths(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.URL.EscapedPath() + "?" + r.URL.RawQuery
		_, _ = w.Write([]byte("{}"))
	})
	ctx := t.Context()
	for want, call := range map[string]func() error{
		"DELETE /v1/lookup-records/5001/fd00::11?":           func() error { return c.DeleteRecord(ctx, 5001, "fd00::11") },
		"DELETE /v1/nat-mappings/tcp/%5B2001:db8::1%5D:443?": func() error { return c.DeleteNATMapping(ctx, "tcp", "[2001:db8::1]:443") },
		"DELETE /v1/customer-routes/5000/0.0.0.0/0/10.254.254.2?": func() error {
			return c.DeleteCustomerRoute(ctx, v1.CustomerRoute{VSID: 5000, Prefix: "0.0.0.0/0", NextHop: "10.254.254.2"})
		},
		"DELETE /v1/ports/..%2Ftenants?":          func() error { return c.DeletePort(ctx, "../tenants") },
		"DELETE /v1/tenants/contoso?cascade=true": func() error { _, err := c.DeleteTenant(ctx, "contoso", true); return err },
		"GET /v1/lookup-records?ca=10.0.0.0%2F8&limit=5000&tenant=a%26b&vsid=5": func() error {
			_, err := c.Records(ctx, RecordFilter{Tenant: "a&b", VSID: 5, CA: "10.0.0.0/8"})
			return err
		},
		"GET /v1/tenants/contoso/nat-sessions?limit=7": func() error { _, err := c.NATSessions(ctx, "contoso", 7); return err },
		"DELETE /v1/provider-routes/192.168.2.0/24/192.168.1.254?": func() error {
			return c.DeleteProviderRoute(ctx, v1.ProviderRoute{Prefix: "192.168.2.0/24", NextHop: "192.168.1.254"})
		},
		"DELETE /v1/provider-addresses/192.168.1.1?": func() error { return c.DeleteProviderAddress(ctx, "192.168.1.1/24") },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
}
