//go:build privileged && linux

package speaker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

const plain = "ipv4 { import all; export where source = RTS_STATIC; };"

// pair is a compartment and a site with BIRD; its one network is 172.16.0.0/24.
func pair(t *testing.T, extra string) (*node, *process, *bird, bgp.Spec) {
	t.Helper()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	b := site.bird("protocol static { ipv4; route 172.16.0.0/24 blackhole; }\n" + birdPeer("hub", "10.0.0.2", "10.0.0.1", plain+extra))
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65002})},
		Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}}}
	return gw, gw.speaker(), b, spec
}

// A session is kept by the right key and TTL only, and a key that was taken away
// is gone from the listening socket too.
func TestSecured(t *testing.T) {
	t.Parallel()
	gw, s, b, spec := pair(t, `password "k3y"; ttl security on;`)
	change := func(f func(p *bgp.Peer)) {
		t.Helper()
		spec.Peers = slices.Clone(spec.Peers)
		f(&spec.Peers[0])
		s.apply(spec)
	}
	change(func(p *bgp.Peer) { p.Password, p.TTLSecurity = "k3y", 1 })
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)
	if st := fmt.Sprint(s.state()); strings.Contains(st, "k3y") || strings.Contains(s.log.String(), "k3y") {
		t.Error("the key shows")
	}

	down := func(why string) {
		t.Helper()
		gw.routes("-4", "172.16.0.0/24", false)
		// Both sides try again every second or two. BIRD's word counts: it gets no
		// packet that it should not, while we hear what it sends.
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			out, err := b.client("show", "protocols", "hub")
			if err != nil || strings.Contains(out, "Established") {
				t.Fatalf("a session %s: %s", why, out)
			}
		}
		gw.routes("-4", "172.16.0.0/24", false)
	}
	change(func(p *bgp.Peer) { p.Password = "other" })
	down("with the wrong key")
	change(func(p *bgp.Peer) { p.Password, p.TTLSecurity = "k3y", 0 })
	down("though our packets come with a TTL of 1")

	// No key any more, on both sides, and BIRD is the one that connects.
	b.reconfigure(t, `password "k3y"; ttl security on;`, "")
	change(func(p *bgp.Peer) { p.Password, p.Passive = "", true })
	s.established("hq")

	// What is wrong is told.
	change(func(p *bgp.Peer) { p.ASN = 65009 })
	wait(t, "reason", func() (bool, string) {
		st := s.peer("hq")
		return st.Session != "established" && strings.Contains(st.Reason, "AS"), say(st)
	})
}

// One prefix too many ends the session; it comes again by itself, and stays when
// there are fewer.
func TestMaxPrefixes(t *testing.T) {
	t.Parallel()
	gw, s, b, spec := pair(t, "")
	spec.Peers[0].MaxPrefixes, spec.Peers[0].ReEnable = map[bgp.Family]uint32{bgp.IPv4: 2}, time.Second
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)
	b.reconfigure(t, "route 172.16.0.0/24 blackhole;", "route 172.16.0.0/24 blackhole; route 172.16.1.0/24 blackhole; route 172.16.2.0/24 blackhole;")
	gw.routes("-4", "172.16.0.0/24", false)
	wait(t, "reason", func() (bool, string) {
		st := s.peer("hq")
		return st.OverLimit && strings.Contains(st.Reason, "more prefixes") && !st.Retry.IsZero(), say(st)
	})
	b.reconfigure(t, "route 172.16.2.0/24 blackhole;", "")
	s.established("hq")
	gw.routes("-4", "172.16.1.0/24", true)
	wait(t, "all clear", func() (bool, string) { st := s.peer("hq"); return !st.OverLimit && st.Retry.IsZero(), say(st) })

	// A lower limit takes hold of a session that is up.
	spec.Peers = slices.Clone(spec.Peers)
	spec.Peers[0].MaxPrefixes = map[bgp.Family]uint32{bgp.IPv4: 1}
	spec.Peers[0].ReEnable = time.Hour
	s.apply(spec)
	gw.routes("-4", "172.16.0.0/24", false)

	// A higher one is tried without waiting for the hour to pass: one that gobgp
	// enforces, and one that it does not.
	change := func(limit uint32) {
		spec.Peers = slices.Clone(spec.Peers)
		spec.Peers[0].MaxPrefixes = map[bgp.Family]uint32{bgp.IPv4: limit}
		s.apply(spec)
	}
	for _, limit := range []uint32{3, 5000} {
		wait(t, "over the limit", func() (bool, string) { st := s.peer("hq"); return st.OverLimit && !st.Retry.IsZero(), say(st) })
		change(limit)
		s.established("hq")
		gw.routes("-4", "172.16.0.0/24", true)
		change(1)
	}
}

