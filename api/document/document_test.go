package document

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

const example = `# two tenants with the same addresses
apiVersion: v1
providerAddresses:
- address: 192.168.1.1/24
  interface: eth1
tenants:
- name: contoso
  encap: nvgre
  subnets:
  - {vsid: 5000, prefixes: [10.254.254.0/29]}
  - vsid: 5001
    prefixes: [10.1.1.0/24@10.1.1.254, "fd00:1::/64"]
    acl: web
    learning: {}
    multicastGroup: 239.1.1.1
    dhcp: 10.1.1.5
  qos: {inKbps: 18446744073709551615, dscp: 46}
  stormPPS: 50
  gateway:
    vsid: 5000
    uplink: internet
    nat:
      pool: [203.0.113.10, 203.0.113.11:20000-29999]
lookupRecords:
- {vsid: 5001, ca: 10.1.1.11, mac: 00:15:5d:00:00:01, pa: 192.168.1.10, vmName: SQL}
- {vsid: 5001, ca: fd00:1::11, mac: 001540000001, pa: 192.168.1.10, useVMMAC: true}
---
tenants:
- name: 123
  encap: vxlan
  subnets: [{vsid: 6001, prefixes: [10.1.1.0/24]}]
customerRoutes:
- vsid: 5000
  prefix: 0.0.0.0/0
  nextHop: 10.254.254.2
natMappings:
- tenant: contoso
  proto: tcp
  external: 203.0.113.10:443
  internal: 10.1.1.11:443
ports: # none yet
acls:
- tenant: contoso
  name: web
  rules:
  - {priority: 100, direction: inbound, action: allow, proto: 6, src: ["fd00:1::/64"], dstPorts: [80, 8000-8999]}
- tenant: contoso
  name: closed
  rules: []
`

func TestParse(t *testing.T) {
	d, err := Parse(Source{"x.yaml", []byte(example)})
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Document{
		APIVersion:        "v1",
		ProviderAddresses: []v1.ProviderAddress{{Address: "192.168.1.1/24", Interface: "eth1"}},
		Tenants: []v1.Tenant{
			{
				Name: "contoso", Encap: "nvgre",
				Subnets: []v1.Subnet{
					{VSID: 5000, Prefixes: []string{"10.254.254.0/29"}},
					{VSID: 5001, Prefixes: []string{"10.1.1.0/24@10.1.1.254", "fd00:1::/64"}, ACL: "web", Learning: &v1.Learning{}, MulticastGroup: "239.1.1.1", DHCP: "10.1.1.5"},
				},
				QoS: &v1.QoS{InKbps: 1<<64 - 1, DSCP: "46"}, StormPPS: 50,
				Gateway: &v1.Gateway{VSID: 5000, Uplink: "internet", NAT: &v1.NAT{Pool: []string{"203.0.113.10", "203.0.113.11:20000-29999"}}},
			},
			{Name: "123", Encap: "vxlan", Subnets: []v1.Subnet{{VSID: 6001, Prefixes: []string{"10.1.1.0/24"}}}},
		},
		ACLs: []v1.ACL{
			{Tenant: "contoso", Name: "web", Rules: []v1.ACLRule{
				{Priority: 100, Direction: "inbound", Action: "allow", Proto: "6", Src: []string{"fd00:1::/64"}, DstPorts: []string{"80", "8000-8999"}},
			}},
			{Tenant: "contoso", Name: "closed"},
		},
		LookupRecords: []v1.LookupRecord{
			{VSID: 5001, CA: "10.1.1.11", MAC: "00:15:5d:00:00:01", PA: "192.168.1.10", VMName: "SQL"},
			{VSID: 5001, CA: "fd00:1::11", MAC: "001540000001", PA: "192.168.1.10", UseVMMAC: true},
		},
		CustomerRoutes: []v1.CustomerRoute{{VSID: 5000, Prefix: "0.0.0.0/0", NextHop: "10.254.254.2"}},
		NATMappings:    []v1.NATMapping{{Tenant: "contoso", Proto: "tcp", External: "203.0.113.10:443", Internal: "10.1.1.11:443"}},
	}
	if diff := cmp.Diff(want, d.Document); diff != "" {
		t.Error(diff)
	}
	for location, place := range map[string]string{
		"body.tenants[0]":                        "x.yaml:7:3",
		"body.tenants[0].encap":                  "x.yaml:8:10",
		"body.tenants[0].subnets[1].prefixes[1]": "x.yaml:12:40",
		"body.tenants[0].rdid":                   "x.yaml:7:3",
		"body.tenants[1].encap":                  "x.yaml:30:10",
		"body.acls[0].rules[0].dstPorts[1]":      "x.yaml:46:103",
		"body.lookupRecords[1].mac":              "x.yaml:26:37",
		"body.lookupRecords[1].pa.nonsense":      "x.yaml:26:55",
	} {
		if p, ok := d.Place(location); !ok || p.String() != place {
			t.Errorf("%s is at %v, want %s", location, p, place)
		}
	}
	if p, ok := d.Place("query.dryRun"); ok {
		t.Errorf("a place for what is not in the document: %v", p)
	}
}

