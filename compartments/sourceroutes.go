//go:build linux

package compartments

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// Where the addresses of a family are on several links, what is sent from one
// leaves by its own link: a rule for each address names a table for each link,
// in which are the networks on that link and the routes over routers there. What
// is in no such table goes by the main one.
const (
	sourcePriority = 20100
	sourceTables   = 201_000_000 // plus the link's index: nobody counts tables so high
)

func sourceTable(index int) uint32 { return sourceTables + uint32(index) }

// spread tells for each family whether its addresses belong on several links.
func spread(all []holding) (four, six bool) {
	var links4, links6 []string
	for _, h := range all {
		to := &links4
		if h.prefix.Addr().Is6() {
			to = &links6
		}
		if h.home != "" && !slices.Contains(*to, h.home) {
			*to = append(*to, h.home)
		}
	}
	return len(links4) > 1, len(links6) > 1
}

// sourceRoutes gives the contents of the links' tables.
func sourceRoutes(all []holding, s ProviderSpec, seen seenProvider) []route {
	four, six := spread(all)
	var out []route
	for _, name := range sortedKeys(seen.links) {
		var nets []netip.Prefix
		for _, h := range seen.placed.on(name, all) {
			net := h.prefix.Masked()
			if h.prefix.Addr().Is4() && !four || h.prefix.Addr().Is6() && !six || h.rewrite || slices.Contains(nets, net) {
				continue
			}
			nets = append(nets, net)
		}
		table := sourceTable(seen.links[name].Index)
		for _, n := range nets {
			out = append(out, route{table: table, link: name, dst: n, metric: metric(n.Addr())})
		}
		for _, r := range s.Routes {
			if slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(r.NextHop) }) {
				out = append(out, route{table: table, link: name, dst: r.Prefix, via: r.NextHop, metric: max(r.Metric, metric(r.NextHop))})
			}
		}
	}
	return out
}

// planSourceRules adds before it removes: in between, a packet finds one way or
// the other.
func planSourceRules(s ProviderSpec, seen seenProvider) []step {
	all := held(s)
	four, six := spread(all)
	var want []nl.Rule
	for _, h := range all {
		a := h.prefix.Addr()
		l, there := seen.links[seen.placed.of(h)]
		if there && (a.Is4() && four || a.Is6() && six) {
			want = append(want, nl.Rule{Priority: sourcePriority, From: netip.PrefixFrom(a, a.BitLen()), Table: sourceTable(l.Index), Protocol: nl.Protocol})
		}
	}
	var out []step
	for _, r := range want {
		if !slices.Contains(seen.rules, r) {
			out = append(out, addRule{r})
		}
	}
	for _, r := range seen.rules {
		if !slices.Contains(want, r) {
			out = append(out, delRule{r})
		}
	}
	return out
}

type (
	addRule struct{ nl.Rule }
	delRule struct{ nl.Rule }
)

func (s addRule) String() string { return fmt.Sprintf("packets %s", s.Rule) }

func (s delRule) String() string { return fmt.Sprintf("packets %s no more", s.Rule) }
