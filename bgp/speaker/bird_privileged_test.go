//go:build privileged && linux

package speaker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
)

// bird is BIRD 2 in a node.
type bird struct {
	n   *node
	dir string
	cmd *exec.Cmd
}

// birdBase is what every configuration here begins with: BIRD takes routes from
// the BGP sessions and leaves the kernel alone, but for what kernel says.
const birdBase = `
log stderr all;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; }
`

func (n *node) bird(config string) *bird {
	n.t.Helper()
	b := &bird{n: n, dir: socketDir(n.t)}
	b.run(config)
	return b
}

func (b *bird) run(config string) {
	b.n.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "bird.conf"), []byte(birdBase+config), 0o600); err != nil {
		b.n.t.Fatal(err)
	}
	b.again()
}

// again starts BIRD as it is configured.
func (b *bird) again() {
	b.n.t.Helper()
	conf := filepath.Join(b.dir, "bird.conf")
	j := &journal{}
	b.cmd = exec.Command("bird", "-f", "-c", conf, "-s", filepath.Join(b.dir, "bird.ctl"))
	b.cmd.Stdout, b.cmd.Stderr = j, j
	b.n.start(b.cmd)
	b.n.t.Cleanup(func() {
		if b.n.t.Failed() {
			b.n.t.Logf("BIRD of %s said:\n%s", b.n.name, j)
		}
	})
	wait(b.n.t, "BIRD", func() (bool, string) {
		out, err := b.client("show", "status")
		return err == nil, out + j.String()
	})
}

func (b *bird) client(args ...string) (string, error) {
	out, err := exec.Command("birdc", append([]string{"-s", filepath.Join(b.dir, "bird.ctl")}, args...)...).CombinedOutput()
	return string(out), err
}

// reconfigure replaces a part of the configuration.
func (b *bird) reconfigure(t *testing.T, old, news string) {
	t.Helper()
	conf := filepath.Join(b.dir, "bird.conf")
	was, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	now := strings.Replace(string(was), old, news, 1)
	if now == string(was) {
		t.Fatalf("BIRD's configuration has no %q", old)
	}
	if err := os.WriteFile(conf, []byte(now), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := b.client("configure"); err != nil || !strings.Contains(out, "Reconfigur") {
		t.Fatalf("BIRD: %v: %s", err, out)
	}
}

// sees waits until a command's output has all parts.
func (b *bird) sees(command string, parts ...string) {
	b.n.t.Helper()
	wait(b.n.t, fmt.Sprintf("BIRD: %s: %q", command, parts), func() (bool, string) {
		out, _ := b.client(strings.Fields(command)...) // fails where nothing is found
		for _, p := range parts {
			if !strings.Contains(out, p) {
				return false, out
			}
		}
		return true, out
	})
}

// birdPeer is a session to the speaker at the other end.
func birdPeer(name, local, peer, extra string) string {
	return fmt.Sprintf(`
protocol bgp %s {
  local %s as 65002; neighbor %s as 65000;
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;
  %s
}`, name, local, peer, extra)
}

// Two compartments with the same addresses, AS numbers and peers at once, one with
// FRR and one with BIRD, IPv4 and IPv6: each has its own routes only. One session
// is ours to open, the other waits to be opened.
func TestTwoCompartmentsAlike(t *testing.T) {
	t.Parallel()
	spec := bgp.Spec{
		ASN: 65000, RouterID: addr("10.0.0.1"),
		Peers: []bgp.Peer{
			quick(bgp.Peer{Name: "hq4", Address: addr("10.0.0.2"), ASN: 65002}),
			quick(bgp.Peer{Name: "hq6", Address: addr("fd00::2"), ASN: 65002, Families: []bgp.Family{bgp.IPv4, bgp.IPv6}, MaxPrefixes: map[bgp.Family]uint32{bgp.IPv6: 100}}),
		},
		Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}, {Prefix: prefix("fd01:1::/64")}},
	}
	var sites, gateways []*node
	var speakers []*process
	for i := range 2 {
		gw, site := newNode(t, fmt.Sprint("gw", i)), newNode(t, fmt.Sprint("site", i))
		wire(t, gw, "wan 10.0.0.1/30 fd00::1/64", site, "eth0 10.0.0.2/30 fd00::2/64")
		one := spec
		if i == 1 {
			one.Peers = append([]bgp.Peer(nil), spec.Peers...)
			one.Peers[0].Passive = true
		}
		s := gw.speaker()
		s.apply(one)
		sites, gateways, speakers = append(sites, site), append(gateways, gw), append(speakers, s)
	}
	sites[0].frr(`
router bgp 65002
 bgp router-id 10.0.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 timers bgp 3 9
 neighbor 10.0.0.1 remote-as 65000
 neighbor 10.0.0.1 passive
 neighbor fd00::1 remote-as 65000
 neighbor fd00::1 timers connect 1
 address-family ipv4 unicast
  neighbor 10.0.0.1 activate
  network 172.16.1.0/24
  network 172.16.9.0/24
 address-family ipv6 unicast
  neighbor fd00::1 activate
  network fd02:1::/64
`)
	b := sites[1].bird(`
protocol static { ipv4; route 172.16.2.0/24 blackhole; route 172.16.9.0/24 blackhole; }
protocol static { ipv6; route fd02:2::/64 blackhole; }
` + birdPeer("four", "10.0.0.2", "10.0.0.1", "ipv4 { import all; export where source = RTS_STATIC; };") +
		birdPeer("six", "fd00::2", "fd00::1", "ipv6 { import all; export where source = RTS_STATIC; }; ipv4 { extended next hop on; import all; export where net = 172.16.9.0/24; };"))
	for i, s := range speakers {
		s.established("hq4", "hq6")
		gateways[i].routes("-4", fmt.Sprintf("172.16.%d.0/24", 1+i), true, "via 10.0.0.2")
		gateways[i].routes("-6", fmt.Sprintf("fd02:%d::/64", 1+i), true, "dev wan", "metric 1044")
		gateways[i].routes("-4", fmt.Sprintf("172.16.%d.0/24", 2-i), false)
		gateways[i].routes("-6", fmt.Sprintf("fd02:%d::/64", 2-i), false)
		gateways[i].routes("-4", "172.16.9.0/24", true)
	}
	b.sees("show route all 10.1.1.0/24", "BGP.as_path: 65000", "via 10.0.0.1 on eth0")
	b.sees("show route all fd01:1::/64", "BGP.as_path: 65000", "BGP.next_hop: fd00::1")

	// IPv4 by a next hop of IPv6, when the IPv4 session is gone (RFC 8950).
	without := spec
	without.Peers = spec.Peers[1:]
	speakers[1].apply(without)
	gateways[1].routes("-4", "172.16.2.0/24", false)
	gateways[1].routes("-4", "172.16.9.0/24", true, "via inet6 fd00::2")
}
