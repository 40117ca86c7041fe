//go:build privileged && linux

package s2s

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// A router on the way has a narrow link and says so: the tunnel's MTU follows,
// and connections get through before and after.
func TestMTUOfThePath(t *testing.T) {
	t.Parallel()
	comp, router, site, spec := distant(t)
	router.ip("link set out mtu 1400")
	site.ip("link set wan mtu 1400")
	e := comp.engine()
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

// A router on the way drops what is large and says nothing: it is found out, connections
// that stood still go on, and who comes after knows.
func TestMTUOfASilentPath(t *testing.T) {
	t.Parallel()
	comp, router, site, spec := distant(t)
	// The router counts bytes of packets as they are on a wire.
	comp.must("ethtool", "-K", "ext", "tx-udp-segmentation", "off", "gso", "off")
	site.must("ethtool", "-K", "wan", "tx-udp-segmentation", "off", "gso", "off")
	e := comp.engine()
	apply(t, e, spec)
	await(t, "the peer", func() error {
		if s := e.Snapshot().Tunnels[0].Peers[0]; s.Liveness != Up {
			return fmt.Errorf("it is %s", s.Liveness)
		}
		return nil
	})
	if mtu := e.Snapshot().Tunnels[0].MTU; mtu != 1420 {
		t.Fatalf("the tunnel's MTU is %d before anything is narrow", mtu)
	}
	router.nft("add table ip narrow", "add chain ip narrow forward { type filter hook forward priority 0; }",
		"add rule ip narrow forward iifname in meta length > 1400 drop")
	c := comp.dial("10.1.1.1", "192.168.50.1:7")
	// In the product a minute may pass until it is looked at again.
	found := func() error {
		e.hurry()
		s := e.Snapshot().Tunnels[0]
		if s.MTU != 1328 || s.Peers[0].Passes != 1328 { // and 16 more are 1404 outside
			return fmt.Errorf("the tunnel's MTU is %d, and %d bytes are said to pass", s.MTU, s.Peers[0].Passes)
		}
		return nil
	}
	await(t, "the size that passes", found)
	must(t, say(c, strings.Repeat("x", 1<<20)))
	// The site hears of it with each new connection.
	router.nft("add rule ip narrow forward meta length > 1400 drop")
	must(t, say(comp.dial("10.1.1.1", "192.168.50.1:7"), strings.Repeat("x", 1<<20)))
	ping := func(size int) error {
		out, err := comp.exec("ping", "-c1", "-W5", "-Mdo", "-I10.1.1.1", fmt.Sprint("-s", size-28), "192.168.50.1")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	must(t, ping(1328))
	if ping(1329) == nil {
		t.Error("a packet larger than the tunnel's MTU passed whole")
	}
	// Another process goes on from there.
	must(t, e.Close(true))
	e = comp.engine()
	apply(t, e, spec)
	if mtu := e.Snapshot().Tunnels[0].MTU; mtu != 1328 {
		t.Errorf("after a restart the tunnel's MTU is %d", mtu)
	}
	// What gives way again is used again.
	router.nft("delete table ip narrow")
	await(t, "the whole path", func() error {
		e.hurry()
		if s := e.Snapshot().Tunnels[0]; s.MTU != 1420 || s.Peers[0].Passes != 0 {
			return fmt.Errorf("the tunnel's MTU is %d, and %d bytes are said to pass", s.MTU, s.Peers[0].Passes)
		}
		return nil
	})
}

// distant is a compartment with a router between it and its site, and what the
// tunnel between the two is to be; 192.168.50.1:7 answers at the site.
func distant(t *testing.T) (comp, router, site *place, spec Spec) {
	comp, router, site = newPlace(t, "comp"), newPlace(t, "router"), newPlace(t, "site")
	connect(t, comp, "ext", "203.0.113.10/24", router, "in", "203.0.113.1/24")
	connect(t, router, "out", "198.51.100.1/24", site, "wan", "198.51.100.20/24")
	comp.ip("route add default via 203.0.113.1")
	site.ip("route add default via 198.51.100.1")
	comp.ip("addr add 10.1.1.1/32 dev lo")
	site.ip("addr add 192.168.50.1/32 dev lo")
	site.echo("192.168.50.1:7")
	ours, theirs := NewPrivateKey(), NewPrivateKey()
	wg := site.debian(theirs, 51820, "169.254.1.2/30")
	wg.peer(ours.Public(), "203.0.113.10:51820", "169.254.1.1/32,10.1.1.0/24")
	return comp, router, site, Spec{Tunnels: []Tunnel{{Name: "hq", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820, Addresses: prefixes("169.254.1.1/30"),
		Peers: []Peer{{Name: "hq", PublicKey: theirs.Public(), Endpoint: addrPort("198.51.100.20:51820"),
			Prefixes: prefixes("169.254.1.2/32 192.168.50.0/24"), Probe: quick}}}}}
}

// hurry ends the rests of all searches.
func (e *Engine) hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, run := range e.tunnels {
		for _, pr := range run.probers {
			pr.mu.Lock()
			pr.path.due, pr.path.raise = time.Time{}, time.Time{}
			pr.mu.Unlock()
		}
	}
}

// exec runs a program inside.
func (p *place) exec(name string, args ...string) (string, error) {
	var out []byte
	err := netns.Do(p.path(), func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

func (p *place) must(name string, args ...string) {
	p.t.Helper()
	if out, err := p.exec(name, args...); err != nil {
		p.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// nft makes rules inside.
func (p *place) nft(lines ...string) {
	p.t.Helper()
	p.must("nft", strings.Join(lines, "; "))
}

// followOnce looks at the paths as the engine does each second.
func (e *Engine) followOnce() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var r Result
	return e.followPaths(&r)
}
