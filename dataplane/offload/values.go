package offload

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
)

// How what the Switch has is written: the entries of a tenant's tables.

// number gives the tenant's, which no other one has ever had.
func (m *mirror) number(r rdid) (uint32, error) {
	if n, ok := m.numbers[r]; ok {
		return n, nil
	}
	next := m.last + 1
	if err := put(m.t.numbers, rdid{}, next); err != nil {
		return 0, err
	}
	m.last = next
	if err := put(m.t.numbers, r, next); err != nil {
		return 0, err
	}
	m.numbers[r] = next
	return next, nil
}

// isHere tells whether the record is at a PA of ours.
func (m *mirror) isHere(d *lookup.Domain, r *lookup.Record) bool {
	return m.own[r.PA] || r.Team != 0 && slices.ContainsFunc(d.PAs(r), func(pa lookup.Addr) bool { return m.own[pa] })
}

func (m *mirror) recordValue(t *mirrored, d *lookup.Domain, k lookup.Key, r *lookup.Record) (recordValue, error) {
	v := recordValue{Tenant: t.number, VSID: k.VSID(), PA: addrOf(r.PA.Netip()), MAC: r.MAC, Rule: uint8(r.Rule)}
	if m.isHere(d, r) {
		v.Flags |= recordHere
	}
	if r.UseVMMAC {
		v.Flags |= recordVMMAC
	}
	if r.Team == 0 {
		return v, nil
	}
	var err error
	v.Team, err = m.teams.id(m.teamValue(d.PAs(r)))
	return v, err
}

func routerValue(t *mirrored, vsid uint32) recordValue {
	return recordValue{Tenant: t.number, VSID: vsid, Flags: recordRouter}
}

// teamValue is a team with those of its PAs noted that are down.
func (m *mirror) teamValue(pas []lookup.Addr) (v teamValue) {
	for _, pa := range pas[:min(len(pas), maxTeam)] {
		v.PA[v.N] = addrOf(pa.Netip())
		v.N++
	}
	v.Down = m.downIn(v)
	return v
}

func teamShape(v teamValue) teamValue {
	v.Down = 0
	return v
}

func (m *mirror) routeValue(rt *lookup.Route) (v routeValue, err error) {
	if rt.OnLink() {
		return routeValue{Kind: routeOnLink, VSID: rt.VSID}, nil
	}
	v = routeValue{Kind: routeHops, N: uint8(len(rt.Hops))}
	if len(rt.Hops) == 1 {
		v.Hop = hopOf(rt.Hops[0])
		return v, nil
	}
	v.Set, err = m.hopSet(rt.Hops)
	return v, err
}

// hopSet gives the number of the set of next hops; 0 if there are none.
func (m *mirror) hopSet(hops []lookup.Key) (uint32, error) {
	if len(hops) == 0 {
		return 0, nil
	}
	if len(hops) > maxHops {
		return 0, fmt.Errorf("there are %d equal next hops, or wildcards, and the fast path takes %d", len(hops), maxHops)
	}
	s := hopSet{N: uint32(len(hops))}
	for i, h := range hops {
		s.Hop[i] = hopOf(h)
	}
	return m.hopSets.id(s)
}

// subnetValues gives the entries of the domain's virtual subnets.
func (m *mirror) subnetValues(t *mirrored, d *lookup.Domain) (map[uint32]subnetValue, error) {
	wild := d.Wildcards()
	six := slices.IndexFunc(wild, func(k lookup.Key) bool { return k.CA().Is6() })
	if six < 0 {
		six = len(wild)
	}
	wild4, err := m.hopSet(wild[:six])
	if err != nil {
		return nil, err
	}
	wild6, err := m.hopSet(wild[six:])
	if err != nil {
		return nil, err
	}
	nameless := d.Nameless()
	out := make(map[uint32]subnetValue, len(d.VSIDs()))
	for _, v := range d.VSIDs() {
		slot, fresh, err := m.slots.get(v)
		if err != nil {
			return nil, err
		}
		if fresh {
			if err := put(m.t.traffic, slot, trafficValue{}); err != nil {
				return nil, err
			}
		}
		s := subnetValue{Tenant: t.number, Slot: slot, Wild4: wild4, Wild6: wild6, Rule: uint8(d.Rule)}
		if nameless[v] {
			s.Flags |= subnetNameless
		}
		if sub := d.Subnet(v); sub != nil && sub.Learning != nil {
			s.Flags |= subnetLearns
		}
		out[v] = s
	}
	return out, nil
}

func dscpOf(v dataplane.TenantView) uint8 {
	if v.CopyDSCP {
		return dscpCopy
	}
	return v.DSCP
}

// portValue gives a port's entry; not ok if its virtual subnet is not there, so
// that nothing may pass.
func (m *mirror) portValue(p *plug) (v portValue, ok bool) {
	view, ok := m.sw.PortView(p.id)
	if !ok {
		return v, false
	}
	t := m.tenants[view.Spec.RDID]
	if t == nil {
		return v, false
	}
	s, ok := t.subnets[view.Spec.VSID.Uint32()]
	if !ok {
		return v, false
	}
	v = portValue{
		Tenant: t.number, VSID: view.Spec.VSID.Uint32(), Slot: s.Slot, MTU: uint32(max(view.Spec.MTU, 0)),
		Ifindex: uint32(p.link.Ifindex), MAC: view.Spec.MAC.Bytes(), DSCP: t.dscp,
	}
	for _, f := range []struct {
		on  bool
		bit uint8
	}{
		{view.Spec.Kind == dataplane.PortCompartment, portCompartment},
		{view.Outbound, portSlowOut}, {!view.Outbound && view.Lists, portAskOut},
		{view.Inbound, portSlowIn}, {!view.Inbound && view.Lists, portAskIn},
		{p.link.Peer, portPeer}, {s.Flags&subnetSlow != 0, portSlow},
	} {
		if f.on {
			v.Flags |= f.bit
		}
	}
	if view.Lists {
		v.Policy = m.verdicts.policy(view.Generation)
	}
	return v, true
}

func (v portValue) station() stationKey { return stationKey{VSID: v.VSID, MAC: v.MAC} }

// sortedRoutes gives the domain's routes, the longest prefixes first.
func sortedRoutes(d *lookup.Domain) []routeOf {
	var out []routeOf
	for p, rt := range d.Routes() {
		out = append(out, routeOf{p, rt})
	}
	slices.SortFunc(out, func(a, b routeOf) int { return b.prefix.Bits() - a.prefix.Bits() })
	return out
}

type routeOf struct {
	prefix netip.Prefix
	route  *lookup.Route
}
