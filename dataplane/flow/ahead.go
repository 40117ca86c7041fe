package flow

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Sought is a key that is looked for in a table, ahead of the packet's turn.
type Sought[A any] struct {
	Table *Table[A]
	Key   Key
	Entry *Entry[A] // what LookAhead found: likely the key's, nil if it is surely not there

	slots *slots[A]
	slot  uint32
	tag   uint32
}

// LookAhead looks many keys up, so that Lookup finds what it needs in the
// processor's caches when their turn comes. Where a table is larger than those,
// a Lookup waits for memory three times: for the tag, for the pointer and for the
// entry, each telling where the next one is. Here each step is done for all keys
// before the next one, and the waits of a step are one.
//
// What it finds is a hint: an entry with the tag of the key may have another key.
// It takes no lock and allocates nothing.
func LookAhead[A any](all []Sought[A]) {
	for i := range all {
		s := &all[i]
		h := s.Table.seed.hash(&s.Key)
		s.tag, s.Entry = tagOf(h), nil
		if s.slots = s.Table.slots[h>>shardShift].Load(); s.slots != nil {
			s.slot = s.tag & s.slots.mask()
			s.slots.tags[s.slot].Load()
		}
	}
	for i := range all {
		if s := &all[i]; s.slots != nil {
			s.slot = s.slots.probe(s.slot, s.tag)
			s.Entry = s.slots.entries[s.slot].Load()
			s.slots = nil // a hint must not keep a table
		}
	}
	for i := range all {
		if e := all[i].Entry; e != nil {
			e.action.Load()
			e.flow.expires.Load()
		}
	}
}

// probe gives the first slot from i on with the tag, or that is free.
func (s *slots[A]) probe(i, tag uint32) uint32 {
	for mask := s.mask(); ; i = (i + 1) & mask {
		if t := s.tags[i].Load(); t == tag || t == tagFree {
			return i
		}
	}
}

// Peek makes k the key of the packet in an Ethernet frame, as Set would after the
// frame was decoded, if it is a TCP or UDP packet of the plainest form. Nothing is
// checked: the key is good for LookAhead only.
func (k *Key) Peek(dir uint8, frame []byte) bool {
	const l3, ports = packet.EthernetLen, 4
	if len(frame) < l3+packet.IPv4Len+ports {
		return false
	}
	ip, l4 := frame[l3:], packet.IPv4Len
	k.Dir, k.Kind = dir, KindPorts
	switch binary.BigEndian.Uint16(frame[12:]) {
	case packet.EtherTypeIPv4:
		if ip[0] != 0x45 {
			return false
		}
		k.Family, k.Proto = 4, ip[9]
		k.Src, k.Dst = [16]byte{10: 0xff, 11: 0xff}, [16]byte{10: 0xff, 11: 0xff}
		copy(k.Src[12:], ip[12:16])
		copy(k.Dst[12:], ip[16:20])
	case packet.EtherTypeIPv6:
		l4 = packet.IPv6Len
		if len(ip) < l4+ports {
			return false
		}
		k.Family, k.Proto = 6, ip[6]
		k.Src, k.Dst = [16]byte(ip[8:]), [16]byte(ip[24:])
	default:
		return false
	}
	k.SrcPort, k.DstPort = binary.BigEndian.Uint16(ip[l4:]), binary.BigEndian.Uint16(ip[l4+2:])
	return k.Proto == packet.ProtoTCP || k.Proto == packet.ProtoUDP
}
