package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// Protocols of routes in a compartment, by who made them (ADR 11, ADR 24).
const (
	protoKernel  = 2
	protoOurs    = 201 // compartments: the overlay, and the default route
	protoTunnels = s2s.RouteProtocol
	protoBGP     = 203
	protoForward = forwarder.RouteProtocol
)

// ways names a compartment's links.
type ways struct {
	t        hnv.Tenant
	inside   string
	tunnels  map[string]hnv.S2SConnection
	attached map[string]hnv.Attachment
	routed   []hnv.Attachment
}

func waysOf(f *hnv.Fabric, t hnv.Tenant) ways {
	w := ways{t: t, inside: compartments.OverlayLink(t.Gateway.VSID), tunnels: map[string]hnv.S2SConnection{}, attached: map[string]hnv.Attachment{}}
	for _, c := range f.Connections(t.Name) {
		w.tunnels[c.Link()] = c
	}
	for _, a := range f.Attachments(t.Name) {
		w.attached[a.Link()] = a
	}
	w.routed = routedAttachments(f, t)
	return w
}

// Path tells which way packets to a destination leave a tenant's compartment, and
// why.
func (c *Controller) Path(ctx context.Context, n hnv.Name, q v1.PathQuery) (v1.PathExplanation, error) {
	out := v1.PathExplanation{Tenant: n.String(), Dst: q.Dst, Src: q.Src, Others: []v1.PathRoute{}}
	s, err := c.site(n)
	if err != nil {
		return out, err
	}
	if s.spec.Gateway == nil {
		return out, fmt.Errorf("this machine is not the gateway of tenant %s: %w", n, hnv.ErrNotFound)
	}
	if s.tenant == nil || s.tenant.status.namespace() == "" || c.o.Explain == nil {
		return out, fmt.Errorf("the compartment of tenant %s is not built yet: see «gatewayctl tenant show %s»: %w", n, n, hnv.ErrNotFound)
	}
	var w ways
	c.o.Store.View(func(f *hnv.Fabric) { w = waysOf(f, s.spec) })
	ask := forwarder.Query{}
	if ask.Dst, err = netip.ParseAddr(q.Dst); err != nil {
		return out, fmt.Errorf("destination: %w: %w", err, hnv.ErrInvalid)
	}
	if q.Src != "" {
		if ask.Src, err = netip.ParseAddr(q.Src); err != nil {
			return out, fmt.Errorf("source: %w: %w", err, hnv.ErrInvalid)
		}
	} else {
		ask.Src = w.someSource(ask.Dst)
		ask.In = w.inside
		if !ask.Src.IsValid() {
			ask.In = ""
		}
	}
	p, err := c.o.Explain(ctx, s.tenant.status.namespace(), ask)
	if err != nil {
		return out, fmt.Errorf("path of tenant %s to %s: %w", n, q.Dst, err)
	}
	w.explain(&out, p, ask)
	if d, ok := w.tunnels[link(p)]; ok {
		_, _, tunnels, _ := s.tenant.keeper.snapshot()
		for _, t := range tunnels.Tunnels {
			if t.Name == d.Name.String() {
				out.MTU = t.MTU
			}
		}
	}
	return out, nil
}

// someSource is an address that packets from inside to the destination may have.
func (w ways) someSource(dst netip.Addr) netip.Addr {
	for _, p := range tenantPrefixes(w.t) {
		if p.Addr().Is4() != dst.Is4() || p.Contains(dst) {
			continue
		}
		a := p.Addr().Next().Next().Next()
		if p.Contains(a) && !slices.Contains(w.t.Gateway.CAs, a) {
			return a
		}
	}
	return netip.Addr{}
}

func link(p forwarder.Path) string {
	if len(p.Route.Hops) == 0 {
		return ""
	}
	return p.Route.Hops[0].Link
}