// Whoever connects from the prefix is a peer, by the key, up to the limit; one that
// left makes room.
func TestDynamicNeighbours(t *testing.T) {
	t.Parallel()
	gw := newNode(t, "gw")
	gw.ip("link add lan type bridge")
	gw.ip("addr add 10.0.0.1/24 dev lan")
	gw.ip("link set lan up")
	s := gw.speaker()
	spokes := quick(bgp.Peer{Name: "spokes", Prefix: prefix("10.0.0.0/24"), ASN: 65002, Password: "k3y", Limit: 2})
	s.apply(bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{spokes}, Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}}})
	var birds []*bird
	join := func(i int, key string) *bird {
		n := newNode(t, fmt.Sprint("spoke", i))
		wire(t, gw, fmt.Sprint("v", i), n, fmt.Sprintf("eth0 10.0.0.%d/24", 10+i))
		gw.ip(fmt.Sprintf("link set v%d master lan", i))
		b := n.bird(fmt.Sprintf("protocol static { ipv4; route 172.16.%d.0/24 blackhole; }\n", i) +
			birdPeer("hub", fmt.Sprintf("10.0.0.%d", 10+i), "10.0.0.1", plain+fmt.Sprintf("password %q;", key)))
		birds = append(birds, b)
		return b
	}
	join(0, "k3y").sees("show route 10.1.1.0/24", "via 10.0.0.1")
	join(1, "k3y").sees("show route 10.1.1.0/24", "via 10.0.0.1")
	for i := range 2 {
		gw.routes("-4", fmt.Sprintf("172.16.%d.0/24", i), true, fmt.Sprintf("via 10.0.0.%d", 10+i))
	}
	join(2, "wrong")
	join(3, "k3y")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		st := s.state()
		up := 0
		for _, p := range st.Peers {
			if p.Session == "established" {
				up++
			}
			if !p.Dynamic || p.Name != "spokes" {
				t.Fatalf("not of the group: %s", say(p))
			}
		}
		if up > 2 {
			t.Fatalf("%d neighbours, the limit is 2: %s", up, say(st.Peers))
		}
	}
	if out, err := birds[0].client("disable", "hub"); err != nil {
		t.Fatal(out)
	}
	gw.routes("-4", "172.16.0.0/24", false)
	gw.routes("-4", "172.16.3.0/24", true)
	gw.routes("-4", "172.16.1.0/24", true)
}

