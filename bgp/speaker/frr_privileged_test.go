//go:build privileged && linux

package speaker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ptr[T any](v T) *T            { return &v }

// quick are short timers, so that tests are.
func quick(p bgp.Peer) bgp.Peer {
	p.Hold, p.Keepalive, p.ConnectRetry = 9*time.Second, 3*time.Second, time.Second
	return p
}

const frrBase = `
router bgp 65001
 bgp router-id 10.0.0.2
 no bgp ebgp-requires-policy
 timers bgp 3 9
 neighbor 10.0.0.1 remote-as 65000
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 advertisement-interval 0
 bgp network import-check
 no bgp network import-check
`

// Routes of a router next door land in the namespace's table, ours at the
// router; what is withdrawn goes. A closed speaker leaves nothing.
func TestFRR(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	site.ip("addr add 172.16.1.1/24 dev lo")
	f := site.frr(frrBase + ` address-family ipv4 unicast
  network 172.16.1.0/24
  network 172.16.2.0/24
`)
	s := gw.speaker()
	spec := bgp.Spec{
		ASN: 65000, RouterID: addr("10.0.0.1"),
		Peers:    []bgp.Peer{quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65001})},
		Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24"), Attributes: bgp.Attributes{MED: ptr(uint32(50))}}},
	}
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.1.0/24", true, "via 10.0.0.2", "dev wan", "metric 20")
	f.sees("show bgp ipv4 unicast 10.1.1.0/24 json", `"metric":50`, `"valid":true`, `"65000"`)
	gw.ip("addr add 10.1.1.1/24 dev lo")
	site.run("ping", "-c1", "-W20", "-I", "172.16.1.1", "10.1.1.1")

	told := func() bgp.Route { return s.do(ask{Op: "told", Filter: Filter{Within: prefix("172.16.1.0/24")}}).Route }
	if r := told(); len(r.NextHops) != 1 || r.NextHops[0] != (bgp.NextHop{Address: addr("10.0.0.2"), Peer: addr("10.0.0.2"), Direct: true}) {
		t.Errorf("told: %s", say(r))
	}
	f.show("configure terminal", "router bgp 65001", "address-family ipv4 unicast", "no network 172.16.1.0/24")
	gw.routes("-4", "172.16.1.0/24", false)
	wait(t, "word of the withdrawal", func() (bool, string) { r := told(); return r.Prefix.IsValid() && len(r.NextHops) == 0, say(r) })
	gw.routes("-4", "172.16.2.0/24", true)

	// Another router ID is another speaker; none leaves nothing.
	s.apply(spec)
	spec.RouterID = addr("10.9.9.9")
	s.apply(spec)
	f.sees("show bgp neighbors 10.0.0.1", "10.9.9.9", "Established")
	gw.routes("-4", "172.16.2.0/24", true)
	s.do(ask{Op: "idle"})
	gw.routes("-4", "172.16.2.0/24", false)
	if st := s.state(); len(st.Peers) > 0 || st.FIB.Installed > 0 {
		t.Errorf("idle: %s", say(st))
	}
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.2.0/24", true)

	s.stop(false)
	gw.routes("-4", "172.16.2.0/24", false)
}
