package v1

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/hnv/peering"
)

func ptr[T any](v T) *T { return &v }

// stored gives an object as it comes out of the store.
func stored[T any](t *testing.T, o T) T {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Objects with everything in them come back as they went, and so do those with
// nothing.
func TestSitesComeBack(t *testing.T) {
	const key = "pOCSkrZRwniL0GNBGdC5ZlmNNmPb8zsUHgLiaD3h+To="
	for _, a := range []Attachment{
		{Tenant: "contoso", Name: "dc", Uplink: "physical", VLAN: 120, Addresses: []string{"172.20.0.2/24", "fd00:20::2/64"}, MTU: 9000, ReversePath: "loose",
			Routes: []AttachmentRoute{{Prefix: "172.16.0.0/12", NextHop: "172.20.0.1", Metric: 5}, {Prefix: "fd00:16::/32"}}},
		{Tenant: "contoso", Name: "dc", Uplink: "internet", Addresses: []string{"203.0.113.50/32"}},
	} {
		o, err := a.Object()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, NewAttachment(stored(t, o))); diff != "" {
			t.Error(diff)
		}
	}
	for _, c := range []S2SConnection{
		{Tenant: "contoso", Name: "hq", Protocol: "wireguard", PublicKey: key, LocalAddress: "203.0.113.10", ListenPort: 51820, Addresses: []string{"169.254.10.1/30"},
			MTU: 1400, InboundKbps: 100, OutboundKbps: 200, DSCP: 46, LocalMaps: []PrefixMap{{"10.1.1.0/24", "100.64.1.0/24"}}, RemoteMaps: []PrefixMap{{"10.1.1.0/24", "100.64.2.0/24"}},
			Peers: []S2SPeer{{Name: "edge", PublicKey: key, Endpoint: "198.51.100.7:51820", Prefixes: []string{"172.16.0.0/16"}, FromBGP: true, Keepalive: 25, Priority: 10, Weight: 3,
				Probe: &S2SProbe{Target: "172.16.0.1", IntervalMS: 50, Fall: 3, Rise: 9}}, {Name: "van", PublicKey: key}}},
		{Tenant: "contoso", Name: "hq", PublicKey: key},
	} {
		o, err := c.Object()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, NewS2SConnection(stored(t, o))); diff != "" {
			t.Error(diff)
		}
	}
	for _, r := range []BGPRouter{
		{Tenant: "contoso", ASN: 4200000000, RouterID: "203.0.113.10", ECMP: 4, NoTenantPrefixes: true, NoMappedAddresses: true,
			Networks:   []BGPNetwork{{Prefix: "10.9.0.0/16", MED: ptr(uint32(0)), LocalPref: ptr(uint32(5)), Communities: []string{"65001:1", "no-export"}, LargeCommunities: []string{"1:2:3"}}},
			Aggregates: []BGPAggregate{{Prefix: "10.0.0.0/8", SummaryOnly: true, MED: ptr(uint32(7))}}},
		{Tenant: "contoso", ASN: 64512},
	} {
		o, err := r.Object()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, NewBGPRouter(stored(t, o))); diff != "" {
			t.Error(diff)
		}
	}
	policy := &BGPPolicy{Default: "reject", Rules: []BGPRule{
		{Name: "x", Action: "next", Match: &BGPMatch{Prefixes: []string{"10.0.0.0/8", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 16", "fd00::/8 ge 16 le 64"}, ASPath: []string{"^65001_"},
			Communities: []string{"1:2"}, LargeCommunities: []string{"1:2:3"}, NextHops: []string{"10.0.0.1"}, Origin: "learned"},
			Set: &BGPSet{MED: ptr(uint32(0)), LocalPref: ptr(uint32(9)), Prepend: 3, Communities: &BGPCommunityEdit{"replace", []string{}}, LargeCommunities: &BGPCommunityEdit{"add", []string{"1:2:3"}}, NextHop: "10.0.0.1", NextHopSelf: true}},
		{},
	}}
	for _, p := range []BGPPeer{
		{Tenant: "contoso", Name: "Edge.1", Address: "169.254.10.2", ASN: 65001, Local: "169.254.10.1", Port: 1179, Passive: true, Disabled: true, TTLSecurity: 1, MultihopTTL: 2,
			HoldSeconds: 9, KeepaliveSeconds: 3, ConnectRetry: 5, Families: []string{"ipv4", "ipv6"}, BFD: &BGPBFD{IntervalMS: 50, Multiplier: 5}, GracefulRestart: &BGPGracefulRestart{60, 3600, true},
			MaxPrefixes: &BGPMaxPrefixes{IPv4: 10, IPv6: 20}, ReEnableSeconds: 30, ASOverride: true, RemovePrivateAS: "replace", AllowOwnAS: 2, NextHopSelf: true, DefaultOriginate: true, Import: policy, Export: &BGPPolicy{Default: "accept"}},
		{Tenant: "contoso", Name: "all", Prefix: "172.20.0.0/24", Limit: 16, ASN: 65001, BFD: &BGPBFD{}, GracefulRestart: &BGPGracefulRestart{}},
	} {
		o, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, NewBGPPeer(stored(t, o))); diff != "" {
			t.Error(diff)
		}
		again, err := NewBGPPeer(stored(t, o)).Object()
		if err != nil || !cmp.Equal(stored(t, o), again, cmp.AllowUnexported(hnv.Name{}), cmp.Comparer(func(a, b peering.Peer) bool {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return string(x) == string(y)
		})) {
			t.Errorf("%+v became %+v: %v", o, again, err)
		}
	}
}

