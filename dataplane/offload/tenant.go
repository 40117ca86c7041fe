package offload

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// mirrored is a tenant as the tables have it.
type mirrored struct {
	rdid   hnv.RDID
	number uint32
	// domain is the one written last, nil before. Where extra is set, the tables
	// may have more entries of the tenant: of an earlier process, or of a write
	// that failed half way.
	domain  *lookup.Domain
	extra   bool
	slow    error // why all of its packets go to user space; nil: they do not
	subnets map[uint32]subnetValue
	ports   map[dataplane.PortID]*plug
	dscp    uint8
	retired totals // of virtual subnets that are gone
}

// admit gives the tenant its place, before anything else of it is written.
func (m *mirror) admit(r hnv.RDID) (*mirrored, error) {
	if t := m.tenants[r]; t != nil {
		return t, nil
	}
	_, known := m.numbers[rdid(r.Bytes())]
	n, err := m.number(rdid(r.Bytes()))
	if err == nil {
		err = put(m.t.buckets, n, bucketValue{})
	}
	if err != nil {
		return nil, fmt.Errorf("make room for a tenant: %w", err)
	}
	t := &mirrored{rdid: r, number: n, extra: known, subnets: map[uint32]subnetValue{}, ports: map[dataplane.PortID]*plug{}}
	for _, p := range m.ports {
		if p.rdid == r {
			t.ports[p.id] = p
		}
	}
	m.tenants[r] = t
	return t, nil
}

// tenant brings a tenant's tables in line; with mu.
func (m *mirror) tenant(r hnv.RDID) error {
	view, ok := m.sw.View(r)
	if !ok {
		if t := m.tenants[r]; t != nil {
			return m.remove(t)
		}
		return nil
	}
	t, err := m.admit(r)
	if err != nil {
		return err
	}
	c := change{m: m, t: t, old: t.domain, d: view.Domain, dscp: dscpOf(view), captured: view.Slow}
	if t.slow != nil {
		c.old = nil // part of it may not be there
	}
	if err := c.write(); err != nil {
		t.extra = true
		return errors.Join(err, c.slow(err))
	}
	t.domain, t.slow = view.Domain, nil
	if t.extra && m.settled {
		return m.sweep(func(n uint32) bool { return n == t.number })
	}
	return nil
}

// remove takes a tenant out of the tables; with mu.
func (m *mirror) remove(t *mirrored) error {
	c := change{m: m, t: t, old: t.domain}
	errs := []error{c.dropPorts(), c.dropSubnets()}
	if c.old != nil {
		errs = append(errs, c.dropRoutes(), c.dropRecords(), c.dropHosts())
	}
	delete(m.tenants, t.rdid)
	m.rates.drop(rateOwner{tenant: t.number})
	if t.extra {
		errs = append(errs, m.sweep(func(n uint32) bool { return n == t.number }))
	}
	r := rdid(t.rdid.Bytes())
	delete(m.numbers, r)
	errs = append(errs, erase(m.t.buckets, t.number), erase(m.t.numbers, r))
	return errors.Join(errs...)
}

// change takes the tables from one state of a tenant to the next. old is nil if
// they may have nothing of it, d if they shall have nothing.
type change struct {
	m       *mirror
	t       *mirrored
	old, d  *lookup.Domain
	dscp    uint8
	subnets map[uint32]subnetValue
	// captured tells that user space is to have all of the tenant's packets, which
	// are slow only for that.
	captured bool
}

