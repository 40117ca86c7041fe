package v1

import (
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
)

// Object gives the domain's object. A rule that is left out stays unset: it is
// the tenant's encapsulation, which the record alone does not know.
func (r LookupRecord) Object() (hnv.Record, error) {
	var f fields
	out := hnv.Record{
		VSID: f.vsid("vsid", r.VSID),
		MAC:  read(&f, "mac", r.MAC, parseMAC),
		PA:   f.addr("pa", "provider address", r.PA),
		Rule: optional(&f, "rule", r.Rule, hnv.ParseRule),
		Type: hnv.Static, VMName: r.VMName, Context: r.Context, UseVMMAC: r.UseVMMAC,
	}
	if r.Type != "" {
		out.Type = read(&f, "type", r.Type, hnv.ParseRecordType)
	}
	if r.CA != "" || out.Type != hnv.L2Only {
		out.CA = f.addr("ca", "customer address", r.CA)
	}
	for i, a := range r.TeamPAs {
		out.TeamPAs = append(out.TeamPAs, f.addr(fmt.Sprintf("teamPAs[%d]", i), "provider address", a))
	}
	optional(&f, "rdid", r.RDID, hnv.ParseRDID) // to be compared by the server
	switch r.Origin {
	case "", OriginConfigured:
	case OriginGateway:
		f.failf("origin", "the record is made by the gateway for a compartment and cannot be written")
	case OriginSubnet:
		f.failf("origin", "the record is the virtual subnet's own, for its router or DHCP server, and cannot be written: change the tenant's virtual subnet instead")
	default:
		f.failf("origin", "origin %q is unknown: leave it out", r.Origin)
	}
	return out, f.err()
}

func parseMAC(s string) (hnv.MAC, error) {
	if s == "" {
		return hnv.MAC{}, invalidf("the MAC address is missing")
	}
	return hnv.ParseMAC(s)
}

// NewLookupRecord gives the record as the interface shows it, with the name of
// its tenant.
func NewLookupRecord(r hnv.Record, tenant, origin string) LookupRecord {
	return LookupRecord{
		VSID: r.VSID.Uint32(), CA: addrText(r.CA), MAC: r.MAC.String(), PA: addrText(r.PA), TeamPAs: texts(r.TeamPAs),
		Rule: string(r.Rule), Type: string(r.Type), VMName: r.VMName, Context: r.Context, UseVMMAC: r.UseVMMAC,
		Tenant: tenant, Origin: origin,
	}
}

// Object gives the domain's object. An RDID that is left out stays unset: it is
// that of the VSID.
func (r CustomerRoute) Object() (hnv.CustomerRoute, error) {
	var f fields
	out := hnv.CustomerRoute{
		VSID:    f.vsid("vsid", r.VSID),
		RDID:    optional(&f, "rdid", r.RDID, hnv.ParseRDID),
		Prefix:  f.prefix("prefix", "destination prefix", r.Prefix),
		NextHop: f.addr("nextHop", "next hop", r.NextHop),
		Metric:  r.Metric,
	}
	return out, f.err()
}

// NewCustomerRoute gives the route as the interface shows it, with the name of
// its tenant.
func NewCustomerRoute(r hnv.CustomerRoute, tenant string) CustomerRoute {
	return CustomerRoute{
		VSID: r.VSID.Uint32(), Prefix: r.Prefix.String(), NextHop: r.NextHop.String(), Metric: r.Metric,
		Tenant: tenant, RDID: r.RDID.String(),
	}
}

// Object gives the domain's object.
func (p ProviderAddress) Object() (hnv.ProviderAddress, error) {
	var f fields
	out := hnv.ProviderAddress{Addr: f.prefix("address", "provider address", p.Address), Interface: p.Interface, VLAN: p.VLAN}
	if p.Interface == "" {
		f.failf("interface", "the interface is missing")
	}
	return out, f.err()
}

// NewProviderAddress gives the address as the interface shows it.
func NewProviderAddress(p hnv.ProviderAddress) ProviderAddress {
	return ProviderAddress{Address: p.Addr.String(), Interface: p.Interface, VLAN: p.VLAN}
}

// Object gives the domain's object.
func (r ProviderRoute) Object() (hnv.ProviderRoute, error) {
	var f fields
	out := hnv.ProviderRoute{Prefix: f.prefix("prefix", "prefix", r.Prefix), NextHop: f.addr("nextHop", "next hop", r.NextHop), Metric: r.Metric}
	return out, f.err()
}

// NewProviderRoute gives the route as the interface shows it.
func NewProviderRoute(r hnv.ProviderRoute) ProviderRoute {
	return ProviderRoute{Prefix: r.Prefix.String(), NextHop: r.NextHop.String(), Metric: r.Metric}
}

// Object gives the domain's object.
func (p Port) Object() (hnv.Port, error) {
	var f fields
	out := hnv.Port{
		Interface: p.Interface, VSID: f.vsid("vsid", p.VSID), MAC: read(&f, "mac", p.MAC, parseMAC),
		InKbps: p.InKbps, OutKbps: p.OutKbps,
	}
	if p.ACL != "" {
		out.ACL = f.named("acl", "ACL", p.ACL)
	}
	if p.Interface == "" {
		f.failf("interface", "the interface is missing")
	}
	return out, f.err()
}

// NewPort gives the port as the interface shows it.
func NewPort(p hnv.Port) Port {
	return Port{
		Interface: p.Interface, VSID: p.VSID.Uint32(), MAC: p.MAC.String(),
		ACL: p.ACL.String(), InKbps: p.InKbps, OutKbps: p.OutKbps,
	}
}

// Object gives the domain's object.
func (m NATMapping) Object() (hnv.NATMapping, error) {
	var f fields
	out := hnv.NATMapping{
		Tenant:   read(&f, "tenant", m.Tenant, parseName),
		Proto:    read(&f, "proto", m.Proto, hnv.ParseProto),
		External: f.addrPort("external", "external", m.External),
		Internal: f.addrPort("internal", "internal", m.Internal),
	}
	return out, f.err()
}

// NewNATMapping gives the mapping as the interface shows it.
func NewNATMapping(m hnv.NATMapping) NATMapping {
	return NATMapping{Tenant: m.Tenant.String(), Proto: string(m.Proto), External: m.External.String(), Internal: m.Internal.String()}
}