// A range of prefixes that is taken is written as one that means the same.
func FuzzParseBGPPrefixes(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 16 le 24", "fd00::/8 le 64 ge 16", "10.0.0.0/8 ge 7", "10.0.0.0/8 ge", "0.0.0.0/0 le 0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseBGPPrefixes(s)
		if err != nil {
			if !errors.Is(err, hnv.ErrInvalid) {
				t.Errorf("%q: %v is of no kind", s, err)
			}
			return
		}
		again, err := ParseBGPPrefixes(prefixesText(r))
		if err != nil || again != r {
			t.Errorf("%q is %+v, written %q, which is %+v: %v", s, r, prefixesText(r), again, err)
		}
		if least, most := r.Lengths(); least > most || least < r.Prefix.Bits() {
			t.Errorf("%q matches nothing", s)
		}
	})
}

// Whatever a request says of sites is taken or refused as malformed, and what is
// taken is said again as it was meant.
func FuzzSites(f *testing.F) {
	for _, s := range []string{
		`{"s2sConnections":[{"tenant":"a","name":"b","publicKey":"pOCSkrZRwniL0GNBGdC5ZlmNNmPb8zsUHgLiaD3h+To=","dscp":64,"peers":[{"name":"c","publicKey":"AAAA","endpoint":"[::1]:5","prefixes":["::/0"],"probe":{"intervalMS":4294967295}}]}]}`,
		`{"attachments":[{"tenant":"a","name":"b","uplink":"u","vlan":65535,"addresses":["1.2.3.4/0"],"mtu":65535,"routes":[{"prefix":"::/0","nextHop":"fe80::1%x"}]}]}`,
		`{"bgpRouters":[{"tenant":"a","asn":23456,"ecmp":65535,"networks":[{"prefix":"10.0.0.0/8","communities":["0:0"]}],"aggregates":[{"prefix":"0.0.0.0/0"}]}]}`,
		`{"bgpPeers":[{"tenant":"a","name":"b","address":"1.2.3.4","asn":1,"holdSeconds":4294967295,"families":["ipv6"],"maxPrefixes":{"ipv6":1},"import":{"rules":[{"match":{"prefixes":["1.0.0.0/8 ge 9"],"asPath":["((((("]},"set":{"communities":{"mode":"add","list":[]}}}]}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Document
		if json.Unmarshal(b, &d) != nil {
			return
		}
		refused := func(err error) bool {
			if err != nil && !errors.Is(err, hnv.ErrInvalid) {
				t.Errorf("%v is of no kind", err)
			}
			return err != nil
		}
		for _, a := range d.Attachments {
			if o, err := a.Object(); !refused(err) && !refused(o.Defaulted().Check()) {
				again, err := NewAttachment(o).Object()
				if err != nil || again.Key() != o.Key() {
					t.Errorf("%+v is said as %+v: %v", o, again, err)
				}
			}
		}
		for _, c := range d.S2SConnections {
			if o, err := c.Object(); !refused(err) && !refused(o.Defaulted().Check()) {
				t.Errorf("%+v has no private key and is taken", o)
			}
		}
		for _, r := range d.BGPRouters {
			if o, err := r.Object(); !refused(err) && !refused(o.Check()) {
				if again, err := NewBGPRouter(o).Object(); err != nil || again.ASN != o.ASN || len(again.Networks) != len(o.Networks) {
					t.Errorf("%+v is said as %+v: %v", o, again, err)
				}
			}
		}
		for _, p := range d.BGPPeers {
			if o, err := p.Object(); !refused(err) && !refused(o.Check()) {
				again, err := NewBGPPeer(o).Object()
				if err != nil || again.Key() != o.Key() || len(again.Import.Rules) != len(o.Import.Rules) || again.Hold != o.Hold {
					t.Errorf("%+v is said as %+v: %v", o, again, err)
				}
			}
		}
	})
}
