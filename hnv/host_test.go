package hnv

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func keys[T Object](in []T) (out []string) {
	for _, o := range in {
		out = append(out, string(o.Kind())+" "+o.Key())
	}
	return out
}

// Each of two tenants with the same addresses and names shows its own.
func TestSubnetRecords(t *testing.T) {
	f := wide(t)
	c, _ := f.Tenant(must(ParseName("contoso")))
	c = sub(sub(c, 0, func(s *Subnet) { s.DHCP = addr("10.1.1.11") }), 1, func(s *Subnet) { s.DHCP = addr("10.1.2.9") })
	b, _ := f.Tenant(must(ParseName("fabrikam")))
	b = sub(b, 0, func(s *Subnet) { s.DHCP = addr("10.1.1.9") })
	if _, err := f.Apply([]Change{{Put: c}, {Put: b}}); err != nil {
		t.Fatal(err)
	}
	show := func(name string) (out []string) {
		for _, r := range f.SubnetRecords(must(ParseName(name))) {
			out = append(out, fmt.Sprint(r.Key(), " ", r.VMName, " ", r.MAC, " ", r.PA, " ", r.Rule))
		}
		return out
	}
	if got, want := show("contoso"), []string{
		"5000/10.254.254.1 GW 02:68:6e:00:00:01 invalid IP nvgre",
		"5001/10.1.1.1 GW 02:68:6e:00:00:01 invalid IP nvgre",
		"5001/10.1.1.11 DHCP 00:15:5d:00:00:01 192.168.1.11 nvgre",
		"5002/10.1.2.1 GW 02:68:6e:00:00:01 invalid IP nvgre",
		"5002/10.1.2.9 DHCP 02:68:6e:00:00:01 invalid IP nvgre",
	}; !slices.Equal(got, want) {
		t.Errorf("contoso shows\n%q, want\n%q", got, want)
	}
	if got, want := show("fabrikam")[2], "6001/10.1.1.9 DHCP 02:68:6e:00:00:01 invalid IP nvgre"; got != want {
		t.Errorf("a DHCP server without a record shows as %s, want %s", got, want)
	}
	if got := f.SubnetRecords(must(ParseName("northwind"))); got != nil {
		t.Errorf("no tenant shows %v", got)
	}
}

// A host gets what its VMs' tenants have, and nothing of anybody else.
func TestForHost(t *testing.T) {
	f := wide(t)
	c, _ := f.Tenant(must(ParseName("contoso")))
	b, _ := f.Tenant(must(ParseName("fabrikam")))
	if _, err := f.Apply([]Change{
		{Put: CustomerRoute{RDID: c.RDID, VSID: vsid(5001), Prefix: prefix("172.16.0.0/12"), NextHop: addr("10.1.1.11")}},
		{Put: CustomerRoute{RDID: b.RDID, VSID: vsid(6001), Prefix: prefix("172.16.0.0/12"), NextHop: addr("10.1.1.11")}},
		{Put: at(record(6002, "10.1.2.11", "192.168.2.14"), team("192.168.1.33"))},
		{Put: record(5002, "10.1.2.11", "192.168.2.15")},
	}); err != nil {
		t.Fatal(err)
	}
	contoso := []string{"tenant contoso", "acl contoso/web", "record 5001/10.1.1.11", "record 5002/10.1.2.11", "customer-route 5001/172.16.0.0/12/10.1.1.11"}
	fabrikam := []string{"tenant fabrikam", "acl fabrikam/web", "record 6001/10.1.1.11", "record 6002/10.1.2.11", "customer-route 6001/172.16.0.0/12/10.1.1.11"}
	for _, c := range []struct {
		pas  []string
		want []string
	}{
		{[]string{"192.168.1.11"}, contoso},
		{[]string{"192.168.2.14"}, fabrikam},
		{[]string{"192.168.1.33"}, fabrikam}, // by a member of its team
		{[]string{"192.168.1.99"}, nil},
		{nil, nil},
		{[]string{"192.168.1.77", "192.168.2.15"}, contoso},
	} {
		var pas []netip.Addr
		for _, p := range c.pas {
			pas = append(pas, addr(p))
		}
		got := f.ForHost(pas)
		if !slices.Equal(keys(got), c.want) {
			t.Errorf("host %v gets %q, want %q", pas, keys(got), c.want)
		}
		for _, o := range got {
			if x, ok := o.(Tenant); ok && x.Gateway != nil {
				t.Errorf("host %v is told of the gateway of %s", pas, x.Name)
			}
		}
	}
	both := f.ForHost([]netip.Addr{addr("192.168.1.11"), addr("192.168.2.14")})
	if len(both) != len(contoso)+len(fabrikam) || both[1].Kind() != KindTenant || both[2].Kind() != KindACL {
		t.Errorf("a host of both gets %q", keys(both))
	}
	// What it gets can be put into its own store.
	host := NewFabric(Site{PAInterfaces: []string{"pa0"}})
	cs := []Change{{Put: ProviderAddress{Addr: prefix("192.168.1.11/16"), Interface: "pa0"}}}
	for _, o := range both {
		cs = append(cs, Change{Put: o})
	}
	if _, err := host.Apply(cs); err != nil {
		t.Errorf("the host refuses what it was given: %v", err)
	}
	if got := host.ACLs(); len(got) != 2 || got[0].Rules[0].Priority != 5001 || got[1].Rules[0].Priority != 6001 {
		t.Errorf("the host has ACLs %v", got)
	}
}

