package stanza

import (
	"strings"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// vyos writes commands for the configuration mode, those of the tunnel among them:
// VyOS makes it itself.
func (s Site) vyos() string {
	var l lines
	label := s.label("-")
	l.add("# %s", s.what())
	l.add("# for VyOS 1.4: in configuration mode, then commit; wg0 may have any other free number")
	s.vyosTunnel(&l)
	if b := s.BFD; b != nil {
		p := "set protocols bfd profile " + label + " interval"
		l.add("%s multiplier %d", p, b.Multiplier)
		l.add("%s receive %d", p, max(millis(b.Interval), 10))
		l.add("%s transmit %d", p, max(millis(b.Interval), 10))
	}
	for _, f := range s.Families {
		list := map[peering.Family]string{peering.IPv4: "prefix-list", peering.IPv6: "prefix-list6"}[f]
		for i, p := range s.networks(f) {
			rule := "set policy " + list + " " + label + " rule " + itoa(10*(i+1))
			l.add("%s action permit", rule)
			l.add("%s prefix %s", rule, p)
			if !p.IsSingleIP() {
				l.add("%s le %d", rule, p.Addr().BitLen())
			}
		}
	}
	l.add("set protocols bgp system-as %d", s.ASN)
	if s.Local.Is4() {
		l.add("set protocols bgp parameters router-id %s", s.Local)
	} else {
		l.add("# a router ID is needed where the router has no IPv4 address:")
		l.add("# set protocols bgp parameters router-id A.B.C.D")
	}
	n := "set protocols bgp neighbor " + s.Neighbor.String()
	l.add("%s remote-as %d", n, s.NeighborASN)
	l.add("%s description %s", n, s.Tenant+"/"+s.Connection)
	l.add("%s update-source %s", n, s.Local)
	l.add("%s timers keepalive %d", n, seconds(s.Keepalive))
	l.add("%s timers holdtime %d", n, seconds(s.Hold))
	if s.Password {
		l.add("# the password of the session, which the gateway does not tell:")
		l.add("# %s password PASSWORD", n)
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
		l.add("%s bfd profile %s", n, label)
	}
	if s.GracefulRestart != nil {
		l.add("%s graceful-restart enable", n)
	}
	for _, f := range s.Families {
		family := "address-family " + string(f) + "-unicast"
		l.add("%s %s", n, family)
		if s.internal() {
			l.add("%s %s nexthop-self", n, family)
		}
		nets := s.networks(f)
		if len(nets) > 0 {
			l.add("%s %s prefix-list export %s", n, family, label)
		}
		if len(nets) == 0 {
			l.add("# name what is at the site: set protocols bgp %s network PREFIX", family)
		}
		for _, p := range nets {
			l.add("set protocols bgp %s network %s", family, p)
		}
	}
	return l.String()
}

func (s Site) vyosTunnel(l *lines) {
	t := s.Tunnel
	if t.PublicKey == "" {
		return
	}
	const wg = "set interfaces wireguard wg0"
	for _, a := range t.Addresses {
		l.add("%s address %s", wg, a)
	}
	l.add("%s description %s", wg, s.Tenant+"/"+s.Connection)
	if t.MTU != 0 {
		l.add("%s mtu %d", wg, t.MTU)
	}
	if t.ListenPort != 0 {
		l.add("%s port %d", wg, t.ListenPort)
	}
	l.add("# the private key of this end; its public key is what the gateway has for the peer:")
	l.add("# %s private-key PRIVATE-KEY", wg)
	peer := wg + " peer hnvgate"
	l.add("%s public-key %s", peer, strings.TrimSpace(t.PublicKey))
	if t.PresharedKey {
		l.add("# the pre-shared key: gatewayctl s2s export-key %s %s --peer %s", s.Tenant, s.Connection, s.Peer)
		l.add("# %s preshared-key PRESHARED-KEY", peer)
	}
	if t.Endpoint.IsValid() {
		l.add("%s address %s", peer, t.Endpoint.Addr())
		l.add("%s port %d", peer, t.Endpoint.Port())
	}
	for _, p := range t.AllowedIPs {
		l.add("%s allowed-ips %s", peer, p)
	}
	if t.Keepalive != 0 {
		l.add("%s persistent-keepalive %d", peer, t.Keepalive)
	}
}
