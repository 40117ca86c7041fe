package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// super gives a frame as the kernel hands over a super-packet: the transport
// checksum partial, to be cut into segments of size bytes.
func super(t testing.TB, b []byte, gso packet.GSOType, size uint16) *packet.Frame {
	t.Helper()
	f := newFrame(t, b)
	partial(t, f)
	f.Offload.GSO, f.Offload.GSOSize = gso, size
	return f
}

// segments cuts f and gives every segment's bytes.
func segments(t testing.TB, f *packet.Frame) [][]byte {
	t.Helper()
	var s packet.Segments
	if r := s.Start(f); r != drop.None {
		t.Fatalf("not cut: %s", r)
	}
	var out [][]byte
	dst := packet.NewFrame(2000)
	for left := s.Left(); left > 0; left-- {
		if s.Left() != left || !s.Next(dst) {
			t.Fatalf("%d segments left, want %d", s.Left(), left)
		}
		if dst.Offload != (packet.Offload{}) {
			t.Fatalf("a segment has work left: %+v", dst.Offload)
		}
		out = append(out, bytes.Clone(dst.Bytes()))
	}
	if s.Next(dst) {
		t.Fatal("one more segment than announced")
	}
	return out
}

// rejoinTCP is what a receiver makes of segments: every byte goes where its
// sequence number says.
func rejoinTCP(t testing.TB, frames [][]byte, first uint32, length int) []byte {
	t.Helper()
	data, seen := make([]byte, length), make([]bool, length)
	for _, b := range frames {
		checksumsAreRight(t, b)
		h := decode(t, b)
		tcp := b[h.L4 : h.L3+h.Length]
		off := binary.BigEndian.Uint32(tcp[4:]) - first
		for i, c := range tcp[int(tcp[12]>>4)*4:] {
			at := int(off) + i
			if at >= length || seen[at] {
				t.Fatalf("byte %d of %d comes twice or is beyond", at, length)
			}
			data[at], seen[at] = c, true
		}
	}
	for i := range seen {
		if !seen[i] {
			t.Fatalf("byte %d is missing", i)
		}
	}
	return data
}

func bigTCP(t testing.TB, six bool, n int) []byte {
	l := tcp()
	l.FIN, l.CWR, l.ECE, l.URG, l.Urgent = true, true, true, true, 1001
	l.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{1, 2, 3, 4, 5, 6, 7, 8}}}
	if six {
		return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(6), l, payload(n))
	}
	ip := ipv4(6)
	ip.Id = 0xfffe
	ip.Options = []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
	return serialize(t, ether(layers.EthernetTypeIPv4), ip, l, payload(n))
}

func TestSegmentTCP(t *testing.T) {
	for _, six := range []bool{false, true} {
		gso := map[bool]packet.GSOType{false: packet.GSOTCPv4, true: packet.GSOTCPv6}[six]
		for _, n := range []int{1, 999, 1000, 1001, 2000, 4500, 65000} {
			b := bigTCP(t, six, n)
			out := segments(t, super(t, b, gso, 1000))
			if len(out) != (n+999)/1000 {
				t.Fatalf("v6 %v, %d bytes: %d segments", six, n, len(out))
			}
			if got := rejoinTCP(t, out, 0xfffff000, n); !bytes.Equal(got, payload(n)) {
				t.Errorf("v6 %v, %d bytes: the data changed", six, n)
			}
			for i, s := range out {
				checkTCPSegment(t, s, i, len(out), six)
			}
		}
	}
}

// checkTCPSegment has gopacket read segment i of n.
func checkTCPSegment(t *testing.T, b []byte, i, n int, six bool) {
	t.Helper()
	first, last := i == 0, i == n-1
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	l := p.TransportLayer().(*layers.TCP)
	if l.Seq != 0xfffff000+uint32(i*1000) || l.Ack != 7 || !l.ACK || !l.ECE || len(l.Options) == 0 {
		t.Errorf("segment %d: %+v", i, l)
	}
	if l.CWR != first || l.FIN != last || l.PSH != last {
		t.Errorf("segment %d of %d: CWR %v FIN %v PSH %v", i, n, l.CWR, l.FIN, l.PSH)
	}
	if urgent := max(0, 1001-i*1000); int(l.Urgent) != urgent || l.URG != (urgent > 0) {
		t.Errorf("segment %d: URG %v to %d, want %d", i, l.URG, l.Urgent, urgent)
	}
	if last && len(l.Payload) > 1000 || !last && len(l.Payload) != 1000 {
		t.Errorf("segment %d of %d: %d bytes", i, n, len(l.Payload))
	}
	if six {
		if ip := p.NetworkLayer().(*layers.IPv6); int(ip.Length)+54 != len(b) || ip.FlowLabel != 0x12345 {
			t.Errorf("segment %d: %+v", i, ip)
		}
		return
	}
	if ip := p.NetworkLayer().(*layers.IPv4); ip.Id != 0xfffe+uint16(i) || int(ip.Length)+14 != len(b) || len(ip.Options) == 0 || ip.Flags != layers.IPv4DontFragment {
		t.Errorf("segment %d: %+v", i, ip)
	}
}

