//go:build privileged && linux

package scenario

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/test/lab"
)

// TestEntropyOnTheWire has 64 flows between a VM on a host that runs gatewayd and one
// on an independent host, in each tenant: all packets that a flow has in one direction
// have one FlowID or UDP source port, so that it stays on one path, and the flows
// spread over them (RFC 7637 section 3.2, RFC 7348 section 5).
func TestEntropyOnTheWire(t *testing.T) {
	const flows, first = 64, 21000
	file := capturing(t, "fab", "p-h1", "proto gre or udp port 4789", func() {
		var wg sync.WaitGroup
		for _, p := range []string{"c", "f"} {
			wg.Go(func() {
				for i := range flows {
					id, err := world.Get(t.Context(), p+"11", service80(vm(t, p+"12").CA), uint16(first+i), patience)
					if err != nil || id.Name != p+"12" {
						t.Errorf("%s11 from port %d: %q (%v)", p, first+i, id.Name, err)
					}
				}
			})
		}
		wg.Wait()
	})
	for _, c := range []struct{ tenant, filter, entropy, port, side string }{
		{"contoso", "gre && ip.src == 192.168.1.11", "gre.key", "tcp.srcport", "gatewayd"},
		{"contoso", "gre && ip.dst == 192.168.1.11", "gre.key", "tcp.dstport", "Open vSwitch"},
		{"fabrikam", "vxlan && ip.src == 192.168.1.11", "udp.srcport", "tcp.srcport", "gatewayd"},
		{"fabrikam", "vxlan && ip.dst == 192.168.1.11", "udp.srcport", "tcp.dstport", "the kernel"},
	} {
		of := map[string]map[string]int{} // a flow's packets by entropy
		used := map[string]int{}
		for _, r := range dissect(t, file, c.filter+" && tcp.port >= 21000 && tcp.port < 21064", c.port, c.entropy) {
			if of[r[0]] == nil {
				of[r[0]] = map[string]int{}
			}
			of[r[0]][r[1]]++
		}
		for port, seen := range of {
			packets := 0
			for e, n := range seen {
				packets += n
				used[e]++
			}
			if len(seen) != 1 || packets < 4 {
				t.Errorf("%s of %s: the flow of port %s has %v", c.side, c.tenant, port, seen)
			}
		}
		// Of 64 flows over 256 values or more, 57 are different on average; fewer
		// than 44 are no chance.
		if len(of) != flows || len(used) < 44 {
			t.Errorf("%s of %s: %d flows have %d different %s, want %d and most of them", c.side, c.tenant, len(of), len(used), c.entropy, flows)
		}
	}
}

// TestEncapsulationsSideBySide gives one VM of each tenant the encapsulation of the
// other tenant, by its records: what is sent to it has that one, what it sends has
// that of whom it sends to. An independent host knows its own encapsulation only, and
// goes on by that; with everybody the VM talks as before.
func TestEncapsulationsSideBySide(t *testing.T) {
	other := map[string]string{"contoso": "vxlan", "fabrikam": "nvgre"}
	changed := map[string]string{} // by VSID and CA
	for _, name := range []string{"c13", "f13"} {
		for _, r := range world.RecordsOf(vm(t, name)) {
			changed[fmt.Sprintf("%s %s", r.VSID, r.CA)] = other[vm(t, name).Tenant]
		}
	}
	changeRecords(t, func(r *v1.LookupRecord) bool {
		rule, ok := changed[fmt.Sprintf("%d %s", r.VSID, r.CA)]
		if ok {
			r.Rule = rule
		}
		return ok
	})
	settled(t, gatewayds...)
	file := capturing(t, "fab", "p-h2", "proto gre or udp port 4789", func() {
		want := map[way]bool{}
		for _, p := range []string{"c", "f"} {
			for _, n := range []string{"11", "12", "21", "22"} {
				want = allOf(want, ways(p+"13", p+n, "icmp tcp udp"), ways(p+n, p+"13", "icmp tcp udp"))
			}
			want = allOf(want, ways(p+"13", "", "icmp tcp udp"))
		}
		areOpen(t, want)
	})
	for _, name := range []string{"c13", "f13"} {
		v := vm(t, name)
		x := tenant(t, v.Tenant)
		own, others := string(x.Encap), other[x.Name]
		encaps := map[string]map[string]bool{} // by the other host and the direction
		for _, r := range dissect(t, file, "ip.addr == "+v.CA.String(), "ip.src", "ip.dst", "gre.key", "vxlan.vni") {
			encap, vsid := "vxlan", r[3]
			if r[2] != "" {
				var key uint32
				if _, err := fmt.Sscanf(r[2], "0x%x", &key); err != nil {
					t.Fatalf("key %s: %v", r[2], err)
				}
				encap, vsid = "nvgre", fmt.Sprint(key>>8)
			}
			if vsid[0] != x.GatewayVSID.String()[0] {
				continue // the other tenant's
			}
			src, _, _ := strings.Cut(r[0], ",")
			dst, _, _ := strings.Cut(r[1], ",")
			k := "from " + src
			if src == provider(t, "h2") {
				k = "to " + dst
			}
			if encaps[k] == nil {
				encaps[k] = map[string]bool{}
			}
			encaps[k][encap] = true
		}
		independent := map[hnv.Encap]string{hnv.NVGRE: "h3", hnv.VXLAN: "h4"}[x.Encap]
		want := map[string]map[string]bool{}
		for machine, from := range map[string]string{"192.168.1.1": others, provider(t, "h1"): others, provider(t, independent): own} {
			want["from "+machine] = map[string]bool{from: true}
			want["to "+machine] = map[string]bool{own: true}
		}
		if !maps.EqualFunc(encaps, want, maps.Equal) {
			t.Errorf("%s: on the wire is\n%v, want\n%v", name, encaps, want)
		}
	}
}

