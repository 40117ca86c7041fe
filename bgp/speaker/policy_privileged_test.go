//go:build privileged && linux

package speaker

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
)

// Policies and attributes as FRR sees them. Changing policies, networks and limits
// leaves the session up.
func TestPoliciesAndAttributes(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	f := site.frr(frrBase + ` address-family ipv4 unicast
  network 172.16.1.0/24 route-map TAG
  network 172.16.2.0/24
  network 172.16.3.0/28
  network 192.168.7.0/24
  neighbor 10.0.0.1 send-community all
exit
exit
route-map TAG permit 10
 set community 65001:100 65001:200
 set large-community 65001:1:2
 set metric 77
`)
	s := gw.speaker()
	peer := quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65001})
	spec := bgp.Spec{
		ASN: 65000, RouterID: addr("10.0.0.1"),
		Networks: []bgp.Network{
			{Prefix: prefix("10.1.1.0/24"), Attributes: bgp.Attributes{MED: ptr(uint32(5)), Communities: []bgp.Community{65000<<16 | 7},
				LargeCommunities: []bgp.LargeCommunity{{Global: 65000, Local1: 8, Local2: 9}}}},
			{Prefix: prefix("10.1.2.0/24")},
		},
	}
	spec.Peers = []bgp.Peer{peer}
	s.apply(spec)
	s.established("hq")
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "65000:7", "65000:8:9", "metric 5")
	f.sees("show bgp ipv4 unicast 10.1.2.0/24", "65000")
	gw.routes("-4", "172.16.2.0/24", true)
	wait(t, "attributes received", func() (bool, string) {
		paths := s.do(ask{Op: "received", Peer: "hq", Filter: Filter{Within: prefix("172.16.1.0/24")}}).Paths
		ok := len(paths) == 1 && slices.Equal(paths[0].Communities, []bgp.Community{65001<<16 | 100, 65001<<16 | 200}) &&
			len(paths[0].LargeCommunities) == 1 && paths[0].MED != nil && *paths[0].MED == 77 && paths[0].ASPath == "65001" && paths[0].NextHop == addr("10.0.0.2")
		return ok, say(paths)
	})

	peer.Import = bgp.Policy{Default: bgp.Reject, Rules: []bgp.Rule{
		{Match: bgp.Match{Communities: []bgp.Community{65001<<16 | 200}}, Set: bgp.Set{LocalPref: ptr(uint32(250)),
			Communities: &bgp.Edit[bgp.Community]{Mode: bgp.Replace, List: []bgp.Community{bgp.NoExport}}}},
		{Match: bgp.Match{Prefixes: []bgp.PrefixRange{{Prefix: prefix("172.16.0.0/16"), Min: 25}}, ASPath: []string{"^65001$"}}},
	}}
	peer.Export = bgp.Policy{Rules: []bgp.Rule{
		{Match: bgp.Match{Prefixes: []bgp.PrefixRange{{Prefix: prefix("10.1.2.0/24")}}}, Action: bgp.Reject},
		{Set: bgp.Set{Prepend: 2, MED: ptr(uint32(99)), Communities: &bgp.Edit[bgp.Community]{Mode: bgp.Add, List: []bgp.Community{65000<<16 | 70}}}},
	}}
	peer.MaxPrefixes = map[bgp.Family]uint32{bgp.IPv4: 50}
	spec.Peers = []bgp.Peer{peer}
	spec.Networks = append(spec.Networks, bgp.Network{Prefix: prefix("10.1.3.0/24")})
	s.apply(spec)
	gw.routes("-4", "172.16.2.0/24", false)
	gw.routes("-4", "192.168.7.0/24", false)
	gw.routes("-4", "172.16.1.0/24", true)
	gw.routes("-4", "172.16.3.0/28", true)
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "65000 65000 65000", "65000:7 65000:70", "metric 99")
	f.sees("show bgp ipv4 unicast 10.1.3.0/24", "65000 65000 65000")
	f.sees("show bgp ipv4 unicast 10.1.2.0/24", "not in table")
	paths := s.do(ask{Op: "routes", Filter: Filter{Within: prefix("172.16.1.0/24")}}).Paths
	if len(paths) != 1 || !paths[0].Best || *paths[0].LocalPref != 250 || !slices.Equal(paths[0].Communities, []bgp.Community{bgp.NoExport}) {
		t.Errorf("taken: %s", say(paths))
	}
	rejected := map[string]bool{}
	for _, p := range s.do(ask{Op: "received", Peer: "hq"}).Paths {
		rejected[p.Prefix.String()] = p.Rejected
	}
	// FRR tells us our own routes too.
	if !rejected["172.16.2.0/24"] || !rejected["10.1.1.0/24"] || rejected["172.16.1.0/24"] || rejected["172.16.3.0/28"] {
		t.Errorf("received: %v", rejected)
	}
	if sent := s.do(ask{Op: "advertised", Peer: "10.0.0.2"}).Paths; len(sent) != 2 || sent[0].ASPath != "65000 65000 65000" || sent[0].NextHop != addr("10.0.0.1") {
		t.Errorf("advertised: %s", say(sent))
	}
	if c := s.peer("hq").Families[bgp.IPv4]; c.Received != uint64(len(rejected)) || c.Accepted != 4 || c.Advertised == nil || *c.Advertised != 2 || c.Limit != 50 {
		t.Errorf("counts: %s", say(c))
	}

	// FRR asks for a refresh, we apply anew; nothing changes.
	s.do(ask{Op: "reset", Peer: "hq", In: true, Out: true})
	f.show("clear bgp ipv4 unicast * soft in")
	wait(t, "refresh", func() (bool, string) { st := s.peer("hq"); return st.Received.Refreshes > 0, say(st) })
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "65000 65000 65000")

	// All of it taken back while nothing can be forwarded, and back again.
	spec.Withhold = true
	s.apply(spec)
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "not in table")
	gw.routes("-4", "172.16.1.0/24", true)
	spec.Withhold = false
	s.apply(spec)
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "65000 65000 65000")
	f.sees("show bgp neighbors 10.0.0.1", "Connections established 1; dropped 0")

	// What is wrong changes nothing and says where.
	bad := spec
	bad.Peers = append(slices.Clone(spec.Peers), bgp.Peer{Name: "me", Address: addr("10.0.0.1"), ASN: 65009})
	if _, err := s.try(ask{Op: "apply", Spec: bad}); err == nil || !strings.Contains(err.Error(), "peer me address: 10.0.0.1 is an address of this compartment") {
		t.Errorf("own address as peer: %v", err)
	}
	f.sees("show bgp neighbors 10.0.0.1", "Connections established 1; dropped 0")
}

