//go:build privileged && linux

package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// rewriting gives VMs provider addresses of their own, in the place of a tunnel,
// everywhere, until the test is over.
func rewriting(t *testing.T, pas map[string]string) {
	t.Helper()
	for name, pa := range pas {
		v := vm(t, name)
		before := world.RecordsOf(v)[0]
		set := func(rule, pa string) []string {
			return []string{"record", "set", "--vsid", v.VSID.String(), "--ca", v.CA.String(), "--rule", rule, "--pa", pa}
		}
		for _, m := range gatewayds {
			ctl(t, m, set("rewrite", pa)...)
			undo(t, m, set(string(tenant(t, v.Tenant).Encap), before.PA.String())...)
		}
		after := before
		after.PA = netip.MustParseAddr(pa)
		for _, h := range independent(v) {
			if err := world.SetRecord(t.Context(), h, v.Tenant, after); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := world.SetRecord(later(t), h, v.Tenant, before); err != nil {
					t.Error(err)
				}
			})
		}
	}
	settled(t, gatewayds...)
}

// TestRewrite has VMs of both tenants, with the same customer addresses, that are
// reached by provider addresses of their own: between two of them no packet has a
// tunnel header. With everybody else they go on as before, and so do the others.
func TestRewrite(t *testing.T) {
	pas := map[string]string{"c11": "192.168.1.111", "f11": "192.168.1.112", "c13": "192.168.2.113", "f13": "192.168.2.114"}
	rewriting(t, pas)
	file := capturing(t, "fab", "p-h1", "", func() {
		for _, p := range []string{"c", "f"} {
			for _, ends := range [][2]string{{"11", "13"}, {"13", "11"}} {
				from, to := p+ends[0], vm(t, p+ends[1])
				if err := world.Ping(t.Context(), from, to.CA, patience); err != nil {
					t.Error(err)
				}
				in(t, from, "ping", "-n", "-q", "-c", "1", "-W", "10", "-s", "4000", to.CA.String())
				id, err := world.Get(t.Context(), from, service80(to.CA), 0, patience)
				if err != nil || id.Name != to.Name || peerAddr(id) != vm(t, from).CA.String() {
					t.Errorf("%s to %s by TCP: %q sees %q (%v)", from, to.Name, id.Name, id.Peer, err)
				}
				for _, size := range []int{32, 4000} {
					id, err := world.Echo(t.Context(), from, serviceEcho(to.CA), 0, size, patience)
					if err != nil || id.Name != to.Name || peerAddr(id) != vm(t, from).CA.String() {
						t.Errorf("%s to %s by UDP: %q sees %q (%v)", from, to.Name, id.Name, id.Peer, err)
					}
				}
				// Nobody listens: the error quotes what it is about.
				if _, err := world.Get(t.Context(), from, netip.AddrPortFrom(to.CA, 81), 0, patience); err == nil || !strings.Contains(err.Error(), "refused") {
					t.Errorf("%s to %s, where nobody listens: %v", from, to.Name, err)
				}
				s, err := world.StartStream(from, to.CA, service.StreamRequest{Direction: service.Up, Bytes: 2 << 20})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				if _, err := s.Wait(t.Context()); err != nil {
					t.Errorf("%s to %s: %v", from, to.Name, err)
				}
			}
		}
	})
	// What is between two of them is between their addresses on the fabric.
	plain := "!(gre || udp.dstport == 4789) && !arp"
	between := map[string]int{}
	for _, r := range judgeSums(t, file, plain, "ip.src", "ip.dst", "frame.protocols") {
		src, _, _ := strings.Cut(r[1], ",") // an ICMP error has those of its quote too
		dst, _, _ := strings.Cut(r[2], ",")
		between[src+" "+dst]++
		if strings.Contains(r[1]+r[2], "10.1.1.") && !strings.Contains(r[3], "icmp") {
			t.Fatalf("frame %s: a customer address is on the fabric: %v", r[0], r)
		}
	}
	for _, p := range []string{"c", "f"} {
		a, b := pas[p+"11"], pas[p+"13"]
		for _, k := range []string{a + " " + b, b + " " + a} {
			if between[k] < 100 {
				t.Errorf("%d packets from %s, want those of all that was sent", between[k], strings.Replace(k, " ", " to ", 1))
			}
			delete(between, k)
		}
	}
	if len(between) > 0 {
		t.Errorf("other packets without a tunnel are on the fabric: %v", between)
	}
	if rows := dissect(t, file, "(gre || vxlan) && ip.addr == 10.1.1.11 && ip.addr == 10.1.1.13", "frame.number"); len(rows) > 0 {
		t.Errorf("%d packets between the VMs are in a tunnel", len(rows))
	}

	const everything = "icmp tcp udp"
	areOpen(t, allOf(
		ways("c11", "c12", everything), ways("c12", "c11", everything), ways("c21", "c11", everything), ways("c22", "c11", everything),
		ways("c11", "", everything), ways("c13", "", everything), ways("c22", "", everything), ways("c22", "c12", everything),
		ways("f11", "f12", everything), ways("f12", "f11", everything), ways("f21", "f11", everything), ways("f22", "f11", everything),
		ways("f11", "", everything), ways("f13", "", everything), ways("f22", "", everything), ways("f22", "f12", everything),
	))
	for _, m := range world.Mappings() {
		if id, err := world.Get(t.Context(), "inet", m.External, 0, patience); err != nil || id.Name != m.VM {
			t.Errorf("%s leads to %q, want %s (%v)", m.External, id.Name, m.VM, err)
		}
	}
	// And the address is no other's: its own machine does not answer at it.
	for _, name := range []string{"c11", "f11"} {
		if err := world.Ping(t.Context(), "rogue", netip.MustParseAddr(pas[name]), silence); err == nil {
			t.Errorf("%s answers for %s", pas[name], name)
		}
	}
}

// TestRewriteMigrates moves a VM of each tenant that has provider addresses of its
// own to another host, with a new one, while it transfers from one that has, and
// from one that has not.
func TestRewriteMigrates(t *testing.T) {
	rewriting(t, map[string]string{"c11": "192.168.1.111", "f11": "192.168.1.112", "c13": "192.168.2.113", "f13": "192.168.2.114"})
	streams := map[string]*lab.Stream{}
	for _, p := range []string{"c", "f"} {
		t.Cleanup(func() {
			if err := world.Move(later(t), p+"11", "h1"); err != nil {
				t.Error(err)
			}
		})
		for _, n := range []string{"13", "12"} {
			streams[fmt.Sprintf("%s11 from %s%s", p, p, n)] = endless(t, p+"11", vm(t, p+n), service.Down)
		}
	}
	flowing(t, streams)
	for name, pa := range map[string]string{"c11": "192.168.2.111", "f11": "192.168.2.112"} {
		v := vm(t, name)
		if err := world.Move(t.Context(), name, "h2"); err != nil {
			t.Fatal(err)
		}
		for _, m := range slices.Backward(gatewayds) {
			ctl(t, m, "record", "set", "--vsid", v.VSID.String(), "--ca", v.CA.String(), "--pa", pa)
		}
		r := world.RecordsOf(v)[0]
		r.PA = netip.MustParseAddr(pa)
		for _, h := range independent(v) {
			if err := world.SetRecord(t.Context(), h, v.Tenant, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	flowing(t, streams)
}
