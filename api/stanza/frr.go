package stanza

import (
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// frr writes what vtysh reads.
func (s Site) frr() string {
	var l lines
	label := strings.ToUpper(s.label("-"))
	l.add("! %s", s.what())
	l.add("! for FRR: vtysh -f FILE; daemons bgpd, and bfdd where BFD is used")
	if b := s.BFD; b != nil {
		l.add("bfd")
		l.add(" profile %s", label)
		l.add("  detect-multiplier %d", b.Multiplier)
		l.add("  receive-interval %d", max(millis(b.Interval), 10))
		l.add("  transmit-interval %d", max(millis(b.Interval), 10))
		l.add(" exit")
		l.add("exit")
	}
	for _, f := range s.Families {
		v := map[peering.Family]string{peering.IPv4: "ip", peering.IPv6: "ipv6"}[f]
		nets := s.networks(f)
		for i, p := range nets {
			l.add("%s prefix-list %s seq %d permit %s%s", v, label, 5*(i+1), p, orLonger(p.Bits(), p.Addr().BitLen()))
		}
		if len(nets) > 0 {
			continue
		}
		l.add("! no prefixes are said to be at the site: all that the router advertises may go")
		l.add("%s prefix-list %s seq 5 permit any", v, label)
	}
	l.add("route-map %s-IN permit 10", label)
	l.add("exit")
	for i, f := range s.Families {
		l.add("route-map %s-OUT permit %d", label, 10*(i+1))
		l.add(" match %s address prefix-list %s", map[peering.Family]string{peering.IPv4: "ip", peering.IPv6: "ipv6"}[f], label)
		l.add("exit")
	}
	l.add("router bgp %d", s.ASN)
	if s.Local.Is4() {
		l.add(" ! the router ID, unless the router has one")
		l.add(" bgp router-id %s", s.Local)
	} else {
		l.add(" ! a router ID is needed where the router has no IPv4 address: bgp router-id A.B.C.D")
	}
	if g := s.GracefulRestart; g != nil {
		l.add(" bgp graceful-restart")
		l.add(" bgp graceful-restart restart-time %d", seconds(g.Time))
	}
	n := " neighbor " + s.Neighbor.String()
	l.add("%s remote-as %d", n, s.NeighborASN)
	l.add("%s description %s", n, s.Tenant+"/"+s.Connection)
	l.add("%s update-source %s", n, s.Local)
	l.add("%s timers %d %d", n, seconds(s.Keepalive), seconds(s.Hold))
	if s.Neighbor.Is6() && slices.Contains(s.Families, peering.IPv4) {
		l.add("%s capability extended-nexthop", n)
	}
	if s.Password {
		l.add(" ! the password of the session, which the gateway does not tell:")
		l.add(" !%s password PASSWORD", n)
	}
	if s.Passive {
		l.add("%s passive", n)
	}
	switch {
	case s.TTLSecurity > 0:
		l.add("%s ttl-security hops %d", n, s.TTLSecurity)
	case s.MultihopTTL > 0 && !s.internal():
		l.add("%s ebgp-multihop %d", n, s.MultihopTTL)
	}
	if s.BFD != nil {
		l.add("%s bfd", n)
		l.add("%s bfd profile %s", n, label)
	}
	for _, f := range []peering.Family{peering.IPv4, peering.IPv6} {
		l.add(" address-family %s unicast", f)
		if !slices.Contains(s.Families, f) {
			l.add("  no%s activate", n)
			l.add(" exit-address-family")
			continue
		}
		l.add(" %s activate", n)
		l.add(" %s route-map %s-IN in", n, label)
		l.add(" %s route-map %s-OUT out", n, label)
		if s.internal() {
			l.add(" %s next-hop-self", n)
		}
		if len(s.networks(f)) == 0 {
			l.add("  ! name what is at the site: network PREFIX, or redistribute connected")
		}
		for _, p := range s.networks(f) {
			l.add("  network %s", p)
		}
		l.add(" exit-address-family")
	}
	l.add("exit")
	return l.String()
}

// orLonger lets a prefix list take what is inside a prefix too.
func orLonger(bits, most int) string {
	if bits == most {
		return ""
	}
	return " le " + itoa(most)
}
