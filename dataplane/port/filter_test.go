package port

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

// meta is what the kernel knows of a frame beside its bytes.
type meta struct {
	pktType    uint32
	tagPresent bool
	tci        uint16
}

// run judges the frame by the filter.
func run(t testing.TB, filter []bpf.Instruction, frame []byte, m meta) bool {
	t.Helper()
	return machine(t, filter, m)(frame)
}

// machine runs the filter. It has no kernel to ask, so that what the filter
// would ask of it is put in as constants.
func machine(t testing.TB, filter []bpf.Instruction, m meta) func(frame []byte) bool {
	t.Helper()
	prog := slices.Clone(filter)
	for i, in := range prog {
		ext, ok := in.(bpf.LoadExtension)
		if !ok {
			continue
		}
		var v uint32
		switch ext.Num {
		case bpf.ExtType:
			v = m.pktType
		case bpf.ExtVLANTagPresent:
			if m.tagPresent {
				v = 1
			}
		case bpf.ExtVLANTag:
			v = uint32(m.tci)
		default:
			t.Fatalf("the filter asks for extension %d", ext.Num)
		}
		prog[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: v}
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if n != 0 && n < len(frame) {
			t.Fatalf("the filter cuts the frame to %d bytes", n)
		}
		return n != 0
	}
}

// wanted is the filter in plain words.
func wanted(a Addresses, b []byte, m meta) bool {
	if m.tagPresent && m.tci&0xfff != 0 || len(b) < 14 {
		return false
	}
	l3 := b[14:]
	var dst netip.Addr
	var proto byte
	var l4 []byte
	hidden := false // the port: in a later fragment, or behind too short a header
	six := false
	switch binary.BigEndian.Uint16(b[12:]) {
	case 0x0800:
		if len(l3) < 20 {
			return false
		}
		dst, proto = netip.AddrFrom4([4]byte(l3[16:20])), l3[9]
		hidden = binary.BigEndian.Uint16(l3[6:])&0x1fff != 0 || l3[0]&15 < 5
		l4 = l3[min(len(l3), int(l3[0]&15)*4):]
	case 0x86dd:
		if len(l3) < 40 {
			return false
		}
		six = true
		dst, proto, l4 = netip.AddrFrom16([16]byte(l3[24:40])), l3[6], l3[40:]
	default:
		return false
	}
	is := func(list []PA) bool {
		return m.pktType == packetHost && slices.ContainsFunc(list, func(p PA) bool { return p.Addr == dst })
	}
	switch {
	case is(a.Rewrite):
		if six && proto == 58 {
			return len(l4) > 0 && l4[0] != 135 && l4[0] != 136
		}
		return true
	case is(a.Tunnel):
	case m.pktType == packetMulticast && slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Addr == dst }):
	default:
		return false
	}
	if six {
		for n := 0; n < 2 && (proto == 0 || proto == 60); n++ {
			if len(l4) < 2 {
				return false
			}
			size := 8 + 8*int(l4[1])
			proto, l4 = l4[0], l4[min(size, len(l4)):]
		}
		if proto == 44 {
			if len(l4) < 1 {
				return false
			}
			proto = l4[0]
			if proto == 17 {
				if len(l4) < 4 {
					return false
				}
				hidden = binary.BigEndian.Uint16(l4[2:])&0xfff8 != 0
				l4 = l4[min(8, len(l4)):]
			}
		}
	}
	switch proto {
	case 47:
		return true
	case 17:
		return hidden || len(l4) >= 4 && binary.BigEndian.Uint16(l4[2:]) == 4789
	}
	return false
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// ours has two addresses each that end alike.
var ours = Addresses{
	Tunnel:  pas("192.168.1.10", "192.168.2.10", "fd00::10", "fd00::1:10", "fd00:1::10"),
	Rewrite: pas("192.168.1.77", "fd00::77", "fd00:1::77"),
	Groups:  []Group{{Addr: netip.MustParseAddr("239.1.2.3")}, {Addr: netip.MustParseAddr("ff15::10")}},
}

