//go:build linux

package compartments

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// providerLinks are all links that carry the fabric.
func providerLinks(interfaces []string, s ProviderSpec) []string {
	out := slices.Clone(interfaces)
	for _, a := range s.Addresses {
		if l := ProviderLink(a); !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// under gives the link that a VLAN link is on; "" if the link is none.
func under(s ProviderSpec, link string) string {
	for _, a := range s.Addresses {
		if a.VLAN != 0 && ProviderLink(a) == link {
			return a.Interface
		}
	}
	return ""
}

// unresolved is how many bytes of packets the kernel keeps for a neighbour of
// the fabric that has not answered yet: always one packet, seldom more. What it
// keeps is charged to the dataplane's sockets, which all tenants share, and some
// tenants' hosts may be dead; so hundreds of those must leave room for others.
const unresolved = "4096"

// unresolvedKeys names the settings for a link.
func unresolvedKeys(link string) []string {
	return []string{"ipv4/neigh/" + link + "/unres_qlen_bytes", "ipv6/neigh/" + link + "/unres_qlen_bytes"}
}

// planProvider gives the steps. Before an address is there the guard is, and it
// stays until the address is gone: the stack must not answer even one packet of the
// dataplane's. An address is announced when the way out is there too.
func planProvider(n names, interfaces []string, s ProviderSpec, seen seenProvider) []step {
	links := slices.DeleteFunc(providerLinks(interfaces, s), func(l string) bool { return seen.barred.links[l] != "" })
	out := planVLANs(n, links, s, seen)
	guard := planGuard(links, s, seen.entries)
	if len(guard.put) > 0 {
		out = append(out, changeEntries{put: guard.put})
	}
	s = s.without(seen.barred.addrs)
	var announced []step
	for _, name := range links {
		l, have := seen.links[name]
		if !have {
			continue // it is missing, or just being made: the next look sees to it
		}
		out = append(out, planLinkSettings(name, l, s, seen)...)
		steps, fresh := planProviderAddrs(name, s, seen)
		out = append(out, steps...)
		if len(fresh) > 0 { // they may have been another machine's, or at another interface
			announced = append(announced, announce{name, fresh})
		}
	}
	out = append(out, planProviderRoutes(links, s, seen)...)
	out = append(out, planSourceRules(s, seen)...)
	if len(guard.del) > 0 {
		out = append(out, changeEntries{del: guard.del})
	}
	return append(out, announced...)
}

func planVLANs(n names, links []string, s ProviderSpec, seen seenProvider) []step {
	var out []step
	for _, name := range sortedKeys(seen.links) {
		if !slices.Contains(links, name) {
			out = append(out, delLink{outward, name})
		}
	}
	for _, a := range s.Addresses {
		name := ProviderLink(a)
		_, have := seen.links[name]
		made := slices.ContainsFunc(out, func(s step) bool { v, ok := s.(addVLAN); return ok && v.name == name })
		if !have && !made && comes(name, s, seen) {
			out = append(out, addVLAN{parent: a.Interface, name: name, alias: n.providerAlias(), vlan: a.VLAN})
		}
	}
	return out
}

// teamConf makes several links in one network behave like one machine's: each
// answers for its own addresses and no other's, asks from its own, hears
// neighbours whose way back leads over another, and is no way out while it has no
// carrier. An address that came second stays when the first one goes.
var teamConf = map[nl.Conf4]int{nl.ARPIgnore: 1, nl.ARPAnnounce: 2, nl.IgnoreLinkdown4: 1, nl.PromoteSecondaries: 1}

const looseRPFilter = 2 // strict is 1; the greater of this and that of all interfaces counts

// linkdown6 is the setting of IPv6 that IgnoreLinkdown4 is for IPv4.
func linkdown6(link string) string { return "ipv6/conf/" + link + "/ignore_routes_with_linkdown" }

// teamed gives the links that are not alone in their network.
func teamed(all []holding) []string {
	var out []string
	for _, h := range all {
		if len(h.refuges) > 0 && !slices.Contains(out, h.home) {
			out = append(out, h.home)
		}
	}
	return out
}

func planLinkSettings(name string, l nl.Link, s ProviderSpec, seen seenProvider) []step {
	var out []step
	all := held(s)
	team := slices.Contains(teamed(all), name)
	for _, key := range unresolvedKeys(name) {
		if v, known := seen.sysctls[key]; known && v != unresolved {
			out = append(out, setSysctl{outward, setting{key, unresolved}})
		}
	}
	if v, known := seen.sysctls[linkdown6(name)]; team && known && v != "1" {
		out = append(out, setSysctl{outward, setting{linkdown6(name), "1"}})
	}
	if v, ok := l.Conf4(nl.Forwarding4); !ok || v != 0 {
		out = append(out, changeLink{outward, name, nl.LinkChange{Conf4: map[nl.Conf4]int{nl.Forwarding4: 0}}, []string{"no forwarding"}})
	}
	if team {
		change := map[nl.Conf4]int{}
		for _, id := range sortedKeys(teamConf) {
			if v, ok := l.Conf4(id); !ok || v != teamConf[id] {
				change[id] = teamConf[id]
			}
		}
		if v, ok := l.Conf4(nl.RPFilter); ok && v == 1 {
			change[nl.RPFilter] = looseRPFilter
		}
		if len(change) > 0 {
			out = append(out, changeLink{outward, name, nl.LinkChange{Conf4: change}, []string{"settings of one of several in a network"}})
		}
	}
	needed := slices.ContainsFunc(all, func(h holding) bool {
		at := seen.placed.of(h)
		return h.home == name || at == name || under(s, h.home) == name || under(s, at) == name
	})
	if !l.Up && needed && !seen.leave[name] {
		out = append(out, changeLink{outward, name, nl.LinkChange{Up: true}, []string{"up"}})
	}
	return out
}

// planProviderAddrs also tells which addresses come.
func planProviderAddrs(name string, s ProviderSpec, seen seenProvider) (out []step, fresh []netip.Addr) {
	want := seen.placed.on(name, held(s))
	wanted := func(p netip.Prefix) bool {
		return slices.ContainsFunc(want, func(h holding) bool { return h.prefix == p })
	}
	for _, a := range seen.addrs[name] {
		// An address of ours with another prefix length is in the way of the
		// right one only on our own account.
		if a.Protocol == nl.Protocol && !wanted(a.Prefix) {
			out = append(out, delAddr{outward, name, a.Prefix})
		}
	}
	for _, h := range want {
		if !seen.leave[name] && !slices.ContainsFunc(seen.addrs[name], func(a nl.Addr) bool { return a.Prefix == h.prefix }) {
			out = append(out, addAddr{outward, name, h.prefix, h.rewrite})
			fresh = append(fresh, h.prefix.Addr())
		}
	}
	return out, fresh
}

// planProviderRoutes is content with a route that somebody else made.
func planProviderRoutes(links []string, s ProviderSpec, seen seenProvider) []step {
	var have, theirs []route
	for _, r := range seen.routes {
		for name, l := range seen.links {
			switch {
			case l.Index != r.Link || !slices.Contains(links, name):
			case r.Protocol == nl.Protocol:
				have = append(have, routeOf(r, name))
			case r.Table == 0:
				theirs = append(theirs, routeOf(r, name))
			}
		}
	}
	all := held(s)
	want := sourceRoutes(all, s, seen)
	for _, r := range s.Routes {
		l, _ := seen.placed.way(all, seen.health, r.NextHop)
		m := r.Metric
		if m == 0 {
			m = metric(r.NextHop)
		}
		w := route{link: l, dst: r.Prefix, via: r.NextHop, metric: m}
		if !slices.ContainsFunc(theirs, func(t route) bool { return t.link == w.link && t.dst == w.dst && t.via == w.via }) {
			want = append(want, w)
		}
	}
	// Links that are gone, or are left down, take no routes.
	want = slices.DeleteFunc(want, func(r route) bool {
		_, there := seen.links[r.link]
		return seen.leave[r.link] || !there && seen.health[r.link].fault == FaultMissing && !comes(r.link, s, seen)
	})
	return diffRoutes(outward, want, have)
}

// comes tells whether the link is being made.
func comes(link string, s ProviderSpec, seen seenProvider) bool {
	if _, barred := seen.barred.links[link]; barred {
		return false
	}
	for _, a := range s.Addresses {
		if _, plugged := seen.links[a.Interface]; a.VLAN != 0 && ProviderLink(a) == link && plugged {
			return true
		}
	}
	return false
}
