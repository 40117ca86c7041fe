package hnv

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Site is what this machine has, as far as objects may name it.
type Site struct {
	Uplinks      []string // names of uplinks
	PAInterfaces []string // interfaces on the datacenter fabric
	// UplinkKinds has the kind of each uplink; one that is not there is routed.
	UplinkKinds map[string]string
	// Checks tell what those who will carry a tenant's attachments, connections and
	// BGP out refuse. They are asked when these change, and must not keep f.
	Checks []func(f *Fabric, tenant Name) error
}

// Fabric is the whole desired state, kept consistent: Apply is the only way in,
// and it takes all of a set of changes or none. It is not safe for concurrent
// use.
type Fabric struct {
	site Site

	tenants  map[Name]Tenant
	paddrs   map[netip.Addr]ProviderAddress
	proutes  map[string]ProviderRoute
	ports    map[string]Port
	mappings map[string]NATMapping
	acls     map[Name]map[Name]ACL // by tenant
	routes   map[VSID]map[string]CustomerRoute
	records  map[VSID]map[RecordKey]Record // by VSID: a tenant's are found without a walk over all
	// By tenant.
	attachments map[Name]map[Name]Attachment
	connections map[Name]map[Name]S2SConnection
	routers     map[Name]BGPRouter
	neighbours  map[Name]map[string]BGPPeer

	owners map[VSID]Name       // derived: which tenant a VSID belongs to
	rdids  map[RDID]Name       // derived
	groups map[netip.Addr]Name // derived: whose broadcasts a PA multicast group carries
	index  index               // derived

	aside   map[id]SetAside
	loading bool // what is applied is stored already
}

// NewFabric gives the empty state of a machine.
func NewFabric(site Site) *Fabric {
	return &Fabric{
		site:     site,
		tenants:  map[Name]Tenant{},
		paddrs:   map[netip.Addr]ProviderAddress{},
		proutes:  map[string]ProviderRoute{},
		ports:    map[string]Port{},
		mappings: map[string]NATMapping{},
		acls:     map[Name]map[Name]ACL{},
		routes:   map[VSID]map[string]CustomerRoute{},
		records:  map[VSID]map[RecordKey]Record{},

		attachments: map[Name]map[Name]Attachment{},
		connections: map[Name]map[Name]S2SConnection{},
		routers:     map[Name]BGPRouter{},
		neighbours:  map[Name]map[string]BGPPeer{},

		owners: map[VSID]Name{},
		rdids:  map[RDID]Name{},
		groups: map[netip.Addr]Name{},
		index:  newIndex(),

		aside: map[id]SetAside{},
	}
}

// Change puts or deletes one object.
type Change struct {
	Put    Object
	Delete Object // only what Key needs must be set
	Create bool   // with Put: refuse if the object exists
}

func (c Change) object() Object {
	if c.Put != nil {
		return c.Put
	}
	return c.Delete
}

// Apply carries out all changes or none, in an order that dependencies allow:
// deletions first, dependents before what they depend on, then puts the other
// way round. The error joins one refusal for each change that cannot be,
// an *ObjectError where it is about one object. undo
// takes the whole set back, for a caller that then fails to store it; it must
// be called before any other Apply.
func (f *Fabric) Apply(changes []Change) (undo func(), err error) {
	ordered := slices.Clone(changes)
	for i, c := range ordered {
		if (c.Put == nil) == (c.Delete == nil) {
			return nil, invalidf("change %d must either put or delete an object", i+1)
		}
		ordered[i] = c.normalized()
	}
	slices.SortStableFunc(ordered, func(a, b Change) int {
		if (a.Delete != nil) != (b.Delete != nil) {
			if a.Delete != nil {
				return -1
			}
			return 1
		}
		n := cmp.Compare(a.object().Kind().order(), b.object().Kind().order())
		if a.Delete != nil {
			return -n
		}
		return n
	})

	var log []Object // what stood before each change; nil object: nothing
	var done []Change
	released := f.release(ordered)
	var back []SetAside
	undo = func() {
		for _, s := range back {
			f.take(s.Object)
			f.aside[idOf(s.Object)] = s
		}
		for i := len(done) - 1; i >= 0; i-- {
			f.take(done[i].object())
			if log[i] != nil {
				f.place(log[i])
			}
		}
		for _, t := range released {
			f.place(t) // of a change that was refused; the others are there again
		}
	}
	var errs []error
	for _, c := range ordered {
		before, err := f.one(c, released)
		if err != nil {
			errs = append(errs, about(c.object(), err))
			continue
		}
		log = append(log, before)
		done = append(done, c)
	}
	if len(errs) == 0 {
		errs = f.consistent(done, log)
	}
	if len(errs) > 0 {
		undo()
		return nil, errors.Join(errs...)
	}
	back = f.readmit(done)
	return undo, nil
}

