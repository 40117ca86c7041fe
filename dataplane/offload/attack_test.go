package offload

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// What somebody on the fabric may forge: all that a tunnel packet says, in any
// combination. What is due to each is said by the examples' own words (belongs), and
// by nothing that is under test.

// attack is a packet to the gateway's machine.
type attack struct {
	src, dst   netip.Addr // of the outer packet
	tunnel     string
	vsid       uint32
	smac, dmac [6]byte
	from, to   netip.Addr // of the inner packet
	n          int        // it is marked with
}

func (a attack) String() string {
	return fmt.Sprintf("outer %s > %s, %s, VSID %d, inner %x > %x, %s > %s", a.src, a.dst, a.tunnel, a.vsid, a.smac, a.dmac, a.from, a.to)
}

// The kinds of tunnels, and of what only looks like one.
var tunnelKinds = []string{
	"nvgre", "vxlan", "nvgre without key", "nvgre with a checksum", "nvgre with a sequence number", "nvgre of version 1", "nvgre with IPv4 inside",
	"vxlan without VNI",
}

var (
	attackTenants = examples[:4]
	ourPAs        = []netip.Addr{netip.MustParseAddr("192.168.1.1"), pa6(1)}
	everybody     = [6]byte{255, 255, 255, 255, 255, 255}
	outside       = [2]netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2001:db8::5")}
)

func oneOf[T comparable](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func (v vm) ca(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr(v.six)
	}
	return netip.MustParseAddr(v.four)
}

// drawAttack draws a packet that would be right, and changes some of what it says;
// now and then it is forged from first to last.
func drawAttack(t testing.TB, r *rand.Rand, n int) attack {
	e := oneOf(r, attackTenants)
	vms := e.vms(t)
	a := attack{n: n}
	six := r.IntN(2) == 0
	from := vms[1+r.IntN(4)]
	to := oneOf(r, slices.DeleteFunc(e.vms(t), func(v vm) bool { return v.host != 0 }))
	a.src, a.dst = e.paOf(from.host), e.paOf(0)
	a.tunnel = map[hnv.Encap]string{hnv.NVGRE: "nvgre", hnv.VXLAN: "vxlan"}[e.encap]
	a.vsid, a.smac, a.dmac, a.from, a.to = to.vsid, from.mac.Bytes(), to.mac.Bytes(), from.ca(six), to.ca(six)
	if from.vsid != to.vsid || r.IntN(4) == 0 {
		a.smac = routerMAC
	}
	if to.behind && r.IntN(2) == 0 {
		a.to = outside[map[bool]int{false: 0, true: 1}[six]]
	}
	if r.IntN(12) == 0 { // to all
		a.smac, a.dmac, a.vsid = from.mac.Bytes(), everybody, from.vsid
		a.to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if six {
			a.to = netip.MustParseAddr("ff02::1")
			a.dmac = [6]byte{0x33, 0x33, 0, 0, 0, 1}
		}
	}
	times := r.IntN(4)
	if r.IntN(8) == 0 {
		times = 40
	}
	for range times {
		a.forge(t, r, six)
	}
	return a
}

// forge changes one thing.
func (a *attack) forge(t testing.TB, r *rand.Rand, six bool) {
	other := oneOf(r, attackTenants)
	vms := other.vms(t)
	v := oneOf(r, vms)
	sources := addrs("192.168.1.1", "192.168.1.10", "192.168.2.10", "192.168.9.9", "224.0.0.5", "255.255.255.255", "192.168.1.255", "127.0.0.1", "10.1.1.11")
	targets := addrs("192.168.1.1", "192.168.1.1", "192.168.1.10", "192.168.1.255", "255.255.255.255", "224.0.0.5", "192.168.9.9")
	if a.dst.Is6() {
		sources = append(addrs("ff02::1", "::1", "fe80::1", "fd00:1::11"), pa6(1), pa6(10), pa6(19), pa6(99))
		targets = append(addrs("ff02::1", "fe80::1"), pa6(1), pa6(1), pa6(10))
	}
	inner := addrs("10.1.1.1", "10.254.254.1", "10.1.1.255", "127.0.0.1", "8.8.8.8", "10.1.1.99", "224.0.0.5", "255.255.255.255", "0.0.0.0", "192.168.1.10")
	if six {
		inner = append(addrs("fd00:1::1", "fd00:fe::1", "::1", "2001:db8::5", "fd00:1::99", "ff02::1", "::", "fe80::1"), pa6(10))
	}
	if r.IntN(2) == 0 {
		inner = []netip.Addr{v.ca(six)}
	}
	macs := [][6]byte{routerMAC, v.mac.Bytes(), v.mac.Bytes(), everybody, {}, {0, 0x15, 0x5d, 9, 9, 9}, {0x33, 0x33, 0, 0, 0, 1}}
	switch r.IntN(9) {
	case 0:
		a.src = oneOf(r, sources)
	case 1:
		a.dst = oneOf(r, targets)
	case 2: // of the other family
		if a.src, a.dst = other.paOf(1+r.IntN(2)), other.paOf(0); r.IntN(4) == 0 {
			a.src = a.dst
		}
	case 3:
		a.tunnel = oneOf(r, tunnelKinds)
	case 4:
		a.vsid = oneOf(r, []uint32{other.base, other.base + 1, other.base + 2, other.base + 3, 9999, 0, 1, 4095, 4096, 0xffffff, 0xfffffe})
	case 5:
		a.smac = oneOf(r, macs)
	case 6:
		a.dmac = oneOf(r, macs)
	case 7:
		a.from = oneOf(r, inner)
	case 8:
		a.to = oneOf(r, inner)
	}
}

