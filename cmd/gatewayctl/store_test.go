package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/store"
)

// What is applied is in the store as it was written: over a restart, and over an
// export, applying it again changes nothing, and keys stay.
func TestAppliedDocumentSurvives(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```yaml\n# site.yaml")
	example, _, _ := strings.Cut(rest, "```\n")
	dir := t.TempDir()
	site := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(site, []byte("# site.yaml"+example), 0o600); err != nil {
		t.Fatal(err)
	}
	socketDir, err := os.MkdirTemp("", "hnv") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(socketDir) })
	socket := filepath.Join(socketDir, "s")
	secrets := new(servertest.Secrets)
	start := func() (stop func()) {
		st, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, "state"), Log: slog.New(slog.DiscardHandler), Site: hnv.Site{
			Uplinks: []string{"internet", "physical"}, PAInterfaces: []string{"eth1"}, UplinkKinds: map[string]string{"physical": hnv.UplinkMACVLAN},
		}})
		if err != nil {
			t.Fatal(err)
		}
		l, err := server.Listen(server.SocketOptions{Path: socket})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		s := server.New(st, &servertest.Backend{}, secrets, slog.New(slog.DiscardHandler))
		go func() { done <- s.Serve(ctx, l) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			st.Close()
		}
	}
	stop := start()
	if out := call(t, socket, "gatewayctl apply -f "+site); !strings.Contains(out, "22 created, 0 updated, 0 unchanged") {
		t.Fatal(out)
	}
	key := call(t, socket, "gatewayctl s2s export-key contoso hq")
	export := filepath.Join(dir, "export.yaml")
	for range 2 {
		if err := os.WriteFile(export, []byte(exported(t, socket)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{site, export} {
			if out := call(t, socket, "gatewayctl apply -f "+file); !strings.Contains(out, "0 created, 0 updated, 22 unchanged") {
				t.Error(out)
			}
			if out := call(t, socket, "gatewayctl diff -f "+file); !strings.Contains(out, "No differences.") {
				t.Error(out)
			}
		}
		if again := call(t, socket, "gatewayctl s2s export-key contoso hq"); again != key || strings.Contains(key, "exit") {
			t.Errorf("the key was %q and is %q", key, again)
		}
		stop()
		stop = start()
	}
	stop()
}

// exported is the whole state, as it is, with the RDIDs that call hides.
func exported(t *testing.T, socket string) string {
	t.Helper()
	var out, errOut strings.Builder
	env := func(name string) string {
		if name == socketEnv {
			return socket
		}
		return ""
	}
	if code := run(t.Context(), []string{"export"}, env, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatal(errOut.String())
	}
	return out.String()
}
