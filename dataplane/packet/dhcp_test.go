package packet_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var server4 = netip.MustParseAddr("10.1.1.2")

// inUDP4 gives the frame that carries a message from a DHCP server's or client's
// port to the other one.
func inUDP4(t testing.TB, message []byte, from, to layers.UDPPort) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolUDP),
		&layers.UDP{SrcPort: from, DstPort: to}, gopacket.Payload(message))
}

// dhcp4 builds a DHCP message with gopacket.
func dhcp4(t testing.TB, op layers.DHCPOp, options ...layers.DHCPOption) []byte {
	return serialize(t, &layers.DHCPv4{
		Operation: op, HardwareType: layers.LinkTypeEthernet, Xid: 0x01020304,
		ClientIP: net.IPv4(10, 1, 1, 9), YourClientIP: net.IPv4(10, 1, 1, 77),
		NextServerIP: net.IPv4(10, 1, 1, 3), RelayAgentIP: net.IPv4(10, 1, 1, 1),
		ClientHWAddr: mac1[:], Options: options,
	})
}

func option4(code uint8, data ...byte) layers.DHCPOption {
	return layers.NewDHCPOption(layers.DHCPOpt(code), data)
}

// ack is what a server says when it gives an address away.
func ack(t testing.TB) []byte {
	return dhcp4(t, layers.DHCPOpReply,
		layers.NewDHCPOption(layers.DHCPOptPad, nil),
		option4(53, packet.DHCPAck), option4(1, 255, 255, 255, 0), option4(54, 10, 1, 1, 2),
		option4(51, 0, 0, 14, 16), option4(12, []byte("vm1")...))
}

func parse4(t testing.TB, message []byte) (packet.DHCP, bool) {
	t.Helper()
	b := inUDP4(t, message, 67, 68)
	var d packet.DHCP
	return d, d.Parse(b, decode(t, b))
}

func TestDHCP(t *testing.T) {
	want := packet.DHCP{
		Op: packet.BOOTReply, Type: packet.DHCPAck, Xid: 0x01020304, ClientMAC: mac1,
		ClientIP: netip.MustParseAddr("10.1.1.9"), YourIP: netip.MustParseAddr("10.1.1.77"),
		NextServerIP: netip.MustParseAddr("10.1.1.3"), RelayIP: netip.MustParseAddr("10.1.1.1"),
		ServerID: server4, Lease: 3600, HasLease: true,
	}
	if d, ok := parse4(t, ack(t)); !ok || d != want {
		t.Errorf("%v, %+v, want %+v", ok, d, want)
	}
	discover := dhcp4(t, layers.DHCPOpRequest, option4(53, packet.DHCPDiscover), option4(50, 10, 1, 1, 77), option4(61, 1, 2, 3))
	want.Op, want.Type, want.ServerID, want.Lease, want.HasLease = packet.BOOTRequest, packet.DHCPDiscover, netip.Addr{}, 0, false
	want.Requested = want.YourIP
	if d, ok := parse4(t, discover); !ok || d != want {
		t.Errorf("%v, %+v, want %+v", ok, d, want)
	}
	// BOOTP has no type (RFC 1542), a server may leave the End option out, and a
	// UDP datagram over IPv4 its checksum.
	if d, ok := parse4(t, ack(t)[:240]); !ok || d.Type != 0 || d.YourIP.String() != "10.1.1.77" {
		t.Errorf("BOOTP: %v, %+v", ok, d)
	}
	b := inUDP4(t, ack(t), 67, 68)
	b[40], b[41] = 0, 0
	var d packet.DHCP
	if !d.Parse(b, decode(t, b)) || d.Type != packet.DHCPAck {
		t.Errorf("without a checksum: %+v", d)
	}
	// Padding of the frame is not read.
	b = append(b, bytes.Repeat([]byte{50}, 20)...)
	if !d.Parse(b, decode(t, b)) || d.Requested.IsValid() {
		t.Errorf("padded: %+v", d)
	}
}

