//go:build privileged && linux

package forwarder

import (
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/nstest"
)

// physical makes a physical network of the kind, with a router at 10.50.0.1 and
// fd50::1, and a server 10.60.0.9 behind that. It gives the uplink's interface.
func (l *lab) physical(kind, ifname string) (parent, router, server string) {
	l.t.Helper()
	router = l.station(ifname, "10.50.0.1/24", "fd50::1/64")
	server = nstest.New(l.t, "srv")
	l.ip(router, "link add srv type veth peer name eth0 netns "+server)
	l.run(server, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
	l.up(router, "srv", "10.60.0.1/16", "fd60::1/64")
	l.up(server, "eth0", "10.60.0.9/16", "fd60::9/64")
	l.ip(server, "route add default via 10.60.0.1")
	l.ip(server, "-6 route add default via fd60::1")
	l.run(router, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	if kind == KindBridge {
		l.bridge("br"+ifname, ifname)
		return "br" + ifname, router, server
	}
	return ifname, router, server
}

// Two tenants with the same prefixes, addresses and MAC addresses behind them
// have each a physical network with the same addresses, on uplinks of the kind:
// packets go both ways, and none to the neighbour.
func TestTwoTenantsAlike(t *testing.T) {
	for _, kind := range []string{KindMACVLAN, KindBridge} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			type side struct{ tenant, comp, vm, router, server string }
			var sides []side
			for i, tenant := range []string{"contoso", "fabrikam"} {
				parent, router, server := l.physical(kind, []string{"dc0", "dc1"}[i])
				comp, vm := l.compartment()
				foot := l.foot(kind, parent, "10.50.0.2/24", "fd50::2/64").via("10.60.0.0/16", "10.50.0.1", 0).via("fd60::/64", "fd50::1", 0)
				l.apply(tenant, comp, foot)
				l.settled(tenant, comp, foot)
				l.ip(router, "route add 10.1.1.0/24 via 10.50.0.2")
				l.ip(router, "-6 route add fd01::/64 via fd50::2")
				sides = append(sides, side{tenant, comp, vm, router, server})
			}
			for i, s := range sides {
				l.mustReach(s.vm, "10.60.0.9")
				l.mustReach(s.vm, "fd60::9")
				l.mustReach(s.server, "10.1.1.11")
				l.mustReach(s.server, "fd01::11")
				// What is the neighbour's alone is not reached.
				other := sides[1-i]
				only := []string{"192.0.2.1", "192.0.2.2"}
				l.ip(other.server, "addr add "+only[1-i]+"/32 dev lo")
				l.ip(other.server, "link set lo up")
				l.ip(other.router, "route add "+only[1-i]+"/32 via 10.60.0.9")
				l.ip(s.comp, "route add "+only[1-i]+"/32 via 10.50.0.1")
				l.mustNotReach(s.vm, only[1-i])
			}
		})
	}
}

// Tenants on one uplink reach the router and not each other, nor the gateway's own
// address on it, whatever they are told of routes.
func TestTenantsOnOneUplink(t *testing.T) {
	for _, kind := range []string{KindMACVLAN, KindBridge} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			parent, router, _ := l.physical(kind, "dc0")
			l.up(l.gw, parent, "10.50.0.100/24", "fd50::100/64")
			a, vmA := l.compartment()
			b, _ := l.compartment()
			l.apply("contoso", a, l.foot(kind, parent, "10.50.0.2/24", "fd50::2/64").via("0.0.0.0/0", "10.50.0.1", 0))
			l.apply("fabrikam", b, l.foot(kind, parent, "10.50.0.3/24", "fd50::3/64"))
			for _, ns := range []string{a, b} {
				l.mustReach(ns, "10.50.0.1")
				l.mustReach(ns, "fd50::1")
				l.mustNotReach(ns, "10.50.0.100")
				l.mustNotReach(ns, "fd50::100")
			}
			l.mustReach(router, "10.50.0.2")
			l.mustReach(router, "10.50.0.3")
			l.mustNotReach(a, "10.50.0.3")
			l.mustNotReach(b, "fd50::2")
			l.mustNotReach(vmA, "10.50.0.3")
			// A tenant that knows its neighbour's MAC address gets no further.
			mac := strings.Fields(l.ip(b, "-o link show fw-dc"))
			for i, w := range mac {
				if w == "link/ether" {
					l.ip(a, "neigh replace 10.50.0.3 dev fw-dc lladdr "+mac[i+1])
				}
			}
			l.mustNotReach(a, "10.50.0.3")
		})
	}
}

