package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Whatever is accepted lies within the input, agrees with gopacket where it has
// no extensions, and can be changed in place without losing its checksum.
func FuzzDecodeEthernet(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Add(ndARP(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h packet.Headers
		if h.DecodeEthernet(b) != drop.None {
			return
		}
		h.FlowHash()
		if h.Version == 0 {
			if h.L3 != packet.EthernetLen || h.L4 != h.L3 {
				t.Fatalf("%+v", h)
			}
			return
		}
		if h.L4 < h.L3+packet.IPv4Len || h.L3+h.Length > len(b) || h.L4 > h.L3+h.Length {
			t.Fatalf("offsets are outside: %+v of %d bytes", h, len(b))
		}
		if h.Src.BitLen() != h.Dst.BitLen() || h.Src.Is6() != (h.Version == 6) {
			t.Fatalf("addresses are of another family: %+v", h)
		}
		if !h.HasOptions && !h.IsFragment() {
			agree(t, b, &h)
		}
		if packet.DecrementTTL(b[h.L3:]) {
			packet.SetECN(b[h.L3:], packet.CE)
			var after packet.Headers
			r := after.DecodeEthernet(b)
			h.TTL, h.ECN = h.TTL-1, packet.CE
			if r != drop.None || after != h {
				t.Fatalf("%s after a hop: %+v, want %+v", r, after, h)
			}
		}
	})
}

func FuzzARP(f *testing.F) {
	f.Add(arpRequest.Append(nil))
	f.Add((&packet.ARP{Op: packet.ARPReply, SenderMAC: mac2, SenderIP: ca2, TargetMAC: mac1, TargetIP: ca1}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a packet.ARP
		if a.Parse(b) != drop.None {
			return
		}
		if got := a.Append(nil); !bytes.Equal(got, b[:packet.ARPLen]) {
			t.Fatalf("%x is written as %x", b, got)
		}
	})
}

func FuzzND(f *testing.F) {
	f.Add(ndFrame(f, solicitation, six1, packet.SolicitedNode(six2)))
	f.Add(ndFrame(f, packet.ND{Type: 136, Target: six1, LinkAddr: mac1, HasLinkAddr: true, Solicited: true}, six1, six2))
	f.Add(ndFrame(f, packet.ND{Type: 135, Target: six2}, netip.IPv6Unspecified(), packet.SolicitedNode(six2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 80 {
			// Let the fuzzer reach what is behind the checksum.
			b = bytes.Clone(b)
			b[56], b[57] = 0, 0
			fixICMPv6(b)
		}
		var h packet.Headers
		var n packet.ND
		if h.DecodeEthernet(b) != drop.None || n.Parse(b, &h) != drop.None {
			return
		}
		again := ndFrame(t, n, h.Src, h.Dst)
		var g packet.Headers
		if r := g.DecodeEthernet(again); r != drop.None {
			t.Fatalf("%+v is written as %s", n, r)
		}
		var m packet.ND
		if r := m.Parse(again, &g); r != drop.None || m != n {
			t.Fatalf("%+v reads back %s, %+v", n, r, m)
		}
	})
}

// What the gateway says about a packet is itself well-formed, goes back to the
// sender, and is never the cause of another error.
func FuzzICMP(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b, uint8(packet.TooBig), uint16(1400))
	}
	f.Fuzz(func(t *testing.T, b []byte, e uint8, mtu uint16) {
		var h, g packet.Headers
		if h.DecodeEthernet(b) != drop.None {
			return
		}
		from := router4
		if h.Version == 6 {
			from = router6
		}
		fr := packet.NewFrame(1500)
		if packet.BuildICMPError(fr, packet.ICMPError(e), b, &h, from, router, int(mtu)) {
			if r := g.DecodeEthernet(fr.Bytes()); r != drop.None {
				t.Fatalf("an error that is %s", r)
			}
			checksumsAreRight(t, fr.Bytes())
			if g.Dst != h.Src || g.Src != from || g.DstMAC != h.SrcMAC || g.Length > 1280 {
				t.Fatalf("%+v about %+v", g, h)
			}
			if packet.BuildICMPError(packet.NewFrame(1500), packet.TimeExceeded, fr.Bytes(), &g, from, router, 0) {
				t.Fatal("an error about an error")
			}
		}
		if echo := newFrame(t, b); packet.EchoReply(echo, &h) == drop.None {
			if r := g.DecodeEthernet(echo.Bytes()); r != drop.None || g.Src != h.Dst || g.Dst != h.Src || g.IsEchoRequest() {
				t.Fatalf("the reply to %+v is %s, %+v", h, r, g)
			}
			checksumsAreRight(t, echo.Bytes())
		}
	})
}

