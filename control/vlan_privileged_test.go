//go:build privileged && linux

package control

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/hnv"
)

// kernelHasVLANs is set where the kernel is known to have 802.1Q, so that nothing is
// left out for want of it.
const kernelHasVLANs = "HNV_TEST_VLAN"

// Provider addresses may be in a VLAN of the fabric: packets of both encapsulations go
// out by its link and come in by it.
func TestVLANOfTheFabric(t *testing.T) { byBothPaths(t, testVLANOfTheFabric) }

func testVLANOfTheFabric(t *testing.T, n *network) {
	in7 := func(addr string) hnv.ProviderAddress {
		a := pa(addr, "pa0")
		a.VLAN = 7
		return a
	}
	a, b := n.host("a", in7("192.168.7.1/24")), n.host("b", in7("192.168.7.2/24"))
	i := slices.IndexFunc(a.e.Features(), func(f compartments.Feature) bool { return f.Name == "provider-vlan" })
	if !a.e.Features()[i].OK && os.Getenv(kernelHasVLANs) == "" {
		if got := a.e.ProviderState().Addresses; len(got) != 1 || !strings.Contains(got[0].Trouble(), "8021q") {
			t.Errorf("without 802.1Q the address is %+v", got)
		}
		return
	}
	sent := func(h *hvHost) uint64 {
		t.Helper()
		var links []struct {
			Stats64 struct{ TX struct{ Packets uint64 } }
		}
		if err := json.Unmarshal([]byte(in(t, h.ns, "ip -s -j link show dev pa0.7")), &links); err != nil || len(links) != 1 {
			t.Fatalf("pa0.7 of %s: %v", h.name, err)
		}
		return links[0].Stats64.TX.Packets
	}
	for i, encap := range []hnv.Encap{hnv.NVGRE, hnv.VXLAN} {
		base, name := uint32(5000+1000*i), []string{"contoso", "fabrikam"}[i]
		rule := []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN}[i]
		d := tenantOf(name, base, encap)
		one, two := station(base, 11, "192.168.7.1", rule), station(base, 12, "192.168.7.2", rule)
		d.Records = []hnv.Record{one, two}
		a.tenant(d)
		b.tenant(d)
		vm1, vm2 := a.vm(portOf("one"+name[:1], one, 1450), "10.1.1.11/24"), b.vm(portOf("two"+name[:1], two, 1450), "10.1.1.12/24")
		before := []uint64{sent(a), sent(b)}
		in(t, vm1, "ping -c2 -i0.2 -W10 10.1.1.12")
		in(t, vm1, "ping -c2 -i0.2 -W10 -M do -s 1422 10.1.1.12") // all of the port's MTU
		in(t, vm2, "ping -c2 -i0.2 -W10 -s 3000 10.1.1.11")
		transfer(t, vm1, vm2, "10.1.1.12", 1<<20)
		transfer(t, vm2, vm1, "10.1.1.11", 1<<20)
		if now := []uint64{sent(a), sent(b)}; now[0] < before[0]+20 || now[1] < before[1]+20 {
			t.Errorf("%s: by the VLAN's links went %v packets, and %v before", encap, now, before)
		}
	}
}
