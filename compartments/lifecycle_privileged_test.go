//go:build privileged && linux

package compartments

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
)

func apply(t *testing.T, e *Engine, s Spec) Result {
	t.Helper()
	r, err := e.Apply(t.Context(), s)
	must(t, err)
	return r
}

func settled(t *testing.T, e *Engine, s Spec) {
	t.Helper()
	if r := apply(t, e, s); len(r.Repaired) > 0 {
		t.Errorf("applied again, %s changed %q", s.Name, r.Repaired)
	}
}

// state is all that compartments leave in the gateway's namespace, and all else
// that is there.
func (m *machine) state() string {
	gw := m.id + ".gw"
	out := ""
	links, err := m.gw.Links()
	must(m.t, err)
	for _, l := range links {
		out += fmt.Sprintln(l.Name, l.Alias, l.MTU, l.Up)
	}
	for _, c := range []string{"route", "-6 route", "neigh show nud permanent", "-6 neigh show nud permanent", "neigh show proxy", "-6 neigh show proxy"} {
		out += m.ip(gw, c)
	}
	for _, line := range strings.Split(m.run(gw, "nft list ruleset"), "\n") {
		if !strings.Contains(line, "packets") {
			out += line + "\n"
		}
	}
	return out
}

// bystanders are objects like ours that are not ours.
func (m *machine) bystanders() {
	gw := m.id + ".gw"
	for _, c := range []string{
		"link add xabcd5000 type veth peer name eth9",
		"link set xabcd5000 up",
		"route add 198.51.100.0/24 dev mg0 proto static",
		"neigh add proxy 203.0.113.77 dev up0",
		"netns add " + m.id + "-stranger", // looks like a compartment, without our mark
	} {
		m.ip(gw, c)
	}
	m.run(gw, "nft add table inet theirs")
	m.run(gw, "sysctl -qw net.ipv6.conf.all.forwarding=1")
}

func TestCreateAdoptDelete(t *testing.T) {
	m := newMachine(t)
	m.bystanders()
	e := m.engine()
	_, err := e.Prune(t.Context(), nil) // makes what stays for good
	must(t, err)
	before := m.state()
	s := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047", "2001:db8:f::10")
	s.CAs = append(s.CAs, prefix("fd00:1::2/64"))
	s.Routes = append(s.Routes, Route{prefix("fd00:2::/64"), mustAddr("fd00:1::1")})
	r := apply(t, e, s)
	if r.Namespace != netns.Path(m.id+"-contoso") || r.Port != e.names.overlayPeer(s.VSID) || !slices.Equal(r.Repaired, []string{"compartment made"}) {
		t.Errorf("%+v", r)
	}
	settled(t, e, s)
	settled(t, m.engine(), s) // as after a restart

	states, err := e.Snapshot(t.Context())
	must(t, err)
	if len(states) != 1 || states[0].Name != s.Name || len(states[0].Links) != 2 || !states[0].Links[0].Up || len(states[0].External) != 3 || len(states[0].Routes) != 4 {
		t.Errorf("snapshot: %+v", states)
	}
	must(t, e.Delete(t.Context(), s.Name))
	must(t, e.Delete(t.Context(), s.Name))
	if netns.Exists(m.id + "-contoso") {
		t.Error("the namespace is still there")
	}
	m.unchanged(t, before, "after Delete")
	if err := e.Delete(t.Context(), tenantName(t, "stranger")); err != nil || !netns.Exists(m.id+"-stranger") {
		t.Errorf("a namespace that is not ours was deleted (%v)", err)
	}
	if _, err := e.Apply(t.Context(), specOf(t, "stranger", 6000)); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("a namespace that is not ours was taken: %v", err)
	}
}

