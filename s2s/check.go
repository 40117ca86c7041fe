package s2s

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Limits of one compartment.
const (
	MaxTunnels  = 256
	MaxPeers    = 256  // of one tunnel
	MaxPrefixes = 1024 // of one peer
	MaxMaps     = 64   // of one tunnel and side
	// MaxAllPeers and MaxAllPrefixes bound those of all tunnels together.
	MaxAllPeers    = 1024
	MaxAllPrefixes = 16384
	// MinMTU is IPv6's minimum.
	MinMTU = 1280
	MaxMTU = 9000
	// MinKbps leaves room for a full packet in the burst of a limit.
	MinKbps = 64
	// MaxKbps is 100 Gb/s.
	MaxKbps = 1e8
)

type problems struct {
	where string
	errs  []error
}

func (p *problems) bad(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", p.where, fmt.Sprintf(format, args...)))
}

// Check tells everything that is wrong with the Spec. Nothing of a Spec that it
// refuses is applied.
func (s Spec) Check() error {
	p := &problems{where: "tunnels"}
	switch s.Implementation {
	case "", Kernel, Embedded:
	default:
		p.bad("implementation: %q is none: use %s, %s or nothing", s.Implementation, Kernel, Embedded)
	}
	if len(s.Tunnels) > MaxTunnels {
		p.bad("%d are more than %d", len(s.Tunnels), MaxTunnels)
	}
	names, links, ports := map[string]bool{}, map[string]string{}, map[uint16]string{}
	addresses := map[netip.Addr]string{}
	for _, t := range s.Tunnels {
		p.where = fmt.Sprintf("tunnel %q", t.Name)
		if names[t.Name] {
			p.bad("name is given twice")
		}
		names[t.Name] = true
		if other, taken := links[t.Interface]; taken {
			p.bad("interface: %s is that of tunnel %q", t.Interface, other)
		}
		links[t.Interface] = t.Name
		if other, taken := ports[t.ListenPort]; taken && t.ListenPort != 0 {
			p.bad("listen port: %d is that of tunnel %q", t.ListenPort, other)
		}
		ports[t.ListenPort] = t.Name
		for _, a := range t.Addresses {
			if other, taken := addresses[a.Addr()]; taken {
				p.bad("address: %s is that of tunnel %q", a.Addr(), other)
			}
			addresses[a.Addr()] = t.Name
		}
		t.check(p)
	}
	p.where = "tunnels"
	if peers, prefixes := s.size(); peers > MaxAllPeers || prefixes > MaxAllPrefixes {
		p.bad("%d peers with %d prefixes are more than %d with %d", peers, prefixes, MaxAllPeers, MaxAllPrefixes)
	}
	if len(p.errs) == 0 {
		s.checkEndpoints(p)
	}
	return errors.Join(p.errs...)
}

func (t Tunnel) check(p *problems) {
	if t.Name == "" || len(t.Name) > 63 || strings.ContainsFunc(t.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		p.bad("name: use 1 to 63 printable characters without a slash")
	}
	if t.Interface == "" || len(t.Interface) > 15 || t.Interface == "." || t.Interface == ".." ||
		strings.ContainsFunc(t.Interface, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%' }) {
		p.bad("interface: %q is not the name of one", t.Interface)
	}
	if t.PrivateKey.IsZero() {
		p.bad("private key: not set")
	}
	if t.MTU != 0 && (t.MTU < MinMTU || t.MTU > MaxMTU) {
		p.bad("MTU: %d is out of range: use %d to %d, or 0 to derive it", t.MTU, MinMTU, MaxMTU)
	}
	if t.DSCP > 63 {
		p.bad("DSCP: %d is out of range: use 0 to 63", t.DSCP)
	}
	for what, k := range map[string]uint64{"inbound": t.InboundKbps, "outbound": t.OutboundKbps} {
		if k != 0 && (k < MinKbps || k > MaxKbps) {
			p.bad("%s limit: %d kbps is out of range: use %d to %d", what, k, MinKbps, uint64(MaxKbps))
		}
	}
	for i, a := range t.Addresses {
		if !unicast(a.Addr()) {
			p.bad("address: %s is not a unicast address", a)
		}
		if slices.ContainsFunc(t.Addresses[:i], func(b netip.Prefix) bool { return a.Addr() == b.Addr() }) {
			p.bad("address: %s is given twice", a.Addr())
		}
	}
	t.checkMaps(p, "local map", t.LocalMaps)
	t.checkMaps(p, "remote map", t.RemoteMaps)
	t.checkPeers(p)
}

func (t Tunnel) checkMaps(p *problems, what string, maps []Map) {
	if len(maps) > MaxMaps {
		p.bad("%ss: %d are more than %d", what, len(maps), MaxMaps)
	}
	for i, m := range maps {
		if !plain(m.Real) || !plain(m.Mapped) {
			p.bad("%s: %s to %s: a prefix is malformed", what, m.Real, m.Mapped)
			continue
		}
		if m.Real.Bits() != m.Mapped.Bits() || m.Real.Addr().Is4() != m.Mapped.Addr().Is4() {
			p.bad("%s: %s and %s are not of one length", what, m.Real, m.Mapped)
		}
		for _, o := range maps[:i] {
			if plain(o.Real) && plain(o.Mapped) && (o.Real.Overlaps(m.Real) || o.Mapped.Overlaps(m.Mapped)) {
				p.bad("%s: %s to %s overlaps %s to %s", what, m.Real, m.Mapped, o.Real, o.Mapped)
			}
		}
	}
}