// normalized turns pointers into values and fills in defaults.
func (c Change) normalized() Change {
	if c.Put != nil {
		c.Put = value(c.Put)
		switch o := c.Put.(type) {
		case Tenant:
			c.Put = o.Defaulted()
		case ACL:
			c.Put = o.Normalized()
		case Attachment:
			c.Put = o.Defaulted()
		case S2SConnection:
			c.Put = o.Defaulted()
		case Record:
			o.TeamPAs = unlessEmpty(o.TeamPAs)
			c.Put = o
		}
	} else {
		c.Delete = value(c.Delete)
	}
	return c
}

func value(o Object) Object {
	switch p := o.(type) {
	case *Tenant:
		return *p
	case *ACL:
		return *p
	case *Record:
		return *p
	case *CustomerRoute:
		return *p
	case *ProviderAddress:
		return *p
	case *ProviderRoute:
		return *p
	case *Port:
		return *p
	case *NATMapping:
		return *p
	case *Attachment:
		return *p
	case *S2SConnection:
		return *p
	case *BGPRouter:
		return *p
	case *BGPPeer:
		return *p
	}
	return o
}

// release takes out the tenants that are about to be replaced, so that none of
// them is in the way of another's new VSIDs or external addresses: two tenants
// can swap theirs.
func (f *Fabric) release(changes []Change) map[Name]Tenant {
	out := map[Name]Tenant{}
	for _, c := range changes {
		t, ok := c.Put.(Tenant)
		if !ok || c.Create {
			continue
		}
		if old, ok := f.tenants[t.Name]; ok {
			f.take(old)
			out[t.Name] = old
		}
	}
	return out
}

