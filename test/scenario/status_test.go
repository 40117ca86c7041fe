//go:build privileged && linux

package scenario

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// TestStatus reads what operators read: that all is well, and what the NAT of
// each tenant has to do and drops, apart from the other's.
func TestStatus(t *testing.T) {
	st, err := world.Status(t.Context(), "gw")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ProviderReady", "StoreReady"} {
		i := slices.IndexFunc(st.Conditions, func(c v1.Condition) bool { return c.Type == kind })
		if i < 0 || !st.Conditions[i].Status {
			t.Errorf("%s is not told: %+v", kind, st.Conditions)
		}
	}
	tenants := world.Topology().Tenants
	before := map[string]v1.NATStatus{}
	for _, x := range tenants {
		before[x.Name] = natOf(t, x.Name)
	}
	for _, knocked := range tenants {
		// To the compartment itself: no mapping, nobody listens.
		const port = 4444
		if _, err := world.Get(t.Context(), "inet", netip.AddrPortFrom(knocked.External, port), 0, silence/2); err == nil {
			t.Errorf("%s answers at port %d", knocked.External, port)
		}
		if err := world.Ping(t.Context(), world.VMs(knocked.Name)[0].Name, internet(), patience); err != nil {
			t.Error(err)
		}
		for _, x := range tenants {
			now := natOf(t, x.Name)
			got := packets(now.Drops, "input") - packets(before[x.Name].Drops, "input")
			if (got > 0) != (x.Name == knocked.Name) {
				t.Errorf("a knock at %s: the NAT of %s drops %d more packets", knocked.Name, x.Name, got)
			}
			if x.Name == knocked.Name && now.Connections == 0 {
				t.Errorf("%s has pinged and its NAT tracks nothing", x.Name)
			}
			before[x.Name] = now
		}
	}
}

// natOf is what gatewayctl shows of a tenant's NAT.
func natOf(t *testing.T, name string) v1.NATStatus {
	t.Helper()
	out, err := world.Ctl(t.Context(), "gw", "tenant", "show", name, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var shown struct{ Status v1.TenantStatus }
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Status.NAT == nil {
		t.Fatalf("nothing is told of the NAT of %s: %s", name, out)
	}
	return *shown.Status.NAT
}

func packets(drops []v1.Drop, reason string) uint64 {
	for _, d := range drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}