func groupsOn(ifname string, groups ...string) (out []Group) {
	for _, g := range addrs(groups...) {
		out = append(out, Group{g, ifname})
	}
	return out
}

func pas(s ...string) (out []PA) {
	for _, a := range addrs(s...) {
		out = append(out, PA{Addr: a})
	}
	return out
}

func eth(etherType uint16, payload ...[]byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	return slices.Concat(slices.Concat([][]byte{binary.BigEndian.AppendUint16(b, etherType)}, payload)...)
}

func ip4(dst string, proto byte, frag uint16, options int) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, proto
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	return b
}

// shortHeader says of itself that it is shorter than a header can be.
func shortHeader(dst string, proto, words byte) []byte {
	b := ip4(dst, proto, 0, 0)
	b[0] = 0x40 | words
	return b
}

func ip6(dst string, next byte) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, 64
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return b
}

func frag6(next byte, off uint16) []byte {
	return []byte{next, 0, byte(off >> 8), byte(off), 0, 0, 0, 1}
}

func udpTo(port uint16) []byte { return []byte{0xc0, 0, byte(port >> 8), byte(port), 0, 8, 0, 0} }

var gre = []byte{0x20, 0, 0x65, 0x58, 0, 0x13, 0x89, 0}

// The frames that matter, and whether they may pass.
var filterCases = map[string]struct {
	frame []byte
	m     meta
	pass  bool
}{
	"NVGRE":                         {eth(0x0800, ip4("192.168.1.10", 47, 0x4000, 0), gre), meta{}, true},
	"NVGRE to the other address":    {eth(0x0800, ip4("192.168.2.10", 47, 0, 0), gre), meta{}, true},
	"NVGRE to a neighbour":          {eth(0x0800, ip4("192.168.1.11", 47, 0, 0), gre), meta{}, false},
	"NVGRE behind options":          {eth(0x0800, ip4("192.168.1.10", 47, 0, 12), gre), meta{}, true},
	"NVGRE, first fragment":         {eth(0x0800, ip4("192.168.1.10", 47, 0x2000, 0), gre), meta{}, true},
	"NVGRE, later fragment":         {eth(0x0800, ip4("192.168.1.10", 47, 100, 0)), meta{}, true},
	"VXLAN":                         {eth(0x0800, ip4("192.168.1.10", 17, 0x4000, 0), udpTo(4789)), meta{}, true},
	"VXLAN behind options":          {eth(0x0800, ip4("192.168.1.10", 17, 0, 40), udpTo(4789)), meta{}, true},
	"VXLAN to a neighbour":          {eth(0x0800, ip4("192.168.1.11", 17, 0, 0), udpTo(4789)), meta{}, false},
	"VXLAN, first fragment":         {eth(0x0800, ip4("192.168.1.10", 17, 0x2000, 0), udpTo(4789)), meta{}, true},
	"UDP, later fragment":           {eth(0x0800, ip4("192.168.1.10", 17, 0x2001, 0), udpTo(53)), meta{}, true},
	"UDP to another port":           {eth(0x0800, ip4("192.168.1.10", 17, 0, 0), udpTo(4788)), meta{}, false},
	"UDP from our port":             {eth(0x0800, ip4("192.168.1.10", 17, 0, 0), []byte{0x12, 0xb5, 0, 53, 0, 8, 0, 0}), meta{}, false},
	"UDP, options look like a port": {eth(0x0800, append(ip4("192.168.1.10", 17, 0, 0)[:20], udpTo(53)...)), meta{}, false},
	"UDP cut before the port":       {eth(0x0800, ip4("192.168.1.10", 17, 0, 0), udpTo(4789)[:3]), meta{}, false},
	"UDP, header of 16 bytes":       {eth(0x0800, shortHeader("192.168.1.10", 17, 4), udpTo(53)), meta{}, true},
	"UDP, no header at all":         {eth(0x0800, shortHeader("192.168.1.10", 17, 0), udpTo(53)), meta{}, true},
	"UDP, short, to a neighbour":    {eth(0x0800, shortHeader("192.168.1.11", 17, 4), udpTo(4789)), meta{}, false},
	"TCP, header of 16 bytes":       {eth(0x0800, shortHeader("192.168.1.10", 6, 4), udpTo(4789)), meta{}, false},
	"TCP":                           {eth(0x0800, ip4("192.168.1.10", 6, 0, 0), udpTo(4789)), meta{}, false},
	"ICMP":                          {eth(0x0800, ip4("192.168.1.10", 1, 0, 0), gre), meta{}, false},
	"IPv4 cut in its address":       {eth(0x0800, ip4("192.168.1.10", 47, 0, 0)[:19]), meta{}, false},
	"IPv4 header alone":             {eth(0x0800, ip4("192.168.1.10", 47, 0, 0)), meta{}, true},
	"ARP":                           {eth(0x0806, ip4("192.168.1.10", 47, 0, 0), gre), meta{}, false},
	"IPv4 under IPv6's number":      {eth(0x86dd, ip4("192.168.1.10", 47, 0, 0), gre), meta{}, false},
	"Ethernet header alone":         {eth(0x0800), meta{}, false},
	"nothing":                       {nil, meta{}, false},
	"NVGRE to another MAC":          {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{pktType: 3}, false},
	"NVGRE to all":                  {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{pktType: 1}, false},
	"NVGRE going out":               {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{pktType: 4}, false},
	"NVGRE in VLAN 100":             {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{tagPresent: true, tci: 100}, false},
	"NVGRE with priority 5":         {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{tagPresent: true, tci: 5 << 13}, true},
	"NVGRE out of VLAN 100":         {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{tci: 100}, true},
	"NVGRE in a VLAN, in-band":      {eth(0x8100, []byte{0, 100, 8, 0}, ip4("192.168.1.10", 47, 0, 0), gre), meta{}, false},
	"NVGRE on IPv6":                 {eth(0x86dd, ip6("fd00::10", 47), gre), meta{}, true},
	"NVGRE on IPv6, neighbour":      {eth(0x86dd, ip6("fd00::11", 47), gre), meta{}, false},
	"NVGRE on IPv6, first word":     {eth(0x86dd, ip6("fd01::10", 47), gre), meta{}, false},
	"NVGRE on IPv6, third word":     {eth(0x86dd, ip6("fd00::1:0:10", 47), gre), meta{}, false},
	"VXLAN on IPv6":                 {eth(0x86dd, ip6("fd00::1:10", 17), udpTo(4789)), meta{}, true},
	"UDP on IPv6, another port":     {eth(0x86dd, ip6("fd00::10", 17), udpTo(4790)), meta{}, false},
	"IPv6, GRE fragment":            {eth(0x86dd, ip6("fd00::10", 44), frag6(47, 8)), meta{}, true},
	"IPv6, first VXLAN fragment":    {eth(0x86dd, ip6("fd00::10", 44), frag6(17, 1), udpTo(4789)), meta{}, true},
	"IPv6, first UDP fragment":      {eth(0x86dd, ip6("fd00::10", 44), frag6(17, 1), udpTo(53)), meta{}, false},
	"IPv6, later UDP fragment":      {eth(0x86dd, ip6("fd00::10", 44), frag6(17, 8), udpTo(53)), meta{}, true},
	"IPv6, TCP fragment":            {eth(0x86dd, ip6("fd00::10", 44), frag6(6, 8), udpTo(4789)), meta{}, false},
	"IPv6, TCP":                     {eth(0x86dd, ip6("fd00::10", 6), udpTo(4789)), meta{}, false},
	"IPv6, hop-by-hop options":      {eth(0x86dd, ip6("fd00::10", 0), []byte{47, 0, 1, 4, 0, 0, 0, 0}, gre), meta{}, true},
	"IPv6, encapsulation limit":     {eth(0x86dd, ip6("fd00::10", 60), []byte{47, 0, 4, 1, 4, 1, 0, 0}, gre), meta{}, true},
	"IPv6, both kinds of options":   {eth(0x86dd, ip6("fd00::10", 0), []byte{60, 1}, make([]byte, 14), []byte{17, 0, 0, 0, 0, 0, 0, 0}, udpTo(4789)), meta{}, true},
	"IPv6, options thrice":          {eth(0x86dd, ip6("fd00::10", 60), []byte{60, 0, 0, 0, 0, 0, 0, 0}, []byte{60, 0, 0, 0, 0, 0, 0, 0}, []byte{47, 0, 0, 0, 0, 0, 0, 0}, gre), meta{}, false},
	"IPv6, options, later fragment": {eth(0x86dd, ip6("fd00::10", 60), []byte{44, 0, 0, 0, 0, 0, 0, 0}, frag6(17, 8)), meta{}, true},
	"IPv6, options, other port":     {eth(0x86dd, ip6("fd00::10", 60), []byte{17, 0, 0, 0, 0, 0, 0, 0}, udpTo(53)), meta{}, false},
	"IPv6, routing header":          {eth(0x86dd, ip6("fd00::10", 43), []byte{47, 0, 0, 0, 0, 0, 0, 0}, gre), meta{}, false},
	"IPv6, another network's end":   {eth(0x86dd, ip6("fd00:2::10", 47), gre), meta{}, false},

	"TCP to a CA's address":          {eth(0x0800, ip4("192.168.1.77", 6, 0, 0), udpTo(22)), meta{}, true},
	"NVGRE to a CA's address":        {eth(0x0800, ip4("192.168.1.77", 47, 0, 0), gre), meta{}, true},
	"ICMP to a CA's address":         {eth(0x0800, ip4("192.168.1.77", 1, 0, 0), []byte{8, 0}), meta{}, true},
	"fragment to a CA's address":     {eth(0x0800, ip4("192.168.1.77", 6, 100, 0)), meta{}, true},
	"to a CA's address, to all":      {eth(0x0800, ip4("192.168.1.77", 6, 0, 0), udpTo(22)), meta{pktType: 1}, false},
	"to a CA's address, to a group":  {eth(0x0800, ip4("192.168.1.77", 6, 0, 0), udpTo(22)), meta{pktType: 2}, false},
	"to a CA's address, VLAN":        {eth(0x0800, ip4("192.168.1.77", 6, 0, 0), udpTo(22)), meta{tagPresent: true, tci: 3}, false},
	"to a CA's address's neighbour":  {eth(0x0800, ip4("192.168.2.77", 6, 0, 0), udpTo(22)), meta{}, false},
	"IPv6, TCP to a CA's address":    {eth(0x86dd, ip6("fd00::77", 6), udpTo(22)), meta{}, true},
	"IPv6, fragment to a CA's":       {eth(0x86dd, ip6("fd00:1::77", 44), frag6(6, 8)), meta{}, true},
	"IPv6, echo to a CA's address":   {eth(0x86dd, ip6("fd00::77", 58), []byte{128, 0}), meta{}, true},
	"IPv6, error to a CA's address":  {eth(0x86dd, ip6("fd00::77", 58), []byte{2, 0}), meta{}, true},
	"IPv6, NS to a CA's address":     {eth(0x86dd, ip6("fd00::77", 58), []byte{135, 0}), meta{}, false},
	"IPv6, NA to a CA's address":     {eth(0x86dd, ip6("fd00::77", 58), []byte{136, 0}), meta{}, false},
	"IPv6, nothing to a CA's":        {eth(0x86dd, ip6("fd00::77", 58)), meta{}, false},
	"IPv6, to a CA's neighbour":      {eth(0x86dd, ip6("fd00:2::77", 6), udpTo(22)), meta{}, false},
	"NVGRE to a group":               {eth(0x0800, ip4("239.1.2.3", 47, 0, 0), gre), meta{pktType: 2}, true},
	"NVGRE to a group, but one MAC":  {eth(0x0800, ip4("239.1.2.3", 47, 0, 0), gre), meta{}, false},
	"NVGRE to a PA, a group's MAC":   {eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{pktType: 2}, false},
	"VXLAN to another group":         {eth(0x0800, ip4("239.1.2.4", 17, 0, 0), udpTo(4789)), meta{pktType: 2}, false},
	"UDP to a group":                 {eth(0x0800, ip4("239.1.2.3", 17, 0, 0), udpTo(5353)), meta{pktType: 2}, false},
	"VXLAN on IPv6 to a group":       {eth(0x86dd, ip6("ff15::10", 17), udpTo(4789)), meta{pktType: 2}, true},
	"NVGRE on IPv6 to another group": {eth(0x86dd, ip6("ff05::10", 47), gre), meta{pktType: 2}, false},
}

