package gobgp

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	lib "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/hnvgate/hnvgate/bgp"
)

// What is originated shows itself as it was meant.
func TestOriginationShown(t *testing.T) {
	for _, o := range []Origination{
		{Prefix: prefix("10.1.1.0/24")},
		{Prefix: prefix("fd00::/48"), Attributes: bgp.Attributes{MED: ptr(uint32(0)), LocalPref: ptr(uint32(7)), Communities: []bgp.Community{bgp.NoExport},
			LargeCommunities: []bgp.LargeCommunity{{Global: 1, Local1: 2, Local2: 3}}}},
		{Prefix: prefix("10.0.0.0/8"), Aggregate: true, Aggregator: addr("10.0.0.1"), ASN: 4200000001},
		{Prefix: prefix("0.0.0.0/0"), LastResort: true},
	} {
		p, err := o.path()
		if err != nil {
			t.Fatal(err)
		}
		got, ok := shown(p)
		want := bgp.Path{Prefix: o.Prefix, Since: got.Since, Origin: "igp", NextHop: netip.IPv4Unspecified(), MED: o.MED, LocalPref: o.LocalPref,
			Communities: o.Communities, LargeCommunities: o.LargeCommunities, AtomicAggregate: o.Aggregate}
		if o.Prefix.Addr().Is6() {
			want.NextHop = netip.IPv6Unspecified()
		}
		if o.Aggregate {
			want.Aggregator = "4200000001 10.0.0.1"
		}
		if o.LastResort {
			want.LocalPref = ptr(uint32(0))
		}
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v is shown as %+v", o, got)
		}
	}
}

// Whatever UPDATE gobgp lets pass, we read without panic, and what we read makes
// sense.
func FuzzUpdate(f *testing.F) {
	for _, o := range []Origination{{Prefix: prefix("10.1.1.0/24"), Aggregate: true, Aggregator: addr("10.0.0.1")}, {Prefix: prefix("fd00::/48"),
		Attributes: bgp.Attributes{MED: ptr(uint32(1)), Communities: []bgp.Community{bgp.LLGRStale}, LargeCommunities: []bgp.LargeCommunity{{Global: 1}}}}} {
		p, err := o.path()
		if err != nil {
			f.Fatal(err)
		}
		var nlri []lib.PathNLRI
		if o.Prefix.Addr().Is4() {
			nlri = []lib.PathNLRI{{NLRI: p.Nlri}}
		}
		b, err := lib.NewBGPUpdateMessage(nil, p.Attrs, nlri).Body.Serialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 0, 0, 0, 24, 10, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var u lib.BGPUpdate
		if u.DecodeFromBytes(b) != nil {
			return
		}
		paths := u.NLRI
		for _, a := range u.PathAttributes {
			if mp, ok := a.(*lib.PathAttributeMpReachNLRI); ok {
				paths = append(paths, mp.Value...)
			}
		}
		for _, n := range paths {
			p := &apiutil.Path{Nlri: n.NLRI, Attrs: u.PathAttributes, PeerAddress: addr("10.0.0.2"), PeerASN: 65001}
			full, ok := shown(p)
			short, also := bestPath(p, 65000)
			if ok != also || ok && (full.Prefix != short.Prefix || !full.Prefix.IsValid() || full.Prefix != full.Prefix.Masked()) {
				t.Errorf("%v, %v: %+v and %+v", ok, also, full, short)
			}
		}
	})
}
