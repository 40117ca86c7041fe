package forwarder

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/internal/nl"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func text(gs []group) string {
	var b strings.Builder
	for _, g := range gs {
		var whose []string
		for _, n := range g.attachments {
			whose = append(whose, n.String())
		}
		b.WriteString("[" + strings.Join(whose, " ") + "]\n")
		for _, s := range g.steps {
			b.WriteString("  " + s.String() + "\n")
		}
	}
	return b.String()
}

var testNames = names{instance: "hnv", machine: "m1"}

// three has an attachment of each kind, with a route over each and one over two.
func three(t testing.TB) Spec {
	a := dc(t)
	v := Attachment{Name: name(t, "rack"), Link: "fw-rack", Kind: KindVLAN, Parent: "dc0", VLAN: 100, ReversePath: Loose,
		Addresses: []netip.Prefix{pfx("10.51.0.2/24")}, Routes: []Route{{Prefix: pfx("10.60.0.0/16"), NextHop: ip("10.51.0.1")}}}
	b := Attachment{Name: name(t, "lan"), Link: "fw-lan", Kind: KindBridge, Parent: "br0", MTU: 1400, ReversePath: Off,
		Addresses: []netip.Prefix{pfx("10.52.0.2/24")}, Routes: []Route{{Prefix: pfx("10.62.0.0/16"), NextHop: ip("10.52.0.1")}}}
	return spec(t, a, v, b)
}

func testParents() map[string]nl.Link {
	return map[string]nl.Link{
		"dc0": {Index: 7, Name: "dc0", MTU: 1500, Up: true},
		"br0": {Index: 8, Name: "br0", Kind: "bridge", MTU: 1500, Up: true},
	}
}

func wantOf(t testing.TB, s Spec) want {
	t.Helper()
	w, failed := wanted(testNames, s, testParents())
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	return w
}

func unset() seen {
	return seen{
		sysctls: map[string]string{"ipv4/conf/all/rp_filter": "2", "ipv4/fib_multipath_hash_policy": "0", "ipv6/fib_multipath_hash_policy": "0"},
		links:   map[string]nl.Link{"lo": {Index: 1, Name: "lo"}, "wnv5000": {Index: 2, Name: "wnv5000", Kind: "veth", Alias: "hnv:hnv:contoso:wnv"}},
		ports:   map[string]nl.Link{}, addrs: map[string][]nl.Addr{},
	}
}

// right is what is seen where all is as wanted.
func right(w want) seen {
	s := unset()
	for _, k := range w.sysctls {
		s.sysctls[k.key] = k.value
	}
	index := map[string]int{}
	for i, l := range w.links {
		have := nl.Link{Index: 10 + i, Name: l.name, Alias: w.alias, Kind: netlinkKind(l.kind), MAC: l.mac, MTU: l.mtu, Up: true,
			Parent: l.parentLink, ParentElsewhere: true, AddrGenNone: true}
		switch l.kind {
		case KindMACVLAN:
			have.Private = true
		case KindVLAN:
			have.VLAN = l.vlan
		case KindBridge:
			have.Parent = 50 + i
			s.ports[l.port.name] = nl.Link{Index: 50 + i, Name: l.port.name, Alias: w.alias, Kind: "veth", MAC: l.port.mac, MTU: l.port.mtu, Up: true,
				Parent: 10 + i, Master: l.parentLink, Isolated: true, AddrGenNone: true}
		}
		for id, v := range l.conf4 {
			have.PutConf4(id, v)
		}
		have.PutConf6(nl.DisableIPv6, 1)
		if l.ipv6 {
			have.PutConf6(nl.DisableIPv6, 0)
			for _, c := range conf6 {
				have.PutConf6(c.id, c.value)
			}
		}
		for _, p := range l.addrs {
			s.addrs[l.name] = append(s.addrs[l.name], nl.Addr{Prefix: p, Link: have.Index})
		}
		s.links[l.name] = have
		index[l.name] = have.Index
	}
	for _, r := range w.routes {
		k := r.kernel(index)
		k.Multipath = len(k.NextHops) > 0
		s.routes = append(s.routes, k)
	}
	return s
}

func TestPlan(t *testing.T) {
	w := wantOf(t, three(t))
	golden(t, "new", text(plan(w, unset())))
	if gs := plan(w, right(w)); len(gs) > 0 {
		t.Errorf("all is right, and the plan is\n%s", text(gs))
	}
	// The second look at a new compartment: the links are there, the routes not.
	s := right(w)
	s.routes = nil
	golden(t, "routes", text(plan(w, s)))
}

