//go:build privileged && linux

package nat

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// The compartment's own errors reach both ends, of a connection's first packet too:
// without them, nobody learns how much a tunnel takes.
func TestWaysErrors(t *testing.T) {
	l := newWayLab(t, ext1)
	run(t, "ip", "-n", l.comp, "link", "set", "wg-hq", "mtu", "1280")
	in, hq := watch(t, l.inside, "w"), watch(t, l.hq, "wg0")
	told := func(c *capture, typ uint8, code uint8, to string) func() bool {
		return func() bool {
			outer, _, all := c.icmpErrors(typ)
			for i, e := range all {
				if e.TypeCode.Code() == code && outer[i].DstIP.String() == to {
					return true
				}
			}
			return false
		}
	}
	send := func(ns, from, to string, size int, ttl uint8, port layers.UDPPort) {
		p := ip4(from, to, layers.IPProtocolUDP)
		p.Flags, p.TTL = layers.IPv4DontFragment, ttl
		inject(t, ns, p, &layers.UDP{SrcPort: port, DstPort: 53}, gopacket.Payload(make([]byte, size)))
	}
	send(l.inside, vm1, hqHost, 1372, 64, 1001)
	eventually(t, "the VM learns what the tunnel takes", told(in, 3, 4, vm1))
	send(l.inside, vm1, hqHost, 10, 1, 1002)
	eventually(t, "the VM learns of the compartment", told(in, 11, 0, vm1))
	run(t, "ip", "-n", l.comp, "link", "set", "wg-hq", "mtu", "1500")
	send(l.hq, hqHost, vm1, 1472, 64, 1003)
	eventually(t, "the site learns what the inside takes", told(hq, 3, 4, hqHost))
	send(l.hq, hqHost, vm1, 10, 1, 1004)
	eventually(t, "the site learns of the compartment", told(hq, 11, 0, hqHost))
	l.route("add", "unreachable", "10.70.0.0/16")
	send(l.inside, vm1, "10.70.0.1", 10, 64, 1007)
	eventually(t, "the VM learns that nothing leads there", told(in, 3, 1, vm1))
	if d := l.drops(); d[DropOutput] != 0 || d[DropInvalid] != 0 {
		t.Errorf("dropped: %v", d)
	}
}

// Nobody outside gives himself out for a site's host, to what a mapping leads to.
func TestSiteForgedFromOutside(t *testing.T) {
	l := newWayLab(t, ext1, "2001:db8::10")
	l.addMapping(hnv.UDP, ext1+":53", vm1+":53")
	l.addMapping(hnv.UDP, "[2001:db8::10]:53", "["+vm16+"]:53")
	l.apply()
	serve(t, l.inside, "udp", "["+vm16+"]:53")
	serve(t, l.inside, "udp", vm1+":53")
	run(t, "ip", "-n", l.outside, "addr", "add", hqHost+"/32", "dev", "lo")
	run(t, "ip", "-n", l.outside, "addr", "add", hqHost6+"/128", "dev", "lo", "nodad")
	eventually(t, "the inside's router is known", func() bool {
		_, err := ask(mustDial(t, l.outside, "udp", "2001:db8:7::7", "[2001:db8::10]:53"))
		return err == nil
	})
	l.wantSeen(l.outside, "udp", "2001:db8:7::7", "[2001:db8::10]:53", "2001:db8:7::7")
	l.wantSeen(l.outside, "udp", remote, ext1+":53", remote)
	seen := watch(t, l.inside, "w")
	l.wantSilence(l.outside, "udp", hqHost, ext1+":53")
	l.wantSilence(l.outside, "udp", hqHost6, "[2001:db8::10]:53")
	for _, p := range seen.all() {
		if ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok && ip.SrcIP.String() == hqHost6 {
			t.Errorf("came in: %v", p)
		}
		if ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && ip.SrcIP.String() == hqHost {
			t.Errorf("came in: %v", p)
		}
	}
	if d := l.drops(); d[DropReversePath] != 2 {
		t.Errorf("drops are %v", d)
	}
	l.wantSeen(l.hq, "udp", hqHost6, "["+vm16+"]:53", hqHost6)
}

// A site gives nobody out for itself, neither inside nor in physical networks, and
// answers by whichever tunnel it likes.
func TestForgedFromSite(t *testing.T) {
	l := newWayLab(t, ext1)
	dc, in := watch(t, l.dc, "dc0"), watch(t, l.inside, "w")
	for _, from := range []string{remote, "10.99.0.1", router} {
		for _, to := range []string{vm1, dcHost} {
			inject(t, l.hq, ip4(from, to, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 53}, gopacket.Payload("forged"))
		}
	}
	// The router's is one of the inside.
	eventually(t, "they are counted", func() bool { return l.drops()[DropReversePath] == 4 && l.drops()[DropSpoofed] == 2 })
	for _, p := range append(dc.all(), in.all()...) {
		if p.Layer(layers.LayerTypeUDP) != nil {
			t.Errorf("went through: %v", p)
		}
	}
	inject(t, l.hq, ip4(branchHost, vm1, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 53}, gopacket.Payload("other way"))
	eventually(t, "what has another tunnel as its way back comes in", func() bool {
		for _, p := range in.all() {
			if p.Layer(layers.LayerTypeUDP) != nil {
				return true
			}
		}
		return false
	})
}
