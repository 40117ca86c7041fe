package packet_test

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// The hash is part of what an upgrade must not change: flows would move to
// other paths of the fabric.
func TestFlowHashIsStable(t *testing.T) {
	for name, want := range map[string]uint32{
		"tcp4": hashTCP4, "tcp6": hashTCP6, "echo4": hashEcho4,
	} {
		if got := decode(t, samples(t)[name]).FlowHash(); got != want {
			t.Errorf("%s: %#08x, want %#08x", name, got, want)
		}
	}
	if got := decode(t, ndARP(t)).FlowHash(); got != hashARP {
		t.Errorf("arp: %#08x, want %#08x", got, hashARP)
	}
}

const (
	hashTCP4  = 0x7849a0ed
	hashTCP6  = 0xc5caecee
	hashEcho4 = 0x64ef1e45
	hashARP   = 0x2e6d9bfb
)

func TestFlowHashFollowsTheFlow(t *testing.T) {
	base := *decode(t, frameTCP4(t, 100))
	same := *decode(t, frameTCP4(t, 3))
	same.TTL, same.DSCP, same.TCPFlags = 1, 0, 0
	if base.FlowHash() != same.FlowHash() {
		t.Error("two packets of one flow differ")
	}
	for name, change := range map[string]func(h *packet.Headers){
		"source":           func(h *packet.Headers) { h.Src = h.Src.Next() },
		"destination":      func(h *packet.Headers) { h.Dst = h.Dst.Next() },
		"protocol":         func(h *packet.Headers) { h.Proto = packet.ProtoUDP },
		"source port":      func(h *packet.Headers) { h.SrcPort++ },
		"destination port": func(h *packet.Headers) { h.DstPort++ },
		"ports swapped":    func(h *packet.Headers) { h.SrcPort, h.DstPort = h.DstPort, h.SrcPort },
	} {
		other := base
		change(&other)
		if other.FlowHash() == base.FlowHash() {
			t.Errorf("%s changed and the hash did not", name)
		}
	}
	arp := packet.Headers{SrcMAC: mac1, DstMAC: mac2, EtherType: packet.EtherTypeARP}
	back := packet.Headers{SrcMAC: mac2, DstMAC: mac1, EtherType: packet.EtherTypeARP}
	if arp.FlowHash() == back.FlowHash() {
		t.Error("frames without IP hash alike")
	}
}

func TestFragmentsOfAPacketHashAlike(t *testing.T) {
	for _, make := range []func(testing.TB, uint16, bool) []byte{frameFrag4, frameFrag6} {
		first, mid, last := decode(t, make(t, 0, true)), decode(t, make(t, 1480, true)), decode(t, make(t, 2960, false))
		if first.SrcPort == 0 {
			t.Fatal("the first fragment shows no port")
		}
		if first.FlowHash() != mid.FlowHash() || mid.FlowHash() != last.FlowHash() {
			t.Errorf("IPv%d fragments of one packet hash apart", first.Version)
		}
	}
}

// chiSquare gives the statistic of counts against an even spread.
func chiSquare(counts []int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	want, sum := float64(total)/float64(len(counts)), 0.0
	for _, n := range counts {
		d := float64(n) - want
		sum += d * d / want
	}
	return sum
}

// Flows differ little from one another in a datacenter: neighbours' addresses
// and ports that count up. Both ends of the hash, from which the FlowID and the
// source port are taken and by whose remainder paths are chosen, must spread
// them evenly. With 256 bins the statistic has mean 255 and deviation 22.6.
func TestFlowHashSpreads(t *testing.T) {
	flows := map[string]func(i int) packet.Headers{
		"ports count up": func(i int) packet.Headers {
			return packet.Headers{Version: 4, Src: ca1, Dst: ca2, Proto: 6, SrcPort: uint16(i), DstPort: 443}
		},
		"addresses count up": func(i int) packet.Headers {
			return packet.Headers{Version: 4, Src: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Dst: ca2, Proto: 6, SrcPort: 40000, DstPort: 443}
		},
		"IPv6 hosts count up": func(i int) packet.Headers {
			a := six1.As16()
			a[14], a[15] = byte(i>>8), byte(i)
			return packet.Headers{Version: 6, Src: netip.AddrFrom16(a), Dst: six2, Proto: 17, SrcPort: 1, DstPort: 2}
		},
		"both ports count up": func(i int) packet.Headers {
			return packet.Headers{Version: 4, Src: ca1, Dst: ca2, Proto: 6, SrcPort: uint16(i), DstPort: uint16(i)}
		},
	}
	for name, flow := range flows {
		var high, low, odd [256]int
		var path [7]int
		for i := range 65536 {
			h := flow(i)
			hash := h.FlowHash()
			high[hash>>24]++
			low[hash&255]++
			odd[hash>>18&255]++ // the low bits of the source port
			path[hash%7]++
		}
		for what, counts := range map[string][]int{"high": high[:], "low": low[:], "port": odd[:]} {
			if chi := chiSquare(counts); chi > 255+4*22.6 || chi < 255-4*22.6 {
				t.Errorf("%s: %s bits give chi-square %.0f, want about 255", name, what, chi)
			}
		}
		if chi := chiSquare(path[:]); chi > 25 {
			t.Errorf("%s: 7 paths give chi-square %.1f, want about 6", name, chi)
		}
	}
}
