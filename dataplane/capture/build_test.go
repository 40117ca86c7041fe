package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	rdid1    = must(hnv.ParseRDID("11111111-2222-4333-8444-555555555555"))
	rdid2    = must(hnv.ParseRDID("99999999-2222-4333-8444-555555555555"))
	contoso  = must(hnv.ParseName("contoso"))
	fabrikam = must(hnv.ParseName("fabrikam"))
	mac1     = [6]byte{0x00, 0x15, 0x5d, 0, 0, 1}
	mac2     = [6]byte{0x00, 0x15, 0x5d, 0, 0, 2}
	ca1      = netip.MustParseAddr("10.1.1.11")
	ca2      = netip.MustParseAddr("10.1.1.12")
	pa1      = netip.MustParseAddr("192.168.1.10")
	pa2      = netip.MustParseAddr("192.168.1.20")
)

// start is 2026-01-02 03:04:05.000000006 UTC, in nanoseconds.
const start = 1767323045_000000006

// arp gives an ARP request in a frame and what the dataplane knows of it.
func arp(t testing.TB, tenant hnv.Name, rdid hnv.RDID) (Meta, []byte) {
	t.Helper()
	f := packet.NewFrame(64)
	a := packet.ARP{Op: packet.ARPRequest, SenderMAC: mac1, SenderIP: ca1, TargetIP: ca2}
	if !a.Build(f, mac2, mac1) {
		t.Fatal("no room")
	}
	m := Meta{Time: start, Point: PortIn, Link: Ethernet, RDID: rdid, VSID: 5001, Tenant: tenant, Port: "c11"}
	describe(t, &m, f.Bytes())
	return m, f.Bytes()
}

func describe(t testing.TB, m *Meta, frame []byte) {
	t.Helper()
	var h packet.Headers
	if r := h.DecodeEthernet(frame); r != drop.None {
		t.Fatal(r)
	}
	m.SetInner(&h, frame, packet.Offload{})
}

// block is one block of a file as a reader of the draft sees it.
type block struct {
	typ     uint32
	body    []byte // between the lengths
	options map[uint16][]byte
}

// fixed is how long the part before the options is; of a packet, its data comes
// in addition.
func fixed(typ uint32, body []byte) int {
	switch typ {
	case blockSection:
		return 16
	case blockInterface:
		return 8
	case blockPacket:
		return 20 + (int(binary.LittleEndian.Uint32(body[12:]))+3)&^3
	}
	return 12
}

// blocks reads a file with nothing but the draft at hand.
func blocks(t testing.TB, b []byte) (out []block) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 12 {
			t.Fatalf("%d bytes behind the last block", len(b))
		}
		n := binary.LittleEndian.Uint32(b[4:])
		if n%4 != 0 || n < 12 || int(n) > len(b) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("a block of type %#x with length %d of %d, repeated as %d", binary.LittleEndian.Uint32(b), n, len(b), b[n-4:n])
		}
		k := block{typ: binary.LittleEndian.Uint32(b), body: b[8 : n-4], options: map[uint16][]byte{}}
		for o := k.body[fixed(k.typ, k.body):]; ; {
			code, size := binary.LittleEndian.Uint16(o), int(binary.LittleEndian.Uint16(o[2:]))
			if code == optEnd {
				if len(o) != 4 || size != 0 {
					t.Fatalf("the end of options is followed by %d bytes", len(o)-4)
				}
				break
			}
			k.options[code] = bytes.Clone(o[4 : 4+size])
			o = o[4+(size+3)&^3:]
		}
		out = append(out, k)
		b = b[n:]
	}
	return out
}

// only gives the blocks of a type.
func only(all []block, typ uint32) (out []block) {
	for _, k := range all {
		if k.typ == typ {
			out = append(out, k)
		}
	}
	return out
}
