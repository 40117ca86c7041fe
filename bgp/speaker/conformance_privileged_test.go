//go:build privileged && linux

package speaker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// attributes are a path's, as a neighbour shows them; all of them.
type attributes struct {
	path, origin, nextHop  string
	med, pref              string // "" is none; pref is of iBGP only
	communities, large, rt string
	aggregator             string // AS and router ID
	atomic                 bool
}

// observer is a neighbour that can be asked what it was told.
type observer interface {
	told(prefix string) (a attributes, found bool, said string)
}

type frrObserver struct {
	*frr
	internal bool
}

func (o frrObserver) told(prefix string) (a attributes, found bool, said string) {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	said = o.show("show bgp " + family + " unicast " + prefix + " json")
	var shown struct {
		Prefix string
		Paths  []struct {
			ASPath                                       struct{ String string }
			Origin                                       string
			Metric, LocPrf                               *uint32
			Community, LargeCommunity, ExtendedCommunity struct{ String string }
			AggregatorAs                                 uint32
			AggregatorID                                 string `json:"aggregatorId"`
			AtomicAggregate                              bool
			Nexthops                                     []struct{ IP, Scope string }
		}
	}
	if err := json.Unmarshal([]byte(said), &shown); err != nil || len(shown.Paths) != 1 || shown.Prefix != prefix {
		return a, false, said
	}
	p := shown.Paths[0]
	a = attributes{
		path: p.ASPath.String, origin: strings.ToLower(p.Origin), communities: p.Community.String, large: p.LargeCommunity.String,
		rt: p.ExtendedCommunity.String, atomic: p.AtomicAggregate,
	}
	for _, n := range p.Nexthops {
		if n.Scope != "link-local" {
			a.nextHop = n.IP
		}
	}
	if p.Metric != nil {
		a.med = fmt.Sprint(*p.Metric)
	}
	if p.LocPrf != nil && o.internal {
		a.pref = fmt.Sprint(*p.LocPrf)
	}
	if p.AggregatorAs != 0 {
		a.aggregator = fmt.Sprintf("%d %s", p.AggregatorAs, p.AggregatorID)
	}
	if a.path == "Local" {
		a.path = ""
	}
	return a, true, said
}

type birdObserver struct {
	*bird
	internal bool
}

func (o birdObserver) told(prefix string) (a attributes, found bool, said string) {
	said, _ = o.client("show", "route", "all", prefix)
	for line := range strings.Lines(said) {
		name, value, is := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if !is {
			a.atomic = a.atomic || name == "BGP.atomic_aggr"
			continue
		}
		switch name {
		case "BGP.origin":
			a.origin, found = strings.ToLower(value), !found // twice is wrong
		case "BGP.as_path":
			a.path = value
		case "BGP.next_hop":
			a.nextHop, _, _ = strings.Cut(value, " ")
		case "BGP.med":
			a.med = value
		case "BGP.local_pref":
			if o.internal {
				a.pref = value
			}
		case "BGP.community":
			a.communities = strings.NewReplacer("(65535,65281)", "no-export", "(", "", ")", "", ",", ":").Replace(value)
		case "BGP.large_community":
			a.large = strings.NewReplacer("(", "", ")", "", ", ", ":").Replace(value)
		case "BGP.ext_community":
			a.rt = strings.NewReplacer("(", "", ")", "", ", ", ":", "rt", "RT").Replace(value)
		case "BGP.aggregator":
			router, as, _ := strings.Cut(value, " AS")
			a.aggregator = as + " " + router
		case "BGP.atomic_aggr":
			a.atomic = true
		}
	}
	if a.origin == "incomplete" || a.origin == "egp" || a.origin == "igp" {
		return a, found, said
	}
	return a, false, said
}

// The speaker's AS number and that of the neighbour with BIRD need four octets.
const (
	ownAS  = 65550
	birdAS = 65551
)

const frrTells = `
hostname frr
bgp as-path access-list NONE deny .*
route-map TAG permit 10
 set community 65001:100 65001:200
 set large-community 65001:1:2
 set metric 77
 set origin egp
 set as-path prepend 65001 64999
exit
router bgp 65001
 bgp router-id 10.0.1.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 timers bgp 3 9
 neighbor 10.0.1.1 remote-as 65550
 neighbor 10.0.1.1 timers connect 1
 neighbor 10.0.1.1 advertisement-interval 0
 neighbor fd00:1::1 remote-as 65550
 neighbor fd00:1::1 timers connect 1
 neighbor fd00:1::1 advertisement-interval 0
 address-family ipv4 unicast
  network 172.21.1.0/24 route-map TAG
  network 172.21.2.0/24
  network 172.21.17.0/24
  aggregate-address 172.21.16.0/20 summary-only
  neighbor 10.0.1.1 activate
 exit-address-family
 address-family ipv6 unicast
  network fd02:21::/48 route-map TAG
  neighbor fd00:1::1 activate
 exit-address-family
`