func TestPlanDrift(t *testing.T) {
	change := func(s *seen, name string, f func(*nl.Link)) {
		l := s.links[name]
		f(&l)
		s.links[name] = l
	}
	w := wantOf(t, three(t))
	lan := w.links[2].port.name
	for name, disturb := range map[string]func(*seen){
		"drift-settings": func(s *seen) {
			s.sysctls["ipv4/conf/all/rp_filter"] = "1"
			change(s, "fw-dc", func(l *nl.Link) {
				l.Up, l.MTU, l.Alias, l.MAC = false, 1400, "", [6]byte{2}
				l.PutConf4(nl.RPFilter, 0)
				l.PutConf6(nl.AcceptRA, 1)
			})
			change(s, "fw-rack", func(l *nl.Link) { l.PutConf6(nl.DisableIPv6, 0) })
			p := s.ports[lan]
			p.Master, p.Isolated, p.MTU = 0, false, 9000
			s.ports[lan] = p
		},
		"drift-addresses": func(s *seen) {
			s.addrs["fw-dc"] = []nl.Addr{{Prefix: pfx("10.50.0.2/16")}, {Prefix: pfx("fd50::2/48")}, {Prefix: pfx("192.0.2.1/32")}}
		},
		"drift-routes": func(s *seen) {
			s.routes[0].NextHops = s.routes[0].NextHops[:2]
			s.routes = append(s.routes[:1:1], nl.Route{Dst: pfx("10.9.0.0/16"), Via: ip("10.50.0.1"), Link: 10, Protocol: RouteProtocol})
		},
		"other-parent": func(s *seen) { change(s, "fw-dc", func(l *nl.Link) { l.Parent = 99 }) },
		"other-mode":   func(s *seen) { change(s, "fw-dc", func(l *nl.Link) { l.Private = false }) },
		"other-vlan":   func(s *seen) { change(s, "fw-rack", func(l *nl.Link) { l.VLAN = 101 }) },
		"port-lost":    func(s *seen) { delete(s.ports, lan) },
		"leftover": func(s *seen) {
			s.routes[0].NextHops = append(s.routes[0].NextHops, nl.NextHop{Via: ip("10.59.0.1"), Link: 20, Weight: 1})
			s.links["fw-old"] = nl.Link{Index: 20, Name: "fw-old", Alias: "hnv:hnv:contoso:fw"}
			s.links["fw-else"] = nl.Link{Index: 21, Name: "fw-else", Alias: "hnv:hnv:fabrikam:fw"} // somebody else's
		},
	} {
		s := right(w)
		disturb(&s)
		golden(t, name, text(plan(w, s)))
	}
}

// What cannot be brought about stays as it is, and the rest goes on without it.
func TestPlanKept(t *testing.T) {
	parents := testParents()
	delete(parents, "br0")
	dc0 := parents["dc0"]
	dc0.MTU = 1200
	parents["dc0"] = dc0
	s := three(t)
	s.Attachments[0].MTU = 0
	w, failed := wanted(testNames, s, parents)
	for attachment, says := range map[string]string{
		"dc": "MTU 1200 of the uplink's interface dc0 is too small for IPv6", "lan": "br0 is not in the gateway's network namespace",
	} {
		if err := failed[name(t, attachment)]; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("attachment %s: %v, which does not say %q", attachment, err, says)
		}
	}
	if len(failed) != 2 || !slices.Equal(w.kept, []string{"fw-dc", "fw-lan"}) {
		t.Errorf("failed: %v, kept: %v", failed, w.kept)
	}
	now := right(wantOf(t, three(t)))
	rack := now.links["fw-rack"]
	rack.MTU = 1200
	now.links["fw-rack"] = rack
	if gs := plan(w, now); len(gs) > 0 {
		t.Errorf("the plan is\n%s", text(gs))
	}
	// Of the links that are kept one has vanished.
	delete(now.links, "fw-dc")
	golden(t, "kept", text(plan(w, now)))
	for what, change := range map[string]func(*Attachment){
		"is no Linux bridge":               func(a *Attachment) { a.Kind = KindBridge },
		"MTU 1600 is more than the 1500 o": func(a *Attachment) { a.MTU = 1600 },
	} {
		a := dc(t)
		change(&a)
		if _, failed := wanted(testNames, spec(t, a), testParents()); len(failed) != 1 || !strings.Contains(failed[a.Name].Error(), what) {
			t.Errorf("%v, which does not say %q", failed, what)
		}
	}
}

func TestWords(t *testing.T) {
	w := wantOf(t, three(t))
	if got := plan(w, unset())[1].words(); !slices.Equal(got, []string{"link fw-dc made, of kind macvlan on dc0"}) {
		t.Errorf("a new link is told as %q", got)
	}
}

func TestNames(t *testing.T) {
	long := names{instance: strings.Repeat("i", 32)}
	if err := long.check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", strings.Repeat("i", 33), "A", "a b", "a/b"} {
		if (names{instance: bad}).check() == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	seen := map[string]string{}
	for _, n := range []names{testNames, {instance: "gw1", machine: "m1"}, {instance: "hnv", machine: "m2"}} {
		for _, tenant := range []string{"contoso", "fabrikam"} {
			for _, a := range []string{"dc", "lan"} {
				mac := n.mac(name(t, tenant), name(t, a))
				if mac[0]&3 != 2 || mac != n.mac(name(t, tenant), name(t, a)) {
					t.Errorf("MAC address %x", mac)
				}
				if p := n.port(name(t, tenant), name(t, a)); len(p) != 15 || !strings.HasPrefix(p, n.ports()) {
					t.Errorf("port %q", p)
				}
				what := n.instance + n.machine + tenant + a
				if other := seen[string(mac[:])]; other != "" {
					t.Errorf("%s and %s have one MAC address", what, other)
				}
				seen[string(mac[:])] = what
			}
		}
	}
}
