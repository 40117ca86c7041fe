package seal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSealOpen(t *testing.T) {
	k := NewKey()
	plain := []byte("PrivateKey = very secret")
	sealed := k.Seal(plain, "contoso")
	if bytes.Contains(sealed, plain[:10]) {
		t.Error("the secret shows")
	}
	if again := k.Seal(plain, "contoso"); bytes.Equal(sealed, again) {
		t.Error("a nonce was used twice")
	}
	if got, err := k.Open(sealed, "contoso"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := k.Open(sealed, "fabrikam"); !errors.Is(err, ErrSealed) {
		t.Errorf("with another context: %v", err)
	}
	if _, err := NewKey().Open(sealed, "contoso"); !errors.Is(err, ErrSealed) {
		t.Errorf("with another key: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open(bad, "contoso"); !errors.Is(err, ErrSealed) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
		if _, err := k.Open(sealed[:i], "contoso"); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut at byte %d: %v", i, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	k, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if got, err := ReadKey(path); err != nil || got != k {
		t.Errorf("read another key, %v", err)
	}
	if _, err := CreateKey(path); err == nil {
		t.Error("a key file was overwritten")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the key file there are %v, %v", entries, err)
	}
	if got, err := ReadKey(path); err != nil || got != k {
		t.Errorf("a second one changed it: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "lets others at it") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"short": "AAAA\n", "no base64": "?" + strings.Repeat("A", 42) + "=", "empty": ""} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(p); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: the error repeats the file", name)
		}
	}
	for _, p := range []string{link, dir, filepath.Join(dir, "none")} {
		if _, err := ReadKey(p); err == nil {
			t.Errorf("%s: accepted", p)
		}
	}
}

func TestKeyStaysHidden(t *testing.T) {
	k := NewKey()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"|", k)
		fmt.Fprintf(&out, verb+"|", struct{ K Key }{k})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k)
	for _, form := range []string{fmt.Sprintf("%x", k.key), strings.Trim(fmt.Sprint(k.key), "[]"), string(k.key[:])} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key shows: %s", out.String())
		}
	}
}

// Whatever is found on the disk, it is opened or refused.
func FuzzOpen(f *testing.F) {
	k, err := KeyFrom(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Seal([]byte("x"), "c"))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := k.Open(b, "c"); err == nil && len(b) != len(plain)+len(magic)+24+16 {
			t.Fatalf("%d bytes gave %d", len(b), len(plain))
		}
	})
}

func TestDerive(t *testing.T) {
	k := NewKey()
	if a, b := k.Derive("one"), k.Derive("two"); a == b || a == k || a != k.Derive("one") || a == NewKey().Derive("one") {
		t.Error("a key for a purpose is not its own")
	}
}