// The reverse path check holds a packet's source against the routes.
func TestReversePath(t *testing.T) {
	l := newLab(t)
	parent, router, _ := l.physical(KindMACVLAN, "dc0")
	comp, vm := l.compartment()
	l.ip(router, "link set lo up")
	// Of these, the compartment has a route by another link, none, and the right one.
	for _, a := range []string{"10.99.0.1/32", "10.98.0.1/32", "10.97.0.1/32"} {
		l.ip(router, "addr add "+a+" dev lo")
	}
	l.ip(router, "route add 10.1.1.0/24 via 10.50.0.2")
	heard := func(from string) bool {
		t.Helper()
		l.run(vm, "nft add table inet seen")
		defer l.run(vm, "nft delete table inet seen")
		l.run(vm, "nft add chain inet seen c { type filter hook input priority 0 ; }")
		l.run(vm, "nft add rule inet seen c ip saddr "+from+" counter")
		_, _ = l.try(router, "ping -c2 -i0.2 -W1 -I "+from+" 10.1.1.11")
		return !strings.Contains(l.run(vm, "nft list table inet seen"), "packets 0 ")
	}
	l.run(comp, "sysctl -qw net.ipv4.conf.all.rp_filter=2") // as distributions have it
	for _, c := range []struct {
		check string
		in    []string
		out   []string
	}{
		{Strict, []string{"10.97.0.1"}, []string{"10.98.0.1", "10.99.0.1"}},
		{"", []string{"10.97.0.1"}, []string{"10.98.0.1", "10.99.0.1"}},
		{Loose, []string{"10.97.0.1", "10.99.0.1"}, []string{"10.98.0.1"}},
		{Off, []string{"10.97.0.1", "10.98.0.1", "10.99.0.1"}, nil},
	} {
		foot := l.foot(KindMACVLAN, parent, "10.50.0.2/24").via("10.97.0.0/24", "10.50.0.1", 0)
		foot.ReversePath = c.check
		l.apply("contoso", comp, foot)
		l.settled("contoso", comp, foot)
		l.ip(comp, "route replace 10.99.0.0/24 via 10.1.1.11 dev wnv5000")
		for _, from := range c.in { // the first may be lost while neighbours are resolved
			for end := time.Now().Add(time.Minute); !heard(from); {
				if time.Now().After(end) {
					t.Fatalf("check %q: no packet from %s is let in", c.check, from)
				}
			}
		}
		for _, from := range c.out {
			if heard(from) {
				t.Errorf("check %q: a packet from %s is let in", c.check, from)
			}
		}
	}
}

// A compartment has several attachments, of different kinds, on networks that know
// nothing of each other, and the flows to a prefix behind two of them are shared.
func TestSeveralNetworks(t *testing.T) {
	l := newLab(t)
	one, _, _ := l.physical(KindMACVLAN, "dc0")
	l.station("dc1", "10.51.0.1/24", "10.60.0.9/32", "10.62.0.9/32")
	l.bridge("br1", "dc1")
	comp, _ := l.compartment()
	first := l.foot(KindMACVLAN, one, "10.50.0.2/24").via("10.60.0.0/16", "10.50.0.1", 10).via("10.61.0.0/16", "10.50.0.1", 0)
	second := l.foot(KindBridge, "br1", "10.51.0.2/24").via("10.60.0.0/16", "10.51.0.1", 10).via("10.62.0.0/16", "10.51.0.1", 0)
	second.Name, second.Link = name(t, "second"), "fw-second"
	l.apply("contoso", comp, first, second)
	l.settled("contoso", comp, first, second)
	l.mustReach(comp, "10.50.0.1")
	l.mustReach(comp, "10.51.0.1")
	l.mustReach(comp, "10.62.0.9")
	l.mustReach(comp, "10.60.0.9")
	if r := l.ip(comp, "route show 10.60.0.0/16 proto 204"); strings.Count(r, "nexthop via") != 2 || !strings.Contains(r, "metric 10") {
		t.Errorf("the route is %q", r)
	}
	// One goes: the flows have the other, and what was only there is gone.
	l.apply("contoso", comp, first)
	if r := l.ip(comp, "route show proto 204"); strings.Contains(r, "nexthop") || !strings.Contains(r, "10.60.0.0/16 via 10.50.0.1") || strings.Contains(r, "10.62") {
		t.Errorf("the routes are %q", r)
	}
	l.mustReach(comp, "10.60.0.9")
}
