//go:build privileged && linux

package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// foot is contoso's address on the routed uplink.
const foot = "203.0.113.50"

// routed attaches contoso to the uplink to the Internet, to reach without NAT a site
// whose router knows nothing of tunnels, until the test is over. The Internet's router
// knows the way to the site, and to the tenant by way of the gateway.
func routed(t *testing.T) lab.Site {
	t.Helper()
	s, g := siteOf(t, "chq"), world.Topology().Gateway
	way := fmt.Sprintf("ip route add %s via %s", s.LAN.Masked(), s.Tunnels[0].WAN.Addr())
	back := fmt.Sprintf("ip route add 10.1.0.0/16 via %s", g.External.Addr())
	on(t, "inet", []string{way, back}, []string{strings.Replace(way, "add", "del", 1), strings.Replace(back, "add", "del", 1)})
	undo(t, "gw", "forward", "delete", "contoso", "edge")
	ctl(t, "gw", "forward", "add", "contoso", "edge", "--uplink", lab.Uplink, "--address", foot+"/32", "--route", s.LAN.Masked().String())
	settled(t, "gw")
	return s
}

// TestRouted forwards between a tenant's VMs, on hosts of every kind, and a physical
// machine behind the routed uplink: each sees the other's own address. The tenant with
// the same addresses has no part in it.
func TestRouted(t *testing.T) {
	s := routed(t)
	host := s.Host()
	for _, n := range []int{11, 12, 13, 21} {
		v := vmOf(t, s, n)
		for _, x := range []struct {
			from, to   string
			addr, seen netip.Addr
		}{{v.Name, host, s.HostAddr(), v.CA}, {host, v.Name, v.CA, s.HostAddr()}} {
			id, err := world.Get(t.Context(), x.from, service80(x.addr), 0, patience)
			if err != nil || id.Name != x.to || peerAddr(id) != x.seen.String() {
				t.Errorf("from %s to %s: %q answers and sees %q, want %s and %s (%v)", x.from, x.addr, id.Name, id.Peer, x.to, x.seen, err)
			}
			if err := world.Ping(t.Context(), x.from, x.addr, patience); err != nil {
				t.Error(err)
			}
			if id, err := world.Echo(t.Context(), x.from, serviceEcho(x.addr), 0, 4000, patience); err != nil || id.Name != x.to || peerAddr(id) != x.seen.String() {
				t.Errorf("4000 bytes from %s to %s: %q answers and sees %q (%v)", x.from, x.addr, id.Name, id.Peer, err)
			}
		}
	}
	streams := map[string]*lab.Stream{}
	for _, d := range []service.Direction{service.Down, service.Up} {
		st, err := world.StartStream("c11", s.HostAddr(), service.StreamRequest{Direction: d, Bytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Stop)
		streams[string(d)] = st
	}
	whole(t, streams)

	t.Run("ways", routedWays)
	t.Run("forged from outside", func(t *testing.T) { routedForged(t, s) })
	t.Run("forged by another tenant", func(t *testing.T) { routedNeighbour(t, s) })
	t.Run("reverse path", func(t *testing.T) { routedReversePath(t, s) })
}

// routedWays compares the tenants' ways: the other one's is still translated, and it
// cannot have part in the uplink with prefixes that are taken.
func routedWays(t *testing.T) {
	s := siteOf(t, "chq")
	for tenant, seen := range map[string]string{"contoso": "10.1.1.11", "fabrikam": "203.0.113.20"} {
		id, err := world.Get(t.Context(), tenant[:1]+"11", service80(s.HostAddr()), 0, patience)
		if err != nil || id.Name != s.Host() || peerAddr(id) != seen {
			t.Errorf("%s: %q sees %q, want %s (%v)", tenant, id.Name, id.Peer, seen, err)
		}
	}
	for argv, word := range map[string]string{
		"path contoso 172.16.1.10":         "edge",
		"path contoso 198.51.100.10":       "nat",
		"path fabrikam 172.16.1.10":        "nat",
		"forward show contoso edge":        foot,
		"path contoso 10.1.1.12":           "overlay",
		"path contoso 203.0.113.20":        "nat",
		"path fabrikam 203.0.113.50":       "nat",
		"path contoso 172.16.1.10 -o json": `"through": "edge"`,
	} {
		if out := ctl(t, "gw", strings.Fields(argv)...); !strings.Contains(out, word) {
			t.Errorf("%s does not say %q:\n%s", argv, word, out)
		}
	}
	file := filepath.Join(t.TempDir(), "taken.yaml")
	const taken = "attachments:\n- {tenant: fabrikam, name: edge, uplink: internet, addresses: [203.0.113.51/32], routes: [{prefix: 172.16.1.0/24}]}\n"
	if err := os.WriteFile(file, []byte(taken), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := world.Ctl(t.Context(), "gw", "apply", "-f", file); err == nil || !strings.Contains(err.Error(), "10.1.") || !strings.Contains(err.Error(), "contoso") {
		t.Errorf("the same prefixes of a second tenant on the uplink: %v\n%s", err, out)
	}
}

// marked is a datagram in a frame.
func marked(t *testing.T, from, to string, eth *layers.Ethernet, mark string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 60, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to)}
	udp := &layers.UDP{SrcPort: 5555, DstPort: 9}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, eth, ip, udp, gopacket.Payload(mark))
}