// Two sites of one AS hear of each other through us; private numbers are taken out
// for a third; each gets the default route or not, as it is to; an aggregate stands
// for what it covers.
func TestTransit(t *testing.T) {
	t.Parallel()
	gw := newNode(t, "gw")
	sites := map[string]*bird{}
	var peers []bgp.Peer
	for i, name := range []string{"a", "b", "c"} {
		n := newNode(t, name)
		own, other := "10.0."+string(rune('0'+i))+".1", "10.0."+string(rune('0'+i))+".2"
		wire(t, gw, "wan"+name+" "+own+"/30", n, "eth0 "+other+"/30")
		sites[name] = n.bird(`
protocol static { ipv4; route 172.16.` + string(rune('0'+i)) + `.0/24 blackhole; }
` + strings.Replace(birdPeer("hub", other, own, "ipv4 { import all; export where source = RTS_STATIC; };"), "65002", map[string]string{"a": "65002", "b": "65002", "c": "3000"}[name], 1))
		p := quick(bgp.Peer{Name: name, Address: addr(other), ASN: 65002})
		switch name {
		case "b":
			p.ASOverride, p.DefaultOriginate = true, true
		case "c":
			p.ASN, p.RemovePrivateAS = 3000, bgp.RemovePrivate
		}
		peers = append(peers, p)
	}
	spec := bgp.Spec{
		ASN: 65000, RouterID: addr("10.0.0.1"), Peers: peers, Networks: []bgp.Network{{Prefix: prefix("10.1.4.0/24")}, {Prefix: prefix("10.1.5.0/24")}},
		Aggregates: []bgp.Aggregate{{Prefix: prefix("10.1.0.0/16"), SummaryOnly: true}, {Prefix: prefix("10.9.0.0/16")}, {Prefix: prefix("172.16.0.0/20")}},
	}
	s := gw.speaker()
	s.apply(spec)
	s.established("a", "b", "c")
	sites["b"].sees("show route all 172.16.0.0/24", "BGP.as_path: 65000 65000", "BGP.next_hop: 10.0.1.1")
	sites["c"].sees("show route all 172.16.0.0/24", "BGP.as_path: 65000\n")
	sites["b"].sees("show route all 0.0.0.0/0", "BGP.as_path: 65000\n")
	sites["b"].sees("show route all 10.1.0.0/16", "BGP.aggregator: 10.0.0.1 AS65000", "BGP.atomic_aggr")
	sites["a"].sees("show route all 172.16.0.0/20", "BGP.aggregator: 10.0.0.1 AS65000")
	for name, absent := range map[string][]string{
		"a": {"172.16.1.0/24", "0.0.0.0/0", "10.1.4.0/24", "10.9.0.0/16"}, // b is of its own AS: a does not hear of it
		"b": {"10.1.4.0/24"}, "c": {"0.0.0.0/0", "10.1.5.0/24"},
	} {
		for _, p := range absent {
			sites[name].sees("show route "+p, "Network not found")
		}
	}
	if st := s.state(); !slices.Equal(st.Aggregates, []netip.Prefix{prefix("10.1.0.0/16"), prefix("172.16.0.0/20")}) {
		t.Errorf("aggregates: %v", st.Aggregates)
	}
	if out := gw.ip("route show type unreachable"); !strings.Contains(out, "unreachable 10.1.0.0/16 proto 203 metric 254") || strings.Contains(out, "10.9.0.0/16") {
		t.Errorf("aggregates in the FIB: %s", out)
	}

	// Without what it stands for, no aggregate; and the default route moves.
	spec.Networks = nil
	spec.Peers = slices.Clone(peers)
	spec.Peers[1].DefaultOriginate, spec.Peers[2].DefaultOriginate = false, true
	s.apply(spec)
	sites["c"].sees("show route all 0.0.0.0/0", "BGP.as_path: 65000\n")
	sites["b"].sees("show route 0.0.0.0/0", "Network not found")
	sites["b"].sees("show route 10.1.0.0/16", "Network not found")
	wait(t, "aggregate's route", func() (bool, string) {
		out := gw.ip("route show type unreachable")
		return !strings.Contains(out, "10.1.0.0/16"), out
	})
	// A default route that is learned goes before ours.
	sites["a"].reconfigure(t, "route 172.16.0.0/24 blackhole;", "route 0.0.0.0/0 blackhole;")
	gw.routes("-4", "0.0.0.0/0", true, "via 10.0.0.2", "metric 20")
	sites["c"].sees("show route all 0.0.0.0/0", "BGP.as_path: 65000\n", "BGP.next_hop: 10.0.2.1")
}

