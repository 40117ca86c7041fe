//go:build linux

package agent

import (
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// Whatever the kernel's events look like, they are read to their end and no further.
func FuzzNews(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00news\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	contoso, err := hnv.ParseName("contoso")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := news{who: map[int32]hnv.Name{1: contoso}}
		n.each(b, func(who hnv.Name) {
			if who != contoso {
				t.Errorf("news of %s", who)
			}
		})
	})
}