// routedForged sends to a VM, from the uplink, as who is not there.
func routedForged(t *testing.T, s lab.Site) {
	g := world.Topology().Gateway
	eth := ethernet(mac(t, lab.MACOf(g.Internet)), mac(t, lab.MACOf(g.External.Addr())), layers.EthernetTypeIPv4)
	v := vm(t, "c13")
	file := capturing(t, v.Name, "eth0", "udp", func() {
		for _, from := range []string{
			vm(t, "c12").CA.String(), v.CA.String(), "10.1.2.21", "10.254.254.2", foot, "203.0.113.10", // inside, and the tenant's own
			"198.51.100.77", "192.0.2.6", // the way back is another one
			"127.0.0.1", "192.168.1.11",
		} {
			inject(t, "inet", "gw0", marked(t, from, v.CA.String(), eth, "FORGED "+from))
		}
		inject(t, "inet", "gw0", marked(t, s.HostAddr().String(), v.CA.String(), eth, "HONEST"))
		if err := world.Ping(t.Context(), s.Host(), v.CA, patience); err != nil {
			t.Error(err)
		}
	})
	if rows := dissect(t, file, `frame contains "FORGED"`, "ip.src"); len(rows) > 0 {
		t.Errorf("%s has packets from %v", v.Name, rows)
	}
	if rows := dissect(t, file, `frame contains "HONEST" && !icmp`, "ip.src"); len(rows) != 1 {
		t.Errorf("%s has %v of the honest one", v.Name, rows)
	}
}

// routedNeighbour sends out of the other tenant's compartment, whose root may be
// anybody's, as if it were the attached one, and to what that one forwards.
func routedNeighbour(t *testing.T, s lab.Site) {
	comp := world.Compartment("fabrikam")
	var hop string
	for line := range strings.Lines(in(t, comp, "ip", "-4", "neigh", "show", "dev", "ext")) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "lladdr" {
			hop = f[2]
		}
	}
	_, own, _ := strings.Cut(in(t, comp, "ip", "-o", "link", "show", "ext"), "link/ether ")
	own, _, _ = strings.Cut(own, " ")
	if hop == "" || own == "" {
		t.Fatalf("ext of %s has the address %q, and its router %q", comp, own, hop)
	}
	eth := ethernet(mac(t, own), mac(t, hop), layers.EthernetTypeIPv4)
	external := tenant(t, "fabrikam").External.String()
	var atVM string
	atHost := capturing(t, s.Host(), "eth0", "udp", func() {
		atVM = capturing(t, "c13", "eth0", "udp", func() {
			for _, from := range []string{foot, "10.1.1.11", "203.0.113.10", s.HostAddr().String()} {
				inject(t, comp, "ext", marked(t, from, s.HostAddr().String(), eth, "FORGED "+from))
			}
			for _, from := range []string{external, s.HostAddr().String(), foot} {
				inject(t, comp, "ext", marked(t, from, "10.1.1.13", eth, "FORGED "+from))
			}
			inject(t, comp, "ext", marked(t, external, s.HostAddr().String(), eth, "HONEST"))
			if err := world.Ping(t.Context(), "c13", s.HostAddr(), patience); err != nil {
				t.Error(err)
			}
			if err := world.Ping(t.Context(), "f13", s.HostAddr(), patience); err != nil {
				t.Error(err)
			}
		})
	})
	for where, file := range map[string]string{"c13": atVM, s.Host(): atHost} {
		if rows := dissect(t, file, `frame contains "FORGED"`, "ip.src", "ip.dst"); len(rows) > 0 {
			t.Errorf("%s has %v of the other tenant", where, rows)
		}
	}
	if rows := dissect(t, atHost, `frame contains "HONEST" && !icmp`, "ip.src"); len(rows) != 1 {
		t.Errorf("%s has %v of the honest one", s.Host(), rows)
	}
}

// routedReversePath takes the check of sources away: over a routed uplink comes in what
// is behind the attachment's routes, and nothing else.
func routedReversePath(t *testing.T, s lab.Site) {
	t.Cleanup(func() {
		if _, err := world.Ctl(later(t), "gw", "forward", "set", "contoso", "edge", "--reverse-path", "strict"); err != nil {
			t.Error(err)
		}
	})
	ctl(t, "gw", "forward", "set", "contoso", "edge", "--reverse-path", "off")
	settled(t, "gw")
	routedForged(t, s)
}
