package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/ip4defrag"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// fragments cuts b for the MTU.
func fragments(t testing.TB, f *packet.Frame, mtu int) [][]byte {
	t.Helper()
	var s packet.Fragments
	if r := s.Start(f, mtu); r != drop.None {
		t.Fatalf("not cut: %s", r)
	}
	var out [][]byte
	dst := packet.NewFrame(2000)
	for s.Left() > 0 {
		if !s.Next(dst) {
			t.Fatal("no fragment")
		}
		out = append(out, bytes.Clone(dst.Bytes()))
	}
	if s.Next(dst) {
		t.Fatal("one more fragment than announced")
	}
	return out
}

// rejoinIPv4 puts fragments together by their offsets.
func rejoinIPv4(t testing.TB, frames [][]byte) []byte {
	t.Helper()
	data, total, have := make([]byte, 1<<17), -1, 0
	for _, b := range frames {
		h := decode(t, b)
		part := b[h.L4 : h.L3+h.Length]
		copy(data[h.FragOffset:], part)
		have += len(part)
		if !h.MoreFragments {
			total = int(h.FragOffset) + len(part)
		}
	}
	if total != have {
		t.Fatalf("%d bytes in the fragments, the last ends at %d", have, total)
	}
	return data[:total]
}

func mayFragment(t testing.TB, n int, options ...layers.IPv4Option) []byte {
	ip := ipv4(layers.IPProtocolUDP)
	ip.Flags, ip.Options = 0, options
	return serialize(t, ether(layers.EthernetTypeIPv4), ip, udp(), payload(n))
}

func TestFragment(t *testing.T) {
	for _, n := range []int{0, 100, 1372, 1373, 3000, 20000} {
		for _, mtu := range []int{68, 576, 1400, 1458} {
			b := mayFragment(t, n)
			h := decode(t, b)
			out := fragments(t, newFrame(t, b), mtu)
			if got := rejoinIPv4(t, out); !bytes.Equal(got, b[h.L4:h.L3+h.Length]) {
				t.Fatalf("%d bytes, MTU %d: the data changed", n, mtu)
			}
			room := (mtu - 20) &^ 7
			if want := max(1, (n+8+room-1)/room); len(out) != want {
				t.Errorf("%d bytes, MTU %d: %d fragments, want %d", n, mtu, len(out), want)
			}
			for i, p := range out {
				g := decode(t, p)
				if g.Length > mtu || g.MoreFragments != (i < len(out)-1) || binary.BigEndian.Uint16(p[18:]) != 0x1234 || g.TTL != 64 {
					t.Errorf("%d bytes, MTU %d: fragment %d: %+v", n, mtu, i, g)
				}
			}
		}
	}
}

func TestFragmentAgreesWithGopacket(t *testing.T) {
	b := mayFragment(t, 5000)
	d := ip4defrag.NewIPv4Defragmenter()
	var whole *layers.IPv4
	for _, p := range fragments(t, newFrame(t, b), 1400) {
		in := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer().(*layers.IPv4)
		out, err := d.DefragIPv4(in)
		must(t, err)
		if out != nil {
			whole = out
		}
	}
	if whole == nil || !bytes.Equal(whole.Payload, b[34:]) {
		t.Error("gopacket puts together something else")
	}
}

// Options go with the first fragment, and those marked so with all.
func TestFragmentOptions(t *testing.T) {
	copied := layers.IPv4Option{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}} // router alert
	once := layers.IPv4Option{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}
	b := mayFragment(t, 3000, once, layers.IPv4Option{OptionType: 1}, copied)
	h := decode(t, b)
	out := fragments(t, newFrame(t, b), 1400)
	for i, p := range out {
		g := decode(t, p)
		want := 24
		if i == 0 {
			want = h.L4 - h.L3
			if !bytes.Equal(p[34:14+want], b[34:14+want]) {
				t.Errorf("the first fragment has options %x", p[34:14+want])
			}
		} else if !bytes.Equal(p[34:38], []byte{0x94, 4, 0, 0}) {
			t.Errorf("fragment %d has options %x", i, p[34:38])
		}
		if g.L4-g.L3 != want || g.Length > 1400 {
			t.Errorf("fragment %d: header of %d bytes, want %d", i, g.L4-g.L3, want)
		}
	}
	if got := rejoinIPv4(t, out); !bytes.Equal(got, b[h.L4:h.L3+h.Length]) {
		t.Error("the data changed")
	}
	// An option that lies about its length ends the list.
	bad := edit(b, true, 35, 200)
	if out := fragments(t, newFrame(t, bad), 1400); decode(t, out[1]).HasOptions {
		t.Error("an option was copied from beyond the header")
	}
}

func TestFragmentOfAFragment(t *testing.T) {
	b := mayFragment(t, 5000)
	var again [][]byte
	for _, p := range fragments(t, newFrame(t, b), 1400) {
		again = append(again, fragments(t, newFrame(t, p), 576)...)
	}
	if got := rejoinIPv4(t, again); !bytes.Equal(got, b[34:]) {
		t.Error("the data changed")
	}
}

func TestFragmentCompletesTheChecksum(t *testing.T) {
	b := mayFragment(t, 3000)
	f := newFrame(t, b)
	partial(t, f)
	if got := rejoinIPv4(t, fragments(t, f, 1400)); !bytes.Equal(got, b[34:]) {
		t.Error("the checksum is wrong")
	}
}

func TestFragmentRefuses(t *testing.T) {
	gso := newFrame(t, mayFragment(t, 3000))
	gso.Offload = packet.Offload{GSO: packet.GSOUDP, GSOSize: 1000}
	sum := newFrame(t, mayFragment(t, 3000))
	sum.Offload = packet.Offload{NeedsCsum: true, CsumStart: 9000}
	for name, c := range map[string]struct {
		f    *packet.Frame
		mtu  int
		want drop.Reason
	}{
		"DF":        {newFrame(t, frameUDP4(t, 3000)), 1400, drop.TooBig},
		"IPv6":      {newFrame(t, frameUDP6(t, 3000)), 1400, drop.TooBig},
		"ARP":       {newFrame(t, ndARP(t)), 1400, drop.TooBig},
		"MTU 67":    {newFrame(t, mayFragment(t, 3000)), 67, drop.TooBig},
		"super":     {gso, 1400, drop.GSOUnsupported},
		"checksum":  {sum, 1400, drop.ChecksumUnsupported},
		"malformed": {newFrame(t, mayFragment(t, 3000)[:50]), 1400, drop.InnerTruncated},
	} {
		var s packet.Fragments
		if r := s.Start(c.f, c.mtu); r != c.want || s.Left() != 0 {
			t.Errorf("%s: %s with %d left, want %s", name, r, s.Left(), c.want)
		}
	}
	var s packet.Fragments
	s.Start(newFrame(t, mayFragment(t, 3000)), 1400)
	if s.Next(packet.NewFrame(1389)) || s.Left() != 3 {
		t.Error("a fragment was put into too small a frame, or is lost")
	}
}
