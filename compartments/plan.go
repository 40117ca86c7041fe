package compartments

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// seen is a compartment as it is.
type seen struct {
	exists   bool
	sysctls  map[string]string // a key is missing where the kernel has none
	links    map[string]nl.Link
	outer    map[string]nl.Link // the gateway-side ends, of the wanted names
	offloads map[string]nl.Offloads
	addrs    map[string][]nl.Addr
	routes   []nl.Route // ours
	hops     []nl.Neighbour
}

func (s *seen) linkName(index int) string {
	for _, l := range s.links {
		if l.Index == index {
			return l.Name
		}
	}
	return ""
}

// planInside gives the steps from what is seen to what is wanted, as far as the
// compartment and its links go.
func planInside(w want, s seen) []step {
	var out []step
	if !s.exists {
		out = append(out, makeNamespace{w.namespace, w.marker})
	}
	for _, k := range w.sysctls {
		if v, known := s.sysctls[k.key]; known && v != k.value || !s.exists && k != newLinks6 {
			out = append(out, setSysctl{inside, k})
		}
	}
	if !s.exists {
		// To switch IPv6 off on a link takes a lock that all namespaces have in common,
		// and the kernel does not wait for it but tries it again and again. This takes none.
		out = append(out, setSysctl{inside, setting{newLinks6.key, "1"}})
	}
	out = append(out, planStrangers(w, s)...)
	for _, p := range w.pairs {
		out = append(out, planPair(p, s)...)
	}
	if !s.exists {
		out = append(out, setSysctl{inside, newLinks6})
	}
	if lo := s.links["lo"]; s.exists && !lo.Up {
		out = append(out, changeLink{inside, "lo", nl.LinkChange{Up: true}, []string{"up"}})
	}
	for _, p := range w.pairs {
		out = append(out, planAddrs(inside, p.inner.name, w.addrs[p.inner.name], s.addrs[p.inner.name])...)
	}
	return append(out, planRoutes(w, s)...)
}

// planStrangers removes overlay links of another VSID; what else is in the
// compartment is not ours.
func planStrangers(w want, s seen) []step {
	var out []step
	for _, name := range sortedKeys(s.links) {
		vsid, overlay := strings.CutPrefix(name, overlayLinks)
		_, err := strconv.ParseUint(vsid, 10, 32)
		if overlay && err == nil && s.links[name].Kind == "veth" && name != w.pairs[0].inner.name {
			out = append(out, delLink{inside, name})
		}
	}
	return out
}

func planPair(p pair, s seen) []step {
	var out []step
	in, haveIn := s.links[p.inner.name]
	peer, haveOut := s.outer[p.outer.name]
	joined := haveIn && haveOut && in.Kind == "veth" && in.Parent == peer.Index && peer.Parent == in.Index
	if !joined {
		if haveIn {
			out = append(out, delLink{inside, p.inner.name})
		}
		if haveOut {
			out = append(out, delLink{outward, p.outer.name})
		}
		out = append(out, addPair{p})
		in = nl.Link{MAC: p.inner.mac, MTU: p.inner.mtu, NoARP: p.inner.noARP}
		if !s.exists {
			in.PutConf6(nl.DisableIPv6, 1)
		}
		peer = nl.Link{MAC: p.outer.mac, MTU: p.outer.mtu, NoARP: p.outer.noARP}
	}
	out = append(out, planLink(outward, p.outer, peer, !joined)...)
	out = append(out, planLink(inside, p.inner, in, !joined && s.exists)...)
	have := s.offloads[p.inner.name]
	if !joined {
		have = allOffloads
	}
	if want := p.inner.offloads; want != nil && have != *want {
		out = append(out, setOffloads{p.inner.name, *want})
	}
	return out
}

