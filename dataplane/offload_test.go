package dataplane

import (
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// A VM says itself where the checksum of its frame is still to be written, and
// chooses what it comes to. It must not become, after all checks, somebody
// else's frame or one of another type that way.
func TestPartialChecksumSparesHeaders(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	// Fields that were checked, as offsets in an IPv6 frame.
	places := map[string]int{"destination MAC": 4, "EtherType": 12, "hop limit": 20, "source": 36, "destination": 52, "ICMP type": 54, "ICMP code": 55}
	for _, s := range []*site{contoso, fabrikam} {
		far := udp(mac11, hnv.RouterMAC, "fd00:1::11", "fd00:2::11", "to another host")
		near := udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "to this host")
		message := ipFrame(mac11, mac12, "fd00:1::11", "fd00:1::12", 255, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(200, 0)}, "not yet a neighbor advertisement")
		inner := udp(hnv.RouterMAC, s.gw.mac, "fd00:1::11", "2001:db8::5", "to the Internet")
		tunnelled := outerPacket(s.Encap, paHost1, paGate, s.base, inner)
		for what, at := range places {
			for _, start := range []int{0, at, at - 4, 20} {
				if start < 0 || start > at {
					continue
				}
				o := packet.Offload{NeedsCsum: true, CsumStart: uint16(start), CsumOffset: uint16(at - start)}
				before := l.hosts[1].drops(s.Name.String())[drop.ChecksumUnsupported]
				s.vm11.sendOffloaded(sent{far, o})
				s.vm11.sendOffloaded(sent{message, o})
				if n := l.hosts[1].drops(s.Name.String())[drop.ChecksumUnsupported] - before; n != 2 || l.step() != 0 {
					t.Errorf("%s: %d of 2 frames dropped with the checksum in the %s", s.Name, n, what)
				}
				if at < 36 {
					s.vm11.sendOffloaded(sent{near, o})
				}
				f := packet.NewFrame(2048)
				f.Set(tunnelled)
				o.CsumStart += uint16(len(tunnelled) - len(inner))
				f.Offload = o
				l.hosts[0].w.FromProvider([]*packet.Frame{f})
				l.hosts[0].w.Flush()
			}
		}
		// Where a kernel puts it, it passes: in the transport header, or behind
		// it in that of a tunnel of the VM's own.
		for _, at := range []int{54 + 6, 54 + 20} {
			s.vm11.sendOffloaded(sent{far, packet.Offload{NeedsCsum: true, CsumStart: 54, CsumOffset: uint16(at - 54)}})
			l.settle()
			if got := s.v21.drain(); len(got) != 1 {
				t.Errorf("%s: a checksum at %d: %d frames arrive", s.Name, at, len(got))
			}
		}
	}
	expect(t, l, nil, "", contoso, fabrikam)
}
