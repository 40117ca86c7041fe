package port

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// MaxAddresses bounds the provider addresses of one machine; their filter then
// stays well within the kernel's 4096 instructions.
const MaxAddresses = 256

// Numbers of the tunnels' wire formats, and where they stand in an Ethernet
// frame.
const (
	ethLen       = 14
	etherTypeOff = 12
	etherTypeIP4 = 0x0800
	etherTypeIP6 = 0x86dd

	protoGRE      = 47
	protoUDP      = 17
	protoFragment = 44 // the IPv6 fragment header
	vxlanPort     = 4789

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

	packetHost = 0 // PACKET_HOST: for this machine's MAC address
	vlanIDMask = 0x0fff
)

var (
	accept = bpf.RetConstant{Val: 0x40000} // the whole frame, whatever its length
	reject = bpf.RetConstant{Val: 0}
)

// providerFilter is the program that lets pass what may be a tunnel packet for
// one of addrs, and nothing else:
//
//   - addressed to this machine's MAC address, untagged (VLAN 0 counts as such);
//   - IPv4 or IPv6 with one of addrs as destination;
//   - GRE, or UDP to port 4789, or a fragment of GRE, or a fragment of UDP that
//     does not show its port, or UDP whose IPv4 header is shorter than a header
//     can be, so that nobody can tell its port.
//
// Whether it is well formed is for encap.Parse to say and to count: the filter
// checks neither version nor lengths, but a frame that ends before what it must
// look at is rejected. IPv6 extension headers other than the fragment header are
// not walked; no tunnel endpoint sends them.
func providerFilter(addrs []netip.Addr) ([]bpf.Instruction, error) {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		switch a = a.Unmap().WithZone(""); {
		case a.Is4():
			v4 = append(v4, a)
		case a.Is6():
			v6 = append(v6, a)
		default:
			return nil, errors.New("filter provider addresses: an address is unset")
		}
	}
	if len(addrs) > MaxAddresses {
		return nil, fmt.Errorf("filter provider addresses: there are %d, at most %d can be served", len(addrs), MaxAddresses)
	}
	b4 := slices.Concat(matchAny(v4, ip4Dst), tunnel4())
	b6 := slices.Concat(matchAny(v6, ip6Dst), tunnel6())
	return slices.Concat([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetHost, SkipTrue: 1},
		reject,
		// The tag of a tagged frame stands beside it, and a stale one may stand
		// beside an untagged frame.
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: vlanIDMask, SkipTrue: 1},
		reject,
		bpf.LoadAbsolute{Off: etherTypeOff, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIP4, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIP6, SkipTrue: 1},
		reject,
		bpf.Jump{Skip: uint32(len(b4))},
	}, b4, b6), nil
}

// matchAny falls through to the instruction after it when the address at off is
// one of addrs, and rejects otherwise.
func matchAny(addrs []netip.Addr, off uint32) []bpf.Instruction {
	out := []bpf.Instruction{reject}
	// Built from the last address to the first, so that the way to the end is
	// known: a conditional jump reaches 255 instructions only.
	for _, a := range slices.Backward(addrs) {
		found := bpf.Jump{Skip: uint32(len(out))}
		b := a.AsSlice()
		var one []bpf.Instruction
		for i := 0; i < len(b); i += 4 {
			word := uint32(b[i])<<24 | uint32(b[i+1])<<16 | uint32(b[i+2])<<8 | uint32(b[i+3])
			left := (len(b) - i - 4) / 4 * 2 // instructions of the words to come
			one = append(one,
				bpf.LoadAbsolute{Off: off + uint32(i), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: word, SkipTrue: uint8(left + 1)})
		}
		out = slices.Concat(one, []bpf.Instruction{found}, out)
	}
	return out
}

// tunnel4 decides on an IPv4 packet to one of ours.
func tunnel4() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: ip4Proto, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoGRE, SkipTrue: 9},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 9},
		bpf.LoadAbsolute{Off: ip4Frag, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragOffset4, SkipTrue: 6},
		bpf.LoadAbsolute{Off: ethLen, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ip4Words},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: ip4Least, SkipTrue: 3},
		bpf.LoadMemShift{Off: ethLen},
		bpf.LoadIndirect{Off: ethLen + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: vxlanPort, SkipTrue: 1},
		accept,
		reject,
	}
}

// tunnel6 decides on an IPv6 packet to one of ours.
func tunnel6() []bpf.Instruction {
	const payload = ethLen + ip6Len
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: ip6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoGRE, SkipTrue: 11},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoFragment, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 10},
		bpf.LoadAbsolute{Off: payload + 2, Size: 2},
		bpf.Jump{Skip: 6}, // to the port's comparison
		bpf.LoadAbsolute{Off: payload, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoGRE, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: payload + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragOffset6, SkipTrue: 2},
		bpf.LoadAbsolute{Off: payload + fragHdrLen + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: vxlanPort, SkipTrue: 1},
		accept,
		reject,
	}
}
