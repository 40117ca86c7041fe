package vfp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// condition is one part of a Match as people say it.
type condition struct {
	asked bool
	met   bool
	what  string // the field
	is    string // in the packet
	want  string
}

// conditions look at a packet one field after the other. This is Evaluate's
// verdict said again for people, and not what decides.
func (m *Match) conditions(h *packet.Headers) []condition {
	ip := h.Version != 0
	tcp := ip && h.Proto == packet.ProtoTCP
	hasPorts := tcp || ip && h.Proto == packet.ProtoUDP
	icmp := h.Version == 4 && h.Proto == packet.ProtoICMP || h.Version == 6 && h.Proto == packet.ProtoICMPv6
	proto := func(p uint8) bool { return ip && h.Proto == p }
	inside := func(ps []netip.Prefix, a netip.Addr) bool {
		return ip && slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	among := func(ps []PortRange, port uint16) bool {
		return hasPorts && slices.ContainsFunc(ps, func(r PortRange) bool { return r.Lo <= port && port <= r.Hi })
	}
	return []condition{
		macCondition("source MAC", m.SrcMAC, h.SrcMAC),
		macCondition("destination MAC", m.DstMAC, h.DstMAC),
		{m.Group, h.DstMAC[0]&1 != 0, "destination MAC", macText(h.DstMAC), "a group"},
		{m.EtherType != 0, m.EtherType == h.EtherType, "EtherType", hex(h.EtherType), hex(m.EtherType)},
		{m.Proto != nil, m.Proto != nil && proto(*m.Proto), "protocol", protoText(h), text(m.Proto)},
		{len(m.Src) > 0, inside(m.Src, h.Src), "source", h.Src.String(), list(m.Src)},
		{len(m.Dst) > 0, inside(m.Dst, h.Dst), "destination", h.Dst.String(), list(m.Dst)},
		{len(m.SrcPorts) > 0, among(m.SrcPorts, h.SrcPort), "source port", portText(hasPorts, h.SrcPort), list(m.SrcPorts)},
		{len(m.DstPorts) > 0, among(m.DstPorts, h.DstPort), "destination port", portText(hasPorts, h.DstPort), list(m.DstPorts)},
		{len(m.ICMPTypes) > 0, icmp && slices.Contains(m.ICMPTypes, h.ICMPType), "ICMP type", portText(icmp, uint16(h.ICMPType)), list(m.ICMPTypes)},
		{m.TCPFlags.Mask != 0, tcp && h.TCPFlags&m.TCPFlags.Mask == m.TCPFlags.Want, "TCP flags", hex(uint16(h.TCPFlags)), m.TCPFlags.String()},
	}
}

// met says what of a packet made the match.
func (m *Match) met(h *packet.Headers) string {
	var why []string
	for _, c := range m.conditions(h) {
		if c.asked {
			why = append(why, fmt.Sprintf("%s %s is %s", c.what, c.is, c.want))
		}
	}
	if len(why) == 0 {
		return "it matches every packet"
	}
	return strings.Join(why, ", ")
}

// unmet says the first condition that the packet does not meet.
func (m *Match) unmet(h *packet.Headers) string {
	for _, c := range m.conditions(h) {
		if c.asked && !c.met {
			return fmt.Sprintf("%s %s is not %s", c.what, c.is, c.want)
		}
	}
	return "it matches"
}

func (r PortRange) String() string {
	if r.Lo == r.Hi {
		return strconv.Itoa(int(r.Lo))
	}
	return fmt.Sprintf("%d-%d", r.Lo, r.Hi)
}

func (f FlagMatch) String() string { return fmt.Sprintf("%#02x/%#02x", f.Want, f.Mask) }

func macCondition(what string, want *[6]byte, is [6]byte) condition {
	if want == nil {
		return condition{}
	}
	return condition{true, *want == is, what, macText(is), macText(*want)}
}

func macText(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

func hex(n uint16) string { return fmt.Sprintf("%#x", n) }

func protoText(h *packet.Headers) string {
	if h.Version == 0 {
		return "none"
	}
	return strconv.Itoa(int(h.Proto))
}

func portText(has bool, port uint16) string {
	if !has {
		return "none"
	}
	return strconv.Itoa(int(port))
}

func text(n *uint8) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(int(*n))
}

// list says the values of a condition, of which one is enough.
func list[T any](s []T) string {
	const most = 4
	var b strings.Builder
	for i, v := range s {
		if i > 0 {
			b.WriteString(" or ")
		}
		if i == most {
			fmt.Fprintf(&b, "%d more", len(s)-most)
			break
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}
