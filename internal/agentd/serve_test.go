//go:build linux

package agentd

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadDesired(t *testing.T) {
	d, err := readDesired(bytes.NewReader([]byte(`{"Parts":{"s2s":{"x":1}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"x":1}`, string(d.Parts["s2s"])); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{``, `{`, `{"Part":{}}`, `{} {}`, `{"Parts":1}`} {
		if _, err := readDesired(bytes.NewReader([]byte(bad))); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Whatever is sent, what was read of it has a digest.
func FuzzReadDesired(f *testing.F) {
	f.Add([]byte(`{"Parts":{"s2s":{"x":1},"bgp":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := readDesired(bytes.NewReader(b))
		if err != nil {
			return
		}
		one, err := d.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if two, _ := d.Digest(); two != one {
			t.Fatal("two digests of one state")
		}
	})
}