// write makes the steps, in the order that mirror describes.
func (c *change) write() (err error) {
	if c.subnets, err = c.m.subnetValues(c.t, c.d); err != nil {
		return err
	}
	if c.captured {
		for v, s := range c.subnets {
			s.Flags |= subnetSlow
			c.subnets[v] = s
		}
	}
	if c.renumbers() || c.mixes() {
		if err := c.slow(errMoving); err != nil {
			return err
		}
	}
	c.t.dscp = c.dscp
	steps := []func() error{c.putHosts, c.putRecords, c.putRoutes, c.putSubnets, c.putPorts, c.dropPorts, c.dropSubnets}
	if c.old != nil {
		steps = append(steps, c.dropRoutes, c.dropRecords, c.dropHosts)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// errMoving is why a tenant is with user space for a moment.
var errMoving = errors.New("what changes cannot be written step by step")

// renumbers tells whether a prefix or an address stays and is now of another
// virtual subnet.
func (c *change) renumbers() bool {
	if c.old == nil || c.d.SameRoutes(c.old) {
		return false
	}
	was := map[netip.Prefix]uint32{}
	for p, rt := range c.old.Routes() {
		if rt.OnLink() {
			was[p] = rt.VSID
		}
	}
	for p, rt := range c.d.Routes() {
		if !rt.OnLink() {
			continue
		}
		for q, v := range was {
			if v != rt.VSID && p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}

// mixes tells whether next hops or wildcards change together with a record that
// the old ones led to, or that the new ones lead to and that is gone. Records and
// what leads to them are written one after the other, so packets would meanwhile
// take a way that is neither the old nor the new one.
func (c *change) mixes() bool {
	if c.old == nil {
		return false
	}
	before, after := map[lookup.Key]bool{}, map[lookup.Key]bool{}
	if was, is := c.old.Wildcards(), c.d.Wildcards(); !slices.Equal(was, is) {
		note(before, was)
		note(after, is)
	}
	if !c.d.SameRoutes(c.old) {
		for _, rt := range c.old.Routes() {
			note(before, rt.Hops)
		}
		for _, rt := range c.d.Routes() {
			note(after, rt.Hops)
		}
	}
	if len(before)+len(after) == 0 {
		return false
	}
	for k, r := range c.d.RecordChanges(c.old) {
		if r.Is != nil && before[k] || r.Is == nil && after[k] {
			return true
		}
	}
	return false
}

func note(set map[lookup.Key]bool, keys []lookup.Key) {
	for _, k := range keys {
		set[k] = true
	}
}

// slow gives all of the tenant's packets to user space.
func (c *change) slow(why error) error {
	t := c.t
	t.slow = why
	var errs []error
	all := maps.Clone(t.subnets)
	for _, v := range c.d.VSIDs() {
		if _, ok := all[v]; !ok {
			all[v] = subnetValue{Tenant: t.number, Slot: c.m.slots.of[v], Rule: uint8(c.d.Rule)}
		}
	}
	for v, s := range all {
		s.Flags |= subnetSlow
		t.subnets[v] = s
		errs = append(errs, put(c.m.t.vsids, v, s))
	}
	return errors.Join(append(errs, c.putPorts())...)
}

func (c *change) host(pa lookup.Addr) hostKey { return hostKey{c.t.number, addrOf(pa.Netip())} }

func (c *change) record(ca netip.Addr) recordKey { return recordKey{c.t.number, addrOf(ca)} }

func (c *change) putHosts() error {
	b := batch[hostKey, uint8]{t: c.m.t.hosts}
	for pa, is := range c.d.HostChanges(c.old) {
		if is {
			b.add(c.host(pa), 1)
		}
	}
	return b.flush()
}

func (c *change) dropHosts() error {
	var gone []hostKey
	if c.d == nil {
		for pa := range c.old.HostChanges(nil) {
			gone = append(gone, c.host(pa))
		}
		return c.m.t.hosts.delete(gone)
	}
	for pa, is := range c.d.HostChanges(c.old) {
		if !is {
			gone = append(gone, c.host(pa))
		}
	}
	return c.m.t.hosts.delete(gone)
}

func (c *change) putRecords() error {
	b := batch[recordKey, recordValue]{t: c.m.t.records}
	for k, r := range c.d.RecordChanges(c.old) {
		if r.Is == nil {
			continue
		}
		v, err := c.m.recordValue(c.t, c.d, k, r.Is)
		if err != nil {
			return err
		}
		b.add(c.record(k.CA()), v)
	}
	if !c.d.SameRoutes(c.old) {
		for ca, vsid := range c.d.Gateways() {
			b.add(c.record(ca), routerValue(c.t, vsid))
		}
	}
	return b.flush()
}

// dropRecords takes out the addresses that are neither a record's nor a router's
// any more.
func (c *change) dropRecords() error {
	var gone []recordKey
	add := func(ca netip.Addr) {
		if !isKnown(c.d, ca) {
			gone = append(gone, c.record(ca))
		}
	}
	if c.d == nil {
		for k := range c.old.RecordChanges(nil) {
			add(k.CA())
		}
	} else {
		for k, r := range c.d.RecordChanges(c.old) {
			if r.Is == nil {
				add(k.CA())
			}
		}
	}
	if c.d == nil || !c.d.SameRoutes(c.old) {
		for ca := range c.old.Gateways() {
			add(ca)
		}
	}
	return c.m.t.records.delete(gone)
}

// isKnown tells whether the address has a record in the domain, or is a router's.
func isKnown(d *lookup.Domain, ca netip.Addr) bool {
	if d == nil {
		return false
	}
	rt, rec := d.Resolve(ca)
	return rec != nil || rt != nil && rt.OnLink() && rt.Gateway == ca
}

func (c *change) putRoutes() error {
	if c.d.SameRoutes(c.old) {
		return nil
	}
	b := batch[routeKey, routeValue]{t: c.m.t.routes}
	for _, r := range sortedRoutes(c.d) {
		v, err := c.m.routeValue(r.route)
		if err != nil {
			return err
		}
		b.add(routeKeyOf(c.t.number, r.prefix), v)
	}
	return b.flush()
}

func (c *change) dropRoutes() error {
	stays := map[netip.Prefix]bool{}
	if c.d != nil {
		if c.d.SameRoutes(c.old) {
			return nil
		}
		for p := range c.d.Routes() {
			stays[p] = true
		}
	}
	var gone []routeKey
	for _, r := range slices.Backward(sortedRoutes(c.old)) {
		if !stays[r.prefix] {
			gone = append(gone, routeKeyOf(c.t.number, r.prefix))
		}
	}
	return c.m.t.routes.delete(gone)
}

func (c *change) putSubnets() error {
	for v, s := range c.subnets {
		if was, ok := c.t.subnets[v]; ok && was == s && c.old != nil {
			continue
		}
		if err := put(c.m.t.vsids, v, s); err != nil {
			return err
		}
		c.t.subnets[v] = s
	}
	return nil
}

// dropSubnets takes out those that are not the tenant's any more, and keeps what
// they counted.
func (c *change) dropSubnets() error {
	var errs []error
	for v, s := range c.t.subnets {
		if _, stays := c.subnets[v]; stays {
			continue
		}
		errs = append(errs, erase(c.m.t.vsids, v), c.m.retire(c.t, v, s.Slot))
		delete(c.t.subnets, v)
		c.m.slots.free(v)
	}
	return errors.Join(errs...)
}

// putPorts writes the tenant's ports whose virtual subnets are there.
func (c *change) putPorts() error {
	var errs []error
	for _, p := range c.t.ports {
		if v, ok := c.m.portValue(p); ok {
			errs = append(errs, c.m.putPort(p, v))
		}
	}
	return errors.Join(errs...)
}

// dropPorts takes out the others.
func (c *change) dropPorts() error {
	var errs []error
	for _, p := range c.t.ports {
		stays := false
		if v, ok := c.m.portValue(p); ok {
			_, stays = c.subnets[v.VSID]
		}
		if !stays {
			errs = append(errs, c.m.dropPort(p))
		}
	}
	return errors.Join(errs...)
}
