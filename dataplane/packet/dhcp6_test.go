package packet_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func option6(code uint16, parts ...[]byte) []byte {
	data := slices.Concat(parts...)
	b := binary.BigEndian.AppendUint16(nil, code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// iana gives an IA_NA with the options, addr an IAADDR.
func iana(options ...[]byte) []byte {
	return option6(3, make([]byte, 12), slices.Concat(options...))
}

func addr6(a string, preferred, valid uint32, options ...[]byte) []byte {
	b := netip.MustParseAddr(a).AsSlice()
	b = binary.BigEndian.AppendUint32(b, preferred)
	return option6(5, binary.BigEndian.AppendUint32(b, valid), slices.Concat(options...))
}

func status6(code uint16) []byte {
	return option6(13, binary.BigEndian.AppendUint16(nil, code), []byte("because"))
}

func dhcp6(typ uint8, options ...[]byte) []byte {
	return append([]byte{typ, 1, 2, 3}, slices.Concat(options...)...)
}

var duids = append(option6(1, []byte{0, 3, 0, 1, 2, 3, 4, 5, 6, 7}), option6(2, []byte{0, 3, 0, 1, 9, 9, 9, 9, 9, 9})...)

func inUDP6(t testing.TB, message []byte) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 547, DstPort: 546}, gopacket.Payload(message))
}

func parse6(t testing.TB, message []byte) (packet.DHCPv6, bool) {
	t.Helper()
	b := inUDP6(t, message)
	var d packet.DHCPv6
	return d, d.Parse(b, decode(t, b))
}

func TestDHCPv6(t *testing.T) {
	lease := func(a string, p, v uint32) packet.DHCPv6Lease {
		return packet.DHCPv6Lease{Addr: netip.MustParseAddr(a), Preferred: p, Valid: v}
	}
	two := addr6("fd00::2", 0, 0)
	for name, c := range map[string]struct {
		m      []byte
		leases []packet.DHCPv6Lease
	}{
		"one":              {dhcp6(7, duids, iana(addr6("fd00::1", 100, 200))), []packet.DHCPv6Lease{lease("fd00::1", 100, 200)}},
		"two in one":       {dhcp6(7, iana(addr6("fd00::1", 1, ^uint32(0)), two)), []packet.DHCPv6Lease{lease("fd00::1", 1, ^uint32(0)), lease("fd00::2", 0, 0)}},
		"two in two":       {dhcp6(7, iana(addr6("fd00::1", 1, 2)), duids, iana(two)), []packet.DHCPv6Lease{lease("fd00::1", 1, 2), lease("fd00::2", 0, 0)}},
		"among others":     {dhcp6(7, option6(23, make([]byte, 16)), iana(option6(99), addr6("fd00::1", 1, 2, option6(98, []byte{1}))), option6(14)), []packet.DHCPv6Lease{lease("fd00::1", 1, 2)}},
		"success":          {dhcp6(7, status6(0), iana(status6(0), addr6("fd00::1", 1, 2, status6(0)))), []packet.DHCPv6Lease{lease("fd00::1", 1, 2)}},
		"none":             {dhcp6(7, duids), nil},
		"no options":       {dhcp6(11), nil},
		"no addresses":     {dhcp6(7, iana(status6(2))), nil},
		"IA fails":         {dhcp6(7, iana(addr6("fd00::1", 1, 2), status6(2)), iana(two)), []packet.DHCPv6Lease{lease("fd00::2", 0, 0)}},
		"address fails":    {dhcp6(7, iana(addr6("fd00::1", 1, 2, status6(4)), two)), []packet.DHCPv6Lease{lease("fd00::2", 0, 0)}},
		"lifetimes":        {dhcp6(7, iana(addr6("fd00::1", 3, 2), two)), []packet.DHCPv6Lease{lease("fd00::2", 0, 0)}},
		"no station":       {dhcp6(7, iana(addr6("::", 1, 2), addr6("::1", 1, 2), addr6("ff02::1", 1, 2), addr6("::ffff:10.0.0.1", 1, 2))), nil},
		"prefix, not ours": {dhcp6(7, option6(25, make([]byte, 12), addr6("fd00::1", 1, 2))), nil},
	} {
		d, ok := parse6(t, c.m)
		if !ok || !slices.Equal(d.Leases(), c.leases) || d.Type != c.m[0] || d.Xid != 0x010203 || d.Status != 0 {
			t.Errorf("%s: %v, %+v, want %v", name, ok, d, c.leases)
		}
		if d.HasClientID != (name == "one" || name == "two in two" || name == "none") || d.HasClientID != d.HasServerID {
			t.Errorf("%s: client %v, server %v", name, d.HasClientID, d.HasServerID)
		}
	}
	if d, ok := parse6(t, dhcp6(7, iana(addr6("fd00::1", 1, 2)), status6(5))); !ok || d.Status != 5 || len(d.Leases()) != 0 {
		t.Errorf("a refusal: %v, %+v", ok, d)
	}
}

