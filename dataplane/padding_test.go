package dataplane

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// What a station puts behind its packets goes nowhere: it would make outer packets
// greater than the fabric takes, and frames greater than ports do.
func TestPaddingIsCutOff(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	junk := bytes.Repeat([]byte("junk"), 500)
	with := func(frame []byte) []byte { return append(slices.Clone(frame), junk...) }
	for _, s := range []*site{contoso, fabrikam} {
		for what, f := range map[string]struct {
			from, to *nic
			frame    []byte
		}{
			"over the fabric":          {s.vm11, s.vm12, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")},
			"over the fabric, by IPv6": {s.vm11, s.vm12, udp(mac11, mac12, "fd00:1::11", "fd00:1::12", "x")},
			"on this machine":          {s.vm11, s.vm13, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "x")},
		} {
			for range 2 { // decided, and replayed
				f.from.send(with(f.frame))
				l.settle()
				got := f.to.drain()
				if len(got) != 1 || len(got[0].bytes) != len(f.frame) {
					t.Errorf("%s, %s: %d frames, the first of %d bytes, want one of %d", s.Name, what, len(got), len(append(got, sent{})[0].bytes), len(f.frame))
				}
			}
		}
		s.vm11.send(with(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.11", "10.1.1.12")))
		if got := s.vm11.drain(); len(got) != 1 || len(got[0].bytes) > 60 {
			t.Errorf("%s: %d answers", s.Name, len(got))
		}
		// Another host may be less careful.
		h2 := l.hosts[2]
		h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, with(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"))))
		if got := s.vm12.drain(); len(got) != 1 || bytes.Contains(got[0].bytes, junk) {
			t.Errorf("%s: padding came out of a tunnel", s.Name)
		}
	}
	// Questions for unknown addresses are the only thing that is passed on as it is.
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	c.contoso.vm11.send(with(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.11", "10.1.1.77")))
	c.settle()
	for _, n := range []*nic{c.a[c.contoso], c.b[c.contoso]} {
		if got := n.drain(); len(got) != 1 || len(got[0].bytes) > 60 {
			t.Errorf("%s got %d questions, the first of %d bytes", n.mac, len(got), len(append(got, sent{})[0].bytes))
		}
	}
	for _, p := range append(l.tap, c.tap...) {
		if len(p.bytes) > 1500 {
			t.Errorf("a packet of %d bytes on the fabric", len(p.bytes))
		}
	}
}
