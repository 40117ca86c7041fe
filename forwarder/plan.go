package forwarder

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// seen is a compartment's attachments as they are.
type seen struct {
	sysctls map[string]string  // a key is missing where the kernel has none
	links   map[string]nl.Link // all of the compartment
	ports   map[string]nl.Link // in the gateway's namespace, of the wanted names
	addrs   map[string][]nl.Addr
	routes  []nl.Route // ours
}

// netlinkKind is the kernel's word for an attachment's link.
func netlinkKind(kind string) string {
	if kind == KindBridge {
		return "veth"
	}
	return kind
}

// plan gives the steps from what is seen to what is wanted. What needs a link
// that is not right yet is left to the next look.
func plan(w want, s seen) []group {
	var out []group
	add := func(g group) {
		if len(g.steps) > 0 {
			out = append(out, g)
		}
	}
	common := group{}
	for _, k := range w.sysctls {
		if v, known := s.sysctls[k.key]; known && v != k.value {
			common.steps = append(common.steps, setSysctl{k})
		}
	}
	add(common)
	ready := map[string]int{}
	pending := map[string]bool{}
	for _, name := range w.kept {
		if l, there := s.links[name]; there && l.Up {
			ready[name] = l.Index
		}
	}
	var links []group
	for _, l := range w.links {
		if steps := planLink(l, w.alias, s); len(steps) > 0 {
			pending[l.name] = true
			links = append(links, group{[]hnv.Name{l.attachment}, steps})
		} else {
			ready[l.name] = s.links[l.name].Index
		}
	}
	// Routes leave a link before it goes, as one with several next hops would go
	// with it; and a link goes before another has its VLAN.
	out = append(out, planRoutes(w.routes, s.routes, ready, pending)...)
	for _, name := range slices.Sorted(maps.Keys(s.links)) {
		known := slices.Contains(w.kept, name) || slices.ContainsFunc(w.links, func(l link) bool { return l.name == name })
		if s.links[name].Alias == w.alias && !known {
			add(group{steps: []step{delLink{inside, name}}})
		}
	}
	return append(out, links...)
}

// right tells whether the link is the one wanted, settings and addresses apart.
func (l link) right(s seen) bool {
	have, there := s.links[l.name]
	if !there || have.Kind != netlinkKind(l.kind) || !have.ParentElsewhere {
		return false
	}
	switch l.kind {
	case KindBridge:
		p, there := s.ports[l.port.name]
		return there && p.Kind == "veth" && have.Parent == p.Index && p.Parent == have.Index
	case KindMACVLAN:
		return have.Parent == l.parentLink && have.Private
	}
	return have.Parent == l.parentLink && have.VLAN == l.vlan
}

func planLink(l link, alias string, s seen) []step {
	var out []step
	have, there := s.links[l.name]
	p, portThere := s.ports[l.port.name]
	isNew := !l.right(s)
	if isNew {
		if there {
			out = append(out, delLink{inside, l.name})
		}
		if portThere {
			out = append(out, delLink{outward, l.port.name})
		}
		out = append(out, addLink{l})
		have = nl.Link{MAC: l.mac, MTU: l.mtu}
		p = nl.Link{MAC: l.port.mac, MTU: l.port.mtu}
	}
	if l.kind == KindBridge {
		out = append(out, planPort(l, alias, p)...)
	}
	out = append(out, planSettings(l, alias, have, isNew)...)
	have4 := s.addrs[l.name]
	if isNew {
		have4 = nil
	}
	return append(out, planAddrs(l, have4)...)
}

// planPort has the port isolated before it is up.
func planPort(l link, alias string, have nl.Link) []step {
	var out []step
	var c nl.LinkChange
	var what []string
	differs := func(is bool, word string) bool {
		if is {
			what = append(what, word)
		}
		return is
	}
	if differs(have.Alias != alias, "alias") {
		c.Alias = alias
	}
	if differs(have.MAC != l.port.mac, "MAC address") {
		c.MAC = l.port.mac
	}
	if differs(have.MTU != l.port.mtu, "MTU") {
		c.MTU = l.port.mtu
	}
	c.AddrGenNone = differs(!have.AddrGenNone, "address generation")
	joins := differs(have.Master != l.parentLink, "bridge "+l.parent)
	if joins {
		c.Master = l.parentLink
	}
	if len(what) > 0 {
		out = append(out, changeLink{outward, l.port.name, c, what})
	}
	if joins || !have.Isolated {
		out = append(out, isolate{l.port.name})
	}
	if !have.Up {
		out = append(out, changeLink{outward, l.port.name, nl.LinkChange{Up: true}, []string{"up"}})
	}
	return out
}