func TestDHCPv6Refuses(t *testing.T) {
	var nine []byte
	for range packet.MaxDHCPv6Leases + 1 {
		nine = append(nine, addr6("fd00::1", 1, 2)...)
	}
	good := dhcp6(7, duids, iana(addr6("fd00::1", 100, 200)))
	for name, m := range map[string][]byte{
		"empty":              nil,
		"short":              {7, 1, 2},
		"type 0":             dhcp6(0),
		"relay":              append(dhcp6(12), make([]byte, 30)...),
		"relayed reply":      append(dhcp6(13), make([]byte, 30)...),
		"half an option":     good[:len(good)-1],
		"option header":      append(dhcp6(7), 0, 3, 0),
		"short IA_NA":        dhcp6(7, option6(3, make([]byte, 11))),
		"short address":      dhcp6(7, iana(option6(5, make([]byte, 23)))),
		"beyond the IA_NA":   dhcp6(7, iana([]byte{0, 5, 0, 24})),
		"beyond the address": dhcp6(7, iana(addr6("fd00::1", 1, 2, []byte{0, 13, 0, 2, 0}))),
		"status":             dhcp6(7, option6(13, []byte{0})),
		"status in IA_NA":    dhcp6(7, iana(option6(13, []byte{0}))),
		"status in address":  dhcp6(7, iana(addr6("fd00::1", 1, 2, option6(13, []byte{0})))),
		"nine addresses":     dhcp6(7, iana(nine)),
	} {
		if d, ok := parse6(t, m); ok {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
	b := inUDP6(t, good)
	h := decode(t, b)
	var d packet.DHCPv6
	if !d.Parse(b, h) {
		t.Fatal("the good one is refused")
	}
	for name, b := range map[string][]byte{
		"checksum":    edit(b, false, 70, 0xee),
		"no checksum": edit(b, false, 60, 0, 0),
	} {
		if d.Parse(b, h) {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
}

// What is taken has the options that gopacket finds, on each of the levels, and
// every address among them that a client may use.
func FuzzDHCPv6(f *testing.F) {
	f.Add(dhcp6(7, duids, iana(addr6("fd00::1", 100, 200), addr6("fd00::2", 0, 0))))
	f.Add(dhcp6(7, iana(status6(2)), status6(0)))
	f.Add(dhcp6(3, duids, iana(addr6("fd00::1", 100, 200, status6(1)))))
	f.Fuzz(func(t *testing.T, m []byte) {
		if len(m) > 1400 {
			return
		}
		d, ok := parse6(t, m)
		if !ok {
			return
		}
		var want []packet.DHCPv6Lease
		failed, ids := uint16(0), [2]bool{}
		for _, o := range options6(t, m) {
			switch o.Code {
			case layers.DHCPv6OptClientID:
				ids[0] = true
			case layers.DHCPv6OptServerID:
				ids[1] = true
			case layers.DHCPv6OptStatusCode:
				if failed == 0 {
					failed = binary.BigEndian.Uint16(o.Data)
				}
			case layers.DHCPv6OptIANA:
				want = append(want, leasesOf(t, o.Data)...)
			}
		}
		if failed != 0 {
			want = nil
		}
		if !slices.Equal(want, d.Leases()) || d.Status != failed || ids != [2]bool{d.HasClientID, d.HasServerID} {
			t.Fatalf("%+v, gopacket finds %v, status %d", d, want, failed)
		}
	})
}

// options6 has gopacket read the options behind four bytes.
func options6(t *testing.T, b []byte) layers.DHCPv6Options {
	t.Helper()
	var g layers.DHCPv6
	if err := g.DecodeFromBytes(append([]byte{7, 0, 0, 0}, b[4:]...), gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	return g.Options
}

func leasesOf(t *testing.T, ia []byte) (leases []packet.DHCPv6Lease) {
	for _, o := range options6(t, ia[8:]) {
		switch o.Code {
		case layers.DHCPv6OptStatusCode:
			if binary.BigEndian.Uint16(o.Data) != 0 {
				defer func() { leases = nil }()
			}
		case layers.DHCPv6OptIAAddr:
			l := packet.DHCPv6Lease{
				Addr:      netip.AddrFrom16([16]byte(o.Data)),
				Preferred: binary.BigEndian.Uint32(o.Data[16:]), Valid: binary.BigEndian.Uint32(o.Data[20:]),
			}
			usable := l.Preferred <= l.Valid && !l.Addr.Is4In6() && (l.Addr.IsGlobalUnicast() || l.Addr.IsLinkLocalUnicast())
			for _, s := range options6(t, o.Data[20:]) {
				usable = usable && (s.Code != layers.DHCPv6OptStatusCode || binary.BigEndian.Uint16(s.Data) == 0)
			}
			if usable {
				leases = append(leases, l)
			}
		}
	}
	return leases
}
