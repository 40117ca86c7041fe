package packet_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestEchoRequest(t *testing.T) {
	data := payload(57)
	for name, c := range map[string]struct {
		src, dst netip.Addr
		want     string // up to the data
	}{
		"v4": {ca1, ca2, `00155d000002 00155d000001 0800
			45 00 0055 0000 4000 40 01 2490 0a01010b 0a01010c 08 00`},
		"v6": {six1, six2, `00155d000002 00155d000001 86dd
			60000000 0041 3a 40 fd000001000000000000000000000011 fd000001000000000000000000000012 80 00`},
	} {
		f := packet.NewFrame(200)
		if !packet.BuildEchoRequest(f, mac2, mac1, c.src, c.dst, 0x1234, 7, data) {
			t.Fatalf("%s: no room", name)
		}
		if want := golden(t, c.want); !bytes.HasPrefix(f.Bytes(), want) {
			t.Errorf("%s: built\n%x, want\n%x", name, f.Bytes(), want)
		}
		checksumsAreRight(t, f.Bytes())
		p := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
		var id, seq uint16
		var got []byte
		if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
			id, seq, got = l.Id, l.Seq, l.Payload
		} else if l, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
			id, seq, got = l.Identifier, l.SeqNumber, f.Bytes()[62:]
		}
		if id != 0x1234 || seq != 7 || !bytes.Equal(got, data) {
			t.Errorf("%s: gopacket reads id %#x, seq %d, %x", name, id, seq, got)
		}

		// Whoever is asked answers with the same.
		h := decode(t, f.Bytes())
		if !h.IsEchoRequest() || h.IsEchoReply() {
			t.Errorf("%s: %+v", name, h)
		}
		var e packet.Echo
		if e.Parse(f.Bytes(), h) {
			t.Errorf("%s: a request was read as the reply %+v", name, e)
		}
		if r := packet.EchoReply(f, h); r != drop.None {
			t.Fatalf("%s: no answer: %s", name, r)
		}
		b := append(f.Bytes(), 1, 2, 3) // a padded frame
		h = decode(t, b)
		if !h.IsEchoReply() || !e.Parse(b, h) || e.ID != 0x1234 || e.Seq != 7 || !bytes.Equal(b[e.Off:e.Off+e.Len], data) {
			t.Errorf("%s: the reply is %+v", name, e)
		}
	}
}

func TestEchoRequestRefuses(t *testing.T) {
	f := packet.NewFrame(packet.MaxPacket + 100)
	for name, ok := range map[string]bool{
		"mixed families":   packet.BuildEchoRequest(f, mac1, mac2, ca1, six2, 1, 1, nil),
		"no room":          packet.BuildEchoRequest(packet.NewFrame(41), mac1, mac2, ca1, ca2, 1, 1, nil),
		"too long in IPv4": packet.BuildEchoRequest(f, mac1, mac2, ca1, ca2, 1, 1, make([]byte, 65508)),
		"too long in IPv6": packet.BuildEchoRequest(f, mac1, mac2, six1, six2, 1, 1, make([]byte, 65488)),
	} {
		if ok {
			t.Errorf("%s: built", name)
		}
	}
	if !packet.BuildEchoRequest(f, mac1, mac2, ca1, ca2, 1, 1, make([]byte, 65507)) || !packet.BuildEchoRequest(f, mac1, mac2, six1, six2, 1, 1, make([]byte, 65487)) {
		t.Error("the greatest packet is refused")
	}
}

func TestEchoParseRefuses(t *testing.T) {
	for name, request := range map[string][]byte{"v4": frameEcho4(t), "v6": frameEcho6(t)} {
		f := newFrame(t, request)
		packet.EchoReply(f, decode(t, request))
		good, h := f.Bytes(), decode(t, f.Bytes())
		fragment, other, code := *h, *h, *h
		fragment.MoreFragments, other.Proto, code.ICMPCode = true, packet.ProtoUDP, 1
		for what, c := range map[string]struct {
			b []byte
			h packet.Headers
		}{
			"checksum":  {edit(good, false, len(good)-1, ^good[len(good)-1]), *h},
			"cut short": {good[:len(good)-1], *h},
			"fragment":  {good, fragment},
			"UDP":       {good, other},
			"code":      {good, code},
			"no header": {good, packet.Headers{Version: 4, Proto: 1, L3: 14, L4: 34, Length: 27}},
		} {
			var e packet.Echo
			if e.Parse(c.b, &c.h) {
				t.Errorf("%s, %s: %+v", name, what, e)
			}
		}
		var e packet.Echo
		if !e.Parse(good, h) {
			t.Errorf("%s: the good one is refused", name)
		}
	}
}

// Whatever is read of a reply lies within the packet, and is what was asked.
func FuzzEcho(f *testing.F) {
	for _, request := range [][]byte{frameEcho4(f), frameEcho6(f)} {
		fr := newFrame(f, request)
		packet.EchoReply(fr, decode(f, request))
		f.Add(fr.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h packet.Headers
		var e packet.Echo
		if h.DecodeEthernet(b) != drop.None || !e.Parse(b, &h) {
			return
		}
		if e.Off < h.L4 || e.Off+e.Len != h.L3+h.Length || e.ID != h.ICMPID {
			t.Fatalf("%+v of %+v", e, h)
		}
		if h.HasOptions || h.SrcMAC[0]&1 != 0 || h.DstMAC[0]&1 != 0 {
			return
		}
		data := b[e.Off : e.Off+e.Len]
		fr := packet.NewFrame(len(b))
		if !packet.BuildEchoRequest(fr, h.SrcMAC, h.DstMAC, h.Dst, h.Src, e.ID, e.Seq, data) {
			t.Fatalf("the request for %+v cannot be built", e)
		}
		var g packet.Headers
		if r := g.DecodeEthernet(fr.Bytes()); r == drop.InnerSourceMAC {
			return // a reply to nobody
		} else if r != drop.None || packet.EchoReply(fr, &g) != drop.None {
			t.Fatalf("the request is %s", r)
		}
		again := decode(t, fr.Bytes())
		var e2 packet.Echo
		if !e2.Parse(fr.Bytes(), again) || e2.ID != e.ID || e2.Seq != e.Seq || !bytes.Equal(fr.Bytes()[e2.Off:e2.Off+e2.Len], data) {
			t.Fatalf("the request for %+v is answered with %+v", e, e2)
		}
	})
}