func TestHere(t *testing.T) {
	f := wide(t)
	hosted := func(name string) Name {
		x, _ := f.Tenant(must(ParseName(name)))
		x.Gateway = nil
		x.Subnets = slices.Clone(x.Subnets)
		x.Subnets[0].ACL = Name{}
		cs, _ := f.Cascade(x.Name)
		if _, err := f.Apply(cs); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Apply([]Change{{Put: x}}); err != nil {
			t.Fatal(err)
		}
		return x.Name
	}
	n := must(ParseName("contoso"))
	if !f.Here(n) {
		t.Error("the gateway of contoso has nothing to do with it")
	}
	n = hosted("contoso")
	want := func(here bool, what string, cs ...Change) {
		t.Helper()
		if len(cs) > 0 {
			if _, err := f.Apply(cs); err != nil {
				t.Fatal(err)
			}
		}
		if f.Here(n) != here {
			t.Errorf("%s: here is %v", what, !here)
		}
	}
	own := at(record(5001, "10.1.1.60", "192.168.1.1"), mac(60))
	port := Port{Interface: "tap9", VSID: vsid(5002), MAC: stationMAC(9)}
	want(false, "no port, no record")
	want(false, "a VM of it elsewhere, and one at our PA that is not plugged in", Change{Put: record(5001, "10.1.1.11", "192.168.1.11")}, Change{Put: own})
	want(true, "a port", Change{Put: port})
	want(false, "the port is gone", Change{Delete: port})
	want(true, "an L2Only record at our PA", Change{Put: at(own, as(L2Only))})
	want(false, "it is gone", Change{Delete: at(own, as(L2Only))})
	want(false, "an L2Only record elsewhere", Change{Put: at(record(5001, "10.1.1.60", "192.168.1.44"), mac(61), as(L2Only))})
	hosted("fabrikam")
	rewritten := at(record(5001, "10.1.1.50", "192.168.1.2"), mac(50), by(RuleRewrite))
	want(false, "rewriting elsewhere", Change{Put: rewritten})
	want(true, "rewriting at a PA of ours", Change{Put: ProviderAddress{Addr: prefix("192.168.1.2/24"), Interface: "pa0"}})
	if f.Here(must(ParseName("fabrikam"))) || f.Here(must(ParseName("northwind"))) {
		t.Error("a tenant without any part here is here")
	}
	derived(t, f)
}