func TestSegmentUDP(t *testing.T) {
	for name, b := range map[string][]byte{"v4": frameUDP4(t, 4500), "v6": frameUDP6(t, 4500)} {
		var data []byte
		for i, s := range segments(t, super(t, b, packet.GSOUDP, 1000)) {
			checksumsAreRight(t, s)
			p := gopacket.NewPacket(s, layers.LayerTypeEthernet, gopacket.Default)
			l := p.TransportLayer().(*layers.UDP)
			want := min(1000, 4500-i*1000)
			if int(l.Length) != 8+want || len(l.Payload) != want || l.SrcPort != 40001 || l.Checksum == 0 {
				t.Errorf("%s: datagram %d: %+v", name, i, l)
			}
			if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Id != 0x1234+uint16(i) {
				t.Errorf("%s: datagram %d has ID %#x", name, i, ip.Id)
			}
			data = append(data, l.Payload...)
		}
		if !bytes.Equal(data, payload(4500)) {
			t.Errorf("%s: the data changed", name)
		}
	}
	// Without a checksum there is none to make.
	b := frameUDP4(t, 2000)
	b[40], b[41] = 0, 0
	f := newFrame(t, b)
	f.Offload = packet.Offload{GSO: packet.GSOUDP, GSOSize: 1000}
	for _, s := range segments(t, f) {
		if s[40]|s[41] != 0 {
			t.Error("a datagram got a checksum that the original has not")
		}
	}
}

// The checksums are made anew, whether the super-packet's was partial or not,
// and padding behind it does not become data.
func TestSegmentIgnoresChecksumAndPadding(t *testing.T) {
	b := frameTCP4(t, 3000)
	want := segments(t, super(t, b, packet.GSOTCPv4, 1000))
	f := newFrame(t, append(bytes.Clone(b), 1, 2, 3, 4))
	f.Offload = packet.Offload{GSO: packet.GSOTCPv4, GSOSize: 1000}
	for i, s := range segments(t, f) {
		if !bytes.Equal(s, want[i]) {
			t.Errorf("segment %d differs", i)
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	syn := tcp()
	syn.SYN = true
	frag := ipv4(6)
	frag.Flags = layers.IPv4MoreFragments
	for name, c := range map[string]struct {
		b    []byte
		gso  packet.GSOType
		size uint16
		want drop.Reason
	}{
		"none":         {frameTCP4(t, 2000), packet.GSONone, 1000, drop.GSOUnsupported},
		"unknown":      {frameTCP4(t, 2000), 3, 1000, drop.GSOUnsupported},
		"size 0":       {frameTCP4(t, 2000), packet.GSOTCPv4, 0, drop.GSOUnsupported},
		"size 47":      {frameTCP4(t, 2000), packet.GSOTCPv4, 47, drop.GSOUnsupported},
		"v6 as v4":     {frameTCP6(t, 2000), packet.GSOTCPv4, 1000, drop.GSOUnsupported},
		"v4 as v6":     {frameTCP4(t, 2000), packet.GSOTCPv6, 1000, drop.GSOUnsupported},
		"UDP as TCP":   {frameUDP4(t, 2000), packet.GSOTCPv4, 1000, drop.GSOUnsupported},
		"TCP as UDP":   {frameTCP4(t, 2000), packet.GSOUDP, 1000, drop.GSOUnsupported},
		"129 UDP":      {frameUDP4(t, 129), packet.GSOUDP, 1, drop.GSOUnsupported},
		"128 UDP":      {frameUDP4(t, 128), packet.GSOUDP, 1, drop.None},
		"fragment":     {serialize(t, ether(0x800), frag, tcp(), payload(2004)), packet.GSOTCPv4, 1000, drop.GSOUnsupported},
		"SYN":          {serialize(t, ether(0x800), ipv4(6), syn, payload(2000)), packet.GSOTCPv4, 1000, drop.GSOUnsupported},
		"ARP":          {ndARP(t), packet.GSOTCPv4, 1000, drop.GSOUnsupported},
		"malformed":    {frameTCP4(t, 2000)[:1000], packet.GSOTCPv4, 1000, drop.InnerTruncated},
		"VLAN":         {edit(frameTCP4(t, 2000), false, 12, 0x81, 0), packet.GSOTCPv4, 1000, drop.InnerVLAN},
		"echo as UDP ": {frameEcho4(t), packet.GSOUDP, 1000, drop.GSOUnsupported},
	} {
		f := newFrame(t, c.b)
		f.Offload = packet.Offload{GSO: c.gso, GSOSize: c.size}
		var s packet.Segments
		if r := s.Start(f); r != c.want || (r != drop.None) != (s.Left() == 0) {
			t.Errorf("%s: %s with %d left, want %s", name, r, s.Left(), c.want)
		}
	}
	var s packet.Segments
	if r := s.Start(super(t, frameTCP4(t, 2000), packet.GSOTCPv4, 1000)); r != drop.None {
		t.Fatal(r)
	}
	if s.Next(packet.NewFrame(1053)) || s.Left() != 2 {
		t.Error("a segment was put into too small a frame, or is lost")
	}
	if !s.Next(packet.NewFrame(1054)) || s.Left() != 1 {
		t.Error("the segment was not given again")
	}
}

func ndARP(t testing.TB) []byte {
	f := packet.NewFrame(64)
	if !arpRequest.Build(f, mac2, mac1) {
		t.Fatal("no room")
	}
	return f.Bytes()
}
