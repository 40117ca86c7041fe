package dataplane

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/hnv"
)

func TestNextHop(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		gw := hnv.CompartmentMAC(mustVSID(s.base))
		v1 := mustVSID(s.base + 1)
		l.apply(s, func(t *Tenant) {
			t.Routes = append(t.Routes,
				hnv.CustomerRoute{VSID: v1, Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: ip("10.1.1.12")},
				hnv.CustomerRoute{VSID: v1, Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: ip("10.1.1.13")})
		})
		for _, c := range []struct {
			what     string
			vsid     uint32
			src, dst string
			want     NextHop
		}{
			{"bridged", s.base + 1, "10.1.1.11", "10.1.1.12", NextHop{
				CA: ip("10.1.1.12"), VSID: s.base + 1, Match: netip.MustParsePrefix("10.1.1.0/24"), SentTo: mac12, Source: mac11, Destination: mac12,
				SrcPAs: []netip.Addr{ip(paHost1)}, DstPAs: []netip.Addr{ip(paHost2)}}},
			{"local", s.base + 1, "10.1.1.11", "10.1.1.13", NextHop{
				CA: ip("10.1.1.13"), VSID: s.base + 1, Match: netip.MustParsePrefix("10.1.1.0/24"), SentTo: mac13, Source: mac11, Destination: mac13,
				SrcPAs: []netip.Addr{ip(paHost1)}, DstPAs: []netip.Addr{ip(paHost1)}, Local: true}},
			{"routed", s.base + 2, "10.1.2.11", "10.1.1.11", NextHop{
				CA: ip("10.1.1.11"), VSID: s.base + 1, Routed: true, Match: netip.MustParsePrefix("10.1.1.0/24"), SentTo: hnv.RouterMAC, Source: hnv.RouterMAC, Destination: mac11,
				SrcPAs: []netip.Addr{ip(paHost2)}, DstPAs: []netip.Addr{ip(paHost1)}, Local: true}},
			{"to the outside", s.base + 1, "10.1.1.11", "198.51.100.10", NextHop{
				CA: ip("10.254.254.2"), VSID: s.base, Routed: true, Match: netip.MustParsePrefix("0.0.0.0/0"), CustomerRoute: true, SentTo: hnv.RouterMAC, Source: hnv.RouterMAC, Destination: gw,
				SrcPAs: []netip.Addr{ip(paHost1)}, DstPAs: []netip.Addr{ip(paGate)}, Compartment: true}},
			{"from the outside", s.base, "198.51.100.10", "fd00:1::11", NextHop{}},
			{"IPv6", s.base + 1, "fd00:1::11", "fd00:2::11", NextHop{
				CA: ip("fd00:2::11"), VSID: s.base + 2, Routed: true, Match: netip.MustParsePrefix("fd00:2::/64"), SentTo: hnv.RouterMAC, Source: hnv.RouterMAC, Destination: mac21,
				SrcPAs: []netip.Addr{ip(paHost1)}, DstPAs: []netip.Addr{ip(paHost2)}}},
			{"the router", s.base + 1, "10.1.1.11", "10.1.1.1", NextHop{
				Router: true, Match: netip.MustParsePrefix("10.1.1.0/24"), SentTo: hnv.RouterMAC, SrcPAs: []netip.Addr{ip(paHost1)}}},
			{"another subnet's router", s.base + 1, "10.1.1.11", "10.1.2.1", NextHop{
				Router: true, Match: netip.MustParsePrefix("10.1.2.0/24"), SentTo: hnv.RouterMAC, SrcPAs: []netip.Addr{ip(paHost1)}}},
			{"nobody, next door", s.base + 1, "10.1.1.11", "10.1.1.99", NextHop{Reason: drop.DestinationUnknown, Match: netip.MustParsePrefix("10.1.1.0/24"), SrcPAs: []netip.Addr{ip(paHost1)}}},
			{"nobody", s.base + 1, "10.1.1.11", "10.1.2.99", NextHop{
				Reason: drop.DestinationUnknown, Match: netip.MustParsePrefix("10.1.2.0/24"), SentTo: hnv.RouterMAC, SrcPAs: []netip.Addr{ip(paHost1)}}},
		} {
			got, err := l.hosts[1].sw.NextHop(NextHopQuery{mustVSID(c.vsid), ip(c.src), ip(c.dst)})
			if c.what == "from the outside" {
				if err == nil {
					t.Errorf("%s: the families differ, and there is no error", c.what)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
				continue
			}
			c.want.Tenant, c.want.RDID = s.Name, s.RDID
			if c.want.CA.IsValid() {
				c.want.Rule, c.want.Type = hnv.Rule(s.Encap), hnv.Static
			}
			if !equalHops(got, c.want) {
				t.Errorf("%s, %s: got\n%+v, want\n%+v", s.Name, c.what, got, c.want)
			}
		}
		// Several next hops: a flow takes one of them.
		got, err := l.hosts[1].sw.NextHop(NextHopQuery{v1, ip("10.1.1.11"), ip("172.16.1.1")})
		if err != nil || !slices.Equal(got.Equal, []netip.Addr{ip("10.1.1.12"), ip("10.1.1.13")}) || !slices.Contains(got.Equal, got.CA) || !got.CustomerRoute {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, q := range []NextHopQuery{
		{mustVSID(4711), ip("10.1.1.11"), ip("10.1.1.12")},
		{mustVSID(5001), ip("10.1.2.11"), ip("10.1.1.12")}, // of another virtual subnet
		{mustVSID(5001), ip("10.1.1.99"), ip("10.1.1.12")},
	} {
		if n, err := l.hosts[1].sw.NextHop(q); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: %+v, %v", q, n, err)
		}
	}
}

func equalHops(a, b NextHop) bool {
	return slices.Equal(a.SrcPAs, b.SrcPAs) && slices.Equal(a.DstPAs, b.DstPAs) && slices.Equal(a.Equal, b.Equal) &&
		a.Tenant == b.Tenant && a.RDID == b.RDID && a.Reason == b.Reason && a.Routed == b.Routed && a.Router == b.Router && a.Match == b.Match &&
		a.CustomerRoute == b.CustomerRoute && a.Wildcard == b.Wildcard && a.CA == b.CA && a.VSID == b.VSID && a.SentTo == b.SentTo && a.Source == b.Source &&
		a.Destination == b.Destination && a.Rule == b.Rule && a.Type == b.Type && a.Local == b.Local && a.Compartment == b.Compartment
}

// What NextHop says of a packet is what becomes of it: on the fabric, and at the
// other end. So it is of rewritten, teamed and wildcard records.
func TestNextHopIsWhereItGoes(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (*lab, *site, *site){
		"encapsulated": func(t *testing.T) (*lab, *site, *site) {
			l, contoso, fabrikam := exampleLab(t)
			for _, s := range []*site{contoso, fabrikam} {
				l.apply(s, func(t *Tenant) {
					t.Routes = nil
					t.Records[0].Type, t.Records[1].Type = hnv.GatewayWildcard, hnv.GatewayWildcard
					t.Records[2].UseVMMAC = true
				})
			}
			return l, contoso, fabrikam
		},
		"rewritten": func(t *testing.T) (*lab, *site, *site) { return rewriteLab(t) },
	} {
		t.Run(name, func(t *testing.T) {
			l, contoso, fabrikam := make(t)
			for _, s := range []*site{contoso, fabrikam} {
				for _, from := range []struct {
					nic *nic
					ca  string
				}{{s.vm11, "10.1.1.11"}, {s.vm12, "10.1.1.12"}, {s.v21, "10.1.2.11"}, {s.gw, "10.254.254.2"}} {
					for _, dst := range []string{"10.1.1.11", "10.1.1.12", "10.1.1.13", "10.1.2.11", "10.254.254.2", "198.51.100.10"} {
						if dst == from.ca || from.nic == s.gw && dst == "198.51.100.10" {
							continue
						}
						checkNextHop(t, l, s, from.nic, from.ca, dst)
					}
				}
			}
		})
	}
}

func checkNextHop(t *testing.T, l *lab, s *site, from *nic, src, dst string) {
	t.Helper()
	n, err := from.host.sw.NextHop(NextHopQuery{mustVSID(from.vsid), ip(src), ip(dst)})
	if err != nil || n.Reason != drop.None || n.Router {
		t.Errorf("%s > %s: %+v, %v", src, dst, n, err)
		return
	}
	l.tap = nil
	from.send(udp(from.mac, n.SentTo, src, dst, "follow me"))
	l.settle()
	for _, to := range s.nics() {
		got := to.drain()
		if arrived := to.vsid == n.VSID && to.mac == n.Destination; len(got) == 1 != arrived {
			t.Errorf("%s > %s: %d packets came to %s in %d, and NextHop says %+v", src, dst, len(got), to.mac, to.vsid, n)
		} else if arrived {
			if d := decode(t, got[0].bytes); d.SrcMAC != n.Source.Bytes() || d.DstMAC != n.Destination.Bytes() {
				t.Errorf("%s > %s: it arrived from %x, and NextHop says %+v", src, dst, d.SrcMAC, n)
			}
		}
	}
	if n.Local {
		if len(l.tap) != 0 {
			t.Errorf("%s > %s: it went over the fabric, and NextHop says %+v", src, dst, n)
		}
		return
	}
	if len(l.tap) != 1 {
		t.Fatalf("%s > %s: %d packets on the fabric", src, dst, len(l.tap))
	}
	var o encap.Header
	rule := hnv.RuleRewrite
	if encap.Parse(l.tap[0].bytes, &o) == drop.None {
		rule = hnv.Rule(o.Kind.String())
	}
	a, b, _ := ends(l.tap[0].bytes)
	if rule != n.Rule || !slices.Contains(n.SrcPAs, a.Netip()) || !slices.Contains(n.DstPAs, b.Netip()) || rule != hnv.RuleRewrite && o.VSID != n.VSID {
		t.Errorf("%s > %s: it went by %s from %s to %s with %d, and NextHop says %+v", src, dst, rule, a, b, o.VSID, n)
	}
}
