package gobgp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	lib "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/hnvgate/hnvgate/bgp"
)

// Origination is a route of the speaker's own.
type Origination struct {
	Prefix netip.Prefix
	bgp.Attributes
	// Aggregate: some of what it stands for was left out (ATOMIC_AGGREGATE), by
	// Aggregator (AS and router ID), where that is set.
	Aggregate  bool
	Aggregator netip.Addr
	ASN        uint32
	// LastResort goes after any learned route.
	LastResort bool
}

func libFamily(p netip.Prefix) lib.Family {
	if p.Addr().Is4() {
		return lib.RF_IPv4_UC
	}
	return lib.RF_IPv6_UC
}

func familyFrom(f lib.Family) (bgp.Family, bool) {
	switch f {
	case lib.RF_IPv4_UC:
		return bgp.IPv4, true
	case lib.RF_IPv6_UC:
		return bgp.IPv6, true
	default:
		return "", false
	}
}

// path is the route in the library's terms; its next hop is whoever advertises it.
func (o *Origination) path() (*apiutil.Path, error) {
	nlri, err := lib.NewIPAddrPrefix(o.Prefix)
	if err != nil {
		return nil, err
	}
	unspecified := netip.IPv4Unspecified()
	if o.Prefix.Addr().Is6() {
		unspecified = netip.IPv6Unspecified()
	}
	hop, err := nextHop(nlri, o.Prefix, unspecified)
	if err != nil {
		return nil, err
	}
	attrs := []lib.PathAttributeInterface{lib.NewPathAttributeOrigin(lib.BGP_ORIGIN_ATTR_TYPE_IGP), hop}
	if o.MED != nil {
		attrs = append(attrs, lib.NewPathAttributeMultiExitDisc(*o.MED))
	}
	switch {
	case o.LastResort:
		attrs = append(attrs, lib.NewPathAttributeLocalPref(0))
	case o.LocalPref != nil:
		attrs = append(attrs, lib.NewPathAttributeLocalPref(*o.LocalPref))
	}
	if o.Aggregate {
		attrs = append(attrs, lib.NewPathAttributeAtomicAggregate())
		agg, err := lib.NewPathAttributeAggregator(o.ASN, o.Aggregator)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, agg)
	}
	if len(o.Communities) > 0 {
		list := make([]uint32, len(o.Communities))
		for i, c := range o.Communities {
			list[i] = uint32(c)
		}
		attrs = append(attrs, lib.NewPathAttributeCommunities(list))
	}
	if len(o.LargeCommunities) > 0 {
		list := make([]*lib.LargeCommunity, len(o.LargeCommunities))
		for i, c := range o.LargeCommunities {
			list[i] = &lib.LargeCommunity{ASN: c.Global, LocalData1: c.Local1, LocalData2: c.Local2}
		}
		attrs = append(attrs, lib.NewPathAttributeLargeCommunities(list))
	}
	return &apiutil.Path{Family: libFamily(o.Prefix), Nlri: nlri, Attrs: attrs, Age: time.Now().Unix()}, nil
}

func nextHop(nlri lib.NLRI, p netip.Prefix, a netip.Addr) (lib.PathAttributeInterface, error) {
	if p.Addr().Is4() {
		return lib.NewPathAttributeNextHop(a)
	}
	return lib.NewPathAttributeMpReachNLRI(lib.RF_IPv6_UC, []lib.PathNLRI{{NLRI: nlri}}, a)
}

// BestPath is one of the best paths to a prefix, in short.
type BestPath struct {
	Prefix    netip.Prefix
	Peer      netip.Addr // unset: own
	ID        uint32     // tells several paths of one peer apart
	NextHop   netip.Addr
	Withdrawn bool
	Internal  bool // by iBGP
	LastStand bool // LLGR_STALE: goes after all others (RFC 9494)
}

func bestPaths(paths []*apiutil.Path, own uint32) []BestPath {
	out := make([]BestPath, 0, len(paths))
	for _, p := range paths {
		if b, ok := bestPath(p, own); ok {
			out = append(out, b)
		}
	}
	return out
}

func bestPath(p *apiutil.Path, own uint32) (BestPath, bool) {
	prefix, ok := prefixOf(p.Nlri)
	if !ok {
		return BestPath{}, false
	}
	b := BestPath{Prefix: prefix, Peer: p.PeerAddress.Unmap(), ID: p.RemoteID, Withdrawn: p.Withdrawal}
	b.Internal = b.Peer.IsValid() && p.PeerASN == own
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *lib.PathAttributeNextHop:
			b.NextHop = a.Value.Unmap()
		case *lib.PathAttributeMpReachNLRI:
			b.NextHop = a.Nexthop.Unmap()
			// A link-local next hop is good on the link of the session only.
			if b.NextHop.IsLinkLocalUnicast() {
				b.NextHop = b.NextHop.WithZone(b.Peer.Zone())
			}
		case *lib.PathAttributeCommunities:
			for _, c := range a.Value {
				b.LastStand = b.LastStand || bgp.Community(c) == bgp.LLGRStale
			}
		}
	}
	return b, true
}

func prefixOf(n lib.NLRI) (netip.Prefix, bool) {
	p, ok := n.(*lib.IPAddrPrefix)
	if !ok {
		return netip.Prefix{}, false
	}
	return p.Prefix.Masked(), true
}

// shown is a path in full, for people.
func shown(p *apiutil.Path) (bgp.Path, bool) {
	prefix, ok := prefixOf(p.Nlri)
	if !ok {
		return bgp.Path{}, false
	}
	out := bgp.Path{
		Prefix: prefix, Peer: p.PeerAddress.Unmap(), Best: p.Best, Stale: p.Stale, Since: time.Unix(p.Age, 0).UTC(),
	}
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *lib.PathAttributeOrigin:
			out.Origin = originName(a.Value)
		case *lib.PathAttributeAsPath:
			out.ASPath = lib.AsPathString(a)
		case *lib.PathAttributeNextHop:
			out.NextHop = a.Value.Unmap()
		case *lib.PathAttributeMpReachNLRI:
			out.NextHop = a.Nexthop.Unmap()
		case *lib.PathAttributeMultiExitDisc:
			out.MED = &a.Value
		case *lib.PathAttributeLocalPref:
			out.LocalPref = &a.Value
		case *lib.PathAttributeAtomicAggregate:
			out.AtomicAggregate = true
		case *lib.PathAttributeAggregator:
			out.Aggregator = fmt.Sprintf("%d %s", a.Value.AS, a.Value.Address)
		case *lib.PathAttributeCommunities:
			for _, c := range a.Value {
				out.Communities = append(out.Communities, bgp.Community(c))
			}
		case *lib.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				out.LargeCommunities = append(out.LargeCommunities, bgp.LargeCommunity{Global: c.ASN, Local1: c.LocalData1, Local2: c.LocalData2})
			}
		}
	}
	return out, true
}

func originName(v uint8) string {
	switch v {
	case lib.BGP_ORIGIN_ATTR_TYPE_IGP:
		return "igp"
	case lib.BGP_ORIGIN_ATTR_TYPE_EGP:
		return "egp"
	default:
		return "incomplete"
	}
}
