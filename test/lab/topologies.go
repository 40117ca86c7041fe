package lab

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// Default is the lab of the demonstration and of the scenario tests: tenants
// contoso on NVGRE and fabrikam on VXLAN with the same prefixes, the same
// customer addresses and the same MAC addresses, spread over two hosts that
// run gatewayd, each with a second interface on the fabric, and one independent
// host each. Each tenant has two sites behind the Internet, again with the same
// addresses but for those in the Internet itself, and one in the datacenter, on an
// uplink that is not the Internet's.
func Default() Topology {
	return Topology{
		Fabric: twoSubnets(),
		Gateway: &Gateway{
			Machine:    Machine{"gw", netip.MustParsePrefix("192.168.1.1/24")},
			External:   netip.MustParsePrefix("203.0.113.2/24"),
			Internet:   netip.MustParseAddr("203.0.113.1"),
			Service:    netip.MustParseAddr("198.51.100.10"),
			Management: netip.MustParsePrefix("10.99.0.1/24"),
			Manager:    netip.MustParseAddr("10.99.0.2"),
			Uplinks:    []UplinkLink{{"datacenter", Macvlan, "dc0"}, {"servers", Bridge, "br0"}},
		},
		Hosts: []Host{
			{Machine: Machine{"h1", netip.MustParsePrefix("192.168.1.11/24")}, Implementation: Gatewayd, Team: team("192.168.1.21/24")},
			{Machine: Machine{"h2", netip.MustParsePrefix("192.168.2.12/24")}, Implementation: Gatewayd, Team: team("192.168.2.22/24")},
			{Machine: Machine{"h3", netip.MustParsePrefix("192.168.2.13/24")}, Implementation: OpenVSwitch},
			{Machine: Machine{"h4", netip.MustParsePrefix("192.168.2.14/24")}, Implementation: KernelVXLAN},
		},
		Rogue:   &Machine{"rogue", netip.MustParsePrefix("192.168.1.66/24")},
		Tenants: []Tenant{contoso(), fabrikam()},
		VMs: []VM{
			vm("c11", "contoso", 5001, "10.1.1.11", "h1"),
			vm("c12", "contoso", 5001, "10.1.1.12", "h3"),
			vm("c13", "contoso", 5001, "10.1.1.13", "h2"),
			vm("c21", "contoso", 5002, "10.1.2.21", "h3"),
			vm("c22", "contoso", 5002, "10.1.2.22", "h1"),
			vm("f11", "fabrikam", 6001, "10.1.1.11", "h1"),
			vm("f12", "fabrikam", 6001, "10.1.1.12", "h4"),
			vm("f13", "fabrikam", 6001, "10.1.1.13", "h2"),
			vm("f21", "fabrikam", 6002, "10.1.2.21", "h4"),
			vm("f22", "fabrikam", 6002, "10.1.2.22", "h1"),
		},
		Sites: sites(),
	}
}

// Independent is a lab without any part of the product: two Open vSwitch hosts
// and two kernel vxlan hosts, each pair across the fabric's router. It proves
// the judges before they judge.
func Independent() Topology {
	return Topology{
		Fabric: twoSubnets(),
		Hosts: []Host{
			{Machine: Machine{"h3", netip.MustParsePrefix("192.168.2.13/24")}, Implementation: OpenVSwitch},
			{Machine: Machine{"h4", netip.MustParsePrefix("192.168.2.14/24")}, Implementation: KernelVXLAN},
			{Machine: Machine{"h5", netip.MustParsePrefix("192.168.1.15/24")}, Implementation: OpenVSwitch},
			{Machine: Machine{"h6", netip.MustParsePrefix("192.168.1.16/24")}, Implementation: KernelVXLAN},
		},
		Tenants: []Tenant{contoso(), fabrikam()},
		VMs: []VM{
			vm("c11", "contoso", 5001, "10.1.1.11", "h5"),
			vm("c12", "contoso", 5001, "10.1.1.12", "h3"),
			vm("c21", "contoso", 5002, "10.1.2.21", "h3"),
			vm("c22", "contoso", 5002, "10.1.2.22", "h5"),
			vm("f11", "fabrikam", 6001, "10.1.1.11", "h6"),
			vm("f12", "fabrikam", 6001, "10.1.1.12", "h4"),
			vm("f21", "fabrikam", 6002, "10.1.2.21", "h4"),
			vm("f22", "fabrikam", 6002, "10.1.2.22", "h6"),
		},
	}
}