// Segments carry the super-packet's data, each within the size asked for and
// complete.
func FuzzSegment(f *testing.F) {
	// Small ones: the fuzzer shortens what it finds byte by byte.
	f.Add(frameTCP4(f, 130), uint8(packet.GSOTCPv4), uint16(60), true)
	f.Add(frameTCP6(f, 130), uint8(packet.GSOTCPv6), uint16(48), true)
	f.Add(frameUDP4(f, 40), uint8(packet.GSOUDP), uint16(15), true)
	f.Add(bigTCP(f, false, 200), uint8(packet.GSOTCPv4), uint16(100), false)
	f.Fuzz(func(t *testing.T, b []byte, gso uint8, size uint16, needs bool) {
		fr := newFrame(t, b)
		fr.Offload = packet.Offload{NeedsCsum: needs, GSO: packet.GSOType(gso), GSOSize: size}
		var s packet.Segments
		if s.Start(fr) != drop.None {
			if s.Left() != 0 {
				t.Fatal("refused with segments left")
			}
			return
		}
		h := decode(t, b)
		header, udp := h.L4+8, h.Proto == packet.ProtoUDP
		if !udp {
			header = h.L4 + int(b[h.L4+12]>>4)*4
		}
		var data []byte
		dst := packet.NewFrame(len(b))
		for n := s.Left(); n > 0; n-- {
			if s.Left() != n || !s.Next(dst) {
				t.Fatalf("%d segments left, want %d", s.Left(), n)
			}
			seg := dst.Bytes()
			g := decode(t, seg)
			l4 := seg[g.L4 : g.L3+g.Length]
			if len(seg) != g.L3+g.Length || len(seg)-header > int(size) {
				t.Fatalf("a segment of %d bytes, %d of them data, for size %d", len(seg), len(seg)-header, size)
			}
			if !udp || binary.BigEndian.Uint16(l4[6:]) != 0 {
				if packet.Checksum(l4, packet.PseudoSum(g.Src, g.Dst, g.Proto, len(l4))) != 0 {
					t.Fatal("a segment's checksum is wrong")
				}
			}
			data = append(data, seg[header:]...)
		}
		if !bytes.Equal(data, b[header:h.L3+h.Length]) {
			t.Fatal("the data changed")
		}
	})
}

func FuzzFragment(f *testing.F) {
	f.Add(mayFragment(f, 200), uint16(100))
	f.Add(mayFragment(f, 100), uint16(68))
	f.Add(frameFrag4(f, 1480, true), uint16(68))
	f.Fuzz(func(t *testing.T, b []byte, mtu uint16) {
		var s packet.Fragments
		if s.Start(newFrame(t, b), int(mtu)) != drop.None {
			return
		}
		h := decode(t, b)
		dst := packet.NewFrame(len(b))
		at := int(h.FragOffset)
		for s.Left() > 0 {
			if !s.Next(dst) {
				t.Fatal("no fragment")
			}
			p := dst.Bytes()
			var g packet.Headers
			// A cut within a transport header cannot be decoded; the IP header can.
			if r := g.DecodeEthernet(p); r != drop.None && r != drop.InnerTruncated && r != drop.InnerMalformed {
				t.Fatalf("a fragment that is %s", r)
			}
			data := p[14+int(p[14]&15)*4:]
			off := int(binary.BigEndian.Uint16(p[20:])&0x1fff) * 8
			more := p[20]&0x20 != 0
			if off != at || len(p)-14 > max(int(mtu), h.Length) || more != (s.Left() > 0 || h.MoreFragments) {
				t.Fatalf("fragment at %d, want %d; %d bytes for MTU %d; more %v", off, at, len(p)-14, mtu, more)
			}
			from := h.L4 + at - int(h.FragOffset)
			if !bytes.Equal(data, b[from:from+len(data)]) {
				t.Fatal("the data changed")
			}
			at += len(data)
		}
		if at != int(h.FragOffset)+h.Length-(h.L4-h.L3) {
			t.Fatalf("the fragments end at %d", at)
		}
	})
}
