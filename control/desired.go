package control

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/nat"
	"github.com/hnvgate/hnvgate/s2s"
)

// derivedMetric ranks the default route that a compartment implies behind every
// route an operator wrote.
const derivedMetric = 1 << 31

// Desired is what the engines should have for one tenant.
type Desired struct {
	RDID hnv.RDID
	// Here tells whether this machine has to do with the tenant's packets at all.
	// Where it has not, the dataplane is not given the tenant's tables.
	Here    bool
	Records int // that the tables hold
	// Compartment, Port, NAT and Forward are nil where this machine is not the
	// tenant's gateway, NAT also where the tenant has neither NAT nor another way
	// outside.
	Compartment *compartments.Spec
	Port        *dataplane.PortSpec
	NAT         *nat.Spec
	// Forward is the compartment's links in physical networks; it may have none.
	Forward *forwarder.Spec
	// Tunnels and Speaker are what the compartment's agent is to do; both nil: there
	// is none. AgentFault says why that is not known.
	Tunnels    *s2s.Spec
	Speaker    *bgp.Spec
	AgentFault error
	// Aside is what of the tenant's is stored and does not fit this machine, with the
	// reasons.
	Aside []string
	// Beyond: packets go elsewhere than to NAT.
	Beyond bool
	// Offload is what the tenant says of its established connections.
	Offload hnv.Offload
	// Blocked says why the compartment cannot be built yet; then it is nil.
	Blocked string
}

// machine is what desired state depends on besides the fabric.
type machine struct {
	paMTU   int
	uplinks map[string]string // interfaces by name
	open    opener
	// wireguard is what all tunnels are to be of; "" chooses for each.
	wireguard s2s.Implementation
	// neighbours bounds those of one tenant in physical networks; 0: as usual.
	neighbours uint32
	// heard is from where the tenant's peers without an endpoint call.
	heard []netip.Addr
}

// desired computes a tenant's, but for its tables. ok is false when there is no
// such tenant.
func desired(f *hnv.Fabric, name hnv.Name, m machine) (d Desired, ok bool) {
	t, ok := f.Tenant(name)
	if !ok {
		return Desired{}, false
	}
	d.RDID, d.Here, d.Records = t.RDID, f.Here(name), f.CountRecords(name)
	if t.Gateway == nil {
		return d, true
	}
	for _, s := range f.Aside(name) {
		d.Aside = append(d.Aside, s.Why.Error())
	}
	if _, ok := f.GatewayPA(); !ok {
		d.Blocked = "this machine has no provider address: add one with «gatewayctl provider-address add»"
		return d, true
	}
	d.Records += len(t.Gateway.CAs)
	mtu := compartmentMTU(f, t, m.paMTU)
	d.Compartment = compartmentSpec(f, t, mtu)
	d.Port = &dataplane.PortSpec{
		Name: compartmentPort(t.Name), RDID: t.RDID, VSID: t.Gateway.VSID, MAC: hnv.CompartmentMAC(t.Gateway.VSID),
		Kind: dataplane.PortCompartment, MTU: mtu,
	}
	d.Forward = attachmentSpec(f, t, m.uplinks)
	d.Beyond = reachesOut(f, name)
	if t.Gateway.NAT != nil || d.Beyond {
		d.NAT = natSpec(f, t, mtu, d.Compartment.External)
		d.NAT.Neighbours = m.neighbours
		if t.Gateway.NAT != nil {
			d.Offload = t.Gateway.NAT.Offload
		}
	}
	var err, err2 error
	d.Tunnels, err = tunnelSpec(f, t, m.open)
	if d.Tunnels != nil {
		d.Tunnels.Implementation = m.wireguard
	}
	d.Speaker, err2 = speakerSpec(f, t, m.open, m.heard...)
	d.AgentFault = errors.Join(err, err2)
	return d, true
}

// reachesOut tells whether the tenant has anything besides NAT.
func reachesOut(f *hnv.Fabric, n hnv.Name) bool {
	_, router := f.BGPRouter(n)
	return router || len(f.Attachments(n))+len(f.Connections(n)) > 0
}

// compartmentMTU leaves room for the tunnel to any host: where this machine has
// provider addresses of both families, those of IPv6 take more.
func compartmentMTU(f *hnv.Fabric, t hnv.Tenant, paMTU int) int {
	six := slices.ContainsFunc(f.ProviderAddresses(), func(a hnv.ProviderAddress) bool { return a.Addr.Addr().Is6() })
	return paMTU - t.Encap.Overhead(six)
}

func compartmentPort(n hnv.Name) string { return "compartment/" + n.String() }

