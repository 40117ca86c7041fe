package dataplane

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// PortKind says what is behind a port.
type PortKind uint8

// The kinds of ports.
const (
	// PortVM leads to one VM's network interface: its packets have the MAC and
	// the CAs of its records and no others.
	PortVM PortKind = iota + 1
	// PortCompartment leads to a tenant's compartment, which also speaks for
	// what lies outside the routing domain.
	PortCompartment
)

func (k PortKind) String() string {
	switch k {
	case PortVM:
		return "vm"
	case PortCompartment:
		return "compartment"
	}
	return "unknown"
}

// PortSpec describes a port.
type PortSpec struct {
	Name string // for people: the interface
	// RDID is whose port it is. If it is unset, it is whose the VSID is when the
	// port is added.
	RDID hnv.RDID
	VSID hnv.VSID
	MAC  hnv.MAC
	Kind PortKind
	MTU  int // the greatest IP packet that the port takes; 0: any
	// Plain ports take neither super-packets nor partial checksums.
	Plain bool

	ACL             hnv.Name // the port's own access control list, of its tenant's
	InKbps, OutKbps uint64   // rates to and from the port, in 1000 bits a second; 0: any
}

// PortID names a port of a Switch. IDs are never used again.
type PortID uint32

// port is a plugged-in port. It is immutable, but for what its machine holds,
// and belongs to one tenant.
type port struct {
	id      PortID
	spec    PortSpec
	tenant  *tenant
	vsid    uint32
	mac     [6]byte
	w       Writer
	in, out meter
	custom  []vfp.Layer
	*machine
}

// machine is what makes a port's decisions: its compiled layers and its flows, and
// what its DHCP client asked last. It stays the same one whatever else changes
// about the port.
type machine struct {
	policy         atomic.Pointer[policy]
	flows          *flow.Table[action]
	asked4, asked6 transaction
}

// portTable is an immutable set of ports.
type portTable struct {
	byID      *lookup.Map[lookup.Number, *port]
	byStation *lookup.Map[lookup.Station, *port]
	bySubnet  *lookup.Map[lookup.Number, []*port]
}

func newPortTable() *portTable {
	return &portTable{
		byID:      new(lookup.Map[lookup.Number, *port]),
		byStation: new(lookup.Map[lookup.Station, *port]),
		bySubnet:  new(lookup.Map[lookup.Number, []*port]),
	}
}

// in lists the ports of the virtual subnet; the caller must not change it.
func (t *portTable) in(vsid uint32) []*port {
	if l := t.bySubnet.Get(lookup.Number(vsid)); l != nil {
		return *l
	}
	return nil
}

// at finds the port with the MAC in the virtual subnet, nil if there is none.
func (t *portTable) at(vsid uint32, mac [6]byte) *port {
	if p := t.byStation.Get(lookup.Station{VSID: vsid, MAC: mac}); p != nil {
		return *p
	}
	return nil
}

// with gives the table with p in it, in the place of what it was before.
func (t *portTable) with(p *port) *portTable {
	ids, stations, subnets := t.byID.Edit(), t.byStation.Edit(), t.bySubnet.Edit()
	ids.Put(lookup.Number(p.id), p)
	stations.Put(lookup.Station{VSID: p.vsid, MAC: p.mac}, p)
	list := slices.DeleteFunc(slices.Clone(t.in(p.vsid)), func(o *port) bool { return o.id == p.id })
	subnets.Put(lookup.Number(p.vsid), append(list, p))
	return &portTable{ids.Done(), stations.Done(), subnets.Done()}
}

// without gives the table without p.
func (t *portTable) without(p *port) *portTable {
	ids, stations, subnets := t.byID.Edit(), t.byStation.Edit(), t.bySubnet.Edit()
	ids.Delete(lookup.Number(p.id))
	stations.Delete(lookup.Station{VSID: p.vsid, MAC: p.mac})
	list := slices.DeleteFunc(slices.Clone(t.in(p.vsid)), func(o *port) bool { return o.id == p.id })
	if len(list) == 0 {
		subnets.Delete(lookup.Number(p.vsid))
	} else {
		subnets.Put(lookup.Number(p.vsid), list)
	}
	return &portTable{ids.Done(), stations.Done(), subnets.Done()}
}