// planSettings compares the link inside. Of a new one the settings are not known.
func planSettings(l link, alias string, have nl.Link, isNew bool) []step {
	var out []step
	set := func(name string, id nl.Conf6, value int) {
		if v, known := have.Conf6(id); isNew || known && v != value {
			out = append(out, setSysctl{setting{"ipv6/conf/" + l.name + "/" + name, strconv.Itoa(value)}})
		}
	}
	if l.ipv6 {
		set("disable_ipv6", nl.DisableIPv6, 0)
		for _, c := range conf6 {
			set(c.name, c.id, c.value)
		}
	} else {
		set("disable_ipv6", nl.DisableIPv6, 1)
	}
	var c nl.LinkChange
	var what []string
	differs := func(is bool, word string) bool {
		if is {
			what = append(what, word)
		}
		return is
	}
	if differs(have.Alias != alias, "alias") {
		c.Alias = alias
	}
	if differs(have.MAC != l.mac, "MAC address") {
		c.MAC = l.mac
	}
	if differs(have.MTU != l.mtu, "MTU") {
		c.MTU = l.mtu
	}
	c.AddrGenNone = differs(!have.AddrGenNone, "address generation")
	if differs(!hasConf4(have, l.conf4), "IPv4 settings") {
		c.Conf4 = l.conf4
	}
	if len(what) > 0 {
		out = append(out, changeLink{inside, l.name, c, what})
	}
	if !have.Up { // apart: up, the kernel would make an IPv6 address at once
		out = append(out, changeLink{inside, l.name, nl.LinkChange{Up: true}, []string{"up"}})
	}
	return out
}

func hasConf4(have nl.Link, conf map[nl.Conf4]int) bool {
	for id, want := range conf {
		if v, ok := have.Conf4(id); !ok || v != want {
			return false
		}
	}
	return true
}

// planAddrs adds before it removes, so that a network which stays is on the link
// all the time; only of IPv6 no address can be there with two lengths.
func planAddrs(l link, have []nl.Addr) []step {
	var first, add, last []step
	var news []netip.Addr
	for _, a := range have {
		if slices.Contains(l.addrs, a.Prefix) {
			continue
		}
		s := delAddr{l.name, a.Prefix}
		if a.Prefix.Addr().Is6() && slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr() == a.Prefix.Addr() }) {
			first = append(first, s)
		} else {
			last = append(last, s)
		}
	}
	for _, p := range l.addrs {
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			add = append(add, addAddr{l.name, p})
			news = append(news, p.Addr())
		}
	}
	if len(news) > 0 {
		last = append(last, announce{l.name, news})
	}
	return slices.Concat(first, add, last)
}

// planRoutes: a route is known by its prefix and metric. One over a link that is
// being set right waits; next hops on links that cannot be are left out.
func planRoutes(routes []route, now []nl.Route, ready map[string]int, pending map[string]bool) []group {
	type key struct {
		dst    netip.Prefix
		metric uint32
	}
	have := map[key]nl.Route{}
	for _, r := range now {
		have[key{r.Dst, r.Metric}] = r
	}
	var out []group
	for _, r := range routes {
		k := key{r.dst, r.metric}
		if r.held || slices.ContainsFunc(r.hops, func(h hop) bool { return pending[h.link] }) {
			delete(have, k)
			continue
		}
		use := r
		use.hops = slices.DeleteFunc(slices.Clone(r.hops), func(h hop) bool { _, ok := ready[h.link]; return !ok })
		if len(use.hops) == 0 {
			continue
		}
		kernel := use.kernel(ready)
		old, there := have[k]
		delete(have, k)
		switch {
		case !there:
			out = append(out, group{r.attachments(), []step{addRoute{use, kernel}}})
		case !sameRoute(kernel, old):
			out = append(out, group{r.attachments(), []step{replaceRoute{use, kernel}}})
		}
	}
	for _, r := range now {
		if _, left := have[key{r.Dst, r.Metric}]; left {
			out = append(out, group{steps: []step{delRoute{r}}})
		}
	}
	return out
}

func (r route) attachments() []hnv.Name {
	var out []hnv.Name
	for _, h := range r.hops {
		if !slices.Contains(out, h.attachment) {
			out = append(out, h.attachment)
		}
	}
	return out
}

// kernel gives the route in the kernel's terms.
func (r route) kernel(index map[string]int) nl.Route {
	k := nl.Route{Dst: r.dst, Metric: r.metric, Protocol: RouteProtocol}
	if len(r.hops) == 1 {
		k.Via, k.Link = r.hops[0].via, index[r.hops[0].link]
		return k
	}
	for _, h := range r.hops {
		k.NextHops = append(k.NextHops, nl.NextHop{Via: h.via, Link: index[h.link], Weight: 1})
	}
	return k
}

func sameRoute(want, have nl.Route) bool {
	if have.Unreachable || len(want.NextHops) != len(have.NextHops) {
		return false
	}
	if len(want.NextHops) == 0 {
		return want.Link == have.Link && want.Via == have.Via
	}
	return !slices.ContainsFunc(want.NextHops, func(n nl.NextHop) bool { return !slices.Contains(have.NextHops, n) })
}