func TestParseTellsAllErrorsAtOnce(t *testing.T) {
	const bad = `apiVersion: v2
tenants:
- name: contoso
  encapsulation: nvgre
  subnets:
    vsid: 5001
  gateway:
- name: true
  name: again
  encap: [nvgre]
  subnets:
  - vsid: "5001"
    prefixes: [10.1.1.0/24, null]
  - vsid: -1
    prefixes: &p [10.1.1.0/24]
  - vsid: 99999999999
    prefixes: *p
  - 5003
  - {vsid: 5004, prefixes: [fd00:1:2::/64]}
colour: red
lookupRecords:
- {vsid: 0x1389, useVMMAC: maybe, ca: !!str 10.1.1.11}
`
	want := []string{
		`x.yaml:4:3: unknown field "encapsulation": a tenant has name, rdid, encap, subnets, gateway, qos, stormPPS`,
		`x.yaml:6:5: subnets must be a list, not a mapping: begin each entry with a dash`,
		`x.yaml:7:11: gateway is empty: say what is in it, or leave it out`,
		`x.yaml:8:9: name must be a text, not true (put it in quotes to mean the text)`,
		`x.yaml:9:3: field "name" is given twice: it is in line 8 already`,
		`x.yaml:10:10: encap must be a text, not a list`,
		`x.yaml:12:11: vsid must be a whole number, not the text "5001"`,
		`x.yaml:13:29: an entry of the list is empty`,
		`x.yaml:14:11: vsid must be a whole decimal number from 0 to 4294967295, not -1`,
		`x.yaml:15:15: anchors and aliases are not taken: write out what is meant`,
		`x.yaml:16:11: vsid must be a whole decimal number from 0 to 4294967295, not 99999999999`,
		`x.yaml:17:15: anchors and aliases are not taken: write out what is meant`,
		`x.yaml:18:5: here must be a subnet, with vsid, prefixes, acl, learning, multicastGroup, dhcp, not 5003`,
		`x.yaml:19:29: prefixes[0] must be a text, not a mapping: put text with colons in quotes`,
		`x.yaml:20:1: unknown field "colour": a document has apiVersion, providerAddresses, providerRoutes, tenants, acls, ports, lookupRecords, customerRoutes, natMappings, attachments, s2sConnections, bgpRouters, bgpPeers`,
		`x.yaml:22:10: vsid must be a whole decimal number from 0 to 4294967295, not 0x1389`,
		`x.yaml:22:28: useVMMAC must be true or false, not the text "maybe"`,
		`x.yaml:22:39: tags are not taken: leave it out`,
		`x.yaml:1:13: apiVersion "v2" is unknown: write v1, or leave it out`,
	}
	_, err := Parse(Source{"x.yaml", []byte(bad)})
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestMalformed(t *testing.T) {
	for in, want := range map[string]string{
		"tenants: [":                 "x.yaml:1:10: malformed YAML",
		"tenants:\n- name: a\n b: c": "x.yaml:3:2: malformed YAML",
		"just words":                 "x.yaml:1:1: here must be a document",
		"- 1":                        "x.yaml:1:1: here must be a document",
		"a\t: b\n\t- c":              "malformed YAML",
		strings.Repeat("[", 1000):    "nested",
	} {
		_, err := Parse(Source{"x.yaml", []byte(in)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want one with %q", in, err, want)
		}
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "---\n---\n", "{}"} {
		if d, err := Parse(Source{"x.yaml", []byte(empty)}); err != nil || d.Len() != 0 {
			t.Errorf("%q: %v, %v", empty, d, err)
		}
	}
}

func TestSeveralFiles(t *testing.T) {
	a := Source{"a.yaml", []byte("ports:\n- {interface: vm1, vsid: 5001, mac: 00:15:5d:00:00:01}\n")}
	b := Source{"b.yaml", []byte("ports:\n- interface: vm2\n  vsid: 5001\n")}
	d, err := Parse(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Ports) != 2 {
		t.Fatalf("%d ports", len(d.Ports))
	}
	if p, _ := d.Place("body.ports[1].vsid"); p.String() != "b.yaml:3:9" {
		t.Errorf("place %v", p)
	}
}

func TestMarshalIsReadAgain(t *testing.T) {
	d, err := Parse(Source{"x.yaml", []byte(example)})
	if err != nil {
		t.Fatal(err)
	}
	d.LookupRecords[0].VMName = "a: b # c\n\"d\" 'é' - true"
	d.LookupRecords[1].Context = "true"
	b, err := Marshal(d.Document)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(Source{"y.yaml", b})
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if diff := cmp.Diff(d.Document, again.Document); diff != "" {
		t.Errorf("%s\n%s", diff, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("tenants: [{name: &a x, encap: *a}]"))
	f.Add([]byte("a: !!binary |\n  x\n? {b: c}\n: d"))
	if b, err := os.ReadFile("../../docs/guide/configuration.md"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(Source{"x", b})
		if err != nil {
			return
		}
		out, err := Marshal(d.Document)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(Source{"y", out})
		if err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		if diff := cmp.Diff(d.Document, again.Document); diff != "" {
			t.Errorf("%s\n%q", diff, out)
		}
	})
}
