package encap_test

import (
	"bytes"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
)

func TestPeek(t *testing.T) {
	for _, h := range headers() {
		frame := inner(t, 20)
		b := pushed(t, h, frame)
		vsid, got, ok := encap.Peek(b)
		if !ok || vsid != h.VSID || !bytes.Equal(got, frame) {
			t.Errorf("%+v: got VSID %d, %d bytes, %v", h, vsid, len(got), ok)
		}
		for n := range b {
			encap.Peek(b[:n]) // nothing beyond its end is read
		}
	}
}

// What is peeked at is what Parse reads, or Parse refuses the packet.
func FuzzPeek(f *testing.F) {
	for _, h := range headers() {
		f.Add(pushed(f, h, inner(f, 20)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		vsid, frame, ok := encap.Peek(b)
		var h encap.Header
		if !ok || encap.Parse(b, &h) != drop.None {
			return
		}
		if vsid != h.VSID || !bytes.HasPrefix(frame, b[h.InnerOff:h.Total]) {
			t.Errorf("peeked at VSID %d and %d bytes, parsed VSID %d and %d bytes", vsid, len(frame), h.VSID, h.Total-h.InnerOff)
		}
	})
}
