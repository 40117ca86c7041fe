package control

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// Each peer is told the tenant's prefixes as they are where it is, and none that the
// compartment does not reach.
func TestPrefixesAsPeersSeeThem(t *testing.T) {
	told := func(spec *bgp.Spec, peer string) string {
		var out []string
		for _, n := range spec.Networks {
			out = append(out, n.Prefix.String())
		}
		for _, p := range spec.Peers {
			for _, r := range p.Export.Rules {
				if p.Name != peer || r.Action != bgp.Reject || r.Match.Origin != bgp.OriginLocal {
					continue
				}
				for _, q := range r.Match.Prefixes {
					out = slices.DeleteFunc(out, func(n string) bool { return n == q.Prefix.String() })
				}
			}
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	const real = "10.1.1.0/24 10.1.2.0/24 10.254.254.0/29"
	for name, x := range map[string]struct {
		maps     []hnv.PrefixMap
		networks []bgp.Network
		hq, dc   string
	}{
		"no maps":          {hq: real, dc: real},
		"a whole prefix":   {maps: []hnv.PrefixMap{{Real: pfx("10.1.1.0/24"), Mapped: pfx("100.64.1.0/24")}}, hq: "10.1.2.0/24 10.254.254.0/29 100.64.1.0/24", dc: real},
		"many prefixes":    {maps: []hnv.PrefixMap{{Real: pfx("10.0.0.0/8"), Mapped: pfx("11.0.0.0/8")}}, hq: "11.1.1.0/24 11.1.2.0/24 11.254.254.0/29", dc: real},
		"part of a prefix": {maps: []hnv.PrefixMap{{Real: pfx("10.1.1.0/25"), Mapped: pfx("100.64.1.0/25")}}, hq: real + " 100.64.1.0/25", dc: real},
		"named": {maps: []hnv.PrefixMap{{Real: pfx("10.1.1.0/24"), Mapped: pfx("100.64.1.0/24")}}, networks: []bgp.Network{{Prefix: pfx("100.64.1.0/24")}},
			hq: "10.1.2.0/24 10.254.254.0/29 100.64.1.0/24", dc: real + " 100.64.1.0/24"},
	} {
		m := siteMemory(t)
		tn := theTenant("contoso", 5001, "203.0.113.10")
		tn.Subnets[0].Prefixes = append(tn.Subnets[0].Prefixes, hnv.SubnetPrefix{Prefix: pfx("fd01::/64")})
		conn := theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())
		conn.LocalMaps = x.maps
		m.change(put(tn), put(conn), put(hnv.BGPRouter{Tenant: contoso, ASN: 65000, Networks: x.networks}), put(thePeer(contoso)),
			put(hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", Addresses: []netip.Prefix{pfx("198.51.100.2/24")}}),
			put(hnv.BGPPeer{Tenant: contoso, Peer: bgp.Peer{Name: "dc", Address: addr("198.51.100.1"), ASN: 65002}}))
		spec, err := speakerSpec(m.f, must2(m.f.Tenant(contoso)), unseal)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(spec, "hq"); got != x.hq {
			t.Errorf("%s: behind the tunnel: %s, want %s", name, got, x.hq)
		}
		if got := told(spec, "dc"); got != x.dc {
			t.Errorf("%s: in the attachment's network: %s, want %s", name, got, x.dc)
		}
	}
}

// A peer behind a tunnel is told no way to where tunnels end here, others are.
func TestNoWayIntoOwnTunnels(t *testing.T) {
	m := siteMemory(t)
	tn := theTenant("contoso", 5001, "203.0.113.10")
	m.change(put(tn), put(theConnection(contoso, s2s.NewPrivateKey(), s2s.NewPrivateKey())),
		put(hnv.BGPRouter{Tenant: contoso, ASN: 65000, Networks: []bgp.Network{{Prefix: pfx("203.0.0.0/16")}}}), put(thePeer(contoso)),
		put(hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("dc")), Uplink: "dc", Addresses: []netip.Prefix{pfx("198.51.100.2/24")}}),
		put(hnv.BGPPeer{Tenant: contoso, Peer: bgp.Peer{Name: "dc", Address: addr("198.51.100.1"), ASN: 65002}}))
	spec, err := speakerSpec(m.f, must2(m.f.Tenant(contoso)), unseal)
	if err != nil {
		t.Fatal(err)
	}
	rejected := func(peer, prefix string) bool {
		for _, p := range spec.Peers {
			for _, r := range p.Export.Rules {
				if p.Name == peer && r.Action == bgp.Reject && r.Match.Origin == bgp.OriginAny &&
					slices.ContainsFunc(r.Match.Prefixes, func(q bgp.PrefixRange) bool { return q == bgp.PrefixRange{Prefix: pfx(prefix)} }) {
					return true
				}
			}
		}
		return false
	}
	for p, want := range map[string]bool{
		"203.0.113.10/32": true, "203.0.113.0/24": true, "128.0.0.0/1": true,
		"0.0.0.0/0": false, "203.0.113.11/32": false, "10.1.1.0/24": false,
		"203.0.0.0/16": false, // named by the operator
	} {
		if got := rejected("hq", p); got != want {
			t.Errorf("behind the tunnel %s is rejected: %v", p, got)
		}
		if rejected("dc", p) {
			t.Errorf("in the attachment's network %s is rejected", p)
		}
	}
}
