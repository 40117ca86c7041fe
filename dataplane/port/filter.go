package port

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// Numbers of the tunnels' wire formats, and where they stand in an Ethernet
// frame.
const (
	ethLen       = 14
	etherTypeOff = 12
	etherTypeIP4 = 0x0800
	etherTypeIP6 = 0x86dd

	protoHopByHop = 0
	protoUDP      = 17
	protoFragment = 44 // the IPv6 fragment header
	protoGRE      = 47
	protoICMPv6   = 58
	protoDestOpts = 60
	vxlanPort     = 4789

	neighbourSolicitation  = 135
	neighbourAdvertisement = 136

	ip4Words = 0x0f // the header's length, in the first byte
	ip4Least = 5    // words of a header without options
	ip4Frag  = ethLen + 6
	ip4Proto = ethLen + 9
	ip4Dst   = ethLen + 16
	ip6Next  = ethLen + 6
	ip6Dst   = ethLen + 24
	ip6Len   = 40

	fragOffset4 = 0x1fff // the offset's bits in IPv4
	fragOffset6 = 0xfff8 // the offset's bits in the IPv6 fragment header
	fragHdrLen  = 8

	packetHost      = 0 // PACKET_HOST: for this machine's MAC address
	packetMulticast = 2 // PACKET_MULTICAST: for a group's
	vlanIDMask      = 0x0fff
)

var (
	accept = bpf.RetConstant{Val: 0x40000} // the whole frame, whatever its length
	reject = bpf.RetConstant{Val: 0}
)

// The cells of a filter's memory.
const (
	cellType = iota // of the packet: for whose MAC address it is
	cellNext        // the protocol behind an IPv6 extension header
)

// providerFilter is the program that lets pass what is to be read, and nothing
// else:
//
//   - untagged (VLAN 0 counts as such), IPv4 or IPv6;
//   - to this machine's MAC address and one of its provider addresses, or to a
//     group's MAC address and a multicast group;
//   - unless the address stands for a CA: GRE, or UDP to port 4789, or a fragment
//     of GRE, or a fragment of UDP that does not show its port, or UDP whose IPv4
//     header is shorter than a header can be, so that nobody can tell its port;
//     in IPv6 behind up to two headers with options, as some tunnels put them;
//   - if it does, everything but IPv6 neighbor discovery, which is the kernel's.
//
// Whether it is well formed is for encap.Parse to say and to count: the filter
// checks neither version nor lengths, but a frame that ends before what it must
// look at is rejected. So is whose virtual subnet it is: the filter lets pass
// what the machine's own stack gets as well.
//
// It is that of one interface: a group's packets also come where the group is not
// joined, and would be read several times.
func providerFilter(a Addresses, ifname string) ([]bpf.Instruction, error) {
	all, err := a.classified(ifname)
	if err != nil {
		return nil, err
	}
	p := newProgram()
	mine, untagged, v4, v6 := p.label(), p.label(), p.label(), p.label()

	p.add(bpf.LoadExtension{Num: bpf.ExtType})
	p.when(bpf.JumpEqual, packetHost, mine)
	p.when(bpf.JumpEqual, packetMulticast, mine)
	p.add(reject)
	p.place(mine)
	p.add(bpf.StoreScratch{Src: bpf.RegA, N: cellType})

	// The tag of a tagged frame stands beside it, and a stale one may stand
	// beside an untagged frame.
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	p.when(bpf.JumpEqual, 0, untagged)
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	p.when(bpf.JumpBitsNotSet, vlanIDMask, untagged)
	p.add(reject)
	p.place(untagged)

	p.add(bpf.LoadAbsolute{Off: etherTypeOff, Size: 2})
	p.when(bpf.JumpEqual, etherTypeIP4, v4)
	p.when(bpf.JumpEqual, etherTypeIP6, v6)
	p.add(reject)

	p.place(v4)
	to := p.destination(all, true, ip4Dst)
	p.family(to, p.tunnel4, nil)
	p.place(v6)
	to = p.destination(all, false, ip6Dst)
	p.family(to, p.tunnel6, p.neighbour6)
	return p.done(), nil
}

// destination jumps to the label of the class that the address at off has, or
// rejects. It looks for the address by halves of the last word, in which
// addresses of one network differ.
func (p *program) destination(all map[netip.Addr]class, four bool, off uint32) [classes]label {
	var to [classes]label
	for c := range to {
		to[c] = p.label()
	}
	type known struct {
		words []uint32
		class class
	}
	var list []known
	for a, c := range all {
		if a.Is4() != four {
			continue
		}
		b := a.AsSlice()
		k := known{class: c}
		for i := 0; i < len(b); i += 4 {
			k.words = append(k.words, binary.BigEndian.Uint32(b[i:]))
		}
		list = append(list, k)
	}
	if len(list) == 0 {
		p.add(reject)
		return to
	}
	last := len(list[0].words) - 1
	slices.SortFunc(list, func(a, b known) int {
		return cmp.Or(cmp.Compare(a.words[last], b.words[last]), slices.Compare(a.words, b.words))
	})
	p.add(bpf.LoadAbsolute{Off: off + 4*uint32(last), Size: 4})

	// same decides between addresses that share their last word.
	same := func(list []known) {
		next := p.label()
		p.when(bpf.JumpNotEqual, list[0].words[last], next)
		for _, k := range list {
			for i, w := range k.words[:last] {
				left := (last-i)*2 - 1 // instructions to the next address
				p.add(bpf.LoadAbsolute{Off: off + 4*uint32(i), Size: 4},
					bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: w, SkipTrue: uint8(left)})
			}
			p.jump(to[k.class])
			if last == 0 {
				break // an address is known once
			}
		}
		if last > 0 {
			p.add(reject)
		}
		p.place(next)
	}
	var among func(list []known)
	among = func(list []known) {
		const few = 4
		mid := len(list) / 2
		for mid > 0 && mid < len(list) && list[mid].words[last] == list[mid-1].words[last] {
			mid++
		}
		if len(list) <= few || mid == len(list) {
			for len(list) > 0 {
				n := 1
				for n < len(list) && list[n].words[last] == list[0].words[last] {
					n++
				}
				same(list[:n])
				list = list[n:]
			}
			p.add(reject)
			return
		}
		upper := p.label()
		p.when(bpf.JumpGreaterOrEqual, list[mid].words[last], upper)
		among(list[:mid])
		p.place(upper)
		among(list[mid:])
	}
	among(list)
	return to
}