// A neighbour two hops away, from and to addresses that no link has, and paths in
// which our AS is already.
func TestMultihopAndOwnAS(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	router := newNode(t, "router")
	wire(t, gw, "wan 10.0.0.1/30", router, "r0 10.0.0.2/30")
	wire(t, router, "r1 10.0.1.1/30", site, "eth0 10.0.1.2/30")
	gw.ip("addr add 10.8.8.8/32 dev lo")
	site.ip("addr add 10.9.9.9/32 dev lo")
	gw.ip("route add 10.9.9.9/32 via 10.0.0.2")
	router.ip("route add 10.9.9.9/32 via 10.0.1.2")
	router.ip("route add 10.8.8.8/32 via 10.0.0.1")
	site.ip("route add 10.8.8.8/32 via 10.0.1.1")
	site.bird(`
protocol static { ipv4; route 172.16.0.0/24 blackhole; route 172.16.1.0/24 blackhole; }
` + birdPeer("hub", "10.9.9.9", "10.8.8.8", `multihop 2; ipv4 { import all; export filter {
  if source != RTS_STATIC then reject;
  if net = 172.16.1.0/24 then bgp_path.prepend(65000);
  accept; }; };`))
	peer := quick(bgp.Peer{Name: "hq", Address: addr("10.9.9.9"), Local: addr("10.8.8.8"), ASN: 65002, MultihopTTL: 2})
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.8.8.8"), Peers: []bgp.Peer{peer}}
	s := gw.speaker()
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.0.2 dev wan")
	wait(t, "a path with the own AS, rejected", func() (bool, string) { // in an UPDATE of its own
		got := s.do(ask{Op: "received", Peer: "hq", Filter: Filter{Within: prefix("172.16.1.0/24")}}).Paths
		return len(got) == 1 && got[0].Rejected, say(got)
	})
	gw.routes("-4", "172.16.1.0/24", false)
	spec.Peers = slices.Clone(spec.Peers)
	spec.Peers[0].AllowOwnAS = 1
	s.apply(spec)
	gw.routes("-4", "172.16.1.0/24", true, "via 10.0.0.2 dev wan")
	if st := s.peer("hq"); st.Local != addr("10.8.8.8") || st.RouterID == (netip.Addr{}) || st.Hold.Seconds() != 9 {
		t.Errorf("state: %s", say(st))
	}
}
