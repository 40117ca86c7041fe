package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/internal/seal"
)

func name(t *testing.T, s string) hnv.Name {
	t.Helper()
	n, err := hnv.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	c := config.Config{StateDir: dir, SecretsKeyFile: filepath.Join(dir, "secrets.key")}
	s, err := openSecrets(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	again, err := openSecrets(c, slog.New(slog.DiscardHandler))
	if err != nil || again != s {
		t.Fatalf("the key file gives another key: %v", err)
	}
	private, public, err := s.NewWireGuardKey()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := s.PublicKey(private); err != nil || k != public {
		t.Errorf("public key %s, not %s: %v", k, public, err)
	}
	contoso, fabrikam, hq := name(t, "contoso"), name(t, "fabrikam"), name(t, "hq")
	at := hnv.S2SConnection{Tenant: contoso, Name: hq}.PrivateKeyPlace()
	sealed, err := s.Seal(at, private)
	if err != nil || strings.Contains(string(sealed), private) {
		t.Fatalf("the secret shows, or %v", err)
	}
	if got, err := again.Open(at, sealed); err != nil || got != private {
		t.Errorf("it does not come back: %v", err)
	}
	// Neither what was never sealed, nor what another machine sealed, is taken, and
	// no error repeats it.
	other := secrets{seal.NewKey()}
	for _, bad := range []hnv.Secret{"", hnv.Secret(private), "sealed1:" + hnv.Secret(private), "sealed1:?", "sealed2:?", sealed[:len(sealed)-4]} {
		if got, err := s.Open(at, bad); err == nil || strings.Contains(err.Error(), private) || got != "" {
			t.Errorf("%d bytes opened, or shown: %v", len(bad), err)
		}
	}
	if got, err := other.Open(at, sealed); err == nil || got != "" || !strings.Contains(err.Error(), "key file") {
		t.Errorf("another machine's secret: %v", err)
	}
	// It opens in its place alone, but for those of a release that knew no places.
	for _, elsewhere := range []hnv.SecretPlace{
		"", hnv.S2SConnection{Tenant: fabrikam, Name: hq}.PrivateKeyPlace(), hnv.S2SConnection{Tenant: contoso, Name: fabrikam}.PrivateKeyPlace(),
		hnv.S2SConnection{Tenant: contoso, Name: hq}.PresharedKeyPlace(hq), hnv.BGPPeer{Tenant: contoso}.PasswordPlace(),
	} {
		if got, err := s.Open(elsewhere, sealed); err == nil || got != "" {
			t.Errorf("it opens as %s", elsewhere)
		}
	}
	old := hnv.Secret("sealed1:" + base64.StdEncoding.EncodeToString(s.key.Seal([]byte(private), secretContext)))
	if got, err := s.Open(at, old); err != nil || got != private || !s.Outdated(old) || s.Outdated(sealed) {
		t.Errorf("one of before: %v", err)
	}
	if got, err := s.Open(at, "sealed2"+old[len("sealed1"):]); err == nil || got != "" {
		t.Error("one of before opens as a new one")
	}
	if _, err := s.PublicKey(private + "x"); err == nil || strings.Contains(err.Error(), private) {
		t.Errorf("a key with a slip of the pen: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, string(s.key.Bytes())) {
		t.Error("the key shows")
	}
	if err := os.Chmod(c.SecretsKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openSecrets(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "mode") {
		t.Errorf("a key that all can read: %v", err)
	}
}
