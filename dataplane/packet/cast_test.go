package packet_test

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestFramesForMany(t *testing.T) {
	for _, c := range []struct {
		mac                  [6]byte
		broadcast, multicast bool
	}{
		{packet.BroadcastMAC(), true, false},
		{mac1, false, false},
		{[6]byte{}, false, false},
		{[6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, false, true},
		{[6]byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}, false, false},
		{packet.MulticastMAC(netip.MustParseAddr("224.0.0.251")), false, true},
		{packet.MulticastMAC(netip.MustParseAddr("ff02::1")), false, true},
	} {
		h := packet.Headers{DstMAC: c.mac}
		if h.IsBroadcast() != c.broadcast || h.IsMulticast() != c.multicast {
			t.Errorf("%x: broadcast %v, multicast %v", c.mac, h.IsBroadcast(), h.IsMulticast())
		}
	}
}

func TestMulticastMAC(t *testing.T) {
	for group, want := range map[string][6]byte{
		"224.0.0.1":       {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01},
		"239.129.2.3":     {0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}, // 23 bits remain (RFC 1112 section 6.4)
		"239.1.2.3":       {0x01, 0x00, 0x5e, 0x01, 0x02, 0x03},
		"ff02::1:ff00:12": {0x33, 0x33, 0xff, 0x00, 0x00, 0x12},
		"ff05::1:3":       {0x33, 0x33, 0x00, 0x01, 0x00, 0x03},
	} {
		if got := packet.MulticastMAC(netip.MustParseAddr(group)); got != want {
			t.Errorf("%s: %x, want %x", group, got, want)
		}
	}
}

func TestIsBroadcastAddr(t *testing.T) {
	for _, c := range []struct {
		addr, subnet string
		want         bool
	}{
		{"255.255.255.255", "10.1.1.0/24", true},
		{"255.255.255.255", "fd00::/64", true},
		{"10.1.1.255", "10.1.1.0/24", true},
		{"10.1.1.255", "10.1.1.77/24", true}, // host bits in the prefix do not matter
		{"10.1.1.254", "10.1.1.0/24", false},
		{"10.1.1.0", "10.1.1.0/24", false},
		{"10.1.1.255", "10.1.0.0/16", false},
		{"10.1.255.255", "10.1.0.0/16", true},
		{"10.1.2.255", "10.1.1.0/24", false},
		{"10.1.1.3", "10.1.1.0/30", true},
		{"10.1.1.1", "10.1.1.0/31", false},
		{"10.1.1.1", "10.1.1.1/32", false},
		{"127.255.255.255", "0.0.0.0/1", true},
		{"255.255.255.254", "0.0.0.0/0", false},
		{"10.1.1.255", "fd00::/64", false},
		{"fd00::ffff:ffff:ffff:ffff", "fd00::/64", false},
		{"ff02::1", "10.1.1.0/24", false},
	} {
		if got := packet.IsBroadcastAddr(netip.MustParseAddr(c.addr), netip.MustParsePrefix(c.subnet)); got != c.want {
			t.Errorf("%s in %s: %v", c.addr, c.subnet, got)
		}
	}
	if packet.IsBroadcastAddr(ca1, netip.Prefix{}) || packet.IsBroadcastAddr(netip.Addr{}, netip.Prefix{}) {
		t.Error("a broadcast address of no subnet")
	}
}
