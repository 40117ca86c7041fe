package vfp_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// gen makes random rules and packets out of few values, so that they meet.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, seed))} }

func (g gen) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g gen, of ...T) T { return of[g.IntN(len(of))] }

func (g gen) addr(version uint8) netip.Addr {
	if version == 4 {
		return netip.AddrFrom4([4]byte{pick[byte](g, 0, 10, 10, 10, 255), pick[byte](g, 0, 1, 255), byte(g.IntN(3)), pick[byte](g, 0, 1, 2, 127, 128, 255)})
	}
	var b [16]byte
	b[0], b[7], b[8], b[15] = pick[byte](g, 0, 0xfd, 0xfd, 0xff), byte(g.IntN(3)), pick[byte](g, 0, 0x80), pick[byte](g, 0, 1, 255)
	if g.chance(10) {
		for i := range b {
			b[i] = 0xff
		}
	}
	return netip.AddrFrom16(b)
}

func (g gen) prefix(version uint8) netip.Prefix {
	a := g.addr(version)
	n := pick(g, 0, 1, 8, 15, 16, 23, 24, 25, 31, 32)
	if version == 6 {
		n = pick(g, 0, 1, 8, 63, 64, 65, 127, 128)
	}
	return netip.PrefixFrom(a, n) // host bits set, as users write it
}

func (g gen) prefixes() []netip.Prefix {
	var ps []netip.Prefix
	version := pick[uint8](g, 4, 6)
	for range 1 + g.IntN(3) {
		if g.chance(10) {
			version = 10 - version
		}
		ps = append(ps, g.prefix(version))
	}
	return ps
}

func (g gen) port() uint16 { return pick[uint16](g, 0, 1, 2, 79, 80, 81, 443, 65534, 65535) }

func (g gen) ranges() []vfp.PortRange {
	var rs []vfp.PortRange
	for range 1 + g.IntN(3) {
		a, b := g.port(), g.port()
		if g.chance(50) {
			b = a
		}
		rs = append(rs, vfp.PortRange{Lo: min(a, b), Hi: max(a, b)})
	}
	return rs
}

func (g gen) mac() [6]byte {
	return pick(g, [6]byte{0, 0x15, 0x5d, 0, 0, 1}, [6]byte{0, 0x15, 0x5d, 0, 0, 2}, [6]byte{255, 255, 255, 255, 255, 255}, [6]byte{0x33, 0x33, 0, 0, 0, 1}, [6]byte{})
}

func (g gen) proto() uint8 { return pick[uint8](g, 6, 6, 6, 17, 17, 1, 58, 47, 0, 255) }

// match asks about each field with a chance of some percent.
func (g gen) match(percent int) vfp.Match {
	var m vfp.Match
	if g.chance(percent / 4) {
		m.SrcMAC = new(g.mac())
	}
	if g.chance(percent / 4) {
		m.DstMAC = new(g.mac())
	}
	m.Group = g.chance(percent / 8)
	if g.chance(percent / 4) {
		m.EtherType = pick[uint16](g, 0x0800, 0x86dd, 0x0806)
	}
	if g.chance(percent) {
		m.Proto = new(g.proto())
	}
	if g.chance(percent) {
		m.Src = g.prefixes()
	}
	if g.chance(percent) {
		m.Dst = g.prefixes()
	}
	if g.chance(percent / 2) {
		m.SrcPorts = g.ranges()
	}
	if g.chance(percent) {
		m.DstPorts = g.ranges()
	}
	if g.chance(percent / 4) {
		m.ICMPTypes = []uint8{pick[uint8](g, 0, 8, 128, 255), pick[uint8](g, 3, 129)}
	}
	if g.chance(percent / 4) {
		mask := pick[uint8](g, packet.TCPSyn, packet.TCPSyn|packet.TCPAck, 0xff)
		m.TCPFlags = vfp.FlagMatch{Mask: mask, Want: mask & uint8(g.IntN(256))}
	}
	return m
}

// headers are as decoding a packet leaves them.
func (g gen) headers() *packet.Headers {
	h := &packet.Headers{SrcMAC: g.mac(), DstMAC: g.mac(), L3: 14, L4: 34, Version: pick[uint8](g, 4, 4, 4, 6, 6, 6, 0), TTL: 64}
	switch h.Version {
	case 0:
		h.EtherType, h.L4 = pick[uint16](g, 0x0806, 0x1234), 14
		return h
	case 4:
		h.EtherType = packet.EtherTypeIPv4
	case 6:
		h.EtherType, h.L4 = packet.EtherTypeIPv6, 54
	}
	h.Src, h.Dst, h.Proto = g.addr(h.Version), g.addr(h.Version), g.proto()
	if g.chance(20) {
		h.FragOffset = 1480
		return h
	}
	h.MoreFragments = g.chance(10)
	switch h.Proto {
	case packet.ProtoTCP:
		h.TCPFlags = uint8(g.IntN(256))
		fallthrough
	case packet.ProtoUDP:
		h.SrcPort, h.DstPort = g.port(), g.port()
	case packet.ProtoICMP, packet.ProtoICMPv6:
		h.ICMPType = pick[uint8](g, 0, 3, 8, 128, 129, 255)
	}
	return h
}

func (g gen) action(version vfp.Family) vfp.Action {
	switch g.IntN(6) {
	case 0, 1, 2:
		return vfp.Action{Kind: vfp.Allow}
	case 3:
		return vfp.Action{Kind: vfp.Punt, Queue: vfp.PuntQueue(1 + g.IntN(5))}
	case 4:
		t := vfp.Transposition{Set: vfp.SetDstMAC, NewDstMAC: g.mac()}
		if version != vfp.AnyFamily {
			t.Set |= vfp.SetDst | vfp.SetDstPort
			t.NewDst, t.NewDstPort = g.addr(uint8(version)), g.port()
		}
		return vfp.Action{Kind: vfp.Rewrite, Transposition: t}
	}
	return vfp.Action{Kind: vfp.Block, Reason: pick(g, drop.ACLDenied, drop.RateLimited)}
}

func (g gen) rules(n, percent int, f vfp.Family) []vfp.Rule {
	rules := make([]vfp.Rule, n)
	for i := range rules {
		rules[i] = vfp.Rule{ID: fmt.Sprint("r", i), Priority: uint16(g.IntN(2 * n)), Match: g.match(percent), Action: g.action(f)}
	}
	return rules
}
