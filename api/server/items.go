package server

import (
	"errors"
	"fmt"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// item is one object of a request on its way into the store.
type item struct {
	kind   hnv.Kind
	at     string     // its place in the request
	label  string     // how to call it before it has a key
	object hnv.Object // nil where a field could not be read
	tenant string     // whose the caller says it is; empty: not said
	rdid   string     // likewise its routing domain, of a record
	vsids  []uint32   // virtual subnets it makes, or needs
	acls   []string   // names of the ACLs it makes, or needs
	bad    []refusal  // what could not be read

	// What a connection or BGP peer says of its secrets.
	connection *v1.S2SConnection
	peer       *v1.BGPPeer
}

// read converts one object of the interface.
func read[T hnv.Object](at, label, tenant string, object T, err error) item {
	it := item{kind: object.Kind(), at: at, label: label, tenant: tenant}
	for _, e := range flatten(err) {
		r := refusal{at: at, item: at, err: fmt.Errorf("%s: %w", label, e)}
		if f := new(v1.FieldError); errors.As(e, &f) && f.Field != "" {
			r.at += "." + f.Field
		}
		it.bad = append(it.bad, r)
	}
	if len(it.bad) == 0 {
		it.object = object
	}
	return it
}

func (it item) in(vsid uint32) item {
	it.vsids = []uint32{vsid}
	return it
}

func tenantItem(at string, t v1.Tenant) item {
	o, err := t.Object()
	it := read(at, "tenant "+name(t.Name), t.Name, o, err)
	for _, s := range t.Subnets {
		it.vsids = append(it.vsids, s.VSID)
		if s.ACL != "" {
			it.acls = append(it.acls, s.ACL)
		}
	}
	return it
}

func aclItem(at string, a v1.ACL) item {
	o, err := a.Object()
	it := read(at, "ACL "+name(a.Tenant)+"/"+name(a.Name), a.Tenant, o, err)
	it.acls = []string{a.Name}
	return it
}

func recordItem(at string, r v1.LookupRecord) item {
	o, err := r.Object()
	it := read(at, fmt.Sprintf("lookup record %d/%s", r.VSID, name(r.CA, r.MAC)), r.Tenant, o, err).in(r.VSID)
	it.rdid = r.RDID
	return it
}

func routeItem(at string, r v1.CustomerRoute) item {
	o, err := r.Object()
	return read(at, fmt.Sprintf("customer route %d/%s", r.VSID, name(r.Prefix)), r.Tenant, o, err).in(r.VSID)
}

func providerAddressItem(at string, p v1.ProviderAddress) item {
	o, err := p.Object()
	return read(at, "provider address "+name(p.Address), "", o, err)
}

func providerRouteItem(at string, r v1.ProviderRoute) item {
	o, err := r.Object()
	return read(at, "provider route "+name(r.Prefix), "", o, err)
}

func portItem(at string, p v1.Port) item {
	o, err := p.Object()
	it := read(at, "port "+name(p.Interface), "", o, err).in(p.VSID)
	if p.ACL != "" {
		it.acls = []string{p.ACL}
	}
	return it
}

func mappingItem(at string, m v1.NATMapping) item {
	o, err := m.Object()
	return read(at, "NAT mapping "+name(m.Proto)+"/"+name(m.External), m.Tenant, o, err)
}

func attachmentItem(at string, a v1.Attachment) item {
	o, err := a.Object()
	return read(at, "attachment "+name(a.Tenant)+"/"+name(a.Name), a.Tenant, o, err)
}

func connectionItem(at string, c v1.S2SConnection) item {
	o, err := c.Object()
	it := read(at, "site-to-site connection "+name(c.Tenant)+"/"+name(c.Name), c.Tenant, o, err)
	it.connection = &c
	return it
}

func routerItem(at string, r v1.BGPRouter) item {
	o, err := r.Object()
	return read(at, "BGP router of tenant "+name(r.Tenant), r.Tenant, o, err)
}

func peerItem(at string, p v1.BGPPeer) item {
	o, err := p.Object()
	it := read(at, "BGP peer "+name(p.Tenant)+"/"+name(p.Name), p.Tenant, o, err)
	it.peer = &p
	return it
}

func name(candidates ...string) string {
	for _, c := range candidates {
		if c != "" {
			return c
		}
	}
	return "(unnamed)"
}

// documentItems lists a document's objects in the order of their kinds.
func documentItems(d *v1.Document) []item {
	out := make([]item, 0, d.Len())
	out = each(out, "providerAddresses", d.ProviderAddresses, providerAddressItem)
	out = each(out, "providerRoutes", d.ProviderRoutes, providerRouteItem)
	out = each(out, "tenants", d.Tenants, tenantItem)
	out = each(out, "acls", d.ACLs, aclItem)
	out = each(out, "ports", d.Ports, portItem)
	out = each(out, "lookupRecords", d.LookupRecords, recordItem)
	out = each(out, "customerRoutes", d.CustomerRoutes, routeItem)
	out = each(out, "natMappings", d.NATMappings, mappingItem)
	out = each(out, "attachments", d.Attachments, attachmentItem)
	out = each(out, "s2sConnections", d.S2SConnections, connectionItem)
	out = each(out, "bgpRouters", d.BGPRouters, routerItem)
	return each(out, "bgpPeers", d.BGPPeers, peerItem)
}

func each[T any](out []item, list string, in []T, convert func(string, T) item) []item {
	for i, o := range in {
		out = append(out, convert(fmt.Sprintf("body.%s[%d]", list, i), o))
	}
	return out
}

// id is what is unique about an object among all.
type id struct {
	kind hnv.Kind
	key  string
}

func idOf(o hnv.Object) id { return id{o.Kind(), o.Key()} }

// refuseTwice refuses objects that a request holds more than once; the first
// stands.
func refuseTwice(items []item) {
	seen := make(map[id]string, len(items))
	for i := range items {
		it := &items[i]
		if it.object == nil {
			continue
		}
		if first, ok := seen[idOf(it.object)]; ok {
			it.bad = append(it.bad, refusal{at: it.at, item: it.at, err: invalidf("%s is given twice: it is at %s already", it.label, first)})
			it.object = nil
			continue
		}
		seen[idOf(it.object)] = it.at
	}
}

// mustBe refuses an item that is not the one the path names.
func (it *item) mustBe(want hnv.Object) {
	if it.object != nil && it.object.Key() != want.Key() {
		it.bad = append(it.bad, refusal{at: it.at, item: it.at, err: invalidf("the path names %s, the body %s", want.Key(), it.object.Key())})
	}
}

// kindError is a sentence of one of hnv's kinds, which it does not repeat.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

func invalidf(format string, args ...any) error {
	return &kindError{fmt.Sprintf(format, args...), hnv.ErrInvalid}
}
