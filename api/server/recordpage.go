package server

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// place is that of a record in the list.
type place struct {
	key    hnv.RecordKey
	origin int // index of origins
}

// origins are in the order in which records of one key are listed.
var origins = []string{v1.OriginConfigured, v1.OriginGateway, v1.OriginSubnet}

func (p place) compare(o place) int {
	if c := p.key.Compare(o.key); c != 0 {
		return c
	}
	return cmp.Compare(p.origin, o.origin)
}

// token names a place, and the order in which the list goes on behind it.
func (p place) token(order uint64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d/%d/%s", p.origin, order, p.key))
}

// parseToken gives what a token names; the place of an empty one is in front of
// everything.
func parseToken(s string) (p place, order uint64, err error) {
	if s == "" {
		return place{origin: -1}, 0, nil
	}
	bad := invalidf("continue %q is none that this list gave: begin the list anew without it", s)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return p, 0, bad
	}
	parts := strings.SplitN(string(b), "/", 3)
	if len(parts) != 3 {
		return p, 0, bad
	}
	if _, err := fmt.Sscanf(parts[0]+" "+parts[1], "%d %d", &p.origin, &order); err != nil || p.origin < 0 || p.origin >= len(origins) {
		return p, 0, bad
	}
	if p.key, err = hnv.ParseRecordKey(parts[2]); err != nil {
		return p, 0, bad
	}
	return p, order, nil
}

// listed is a record in its place.
type listed struct {
	place
	record hnv.Record
}

// recordPage is one answer of a list: the records behind a place, of the
// virtual subnets asked for, in order.
type recordPage struct {
	after  place
	limit  int
	ca     caRange
	origin func(int) bool
	found  []listed // one more than the limit where there are more
}

func (p *recordPage) full() bool { return len(p.found) > p.limit }

func (p *recordPage) wants(at place) bool {
	return at.compare(p.after) > 0 && p.origin(at.origin) && p.ca.holds(at.key.CA)
}

// subnet adds the records of a virtual subnet: those of its keys that are there
// still, and what nobody wrote, sorted too.
func (p *recordPage) subnet(f *hnv.Fabric, keys []hnv.RecordKey, others []listed) {
	others = slices.DeleteFunc(others, func(o listed) bool { return !p.wants(o.place) })
	slices.SortFunc(others, func(a, b listed) int { return a.compare(b.place) })
	for _, k := range keys {
		if p.full() || p.ca.isPast(k.CA) {
			break
		}
		at := place{k, 0}
		r, ok := f.Record(k)
		if !ok || !p.wants(at) {
			continue
		}
		for len(others) > 0 && others[0].compare(at) < 0 {
			p.found, others = append(p.found, others[0]), others[1:]
		}
		p.found = append(p.found, listed{at, r})
	}
	p.found = append(p.found, others...)
	p.found = p.found[:min(len(p.found), p.limit+1)]
}

// answer gives the page as the interface shows it; order is the one that the
// last virtual subnet was listed by.
func (p *recordPage) answer(f *hnv.Fabric, order *ordered) v1.LookupRecordList {
	out := v1.LookupRecordList{Items: []v1.LookupRecord{}}
	for i, l := range p.found {
		if i < p.limit {
			out.Items = append(out.Items, showRecord(f, l.record, origins[l.origin]))
			continue
		}
		last, id := p.found[i-1].place, uint64(0)
		if order != nil && order.vsid == last.key.VSID {
			id = order.id
		}
		out.Continue = last.token(id)
	}
	return out
}

// caRange are the customer addresses asked for; the zero value is all, and none.
type caRange struct{ prefix netip.Prefix }

func parseCARange(s string) (r caRange, err error) {
	if s == "" {
		return r, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return caRange{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return r, invalidf("customer address %q is neither an address nor a prefix", s)
	}
	return caRange{p.Masked()}, nil
}

func (r caRange) holds(ca netip.Addr) bool { return !r.prefix.IsValid() || r.prefix.Contains(ca) }

// first is the key from which on there can be any in a virtual subnet.
func (r caRange) first(v hnv.VSID) hnv.RecordKey {
	return hnv.RecordKey{VSID: v, CA: r.prefix.Addr()}
}

// isPast tells that no address behind this one is in the range.
func (r caRange) isPast(ca netip.Addr) bool {
	return r.prefix.IsValid() && r.prefix.Addr().Less(ca) && !r.prefix.Contains(ca)
}

// originFilter reads of what origin records are asked for.
func originFilter(s string) (func(origin int) bool, error) {
	i := slices.Index(origins, s)
	if s != "" && i < 0 {
		return nil, invalidf("origin %q is unknown: use %s", s, strings.Join(origins, ", "))
	}
	return func(origin int) bool { return s == "" || origin == i }, nil
}

// notWritable says why a record that is there, and nobody wrote, cannot be
// changed.
func notWritable(f *hnv.Fabric, r hnv.Record, origin string) error {
	t, _ := f.TenantOfVSID(r.VSID)
	why := "is made by the gateway for the compartment of tenant %s: change the tenant instead"
	if origin == v1.OriginSubnet {
		why = "is the virtual subnet's own, for its distributed router or DHCP server: change the virtual subnet of tenant %s instead"
	}
	return &kindError{fmt.Sprintf("lookup record %s "+why, r.Key(), t.Name), hnv.ErrConflict}
}