// planLink compares one end. Of a new one the settings are not known; of one in a new
// namespace, that it begins without IPv6.
func planLink(at side, want link, have nl.Link, isNew bool) []step {
	var out []step
	off, known := have.Conf6(nl.DisableIPv6)
	if isNew || known && off != btoi(!want.ipv6) {
		out = append(out, setSysctl{at, setting{"ipv6/conf/" + want.name + "/disable_ipv6", onOff(!want.ipv6)}})
	}
	if at == inside {
		for _, c := range []struct {
			id   nl.Conf6
			name string
		}{{nl.AcceptRA, "accept_ra"}, {nl.AcceptRedirects6, "accept_redirects"}} {
			if v, known := have.Conf6(c.id); known && v != 0 {
				out = append(out, setSysctl{at, setting{"ipv6/conf/" + want.name + "/" + c.name, "0"}})
			}
		}
	}
	var c nl.LinkChange
	var what []string
	differs := func(is bool, word string) bool {
		if is {
			what = append(what, word)
		}
		return is
	}
	if differs(have.Alias != want.alias, "alias") {
		c.Alias = want.alias
	}
	if differs(have.MAC != want.mac, "MAC address") {
		c.MAC = want.mac
	}
	if differs(have.MTU != want.mtu, "MTU") {
		c.MTU = want.mtu
	}
	if differs(have.NoARP != want.noARP, "ARP") {
		c.NoARP, c.ARP = want.noARP, !want.noARP
	}
	if differs(!have.AddrGenNone, "address generation") {
		c.AddrGenNone = true
	}
	for _, id := range sortedKeys(want.conf4) {
		if v, ok := have.Conf4(id); ok && v == want.conf4[id] {
			continue
		}
		c.Conf4 = want.conf4
	}
	differs(c.Conf4 != nil, "IPv4 settings")
	c.Up = differs(!have.Up, "up")
	if len(what) > 0 {
		out = append(out, changeLink{at, want.name, c, what})
	}
	return out
}

// planAddrs makes the addresses of a link of ours exactly the wanted ones.
func planAddrs(at side, link string, want []netip.Prefix, have []nl.Addr) []step {
	var out []step
	for _, a := range have {
		if !slices.Contains(want, a.Prefix) {
			out = append(out, delAddr{at, link, a.Prefix})
		}
	}
	for _, p := range want {
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			out = append(out, addAddr{side: at, link: link, prefix: p})
		}
	}
	return out
}

func planRoutes(w want, s seen) []step {
	var out []step
	names := map[string]bool{}
	for _, p := range w.pairs {
		names[p.inner.name] = true
	}
	for _, h := range s.hops {
		link := s.linkName(h.Link)
		stale := !slices.ContainsFunc(w.hops, func(x hop) bool { return x.link == link && x.addr == h.Addr })
		if names[link] && stale && h.Protocol == nl.Protocol {
			out = append(out, delHop{inside, link, h.Addr})
		}
	}
	for _, h := range w.hops {
		if !slices.ContainsFunc(s.hops, func(x nl.Neighbour) bool {
			return s.linkName(x.Link) == h.link && x.Addr == h.addr && x.MAC == h.mac
		}) {
			out = append(out, setHop{inside, h})
		}
	}
	var have []route
	for _, r := range s.routes {
		if l := s.linkName(r.Link); names[l] {
			have = append(have, routeOf(r, l))
		}
	}
	return append(out, diffRoutes(inside, w.routes, have)...)
}

func routeOf(r nl.Route, link string) route {
	if r.Multipath || r.Unreachable {
		link = "" // like none of ours
	}
	return route{table: r.Table, link: link, dst: r.Dst, via: r.Via, onLink: r.OnLink, metric: r.Metric, src: r.Src}
}

// diffRoutes removes before it adds: two routes that differ only in their next
// hop exclude each other.
func diffRoutes(at side, want, have []route) []step {
	var out []step
	for _, r := range have {
		if !slices.Contains(want, r) {
			out = append(out, delRoute{at, r})
		}
	}
	for _, r := range want {
		if !slices.Contains(have, r) {
			out = append(out, addRoute{at, r})
		}
	}
	return out
}