// What the compartment is made to hold, however it was disturbed.
func TestRepair(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047", "2001:db8:f::10")
	other := specOf(t, "fabrikam", 6000, "203.0.113.11", "203.0.113.20:2048-4095")
	apply(t, e, s)
	apply(t, e, other)
	in, gw, table := m.id+"-contoso", m.id+".gw", e.names.table()
	w, x, h := e.names.overlayPeer(s.VSID), e.names.uplinkPeer(s.VSID), e.names.steerIn()
	// Things of others inside that must stay.
	m.ip(in, "link add wg0 type veth peer name wg1")
	m.ip(in, "link set wg0 up")
	m.ip(in, "link set wg1 up")
	m.ip(in, "route add 192.0.2.0/24 dev wg0 proto bird")

	for _, d := range []struct{ ns, disturb string }{
		{in, "ip link set wnv5000 down"},
		{in, "ip link set wnv5000 mtu 1400"},
		{in, "ip link set wnv5000 address 02:00:00:00:00:01"},
		{in, "ip link set wnv5000 alias nobody"},
		{in, "ip addr del 10.254.254.2/29 dev wnv5000"},
		{in, "ip addr add 10.9.9.9/24 dev wnv5000"},
		{in, "ip link del wnv5000"},
		{in, "ip link del ext"},
		{in, "ip link set ext down"},
		{in, "ip link set ext arp on"},
		{in, "ip addr del 203.0.113.10/32 dev ext"},
		{in, "ip addr add 203.0.113.99/32 dev ext"},
		{in, "ip route del default"},
		{in, "ip route del 10.1.1.0/24"},
		{in, "ip route replace 10.1.1.0/24 via 10.254.254.3 proto 201"},
		{in, "ip route add 10.7.0.0/16 via 10.254.254.1 proto 201"},
		{in, "ip neigh del 10.254.254.1 dev wnv5000"},
		{in, "ip neigh replace 169.254.0.1 lladdr 02:00:00:00:00:01 dev ext"},
		{in, "ip link set lo down"},
		{in, "ethtool -K wnv5000 gso off"},
		{in, "sysctl -qw net.ipv4.ip_forward=0"},
		{in, "sysctl -qw net.ipv4.conf.ext.forwarding=0"},
		{in, "sysctl -qw net.ipv4.conf.ext.rp_filter=0"},
		{in, "sysctl -qw net.ipv4.conf.all.rp_filter=2"},
		{in, "sysctl -qw net.ipv4.conf.all.send_redirects=1"},
		{in, "sysctl -qw net.ipv6.conf.all.forwarding=0"},
		{in, "sysctl -qw net.ipv6.conf.ext.accept_ra=1"},
		{in, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1"},
		{in, "sysctl -qw net.ipv6.conf.ext.disable_ipv6=1"},
		{in, "sysctl -qw net.ipv6.conf.wnv5000.disable_ipv6=0"},
		{in, "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0"},
		{gw, "ip link set " + w + " down"},
		{gw, "ip link set " + w + " mtu 1400"},
		{gw, "ip link set " + w + " arp on"},
		{gw, "ip link del " + x},
		{gw, "sysctl -qw net.ipv4.conf." + x + ".forwarding=0"},
		{gw, "sysctl -qw net.ipv4.conf.up0.forwarding=0"},
		{gw, "sysctl -qw net.ipv4.neigh.up0.proxy_delay=80"},
		{gw, "sysctl -qw net.ipv6.conf.up0.proxy_ndp=0"},
		{gw, "ip link set " + x + " down && ip link set " + x + " up"}, // of its routes the kernel says nothing
		{gw, "ip route del 203.0.113.10"},
		{gw, "ip route add 203.0.113.98/32 dev " + x + " proto 201"},
		{gw, "ip route del 203.0.113.20"},
		{gw, "ip route replace 203.0.113.10 via 169.254.0.2 dev " + x + " onlink proto 201"}, // its source is gone
		{gw, "ip route replace 203.0.113.20 dev " + h + " proto 201"},
		{gw, "ip -6 route change 2001:db8:f::10 via fe80::2 dev " + x + " metric 1024 proto 201"},
		{gw, "ip neigh del 169.254.0.2 dev " + x},
		{gw, "ip neigh del proxy 203.0.113.10 dev up0"},
		{gw, "ip neigh del proxy 2001:db8:f::10 dev up0"},
		{gw, "ip link del " + h},
		{gw, "nft flush ruleset"},
		{gw, "nft delete table netdev " + table},
		{gw, "nft flush chain inet " + table + " from-compartment"},
		{gw, "nft delete chain netdev " + table + " steer"},
		{gw, `nft delete element inet ` + table + ` whole4 {"` + x + `" . 203.0.113.10}`},
		{gw, `nft add element inet ` + table + ` whole4 {"` + x + `" . 203.0.113.11}`},
		{gw, `nft delete element inet ` + table + ` exits {"` + x + `" . "up0"}`},
	} {
		args := append([]string{"--net=" + netns.Path(d.ns), "sh", "-c"}, shell(d.disturb))
		if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", d.disturb, err, out)
		}
		if r := apply(t, e, s); len(r.Repaired) == 0 || slices.Contains(r.Repaired, "compartment made") {
			t.Errorf("%s: repaired %q", d.disturb, r.Repaired)
		}
		if d.disturb == "nft flush ruleset" || d.disturb == "nft delete table netdev "+table {
			apply(t, e, other)
		}
		settled(t, e, s)
		for range quietLooks { // what comes next happens while routes are known
			settled(t, e, other)
		}
		m.run(in, "ping -c1 -W30 -I 203.0.113.10 "+outsideHost)
	}
	if out := m.ip(in, "-o link") + m.ip(in, "route"); !strings.Contains(out, "wg0") || !strings.Contains(out, "192.0.2.0/24") {
		t.Errorf("something that is not ours is gone:\n%s", out)
	}
}

