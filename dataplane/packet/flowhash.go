package packet

import (
	"encoding/binary"
	"math/bits"
)

// The seeds of FlowHash. They are constants, so that a flow keeps its entropy,
// and with it its path through the fabric, over a restart of the gateway.
const (
	flowSeed0 = 0x9e3779b97f4a7c15
	flowSeed1 = 0xd6e8feb86659fd93
	flowSeed2 = 0xc2b2ae3d27d4eb4f
)

// FlowHash gives a hash of the flow that the packet belongs to: of addresses,
// protocol and ports, or of addresses and protocol alone for fragments, so that
// all fragments of a packet take one path (RFC 6438 section 3 asks the same of
// the flow label). It is not symmetric. Frames other than IP hash by their MAC
// addresses and EtherType.
func (h *Headers) FlowHash() uint32 {
	ports := uint64(0)
	if !h.IsFragment() {
		ports = uint64(h.SrcPort)<<16 | uint64(h.DstPort)
	}
	if h.Version == 0 {
		var m [16]byte
		copy(m[:], h.SrcMAC[:])
		copy(m[8:], h.DstMAC[:])
		return finish(mix(binary.LittleEndian.Uint64(m[:])^flowSeed0, binary.LittleEndian.Uint64(m[8:])^flowSeed1), uint64(h.EtherType))
	}
	src, dst := h.Src.As16(), h.Dst.As16()
	x := mix(binary.LittleEndian.Uint64(src[:])^flowSeed0, binary.LittleEndian.Uint64(src[8:])^flowSeed1)
	y := mix(binary.LittleEndian.Uint64(dst[:])^flowSeed1, binary.LittleEndian.Uint64(dst[8:])^flowSeed2)
	return finish(mix(x^flowSeed2, y^flowSeed0), uint64(h.Proto)<<32|ports)
}

// mix multiplies two words into one, as wyhash does.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func finish(x, y uint64) uint32 {
	z := mix(x^flowSeed0, y^flowSeed1)
	z = mix(z^flowSeed2, flowSeed1)
	return uint32(z>>32) ^ uint32(z)
}
