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

var arpRequest = packet.ARP{Op: packet.ARPRequest, SenderMAC: mac1, SenderIP: ca1, TargetIP: ca2}

func TestARPGolden(t *testing.T) {
	want := golden(t, `ffffffffffff 00155d000001 0806
		0001 0800 06 04 0001 00155d000001 0a01010b 000000000000 0a01010c`)
	f := packet.NewFrame(64)
	if !arpRequest.Build(f, [6]byte{255, 255, 255, 255, 255, 255}, mac1) || !bytes.Equal(f.Bytes(), want) {
		t.Errorf("built\n%x, want\n%x", f.Bytes(), want)
	}
	var got packet.ARP
	padded := append(want[14:len(want):len(want)], make([]byte, 18)...)
	if r := got.Parse(padded); r != drop.None || got != arpRequest {
		t.Errorf("parsed %s, %+v", r, got)
	}
	if (&packet.ARP{SenderIP: ca1, TargetIP: ca1}).Build(packet.NewFrame(41), mac1, mac2) {
		t.Error("built into 41 bytes")
	}
}

func TestARPAgreesWithGopacket(t *testing.T) {
	reply := packet.ARP{Op: packet.ARPReply, SenderMAC: mac2, SenderIP: ca2, TargetMAC: mac1, TargetIP: ca1}
	f := packet.NewFrame(64)
	reply.Build(f, mac1, mac2)
	p := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	l, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || p.ErrorLayer() != nil || l.Operation != layers.ARPReply ||
		!bytes.Equal(l.SourceHwAddress, mac2[:]) || !bytes.Equal(l.SourceProtAddress, ca2.AsSlice()) ||
		!bytes.Equal(l.DstHwAddress, mac1[:]) || !bytes.Equal(l.DstProtAddress, ca1.AsSlice()) {
		t.Errorf("gopacket reads %+v", l)
	}
}

func TestARPRefuses(t *testing.T) {
	good := arpRequest.Append(nil)
	with := func(off int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], b)
		return c
	}
	for name, b := range map[string][]byte{
		"hardware type":     with(1, 6),
		"protocol type":     with(2, 0x86, 0xdd),
		"hardware length":   with(4, 8),
		"protocol length":   with(5, 16),
		"operation":         with(7, 3),
		"operation 0":       with(7, 0),
		"sender MAC group":  with(8, 0xff),
		"sender MAC zero":   with(8, 0, 0, 0, 0, 0, 0),
		"sender IP group":   with(14, 224),
		"sender broadcast":  with(14, 255, 255, 255, 255),
		"target IP group":   with(24, 239),
		"target 0xffffffff": with(24, 255, 255, 255, 255),
	} {
		if r := new(packet.ARP).Parse(b); r != drop.ARPMalformed {
			t.Errorf("%s: %s", name, r)
		}
	}
	for n := range len(good) {
		if r := new(packet.ARP).Parse(good[:n:n]); r != drop.ARPMalformed {
			t.Errorf("cut to %d bytes: %s", n, r)
		}
	}
	probe := packet.ARP{Op: packet.ARPRequest, SenderMAC: mac1, SenderIP: netip.IPv4Unspecified(), TargetIP: ca2}
	if r := new(packet.ARP).Parse(probe.Append(nil)); r != drop.None {
		t.Errorf("a probe is refused: %s", r)
	}
}

func TestBuildARPRequest(t *testing.T) {
	f := packet.NewFrame(64)
	if !packet.BuildARPRequest(f, packet.BroadcastMAC(), mac1, ca1, ca2) || !bytes.Equal(f.Bytes()[14:], arpRequest.Append(nil)) {
		t.Errorf("%x", f.Bytes())
	}
	if h := decode(t, f.Bytes()); !h.IsBroadcast() || h.SrcMAC != mac1 {
		t.Errorf("%+v", h)
	}
	if !packet.BuildARPRequest(f, mac2, mac1, ca1, ca2) || decode(t, f.Bytes()).DstMAC != mac2 {
		t.Error("it is not asked of one station")
	}
	if packet.BuildARPRequest(packet.NewFrame(41), mac2, mac1, ca1, ca2) {
		t.Error("built into 41 bytes")
	}
}
