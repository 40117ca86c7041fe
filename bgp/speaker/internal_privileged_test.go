//go:build privileged && linux

package speaker

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
)

// Routes of iBGP keep their next hop: it may be behind a router that a static route
// leads to, not behind the default route nor behind one that BGP made; it goes after
// eBGP. We pass eBGP's routes on with ourselves as next hop where that is asked for.
func TestInternalBGP(t *testing.T) {
	t.Parallel()
	gw, inner, outer := newNode(t, "gw"), newNode(t, "inner"), newNode(t, "outer")
	wire(t, gw, "lan 10.0.0.1/30", inner, "eth0 10.0.0.2/30")
	wire(t, gw, "wan 10.0.1.1/30", outer, "eth0 10.0.1.2/30")
	i := inner.bird(`
protocol static { ipv4; route 172.16.0.0/24 blackhole; route 172.16.1.0/24 blackhole; }
protocol bgp hub {
  local 10.0.0.2 as 65000; neighbor 10.0.0.1 as 65000;
  hold time 9; connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export filter { if source != RTS_STATIC then reject; bgp_path.prepend(65009); bgp_next_hop = 192.0.2.1; accept; }; };
}`)
	o := outer.bird("protocol static { ipv4; route 172.16.1.0/24 blackhole; route 192.0.2.0/24 blackhole; route 172.16.2.0/24 blackhole; }\n" +
		birdPeer("hub", "10.0.1.2", "10.0.1.1", plain))
	gw.ip("route add default via 10.0.1.2")
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{
		quick(bgp.Peer{Name: "inner", Address: addr("10.0.0.2"), ASN: 65000}),
		quick(bgp.Peer{Name: "outer", Address: addr("10.0.1.2"), ASN: 65002}),
	}}
	s := gw.speaker()
	s.apply(spec)
	s.established("inner", "outer")
	gw.routes("-4", "192.0.2.0/24", true, "via 10.0.1.2")
	wait(t, "next hop that only BGP and the default route lead to", func() (bool, string) {
		st := s.state().FIB
		return st.Unresolved == 1 && st.Installed == 3, say(st)
	})
	gw.routes("-4", "172.16.1.0/24", true, "via 10.0.1.2", "metric 20")
	i.sees("show route all 172.16.2.0/24", "BGP.next_hop: 10.0.1.2")

	gw.ip("route add 192.0.2.1/32 via 10.0.0.2")
	gw.routes("-4", "172.16.0.0/24", true, "via 10.0.0.2 dev lan", "metric 200")
	o.reconfigure(t, "route 172.16.1.0/24 blackhole;", "")
	gw.routes("-4", "172.16.1.0/24", true, "via 10.0.0.2 dev lan", "metric 200")

	spec.Peers = []bgp.Peer{spec.Peers[0], spec.Peers[1]}
	spec.Peers[0].NextHopSelf = true
	s.apply(spec)
	i.sees("show route all 172.16.2.0/24", "BGP.next_hop: 10.0.0.1", "BGP.local_pref: 100")

	// Somebody else's route has the place: it stays, and when it goes ours comes.
	gw.ip("route add 172.16.3.0/24 via 10.0.0.2 metric 20 proto static")
	o.reconfigure(t, "route 172.16.2.0/24 blackhole;", "route 172.16.3.0/24 blackhole;")
	wait(t, "conflict", func() (bool, string) {
		st := s.state().FIB
		return st.Conflicts == 1 && strings.Contains(st.LastError, "172.16.3.0/24"), say(st)
	})
	if out := gw.ip("route show 172.16.3.0/24"); !strings.Contains(out, "proto static") {
		t.Errorf("somebody else's route went: %s", out)
	}
	gw.ip("route del 172.16.3.0/24 proto static")
	gw.routes("-4", "172.16.3.0/24", true, "via 10.0.1.2")
}