const birdTells = `
protocol static { ipv4;
  route 172.20.1.0/24 blackhole; route 172.20.2.0/24 blackhole; route 172.20.3.0/24 blackhole;
  route 172.20.4.0/24 blackhole; route 172.20.5.0/24 blackhole; route 172.20.6.0/24 blackhole; }
protocol static { ipv6; route fd02:20::/48 blackhole; }
filter tells {
  if source != RTS_STATIC then reject;
  if net = 172.20.1.0/24 || net = fd02:20::/48 then {
    bgp_community.add((65100,1)); bgp_community.add((65100,2)); bgp_large_community.add((65551,1,2)); bgp_med = 7; bgp_origin = ORIGIN_IGP; }
  if net = 172.20.2.0/24 then bgp_origin = ORIGIN_EGP;
  if net = 172.20.3.0/24 then { bgp_origin = ORIGIN_INCOMPLETE; bgp_path.prepend(64512); bgp_path.prepend(65551); }
  if net = 172.20.4.0/24 then bgp_community.add((65535,65281));
  if net = 172.20.5.0/24 then bgp_community.add((65535,65282));
  if net = 172.20.6.0/24 then bgp_ext_community.add((rt,65100,5));
  accept;
}
`

func conformingBird(name, local, peer string, as int, extra, family, export string) string {
	return fmt.Sprintf(`protocol bgp %s { local %s as %d; neighbor %s as 65550;
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2; %s
  %s { import all; export %s; }; }
`, name, local, as, peer, extra, family, export)
}

