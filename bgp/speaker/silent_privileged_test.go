//go:build privileged && linux

package speaker

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
)

// A router that keeps both its sessions forwards nothing of what comes by the
// preferred one. Once that is said, packets go the other way, but for what has none;
// and back when it is over.
func TestSilent(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	wire(t, gw, "wan2 10.0.1.1/30", site, "eth1 10.0.1.2/30")
	site.ip("addr add 172.16.0.1/32 dev lo")
	site.ip("route add 10.1.1.0/24 via 10.0.1.1")
	site.bird("protocol static { ipv4; route 172.16.0.0/24 blackhole; route 172.17.0.0/24 blackhole; }\n" +
		birdPeer("hub", "10.0.0.2", "10.0.0.1", plain) +
		birdPeer("hub2", "10.0.1.2", "10.0.1.1", "ipv4 { import all; export where net = 172.16.0.0/24; };"))
	own := &bgp.Edit[bgp.Community]{Mode: bgp.Replace, List: []bgp.Community{65000<<16 | 7}}
	peer := func(name, at string, pref uint32) bgp.Peer {
		return quick(bgp.Peer{Name: name, Address: addr(at), ASN: 65002, Import: bgp.Policy{Rules: []bgp.Rule{
			{Set: bgp.Set{Communities: own}, Action: bgp.Next}, {Set: bgp.Set{LocalPref: &pref, Communities: own}},
		}}})
	}
	gw.ip("addr add 10.1.1.1/32 dev lo")
	s := gw.speaker()
	s.apply(bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), ECMP: 2, Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}},
		Peers: []bgp.Peer{peer("first", "10.0.0.2", 200), peer("second", "10.0.1.2", 150)}})
	s.established("first", "second")
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.0.2")
	gw.routes("-4", "172.17.0.0/24", true, "via 10.0.0.2")

	answers := func() (bool, string) {
		out, err := gw.command("ping", "-n", "-c1", "-W1", "-I", "10.1.1.1", "172.16.0.1").CombinedOutput()
		return err == nil, string(out)
	}
	wait(t, "an answer", answers)
	site.run("nft", "add table inet hole; add chain inet hole in { type filter hook input priority 0; }; "+
		"add rule inet hole in iifname eth0 ip daddr 172.16.0.0/24 drop")
	if ok, out := answers(); ok {
		t.Fatalf("through the hole: %s", out)
	}
	s.do(ask{Op: "silent", Silent: []netip.Prefix{prefix("10.0.0.0/30")}})
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.1.2")
	wait(t, "an answer by the other way", answers)
	gw.routes("-4", "172.17.0.0/24", true, "via 10.0.0.2")
	s.established("first", "second")

	site.run("nft", "delete table inet hole")
	s.do(ask{Op: "silent"})
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.0.2")
	wait(t, "an answer by the first way", answers)
}
