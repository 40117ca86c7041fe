package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var (
	ca1  = netip.MustParseAddr("10.1.1.11")
	ca2  = netip.MustParseAddr("10.1.1.12")
	six1 = netip.MustParseAddr("fd00:1::11")
	six2 = netip.MustParseAddr("fd00:1::12")
)

func tcp4() packet.Headers {
	return packet.Headers{Version: 4, Src: ca1, Dst: ca2, Proto: 6, SrcPort: 40000, DstPort: 443, FragID: 7}
}

func echo4() packet.Headers {
	return packet.Headers{Version: 4, Src: ca1, Dst: ca2, Proto: 1, ICMPType: 8, ICMPID: 9}
}

func echo6() packet.Headers {
	return packet.Headers{Version: 6, Src: six1, Dst: six2, Proto: 58, ICMPType: 128, ICMPID: 9}
}

func with(h packet.Headers, change func(*packet.Headers)) *packet.Headers {
	change(&h)
	return &h
}

func TestKeyHasNoHoles(t *testing.T) {
	if n := unsafe.Sizeof(Key{}); n != 40 {
		t.Errorf("a key takes %d bytes", n)
	}
}

func TestKeyOf(t *testing.T) {
	for want, h := range map[string]*packet.Headers{
		"outbound proto 6 10.1.1.11:40000 > 10.1.1.12:443":    with(tcp4(), func(h *packet.Headers) {}),
		"outbound proto 17 [fd00:1::11]:5 > [fd00:1::12]:53":  {Version: 6, Src: six1, Dst: six2, Proto: 17, SrcPort: 5, DstPort: 53},
		"outbound proto 50 10.1.1.11:0 > 10.1.1.12:0":         {Version: 4, Src: ca1, Dst: ca2, Proto: 50},
		"outbound echo request 9 10.1.1.11 > 10.1.1.12":       with(echo4(), func(h *packet.Headers) {}),
		"outbound echo reply 9 10.1.1.11 > 10.1.1.12":         with(echo4(), func(h *packet.Headers) { h.ICMPType = 0 }),
		"outbound echo request 9 fd00:1::11 > fd00:1::12":     with(echo6(), func(h *packet.Headers) {}),
		"outbound echo reply 9 fd00:1::11 > fd00:1::12":       with(echo6(), func(h *packet.Headers) { h.ICMPType = 129 }),
		"outbound icmp type 3 code 4 10.1.1.11 > 10.1.1.12":   with(echo4(), func(h *packet.Headers) { h.ICMPType, h.ICMPCode, h.ICMPID = 3, 4, 0 }),
		"outbound icmp type 8 code 0 fd00:1::11 > fd00:1::12": with(echo6(), func(h *packet.Headers) { h.ICMPType, h.ICMPID = 8, 0 }),
		"outbound proto 58 10.1.1.11:0 > 10.1.1.12:0":         with(echo4(), func(h *packet.Headers) { h.Proto = 58 }),
		"outbound proto 6 fragment 0x7 10.1.1.11 > 10.1.1.12": with(tcp4(), func(h *packet.Headers) { h.FragOffset, h.SrcPort, h.DstPort = 1480, 0, 0 }),
		"outbound proto 44 fragment 0x10007 fd00:1::11 > fd00:1::12": with(echo6(), func(h *packet.Headers) {
			h.FragOffset, h.FragID, h.ICMPType, h.ICMPID = 1480, 0x10007, 0, 0
		}),
		"outbound ethertype 0x0806 020000000001 > ffffffffffff": {
			EtherType: 0x0806, SrcMAC: [6]byte{2, 0, 0, 0, 0, 1}, DstMAC: [6]byte{255, 255, 255, 255, 255, 255},
		},
	} {
		if got := KeyOf(Outbound, h).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// The first fragment is a packet of the flow like any other.
	first := with(tcp4(), func(h *packet.Headers) { h.MoreFragments = true })
	whole := tcp4()
	if KeyOf(Outbound, first) != KeyOf(Outbound, &whole) {
		t.Error("the first fragment is of another flow")
	}
	if KeyOf(Inbound, first) == KeyOf(Outbound, first) {
		t.Error("both directions have one key")
	}
	if got := KeyOf(Inbound, first).String(); got != "inbound proto 6 10.1.1.11:40000 > 10.1.1.12:443" {
		t.Error(got)
	}
	if s, d := KeyOf(Outbound, &whole).Source(), KeyOf(Outbound, &whole).Destination(); s != ca1 || d != ca2 {
		t.Errorf("%s > %s", s, d)
	}
	if (Key{Kind: KindEthernet}).Source().IsValid() {
		t.Error("an address without IP")
	}
}

// What makes another flow makes another key, and what does not, does not.
func TestKeysDiffer(t *testing.T) {
	h4, e4 := tcp4(), echo4()
	frag := *with(tcp4(), func(h *packet.Headers) { h.FragOffset = 8 })
	for name, c := range map[string]struct {
		h      packet.Headers
		change func(*packet.Headers)
		same   bool
	}{
		"source":              {h4, func(h *packet.Headers) { h.Src = h.Src.Next() }, false},
		"destination":         {h4, func(h *packet.Headers) { h.Dst = h.Dst.Next() }, false},
		"source port":         {h4, func(h *packet.Headers) { h.SrcPort++ }, false},
		"destination port":    {h4, func(h *packet.Headers) { h.DstPort++ }, false},
		"protocol":            {h4, func(h *packet.Headers) { h.Proto = 17 }, false},
		"identifier":          {e4, func(h *packet.Headers) { h.ICMPID++ }, false},
		"request or reply":    {e4, func(h *packet.Headers) { h.ICMPType = 0 }, false},
		"identification":      {frag, func(h *packet.Headers) { h.FragID++ }, false},
		"fragment's protocol": {frag, func(h *packet.Headers) { h.Proto = 17 }, false},
		"mapped address": {h4, func(h *packet.Headers) {
			h.Version, h.Src, h.Dst = 6, netip.AddrFrom16(h.Src.As16()), netip.AddrFrom16(h.Dst.As16())
		}, false},
		"TTL, DSCP, flags and MACs": {h4, func(h *packet.Headers) { h.TTL, h.DSCP, h.TCPFlags, h.SrcMAC, h.FragID = 9, 9, 9, [6]byte{9}, 9 }, true},
		"fragment's place":          {frag, func(h *packet.Headers) { h.FragOffset, h.MoreFragments = 1480, true }, true},
		"echo's code":               {e4, func(h *packet.Headers) { h.ICMPCode = 1 }, true},
	} {
		other := c.h
		c.change(&other)
		if same := KeyOf(Outbound, &c.h) == KeyOf(Outbound, &other); same != c.same {
			t.Errorf("%s changed: same key %v", name, same)
		}
	}
	// The fragments of one IPv6 packet may name different protocols.
	a := packet.Headers{Version: 6, Src: six1, Dst: six2, Proto: 17, FragOffset: 8, FragID: 1}
	b := *with(a, func(h *packet.Headers) { h.Proto = 60 })
	if KeyOf(Outbound, &a) != KeyOf(Outbound, &b) {
		t.Error("fragments of one packet have two keys")
	}
}

// The reverse is the key of the packet that answers.
func TestReverse(t *testing.T) {
	answer := func(h packet.Headers) packet.Headers {
		h.Src, h.Dst, h.SrcPort, h.DstPort = h.Dst, h.Src, h.DstPort, h.SrcPort
		return h
	}
	h4, e4, e6 := tcp4(), echo4(), echo6()
	reply4, reply6 := answer(e4), answer(e6)
	reply4.ICMPType, reply6.ICMPType = 0, 129
	stamp := *with(e4, func(h *packet.Headers) { h.ICMPType, h.ICMPID = 13, 0 })
	stamped := answer(*with(stamp, func(h *packet.Headers) { h.ICMPType = 14 }))
	mask := *with(stamp, func(h *packet.Headers) { h.ICMPType = 17 })
	masked := answer(*with(stamp, func(h *packet.Headers) { h.ICMPType = 18 }))
	node := *with(e6, func(h *packet.Headers) { h.ICMPType, h.ICMPID = 139, 0 })
	noded := answer(*with(node, func(h *packet.Headers) { h.ICMPType = 140 }))
	for name, c := range map[string][2]packet.Headers{
		"tcp": {h4, answer(h4)}, "echo4": {e4, reply4}, "echo6": {e6, reply6}, "timestamp": {stamp, stamped}, "mask": {mask, masked}, "node": {node, noded},
	} {
		k := KeyOf(Outbound, &c[0])
		if got, want := k.Reverse(), KeyOf(Inbound, &c[1]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	// A peer that is pinged may answer, and not ping back.
	request := KeyOf(Outbound, &e4)
	back := answer(e4)
	if request.Reverse() == KeyOf(Inbound, &back) {
		t.Error("a request of the peer passes for its reply")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 10000 {
		k := randomKey(r)
		k.Dir, k.Kind, k.SrcPort = uint8(r.IntN(4)), uint8(r.IntN(7)), uint16(r.IntN(300))
		k.Family = []uint8{0, 4, 6}[r.IntN(3)]
		if k.Reverse().Reverse() != k {
			t.Fatalf("%+v reversed twice is %+v", k, k.Reverse().Reverse())
		}
		if k.Dir%3 != 0 && k.Reverse() == k {
			t.Fatalf("%+v is its own reverse", k)
		}
	}
}

func randomKey(r *rand.Rand) (k Key) {
	for i := range k.Src {
		k.Src[i], k.Dst[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	k.SrcPort, k.DstPort = uint16(r.Uint32()), uint16(r.Uint32())
	k.Proto, k.Family, k.Dir = 6, 6, Outbound
	return k
}

// FuzzKeyOf takes whatever the decoder lets pass.
func FuzzKeyOf(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var h packet.Headers
		if h.DecodeEthernet(b) != 0 {
			return
		}
		k := KeyOf(Outbound, &h)
		if k.Reverse().Reverse() != k || k.Reverse().Dir != Inbound || k.Dir != Outbound {
			t.Fatalf("%+v", k)
		}
		if k.Family != h.Version || (k.Kind == KindEthernet) != (h.Version == 0) || (k.Kind == KindFragment) != (h.FragOffset != 0) {
			t.Fatalf("%+v of %+v", k, h)
		}
		if h.Version != 0 && (k.Source() != h.Src || k.Destination() != h.Dst) {
			t.Fatalf("%s > %s, want %s > %s", k.Source(), k.Destination(), h.Src, h.Dst)
		}
		if c := k.class(); (c == classTCP) != (h.Version != 0 && h.Proto == 6 && h.FragOffset == 0) {
			t.Fatalf("%s: class %d", k, c)
		}
	})
}
