package lookup

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// Config is the whole desired content of a Domain.
type Config struct {
	Name    hnv.Name
	RDID    hnv.RDID
	Encap   hnv.Encap
	Subnets []hnv.Subnet
	Routes  []hnv.CustomerRoute
	Records []hnv.Record
}

// Domain is one routing domain as the dataplane sees it. It is immutable.
type Domain struct {
	Name hnv.Name
	RDID hnv.RDID
	Rule Rule // the tenant's own encapsulation

	vsids   map[uint32]struct{}
	list    []uint32
	records *Map[Key, Record]
	hosts   *Map[Addr, int] // PAs and how many records they host
	routes  *routes
}

// Build makes a Domain, or says what contradicts what in c.
func Build(c Config) (*Domain, error) {
	d := &Domain{
		Name:    c.Name,
		RDID:    c.RDID,
		Rule:    ruleFrom(hnv.Rule(c.Encap)),
		vsids:   make(map[uint32]struct{}, len(c.Subnets)),
		records: new(Map[Key, Record]),
		hosts:   new(Map[Addr, int]),
		routes:  new(routes),
	}
	if !c.RDID.IsValid() {
		return nil, fmt.Errorf("routing domain of tenant %q: the RDID is missing", c.Name)
	}
	for _, s := range c.Subnets {
		v := s.VSID.Uint32()
		if _, twice := d.vsids[v]; twice || !s.VSID.IsValid() {
			return nil, fmt.Errorf("routing domain %s: VSID %s is invalid or named twice", c.RDID, s.VSID)
		}
		d.vsids[v] = struct{}{}
		d.list = append(d.list, v)
	}
	if err := d.routes.build(c.Subnets, c.Routes, d.Has); err != nil {
		return nil, fmt.Errorf("routing domain %s: %w", c.RDID, err)
	}
	return d.Update(c.Records, nil)
}

// Update makes the successor of d in which del are gone and then put are set.
// Records of type L2Only have no CA to be found by and are left out.
func (d *Domain) Update(put []hnv.Record, del []hnv.RecordKey) (*Domain, error) {
	for i := range put {
		if err := d.admits(&put[i]); err != nil {
			return nil, fmt.Errorf("routing domain %s: lookup record %s: %w", d.RDID, put[i].Key(), err)
		}
	}
	records, hosts := d.records.Edit(), d.hosts.Edit()
	leave := func(pa Addr) {
		if n := *hosts.Get(pa); n > 1 {
			hosts.Put(pa, n-1)
		} else {
			hosts.Delete(pa)
		}
	}
	for _, k := range del {
		if !k.CA.IsValid() {
			continue
		}
		if old, had := records.Delete(KeyOf(k.VSID.Uint32(), k.CA)); had {
			leave(old.PA)
		}
	}
	for i := range put {
		r := &put[i]
		if !r.CA.IsValid() {
			continue
		}
		val := Record{PA: AddrFrom(r.PA), MAC: r.MAC.Bytes(), Rule: ruleFrom(r.Rule), UseVMMAC: r.UseVMMAC}
		old, had := records.Put(KeyOf(r.VSID.Uint32(), r.CA), val)
		if had && old.PA == val.PA {
			continue
		}
		if had {
			leave(old.PA)
		}
		n := 0
		if p := hosts.Get(val.PA); p != nil {
			n = *p
		}
		hosts.Put(val.PA, n+1)
	}
	next := *d
	next.records, next.hosts = records.Done(), hosts.Done()
	return &next, nil
}

func (d *Domain) admits(r *hnv.Record) error {
	switch {
	case !d.Has(r.VSID.Uint32()):
		return fmt.Errorf("VSID %s is not one of the domain's", r.VSID)
	case !r.CA.IsValid() && r.Type == hnv.L2Only:
		return nil
	case !r.PA.IsValid() || !r.MAC.IsValid() || ruleFrom(r.Rule) == 0:
		return fmt.Errorf("the PA, the MAC address or the rule is missing")
	}
	rt := d.Route(r.CA)
	if rt != nil && rt.Cover != nil {
		rt = rt.Cover
	}
	switch {
	case rt == nil || !rt.OnLink() || rt.VSID != r.VSID.Uint32():
		return fmt.Errorf("the CA is outside the prefixes of VSID %s", r.VSID)
	case rt.Gateway == r.CA:
		return fmt.Errorf("the CA is the distributed router's")
	}
	return nil
}

// Has tells whether the virtual subnet belongs to the domain.
func (d *Domain) Has(vsid uint32) bool {
	_, ok := d.vsids[vsid]
	return ok
}

// VSIDs lists the domain's virtual subnets; the caller must not change it.
func (d *Domain) VSIDs() []uint32 { return d.list }

// Records tells how many records the domain has.
func (d *Domain) Records() int { return d.records.Len() }

// Hosts tells whether the PA hosts any record of the domain.
func (d *Domain) Hosts(pa Addr) bool { return d.hosts.Get(pa) != nil }

// Record finds the record of a CA in a virtual subnet, nil if there is none.
func (d *Domain) Record(vsid uint32, ca netip.Addr) *Record {
	return d.records.Get(KeyOf(vsid, ca))
}

// At finds the record that a hop of a route leads to, nil if there is none.
func (d *Domain) At(hop Key) *Record { return d.records.Get(hop) }

// Resolve tells where an address of the domain lies: the most specific route
// to it, nil if none leads there, and the record if the address has one. An
// address with a record is always on-link, whatever route covers it; then the
// route is that of its subnet.
func (d *Domain) Resolve(a netip.Addr) (*Route, *Record) {
	rt := d.Route(a)
	if rt == nil {
		return nil, nil
	}
	link := rt
	if rt.Cover != nil {
		link = rt.Cover
	}
	if link.OnLink() {
		if rec := d.Record(link.VSID, a); rec != nil {
			return link, rec
		}
		// The router's own address has no record, and no route takes it away.
		if a == link.Gateway {
			return link, nil
		}
	}
	return rt, nil
}
