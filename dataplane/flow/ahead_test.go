package flow

import (
	"encoding/binary"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestLookAhead(t *testing.T) {
	const n = 3000
	tables := []*Table[int]{New(Options[int]{}), New(Options[int]{}), New(Options[int]{})} // the last one stays empty
	for i := range n {
		insert(t, tables[i%2], key(i), 0)
	}
	for at := 0; at < n; at += 64 {
		var all []Sought[int]
		for i := at; i < min(n, at+64); i++ {
			all = append(all, Sought[int]{Table: tables[i%3], Key: key(i)})
		}
		LookAhead(all)
		for j := range all {
			i := at + j
			want := tables[i%3].Lookup(&all[j].Key, 1)
			if i%3 == i%2 && want == nil {
				t.Fatalf("flow %d was never there", i)
			}
			// A key that is not there may meet the tag of another one.
			if e := all[j].Entry; e != want && (want != nil || e == nil || e.tag != all[j].tag) {
				t.Errorf("flow %d: found %p, want %p", i, e, want)
			}
		}
	}
}

func TestLookAheadDoesNotAllocate(t *testing.T) {
	table := New(Options[int]{})
	all := make([]Sought[int], 64)
	for i := range all {
		insert(t, table, key(i), 0)
	}
	noAllocs(t, "LookAhead", func() {
		for i := range all {
			all[i] = Sought[int]{Table: table, Key: key(i)}
		}
		LookAhead(all)
	})
}

// frame4 is an Ethernet frame with a UDP packet.
func frame4() []byte {
	b := make([]byte, 50)
	packet.PutEthernet(b, [6]byte{2, 1}, [6]byte{2, 2}, packet.EtherTypeIPv4)
	ip := b[14:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, 36, 64, packet.ProtoUDP
	copy(ip[12:], []byte{10, 1, 1, 11, 10, 1, 1, 12})
	copy(ip[20:], []byte{156, 64, 1, 187, 0, 16})
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:20], 0))
	return b
}

// frame6 is one with a TCP packet over IPv6.
func frame6() []byte {
	b := make([]byte, 74)
	packet.PutEthernet(b, [6]byte{2, 1}, [6]byte{2, 2}, packet.EtherTypeIPv6)
	ip := b[14:]
	ip[0], ip[5], ip[6], ip[7] = 0x60, 20, packet.ProtoTCP, 64
	s, d := six1.As16(), six2.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	copy(ip[40:], []byte{156, 64, 1, 187})
	ip[52] = 0x50
	return b
}

func TestPeek(t *testing.T) {
	for name, b := range map[string][]byte{"ipv4": frame4(), "ipv6": frame6()} {
		var h packet.Headers
		if r := h.DecodeEthernet(b); r != drop.None {
			t.Fatal(name, r)
		}
		var k Key
		if !k.Peek(Inbound, b) || k != KeyOf(Inbound, &h) {
			t.Errorf("%s: got %v, want %v", name, k, KeyOf(Inbound, &h))
		}
		for n := range b {
			k.Peek(Inbound, b[:n]) // nothing beyond its end is read
		}
	}
	arp := frame4()
	arp[13] = 6
	if k := (Key{}); k.Peek(Inbound, arp) {
		t.Errorf("an ARP packet has key %v", k)
	}
}

// Where a packet is a whole one, what was peeked is its key.
func FuzzPeek(f *testing.F) {
	f.Add(frame4())
	f.Add(frame6())
	f.Fuzz(func(t *testing.T, b []byte) {
		var k Key
		if !k.Peek(Outbound, b) {
			return
		}
		var h packet.Headers
		if h.DecodeEthernet(b) == drop.None && !h.IsFragment() {
			if want := KeyOf(Outbound, &h); k != want {
				t.Errorf("got %v, want %v", k, want)
			}
		}
	})
}
