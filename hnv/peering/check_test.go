package peering

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func good() Spec {
	return Spec{
		ASN: 65000, RouterID: netip.MustParseAddr("10.0.0.1"), ECMP: 4,
		Peers: []Peer{
			{Name: "hq", Address: netip.MustParseAddr("10.0.0.2"), ASN: 65001, Password: "s3cret", BFD: &BFD{}, GracefulRestart: &GracefulRestart{},
				MaxPrefixes: map[Family]uint32{IPv4: 10}, Import: Policy{Rules: []Rule{{Match: Match{
					Prefixes: []PrefixRange{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Max: 24}}, ASPath: []string{"^65001_", "^$", "_6500[1-9]_"},
					Communities: []Community{NoExport}}, Set: Set{Prepend: 2}, Action: Next}}}},
			{Name: "spokes", Prefix: netip.MustParsePrefix("fd00::/64"), ASN: 4200000001, Families: []Family{IPv6, IPv4}},
		},
		Networks:   []Network{{Prefix: netip.MustParsePrefix("10.1.1.0/24")}},
		Aggregates: []Aggregate{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), SummaryOnly: true}},
	}
}

func TestCheckAccepts(t *testing.T) {
	s := good()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// Each fault is found, with the field it is in; and only that one.
func TestCheckRefuses(t *testing.T) {
	hq := func(f func(p *Peer)) func(*Spec) { return func(s *Spec) { f(&s.Peers[0]) } }
	match := func(m Match) func(*Spec) { return hq(func(p *Peer) { p.Export.Rules = []Rule{{Name: "r", Match: m}} }) }
	set := func(c Set) func(*Spec) { return hq(func(p *Peer) { p.Export.Rules = []Rule{{Name: "r", Set: c}} }) }
	v6 := netip.MustParseAddr("fd00::9")
	for i, c := range []struct {
		spoil func(*Spec)
		want  string
	}{
		{func(s *Spec) { s.ASN = 0 }, "asn: 0 is no AS number"},
		{func(s *Spec) { s.ASN = 23456 }, "asn: 23456"},
		{func(s *Spec) { s.RouterID = v6 }, "routerID: "},
		{func(s *Spec) { s.RouterID = netip.Addr{} }, "routerID: "},
		{func(s *Spec) { s.ECMP = 65 }, "ecmp: 65"},
		{func(s *Spec) { s.Listen = []netip.Addr{netip.MustParseAddr("224.0.0.1")} }, "listen[0]: "},
		{func(s *Spec) { s.Listen = []netip.Addr{netip.MustParseAddr("10.0.0.2")} }, "peer hq address: 10.0.0.2 is an address of this speaker"},
		{func(s *Spec) { s.Networks = append(s.Networks, s.Networks[0]) }, "networks[1] prefix: 10.1.1.0/24 is there twice"},
		{func(s *Spec) { s.Networks[0].Prefix = netip.MustParsePrefix("10.1.1.1/24") }, "networks[0] prefix: "},
		{func(s *Spec) { s.Aggregates[0].Prefix = netip.MustParsePrefix("0.0.0.0/0") }, "aggregates[0] prefix: "},
		{func(s *Spec) { s.Peers = append(s.Peers, s.Peers[1]); s.Peers[2].Name = "x" }, "peer x prefix: fd00::/64 is peer spokes"},
		{func(s *Spec) { s.Peers[1].Name = "hq" }, `peer hq name: "hq" is there twice`},
		{func(s *Spec) { s.Peers[1].Prefix = netip.MustParsePrefix("::/0") }, "peer spokes prefix: ::/0 is everybody"},
		{func(s *Spec) { s.Peers[1].BFD = &BFD{} }, "peer spokes bfd: "},
		{func(s *Spec) { s.Peers[1].Limit = -1 }, "peer spokes limit: "},
		{hq(func(p *Peer) { p.Name = "" }), "peers[0] name: "},
		{hq(func(p *Peer) { p.Name = "a b" }), "peer a b name: "},
		{hq(func(p *Peer) { p.ASN = 0 }), "peer hq asn: 0"},
		{hq(func(p *Peer) { p.ASN = 23456 }), "peer hq asn: 23456"},
		{hq(func(p *Peer) { p.ASN = 4294967295 }), "peer hq asn: 4294967295 is reserved"},
		{hq(func(p *Peer) { p.Address = netip.Addr{} }), "peer hq address: one of"},
		{hq(func(p *Peer) { p.Address = netip.MustParseAddr("127.0.0.1") }), "peer hq address: "},
		{hq(func(p *Peer) { p.Local = p.Address }), "peer hq address: 10.0.0.2 is an address of this speaker"},
		{hq(func(p *Peer) { p.Local = v6 }), "peer hq local: "},
		{hq(func(p *Peer) { p.Families = []Family{IPv4, "evpn"} }), `peer hq families: "evpn" is not`},
		{hq(func(p *Peer) { p.Families = []Family{IPv4, IPv6} }), "peer hq families: ipv6 needs"},
		{hq(func(p *Peer) { p.Families = []Family{IPv4, IPv4} }), "peer hq families: ipv4 is there twice"},
		{hq(func(p *Peer) { p.MaxPrefixes = map[Family]uint32{IPv6: 1} }), `peer hq maxPrefixes: "ipv6"`},
		{hq(func(p *Peer) { p.MaxPrefixes = map[Family]uint32{IPv4: 0} }), "peer hq maxPrefixes: ipv4 is 0"},
		{hq(func(p *Peer) { p.Password = Secret(strings.Repeat("x", 81)) }), "peer hq password: "},
		{hq(func(p *Peer) { p.TTLSecurity, p.MultihopTTL, p.BFD = 1, 2, nil }), "peer hq ttlSecurity: excludes"},
		{hq(func(p *Peer) { p.ASN, p.ASOverride = 65000, true }), "peer hq asOverride: is for eBGP"},
		{hq(func(p *Peer) { p.ASN, p.RemovePrivateAS = 65000, RemovePrivate }), "peer hq removePrivateAS: is for eBGP"},
		{hq(func(p *Peer) { p.RemovePrivateAS = "all" }), `peer hq removePrivateAS: "all"`},
		{hq(func(p *Peer) { p.AllowOwnAS = 11 }), "peer hq allowOwnAS: 11"},
		{hq(func(p *Peer) { p.Hold = 2 * time.Second }), "peer hq hold: 2s"},
		{hq(func(p *Peer) { p.Hold = 3500 * time.Millisecond }), "peer hq hold: 3.5s"},
		{hq(func(p *Peer) { p.Keepalive = 90 * time.Second }), "peer hq keepalive: 1m30s is not below"},
		{hq(func(p *Peer) { p.ReEnable = time.Millisecond }), "peer hq reEnable: "},
		{hq(func(p *Peer) { p.GracefulRestart.Time = 4096 * time.Second }), "peer hq gracefulRestart time: "},
		{hq(func(p *Peer) { p.BFD.Interval = time.Millisecond }), "peer hq bfd interval: "},
		{hq(func(p *Peer) { p.MultihopTTL = 5 }), "peer hq bfd: "},
		{hq(func(p *Peer) { p.Import.Default = Next }), `peer hq import default: "next"`},
		{hq(func(p *Peer) { p.Import.Rules[0].Action = "drop" }), `peer hq import rules[0] action: "drop"`},
		{hq(func(p *Peer) { p.Import.Rules[0].Set.NextHopSelf = true }), "peer hq import rules[0] set nextHopSelf: "},
		{match(Match{Prefixes: []PrefixRange{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Min: 25, Max: 24}}}), `peer hq export rule "r" match prefixes[0]: matches nothing`},
		{match(Match{Prefixes: []PrefixRange{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Min: 4, Max: 24}}}), "matches nothing"},
		{match(Match{Prefixes: []PrefixRange{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Max: 33}}}), "matches nothing"},
		{match(Match{Prefixes: []PrefixRange{{}}}), "match prefixes[0]: "},
		{match(Match{ASPath: []string{"AS65001"}}), `match asPath[0]: "AS65001": has "A"`},
		{match(Match{ASPath: []string{"(65001"}}), "not a regular expression"},
		{match(Match{ASPath: []string{""}}), "match asPath[0]: "},
		{match(Match{ASPath: []string{"_4294967296_"}}), "4294967296 is no AS number"},
		{match(Match{NextHops: []netip.Addr{{}}}), "match nextHops[0]: "},
		{match(Match{Origin: "egp"}), `match origin: "egp"`},
		{set(Set{LocalPref: new(uint32)}), "set localPref: 0"},
		{set(Set{Prepend: 33}), `peer hq export rule "r" set prepend: 33`},
		{set(Set{NextHop: v6, NextHopSelf: true}), "set nextHop: excludes"},
		{set(Set{NextHop: netip.IPv4Unspecified()}), "set nextHop: 0.0.0.0"},
		{set(Set{Communities: &Edit[Community]{Mode: "append", List: []Community{1}}}), `set communities mode: "append"`},
		{set(Set{LargeCommunities: &Edit[LargeCommunity]{Mode: Add}}), "set largeCommunities list: is empty"},
	} {
		s := good()
		c.spoil(&s)
		err := s.Check()
		switch {
		case err == nil:
			t.Errorf("case %d: accepted; want %q", i, c.want)
		case !strings.Contains(err.Error(), c.want):
			t.Errorf("case %d: %v; want %q", i, err, c.want)
		case strings.Contains(err.Error(), "\n") && !strings.Contains(c.want, "is there twice"):
			t.Errorf("case %d: more than one fault: %v", i, err)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	err := (&Spec{Peers: []Peer{{Name: "a", Address: netip.MustParseAddr("10.0.0.2")}}}).Check()
	for _, want := range []string{"asn: ", "routerID: ", "peer a asn: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestSecretStaysSecret(t *testing.T) {
	s := good()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("peer", "password", s.Peers[0].Password)
	for _, shown := range []string{fmt.Sprint(s.Peers[0].Password), fmt.Sprintf("%v %+v %#v %q %x", s, s, s, s.Peers[0].Password, s.Peers[0].Password), log.String()} {
		if strings.Contains(shown, "s3cret") || strings.Contains(shown, fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("shown: %s", shown)
		}
	}
}

// What carries a Spec to another process carries all of it.
func TestSpecJSON(t *testing.T) {
	want := good()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Spec
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(got); string(again) != string(b) || got.Peers[0].Password != "s3cret" || got.Peers[1].Prefix != want.Peers[1].Prefix {
		t.Errorf("%s\nis not\n%s", again, b)
	}
}

func TestCommunities(t *testing.T) {
	for text, want := range map[string]Community{"65001:100": 65001<<16 | 100, "no-export": NoExport, "0:0": 0, "65535:65281": NoExport, "blackhole": Blackhole} {
		c, err := ParseCommunity(text)
		if err != nil || c != want {
			t.Errorf("%s: %d, %v", text, c, err)
		}
		if back, err := ParseCommunity(c.String()); err != nil || back != c {
			t.Errorf("%s: %s back is %d, %v", text, c, back, err)
		}
	}
	for _, text := range []string{"", "1", "1:2:3", "65536:1", "01:1", "-1:1", "a:b", "1: 2", "No-Export"} {
		if c, err := ParseCommunity(text); err == nil {
			t.Errorf("%q: %s", text, c)
		}
	}
	if c, err := ParseLargeCommunity("4200000001:1:4294967295"); err != nil || c.String() != "4200000001:1:4294967295" {
		t.Errorf("%s, %v", c, err)
	}
	for _, text := range []string{"1:2", "1:2:4294967296", "1:2:03"} {
		if c, err := ParseLargeCommunity(text); err == nil {
			t.Errorf("%q: %s", text, c)
		}
	}
}

func TestPrefixRange(t *testing.T) {
	p := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct{ min, max, least, most int }{{0, 0, 8, 8}, {0, 24, 8, 24}, {16, 0, 16, 32}, {16, 24, 16, 24}} {
		if least, most := (PrefixRange{p, c.min, c.max}).Lengths(); least != c.least || most != c.most {
			t.Errorf("%d to %d is %d to %d", c.min, c.max, least, most)
		}
	}
}
