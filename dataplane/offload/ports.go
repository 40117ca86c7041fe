package offload

import (
	"errors"
	"fmt"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// Link is the interface that a port is behind.
type Link struct {
	Ifindex int
	// Peer tells that it is a veth, whose other end gets packets directly.
	Peer bool
}

// plug is a port that is behind a link.
type plug struct {
	id    dataplane.PortID
	rdid  hnv.RDID
	link  Link
	value portValue // as it was written
	there bool      // it was
	// unrated is why user space has its packets for its rates; nil: it has not.
	unrated error
}

// plug writes a port of the Switch, which is behind the link; with mu.
func (m *mirror) plug(id dataplane.PortID, l Link) error {
	view, ok := m.sw.PortView(id)
	if !ok {
		return fmt.Errorf("port %d: %w", id, dataplane.ErrUnknown)
	}
	if old, ok := m.byIndex[uint32(l.Ifindex)]; ok && old != id {
		return fmt.Errorf("port %s: interface %d is another port's: %w", view.Spec.Name, l.Ifindex, dataplane.ErrConflict)
	}
	p := m.ports[id]
	if p == nil {
		p = &plug{id: id, rdid: view.Spec.RDID, link: l}
		m.ports[id] = p
		m.byIndex[uint32(l.Ifindex)] = id
		if t := m.tenants[p.rdid]; t != nil {
			t.ports[id] = p
		}
	}
	return m.port(p)
}

// port brings a port's entries in line.
func (m *mirror) port(p *plug) error {
	if v, ok := m.portValue(p); ok {
		return m.putPort(p, v)
	}
	return m.dropPort(p)
}

// putPort writes the port, and then the station, to which packets are sent.
func (m *mirror) putPort(p *plug, v portValue) error {
	v = m.rated(p, v)
	if p.there && p.value == v {
		return nil
	}
	if !p.there {
		if err := m.announce(p, v); err != nil {
			return err
		}
	}
	if err := put(m.t.ports, v.Ifindex, v); err != nil {
		return err
	}
	if err := put(m.t.stations, v.station(), v); err != nil {
		return err
	}
	p.value, p.there = v, true
	return nil
}

func (m *mirror) dropPort(p *plug) error {
	if !p.there {
		return nil
	}
	p.there = false
	err := errors.Join(erase(m.t.stations, p.value.station()), erase(m.t.ports, p.value.Ifindex))
	m.verdicts.unplug(p.id)
	m.rates.drop(rateOwner{p.value.Tenant, p.value.Ifindex})
	return err
}

// unplug takes a port out; with mu.
func (m *mirror) unplug(id dataplane.PortID) error {
	p := m.ports[id]
	if p == nil {
		return nil
	}
	delete(m.ports, id)
	delete(m.byIndex, uint32(p.link.Ifindex))
	if t := m.tenants[p.rdid]; t != nil {
		delete(t.ports, id)
	}
	return m.dropPort(p)
}
