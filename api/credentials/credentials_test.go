package credentials_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/credentials"
	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ca := credentialstest.New(t, "ca")
	other := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "other"})
	for name, c := range map[string]struct {
		spoil func(f *credentials.Files)
		says  []string
	}{
		"certificate missing": {func(f *credentials.Files) { f.Certificate += ".none" }, []string{"certificate", ".none", "no such file"}},
		"key missing":         {func(f *credentials.Files) { f.Key += ".none" }, []string{"private key", "no such file"}},
		"CA missing":          {func(f *credentials.Files) { f.CA += ".none" }, []string{"CA certificates", "no such file"}},
		"another's key":       {func(f *credentials.Files) { f.Key = other.Key }, []string{"certificate", "private key", "does not match"}},
		"key for all":         {func(f *credentials.Files) { chmod(t, f.Key, 0o644) }, []string{"private key", "mode 0644", "chmod 600"}},
		"key for a group to write": {func(f *credentials.Files) { chmod(t, f.Key, 0o620) },
			[]string{"mode 0620"}},
		"CA empty":    {func(f *credentials.Files) { write(t, f.CA, nil) }, []string{"CA certificates", "holds no certificate"}},
		"CA is a key": {func(f *credentials.Files) { f.CA = f.Key }, []string{"CA certificates", "holds no certificate"}},
		"CA cut off":  {func(f *credentials.Files) { b := read(t, f.CA); write(t, f.CA, append(b, b[:len(b)/2]...)) }, []string{"1 of its 2 certificates"}},
		"CA not DER": {func(f *credentials.Files) {
			write(t, f.CA, bytes.Replace(read(t, f.CA), []byte("MII"), []byte("MIA"), 1))
		}, []string{"certificate 1 of the file"}},
		"certificate is not": {func(f *credentials.Files) { f.Certificate = f.Key }, []string{"certificate", "holds no certificate"}},
		"key is not":         {func(f *credentials.Files) { chmod(t, f.Certificate, 0o600); f.Key = f.Certificate }, []string{"private key", "holds no unencrypted private key"}},
		"a folder":           {func(f *credentials.Files) { f.CA = filepath.Dir(f.CA) }, []string{"not a regular file"}},
	} {
		f := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "gw"})
		if _, err := credentials.Open(f); err != nil {
			t.Fatal(err)
		}
		c.spoil(&f)
		_, err := credentials.Open(f)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
		if strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("%s: %q tells the key", name, err)
		}
	}
}

func TestSystemCAsWhereNoneAreGiven(t *testing.T) {
	f := credentialstest.New(t, "ca").Issue(t.TempDir(), credentialstest.Leaf{Name: "gw"})
	f.CA = ""
	s, err := credentials.Open(f)
	if err != nil || s.Current().CAs != nil {
		t.Errorf("%v, %v", s, err)
	}
}

func chmod(t *testing.T, path string, m os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
