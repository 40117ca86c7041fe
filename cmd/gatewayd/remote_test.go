package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
	"github.com/hnvgate/hnvgate/api/server"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/internal/config"
)

func TestRemoteCondition(t *testing.T) {
	ca := credentialstest.New(t, "datacenter")
	f := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	l, err := server.ListenTLS(t.Context(), remoteAPI(&config.Listen{
		Address: "127.0.0.1:0", Certificate: f.Certificate, Key: f.Key, ClientCA: f.CA,
	}, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &gateway{remote: &remote{TLSListener: l}}
	st := v1.GatewayStatus{Phase: v1.PhaseReady}
	g.remoteStatus(&st)
	if c := st.Conditions; st.Phase != v1.PhaseReady || len(c) != 1 || !c[0].Status || !strings.Contains(c[0].Message, l.Addr().String()) || c[0].Since.IsZero() {
		t.Errorf("%+v", st)
	}
	since := st.Conditions[0].Since
	if c := g.remote.condition(since.Add(10 * time.Minute)); c.Since != since {
		t.Errorf("nothing changed, but it says since %v", c.Since)
	}
	if c := g.remote.condition(since.Add(2 * time.Hour)); c.Status || c.Reason != "CertificateExpired" || c.Since == since {
		t.Errorf("after the certificate's end: %+v", c)
	}
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); l.Err() == nil && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond) // the files are looked at once a second
	}
	st = v1.GatewayStatus{Phase: v1.PhaseReady}
	g.remoteStatus(&st)
	if c := st.Conditions[0]; st.Phase != v1.PhaseDegraded || c.Status || c.Reason != "FilesUnusable" || !strings.Contains(c.Message, f.Key) {
		t.Errorf("%+v", st)
	}
}

func TestCheckReadsTheFiles(t *testing.T) {
	dir := t.TempDir()
	f := credentialstest.New(t, "datacenter").Issue(dir, credentialstest.Leaf{Name: "gateway", Server: true})
	file := filepath.Join(dir, "gatewayd.yaml")
	text := "paInterfaces: [pa0]\nlisten: {address: '127.0.0.1:8443', certificate: " + f.Certificate + ", key: " + f.Key + ", clientCA: " + f.CA + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func() (string, error) {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs([]string{"--config", file, "--check"})
		return out.String(), cmd.ExecuteContext(t.Context())
	}
	if _, err := check(); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); err == nil || !strings.Contains(err.Error(), "listen: private key "+f.Key+": mode 0644") {
		t.Errorf("a key for all: %v", err)
	}
}