// tables gives what the dataplane should have of a tenant: everything that is
// said of it, and the way to its compartment. It copies all records, so it is for
// when they are needed.
func tables(f *hnv.Fabric, t hnv.Tenant, l *learned) dataplane.Tenant {
	out := dataplane.Tenant{
		Name: t.Name, RDID: t.RDID, Encap: t.Encap, QoS: t.QoS, StormPPS: t.StormPPS, Subnets: t.Subnets,
		ACLs:    f.TenantACLs(t.Name),
		Routes:  f.TenantRoutes(t.Name),
		Records: f.TenantRecords(t.Name),
	}
	if pa, ok := f.GatewayPA(); ok && t.Gateway != nil {
		out.Records = append(out.Records, derivedRecords(t, pa)...)
		out.Routes = append(out.Routes, derivedRoutes(f, t, l)...)
	}
	return out
}

// derivedRecords lead to the compartment; hosts need the same ones.
func derivedRecords(t hnv.Tenant, pa netip.Addr) []hnv.Record {
	var out []hnv.Record
	for _, ca := range t.Gateway.CAs {
		out = append(out, hnv.Record{
			VSID: t.Gateway.VSID, CA: ca, MAC: hnv.CompartmentMAC(t.Gateway.VSID), PA: pa,
			Rule: hnv.Rule(t.Encap), Type: hnv.Static, VMName: "compartment",
		})
	}
	return out
}

// derivedRoutes lead everything outside the virtual network to the compartment, and
// what is known to be behind it past less specific routes to elsewhere.
func derivedRoutes(f *hnv.Fabric, t hnv.Tenant, l *learned) []hnv.CustomerRoute {
	var out []hnv.CustomerRoute
	prefixes, _ := beyond(f, t, l)
	for _, ca := range t.Gateway.CAs {
		to := hnv.CustomerRoute{RDID: t.RDID, VSID: t.Gateway.VSID, NextHop: ca, Metric: derivedMetric}
		to.Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if ca.Is6() {
			to.Prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		out = append(out, to)
		for _, p := range prefixes {
			if to.Prefix = p; p.Addr().Is4() == ca.Is4() {
				out = append(out, to)
			}
		}
	}
	return out
}

func compartmentSpec(f *hnv.Fabric, t hnv.Tenant, mtu int) *compartments.Spec {
	g := t.Gateway
	s := &compartments.Spec{
		Name: t.Name, RDID: t.RDID, VSID: g.VSID, MAC: hnv.CompartmentMAC(g.VSID), MTU: mtu, Uplink: g.Uplink,
		Whole: tunnelsWhole(f, t),
	}
	own, _ := t.Subnet(g.VSID)
	via := map[bool]netip.Addr{} // by Is4: the distributed router's address in the gateway subnet
	for _, ca := range g.CAs {
		p, _ := own.PrefixOf(ca)
		s.CAs = append(s.CAs, netip.PrefixFrom(ca, p.Prefix.Bits()))
		via[ca.Is4()] = p.Gateway
	}
	add := func(p netip.Prefix) {
		if v, ok := via[p.Addr().Is4()]; ok {
			s.Routes = append(s.Routes, compartments.Route{Prefix: p, Via: v})
		}
	}
	for _, sub := range t.Subnets {
		for _, p := range sub.Prefixes {
			if _, onLink := own.PrefixOf(p.Prefix.Addr()); !onLink {
				add(p.Prefix)
			}
		}
	}
	for _, r := range f.TenantRoutes(t.Name) {
		if r.Prefix.Bits() > 0 && !isOneOf(r.NextHop, g.CAs) {
			add(r.Prefix)
		}
	}
	if g.NAT != nil {
		s.External = slices.Clone(g.NAT.Pool)
	}
	outward(f, t, s)
	return s
}

// tunnelsWhole tells whether the fast path in the kernel takes no super-packets into
// the tenant's tunnels: one outer UDP checksum, which IPv6 wants, cannot serve all
// pieces.
func tunnelsWhole(f *hnv.Fabric, t hnv.Tenant) bool {
	pa, ok := f.GatewayPA()
	return ok && pa.Is6() && t.Encap == hnv.VXLAN
}

func isOneOf(a netip.Addr, in []netip.Addr) bool {
	for _, b := range in {
		if a == b {
			return true
		}
	}
	return false
}

func natSpec(f *hnv.Fabric, t hnv.Tenant, mtu int, external []hnv.ExternalRange) *nat.Spec {
	g := t.Gateway
	s := &nat.Spec{
		Name: t.Name, Inside: compartments.OverlayLink(g.VSID), Outside: compartments.ExternalLink,
		InsideAddrs: g.CAs, Mappings: f.TenantMappings(t.Name), InsideMTU: mtu,
	}
	if g.NAT != nil {
		s.Pool, s.ConnectionLimit = g.NAT.Pool, g.NAT.ConnectionLimit
	}
	for _, sub := range t.Subnets {
		for _, p := range sub.Prefixes {
			s.InsidePrefixes = append(s.InsidePrefixes, p.Prefix)
		}
	}
	beyondNAT(f, t, s, external)
	return s
}