func (a attack) mark() string { return fmt.Sprintf("<attack %06d>", a.n) }

// inner and outer are the packet's bytes.
func (a attack) inner() []byte {
	eth := &layers.Ethernet{SrcMAC: a.smac[:], DstMAC: a.dmac[:], EthernetType: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: 40000, DstPort: 40001}
	data := gopacket.Payload(fmt.Sprintf("%-40s", a.mark()))
	if a.from.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: a.from.AsSlice(), DstIP: a.to.AsSlice()}
		_ = udp.SetNetworkLayerForChecksum(ip)
		return serialize(eth, ip, udp, data)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: a.from.AsSlice(), DstIP: a.to.AsSlice()}
	_ = udp.SetNetworkLayerForChecksum(ip)
	return serialize(eth, ip, udp, data)
}

func (a attack) outer() []byte {
	b := wrap(outer{src: a.src, dst: a.dst, vxlan: a.tunnel[0] == 'v', vsid: a.vsid}, a.inner())
	l4 := 20
	if a.src.Is6() {
		l4 = 40
	}
	switch a.tunnel {
	case "nvgre without key":
		binary.BigEndian.PutUint16(b[l4:], 0)
	case "nvgre with a checksum":
		binary.BigEndian.PutUint16(b[l4:], 0xa000)
	case "nvgre with a sequence number":
		binary.BigEndian.PutUint16(b[l4:], 0x3000)
	case "nvgre of version 1":
		binary.BigEndian.PutUint16(b[l4:], 0x2001)
	case "nvgre with IPv4 inside":
		binary.BigEndian.PutUint16(b[l4+2:], 0x0800)
	case "vxlan without VNI":
		b[l4+8] = 0
	}
	return b
}

// due is what becomes of a packet: the ports that get it, by name, and if there are
// none, why. ours tells that it is for us to count.
type due struct {
	ports []string
	ours  bool
	why   string
}

// belongs says what is due to the packet, by the examples.
func (a attack) belongs(t testing.TB) due {
	no := func(why string) due { return due{ours: true, why: why} }
	if !slices.Contains(ourPAs, a.dst) {
		return due{why: "it is to none of our provider addresses"}
	}
	if a.tunnel != "nvgre" && a.tunnel != "vxlan" {
		return no("it is no tunnel of ours")
	}
	if slices.Contains(ourPAs, a.src) {
		return no("nobody else sends from our provider addresses")
	}
	i := slices.IndexFunc(attackTenants, func(e example) bool { return a.vsid >= e.base && a.vsid <= e.base+2 })
	if i < 0 {
		return no("no tenant has the VSID")
	}
	e := attackTenants[i]
	if kind := map[hnv.Encap]string{hnv.NVGRE: "nvgre", hnv.VXLAN: "vxlan"}[e.encap]; a.tunnel != kind {
		return no("the tenant's hosts send by the other kind of tunnel")
	}
	if a.smac[0]&1 != 0 || a.smac == [6]byte{} {
		return no("no station has that MAC")
	}
	group := a.to.IsMulticast() || a.to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		a.to == netip.MustParseAddr("10.1.1.255") && a.vsid == e.base+1 || a.to == netip.MustParseAddr("10.1.2.255") && a.vsid == e.base+2
	forAll := a.dmac[0]&1 != 0 || a.to.IsMulticast() || a.to == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	// Who sends: a station's own host, in its name or as its router. To a group, a
	// station of the virtual subnet may send from an address of the link.
	var from *vm
	for _, v := range e.vms(t) {
		if v.ca(a.from.Is6()) == a.from || forAll && a.from.IsLinkLocalUnicast() && a.from.Is6() && v.vsid == a.vsid && v.mac.Bytes() == a.smac {
			from = &v
		}
	}
	switch {
	case from == nil:
		return no("no station has the inner source")
	case from.host == 0:
		return no("the inner source is at our machine")
	case e.paOf(from.host) != a.src:
		return no("the inner source is at another host")
	case a.smac != from.mac.Bytes() && a.smac != routerMAC:
		return no("the inner source has another MAC")
	}
	// Who gets it: the station that has both addresses, in this virtual subnet.
	var here []vm
	for _, v := range e.vms(t) {
		if v.host == 0 && v.vsid == a.vsid {
			here = append(here, v)
		}
	}
	if forAll {
		switch {
		case !group || a.dmac[0]&1 == 0:
			return no("it is for a group by one of its addresses only")
		case a.dmac != everybody && !a.to.IsMulticast():
			return no("it is for a group by its MAC, and for all by its address")
		case len(here) == 0:
			return no("we have no station in the virtual subnet")
		}
		var all []string
		for _, v := range here {
			all = append(all, e.portName(v))
		}
		return due{ports: all, ours: true}
	}
	for _, v := range here {
		switch {
		case v.mac.Bytes() != a.dmac:
			continue
		case v.ca(a.to.Is6()) == a.to, v.behind && (slices.Contains(outside[:], a.to) || a.to == netip.MustParseAddr("192.168.1.10") || a.to == pa6(10)):
			return due{ports: []string{e.portName(v)}, ours: true}
		}
		return no("the station has not the inner destination")
	}
	return no("no station of ours in the virtual subnet has the MAC")
}