// TestQuestionsFromIndependentHosts has independent hosts forget where a VM and an
// IPv6 address of it are: what their own VMs then ask comes out of tunnels, at each
// host of the virtual subnet. The VM's host answers in its place, in its tenant, and
// no other; to a question about nobody there is no answer at all.
func TestQuestionsFromIndependentHosts(t *testing.T) {
	if err := world.AskOthers(t.Context(), "h3", true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := world.AskOthers(later(t), "h3", false); err != nil {
			t.Error(err)
		}
	})
	for _, p := range []string{"c", "f"} {
		asker, target := vm(t, p+"12"), vm(t, p+"13")
		for _, r := range world.RecordsOf(target) {
			if r.CA.Is6() && asker.Host == "h3" {
				continue // it carries IPv4 only
			}
			if err := world.RemoveRecord(t.Context(), asker.Host, asker.Tenant, r); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := world.SetRecord(later(t), asker.Host, asker.Tenant, r); err != nil {
					t.Error(err)
				}
			})
		}
		in(t, asker.Name, "ip", "neigh", "flush", "dev", "eth0")
	}
	unknown := map[string]uint64{}
	for _, x := range world.Topology().Tenants {
		unknown[x.Name] = droppedOf(t, "h2", x.Name, "arp-unknown")
	}
	const questions = "proto gre or udp port 4789 or arp or icmp6"
	heard := listening(t, map[string]string{"fab": "any", "c13": "eth0", "f13": "eth0"}, questions, func() {
		var wg sync.WaitGroup
		for _, p := range []string{"c", "f"} {
			asker, target, nobody := vm(t, p+"12"), vm(t, p+"13"), nobodyBeside(t, vm(t, p+"12"))
			// Open vSwitch loses its first packet to a host whose MAC it does not know.
			ask := func(seconds string, ca netip.Addr) (string, error) {
				return world.Exec(t.Context(), asker.Name, "busybox", "arping", "-c", "3", "-w", seconds, "-I", "eth0", ca.String())
			}
			wg.Go(func() {
				if out, err := ask("10", target.CA); err != nil || !strings.Contains(out, target.MAC.String()) {
					t.Errorf("%s asks for %s: %v\n%s", asker.Name, target.CA, err, out)
				}
			})
			wg.Go(func() {
				if out, err := ask("3", nobody); err == nil {
					t.Errorf("%s asks for nobody, and is told\n%s", asker.Name, out)
				}
			})
		}
		wg.Wait()
		// Its bridge knows the way to the station still, so that packets get there.
		if err := world.Ping(t.Context(), "f12", vm(t, "f13").CA6, patience); err != nil {
			t.Error(err)
		}
	})
	said := map[string][]string{} // in tunnels, by tenant
	for _, r := range dissect(t, heard["fab"], "arp && (gre || vxlan)", "gre.key", "arp.opcode", "ip.src", "ip.dst", "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "arp.src.hw_mac") {
		x := "contoso"
		if r[0] == "" {
			x = "fabrikam"
		}
		if line := strings.Join(r[1:], " "); !slices.Contains(said[x], line) {
			said[x] = append(said[x], line)
		}
	}
	for _, p := range []string{"c", "f"} {
		asker, target := vm(t, p+"12"), vm(t, p+"13")
		at := provider(t, asker.Host)
		var want []string
		for _, about := range []netip.Addr{target.CA, nobodyBeside(t, asker)} {
			for _, host := range []string{"h1", "h2"} {
				want = append(want, fmt.Sprintf("1 %s %s %s %s %s", at, provider(t, host), asker.CA, about, asker.MAC))
			}
		}
		want = append(want, fmt.Sprintf("2 %s %s %s %s %s", provider(t, target.Host), at, target.CA, asker.CA, target.MAC))
		slices.Sort(want)
		if got := slices.Sorted(slices.Values(said[asker.Tenant])); !slices.Equal(got, want) {
			t.Errorf("%s: on the fabric is\n%s\nwant\n%s", asker.Tenant, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if rows := dissect(t, heard[target.Name], "arp.opcode == 1 && arp.src.proto_ipv4 == "+asker.CA.String(), "frame.number"); len(rows) > 0 {
			t.Errorf("%s was asked itself", target.Name)
		}
	}
	if rows := dissect(t, heard["fab"], "vxlan && icmpv6.type == 136 && icmpv6.nd.na.target_address == "+vm(t, "f13").CA6.String()+" && ip.src == "+provider(t, "h2"), "frame.number"); len(rows) == 0 {
		t.Error("no neighbor advertisement in the place of f13 is on the fabric")
	}
	if rows := dissect(t, heard["f13"], "icmpv6.type == 135 && icmpv6.nd.ns.target_address == "+vm(t, "f13").CA6.String()+" && ipv6.src == "+vm(t, "f12").CA6.String(), "frame.number"); len(rows) > 0 {
		t.Error("f13 was asked for its IPv6 address itself")
	}
	for name, before := range unknown {
		if n := droppedOf(t, "h2", name, "arp-unknown"); n == before {
			t.Errorf("%s: what was asked for nobody is not counted on h2", name)
		}
	}
}

// droppedOf is what the machine's gatewayd dropped of the tenant's for the reason.
func droppedOf(t *testing.T, machine, tenant, reason string) uint64 {
	t.Helper()
	s, err := world.Status(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	return lab.Dropped(s, tenant, reason)
}
