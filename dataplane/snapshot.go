package dataplane

import (
	"cmp"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// Snapshot is what a Switch is configured with.
type Snapshot struct {
	Provider Provider
	Tenants  []TenantState // by name
	Ports    []PortState   // by ID
}

// TenantState sums a tenant up.
type TenantState struct {
	Name    hnv.Name
	RDID    hnv.RDID
	VSIDs   []uint32
	Records int
}

// PortState is one port.
type PortState struct {
	ID   PortID
	Spec PortSpec // with the RDID
	// Up tells whether the port's routing domain still has its VSID.
	Up bool
}

// Snapshot tells what the Switch is configured with at this moment.
func (s *Switch) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.provider.Load().Provider
	out := Snapshot{Provider: Provider{Addrs: slices.Clone(p.Addrs), MTU: p.MTU}}
	for _, t := range s.byRDID {
		d := t.domain.Load()
		out.Tenants = append(out.Tenants, TenantState{d.Name, d.RDID, slices.Clone(d.VSIDs()), d.Records()})
	}
	slices.SortFunc(out.Tenants, func(a, b TenantState) int { return cmp.Compare(a.Name.String(), b.Name.String()) })
	for _, p := range s.ports.Load().byID.All {
		d := p.tenant.domain.Load()
		out.Ports = append(out.Ports, PortState{p.id, p.spec, d != nil && d.Has(p.vsid)})
	}
	slices.SortFunc(out.Ports, func(a, b PortState) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// portName gives the name of a port, for people.
func (s *Switch) portName(id PortID) string {
	if p := s.ports.Load().byID.Get(lookup.Number(id)); p != nil {
		return (*p).spec.Name
	}
	return "unplugged port"
}