// shell quotes what nft wants quoted.
func shell(s string) string {
	if i := strings.Index(s, "{"); i >= 0 {
		return s[:i] + "'" + s[i:] + "'"
	}
	return s
}

var errKilled = errors.New("killed")

// However far the making of a compartment got, the next run finishes it, or
// removes it without a trace.
func TestKilledHalfWay(t *testing.T) {
	m := newMachine(t)
	first := m.engine()
	neighbour := specOf(t, "fabrikam", 6000, "203.0.113.11", "203.0.113.20:2048-4095")
	apply(t, first, neighbour)
	s := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047", "2001:db8:f::10")
	apply(t, first, s) // IPv6 forwarding is on from here on
	must(t, first.Delete(t.Context(), s.Name))
	before := m.state()

	for _, ending := range []string{"apply", "delete", "prune"} {
		for n := 0; ; n++ {
			killed := m.engine()
			left := n
			killed.beforeStep = func(step) error {
				if left--; left < 0 {
					return errKilled
				}
				return nil
			}
			_, err := killed.Apply(t.Context(), s)
			if err == nil {
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatalf("after %d steps: %v", n, err)
			}
			e := m.engine()
			switch ending {
			case "apply":
				apply(t, e, s)
				settled(t, e, s)
				m.run(m.id+"-contoso", "ping -c1 -W30 -I 203.0.113.10 "+outsideHost)
				must(t, e.Delete(t.Context(), s.Name))
			case "delete":
				must(t, e.Delete(t.Context(), s.Name))
			case "prune":
				_, err := e.Prune(t.Context(), []hnv.Name{neighbour.Name})
				must(t, err)
			}
			settled(t, e, neighbour)
			m.unchanged(t, before, fmt.Sprintf("killed after %d steps and ended by %s", n, ending))
		}
		must(t, first.Delete(t.Context(), s.Name))
	}
}

func TestKilledWhileDeleting(t *testing.T) {
	m := newMachine(t)
	s := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047")
	_, err := m.engine().Prune(t.Context(), nil)
	must(t, err)
	before := m.state()
	for n := 0; ; n++ {
		killed := m.engine()
		apply(t, killed, s)
		left := n
		killed.beforeStep = func(step) error {
			if left--; left < 0 {
				return errKilled
			}
			return nil
		}
		err := killed.Delete(t.Context(), s.Name)
		must(t, m.engine().Delete(t.Context(), s.Name))
		m.unchanged(t, before, fmt.Sprintf("killed after %d steps", n))
		if err == nil {
			return
		}
	}
}

func TestPrune(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.Prune(t.Context(), nil)
	must(t, err)
	keep := specOf(t, "fabrikam", 6000, "203.0.113.11", "203.0.113.20:2048-4095")
	apply(t, e, keep)
	before := m.state()
	gone := specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047")
	apply(t, e, gone)
	apply(t, e, specOf(t, "tailspin", 7000, "203.0.113.12"))
	must(t, netns.Delete(m.id+"-tailspin")) // somebody was faster
	stub := m.id + "-never"
	must(t, os.WriteFile(netns.Path(stub), nil, 0))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(netns.Path(stub), old, old))

	removed, err := m.engine().Prune(t.Context(), []hnv.Name{keep.Name})
	must(t, err)
	if !slices.Contains(removed, "compartment contoso") {
		t.Errorf("removed %q", removed)
	}
	m.unchanged(t, before, "in the end")
	if _, err := os.Stat(netns.Path(stub)); err == nil {
		t.Error("the stub is still there")
	}
	settled(t, e, keep)
	if removed, err := e.Prune(t.Context(), []hnv.Name{keep.Name}); err != nil || len(removed) > 0 {
		t.Errorf("pruned again: %q, %v", removed, err)
	}
}

// A process inside keeps a namespace alive; its links must go all the same.
func TestDeleteWithSomeoneInside(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := specOf(t, "contoso", 5000, "203.0.113.10")
	apply(t, e, s)
	ns, err := netns.Open(netns.Path(m.id + "-contoso"))
	must(t, err)
	defer ns.Close()
	must(t, e.Delete(t.Context(), s.Name))
	apply(t, e, s)
	settled(t, e, s)
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)
}

