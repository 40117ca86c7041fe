package packet_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// plain takes all frames that come of f, checking that they are as announced.
func plain(t *testing.T, f *packet.Frame) (out [][]byte) {
	t.Helper()
	var p packet.Plain
	if r := p.Start(f); r != drop.None {
		t.Fatalf("refused: %s", r)
	}
	spare := packet.NewFrame(p.Spare())
	for left := p.Left(); left > 0; left-- {
		if p.Left() != left {
			t.Fatalf("%d left, want %d", p.Left(), left)
		}
		got := p.Next(spare)
		if got == nil || got.Offload != (packet.Offload{}) || got != f && got != spare || (got == f) != (p.Spare() == 0) {
			t.Fatalf("got %+v with %d left", got, left)
		}
		checksumsAreRight(t, got.Bytes())
		out = append(out, bytes.Clone(got.Bytes()))
	}
	if p.Left() != 0 || p.Next(spare) != nil {
		t.Fatal("one more frame than announced")
	}
	return out
}

// A sender's flags and marks come out where RFC 3168 and RFC 9293 want them,
// whatever it set.
func TestPlainTCPFlags(t *testing.T) {
	for mask := range 16 {
		for _, six := range []bool{false, true} {
			l := tcp()
			l.FIN, l.PSH, l.CWR, l.ECE = mask&1 != 0, mask&2 != 0, mask&4 != 0, mask&8 != 0
			ip4, ip6 := ipv4(6), ipv6(6)
			ip4.TOS, ip6.TrafficClass = 0xb8|packet.ECT0, 0xb8|packet.ECT0
			f := super(t, serialize(t, ether(layers.EthernetTypeIPv4), ip4, l, payload(2500)), packet.GSOTCPv4, 1000)
			if six {
				f = super(t, serialize(t, ether(layers.EthernetTypeIPv6), ip6, l, payload(2500)), packet.GSOTCPv6, 1000)
			}
			f.Offload.ECN = l.CWR
			var data []byte
			for i, b := range plain(t, f) {
				p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
				s := p.TransportLayer().(*layers.TCP)
				first, last := i == 0, i == 2
				got := fmt.Sprint(s.FIN, s.PSH, s.CWR, s.ECE, s.ACK, s.SYN, s.RST, s.Seq, s.Window)
				want := fmt.Sprint(l.FIN && last, l.PSH && last, l.CWR && first, l.ECE, true, false, false, 0xfffff000+uint32(1000*i), 1000)
				if got != want {
					t.Errorf("v6 %v, mask %d, segment %d: %s, want %s", six, mask, i, got, want)
				}
				if h := decode(t, b); h.ECN != packet.ECT0 || h.DSCP != 46 || h.TTL != 64 {
					t.Errorf("v6 %v, segment %d: %+v", six, i, h)
				}
				if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Id != 0x1234+uint16(i) {
					t.Errorf("segment %d has ID %#x", i, ip.Id)
				}
				data = append(data, s.Payload...)
			}
			if !bytes.Equal(data, payload(2500)) {
				t.Errorf("v6 %v, mask %d: the data changed", six, mask)
			}
		}
	}
}

func TestPlainUDP(t *testing.T) {
	for name, b := range map[string][]byte{"v4": frameUDP4(t, 4500), "v6": frameUDP6(t, 4500)} {
		var data []byte
		for i, s := range plain(t, super(t, b, packet.GSOUDP, 1000)) {
			p := gopacket.NewPacket(s, layers.LayerTypeEthernet, gopacket.Default)
			l := p.TransportLayer().(*layers.UDP)
			if want := min(1000, 4500-1000*i); len(l.Payload) != want || int(l.Length) != want+8 || l.Checksum == 0 {
				t.Errorf("%s: datagram %d: %+v", name, i, l)
			}
			data = append(data, l.Payload...)
		}
		if !bytes.Equal(data, payload(4500)) {
			t.Errorf("%s: the data changed", name)
		}
	}
}

// What fits is given on itself, complete.
func TestPlainWhole(t *testing.T) {
	for name, want := range samples(t) {
		f := newFrame(t, want)
		if h := decode(t, want); !h.IsFragment() && h.Proto != packet.ProtoICMP && name != "udp6 ext" {
			partial(t, f)
		}
		f.Offload.HdrLen = 54 // a hint without a GSO type means nothing
		var p packet.Plain
		if r := p.Start(f); r != drop.None || p.Left() != 1 || p.Spare() != 0 {
			t.Fatalf("%s: %s, %d left", name, r, p.Left())
		}
		if got := p.Next(nil); got != f || !bytes.Equal(f.Bytes(), want) || f.Offload != (packet.Offload{}) || p.Left() != 0 || p.Next(nil) != nil {
			t.Errorf("%s: got %x, want %x", name, f.Bytes(), want)
		}
	}
}

func TestPlainRefuses(t *testing.T) {
	var p packet.Plain
	bad := newFrame(t, frameTCP4(t, 100))
	bad.Offload = packet.Offload{NeedsCsum: true, CsumStart: 60000}
	if r := p.Start(bad); r != drop.ChecksumUnsupported || p.Left() != 0 || p.Next(bad) != nil {
		t.Errorf("%s with %d left", r, p.Left())
	}
	bad.Offload = packet.Offload{GSO: packet.GSOUDP, GSOSize: 100}
	if r := p.Start(bad); r != drop.GSOUnsupported || p.Left() != 0 || p.Next(bad) != nil {
		t.Errorf("%s with %d left", r, p.Left())
	}
	if r := p.Start(super(t, frameTCP4(t, 2000), packet.GSOTCPv4, 1000)); r != drop.None || p.Spare() != 1054 {
		t.Fatalf("%s, segments of %d bytes", r, p.Spare())
	}
	if p.Next(packet.NewFrame(1053)) != nil || p.Left() != 2 || p.Next(packet.NewFrame(1054)) == nil || p.Left() != 1 {
		t.Error("too small a frame costs a segment")
	}
	// A Plain begins anew with each frame.
	if r := p.Start(newFrame(t, frameTCP4(t, 10))); r != drop.None || p.Left() != 1 || p.Spare() != 0 {
		t.Errorf("%s with %d left", r, p.Left())
	}
}