// sites gives each tenant a headquarters, with two ways to the Internet and a
// tunnel by each, a branch, and a network in the datacenter.
func sites() (out []Site) {
	wan := byte(2)
	for _, x := range []struct {
		tenant     string
		hq, branch Speaker
	}{{"contoso", FRR, BIRD}, {"fabrikam", BIRD, GoBGP}} {
		for i, speaker := range []Speaker{x.hq, x.branch} {
			s := Site{
				Name: x.tenant[:1] + []string{"hq", "br"}[i], Tenant: x.tenant, Speaker: speaker, ASN: uint32(65101 + i),
				LAN:  netip.MustParsePrefix(fmt.Sprintf("172.16.%d.1/24", 1+i)),
				LAN6: netip.MustParsePrefix(fmt.Sprintf("fd00:16:%d::1/64", 1+i)),
			}
			for n := range 2 - i {
				k := 1 + 2*i + n // 1 and 2 to the headquarters, 3 to the branch
				s.Tunnels = append(s.Tunnels, SiteTunnel{
					WAN:     netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, wan}), 30),
					Inside:  netip.MustParsePrefix(fmt.Sprintf("169.254.%d.2/30", k)),
					Inside6: netip.MustParsePrefix(fmt.Sprintf("fd00:fe:%d::2/64", k)),
				})
				wan += 4
			}
			out = append(out, s)
		}
	}
	for _, x := range []struct {
		name, tenant, uplink string
		speaker              Speaker
	}{{"cdc", "contoso", "servers", FRR}, {"fdc", "fabrikam", "datacenter", BIRD}} {
		out = append(out, Site{
			Name: x.name, Tenant: x.tenant, Speaker: x.speaker, ASN: 65200,
			LAN: netip.MustParsePrefix("10.60.1.1/24"), LAN6: netip.MustParsePrefix("fd00:60:1::1/64"),
			Link: &SiteLink{Uplink: x.uplink, Router: netip.MustParsePrefix("10.40.0.1/24"), Gateway: netip.MustParseAddr("10.40.0.10")},
		})
	}
	return out
}

func twoSubnets() []PASubnet {
	return []PASubnet{
		{"a", netip.MustParsePrefix("192.168.1.254/24")},
		{"b", netip.MustParsePrefix("192.168.2.254/24")},
	}
}

func team(addresses ...string) (out []netip.Prefix) {
	for _, a := range addresses {
		out = append(out, netip.MustParsePrefix(a))
	}
	return out
}

func contoso() Tenant {
	return tenant("contoso", hnv.NVGRE, 5000, "203.0.113.10")
}

func fabrikam() Tenant {
	return tenant("fabrikam", hnv.VXLAN, 6000, "203.0.113.20")
}

// tenant gives every tenant the same prefixes: only the VSIDs differ.
func tenant(name string, e hnv.Encap, base uint32, external string) Tenant {
	rdid, err := hnv.ParseRDID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", base))
	if err != nil {
		panic(err)
	}
	return Tenant{
		Name: name, RDID: rdid, Encap: e,
		Subnets: []Subnet{
			{VSID: vsid(base), Prefix: netip.MustParsePrefix("10.254.254.0/29")},
			{vsid(base + 1), netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("fd00:1:1::/64")},
			{vsid(base + 2), netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1:2::/64")},
		},
		GatewayVSID: vsid(base),
		GatewayCA:   netip.MustParseAddr("10.254.254.2"),
		External:    netip.MustParseAddr(external),
	}
}

// vm derives the MAC address and the IPv6 address from the CA, so that VMs of
// different tenants with the same CA have the same of these too: 10.1.2.21 is
// fd00:1:2::21 and 00:15:5d:01:02:15.
func vm(name, tenant string, v uint32, ca, host string) VM {
	a := netip.MustParseAddr(ca)
	b := a.As4()
	mac, err := hnv.MACFrom([6]byte{0x00, 0x15, 0x5d, b[1], b[2], b[3]})
	if err != nil {
		panic(err)
	}
	ca6 := netip.MustParseAddr(fmt.Sprintf("fd00:%d:%d::%d", b[1], b[2], b[3]))
	return VM{Name: name, Tenant: tenant, VSID: vsid(v), CA: a, CA6: ca6, MAC: mac, Host: host}
}

func vsid(n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	if err != nil {
		panic(err)
	}
	return v
}