func TestProviderFilter(t *testing.T) {
	filter, err := providerFilter(ours, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range filterCases {
		t.Run(name, func(t *testing.T) {
			if wanted(ours, c.frame, c.m) != c.pass {
				t.Error("the oracle disagrees with the table")
			}
			if got := run(t, filter, c.frame, c.m); got != c.pass {
				t.Errorf("passes: %v, want %v", got, c.pass)
			}
			// Ending anywhere, it must be judged alike by filter and oracle.
			for n := range c.frame {
				if got := run(t, filter, c.frame[:n], c.m); got != wanted(ours, c.frame[:n], c.m) {
					t.Errorf("cut to %d bytes, passes: %v", n, got)
				}
			}
		})
	}
}

// Every address counts, also with as many as there may be, of whichever family
// and class, and whether they differ in their last word or elsewhere.
func TestProviderFilterManyAddresses(t *testing.T) {
	four := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/100, i%100) }
	most := map[string]int{"IPv4": MaxAddresses, "all kinds": MaxAddresses * 3 / 7}
	six := func(i int) string { return fmt.Sprintf("fd00::%x", i+1) }
	alike := func(i int) string { return fmt.Sprintf("fd00:%x::1", i+1) }
	mixed := func(i int) string { return []func(int) string{four, six, alike}[i%3](i) }
	for name, nth := range map[string]func(int) string{"IPv4": four, "IPv6": six, "IPv6 that end alike": alike, "all kinds": mixed} {
		var a Addresses
		served := map[netip.Addr]bool{}
		n := most[name]
		if n == 0 {
			n = MaxAddresses / 3
		}
		for i := range n {
			addr := netip.MustParseAddr(nth(i))
			served[addr] = true
			if i%2 == 0 {
				a.Tunnel = append(a.Tunnel, PA{Addr: addr})
			} else {
				a.Rewrite = append(a.Rewrite, PA{Addr: addr})
			}
		}
		filter, err := providerFilter(a, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bpf.Assemble(filter); err != nil || len(filter) > 4096 {
			t.Fatalf("%s: %d instructions: %v", name, len(filter), err)
		}
		t.Logf("%s: %d instructions", name, len(filter))
		judge := machine(t, filter, meta{})
		passes := func(a netip.Addr, proto byte) bool {
			if a.Is6() {
				return judge(eth(0x86dd, ip6(a.String(), proto), gre))
			}
			return judge(eth(0x0800, ip4(a.String(), proto, 0, 0), gre))
		}
		for i := range n {
			addr := netip.MustParseAddr(nth(i))
			if !passes(addr, 47) || passes(addr, 6) != (i%2 == 1) {
				t.Errorf("%s: %s is not served as it should be", name, addr)
			}
			for bit := range addr.BitLen() {
				b := addr.AsSlice()
				b[bit/8] ^= 0x80 >> (bit % 8)
				if other, _ := netip.AddrFromSlice(b); !served[other] && passes(other, 47) {
					t.Errorf("%s: %s is served", name, other)
				}
			}
		}
		if kept, left := a.Bounded(); left != 0 || len(kept.Tunnel) != len(a.Tunnel) || len(kept.Rewrite) != len(a.Rewrite) {
			t.Errorf("%s: %d do not fit", name, left)
		}
		a.Tunnel = append(a.Tunnel, pas("192.0.2.1", "192.0.2.2", "192.0.2.3")...)
		a.Groups = groupsOn("", "239.1.1.1")
		if _, err := providerFilter(a, ""); err == nil {
			t.Error("more than MaxAddresses are taken")
		}
		kept, left := a.Bounded()
		if _, err := providerFilter(kept, ""); err != nil || left == 0 || len(kept.Tunnel) != len(a.Tunnel) || len(kept.Groups) != 0 {
			t.Errorf("%s: %d are left out, of those for tunnels %d, and %d groups are in: %v", name, left, len(a.Tunnel)-len(kept.Tunnel), len(kept.Groups), err)
		}
	}
}