// TestConformance holds what FRR and BIRD are told, and what they tell, against the
// documents: over eBGP and iBGP, IPv4 and IPv6, to a neighbour with AS numbers of two
// octets. Each path is compared with all its attributes.
func TestConformance(t *testing.T) {
	t.Parallel()
	gw := newNode(t, "gw")
	nodes := map[string]*node{}
	for i, name := range []string{"efrr", "ebird", "ifrr", "ibird", "old"} {
		n := newNode(t, name)
		wire(t, gw, fmt.Sprintf("w%d 10.0.%d.1/30 fd00:%d::1/64", i, i+1, i+1), n, fmt.Sprintf("eth0 10.0.%d.2/30 fd00:%d::2/64", i+1, i+1))
		nodes[name] = n
	}
	frrE := nodes["efrr"].frr(frrTells)
	birdE := nodes["ebird"].bird(birdTells + conformingBird("four", "10.0.2.2", "10.0.2.1", birdAS, "", "ipv4", "filter tells") +
		conformingBird("six", "fd00:2::2", "fd00:2::1", birdAS, "", "ipv6", "filter tells"))
	frrI := nodes["ifrr"].frr(`
router bgp 65550
 bgp router-id 10.0.3.2
 no bgp network import-check
 no bgp default ipv4-unicast
 timers bgp 3 9
 neighbor 10.0.3.1 remote-as 65550
 neighbor 10.0.3.1 timers connect 1
 neighbor fd00:3::1 remote-as 65550
 neighbor fd00:3::1 timers connect 1
 address-family ipv4 unicast
  neighbor 10.0.3.1 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor fd00:3::1 activate
 exit-address-family
`)
	birdI := nodes["ibird"].bird(`protocol static { ipv4; route 172.22.1.0/24 blackhole; }
` + conformingBird("four", "10.0.4.2", "10.0.4.1", ownAS, "", "ipv4", "filter { if source != RTS_STATIC then reject; bgp_local_pref = 333; bgp_med = 44; bgp_path.prepend(65009); accept; }") +
		conformingBird("six", "fd00:4::2", "fd00:4::1", ownAS, "", "ipv6", "none"))
	// Without capabilities AS numbers have two octets, and AS4_PATH has the rest.
	old := nodes["old"].frr(`
route-map FAR permit 10
 set as-path prepend 65552
exit
router bgp 65005
 bgp router-id 10.0.5.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor 10.0.5.1 remote-as 65550
 neighbor 10.0.5.1 timers connect 1
 neighbor 10.0.5.1 dont-capability-negotiate
 address-family ipv4 unicast
  network 172.23.1.0/24 route-map FAR
 exit-address-family
`)

	peer := func(name, address string, as uint32, change func(*bgp.Peer)) bgp.Peer {
		p := quick(bgp.Peer{Name: name, Address: addr(address), ASN: as})
		if change != nil {
			change(&p)
		}
		return p
	}
	byBird := func(p *bgp.Peer) {
		p.DefaultOriginate = true
		p.Export = bgp.Policy{Rules: []bgp.Rule{{Match: bgp.Match{Prefixes: []bgp.PrefixRange{{Prefix: prefix("10.1.2.0/24")}}}, Set: bgp.Set{Prepend: 2}}}}
	}
	toIBird := func(p *bgp.Peer) {
		p.NextHopSelf = true
		p.Export = bgp.Policy{Rules: []bgp.Rule{
			{Match: bgp.Match{Prefixes: []bgp.PrefixRange{{Prefix: prefix("10.1.2.0/24")}}}, Set: bgp.Set{LocalPref: ptr(uint32(250)), NextHop: addr("10.0.4.9")}},
		}}
	}
	spec := bgp.Spec{
		ASN: ownAS, RouterID: addr("10.9.9.9"),
		Networks: []bgp.Network{
			{Prefix: prefix("10.1.1.0/24"), Attributes: bgp.Attributes{MED: ptr(uint32(5)), LocalPref: ptr(uint32(150)), Communities: []bgp.Community{65000<<16 | 7, 65000<<16 | 8},
				LargeCommunities: []bgp.LargeCommunity{{Global: ownAS, Local1: 8, Local2: 9}}}},
			{Prefix: prefix("10.1.2.0/24")}, {Prefix: prefix("fd01:1::/64"), Attributes: bgp.Attributes{MED: ptr(uint32(6))}},
			{Prefix: prefix("10.2.1.0/24")}, {Prefix: prefix("10.3.1.0/24")},
		},
		Aggregates: []bgp.Aggregate{{Prefix: prefix("10.2.0.0/16"), SummaryOnly: true}, {Prefix: prefix("172.21.0.0/16")}},
		Peers: []bgp.Peer{
			peer("efrr", "10.0.1.2", 65001, func(p *bgp.Peer) { p.DefaultOriginate, p.RemovePrivateAS = true, bgp.ReplacePrivateAS }),
			peer("efrr6", "fd00:1::2", 65001, nil),
			peer("ebird", "10.0.2.2", birdAS, byBird), peer("ebird6", "fd00:2::2", birdAS, byBird),
			peer("ifrr", "10.0.3.2", ownAS, nil), peer("ifrr6", "fd00:3::2", ownAS, nil),
			peer("ibird", "10.0.4.2", ownAS, toIBird), peer("ibird6", "fd00:4::2", ownAS, toIBird),
			peer("old", "10.0.5.2", 65005, func(p *bgp.Peer) {
				// FRR in this mode reads AGGREGATOR as one of eight octets, and hangs up.
				p.Export = bgp.Policy{Rules: []bgp.Rule{{Match: bgp.Match{Prefixes: []bgp.PrefixRange{
					{Prefix: prefix("10.2.0.0/16")}, {Prefix: prefix("172.21.0.0/16"), Max: 20},
				}}, Action: bgp.Reject}}}
			}),
		},
	}
	s := gw.speaker()
	s.apply(spec)
	for _, p := range spec.Peers {
		s.established(p.Name)
	}
	observers := map[string]observer{
		"efrr": frrObserver{frrE, false}, "ebird": birdObserver{birdE, false}, "ifrr": frrObserver{frrI, true}, "ibird": birdObserver{birdI, true}, "old": frrObserver{old, false},
	}
	conforms(t, observers)

	// What nobody may be told: after something that all are told later.
	spec.Networks = append(slices.Clone(spec.Networks), bgp.Network{Prefix: prefix("10.1.99.0/24")})
	s.apply(spec)
	for who, o := range observers {
		wait(t, who+" on the last", func() (bool, string) { _, found, said := o.told("10.1.99.0/24"); return found, said })
		for _, p := range untold[who] {
			if _, found, said := o.told(p); found {
				t.Errorf("%s is told %s: %s", who, p, said)
			}
		}
	}
	conformsReceived(t, s)
	conformsChanges(t, s, spec, observers)
}

// conforms waits until all neighbours are told what they are to be.
func conforms(t *testing.T, observers map[string]observer) {
	t.Helper()
	wrong := map[string]string{}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		for who, paths := range conforming {
			for prefix, want := range paths {
				got, found, said := observers[who].told(prefix)
				delete(wrong, who+" "+prefix)
				if !found || got != want {
					wrong[who+" "+prefix] = fmt.Sprintf("%+v, want\n%+v, in\n%s", got, want, said)
				}
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(end) {
			for what, why := range wrong {
				t.Errorf("%s: %s", what, why)
			}
			return
		}
	}
}
