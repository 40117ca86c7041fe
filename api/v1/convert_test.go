package v1

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestThereAndBack(t *testing.T) {
	tenant := hnv.Tenant{
		Name: must(hnv.ParseName("contoso")), RDID: hnv.NewRDID(), Encap: hnv.NVGRE,
		Subnets: []hnv.Subnet{
			{VSID: must(hnv.NewVSID(5000)), Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.254.254.0/29"), Gateway: netip.MustParseAddr("10.254.254.1")}}},
			{VSID: must(hnv.NewVSID(5001)), Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.1.1.0/24")}, {Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::99")}}, ACL: must(hnv.ParseName("web")),
				Learning: &hnv.Learning{MaxPerPort: 3, AgeSeconds: 60}, MulticastGroup: netip.MustParseAddr("239.1.1.1"), DHCP: netip.MustParseAddr("10.1.1.5")},
		},
		QoS: &hnv.QoS{InKbps: 1000, OutKbps: 2000, DSCP: hnv.CopyDSCP}, StormPPS: 50,
		Gateway: &hnv.Gateway{
			VSID: must(hnv.NewVSID(5000)), CAs: []netip.Addr{netip.MustParseAddr("10.254.254.2")}, Uplink: "internet",
			NAT: &hnv.NAT{Pool: []hnv.ExternalRange{must(hnv.ParseExternalRange("203.0.113.10")), must(hnv.ParseExternalRange("[2001:db8::1]:100-200"))}, ConnectionLimit: 5},
		},
	}
	if got, err := NewTenant(tenant).Object(); err != nil || !reflect.DeepEqual(got, tenant) {
		t.Errorf("%+v, %v", got, err)
	}
	record := hnv.Record{
		VSID: must(hnv.NewVSID(5001)), CA: netip.MustParseAddr("10.1.1.11"), MAC: must(hnv.ParseMAC("00155D000001")), PA: netip.MustParseAddr("192.168.1.10"),
		Rule: hnv.RuleRewrite, Type: hnv.GatewayWildcard, VMName: "a", Context: "b", UseVMMAC: true, TeamPAs: []netip.Addr{netip.MustParseAddr("192.168.1.11")},
	}
	if got, err := NewLookupRecord(record, "contoso", OriginConfigured).Object(); err != nil || !got.Equal(record) {
		t.Errorf("%+v, %v", got, err)
	}
	record.CA, record.Type = netip.Addr{}, hnv.L2Only
	if got, err := NewLookupRecord(record, "", "").Object(); err != nil || !got.Equal(record) {
		t.Errorf("%+v, %v", got, err)
	}
	route := hnv.CustomerRoute{RDID: tenant.RDID, VSID: record.VSID, Prefix: netip.MustParsePrefix("10.77.0.0/16"), NextHop: netip.MustParseAddr("10.1.1.12"), Metric: 3}
	if got, err := NewCustomerRoute(route, "contoso").Object(); err != nil || got != route {
		t.Errorf("%+v, %v", got, err)
	}
	pa := hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.1/24"), Interface: "eth1", VLAN: 7}
	if got, err := NewProviderAddress(pa).Object(); err != nil || got != pa {
		t.Errorf("%+v, %v", got, err)
	}
	pr := hnv.ProviderRoute{Prefix: netip.MustParsePrefix("192.168.2.0/24"), NextHop: netip.MustParseAddr("192.168.1.254"), Metric: 9}
	if got, err := NewProviderRoute(pr).Object(); err != nil || got != pr {
		t.Errorf("%+v, %v", got, err)
	}
	acl := hnv.ACL{Tenant: tenant.Name, Name: must(hnv.ParseName("web")), Rules: []hnv.ACLRule{
		{
			Priority: 100, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", Src: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}, Dst: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")},
			SrcPorts: []hnv.PortRange{{Lo: 1024, Hi: 65535}}, DstPorts: []hnv.PortRange{{Lo: 80, Hi: 80}, {Lo: 8000, Hi: 8999}},
		},
		{Priority: 200, Direction: hnv.Outbound, Action: hnv.Deny, Proto: "any"},
	}}
	if got, err := NewACL(acl).Object(); err != nil || !reflect.DeepEqual(got, acl) {
		t.Errorf("%+v, %v", got, err)
	}
	port := hnv.Port{Interface: "vm1", VSID: record.VSID, MAC: record.MAC, ACL: acl.Name, InKbps: 5, OutKbps: 6}
	if got, err := NewPort(port).Object(); err != nil || got != port {
		t.Errorf("%+v, %v", got, err)
	}
	mapping := hnv.NATMapping{Tenant: tenant.Name, Proto: hnv.UDP, External: netip.MustParseAddrPort("203.0.113.10:53"), Internal: netip.MustParseAddrPort("10.1.1.11:53")}
	if got, err := NewNATMapping(mapping).Object(); err != nil || got != mapping {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is missing or malformed is named by its field, all of it at once, and is
// of kind invalid.
func TestFieldErrors(t *testing.T) {
	objects := map[string]func() error{
		"name encap subnets[0].vsid subnets[0].prefixes gateway.vsid gateway.uplink gateway.cas[0] gateway.nat.pool[0] rdid": func() error {
			_, err := Tenant{RDID: "x", Subnets: []Subnet{{}}, Gateway: &Gateway{CAs: []string{""}, NAT: &NAT{Pool: []string{"x"}}}}.Object()
			return err
		},
		"subnets[0].prefixes[0] subnets[0].prefixes[1] subnets[0].prefixes[2]": func() error {
			_, err := Tenant{Name: "a", Encap: "nvgre", Subnets: []Subnet{{VSID: 5000, Prefixes: []string{"", "10.0.0.0", "10.0.0.0/24@x"}}}}.Object()
			return err
		},
		"vsid mac pa ca rule type origin rdid": func() error {
			_, err := LookupRecord{VSID: 4095, Rule: "x", Type: "x", Origin: "x", RDID: "x"}.Object()
			return err
		},
		"origin": func() error {
			_, err := LookupRecord{VSID: 5000, MAC: "00155D000001", PA: "10.0.0.1", CA: "10.0.0.2", Origin: OriginGateway}.Object()
			return err
		},
		"subnets[0].acl subnets[0].multicastGroup subnets[0].dhcp qos.dscp": func() error {
			s := Subnet{VSID: 5000, Prefixes: []string{"10.0.0.0/24"}, ACL: "A b", MulticastGroup: "x", DHCP: "10.0.0.300"}
			_, err := Tenant{Name: "a", Encap: "nvgre", Subnets: []Subnet{s}, QoS: &QoS{DSCP: "64"}}.Object()
			return err
		},
		"tenant name rules[0].priority rules[0].direction rules[0].action rules[1].direction rules[1].action rules[1].proto rules[1].src[0] rules[1].dst[1] rules[1].srcPorts[0] rules[1].dstPorts[0] rules[1].dstPorts[1]": func() error {
			_, err := ACL{Rules: []ACLRule{{}, {
				Priority: 7, Direction: "in", Action: "drop", Proto: "ftp", Src: []string{"10.0.0.1"}, Dst: []string{"10.0.0.0/24", ""},
				SrcPorts: []string{"http"}, DstPorts: []string{"9-8", "65536"},
			}}}.Object()
			return err
		},
		"acl": func() error {
			_, err := Port{Interface: "vm1", VSID: 5000, MAC: "00155D000001", ACL: "-"}.Object()
			return err
		},
		"vsid prefix nextHop rdid":       func() error { _, err := CustomerRoute{RDID: "x", NextHop: "x"}.Object(); return err },
		"address interface":              func() error { _, err := ProviderAddress{}.Object(); return err },
		"prefix nextHop":                 func() error { _, err := ProviderRoute{Prefix: "1.2.3.4/99"}.Object(); return err },
		"interface vsid mac":             func() error { _, err := Port{}.Object(); return err },
		"tenant proto external internal": func() error { _, err := NATMapping{Internal: "x"}.Object(); return err },
	}
	for want, object := range objects {
		joined, ok := object().(interface{ Unwrap() []error })
		if !ok {
			t.Errorf("%s: no errors", want)
			continue
		}
		missing := map[string]bool{}
		for _, f := range strings.Fields(want) {
			missing[f] = true
		}
		for _, err := range joined.Unwrap() {
			var f *FieldError
			if !errors.As(err, &f) || !errors.Is(err, hnv.ErrInvalid) {
				t.Errorf("%v is no field's", err)
				continue
			}
			if !missing[f.Field] {
				t.Errorf("%s: an error for %s: %v", want, f.Field, err)
			}
			delete(missing, f.Field)
		}
		if len(missing) > 0 {
			t.Errorf("no error for %v", missing)
		}
	}
}