func (t Tunnel) checkPeers(p *problems) {
	if len(t.Peers) > MaxPeers {
		p.bad("%d peers are more than %d", len(t.Peers), MaxPeers)
	}
	own := Key{}
	if !t.PrivateKey.IsZero() {
		own = t.PrivateKey.Public()
	}
	tunnel := p.where
	defer func() { p.where = tunnel }()
	names, keys, claims := map[string]bool{}, map[Key]string{}, map[netip.Prefix]string{}
	for _, peer := range t.Peers {
		p.where = fmt.Sprintf("%s, peer %q", tunnel, peer.Name)
		switch other, taken := keys[peer.PublicKey]; {
		case peer.PublicKey.IsZero():
			p.bad("public key: not set")
		case peer.PublicKey == own:
			p.bad("public key: it is the tunnel's own")
		case taken:
			p.bad("public key: it is that of peer %q", other)
		}
		if names[peer.Name] || peer.Name == "" || len(peer.Name) > 63 || strings.Contains(peer.Name, "/") {
			p.bad("name: it is given twice, empty, too long or has a slash")
		}
		names[peer.Name], keys[peer.PublicKey] = true, peer.Name
		if peer.FromBGP && len(t.Peers) > 1 {
			p.bad("prefixes from BGP: the tunnel has other peers, among whom nothing would choose: give the peer a tunnel of its own")
		}
		if len(peer.Prefixes) > MaxPrefixes {
			p.bad("%d prefixes are more than %d", len(peer.Prefixes), MaxPrefixes)
		}
		for _, q := range peer.Prefixes {
			switch other, taken := claims[q]; {
			case !plain(q):
				p.bad("prefix: %s is malformed: use an address without host bits", q)
			case q.Bits() == 0:
				p.bad("prefix: %s would take all of the tenant's traffic: name the site's prefixes", q)
			case taken:
				p.bad("prefix: %s is claimed by peer %q", q, other)
			}
			claims[q] = peer.Name
		}
		peer.check(p, t)
	}
}

func (peer Peer) check(p *problems, t Tunnel) {
	if e := peer.Endpoint; e != (netip.AddrPort{}) && (!unicast(e.Addr()) || e.Port() == 0) {
		p.bad("endpoint: %s is not an address and a port", e)
	}
	if peer.Weight < 0 || peer.Weight > 256 {
		p.bad("weight: %d is out of range: use 1 to 256", peer.Weight)
	}
	w := peer.Probe
	if w.IntervalMS != 0 && (w.IntervalMS < 10 || w.IntervalMS > 60000) {
		p.bad("probe interval: %d ms is out of range: use 10 to 60000", w.IntervalMS)
	}
	for what, n := range map[string]int{"fall": w.Fall, "rise": w.Rise} {
		if n < 0 || n > 1000 {
			p.bad("probe %s: %d is out of range: use 1 to 1000", what, n)
		}
	}
	target := peer.probeTarget()
	if w.Target.IsValid() && !unicast(w.Target) {
		p.bad("probe target: %s is not a unicast address", w.Target)
	}
	// The kernel sends over a link that it has no route to by for IPv4 only.
	if w.Target.IsValid() && !(peer.FromBGP && target.Is4()) &&
		!slices.ContainsFunc(peer.Prefixes, func(q netip.Prefix) bool { return q.Contains(t.real(w.Target)) }) {
		p.bad("probe target: %s is in none of the peer's prefixes", w.Target)
	}
	if w.Target.IsValid() && !t.source(target.Is6()).IsValid() {
		p.bad("probe target: the tunnel has no address of the family of %s", target)
	}
	if slices.ContainsFunc(t.Addresses, func(a netip.Prefix) bool { return a.Addr() == target }) {
		p.bad("probe target: %s is the tunnel's own address", target)
	}
}

// real gives the site's own address for one that the tenant sees.
func (t Tunnel) real(a netip.Addr) netip.Addr {
	for _, m := range t.RemoteMaps {
		if m.Mapped.Contains(a) {
			return translate(a, m.Real)
		}
	}
	return a
}

// size counts all peers and their prefixes.
func (s Spec) size() (peers, prefixes int) {
	for _, t := range s.Tunnels {
		for _, p := range t.Peers {
			peers++
			prefixes += len(p.Prefixes)
		}
	}
	return peers, prefixes
}

// checkEndpoints refuses a peer that would be reached through a tunnel.
func (s Spec) checkEndpoints(p *problems) {
	ways := s.ways()
	for _, t := range s.Tunnels {
		for _, peer := range t.Peers {
			for _, r := range ways {
				if peer.Endpoint.IsValid() && r.dst.Contains(peer.Endpoint.Addr()) {
					p.where = fmt.Sprintf("tunnel %q, peer %q", t.Name, peer.Name)
					p.bad("endpoint: %s is inside %s, which is reached through tunnel %q", peer.Endpoint, r.dst, r.tunnel)
				}
			}
		}
	}
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// plain tells whether the prefix is well-formed and has no host bits.
func plain(p netip.Prefix) bool {
	return p.IsValid() && !p.Addr().Is4In6() && p.Addr().Zone() == "" && p == p.Masked() && !p.Addr().IsMulticast()
}
