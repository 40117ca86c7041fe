package lookup

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/hnv"
)

// Config is the whole desired content of a Domain.
type Config struct {
	Name     hnv.Name
	RDID     hnv.RDID
	Encap    hnv.Encap
	QoS      *hnv.QoS
	StormPPS uint32
	Subnets  []hnv.Subnet
	ACLs     []hnv.ACL
	Routes   []hnv.CustomerRoute
	Records  []hnv.Record
}

// Domain is one routing domain as the dataplane sees it. It is immutable.
type Domain struct {
	Name     hnv.Name
	RDID     hnv.RDID
	Rule     Rule     // the tenant's own encapsulation
	QoS      *hnv.QoS // nil: no limits
	StormPPS uint32   // as it is configured: 0 is hnv.DefaultStormPPS
	ACLs     []hnv.ACL

	gen     uint64
	family  *family
	subnets map[uint32]*Subnet
	list    []uint32
	routes  *routes

	records  *Map[Key, Record]
	l2only   *Map[nic, Record]
	stations *Map[nic, station]
	split    *Map[nic, []station]
	pas      *Map[Addr, uint32] // all PAs of all records, and of how many
	teams    *teams
	teamUse  *Map[Number, uint32] // by team: of how many records
	tallies  *Map[Key, tally]
	flood    *Map[Number, []Target]
	rewrites *Map[Addr, claims]
	wild     []Key
}

// generation is the last one given out, to whatever domain of the process: a
// flow compares what it remembers with that of the domain it meets, which may be
// another one of the same tenant's.
var generation atomic.Uint64

// Build makes a Domain, or says what contradicts what in c.
func Build(c Config) (*Domain, error) {
	d := &Domain{
		Name:     c.Name,
		RDID:     c.RDID,
		Rule:     ruleFrom(hnv.Rule(c.Encap)),
		QoS:      c.QoS,
		StormPPS: c.StormPPS,
		ACLs:     c.ACLs,
		gen:      generation.Add(1),
		family:   new(family),
		subnets:  make(map[uint32]*Subnet, len(c.Subnets)),
		routes:   new(routes),
		records:  new(Map[Key, Record]),
		l2only:   new(Map[nic, Record]),
		stations: new(Map[nic, station]),
		split:    new(Map[nic, []station]),
		pas:      new(Map[Addr, uint32]),
		teams:    new(teams),
		teamUse:  new(Map[Number, uint32]),
		tallies:  new(Map[Key, tally]),
		flood:    new(Map[Number, []Target]),
		rewrites: new(Map[Addr, claims]),
	}
	d.family.head.Store(d)
	if !c.RDID.IsValid() {
		return nil, fmt.Errorf("routing domain of tenant %q: the RDID is missing", c.Name)
	}
	for i := range c.Subnets {
		s := &c.Subnets[i]
		v := s.VSID.Uint32()
		if _, twice := d.subnets[v]; twice || !s.VSID.IsValid() {
			return nil, fmt.Errorf("routing domain %s: VSID %s is invalid or named twice", c.RDID, s.VSID)
		}
		if s.ACL.IsValid() && d.ACL(s.ACL) == nil {
			return nil, fmt.Errorf("routing domain %s: VSID %s has ACL %s, which is not there", c.RDID, s.VSID, s.ACL)
		}
		d.subnets[v] = subnetFrom(s)
		d.list = append(d.list, v)
	}
	if err := d.routes.build(c.Subnets, c.Routes, d.Has); err != nil {
		return nil, fmt.Errorf("routing domain %s: %w", c.RDID, err)
	}
	return d.Update(c.Records, nil)
}

// Gen names what the domain's keys are: it is another number after Build and
// after every Update that adds or removes a record, gives one another MAC, or
// makes it a GatewayWildcard or an ordinary one. Then flows must be decided
// anew. For what else changes in records, Mappings are enough. Numbers grow, and
// no two domains of the process have the same one, but for those of which one is
// the other's successor.
func (d *Domain) Gen() uint64 { return d.gen }

// Has tells whether the virtual subnet belongs to the domain.
func (d *Domain) Has(vsid uint32) bool {
	_, ok := d.subnets[vsid]
	return ok
}

// VSIDs lists the domain's virtual subnets; the caller must not change it.
func (d *Domain) VSIDs() []uint32 { return d.list }

// Records tells how many records the domain has, with those of type L2Only.
func (d *Domain) Records() int { return d.records.Len() + d.l2only.Len() }

// Hosts tells whether the PA, or a team that it is in, hosts any record of the
// domain.
func (d *Domain) Hosts(pa Addr) bool { return d.pas.Get(pa) != nil }

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
//
// What Resolve finds no route for is for the Wildcards, and nothing else is: an
// address that a subnet covers and no record has is nowhere.
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
