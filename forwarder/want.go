package forwarder

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// want is a compartment's attachments as they should be.
type want struct {
	alias   string
	sysctls []setting
	links   []link
	// kept are the links of attachments that cannot be brought about now: they stay
	// as they are.
	kept   []string
	routes []route
}

// giveUp leaves a link as it is.
func (w *want) giveUp(attachment hnv.Name) {
	w.links = slices.DeleteFunc(w.links, func(l link) bool {
		if l.attachment == attachment {
			w.kept = append(w.kept, l.name)
		}
		return l.attachment == attachment
	})
}

// hold leaves a route as it is.
func (w *want) hold(r route) {
	for i := range w.routes {
		if w.routes[i].dst == r.dst && w.routes[i].metric == r.metric {
			w.routes[i].held = true
		}
	}
}

type setting struct{ key, value string }

// link is that of one attachment.
type link struct {
	attachment hnv.Name
	name, kind string
	parent     string
	parentLink int // index
	vlan       uint16
	mac        [6]byte
	mtu        int
	conf4      map[nl.Conf4]int
	ipv6       bool
	addrs      []netip.Prefix
	port       port // of kind bridge
}

// port is the other end of a link, in the gateway's namespace.
type port struct {
	name string
	mac  [6]byte
	mtu  int
}

// route is a static route, with the next hops of all attachments.
type route struct {
	dst    netip.Prefix
	metric uint32
	hops   []hop // sorted
	held   bool  // the kernel did not take it: what is there stays
}

type hop struct {
	attachment hnv.Name
	link       string
	via        netip.Addr
}

// conf4 holds for every attachment: it forwards, answers for its own addresses
// alone, learns nothing from redirects, keeps the other addresses when one goes,
// and its routes give way while it has no carrier.
func conf4(reversePath string) map[nl.Conf4]int {
	filter := 1
	switch reversePath {
	case Loose:
		filter = 2
	case Off:
		filter = 0
	}
	return map[nl.Conf4]int{
		nl.Forwarding4: 1, nl.RPFilter: filter, nl.SendRedirects: 0, nl.AcceptRedirects4: 0, nl.AcceptSourceRoute: 0,
		nl.ARPIgnore: 1, nl.ARPAnnounce: 2, nl.PromoteSecondaries: 1, nl.IgnoreLinkdown4: 1,
	}
}

// conf6 likewise; the compartment's defaults have the rest.
var conf6 = []struct {
	id    nl.Conf6
	name  string
	value int
}{
	{nl.AcceptRA, "accept_ra", 0}, {nl.AcceptRedirects6, "accept_redirects", 0}, {nl.Autoconf, "autoconf", 0},
	{nl.IgnoreLinkdown6, "ignore_routes_with_linkdown", 1},
}

// wanted derives it all from the spec and the uplinks' interfaces as they are.
// failed tells of attachments that those do not allow.
func wanted(n names, s Spec, parents map[string]nl.Link) (w want, failed map[hnv.Name]error) {
	w = want{alias: n.alias(s.Tenant)}
	failed = map[hnv.Name]error{}
	if len(s.Attachments) > 0 {
		// The greater of this and the link's own holds: each link has its own.
		w.sysctls = append(w.sysctls, setting{"ipv4/conf/all/rp_filter", "0"})
	}
	for _, a := range s.Attachments {
		l, err := wantedLink(n, s.Tenant, a, parents)
		if err != nil {
			failed[a.Name] = err
			w.kept = append(w.kept, a.Link)
			continue
		}
		w.links = append(w.links, l)
	}
	w.routes = wantedRoutes(s.Attachments)
	if slices.ContainsFunc(w.routes, func(r route) bool { return len(r.hops) > 1 }) {
		// Flows keep to a next hop by their ports as well.
		w.sysctls = append(w.sysctls, setting{"ipv4/fib_multipath_hash_policy", "1"}, setting{"ipv6/fib_multipath_hash_policy", "1"})
	}
	return w, failed
}

func wantedLink(n names, t hnv.Name, a Attachment, parents map[string]nl.Link) (link, error) {
	p, there := parents[a.Parent]
	switch {
	case !there:
		return link{}, fmt.Errorf("the uplink's interface %s is not in the gateway's network namespace", a.Parent)
	case a.Kind == KindBridge && p.Kind != "bridge":
		return link{}, fmt.Errorf("the uplink's interface %s is no Linux bridge: make one with the physical interface as its port, or use an uplink of kind %s", a.Parent, KindMACVLAN)
	case a.MTU > p.MTU:
		return link{}, fmt.Errorf("MTU %d is more than the %d of the uplink's interface %s", a.MTU, p.MTU, a.Parent)
	}
	l := link{
		attachment: a.Name, name: a.Link, kind: a.Kind, parent: a.Parent, parentLink: p.Index, vlan: a.VLAN,
		mac: a.MAC.Bytes(), mtu: cmp.Or(a.MTU, p.MTU), conf4: conf4(a.ReversePath), addrs: slices.Clone(a.Addresses),
		ipv6: slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }),
	}
	if !a.MAC.IsValid() {
		l.mac = n.mac(t, a.Name)
	}
	if l.ipv6 && l.mtu < ipv6MTU {
		return link{}, fmt.Errorf("MTU %d of the uplink's interface %s is too small for IPv6, which needs %d", l.mtu, a.Parent, ipv6MTU)
	}
	if own := netip.PrefixFrom(linkLocal(l.mac), 64); l.ipv6 && !slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr() == own.Addr() }) {
		l.addrs = append(l.addrs, own) // neighbour discovery for others needs a link-local source
	}
	if a.Kind == KindBridge {
		// The bridge's side has its MTU, as a bridge takes the least of its ports'.
		l.port = port{name: n.port(t, a.Name), mac: n.portMAC(t, a.Name), mtu: p.MTU}
	}
	return l, nil
}

// wantedRoutes puts together what the attachments say of one prefix and metric.
func wantedRoutes(as []Attachment) []route {
	type key struct {
		dst    netip.Prefix
		metric uint32
	}
	by := map[key]*route{}
	for _, a := range as {
		for _, r := range a.Routes {
			k := key{r.Prefix, r.Metric}
			if r.Prefix.Addr().Is6() && k.metric == 0 {
				k.metric = 1024 // as ip-route(8)
			}
			if by[k] == nil {
				by[k] = &route{dst: k.dst, metric: k.metric}
			}
			h := hop{a.Name, a.Link, r.NextHop}
			if !slices.Contains(by[k].hops, h) {
				by[k].hops = append(by[k].hops, h)
			}
		}
	}
	out := make([]route, 0, len(by))
	for _, r := range by {
		slices.SortFunc(r.hops, func(a, b hop) int { return cmp.Or(cmp.Compare(a.link, b.link), a.via.Compare(b.via)) })
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b route) int {
		return cmp.Or(a.dst.Addr().Compare(b.dst.Addr()), cmp.Compare(a.dst.Bits(), b.dst.Bits()), cmp.Compare(a.metric, b.metric))
	})
	return out
}
