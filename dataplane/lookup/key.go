package lookup

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Addr is an IP address without pointers, comparable with ==. An IPv4 address
// never equals an IPv6 one, not even its IPv4-mapped form.
type Addr struct {
	b   [16]byte // IPv4 in the first four bytes, zeros after
	fam uint8    // 4, 6 or 0
}

// AddrFrom packs a. The zone is not kept: overlay addresses have none.
func AddrFrom(a netip.Addr) (p Addr) {
	switch {
	case a.Is4():
		b := a.As4()
		copy(p.b[:], b[:])
		p.fam = 4
	case a.Is6():
		p.b = a.As16()
		p.fam = 6
	}
	return p
}

// Netip unpacks p.
func (p Addr) Netip() netip.Addr {
	switch p.fam {
	case 4:
		return netip.AddrFrom4([4]byte(p.b[:4]))
	case 6:
		return netip.AddrFrom16(p.b)
	}
	return netip.Addr{}
}

// Is6 tells whether p is an IPv6 address.
func (p Addr) Is6() bool { return p.fam == 6 }

// IsValid tells whether p is an address at all.
func (p Addr) IsValid() bool { return p.fam != 0 }

func (p Addr) String() string { return p.Netip().String() }

// Hash makes Addr a key of Map.
func (p Addr) Hash(seed uint64) uint64 { return p.hash(seed, 0) }

func (p *Addr) hash(seed, more uint64) uint64 {
	lo := binary.LittleEndian.Uint64(p.b[:8])
	hi := binary.LittleEndian.Uint64(p.b[8:])
	h := mix(lo^seed, hi^0x9e3779b97f4a7c15)
	return mix(h^more^uint64(p.fam)<<56, seed^0xd1b54a32d192ed03)
}

// mix folds the 128-bit product of its operands. With a secret seed in them,
// keys that share a slot cannot be computed from outside.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Key names a record: a CA in a virtual subnet.
type Key struct {
	ca   Addr
	vsid [3]byte
}

// KeyOf makes the key of a CA in a virtual subnet.
func KeyOf(vsid uint32, ca netip.Addr) Key {
	return Key{AddrFrom(ca), pack(vsid)}
}

func pack(vsid uint32) [3]byte { return [3]byte{byte(vsid >> 16), byte(vsid >> 8), byte(vsid)} }

func unpack(v [3]byte) uint32 { return uint32(v[0])<<16 | uint32(v[1])<<8 | uint32(v[2]) }

// VSID gives the key's virtual subnet.
func (k Key) VSID() uint32 { return unpack(k.vsid) }

// CA gives the key's customer address.
func (k Key) CA() netip.Addr { return k.ca.Netip() }

// Hash makes Key a key of Map.
func (k Key) Hash(seed uint64) uint64 { return k.ca.hash(seed, uint64(k.VSID())) }

// Station names a network interface: a MAC in a virtual subnet.
type Station struct {
	VSID uint32
	MAC  [6]byte
}

// Hash makes Station a key of Map.
func (s Station) Hash(seed uint64) uint64 {
	m := uint64(binary.LittleEndian.Uint32(s.MAC[:4])) | uint64(binary.LittleEndian.Uint16(s.MAC[4:]))<<32
	return mix(m^seed, uint64(s.VSID)<<32^0x9e3779b97f4a7c15)
}

// Number is a plain number as a key of Map: a VSID, a port.
type Number uint32

// Hash makes Number a key of Map.
func (n Number) Hash(seed uint64) uint64 {
	return mix(uint64(n)^seed, 0x9e3779b97f4a7c15)
}

// nic is a Station in nine bytes: there is one for each record.
type nic struct {
	vsid [3]byte
	mac  [6]byte
}

func nicOf(vsid uint32, mac [6]byte) nic {
	return nic{pack(vsid), mac}
}

// Hash makes nic a key of Map.
func (n nic) Hash(seed uint64) uint64 {
	return Station{unpack(n.vsid), n.mac}.Hash(seed)
}

// compare orders addresses: IPv4 before IPv6, then by their bytes.
func (p Addr) compare(o Addr) int {
	if p.fam != o.fam {
		return int(p.fam) - int(o.fam)
	}
	return bytes.Compare(p.b[:], o.b[:])
}

func (k Key) compare(o Key) int {
	if c := k.ca.compare(o.ca); c != 0 {
		return c
	}
	return bytes.Compare(k.vsid[:], o.vsid[:])
}
