package dataplane

import (
	"fmt"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
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
}

// PortID names a port of a Switch. IDs are never used again.
type PortID uint32

// port is a plugged-in port. It is immutable and belongs to one tenant.
type port struct {
	id     PortID
	spec   PortSpec
	tenant *tenant
	vsid   uint32
	mac    [6]byte
	w      Writer
}

// portTable is an immutable set of ports.
type portTable struct {
	byID      *lookup.Map[lookup.Number, *port]
	byStation *lookup.Map[lookup.Station, *port]
}

// at finds the port with the MAC in the virtual subnet, nil if there is none.
func (t *portTable) at(vsid uint32, mac [6]byte) *port {
	if p := t.byStation.Get(lookup.Station{VSID: vsid, MAC: mac}); p != nil {
		return *p
	}
	return nil
}

// with gives the table with p in it.
func (t *portTable) with(p *port) *portTable {
	ids, stations := t.byID.Edit(), t.byStation.Edit()
	ids.Put(lookup.Number(p.id), p)
	stations.Put(lookup.Station{VSID: p.vsid, MAC: p.mac}, p)
	return &portTable{ids.Done(), stations.Done()}
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
	s.lastPort++
	p := &port{id: s.lastPort, spec: spec, tenant: t, vsid: v, mac: spec.MAC.Bytes(), w: w}
	s.ports.Store(table.with(p))
	return p.id, nil
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
	ids, stations := table.byID.Edit(), table.byStation.Edit()
	stations.Delete(lookup.Station{VSID: (*p).vsid, MAC: (*p).mac})
	ids.Delete(lookup.Number(id))
	s.ports.Store(&portTable{ids.Done(), stations.Done()})
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
