package control

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/nat"
)

// The ports of services that a compartment has for its peers: RFC 4271, RFC 5881.
const (
	portBGP = 179
	portBFD = 3784
)

// attachmentSpec is what the compartment has in physical networks by links of its
// own; uplinks gives the interfaces.
func attachmentSpec(f *hnv.Fabric, t hnv.Tenant, uplinks map[string]string) *forwarder.Spec {
	s := &forwarder.Spec{Tenant: t.Name}
	for _, a := range f.Attachments(t.Name) {
		kind := f.UplinkKind(a.Uplink)
		if kind == hnv.UplinkRouted {
			continue
		}
		x := forwarder.Attachment{
			Name: a.Name, Link: a.Link(), Kind: kind, Parent: uplinks[a.Uplink], VLAN: a.VLAN, MTU: a.MTU,
			Addresses: a.Addresses, ReversePath: string(a.ReversePath),
		}
		for _, r := range a.Routes {
			x.Routes = append(x.Routes, forwarder.Route(r))
		}
		s.Attachments = append(s.Attachments, x)
	}
	return s
}

// routedAttachments are those whose packets go over the compartment's own way
// outside.
func routedAttachments(f *hnv.Fabric, t hnv.Tenant) []hnv.Attachment {
	return slices.DeleteFunc(f.Attachments(t.Name), func(a hnv.Attachment) bool { return f.UplinkKind(a.Uplink) != hnv.UplinkRouted })
}

// outward adds to the compartment what it has outside besides its NAT pool: the
// addresses of routed attachments, and the tenant's own prefixes, which are reached
// there as they are.
func outward(f *hnv.Fabric, t hnv.Tenant, s *compartments.Spec) {
	routed := routedAttachments(f, t)
	for _, a := range routed {
		for _, p := range a.Addresses {
			s.External = append(s.External, hnv.ExternalRange{Addr: p.Addr()})
		}
	}
	if len(routed) > 0 {
		s.Forwarded = forwarded(t, s.External)
	}
}

// forwarded are the tenant's prefixes of the families that have a way outside.
func forwarded(t hnv.Tenant, external []hnv.ExternalRange) []netip.Prefix {
	return slices.DeleteFunc(tenantPrefixes(t), func(p netip.Prefix) bool {
		return !slices.ContainsFunc(external, func(e hnv.ExternalRange) bool { return e.Addr.Is4() == p.Addr().Is4() })
	})
}

// beyondNAT adds to the compartment's rules what is not translated.
func beyondNAT(f *hnv.Fabric, t hnv.Tenant, s *nat.Spec, external []hnv.ExternalRange) {
	for _, a := range f.Attachments(t.Name) {
		l := nat.Link{Name: a.Link(), MTU: a.MTU, ReversePath: string(a.ReversePath)}
		for _, p := range a.Addresses {
			l.Addresses = append(l.Addresses, p.Addr())
		}
		if f.UplinkKind(a.Uplink) == hnv.UplinkRouted {
			l.Name, l.MTU = compartments.ExternalLink, 0
			l.Sources = forwarded(t, external)
			for _, r := range a.Routes {
				l.Destinations = append(l.Destinations, r.Prefix)
			}
		}
		s.Forward = append(s.Forward, l)
	}
	s.OnLink = onLink(f, t)
	for _, c := range f.Connections(t.Name) {
		at, ok := f.ListenAt(c)
		if !ok {
			continue // refused where it was made
		}
		s.Tunnels = append(s.Tunnels, nat.Tunnel{
			Link: c.Link(), Addresses: c.Addresses, ListenPort: c.ListenPort, At: at.Addr, Endpoints: tunnelEndpoints(c),
		})
	}
	for _, p := range f.BGPPeers(t.Name) {
		s.Services = append(s.Services, services(f, t, s, p.Peer)...)
	}
}

// onLink are the physical networks that the compartment has feet in. The gateway subnet
// is not among them: of that, many VMs may be spoken with.
func onLink(f *hnv.Fabric, t hnv.Tenant) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range f.Attachments(t.Name) {
		for _, p := range a.Addresses {
			if f.UplinkKind(a.Uplink) != hnv.UplinkRouted && !p.IsSingleIP() {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// services are what the compartment speaks with a BGP peer: over the links on which
// the peer is as far as is said, or over all.
func services(f *hnv.Fabric, t hnv.Tenant, s *nat.Spec, p bgp.Peer) []nat.Service {
	from := p.Prefix
	if p.Address.IsValid() {
		from = netip.PrefixFrom(p.Address.WithZone(""), p.Address.BitLen())
	}
	base := nat.Service{Proto: hnv.TCP, Port: portBGP, Peers: []netip.Prefix{from}, Links: linksTo(f, t, s, from)}
	for _, a := range f.OwnAddresses(t.Name) {
		if a.Is4() == from.Addr().Is4() && (!p.Local.IsValid() || a == p.Local) {
			base.At = append(base.At, a)
		}
	}
	if len(base.At) == 0 {
		return nil // nothing to speak from
	}
	out := []nat.Service{base}
	if p.Port != 0 && p.Port != portBGP {
		base.Port = p.Port
		out = append(out, base)
	}
	if p.BFD != nil {
		base.Proto, base.Port, base.Near = hnv.UDP, portBFD, true
		out = append(out, base)
	}
	return out
}

// linksTo names the links on which the prefix is; all where none is known to lead
// there.
func linksTo(f *hnv.Fabric, t hnv.Tenant, s *nat.Spec, to netip.Prefix) []string {
	var out []string
	add := func(link string, on []netip.Prefix) {
		if slices.ContainsFunc(on, func(p netip.Prefix) bool { return p.Overlaps(to) }) && !slices.Contains(out, link) {
			out = append(out, link)
		}
	}
	for _, c := range f.Connections(t.Name) {
		on := slices.Clone(c.Addresses)
		for _, p := range c.Peers {
			on = append(on, p.Prefixes...)
		}
		add(c.Link(), on)
	}
	for _, a := range f.Attachments(t.Name) {
		on := slices.Clone(a.Addresses)
		for _, r := range a.Routes {
			on = append(on, r.Prefix)
		}
		if f.UplinkKind(a.Uplink) == hnv.UplinkRouted {
			add(compartments.ExternalLink, on)
		} else {
			add(a.Link(), on)
		}
	}
	add(s.Inside, tenantPrefixes(t))
	if len(out) > 0 {
		return out
	}
	out = []string{s.Inside, s.Outside}
	for _, l := range s.Forward {
		if l.Name != s.Outside {
			out = append(out, l.Name)
		}
	}
	for _, tn := range s.Tunnels {
		out = append(out, tn.Link)
	}
	return out
}