// A compartment changes under way: another VSID, other addresses.
func TestChange(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.Prune(t.Context(), nil)
	must(t, err)
	before := m.state()
	for i, s := range []Spec{
		specOf(t, "contoso", 5000, "203.0.113.10"),
		specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.11"),
		specOf(t, "contoso", 5000, "203.0.113.11:1024-2047"),
		specOf(t, "contoso", 5000, "203.0.113.11:1024-3000"),
		specOf(t, "contoso", 6000, "203.0.113.11:1024-3000"),
		specOf(t, "contoso", 6000, "203.0.113.11"),
		specOf(t, "contoso", 7000, "203.0.113.10"),
		specOf(t, "contoso", 7000),
		specOf(t, "contoso", 7000, "203.0.113.10"),
	} {
		r := apply(t, e, s)
		if len(r.Repaired) == 0 {
			t.Errorf("spec %d changed nothing", i)
		}
		settled(t, e, s)
		if len(s.External) > 0 && s.External[0].Whole() {
			m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)
		}
		fresh, err := m.engine().Prune(t.Context(), []hnv.Name{s.Name})
		must(t, err)
		if len(fresh) > 0 {
			t.Errorf("spec %d left %q", i, fresh)
		}
	}
	must(t, e.Delete(t.Context(), tenantName(t, "contoso")))
	m.unchanged(t, before, "in the end")
}

func TestRefusals(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	m.ip(m.id+".gw", "route add 198.51.100.0/24 nexthop via 203.0.113.251 nexthop via 172.16.0.9")
	m.ip(m.id+".gw", "route add 198.51.101.0/24 via inet6 2001:db8:f::253 dev up0")
	external := func(a string) func(*Spec) {
		return func(s *Spec) { s.External = specOf(t, "a", 5000, "203.0.113.10", a).External }
	}
	for want, change := range map[string]func(*Spec){
		"203.0.113.1 is the gateway's own on up0":                                        external("203.0.113.1"),
		"2001:db8:f::1 is the gateway's own on up0":                                      external("2001:db8:f::1"),
		"172.16.0.1 is the gateway's own on mg0":                                         external("172.16.0.1"),
		"203.0.113.254 is the router on up0 over which the gateway reaches 0.0.0.0/0":    external("203.0.113.254"),
		"2001:db8:f::254 is the router on up0 over which the gateway reaches ::/0":       external("2001:db8:f::254"),
		"172.16.0.9 is the router on ":                                                   external("172.16.0.9:1024-2047"),
		"2001:db8:f::253 is the router on up0 over which the gateway reaches 198.51.101": external("2001:db8:f::253"),
		`uplink "lan" is not one of`:                                                     func(s *Spec) { s.Uplink = "lan" },
		"the default route":                                                              func(s *Spec) { s.Routes[0].Prefix = all4 },
		"not in the gateway subnet":                                                      func(s *Spec) { s.Routes[0].Via = mustAddr("10.9.9.9") },
		"MTU 100":                                                                        func(s *Spec) { s.MTU = 100 },
	} {
		s := specOf(t, "contoso", 5000)
		change(&s)
		if _, err := e.Apply(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if netns.Exists(m.id + "-contoso") {
			t.Fatal("a compartment was made")
		}
	}
	m.run(m.id+".gw", "sysctl -qw net.ipv4.conf.all.rp_filter=1")
	if _, err := e.Apply(t.Context(), specOf(t, "contoso", 5000, "203.0.113.20:1024-2047")); err == nil || !strings.Contains(err.Error(), "rp_filter") {
		t.Errorf("with reverse path filtering: %v", err)
	}
	for want, c := range map[string]Config{
		"instance name": {Instance: "A b"},
		"uplink lan: interface nic9: link nic9: not found": {Instance: "x", Uplinks: []Uplink{{"lan", Routed, "nic9"}}},
		"carries provider addresses too":                   {Instance: "x", Uplinks: []Uplink{{"lan", Routed, "up0"}}, PAInterfaces: []string{"up0"}},
		`kind "ipvlan" is unknown`:                         {Instance: "x", Uplinks: []Uplink{{"lan", "ipvlan", "up0"}}},
		"PA interface pa9":                                 {Instance: "x", PAInterfaces: []string{"pa9"}},
	} {
		c.Namespace = netns.Path(m.id + ".gw")
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// unchanged compares the gateway's namespace with what it was.
func (m *machine) unchanged(t *testing.T, before, when string) {
	t.Helper()
	lines := func(s string) []string { return strings.Split(s, "\n") }
	if d := cmp.Diff(lines(before), lines(m.state())); d != "" {
		t.Fatalf("%s, the gateway's namespace is not as before (-before +after):\n%s", when, d)
	}
}