// one checks a change against what stands and carries it out. before is what
// it replaced or removed, or what was released for it.
func (f *Fabric) one(c Change, released map[Name]Tenant) (before Object, err error) {
	o := c.object()
	before, exists := f.standing(o)
	if len(f.aside) > 0 {
		if s, ok := f.aside[idOf(o)]; ok {
			before = s
		}
	}
	if t, ok := c.Put.(Tenant); ok {
		if old, was := released[t.Name]; was {
			before, exists = old, true
			defer func() {
				if err == nil {
					delete(released, t.Name)
				}
			}()
		}
	}
	if c.Delete != nil {
		if !exists {
			return nil, notFoundf("%s %s does not exist", o.Kind().noun(), o.Key())
		}
		f.take(before)
		return before, nil
	}
	if exists && c.Create {
		if s, ok := before.(SetAside); ok {
			before = s.Object
		}
		return nil, f.alreadyThere(before)
	}
	if t, ok := o.(Tenant); ok && exists {
		t = keepIdentity(t, before.(Tenant))
		if was := before.(Tenant).RDID; t.RDID != was {
			return nil, conflictf("tenant %s: its RDID is %s and stays it: another routing domain is another tenant; delete this one first", t.Name, was)
		}
		o = t
	}
	if s, ok := o.(S2SConnection); ok {
		o = f.Complete(s)
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := f.admit(o, before); err != nil {
		return nil, err
	}
	if exists {
		f.take(before)
	}
	f.place(o)
	return before, nil
}

// standing finds what has o's key. Records, of which there are a million, are
// found without their key being written out.
func (f *Fabric) standing(o Object) (Object, bool) {
	if r, ok := o.(Record); ok {
		at, there := f.records[r.VSID][r.RecordKey()]
		return found(at, there)
	}
	return f.Get(o.Kind(), o.Key())
}

// keepIdentity leaves a tenant its RDID when a replacement drew a new one for
// want of any: the caller who gives none means the one that is.
func keepIdentity(t, before Tenant) Tenant {
	if t.drawn {
		t.RDID, t.drawn = before.RDID, false
	}
	return t
}

// alreadyThere says what stands in the way, whose it is, and what to do.
func (f *Fabric) alreadyThere(o Object) error {
	is, instead := "", "delete it first to put another in its place"
	switch o := o.(type) {
	case Tenant:
		is = fmt.Sprintf("RDID %s", o.RDID)
		instead = "use «tenant set» to change it"
	case ACL:
		is = fmt.Sprintf("%d rules", len(o.Rules))
		instead = "use «acl rule add» and «acl rule delete» to change it"
	case Record:
		is = fmt.Sprintf("tenant %s, MAC %s, PA %s", f.owners[o.VSID], o.MAC, o.PA)
		instead = "a CA may stand only once in a VSID; use «record set» to change it"
	case CustomerRoute:
		is = fmt.Sprintf("tenant %s, metric %d", f.owners[o.VSID], o.Metric)
	case ProviderAddress:
		is = fmt.Sprintf("%s on %s", o.Addr, o.Interface)
		if o.VLAN != 0 {
			is += fmt.Sprintf(", VLAN %d", o.VLAN)
		}
	case ProviderRoute:
		is = fmt.Sprintf("metric %d", o.Metric)
	case Port:
		is = fmt.Sprintf("tenant %s, VSID %s, MAC %s", f.owners[o.VSID], o.VSID, o.MAC)
	case NATMapping:
		is = fmt.Sprintf("tenant %s, to %s", o.Tenant, o.Internal)
		instead = "an external port leads to one place only; delete that mapping first, or use another port"
	case Attachment:
		is = fmt.Sprintf("uplink %s", o.Uplink)
		instead = "use «forward set» to change it"
	case S2SConnection:
		is = fmt.Sprintf("port %d, %d peers", o.ListenPort, len(o.Peers))
		instead = "use «s2s set» to change it"
	case BGPRouter:
		is = fmt.Sprintf("AS %d", o.ASN)
		instead = "use «bgp router set» to change it"
	case BGPPeer:
		is = fmt.Sprintf("AS %d", o.ASN)
		instead = "use «bgp peer set» to change it"
	}
	return conflictf("%s %s exists already (%s): %s", o.Kind().noun(), o.Key(), is, instead)
}

// place and take are the only writers of the maps.
func (f *Fabric) place(o Object) {
	switch o := o.(type) {
	case SetAside:
		f.aside[idOf(o.Object)] = o
	case Tenant:
		o.drawn = false
		f.tenants[o.Name] = o
		f.rdids[o.RDID] = o.Name
		for _, s := range o.Subnets {
			f.owners[s.VSID] = o.Name
			if s.MulticastGroup.IsValid() {
				f.groups[s.MulticastGroup] = o.Name
			}
		}
	case ACL:
		m := f.acls[o.Tenant]
		if m == nil {
			m = map[Name]ACL{}
			f.acls[o.Tenant] = m
		}
		m[o.Name] = o
	case Record:
		m := f.records[o.VSID]
		if m == nil {
			m = map[RecordKey]Record{}
			f.records[o.VSID] = m
		}
		m[o.RecordKey()] = o
		f.index.add(&o, m)
	case CustomerRoute:
		m := f.routes[o.VSID]
		if m == nil {
			m = map[string]CustomerRoute{}
			f.routes[o.VSID] = m
		}
		m[o.Key()] = o
	case ProviderAddress:
		f.paddrs[o.Addr.Addr()] = o
	case ProviderRoute:
		f.proutes[o.Key()] = o
	case Port:
		f.ports[o.Key()] = o
	case NATMapping:
		f.mappings[o.Key()] = o
	case Attachment:
		placeIn(f.attachments, o.Tenant, o.Name, o)
	case S2SConnection:
		placeIn(f.connections, o.Tenant, o.Name, o)
	case BGPRouter:
		f.routers[o.Tenant] = o
	case BGPPeer:
		placeIn(f.neighbours, o.Tenant, o.Peer.Name, o)
	}
}

func (f *Fabric) take(o Object) {
	if len(f.aside) > 0 {
		delete(f.aside, idOf(o))
	}
	switch o := o.(type) {
	case Tenant:
		t, ok := f.tenants[o.Name]
		if !ok {
			return
		}
		delete(f.tenants, t.Name)
		if f.rdids[t.RDID] == t.Name {
			delete(f.rdids, t.RDID)
		}
		for _, s := range t.Subnets {
			if f.owners[s.VSID] == t.Name {
				delete(f.owners, s.VSID)
			}
			if f.groups[s.MulticastGroup] == t.Name {
				delete(f.groups, s.MulticastGroup)
			}
		}
	case ACL:
		delete(f.acls[o.Tenant], o.Name)
		if len(f.acls[o.Tenant]) == 0 {
			delete(f.acls, o.Tenant)
		}
	case Record:
		r, ok := f.records[o.VSID][o.RecordKey()]
		if !ok {
			return
		}
		delete(f.records[o.VSID], o.RecordKey())
		f.index.remove(&r, len(f.records[o.VSID]))
		if len(f.records[o.VSID]) == 0 {
			delete(f.records, o.VSID)
		}
	case CustomerRoute:
		delete(f.routes[o.VSID], o.Key())
		if len(f.routes[o.VSID]) == 0 {
			delete(f.routes, o.VSID)
		}
	case ProviderAddress:
		delete(f.paddrs, o.Addr.Addr())
	case ProviderRoute:
		delete(f.proutes, o.Key())
	case Port:
		delete(f.ports, o.Key())
	case NATMapping:
		delete(f.mappings, o.Key())
	case Attachment:
		takeFrom(f.attachments, o.Tenant, o.Name)
	case S2SConnection:
		takeFrom(f.connections, o.Tenant, o.Name)
	case BGPRouter:
		delete(f.routers, o.Tenant)
	case BGPPeer:
		takeFrom(f.neighbours, o.Tenant, o.Peer.Name)
	}
}

func placeIn[K comparable, T any](m map[Name]map[K]T, tenant Name, key K, o T) {
	if m[tenant] == nil {
		m[tenant] = map[K]T{}
	}
	m[tenant][key] = o
}

func takeFrom[K comparable, T any](m map[Name]map[K]T, tenant Name, key K) {
	delete(m[tenant], key)
	if len(m[tenant]) == 0 {
		delete(m, tenant)
	}
}
