package compartments

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// entry is an element of one of the sets in the gateway's nftables tables. Which
// fields are used depends on the set; the others are zero.
type entry struct {
	set    string
	link   string
	other  string
	addr   netip.Addr
	bits   int // of a prefix
	proto  nft.Protocol
	lo, hi uint16
	vsid   uint32
	index  int // a map's value
}

// The sets whose elements come and go. Names are unique over both tables.
const (
	setPALinks  = "pa-links"  // interfaces of the fabric
	setPA4      = "pa4"       // provider addresses
	setPA6      = "pa6"       //
	setVM4      = "vm4"       // provider addresses that stand for one CA each
	setVM6      = "vm6"       //
	setDeaf     = "deaf"      // interfaces of VMs
	setNotes    = "notes"     // what we must remember over a restart
	setExits    = "exits"     // ext peer . uplink it may leave by
	setWhole4   = "whole4"    // ext peer . external address that is all its own
	setWhole6   = "whole6"    //
	setPartial4 = "partial4"  // ext peer . external address of which it has a part
	setPartial6 = "partial6"  //
	setShared4  = "shared4"   // ext peer . address . protocol . ports or echo identifiers
	setShared6  = "shared6"   //
	setForward4 = "forward4"  // ext peer . prefix that goes as it is
	setForward6 = "forward6"  //
	setGuard4   = "guard4"    // provider addresses again, for the other table, and multicast groups of theirs
	setGuard6   = "guard6"    //
	setVMGuard4 = "vm-guard4" // likewise
	setVMGuard6 = "vm-guard6" //
	setVSIDs    = "vsids"     // virtual subnets of the dataplane
	setSteer4   = "steer4"    // address . protocol . ports -> ext peer
	setSteer6   = "steer6"    //
	noteIPv6    = "ipv6-only" // in setNotes: IPv6 forwarding was off before us
)

type part uint8

const (
	partLink part = iota
	partOther
	partAddr4
	partAddr6
	partProto
	partPorts
	partVSID
	partIndex
	partNet4
	partNet6
)

func (p part) typ() nft.Type {
	return [...]nft.Type{nft.IfName, nft.IfName, nft.IPv4Addr, nft.IPv6Addr, nft.InetProto, nft.InetService, nft.VSID, nft.IfIndex, nft.IPv4Addr, nft.IPv6Addr}[p]
}

type setSpec struct {
	name   string
	family nft.Family
	key    []part
	steers bool // a map to an interface's index
}

var setSpecs = []setSpec{
	{setPALinks, nft.Inet, []part{partLink}, false},
	{setPA4, nft.Inet, []part{partAddr4}, false},
	{setPA6, nft.Inet, []part{partAddr6}, false},
	{setVM4, nft.Inet, []part{partAddr4}, false},
	{setVM6, nft.Inet, []part{partAddr6}, false},
	{setDeaf, nft.Inet, []part{partLink}, false},
	{setNotes, nft.Inet, []part{partLink}, false},
	{setExits, nft.Inet, []part{partLink, partOther}, false},
	{setWhole4, nft.Inet, []part{partLink, partAddr4}, false},
	{setWhole6, nft.Inet, []part{partLink, partAddr6}, false},
	{setPartial4, nft.Inet, []part{partLink, partAddr4}, false},
	{setPartial6, nft.Inet, []part{partLink, partAddr6}, false},
	{setShared4, nft.Inet, []part{partLink, partAddr4, partProto, partPorts}, false},
	{setShared6, nft.Inet, []part{partLink, partAddr6, partProto, partPorts}, false},
	{setForward4, nft.Inet, []part{partLink, partNet4}, false},
	{setForward6, nft.Inet, []part{partLink, partNet6}, false},
	{setGuard4, nft.NetDev, []part{partAddr4}, false},
	{setGuard6, nft.NetDev, []part{partAddr6}, false},
	{setVMGuard4, nft.NetDev, []part{partAddr4}, false},
	{setVMGuard6, nft.NetDev, []part{partAddr6}, false},
	{setVSIDs, nft.NetDev, []part{partVSID}, false},
	{setSteer4, nft.NetDev, []part{partAddr4, partProto, partPorts}, true},
	{setSteer6, nft.NetDev, []part{partAddr6, partProto, partPorts}, true},
}

// empty gives the set's definition.
func (s setSpec) empty() nft.Set {
	out := nft.Set{Name: s.name}
	for _, p := range s.key {
		out.Key = append(out.Key, p.typ())
		out.Interval = out.Interval || p == partPorts || p == partNet4 || p == partNet6
	}
	if s.steers {
		out.Value = []nft.Type{partIndex.typ()}
	}
	return out
}

