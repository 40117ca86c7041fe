//go:build linux

package compartments

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func text(steps []step) string {
	return strings.Join(append(words(steps), ""), "\n")
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func tenantName(t testing.TB, s string) hnv.Name {
	t.Helper()
	n, err := hnv.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func vsid(t testing.TB, n uint32) hnv.VSID {
	t.Helper()
	v, err := hnv.NewVSID(n)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// specOf is a compartment with a gateway subnet 10.254.254.0/29 and one other
// subnet, the same for every tenant.
func specOf(t testing.TB, name string, v uint32, external ...string) Spec {
	t.Helper()
	s := Spec{
		Name: tenantName(t, name), VSID: vsid(t, v), MAC: hnv.CompartmentMAC(vsid(t, v)), MTU: 1458,
		CAs:    []netip.Prefix{prefix("10.254.254.2/29")},
		Routes: []Route{{prefix("10.1.1.0/24"), mustAddr("10.254.254.1")}},
		Uplink: "internet",
	}
	for _, e := range external {
		r, err := hnv.ParseExternalRange(e)
		if err != nil {
			t.Fatal(err)
		}
		s.External = append(s.External, r)
	}
	return s
}

// bothFamilies is a compartment that has something of everything.
func bothFamilies(t testing.TB) Spec {
	s := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047", "2001:db8:f::10")
	s.CAs = append(s.CAs, prefix("fd00:1::2/64"))
	s.Routes = append(s.Routes,
		Route{prefix("fd00:2::/64"), mustAddr("fd00:1::1")},
		Route{prefix("10.254.254.0/29"), mustAddr("10.254.254.1")}) // on-link: needs none
	return s
}

var testNames = names{"hnv"}

func wantOf(t testing.TB, s Spec) want {
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	return wanted(testNames, s, uplinkState{"eth1", 1500, sources{mustAddr("203.0.113.1"), mustAddr("2001:db8:f::1")}})
}

// right is what a look finds after everything was done as wanted.
func right(w want) seen {
	s := seen{exists: true, sysctls: map[string]string{}, links: map[string]nl.Link{"lo": {Name: "lo", Index: 1, Up: true}},
		outer: map[string]nl.Link{}, offloads: map[string]nl.Offloads{}, addrs: map[string][]nl.Addr{}}
	for _, k := range w.sysctls {
		s.sysctls[k.key] = k.value
	}
	for i, p := range w.pairs {
		in, out := rightLink(p.inner, 2+i), rightLink(p.outer, 50+i)
		in.Parent, out.Parent = out.Index, in.Index
		if p.inner.offloads != nil {
			s.offloads[in.Name] = *p.inner.offloads
		}
		s.links[in.Name], s.outer[out.Name] = in, out
		for _, a := range w.addrs[in.Name] {
			s.addrs[in.Name] = append(s.addrs[in.Name], nl.Addr{Prefix: a, Link: in.Index, Protocol: nl.Protocol})
		}
	}
	for _, r := range w.routes {
		s.routes = append(s.routes, nl.Route{Dst: r.dst, Via: r.via, Link: s.links[r.link].Index, OnLink: r.onLink, Metric: r.metric, Protocol: nl.Protocol})
	}
	for _, h := range w.hops {
		s.hops = append(s.hops, nl.Neighbour{Addr: h.addr, MAC: h.mac, Link: s.links[h.link].Index, Protocol: nl.Protocol})
	}
	return s
}

func rightLink(l link, index int) nl.Link {
	out := nl.Link{Index: index, Name: l.name, Alias: l.alias, Kind: "veth", MAC: l.mac, MTU: l.mtu, Up: true, NoARP: l.noARP,
		AddrGenNone: true, ParentElsewhere: true}
	for c, v := range l.conf4 {
		out.PutConf4(c, v)
	}
	out.PutConf6(nl.DisableIPv6, btoi(!l.ipv6))
	return out
}

func TestPlanInside(t *testing.T) {
	w := wantOf(t, bothFamilies(t))
	golden(t, "inside-new", text(planInside(w, seen{})))
	if steps := planInside(w, right(w)); len(steps) > 0 {
		t.Errorf("all is right, and the plan is %q", words(steps))
	}
	for name, disturb := range map[string]func(*seen){
		"inside-drift": func(s *seen) {
			s.sysctls["ipv4/ip_forward"] = "0"
			l := s.links["wnv5000"]
			l.Up, l.MTU, l.Alias = false, 1400, ""
			l.PutConf4(nl.RPFilter, 0)
			s.links["wnv5000"] = l
			s.offloads["wnv5000"] = nl.Offloads{GSO: true}
			s.addrs["ext"] = append(s.addrs["ext"][1:], nl.Addr{Prefix: prefix("203.0.113.99/32")})
			s.routes = append(s.routes[1:], nl.Route{Dst: prefix("10.1.1.0/24"), Via: mustAddr("10.254.254.3"), Link: 2, Protocol: nl.Protocol},
				nl.Route{Dst: prefix("10.8.0.0/16"), Link: 77, Protocol: nl.Protocol}) // over a link that is not ours
			s.hops = s.hops[1:]
		},
		"inside-other-vsid": func(s *seen) {
			s.links["wnv4999"] = nl.Link{Index: 9, Name: "wnv4999", Kind: "veth"}
			s.links["wnv1x"] = nl.Link{Index: 10, Name: "wnv1x", Kind: "veth"} // somebody else's
		},
		"inside-peer-lost": func(s *seen) {
			delete(s.outer, testNames.uplinkPeer(vsid(t, 5000)))
		},
		"inside-leftover": func(s *seen) {
			delete(s.links, "wnv5000")
			delete(s.addrs, "wnv5000")
		},
	} {
		s := right(w)
		disturb(&s)
		golden(t, name, text(planInside(w, s)))
	}
}

// Where packets are to leave whole, they do from the start, and again when that is
// asked for, or no longer.
func TestWhole(t *testing.T) {
	cut := bothFamilies(t)
	cut.Whole = true
	whole, super := wantOf(t, cut), wantOf(t, bothFamilies(t))
	const off, on = "link wnv5000: transmit offloads switched off", "link wnv5000: transmit offloads switched on"
	if steps := words(planInside(whole, seen{})); !slices.Contains(steps, off) {
		t.Errorf("a new one: %q", steps)
	}
	if steps := words(planInside(whole, right(super))); !slices.Equal(steps, []string{off}) {
		t.Errorf("one of super-packets becomes another: %q", steps)
	}
	if steps := words(planInside(super, right(whole))); !slices.Equal(steps, []string{on}) {
		t.Errorf("and back: %q", steps)
	}
	if steps := words(planInside(whole, right(whole))); len(steps) > 0 {
		t.Errorf("all is right, and the plan is %q", steps)
	}
}

func rightOutside(t testing.TB, w want) seenOutside {
	t.Helper()
	o := w.outside
	s := seenOutside{peer: nl.Link{Name: o.peer, Index: 51}, steered: map[netip.Addr]netip.Addr{}, proxied: map[string]map[netip.Addr]bool{"eth1": {}, "eth2": {}}}
	for _, r := range o.routes {
		s.routes = append(s.routes, nl.Route{Dst: r.dst, Via: r.via, Link: 51, OnLink: r.onLink, Metric: r.metric, Src: r.src, Protocol: nl.Protocol})
	}
	for _, h := range o.hops {
		s.hops = append(s.hops, nl.Neighbour{Addr: h.addr, MAC: h.mac, Link: 51})
	}
	for _, a := range o.proxied {
		s.proxied[o.uplink][a] = true
	}
	for _, a := range o.shared {
		s.steered[a] = o.source.to(a)
	}
	for _, e := range o.entries {
		if e.steers() {
			e.index = 51
		}
		s.entries = append(s.entries, e)
	}
	// A neighbour with a part of the same address.
	for _, e := range externalEntries(testNames.uplinkPeer(vsid(t, 6000)), hnv.ExternalRange{Addr: mustAddr("203.0.113.20"), Lo: 2048, Hi: 4095}) {
		if e.steers() {
			e.index = 61
		}
		s.entries = append(s.entries, e)
	}
	return s
}

func TestPlanOutside(t *testing.T) {
	w := wantOf(t, bothFamilies(t))
	empty := seenOutside{peer: nl.Link{Index: 51}, proxied: map[string]map[netip.Addr]bool{"eth1": {}, "eth2": {}}}
	golden(t, "outside-new", text(planOutside(testNames, w.outside, empty)))
	if steps := planOutside(testNames, w.outside, rightOutside(t, w)); len(steps) > 0 {
		t.Errorf("all is right, and the plan is %q", words(steps))
	}
	golden(t, "outside-fewer", text(planOutside(testNames, wantOf(t, specOf(t, "contoso", 5000, "2001:db8:f::10")).outside, rightOutside(t, w))))
	s := rightOutside(t, w)
	s.peer.Index = 99 // made anew
	for i, e := range s.entries {
		if e.link == testNames.uplinkPeer(vsid(t, 6000)) {
			s.entries[i].addr = mustAddr("203.0.113.21") // and nobody shares the address
		}
	}
	s.proxied["eth2"][mustAddr("203.0.113.10")] = true  // moved from there
	s.proxied["eth2"][mustAddr("203.0.113.20")] = false // the operator's own
	s.routes[0].Src = netip.Addr{}
	s.steered[mustAddr("203.0.113.20")] = mustAddr("192.168.1.10") // the uplink had another address
	golden(t, "outside-drift", text(planOutside(testNames, w.outside, s)))
}

func TestSourcesOn(t *testing.T) {
	on := func(link int, a string) nl.Addr { return nl.Addr{Link: link, Prefix: prefix(a)} }
	tentative := on(2, "2001:db8:f::7/64")
	tentative.Tentative = true
	own := []nl.Addr{on(1, "127.0.0.1/8"), on(3, "192.168.1.10/24"), on(2, "169.254.7.7/16"), on(2, "203.0.113.1/24"), on(2, "203.0.113.2/24"),
		on(3, "fd00:aa::10/64"), on(2, "2001:db8:f::9/64"), on(2, "2001:db8:f::1/64"), tentative, on(2, "fe80::1/64")}
	for link, want := range map[int]sources{
		2: {mustAddr("203.0.113.1"), mustAddr("2001:db8:f::1")},
		3: {mustAddr("192.168.1.10"), mustAddr("fd00:aa::10")},
		4: {},
	} {
		if got := sourcesOn(link, own); got != want {
			t.Errorf("link %d: %v, not %v", link, got, want)
		}
	}
}

func TestPlanSweep(t *testing.T) {
	w := wantOf(t, bothFamilies(t))
	o := rightOutside(t, w)
	s := remains{
		doomed: map[string]int{w.outside.peer: 51}, entries: o.entries, steered: []netip.Addr{mustAddr("203.0.113.20"), mustAddr("203.0.113.30")},
		proxied: map[string][]netip.Addr{"eth1": {mustAddr("203.0.113.10"), mustAddr("203.0.113.20"), mustAddr("203.0.113.40")}},
		routes:  []route{{link: w.outside.peer, dst: prefix("203.0.113.10/32"), via: compartmentHop4, onLink: true}},
		foreign: []netip.Addr{mustAddr("203.0.113.40")},
	}
	golden(t, "sweep-one", text(planSweep(testNames, s)))
	s.alive = map[string]int{testNames.uplinkPeer(vsid(t, 7000)): 71} // the neighbour's link is gone
	golden(t, "sweep-all", text(planSweep(testNames, s)))
}

func TestPlanProvider(t *testing.T) {
	spec := ProviderSpec{
		Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}, {Addr: prefix("192.168.7.10/24"), Interface: "pa0", VLAN: 7},
			{Addr: prefix("fd00:aa::10/64"), Interface: "pa0"}},
		Routes: []hnv.ProviderRoute{{Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1")}, {Prefix: prefix("192.168.8.0/24"), NextHop: mustAddr("192.168.7.1"), Metric: 5}},
		VSIDs:  []hnv.VSID{vsid(t, 5001), vsid(t, 5002)}, Rewrite: []RewriteAddress{{Addr: mustAddr("192.168.7.77")}, {Addr: mustAddr("fd00:bb::77")}}, Groups: []netip.Addr{mustAddr("239.1.1.1")},
	}
	plan := func(s ProviderSpec, seen seenProvider) string {
		return text(planProvider(testNames, []string{"pa0", "pa1"}, s, seen))
	}
	bare := seenProvider{links: map[string]nl.Link{"pa0": {Name: "pa0", Index: 3}, "pa1": {Name: "pa1", Index: 4, Up: true}}}
	bare.sysctls = map[string]string{"ipv4/neigh/pa0/unres_qlen_bytes": "212992", "ipv6/neigh/pa0/unres_qlen_bytes": "212992", "ipv4/neigh/pa1/unres_qlen_bytes": "4096"}
	golden(t, "provider-new", plan(spec, bare))

	bare.links["pa0.7"] = nl.Link{Name: "pa0.7", Index: 5, Kind: "vlan", VLAN: 7, Parent: 3, Alias: testNames.providerAlias()}
	bare.sysctls = map[string]string{"ipv4/neigh/pa0/unres_qlen_bytes": "4096", "ipv4/neigh/pa0.7/unres_qlen_bytes": "101"}
	bare.addrs = map[string][]nl.Addr{
		"pa0":   {{Prefix: prefix("192.168.1.10/24")}, {Prefix: prefix("192.168.1.99/24")}, {Prefix: prefix("192.168.1.98/24"), Protocol: nl.Protocol}},
		"pa0.7": {{Prefix: prefix("192.168.7.10/24"), Protocol: nl.Protocol}},
	}
	bare.entries = []entry{{set: setPA4, addr: mustAddr("192.168.1.98")}, {set: setWhole4, link: "x", addr: mustAddr("203.0.113.1")}}
	bare.routes = []nl.Route{{Dst: prefix("192.168.9.0/24"), Via: mustAddr("192.168.1.1"), Link: 3, Protocol: nl.Protocol},
		{Dst: prefix("192.168.6.0/24"), Via: mustAddr("192.168.1.1"), Link: 3},
		{Dst: prefix("192.168.8.0/24"), Via: mustAddr("192.168.7.1"), Link: 5}, {Dst: prefix("203.0.113.10/32"), Link: 51}}
	golden(t, "provider-drift", plan(spec, bare))
	golden(t, "provider-none", plan(ProviderSpec{}, bare))

	bare.links["pa0.7"] = nl.Link{Name: "pa0.7", Index: 5, Kind: "veth"}
	bare.barred.links = map[string]string{}
	barStrangers(spec, &bare)
	bare.health = map[string]linkHealth{"pa0.7": {fault: FaultMissing}}
	if why := bare.barred.links["pa0.7"]; !strings.Contains(why, "is not VLAN 7 of pa0") {
		t.Errorf("another link of the name: %q", why)
	}
	if steps := plan(spec, bare); strings.Contains(steps, "pa0.7") || strings.Contains(steps, "192.168.8.0/24") {
		t.Errorf("another link of the name is not left alone:\n%s", steps)
	}

	// An address that cannot be had takes with it what builds on it.
	bare.barred.addrs = map[netip.Addr]string{mustAddr("192.168.1.10"): "no", mustAddr("fd00:bb::77"): "no"}
	if steps := plan(spec, bare); strings.Contains(steps, "192.168.2.0/24") || strings.Contains(steps, "fd00:bb::77/128") || !strings.Contains(steps, "fd00:aa::10/64") {
		t.Errorf("without two of the addresses:\n%s", steps)
	}
}

// Two interfaces in one network, one of which loses its carrier.
func TestPlanFailover(t *testing.T) {
	spec := ProviderSpec{
		Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}, {Addr: prefix("192.168.1.11/24"), Interface: "pa1"}},
		Routes:    []hnv.ProviderRoute{{Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1"), Metric: 7}},
		Rewrite:   []RewriteAddress{{Addr: mustAddr("192.168.1.77")}},
	}
	interfaces := []string{"pa0", "pa1"}
	links := map[string]nl.Link{}
	seen := seenProvider{links: links, addrs: map[string][]nl.Addr{}, sysctls: map[string]string{}, health: map[string]linkHealth{}, leave: map[string]bool{}}
	for i, name := range interfaces {
		l := nl.Link{Name: name, Index: 3 + i, Up: true, Carrier: true}
		l.PutConf4(nl.IgnoreLinkdown4, 0)
		l.PutConf4(nl.RPFilter, 1)
		links[name] = l
		seen.sysctls[linkdown6(name)] = "0"
		for _, key := range unresolvedKeys(name) {
			seen.sysctls[key] = unresolved
		}
		seen.health[name] = linkHealth{index: l.Index, worked: true}
	}
	seen.entries = planGuard(interfaces, spec, nil).put
	plan := func() []step {
		t.Helper()
		return planProvider(testNames, interfaces, spec, seen)
	}
	golden(t, "provider-team", text(plan()))

	// As it was done.
	for _, s := range plan() {
		switch s := s.(type) {
		case changeLink:
			l := links[s.name]
			for id, v := range s.change.Conf4 {
				l.PutConf4(id, v)
			}
			links[s.name] = l
		case setSysctl:
			seen.sysctls[s.key] = s.value
		case addAddr:
			seen.addrs[s.link] = append(seen.addrs[s.link], nl.Addr{Prefix: s.prefix, Protocol: nl.Protocol})
		case addRoute:
			seen.routes = append(seen.routes, nl.Route{Table: s.table, Dst: s.dst, Via: s.via, Link: links[s.link].Index, Metric: s.metric, Protocol: nl.Protocol})
		case addRule:
			seen.rules = append(seen.rules, s.Rule)
		}
	}
	if steps := plan(); len(steps) > 0 {
		t.Errorf("not settled: %s", text(steps))
	}
	down := links["pa0"]
	down.Carrier = false
	links["pa0"] = down
	seen.health["pa0"] = linkHealth{index: 3, fault: FaultNoCarrier, worked: true}
	seen.placed = placement{mustAddr("192.168.1.10"): "pa1", mustAddr("192.168.1.11"): "pa1", mustAddr("192.168.1.77"): "pa1"}
	golden(t, "provider-failover", text(plan()))
	// The same for one that somebody took down, and for one that is gone.
	down.Up = false
	links["pa0"], seen.leave["pa0"] = down, true
	golden(t, "provider-failover", text(plan()))
	delete(links, "pa0")
	delete(seen.addrs, "pa0")
	seen.routes = slices.DeleteFunc(seen.routes, func(r nl.Route) bool { return r.Link == 3 })
	seen.health["pa0"] = linkHealth{fault: FaultMissing, worked: true}
	golden(t, "provider-gone", text(plan()))
}

func TestTables(t *testing.T) {
	w := wantOf(t, bothFamilies(t))
	entries := append(rightOutside(t, w).entries, entry{set: setNotes, link: noteIPv6}, entry{set: setPALinks, link: "pa0"},
		entry{set: setPA4, addr: mustAddr("192.168.1.10")}, entry{set: setGuard4, addr: mustAddr("192.168.1.10")},
		entry{set: setVM4, addr: mustAddr("192.168.1.77")}, entry{set: setVMGuard6, addr: mustAddr("fd00:aa::77")}, entry{set: setVSIDs, vsid: 5001})
	golden(t, "inet", inetTable(testNames, []string{"eth1"}, entries).String())
	golden(t, "netdev", netdevTable(testNames, []string{"pa0"}, []string{"vm0"}, entries).String())
	// Each element can be read back.
	for _, s := range setSpecs {
		for _, e := range entries {
			if e.set == s.name && s.entry(s.element(e)) != e {
				t.Errorf("%s was read back as %s", e, s.entry(s.element(e)))
			}
		}
	}
	for _, d := range append(inetDrops, netdevDrops...) {
		in := nft.Table{}
		for _, table := range []nft.Table{inetTable(testNames, nil, entries), netdevTable(testNames, []string{"pa0"}, []string{"vm0"}, entries)} {
			if strings.Contains(table.String(), `counter name "`+d+`" drop`) {
				in = table
			}
		}
		if in.Name == "" {
			t.Errorf("no rule counts as %s", d)
		}
	}
}

// The page about the reasons has each of them.
func TestDropReasonsAreExplained(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "gateway-drop-reasons.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(slices.Clone(inetDrops), netdevDrops...) {
		if !strings.Contains(string(b), "`"+d+"`") {
			t.Errorf("docs/gateway-drop-reasons.md does not explain %s", d)
		}
	}
}
