package main

import (
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
	sealed, err := s.Seal(private)
	if err != nil || strings.Contains(string(sealed), private) {
		t.Fatalf("the secret shows, or %v", err)
	}
	if got, err := again.Open(sealed); err != nil || got != private {
		t.Errorf("it does not come back: %v", err)
	}
	// Neither what was never sealed, nor what another machine sealed, is taken, and
	// no error repeats it.
	other := secrets{seal.NewKey()}
	for _, bad := range []hnv.Secret{"", hnv.Secret(private), "sealed1:" + hnv.Secret(private), "sealed1:?", sealed[:len(sealed)-4]} {
		if got, err := s.Open(bad); err == nil || strings.Contains(err.Error(), private) || got != "" {
			t.Errorf("%d bytes opened, or shown: %v", len(bad), err)
		}
	}
	if got, err := other.Open(sealed); err == nil || got != "" || !strings.Contains(err.Error(), "key file") {
		t.Errorf("another machine's secret: %v", err)
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