func (s setSpec) element(e entry) nft.Element {
	var out nft.Element
	for _, p := range s.key {
		out.Key = append(out.Key, e.value(p))
	}
	if s.steers {
		out.Value = []nft.Value{e.value(partIndex)}
	}
	return out
}

func (e entry) value(p part) nft.Value {
	switch p {
	case partLink:
		return nft.Name(e.link)
	case partOther:
		return nft.Name(e.other)
	case partAddr4, partAddr6:
		return nft.Addr(e.addr)
	case partNet4, partNet6:
		return nft.Prefix(netip.PrefixFrom(e.addr, e.bits))
	case partProto:
		return nft.Proto(e.proto)
	case partPorts:
		return nft.Ports(e.lo, e.hi)
	case partVSID:
		return nft.Subnet(e.vsid)
	}
	return nft.Index(e.index)
}

// entry undoes element.
func (s setSpec) entry(el nft.Element) entry {
	e := entry{set: s.name}
	for i, p := range s.key {
		e.read(p, el.Key[i])
	}
	if s.steers {
		e.read(partIndex, el.Value[0])
	}
	return e
}

func (e *entry) read(p part, v nft.Value) {
	lo, hi := v.Bounds()
	ifname := func() string { s, _, _ := strings.Cut(string(lo), "\x00"); return s }
	switch p {
	case partLink:
		e.link = ifname()
	case partOther:
		e.other = ifname()
	case partAddr4, partAddr6:
		e.addr, _ = netip.AddrFromSlice(lo)
	case partNet4, partNet6:
		e.addr, _ = netip.AddrFromSlice(lo)
		e.bits = v.Bits()
	case partProto:
		e.proto = nft.Protocol(lo[0])
	case partPorts:
		e.lo, e.hi = binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(hi)
	case partVSID:
		e.vsid = uint32(lo[0])<<16 | uint32(lo[1])<<8 | uint32(lo[2])
	case partIndex:
		e.index = int(binary.NativeEndian.Uint32(lo))
	}
}

// externalEntries say, in the inet table, what packets of an external range look
// like, and in the other where they are steered to.
func externalEntries(peer string, r hnv.ExternalRange) []entry {
	whole, partial, shared, steer, echo := setWhole4, setPartial4, setShared4, setSteer4, nft.ProtoICMP
	if r.Addr.Is6() {
		whole, partial, shared, steer, echo = setWhole6, setPartial6, setShared6, setSteer6, nft.ProtoICMPv6
	}
	if r.Whole() {
		return []entry{{set: whole, link: peer, addr: r.Addr}}
	}
	out := []entry{{set: partial, link: peer, addr: r.Addr}}
	for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP, echo} {
		out = append(out,
			entry{set: shared, link: peer, addr: r.Addr, proto: p, lo: r.Lo, hi: r.Hi},
			entry{set: steer, addr: r.Addr, proto: p, lo: r.Lo, hi: r.Hi})
	}
	return out
}

// forwardEntry lets packets of a prefix pass as they are.
func forwardEntry(peer string, p netip.Prefix) entry {
	return entry{set: ofFamily(setForward4, p.Addr().Is6()), link: peer, addr: p.Addr(), bits: p.Bits()}
}

func (e entry) steers() bool { return e.set == setSteer4 || e.set == setSteer6 }

// overlaps tells whether the kernel would refuse to hold both.
func (e entry) overlaps(o entry) bool {
	return e.set == o.set && e.link == o.link && e.other == o.other && e.addr == o.addr && e.proto == o.proto &&
		e.lo <= o.hi && o.lo <= e.hi
}

func (e entry) compare(o entry) int {
	return cmp.Or(cmp.Compare(e.set, o.set), cmp.Compare(e.link, o.link), cmp.Compare(e.other, o.other), e.addr.Compare(o.addr), cmp.Compare(e.bits, o.bits),
		cmp.Compare(e.proto, o.proto), cmp.Compare(e.lo, o.lo), cmp.Compare(e.hi, o.hi), cmp.Compare(e.vsid, o.vsid), cmp.Compare(e.index, o.index))
}

func (e entry) String() string {
	for _, s := range setSpecs {
		if s.name == e.set {
			return fmt.Sprintf("%s in set %s", s.element(e), e.set)
		}
	}
	return "element of unknown set " + e.set
}
