package lookup

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/hnvgate/hnvgate/hnv"
)

// MaxHops is how many equal next hops of a prefix are used.
const MaxHops = 16

// Route is what the domain knows of a prefix: it is on-link in a virtual
// subnet, or it lies behind next hops. It is immutable.
type Route struct {
	VSID    uint32     // on-link: the virtual subnet
	Gateway netip.Addr // on-link: the distributed router's address in the prefix
	Hops    []Key      // otherwise: the equal next hops of the lowest metric
	// Cover is the on-link route that a customer route is cut out of, nil for
	// the others.
	Cover *Route
}

// OnLink tells whether the prefix belongs to a virtual subnet.
func (r *Route) OnLink() bool { return len(r.Hops) == 0 }

type routes struct {
	lpm  bart.Table[uint32] // place in list
	list []*Route
	// gateways of each on-link prefix, by virtual subnet.
	onLink map[uint32][]onLink
}

type onLink struct {
	prefix  netip.Prefix
	gateway netip.Addr
}

// Route finds the longest prefix that holds a, nil if none does.
func (d *Domain) Route(a netip.Addr) *Route {
	i, ok := d.routes.lpm.Lookup(a)
	if !ok {
		return nil
	}
	return d.routes.list[i]
}

// Gateway gives the distributed router's address of the family in the virtual
// subnet: that of the prefix that holds near, or else the first one.
func (d *Domain) Gateway(vsid uint32, near netip.Addr) netip.Addr {
	var first netip.Addr
	for _, l := range d.routes.onLink[vsid] {
		if l.gateway.Is4() != near.Is4() {
			continue
		}
		if l.prefix.Contains(near) {
			return l.gateway
		}
		if !first.IsValid() {
			first = l.gateway
		}
	}
	return first
}

// IsGateway tells whether a is an address of the distributed router in the
// virtual subnet.
func (d *Domain) IsGateway(vsid uint32, a netip.Addr) bool {
	for _, l := range d.routes.onLink[vsid] {
		if l.gateway == a {
			return true
		}
	}
	return false
}

func (t *routes) build(subnets []hnv.Subnet, customer []hnv.CustomerRoute, has func(uint32) bool) error {
	t.onLink = make(map[uint32][]onLink, len(subnets))
	for _, s := range subnets {
		v := s.VSID.Uint32()
		for _, p := range s.Prefixes {
			if !p.Prefix.IsValid() || !p.Prefix.Contains(p.Gateway) {
				return fmt.Errorf("prefix %s of VSID %s is invalid or its gateway %s lies outside", p.Prefix, s.VSID, p.Gateway)
			}
			if t.lpm.OverlapsPrefix(p.Prefix) {
				return fmt.Errorf("prefix %s of VSID %s overlaps another one", p.Prefix, s.VSID)
			}
			t.insert(p.Prefix, &Route{VSID: v, Gateway: p.Gateway})
			t.onLink[v] = append(t.onLink[v], onLink{p.Prefix.Masked(), p.Gateway})
		}
	}
	best, err := bestRoutes(customer, has)
	if err != nil {
		return err
	}
	// The shortest first, so that a route finds the subnet it is cut out of
	// before one cut out of the same subnet stands in between.
	slices.SortFunc(best, func(a, b candidate) int { return a.prefix.Bits() - b.prefix.Bits() })
	for _, c := range best {
		r := &Route{Hops: c.hops}
		if _, i, ok := t.lpm.LookupPrefixLPM(c.prefix); ok {
			at := t.list[i]
			switch {
			case at.OnLink() && t.holds(at, c.prefix):
				continue // a subnet's own prefix needs no route
			case at.OnLink():
				r.Cover = at
			default:
				r.Cover = at.Cover
			}
		}
		t.insert(c.prefix, r)
	}
	return nil
}

// holds tells whether the on-link route is that of exactly this prefix.
func (t *routes) holds(r *Route, p netip.Prefix) bool {
	for _, l := range t.onLink[r.VSID] {
		if l.prefix == p {
			return true
		}
	}
	return false
}

func (t *routes) insert(p netip.Prefix, r *Route) {
	t.lpm.Insert(p, uint32(len(t.list)))
	t.list = append(t.list, r)
}

type candidate struct {
	prefix netip.Prefix
	metric uint32
	hops   []Key
}

// bestRoutes keeps of each prefix the next hops of the lowest metric, in an
// order that does not depend on that of the input.
func bestRoutes(all []hnv.CustomerRoute, has func(uint32) bool) ([]candidate, error) {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b hnv.CustomerRoute) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		if c := a.Prefix.Bits() - b.Prefix.Bits(); c != 0 {
			return c
		}
		if a.Metric != b.Metric {
			if a.Metric < b.Metric {
				return -1
			}
			return 1
		}
		if c := int(a.VSID.Uint32()) - int(b.VSID.Uint32()); c != 0 {
			return c
		}
		return a.NextHop.Compare(b.NextHop)
	})
	var best []candidate
	for _, r := range sorted {
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || !has(r.VSID.Uint32()) || r.NextHop.Is4() != r.Prefix.Addr().Is4() {
			return nil, fmt.Errorf("customer route %s: the prefix is invalid or the next hop is not of the domain", r.Key())
		}
		hop := KeyOf(r.VSID.Uint32(), r.NextHop)
		n := len(best)
		if n == 0 || best[n-1].prefix != r.Prefix {
			best = append(best, candidate{r.Prefix, r.Metric, []Key{hop}})
			continue
		}
		last := &best[n-1]
		if r.Metric == last.metric && len(last.hops) < MaxHops && !slices.Contains(last.hops, hop) {
			last.hops = append(last.hops, hop)
		}
	}
	return best, nil
}