// Two ways of the same length are used at once and one at a time; the loss of one
// leaves the other, also when only its link goes.
func TestECMP(t *testing.T) {
	t.Parallel()
	gw := newNode(t, "gw")
	var peers []bgp.Peer
	var sites []*node
	for i := range 2 {
		n := newNode(t, fmt.Sprint("site", i))
		wire(t, gw, fmt.Sprintf("wan%d 10.0.%d.1/30 fd00:%d::1/64", i, i, i), n, fmt.Sprintf("eth0 10.0.%d.2/30 fd00:%d::2/64", i, i))
		n.bird("protocol static { ipv4; route 172.16.0.0/24 blackhole; }\nprotocol static { ipv6; route fd02::/48 blackhole; }\n" +
			birdPeer("four", fmt.Sprintf("10.0.%d.2", i), fmt.Sprintf("10.0.%d.1", i), plain) +
			birdPeer("six", fmt.Sprintf("fd00:%d::2", i), fmt.Sprintf("fd00:%d::1", i), strings.ReplaceAll(plain, "ipv4", "ipv6")))
		peers = append(peers, quick(bgp.Peer{Name: fmt.Sprint("four", i), Address: addr(fmt.Sprintf("10.0.%d.2", i)), ASN: 65002}),
			quick(bgp.Peer{Name: fmt.Sprint("six", i), Address: addr(fmt.Sprintf("fd00:%d::2", i)), ASN: 65002}))
		sites = append(sites, n)
	}
	s := gw.speaker()
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: peers, ECMP: 4}
	s.apply(spec)
	s.established("four0", "four1", "six0", "six1")
	both := func() {
		t.Helper()
		gw.routes("-4", "172.16.0.0/24", true, "nexthop via 10.0.0.2 dev wan0", "nexthop via 10.0.1.2 dev wan1")
		gw.routes("-6", "fd02::/48", true, "nexthop via fd00::2 dev wan0", "nexthop via fd00:1::2 dev wan1")
	}
	both()
	spec.ECMP = 1
	s.apply(spec)
	gw.routes("-4", "172.16.0.0/24", false, "nexthop")
	gw.routes("-6", "fd02::/48", false, "nexthop")
	spec.ECMP = 2
	s.apply(spec)
	both()

	// The link's end is enough, no session has ended yet.
	sites[1].ip("link set eth0 down")
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.0.2")
	gw.routes("-4", "172.16.0.0/24", false, "nexthop")
	gw.routes("-6", "fd02::/48", true, "via fd00::2")
	gw.routes("-6", "fd02::/48", false, "nexthop")
	s.established("four1", "six1")
	sites[1].ip("link set eth0 up")
	both()

	// Somebody takes a route away and puts another in its place.
	gw.ip("route del 172.16.0.0/24 proto 203")
	gw.ip("route add 172.16.77.0/24 via 10.0.0.2 proto 203")
	gw.ip("link set wan1 mtu 1400")
	both()
	gw.routes("-4", "172.16.77.0/24", false)
	if st := s.state().FIB; st.Repaired == 0 || st.Installed != 2 {
		t.Errorf("FIB: %s", say(st))
	}
}

// BFD finds a dead way though the link stays up, long before the hold time would.
func TestBFD(t *testing.T) {
	t.Parallel()
	gw, s, b, spec := pair(t, "bfd on;")
	b.reconfigure(t, "hold time 9; keepalive time 3;", "hold time 60; keepalive time 20;")
	b.reconfigure(t, "protocol direct", "protocol bfd { interface \"eth0\" { interval 300 ms; multiplier 3; }; }\nprotocol direct")
	spec.Peers[0].BFD = &bgp.BFD{Interval: 300 * time.Millisecond}
	spec.Peers[0].Hold, spec.Peers[0].Keepalive = 2*patience, patience
	s.apply(spec)
	s.established("hq")
	wait(t, "BFD", func() (bool, string) {
		st := s.peer("hq")
		return st.BFD == "up" && st.Session == "established", say(st)
	})
	gw.routes("-4", "172.16.0.0/24", true)
	b.sees("show bfd sessions", "Up")

	b.n.run("nft", "add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }; add chain inet t out { type filter hook output priority 0; policy drop; }")
	gw.routes("-4", "172.16.0.0/24", false)
	b.n.run("nft", "delete table inet t")
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)

	// Without BFD the session stays.
	spec.Peers = slices.Clone(spec.Peers)
	since := s.peer("hq").Since
	spec.Peers[0].BFD = nil
	s.apply(spec)
	if st := s.peer("hq"); st.BFD != "" || st.Since != since {
		t.Errorf("after BFD: %s", say(st))
	}
}
