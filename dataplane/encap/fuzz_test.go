package encap_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Whatever is accepted must lie within the input, and must come out the same
// when it is written again.
func FuzzParse(f *testing.F) {
	for _, h := range headers() {
		f.Add(pushed(f, h, inner(f, 20)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h encap.Header
		if encap.Parse(b, &h) != drop.None {
			return
		}
		if h.InnerOff < 28 || h.Total > len(b) || h.Total-h.InnerOff < packet.EthernetLen {
			t.Fatalf("inner frame is [%d:%d] of %d bytes", h.InnerOff, h.Total, len(b))
		}
		frame := b[h.InnerOff:h.Total]
		fr := packet.NewFrame(len(frame))
		fr.Set(frame)
		if !encap.Push(fr, &h) {
			t.Fatalf("cannot be written: %+v", h)
		}
		var back encap.Header
		if r := encap.Parse(fr.Bytes(), &back); r != drop.None {
			t.Fatalf("cannot be read back: %s", r)
		}
		if !bytes.Equal(fr.Bytes()[back.InnerOff:back.Total], frame) {
			t.Fatal("the inner frame changed")
		}
		want := h
		want.InnerOff, want.Total = back.InnerOff, back.Total // options are not written again
		if want.TTL == 0 {
			want.TTL = encap.DefaultTTL
		}
		if want.Kind == encap.KindVXLAN && want.SrcPort == 0 {
			want.SrcPort = back.SrcPort
		}
		if back != want {
			t.Fatalf("read back %+v, want %+v", back, want)
		}
	})
}

// Every header that Push takes is read back as it was.
func FuzzPush(f *testing.F) {
	for _, h := range headers() {
		f.Add(uint8(h.Kind), h.Src.AsSlice(), h.Dst.AsSlice(), h.VSID, h.FlowID, h.SrcPort, h.TTL, h.TOS, h.ID, inner(f, 20), uint16(34), uint16(16), true)
	}
	f.Fuzz(func(t *testing.T, kind uint8, src, dst []byte, vsid uint32, flow uint8, port uint16, ttl, tos uint8, id uint16, frame []byte, start, offset uint16, needs bool) {
		s, _ := netip.AddrFromSlice(src)
		d, _ := netip.AddrFromSlice(dst)
		h := encap.Header{Kind: encap.Kind(kind), Src: s, Dst: d, VSID: vsid, FlowID: flow, SrcPort: port, TTL: ttl, TOS: tos, ID: id}
		if s.Is4In6() || d.Is4In6() || len(frame) < packet.EthernetLen {
			return
		}
		fr := packet.NewFrame(len(frame))
		fr.Set(frame)
		fr.Offload = packet.Offload{NeedsCsum: needs, CsumStart: start, CsumOffset: offset}
		before := fr.Len()
		if !encap.Push(fr, &h) {
			if fr.Len() != before {
				t.Fatal("refused and changed")
			}
			return
		}
		var got encap.Header
		if r := encap.Parse(fr.Bytes(), &got); r != drop.None {
			t.Fatalf("%+v is read as %s", h, r)
		}
		want := h
		want.InnerOff, want.Total = got.InnerOff, fr.Len()
		want.TTL = got.TTL
		switch {
		case h.Kind == encap.KindNVGRE:
			want.SrcPort = 0
		default:
			want.FlowID = 0
			if port == 0 {
				want.SrcPort = got.SrcPort
			}
		}
		if s.Is6() {
			want.ID = 0
		}
		if got != want || ttl != 0 && got.TTL != ttl {
			t.Fatalf("read back %+v, want %+v", got, want)
		}
		if h.Kind == encap.KindVXLAN && s.Is6() && packet.CompleteChecksum(fr) {
			udp := fr.Bytes()[40:]
			if packet.Checksum(udp, packet.PseudoSum(s, d, packet.ProtoUDP, len(udp))) != 0 {
				t.Fatal("the outer UDP checksum is wrong")
			}
		}
	})
}
