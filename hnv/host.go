package hnv

import (
	"net/netip"
	"slices"
)

// The names under which a subnet's own records are shown.
const (
	RouterRecordName = "GW"
	DHCPRecordName   = "DHCP"
)

// SubnetRecords gives what every virtual subnet of a tenant shows besides its
// lookup records: the distributed router in each prefix, which every host is
// itself and which has no PA, and the DHCP server where one is configured, with
// the MAC and PA of its record if it has one. They are for listing only.
func (f *Fabric) SubnetRecords(tenant Name) []Record {
	t, ok := f.tenants[tenant]
	if !ok {
		return nil
	}
	var out []Record
	for _, s := range t.Subnets {
		own := Record{VSID: s.VSID, MAC: RouterMAC, Rule: Rule(t.Encap), Type: Static}
		for _, p := range s.Prefixes {
			r := own
			r.CA, r.VMName = p.Gateway, RouterRecordName
			out = append(out, r)
		}
		if s.DHCP.IsValid() {
			r := own
			if at, ok := f.records[s.VSID][RecordKey{VSID: s.VSID, CA: s.DHCP}]; ok {
				r = at
			}
			r.VSID, r.CA, r.VMName = s.VSID, s.DHCP, DHCPRecordName
			out = append(out, r)
		}
	}
	slices.SortFunc(out, compareRecords)
	return out
}

// ForHost gives what a host with the PAs needs and nothing else: of each tenant
// that has a record at one of them the tenant, without its gateway, its ACLs,
// its lookup records and its customer routes; in the order of Kinds. What the
// gateway adds, the way to its compartments, is not among it.
func (f *Fabric) ForHost(pas []netip.Addr) []Object {
	byKind := map[Kind][]Object{}
	add := func(o Object) { byKind[o.Kind()] = append(byKind[o.Kind()], o) }
	for _, t := range f.Tenants() {
		records := f.TenantRecords(t.Name)
		if !slices.ContainsFunc(records, func(r Record) bool { return r.isAt(pas) }) {
			continue
		}
		t.Gateway = nil
		add(t)
		for _, a := range f.TenantACLs(t.Name) {
			add(a)
		}
		for _, r := range records {
			add(r)
		}
		for _, r := range f.TenantRoutes(t.Name) {
			add(r)
		}
	}
	var out []Object
	for _, k := range kinds {
		out = append(out, byKind[k]...)
	}
	return out
}

// isAt tells whether one of the PAs hosts the record.
func (r *Record) isAt(pas []netip.Addr) bool {
	return slices.Contains(pas, r.PA) || slices.ContainsFunc(r.TeamPAs, func(a netip.Addr) bool { return slices.Contains(pas, a) })
}
