package offload

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// The tenants of the literature's example, as package dataplane's tests have them,
// with hosts on the fabric by either family:
//
//	base    gateway subnet  10.254.254.0/29  compartment .2 on the gateway
//	base+1  10.1.1.0/24     .11 on host 1, .12 on host 2, .13 on host 1, .14 and .15 here
//	base+2  10.1.2.0/24     .11 on host 2, .12 here
type example struct {
	name  string
	base  uint32
	encap hnv.Encap
	six   bool // the fabric's family
	here  bool // VMs are on this machine too
}

var examples = []example{
	{"contoso", 5000, hnv.NVGRE, false, true}, {"fabrikam", 6000, hnv.VXLAN, false, true},
	{"adatum", 7000, hnv.NVGRE, true, true}, {"tailspin", 8000, hnv.VXLAN, true, true},
}

// paOf gives a host's PA: 0 is this machine.
func (e example) paOf(host int) netip.Addr {
	if e.six {
		return pa6(1 + 9*host)
	}
	return netip.MustParseAddr([]string{"192.168.1.1", "192.168.1.10", "192.168.2.10"}[host])
}

// vm is a station of a tenant.
type vm struct {
	vsid   uint32
	mac    hnv.MAC
	four   string
	six    string
	host   int
	kind   dataplane.PortKind
	behind bool // also what lies outside
}

func (e example) vms(t testing.TB) []vm {
	all := []vm{
		{e.base, hnv.CompartmentMAC(vsidOf(t, e.base)), "10.254.254.2", "fd00:fe::2", 0, dataplane.PortCompartment, true},
		{e.base + 1, macOf(t, 0x11), "10.1.1.11", "fd00:1::11", 1, dataplane.PortVM, false},
		{e.base + 1, macOf(t, 0x12), "10.1.1.12", "fd00:1::12", 2, dataplane.PortVM, false},
		{e.base + 1, macOf(t, 0x13), "10.1.1.13", "fd00:1::13", 1, dataplane.PortVM, false},
		{e.base + 2, macOf(t, 0x21), "10.1.2.11", "fd00:2::11", 2, dataplane.PortVM, false},
	}
	if e.here {
		all = append(all,
			vm{e.base + 1, macOf(t, 0x14), "10.1.1.14", "fd00:1::14", 0, dataplane.PortVM, false},
			vm{e.base + 1, macOf(t, 0x15), "10.1.1.15", "fd00:1::15", 0, dataplane.PortVM, false},
			vm{e.base + 2, macOf(t, 0x22), "10.1.2.12", "fd00:2::12", 0, dataplane.PortVM, false})
	}
	return all
}

func (e example) tenant(t testing.TB) dataplane.Tenant {
	t.Helper()
	name, err := hnv.ParseName(e.name)
	if err != nil {
		t.Fatal(err)
	}
	c := dataplane.Tenant{Name: name, RDID: hnv.NewRDID(), Encap: e.encap}
	for i, s := range [][2]string{{"10.254.254.0/29", "fd00:fe::/64"}, {"10.1.1.0/24", "fd00:1::/64"}, {"10.1.2.0/24", "fd00:2::/64"}} {
		sub := hnv.Subnet{VSID: vsidOf(t, e.base+uint32(i))}
		for _, p := range s {
			pfx := netip.MustParsePrefix(p)
			sub.Prefixes = append(sub.Prefixes, hnv.SubnetPrefix{Prefix: pfx, Gateway: pfx.Addr().Next()})
		}
		c.Subnets = append(c.Subnets, sub)
	}
	for _, r := range [][2]string{{"0.0.0.0/0", "10.254.254.2"}, {"::/0", "fd00:fe::2"}} {
		c.Routes = append(c.Routes, hnv.CustomerRoute{RDID: c.RDID, VSID: vsidOf(t, e.base), Prefix: netip.MustParsePrefix(r[0]), NextHop: netip.MustParseAddr(r[1])})
	}
	for _, v := range e.vms(t) {
		for _, ca := range []string{v.four, v.six} {
			c.Records = append(c.Records, hnv.Record{
				VSID: vsidOf(t, v.vsid), CA: netip.MustParseAddr(ca), MAC: v.mac, PA: e.paOf(v.host), Rule: hnv.Rule(e.encap), Type: hnv.Static,
			})
		}
	}
	return c
}

func (e example) portName(v vm) string { return fmt.Sprintf("%s-%s", e.name, v.four) }

const mtuHere = 1400 // of the ports: less than any tunnel takes at 1500
