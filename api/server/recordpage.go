package server

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
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

// token names the place for whoever reads on behind it.
func (p place) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(p.origin) + "/" + p.key.String()))
}

// parseToken gives the place that a token names; that of an empty one is in
// front of everything.
func parseToken(s string) (place, error) {
	if s == "" {
		return place{origin: -1}, nil
	}
	bad := invalidf("continue %q is none that this list gave: begin the list anew without it", s)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return place{}, bad
	}
	origin, key, _ := strings.Cut(string(b), "/")
	n, err := strconv.Atoi(origin)
	if err != nil || n < 0 || n >= len(origins) {
		return place{}, bad
	}
	k, err := hnv.ParseRecordKey(key)
	if err != nil {
		return place{}, bad
	}
	return place{k, n}, nil
}

// listed is a record in its place.
type listed struct {
	place
	record hnv.Record
}

// recordPage takes the first records behind a place, however many there are,
// without sorting all of them.
type recordPage struct {
	after place
	limit int
	want  func(ca netip.Addr, origin int) bool
	found []listed // at most twice as many as are wanted
	last  place    // once there are too many: nothing behind it has a place any more
}

func (p *recordPage) add(r *hnv.Record, origin int) {
	at := place{r.RecordKey(), origin}
	if at.compare(p.after) <= 0 || p.last.key.VSID.IsValid() && at.compare(p.last) > 0 || !p.want(r.CA, origin) {
		return
	}
	p.found = append(p.found, listed{at, *r})
	if len(p.found) >= 2*(p.limit+1) {
		p.trim()
	}
}

// trim leaves the wanted ones, and one more where there are more.
func (p *recordPage) trim() {
	slices.SortFunc(p.found, func(a, b listed) int { return a.compare(b.place) })
	p.found = p.found[:min(len(p.found), p.limit+1)]
	if p.full() {
		p.last = p.found[p.limit].place
	}
}

// full tells that nothing of a later VSID has a place any more.
func (p *recordPage) full() bool { return len(p.found) > p.limit }

// collect lists the records of the tenants, all of them where of is unset.
func (p *recordPage) collect(f *hnv.Fabric, of hnv.Name, vsid uint32, derived []hnv.Record) {
	byVSID := map[hnv.VSID][]hnv.Record{}
	for _, r := range derived {
		byVSID[r.VSID] = append(byVSID[r.VSID], r)
	}
	own := map[hnv.Name]map[hnv.VSID][]hnv.Record{} // what virtual subnets have of themselves
	for _, s := range subnetsFrom(f, of, vsid, p.after.key.VSID) {
		for r := range f.Records(s.vsid) {
			p.add(&r, 0)
		}
		for _, r := range byVSID[s.vsid] {
			p.add(&r, 1)
		}
		if own[s.tenant] == nil {
			own[s.tenant] = map[hnv.VSID][]hnv.Record{}
			for _, r := range f.SubnetRecords(s.tenant) {
				own[s.tenant][r.VSID] = append(own[s.tenant][r.VSID], r)
			}
		}
		for _, r := range own[s.tenant][s.vsid] {
			p.add(&r, 2)
		}
		if p.full() {
			break
		}
	}
	p.trim()
}

// ownedSubnet is a virtual subnet and whose it is.
type ownedSubnet struct {
	vsid   hnv.VSID
	tenant hnv.Name
}

// subnetsFrom gives the virtual subnets asked for, from one on, in order.
func subnetsFrom(f *hnv.Fabric, of hnv.Name, vsid uint32, from hnv.VSID) []ownedSubnet {
	var out []ownedSubnet
	for _, t := range f.Tenants() {
		if of.IsValid() && t.Name != of {
			continue
		}
		for _, s := range t.Subnets {
			n := s.VSID.Uint32()
			if n >= from.Uint32() && (vsid == 0 || n == vsid) {
				out = append(out, ownedSubnet{s.VSID, t.Name})
			}
		}
	}
	slices.SortFunc(out, func(a, b ownedSubnet) int { return cmp.Compare(a.vsid.Uint32(), b.vsid.Uint32()) })
	return out
}

// answer gives the page as the interface shows it.
func (p *recordPage) answer(f *hnv.Fabric) v1.LookupRecordList {
	out := v1.LookupRecordList{Items: []v1.LookupRecord{}}
	for i := range p.found {
		if i == p.limit {
			out.Continue = p.found[i-1].token()
			break
		}
		out.Items = append(out.Items, showRecord(f, p.found[i].record, origins[p.found[i].origin]))
	}
	return out
}

// caFilter reads what customer addresses are asked for.
func caFilter(s string) (func(netip.Addr) bool, error) {
	if s == "" {
		return func(netip.Addr) bool { return true }, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return func(ca netip.Addr) bool { return ca == a }, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, invalidf("customer address %q is neither an address nor a prefix", s)
	}
	return p.Contains, nil
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
