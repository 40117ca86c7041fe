package vfp

import (
	"math/bits"
	"net/netip"
	"slices"
)

// shelfKey is what two flows may not share a port in.
type shelfKey struct {
	source netip.Addr
	remote netip.AddrPort
	proto  uint8
}

// fewPorts is up to how many ports a list serves; beyond, a bitmap does. A
// bitmap takes 8 KiB, so at most 128 bytes for each lease that made it.
const fewPorts = 64

// shelf is the ports of one shelfKey: which of size are out.
type shelf struct {
	size, held uint32
	few        []uint16
	many       []uint64 // bitmap, nil as long as few serves
}

// take takes the first free port from begin on, and around the end. There must
// be one.
func (s *shelf) take(begin uint32) uint32 {
	port := begin
	if s.many != nil {
		port = s.free(begin)
		s.many[port/64] |= 1 << (port % 64)
		s.held++
		return port
	}
	for slices.Contains(s.few, uint16(port)) {
		port = (port + 1) % s.size
	}
	s.few = append(s.few, uint16(port))
	s.held++
	if s.held > fewPorts {
		s.many = make([]uint64, (s.size+63)/64)
		for _, p := range s.few {
			s.many[p/64] |= 1 << (p % 64)
		}
		s.few = nil
	}
	return port
}

func (s *shelf) free(begin uint32) uint32 {
	mask := ^uint64(0) << (begin % 64)
	for w := begin / 64; ; w = (w + 1) % uint32(len(s.many)) {
		if bit := ^s.many[w] & mask; bit != 0 {
			if port := w*64 + uint32(bits.TrailingZeros64(bit)); port < s.size {
				return port
			}
		}
		mask = ^uint64(0)
	}
}

// put gives a port back; false if it was not out.
func (s *shelf) put(port uint32) bool {
	if port >= s.size {
		return false
	}
	if s.many == nil {
		i := slices.Index(s.few, uint16(port))
		if i < 0 {
			return false
		}
		s.few = slices.Delete(s.few, i, i+1)
		s.held--
		return true
	}
	if s.many[port/64]&(1<<(port%64)) == 0 {
		return false
	}
	s.many[port/64] &^= 1 << (port % 64)
	s.held--
	return true
}
