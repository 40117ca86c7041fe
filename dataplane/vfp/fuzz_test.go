package vfp_test

import (
	"bytes"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// Whatever the frame: rewriting it leaves one that decodes to what was asked for,
// whose checksums are as right or wrong as before, and nothing else changed; or
// it is refused and did not change at all.
func FuzzApply(f *testing.F) {
	for seed := range uint64(24) {
		g := newGen(seed)
		p := g.packet(pick[uint8](g, 4, 6))
		if seed%3 == 0 {
			inner := g.packet(p.version())
			p.icmp, p.payload = [2]uint8{3, 4}, inner.ip(f)
			if p.proto = packet.ProtoICMP; p.version() == 6 {
				p.proto, p.icmp = packet.ProtoICMPv6, [2]uint8{2, 0}
			}
		}
		f.Add(p.frame(f), seed, seed%2 == 0, uint16(34), uint16(16))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, needsCsum bool, start, offset uint16) {
		var h packet.Headers
		if len(b) > 4096 || h.DecodeEthernet(b) != drop.None {
			return
		}
		fr := newFrame(t, b)
		if needsCsum {
			fr.Offload = packet.Offload{NeedsCsum: true, CsumStart: start, CsumOffset: offset}
			if int(start)+int(offset)+2 > len(b) || !fr.Offload.SpareHeaders(&h) {
				return
			}
		}
		tr := newGen(seed).transposition(max(h.Version, 4))
		r := tr.Apply(fr, &h)
		if r != drop.None {
			if !bytes.Equal(fr.Bytes(), b) {
				t.Fatalf("%+v refused as %s, and changed\n%x\ninto\n%x", tr, r, b, fr.Bytes())
			}
			return
		}
		after := decode(t, fr.Bytes())
		want := h
		tr.ApplyHeaders(&want)
		if *after != want {
			t.Fatalf("%+v\ngot  %+v\nwant %+v", tr, *after, want)
		}
		if h.Version == 0 || h.IsFragment() {
			return
		}
		if had, has := sumIsRight(b, &h), sumIsRight(fr.Bytes(), after); !needsCsum && had != has {
			t.Fatalf("%+v: the checksum was right: %v, is right: %v\n%x\n%x", tr, had, has, b, fr.Bytes())
		}
		for i := range b { // nothing but headers and quotes changes
			if b[i] != fr.Bytes()[i] && i >= h.L4 && i >= h.L3+h.Length {
				t.Fatalf("%+v changed byte %d, behind the packet", tr, i)
			}
			if b[i] != fr.Bytes()[i] && i >= h.L4+20 && h.Proto != packet.ProtoICMP && h.Proto != packet.ProtoICMPv6 {
				t.Fatalf("%+v changed byte %d of the payload", tr, i)
			}
		}
	})
}

// sumIsRight tells whether the transport checksum fits.
func sumIsRight(b []byte, h *packet.Headers) bool {
	l4 := b[h.L4 : h.L3+h.Length]
	pseudo := packet.PseudoSum(h.Src, h.Dst, h.Proto, len(l4))
	switch {
	case h.Proto == packet.ProtoICMP && h.Version == 4:
		pseudo = 0
	case h.Proto == packet.ProtoUDP:
		if l4[6]|l4[7] == 0 {
			return true
		}
	case h.Proto == packet.ProtoTCP, h.Proto == packet.ProtoICMPv6 && h.Version == 6:
	default:
		return true
	}
	return packet.Checksum(l4, pseudo) == 0
}

// Matching never goes wrong on headers of real frames either, and agrees with
// the oracle.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(12) {
		g := newGen(seed)
		p := g.packet(pick[uint8](g, 4, 6))
		p.src, p.dst, p.sport, p.dport = g.addr(p.version()), g.addr(p.version()), g.port(), g.port()
		f.Add(p.frame(f), seed)
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var h packet.Headers
		if h.DecodeEthernet(b) != drop.None {
			return
		}
		g := newGen(seed)
		rules := g.rules(1+g.IntN(20), 30, vfp.AnyFamily)
		p, layers := compileSome(t, []vfp.Layer{{Name: "a", Groups: []vfp.Group{{Name: "b", Direction: vfp.Inbound, Rules: rules}}}})
		compare(t, seed, p, layers, vfp.Inbound, &h)
	})
}
