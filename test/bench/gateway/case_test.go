//go:build linux

package gateway

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestChoose(t *testing.T) {
	all, err := Choose(nil)
	if err != nil || len(all) != len(Cases()) {
		t.Errorf("nothing chosen: got %d cases, %v", len(all), err)
	}
	some, err := Choose([]string{"ours-go-nvgre", Plain})
	if err != nil || len(some) != 2 || some[0].Name != Plain {
		t.Errorf("two chosen: got %v, %v", caseNames(some), err)
	}
	if _, err := Choose([]string{"nobody"}); err == nil {
		t.Error("a case that is not there was chosen")
	}
}

func TestCasesHaveTheirOwnNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] || c.What == "" {
			t.Errorf("case %q: the name is taken, or nothing says what it is", c.Name)
		}
		seen[c.Name] = true
	}
	for _, n := range append(Against(), limit) {
		if !seen[n] {
			t.Errorf("no case %q to compare with", n)
		}
	}
}

func TestSizesAreNamed(t *testing.T) {
	for z, want := range map[Size]string{{1, 1}: "", {100, 1}: "/tenants=100", {1, 1000}: "/records=1000"} {
		if got := z.suffix(); got != want {
			t.Errorf("%+v: got %q", z, got)
		}
	}
}

// TestTenantsDiffer holds what makes room for a thousand tenants: no two have a
// VSID or an address outside in common, and all addresses are on the network there.
func TestTenantsDiffer(t *testing.T) {
	s := newSite()
	vsids, pool := map[uint32]bool{}, map[netip.Addr]bool{s.external: true, s.internet: true}
	for n := range 1000 {
		x := s.tenant(n)
		if vsids[x.gatewayVSID.Uint32()] || vsids[x.vmVSID.Uint32()] || pool[x.external] || !s.outside.Contains(x.external) {
			t.Fatalf("tenant %d: %+v", n, x)
		}
		vsids[x.gatewayVSID.Uint32()], vsids[x.vmVSID.Uint32()], pool[x.external] = true, true, true
	}
	if !s.subnet.Contains(s.ca) || s.subnet.Overlaps(s.gatewaySubnet) || s.subnet.Masked().Addr().Next() != s.router {
		t.Errorf("the VM's subnet %s does not go with %s, %s and %s", s.subnet, s.ca, s.gatewaySubnet, s.router)
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	today := []v1.Feature{{Name: "dataplane", Path: "go", Reason: "there is no other"}}
	later := []v1.Feature{{Name: "dataplane", Path: "ebpf"}, {Name: "nat-offload", Path: "ebpf"}}
	for _, c := range []struct {
		features []v1.Feature
		ways     []way
		want     string
	}{
		{today, []way{onGo}, ""},
		{today, []way{onEBPF, withoutOffload}, "there is no other"},
		{later, []way{onEBPF, withOffload}, ""},
		{later, []way{onEBPF, withoutOffload}, "path of nat-offload is ebpf"},
		{later[:1], []way{onEBPF, withOffload}, "no feature nat-offload"},
		{later[:1], []way{onEBPF, withoutOffload}, ""},
	} {
		err := notTaken(c.features, c.ways)
		var not *NotThere
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &not) || !strings.Contains(not.Why, c.want)) {
			t.Errorf("%v of %v: got %v, want %q", c.ways, c.features, err, c.want)
		}
	}
}

func TestChosen(t *testing.T) {
	for _, c := range [][3]string{
		{"paInterfaces: [pa0]\npath: auto\nuplinks: []\n", "path: go", "paInterfaces: [pa0]\nuplinks: []\npath: go\n"},
		{"paInterfaces: [pa0]\n", "path: go", "paInterfaces: [pa0]\npath: go\n"},
	} {
		if got := chosen(c[0], c[1]); got != c[2] {
			t.Errorf("%q with %q is %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestIperfResult(t *testing.T) {
	rate, bits, err := iperfResult([]byte(`{"end":{"sum_sent":{"bytes":2000,"bits_per_second":16000},"sum_received":{"bytes":1000,"bits_per_second":8000}}}`))
	if err != nil || rate != 8000 || bits != 8000 {
		t.Errorf("got %v, %v, %v", rate, bits, err)
	}
	for _, bad := range []string{"", `{"error":"unable to connect"}`, `{"end":{}}`} {
		if _, _, err := iperfResult([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a result", bad)
		}
	}
}
