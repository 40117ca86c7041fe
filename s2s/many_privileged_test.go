//go:build privileged && linux

package s2s

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// Many tunnels of one compartment come up together, and one change among them
// is one change.
func TestManyTunnels(t *testing.T) { // not beside others: it is enough by itself
	const many = 12
	comp, site := newPlace(t, "comp"), newPlace(t, "site")
	connect(t, comp, "ext", "203.0.113.10/24", site, "wan", "203.0.113.20/24")
	var near, far Spec
	for i := range many {
		a, b := NewPrivateKey(), NewPrivateKey()
		n, f := netip.AddrFrom4([4]byte{169, 254, byte(i), 1}), netip.AddrFrom4([4]byte{169, 254, byte(i), 2})
		end := func(own Secret, at netip.Addr, peer Key, host string, to netip.Addr) Tunnel {
			return Tunnel{Name: fmt.Sprint("t", i), Interface: fmt.Sprint("s2s", i), PrivateKey: own, ListenPort: uint16(20000 + i),
				Addresses: []netip.Prefix{netip.PrefixFrom(at, 30)}, Peers: []Peer{{Name: "p", PublicKey: peer,
					Endpoint: netip.AddrPortFrom(netip.MustParseAddr(host), uint16(20000+i)), Prefixes: []netip.Prefix{netip.PrefixFrom(to, 32)}, Probe: Probe{IntervalMS: 200}}}}
		}
		near.Tunnels = append(near.Tunnels, end(a, n, b.Public(), "203.0.113.20", f))
		far.Tunnels = append(far.Tunnels, end(b, f, a.Public(), "203.0.113.10", n))
	}
	e, other := comp.engine(), site.engine()
	start := time.Now()
	apply(t, e, near)
	t.Logf("%d tunnels in %v", many, time.Since(start))
	apply(t, other, far)
	for i := range many {
		awaitLiveness(t, e, fmt.Sprint("t", i), "p", Up)
	}
	start = time.Now()
	if r := apply(t, e, near); len(r.Changed) > 0 {
		t.Errorf("the same again changed %v", r.Changed)
	}
	t.Logf("the same again took %v", time.Since(start))
	near.Tunnels[5].Peers[0].Keepalive = 7
	if r := apply(t, e, near); len(r.Changed) != 1 {
		t.Errorf("one change made %v", r.Changed)
	}
	near.Tunnels = near.Tunnels[:1]
	apply(t, e, near)
	awaitLiveness(t, e, "t0", "p", Up)
}