// family decides on packets of one family, by the class of their destination.
func (p *program) family(to [classes]label, tunnel func(), neighbour func()) {
	is := func(c class, packetType uint32) {
		p.place(to[c])
		p.add(bpf.LoadScratch{Dst: bpf.RegA, N: cellType},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetType, SkipTrue: 1}, reject)
	}
	both := p.label()
	is(tunnelPA, packetHost)
	p.jump(both)
	is(groupPA, packetMulticast)
	p.place(both)
	tunnel()
	is(rewritePA, packetHost)
	if neighbour != nil {
		neighbour()
	}
	p.add(accept)
}

// tunnel4 decides on an IPv4 packet that may be a tunnel's.
func (p *program) tunnel4() {
	yes, no := p.label(), p.label()
	p.add(bpf.LoadAbsolute{Off: ip4Proto, Size: 1})
	p.when(bpf.JumpEqual, protoGRE, yes)
	p.when(bpf.JumpNotEqual, protoUDP, no)
	p.add(bpf.LoadAbsolute{Off: ip4Frag, Size: 2})
	p.when(bpf.JumpBitsSet, fragOffset4, yes)
	p.add(bpf.LoadAbsolute{Off: ethLen, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ip4Words})
	p.when(bpf.JumpLessThan, ip4Least, yes)
	p.add(bpf.LoadMemShift{Off: ethLen}, bpf.LoadIndirect{Off: ethLen + 2, Size: 2})
	p.when(bpf.JumpNotEqual, vxlanPort, no)
	p.place(yes)
	p.add(accept)
	p.place(no)
	p.add(reject)
}

// tunnel6 decides on an IPv6 packet that may be a tunnel's. The index register
// holds the length of the extension headers walked.
func (p *program) tunnel6() {
	const payload = ethLen + ip6Len
	yes, no, upper, fragment, port := p.label(), p.label(), p.label(), p.label(), p.label()
	p.add(bpf.LoadConstant{Dst: bpf.RegX}, bpf.LoadAbsolute{Off: ip6Next, Size: 1})
	for range 2 {
		options := p.label()
		p.when(bpf.JumpEqual, protoHopByHop, options)
		p.when(bpf.JumpNotEqual, protoDestOpts, upper)
		p.place(options)
		p.add(
			bpf.LoadIndirect{Off: payload, Size: 1},
			bpf.StoreScratch{Src: bpf.RegA, N: cellNext},
			bpf.LoadIndirect{Off: payload + 1, Size: 1}, // in units of 8 bytes, less one
			bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
			bpf.LoadScratch{Dst: bpf.RegA, N: cellNext})
	}
	p.place(upper)
	p.when(bpf.JumpEqual, protoGRE, yes)
	p.when(bpf.JumpEqual, protoFragment, fragment)
	p.when(bpf.JumpNotEqual, protoUDP, no)
	p.add(bpf.LoadIndirect{Off: payload + 2, Size: 2})
	p.jump(port)
	p.place(fragment)
	p.add(bpf.LoadIndirect{Off: payload, Size: 1})
	p.when(bpf.JumpEqual, protoGRE, yes)
	p.when(bpf.JumpNotEqual, protoUDP, no)
	p.add(bpf.LoadIndirect{Off: payload + 2, Size: 2})
	p.when(bpf.JumpBitsSet, fragOffset6, yes)
	p.add(bpf.LoadIndirect{Off: payload + fragHdrLen + 2, Size: 2})
	p.place(port)
	p.when(bpf.JumpNotEqual, vxlanPort, no)
	p.place(yes)
	p.add(accept)
	p.place(no)
	p.add(reject)
}

// neighbour6 rejects neighbor discovery, with which the kernel defends the
// addresses that it has.
func (p *program) neighbour6() {
	other, found := p.label(), p.label()
	p.add(bpf.LoadAbsolute{Off: ip6Next, Size: 1})
	p.when(bpf.JumpNotEqual, protoICMPv6, other)
	p.add(bpf.LoadAbsolute{Off: ethLen + ip6Len, Size: 1})
	p.when(bpf.JumpEqual, neighbourSolicitation, found)
	p.when(bpf.JumpNotEqual, neighbourAdvertisement, other)
	p.place(found)
	p.add(reject)
	p.place(other)
}