// Options in the fields of the file and the server's name count where option 52
// says so, and only there.
func TestDHCPOverload(t *testing.T) {
	for overload, want := range map[byte][2]bool{0: {false, false}, 1: {true, false}, 2: {false, true}, 3: {true, true}} {
		m := dhcp4(t, layers.DHCPOpReply, option4(53, packet.DHCPAck))
		if overload != 0 {
			m = dhcp4(t, layers.DHCPOpReply, option4(52, overload), option4(53, packet.DHCPAck))
		}
		copy(m[108:], []byte{51, 4, 0, 0, 0, 60, 255, 99, 99}) // file
		copy(m[44:], []byte{54, 4, 10, 1, 1, 2, 255})          // server name
		d, ok := parse4(t, m)
		if !ok || d.HasLease != want[0] || d.ServerID.IsValid() != want[1] {
			t.Errorf("overload %d: %v, %+v", overload, ok, d)
		}
	}
}

func TestDHCPRefuses(t *testing.T) {
	good := ack(t)
	with := func(off int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], b)
		return c
	}
	overloaded := func(field ...byte) []byte {
		m := dhcp4(t, layers.DHCPOpReply, option4(52, 1))
		copy(m[108:], field)
		return m
	}
	reply := func(o ...layers.DHCPOption) []byte { return dhcp4(t, layers.DHCPOpReply, o...) }
	for name, m := range map[string][]byte{
		"empty":                     nil,
		"short":                     good[:239],
		"op 0":                      with(0, 0),
		"op 3":                      with(0, 3),
		"an answer in a request":    with(0, 1),
		"hardware type":             with(1, 6),
		"hardware length":           with(2, 7),
		"no MAC address":            with(28, 0, 0, 0, 0, 0, 0),
		"group MAC address":         with(28, 1),
		"cookie":                    with(236, 0),
		"option without a length":   append(good[:240:240], 53),
		"option beyond the end":     append(good[:240:240], 53, 2, 1),
		"type of two bytes":         reply(option4(53, 5, 5)),
		"type 0":                    reply(option4(53, 0)),
		"type twice":                reply(option4(53, 5), option4(53, 5)),
		"a request in an answer":    reply(option4(53, packet.DHCPRequest)),
		"server of three bytes":     reply(option4(54, 1, 2, 3)),
		"server twice":              reply(option4(54, 1, 2, 3, 4), option4(54, 1, 2, 3, 4)),
		"requested of five bytes":   reply(option4(50, 1, 2, 3, 4, 5)),
		"requested twice":           reply(option4(50, 0, 0, 0, 0), option4(50, 0, 0, 0, 0)),
		"lease of three bytes":      reply(option4(51, 1, 2, 3)),
		"lease twice":               reply(option4(51, 0, 0, 0, 0), option4(51, 0, 0, 0, 0)),
		"overload 4":                reply(option4(52, 4)),
		"overload of two bytes":     reply(option4(52, 1, 1)),
		"overload twice":            reply(option4(52, 1), option4(52, 2)),
		"overload within the file":  overloaded(52, 1, 2),
		"beyond the file":           overloaded(append(make([]byte, 126), 12, 1)...),
		"twice, once in the file":   append(overloaded(53, 1, 5)[:240], 52, 1, 1, 53, 1, 5, 255),
		"a request within the file": overloaded(53, 1, 1),
	} {
		if d, ok := parse4(t, m); ok {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
	if _, ok := parse4(t, good); !ok {
		t.Fatal("the good one is refused")
	}
	frame := inUDP4(t, good, 67, 68)
	h := decode(t, frame)
	fragment, tcp, six := *h, *h, *h
	fragment.MoreFragments, tcp.Proto, six.Version = true, packet.ProtoTCP, 6
	for name, c := range map[string]struct {
		b []byte
		h packet.Headers
	}{
		"checksum":          {edit(frame, false, 60, 0xee), *h},
		"cut short":         {frame[:len(frame)-1], *h},
		"UDP length":        {edit(frame, false, 38, 0xff, 0xff), *h},
		"UDP length 7":      {edit(frame, false, 38, 0, 7), *h},
		"fragment":          {frame, fragment},
		"TCP":               {frame, tcp},
		"IPv6":              {frame, six},
		"IPv4 in DHCPv6":    {frame, *h},
		"no UDP header yet": {frame, packet.Headers{Version: 4, Proto: 17, L3: 14, L4: 34, Length: 24}},
	} {
		var d packet.DHCP
		var d6 packet.DHCPv6
		if ok := d.Parse(c.b, &c.h); ok && name != "IPv4 in DHCPv6" {
			t.Errorf("%s: taken as %+v", name, d)
		}
		if d6.Parse(c.b, &c.h) {
			t.Errorf("%s: taken as %+v", name, d6)
		}
	}
}

func TestIsDHCP(t *testing.T) {
	for _, c := range []struct {
		h                  packet.Headers
		toServer, toClient bool
	}{
		{packet.Headers{Version: 4, Proto: 17, SrcPort: 68, DstPort: 67}, true, false},
		{packet.Headers{Version: 4, Proto: 17, SrcPort: 67, DstPort: 68}, false, true},
		{packet.Headers{Version: 4, Proto: 17, SrcPort: 9, DstPort: 68}, false, true},
		{packet.Headers{Version: 4, Proto: 17, SrcPort: 67, DstPort: 67}, true, false},
		{packet.Headers{Version: 6, Proto: 17, SrcPort: 546, DstPort: 547}, true, false},
		{packet.Headers{Version: 6, Proto: 17, SrcPort: 547, DstPort: 546}, false, true},
		{packet.Headers{Version: 4, Proto: 17, SrcPort: 546, DstPort: 547}, false, false},
		{packet.Headers{Version: 6, Proto: 17, SrcPort: 67, DstPort: 68}, false, false},
		{packet.Headers{Version: 4, Proto: 6, SrcPort: 68, DstPort: 67}, false, false},
		{packet.Headers{Version: 4, Proto: 17, FragOffset: 8, DstPort: 67}, false, false},
		{packet.Headers{Version: 4, Proto: 17, MoreFragments: true, DstPort: 67}, true, false},
		{packet.Headers{}, false, false},
	} {
		if s, cl := c.h.IsDHCPToServer(), c.h.IsDHCPToClient(); s != c.toServer || cl != c.toClient {
			t.Errorf("%+v: to server %v, to client %v", c.h, s, cl)
		}
	}
}

// What is taken is what gopacket reads, wherever the options stand.
func FuzzDHCP(f *testing.F) {
	f.Add(ack(f))
	f.Add(ack(f)[:240])
	f.Add(dhcp4(f, layers.DHCPOpRequest, option4(53, packet.DHCPDiscover), option4(50, 10, 1, 1, 77)))
	over := dhcp4(f, layers.DHCPOpReply, option4(52, 3), option4(53, packet.DHCPOffer))
	copy(over[108:], []byte{51, 4, 0, 0, 0, 60, 255})
	copy(over[44:], []byte{54, 4, 10, 1, 1, 2, 255})
	f.Add(over)
	f.Fuzz(func(t *testing.T, m []byte) {
		if len(m) > 1400 {
			return
		}
		d, ok := parse4(t, m)
		if !ok {
			return
		}
		var g layers.DHCPv4
		if err := g.DecodeFromBytes(m, gopacket.NilDecodeFeedback); err != nil {
			t.Fatalf("gopacket: %v of %+v", err, d)
		}
		want := packet.DHCP{
			Op: uint8(g.Operation), Xid: g.Xid, ClientMAC: [6]byte(g.ClientHWAddr),
			ClientIP: addr4(g.ClientIP), YourIP: addr4(g.YourClientIP), NextServerIP: addr4(g.NextServerIP), RelayIP: addr4(g.RelayAgentIP),
		}
		options, overload := g.Options, byte(0)
		for _, o := range g.Options {
			if o.Type == 52 {
				overload = o.Data[0]
			}
		}
		for i, field := range [][]byte{g.File, g.ServerName} {
			if overload>>i&1 != 0 {
				var more layers.DHCPv4
				if err := more.DecodeFromBytes(append(bytes.Clone(m[:240]), field...), gopacket.NilDecodeFeedback); err != nil {
					t.Fatalf("gopacket: %v of field %d of %+v", err, i, d)
				}
				options = append(options, more.Options...)
			}
		}
		for _, o := range options {
			switch o.Type {
			case layers.DHCPOptMessageType:
				want.Type = o.Data[0]
			case layers.DHCPOptServerID:
				want.ServerID = addr4(o.Data)
			case layers.DHCPOptRequestIP:
				want.Requested = addr4(o.Data)
			case layers.DHCPOptLeaseTime:
				want.Lease, want.HasLease = binary.BigEndian.Uint32(o.Data), true
			}
		}
		if d != want {
			t.Fatalf("%+v, gopacket reads %+v", d, want)
		}
	})
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