func TestProviderFilterWithoutAddresses(t *testing.T) {
	filter, err := providerFilter(Addresses{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range filterCases {
		if run(t, filter, c.frame, c.m) {
			t.Errorf("%s passes", name)
		}
	}
}

func TestAddressesThatCannotBe(t *testing.T) {
	group := netip.MustParseAddr("239.1.1.1")
	for name, a := range map[string]Addresses{
		"unset":              On(netip.Addr{}),
		"unset group":        {Groups: []Group{{}}},
		"group as PA":        On(group),
		"PA as group":        {Groups: []Group{{Addr: netip.MustParseAddr("192.168.1.10")}}},
		"tunnel and rewrite": {Tunnel: pas("192.168.1.10"), Rewrite: pas("192.168.1.10")},
	} {
		if _, err := providerFilter(a, ""); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
	if _, err := providerFilter(Addresses{Tunnel: pas("192.168.1.10", "192.168.1.10"), Groups: []Group{{group, "a"}, {group, "b"}}}, ""); err != nil {
		t.Errorf("named twice: %v", err)
	}
}

// A group is read where it is joined, and nowhere else.
func TestGroupsOfAnInterface(t *testing.T) {
	a := Addresses{Tunnel: pas("192.168.1.10"), Groups: []Group{{netip.MustParseAddr("239.1.2.3"), "a"}, {netip.MustParseAddr("239.1.2.4"), "b"}, {Addr: netip.MustParseAddr("239.1.2.5")}}}
	for ifname, want := range map[string][]bool{"a": {true, false, true}, "b": {false, true, true}, "c": {false, false, true}} {
		filter, err := providerFilter(a, ifname)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			f := eth(0x0800, ip4(fmt.Sprintf("239.1.2.%d", 3+i), 47, 0, 0), gre)
			if got := run(t, filter, f, meta{pktType: 2}); got != w {
				t.Errorf("group %d on %s passes: %v", i, ifname, got)
			}
		}
		if !run(t, filter, eth(0x0800, ip4("192.168.1.10", 47, 0, 0), gre), meta{}) {
			t.Errorf("the provider address is not served on %s", ifname)
		}
	}
}

func FuzzProviderFilter(f *testing.F) {
	filter, err := providerFilter(ours, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range filterCases {
		f.Add(c.frame, c.m.pktType, c.m.tagPresent, c.m.tci)
	}
	f.Fuzz(func(t *testing.T, frame []byte, pktType uint32, tagPresent bool, tci uint16) {
		m := meta{pktType, tagPresent, tci}
		if got, want := run(t, filter, frame, m), wanted(ours, frame, m); got != want {
			t.Errorf("passes: %v, want %v: %x %+v", got, want, frame, m)
		}
	})
}
