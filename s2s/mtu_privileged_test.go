//go:build privileged && linux

package s2s

import (
	"fmt"
	"strings"
	"testing"
)

// A router on the way has a narrow link and says so: the tunnel's MTU follows,
// and connections get through before and after.
func TestMTUOfThePath(t *testing.T) {
	t.Parallel()
	comp, router, site := newPlace(t, "comp"), newPlace(t, "router"), newPlace(t, "site")
	connect(t, comp, "ext", "203.0.113.10/24", router, "in", "203.0.113.1/24")
	connect(t, router, "out", "198.51.100.1/24", site, "wan", "198.51.100.20/24")
	router.ip("link set out mtu 1400")
	site.ip("link set wan mtu 1400")
	comp.ip("route add default via 203.0.113.1")
	site.ip("route add default via 198.51.100.1")
	comp.ip("addr add 10.1.1.1/32 dev lo")
	site.ip("addr add 192.168.50.1/32 dev lo")
	site.echo("192.168.50.1:7")
	ours, theirs := NewPrivateKey(), NewPrivateKey()
	wg := site.debian(theirs, 51820, "169.254.1.2/30")
	wg.peer(ours.Public(), "203.0.113.10:51820", "169.254.1.1/32,10.1.1.0/24")
	e := comp.engine()
	spec := Spec{Tunnels: []Tunnel{{Name: "hq", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820, Addresses: prefixes("169.254.1.1/30"),
		Peers: []Peer{{Name: "hq", PublicKey: theirs.Public(), Endpoint: addrPort("198.51.100.20:51820"),
			Prefixes: prefixes("169.254.1.2/32 192.168.50.0/24"), Probe: quick}}}}}
	apply(t, e, spec)
	c := comp.dial("10.1.1.1", "192.168.50.1:7")
	must(t, say(c, strings.Repeat("x", 1<<20)))
	await(t, "the path's MTU", func() error {
		if mtu := e.Snapshot().Tunnels[0].MTU; mtu != 1340 {
			return fmt.Errorf("the tunnel's is %d", mtu)
		}
		return nil
	})
	must(t, say(c, strings.Repeat("x", 1<<20)))
	// To set the MTU made the kernel forget the path's: it must stay all the same.
	for range 3 {
		must(t, e.followOnce())
	}
	if mtu := e.Snapshot().Tunnels[0].MTU; mtu != 1340 {
		t.Errorf("then the tunnel's is %d", mtu)
	}
}

// followOnce looks at the paths as the engine does each second.
func (e *Engine) followOnce() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var r Result
	return e.followPaths(&r)
}