// explain puts the kernel's answer into the tenant's words.
func (w ways) explain(out *v1.PathExplanation, p forwarder.Path, q forwarder.Query) {
	for _, m := range p.Others {
		r := w.route(m)
		r.Why = "less preferred: its metric is higher"
		if m.Prefix.Bits() < p.Route.Prefix.Bits() {
			r.Why = "less specific"
		}
		out.Others = append(out.Others, r)
	}
	if p.Refused != "" {
		out.Via, out.Reason = v1.ViaNone, p.Refused
		return
	}
	if !p.Route.Prefix.IsValid() {
		out.Via, out.Reason = v1.ViaNone, "no route of the compartment leads there: packets are answered with «network unreachable»"
		return
	}
	r := w.route(p.Route)
	out.Route = &r
	specific := fmt.Sprintf("%s is the most specific route there", p.Route.Prefix)
	if slices.ContainsFunc(p.Others, func(m forwarder.Match) bool { return m.Prefix == p.Route.Prefix }) {
		specific = fmt.Sprintf("%s is the most specific route there, and of several the one with the lowest metric, %d", p.Route.Prefix, p.Route.Metric)
	}
	switch p.Route.Type {
	case forwarder.TypeLocal:
		out.Via, out.Reason = v1.ViaLocal, fmt.Sprintf("%s is an address of the compartment itself", q.Dst)
		return
	case forwarder.TypeUnreachable, forwarder.TypeBlackhole, forwarder.TypeProhibit:
		out.Via, out.Reason = v1.ViaBlackhole, specific+", and it refuses packets"+w.refuses(p.Route)
		return
	}
	first := link(p)
	switch conn, tunnel := w.tunnels[first]; {
	case tunnel:
		out.Via, out.Through = v1.ViaS2S, conn.Name.String()
	case first == w.inside:
		out.Via = v1.ViaOverlay
	case w.attached[first].Name.IsValid():
		out.Via, out.Through = v1.ViaForward, w.attached[first].Name.String()
	case first == compartments.ExternalLink:
		w.outside(out, q)
	default:
		out.Via, out.Through = v1.ViaForward, first
	}
	out.Reason = specific + "; " + w.by(p.Route)
	var others []string
	for _, h := range p.Route.Hops[min(1, len(p.Route.Hops)):] {
		if h.Link != first && !slices.Contains(others, h.Link) {
			others = append(others, h.Link)
		}
	}
	if len(others) > 0 {
		out.Reason += "; flows are shared with " + strings.Join(others, ", ")
	}
}

// outside tells what becomes of packets over the compartment's own way outside:
// attachments there have it as it is, all else is translated.
func (w ways) outside(out *v1.PathExplanation, q forwarder.Query) {
	for _, a := range w.routed {
		for _, r := range a.Routes {
			if r.Prefix.Contains(q.Dst) {
				out.Via, out.Through = v1.ViaForward, a.Name.String()
				return
			}
		}
	}
	out.Via, out.Through = v1.ViaNAT, w.t.Gateway.Uplink
	nat := w.t.Gateway.NAT
	if nat == nil {
		out.Via = v1.ViaNone
		out.Translated = "nothing: the tenant has no NAT, so such packets are dropped"
		return
	}
	var pool []string
	for _, e := range nat.Pool {
		if e.Addr.Is4() == q.Dst.Is4() {
			pool = append(pool, e.String())
		}
	}
	if len(pool) == 0 {
		out.Via, out.Translated = v1.ViaNone, "nothing: the tenant has no external address of this family, so such packets are dropped"
		return
	}
	out.Translated = "the source becomes an address of " + strings.Join(pool, ", ")
}

func (w ways) refuses(m forwarder.Match) string {
	switch m.Protocol {
	case protoTunnels:
		return ": it stands behind a tunnel that is not there, so that nothing leaves in the clear"
	case protoBGP:
		return ": it is that of an aggregate, of which nothing more specific is known"
	}
	return ""
}

// by says who made a route.
func (w ways) by(m forwarder.Match) string {
	switch m.Protocol {
	case protoBGP:
		var hops []string
		for _, h := range m.Hops {
			if h.Via.IsValid() {
				hops = append(hops, h.Via.String())
			}
		}
		if len(hops) == 0 {
			return "BGP told of it"
		}
		return "BGP told of it, by way of " + strings.Join(hops, ", ")
	case protoTunnels:
		return "it is one of the prefixes behind the connection's peer"
	case protoForward:
		return "it is a static route of the attachment"
	case protoKernel:
		return "it is the prefix of an address on the link"
	case protoOurs:
		if m.Prefix.Bits() == 0 {
			return "it is the compartment's default route"
		}
		return "it is a prefix of the tenant"
	}
	return fmt.Sprintf("route protocol %d made it", m.Protocol)
}

func (w ways) route(m forwarder.Match) v1.PathRoute {
	out := v1.PathRoute{Prefix: m.Prefix.String(), NextHops: []v1.PathHop{}, From: w.from(m), Metric: m.Metric}
	if m.Type != forwarder.TypeUnicast {
		out.Type = m.Type
	}
	for _, h := range m.Hops {
		x := v1.PathHop{Address: addrText(h.Via), Interface: h.Link}
		if len(m.Hops) > 1 {
			x.Weight = h.Weight
		}
		out.NextHops = append(out.NextHops, x)
	}
	return out
}

func (w ways) from(m forwarder.Match) string {
	switch m.Protocol {
	case protoKernel:
		return "kernel"
	case protoTunnels:
		return "s2s"
	case protoBGP:
		return "bgp"
	case protoForward:
		return "attachment"
	case protoOurs:
		if len(m.Hops) > 0 && m.Hops[0].Link == compartments.ExternalLink {
			return "nat"
		}
		return "overlay"
	}
	return fmt.Sprint(m.Protocol)
}