// AddPort plugs a port into a virtual subnet, whose tenant must have been
// applied: the port belongs to that routing domain for good. If the VSID ever
// moves to another one, the port is dead. Several workers may write to w at the
// same time.
func (s *Switch) AddPort(spec PortSpec, w Writer) (PortID, error) {
	refuse := func(err error) (PortID, error) { return 0, fmt.Errorf("add port %s: %w", spec.Name, err) }
	switch {
	case !spec.MAC.IsValid() || spec.MAC == hnv.RouterMAC:
		return refuse(fmt.Errorf("MAC address %q is missing or the distributed router's", spec.MAC))
	case spec.Kind != PortVM && spec.Kind != PortCompartment:
		return refuse(fmt.Errorf("port kind %d is none", spec.Kind))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := spec.VSID.Uint32()
	t, _ := s.tenantOf(v)
	if t == nil {
		return refuse(fmt.Errorf("no tenant has VSID %s: apply its tenant first: %w", spec.VSID, ErrUnknown))
	}
	if spec.RDID.IsValid() && spec.RDID != t.rdid {
		return refuse(fmt.Errorf("VSID %s belongs to routing domain %s, not to %s: %w", spec.VSID, t.rdid, spec.RDID, ErrConflict))
	}
	spec.RDID = t.rdid
	table := s.ports.Load()
	if other := table.at(v, spec.MAC.Bytes()); other != nil {
		return refuse(fmt.Errorf("port %s has MAC address %s in VSID %s: %w", other.spec.Name, spec.MAC, spec.VSID, ErrConflict))
	}
	p := &port{id: s.lastPort + 1, spec: spec, tenant: t, vsid: v, mac: spec.MAC.Bytes(), w: w, machine: &machine{}}
	p.in, p.out = p.in.at(spec.InKbps), p.out.at(spec.OutKbps)
	p.flows = flow.New(flow.Options[action]{Max: s.opt.FlowsPerPort, OnEvict: func(e *flow.Entry[action], _ flow.Reason) { s.forgotten(p, e) }})
	pol, err := s.compile(p, t.domain.Load(), t.in, t.out)
	if err != nil {
		return refuse(err)
	}
	p.policy.Store(pol)
	s.lastPort++
	s.ports.Store(table.with(p))
	return p.id, nil
}

// SetPort changes the port's access control list and rates, in 1000 bits a
// second, 0 for none. Its flows stay; those that the list does not let pass end
// with their next packet.
func (s *Switch) SetPort(id PortID, acl hnv.Name, inKbps, outKbps uint64) error {
	return s.alter(id, func(p *port) {
		p.spec.ACL, p.spec.InKbps, p.spec.OutKbps = acl, inKbps, outKbps
		p.in, p.out = p.in.at(inKbps), p.out.at(outKbps)
	})
}

// SetLayers sets the layers that stand between the port's meters and its virtual
// network, with priorities between those of LayerMeter and LayerVNET.
func (s *Switch) SetLayers(id PortID, layers []vfp.Layer) error {
	return s.alter(id, func(p *port) { p.custom = slices.Clone(layers) })
}

// alter publishes a changed port, if its layers can be compiled.
func (s *Switch) alter(id PortID, change func(*port)) error {
	defer s.inform(func(f Follower) { f.PortChanged(id) })
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.ports.Load()
	old := table.byID.Get(lookup.Number(id))
	if old == nil {
		return fmt.Errorf("change port %d: %w", id, ErrUnknown)
	}
	p := **old
	change(&p)
	if d := p.tenant.domain.Load(); d != nil && d.Has(p.vsid) {
		pol, err := s.compile(&p, d, p.tenant.in, p.tenant.out)
		if err != nil {
			return fmt.Errorf("change port %s: %w", p.spec.Name, err)
		}
		defer p.policy.Store(pol)
	}
	s.ports.Store(table.with(&p))
	return nil
}

// RemovePort unplugs a port. A worker may still be writing to it until its next
// Flush; its Writer may be closed all the same.
func (s *Switch) RemovePort(id PortID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.ports.Load()
	p := table.byID.Get(lookup.Number(id))
	if p == nil {
		return
	}
	s.ports.Store(table.without(*p))
	// What its flows have counted, and taken from NAT pools, is settled.
	for e := range (*p).flows.All {
		(*p).flows.Remove(e)
	}
}

// rebind gives the ports of a routing domain that was removed to the tenant
// that has the same RDID again.
func (s *Switch) rebind(t *tenant) {
	table := s.ports.Load()
	for _, p := range table.byID.All {
		if p.tenant.rdid == t.rdid {
			again := *p
			again.tenant = t
			table = table.with(&again)
		}
	}
	s.ports.Store(table)
}
