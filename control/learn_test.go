package control

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// The last word about an address counts; what is configured, somebody else's by
// now or gone stays as it is.
func TestLearnChanges(t *testing.T) {
	v, _ := hnv.NewVSID(5001)
	mac := func(s string) hnv.MAC { m, _ := hnv.ParseMAC(s); return m }
	name, _ := hnv.ParseName("contoso")
	a, b, c := mac("00:15:5d:00:00:0a"), mac("00:15:5d:00:00:0b"), mac("00:15:5d:00:00:0c")
	rec := func(ca string, m hnv.MAC, pa string, typ hnv.RecordType) hnv.Record {
		return hnv.Record{VSID: v, CA: netip.MustParseAddr(ca), MAC: m, PA: netip.MustParseAddr(pa), Rule: hnv.RuleNVGRE, Type: typ}
	}
	f := hnv.NewFabric(hnv.Site{PAInterfaces: []string{"pa0"}})
	rdid := hnv.NewRDID()
	put := func(o hnv.Object) hnv.Change { return hnv.Change{Put: o} }
	if _, err := f.Apply([]hnv.Change{
		put(hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.10/24"), Interface: "pa0"}),
		put(hnv.Tenant{Name: name, RDID: rdid, Encap: hnv.NVGRE, Subnets: []hnv.Subnet{{VSID: v, Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.1.1.0/24")}}, Learning: &hnv.Learning{}}}}),
		put(rec("10.1.1.11", a, "192.168.1.10", hnv.Static)),
		put(rec("10.1.1.12", a, "192.168.1.10", hnv.Dynamic)),
		put(rec("10.1.1.31", c, "192.168.1.66", hnv.Dynamic)),
	}); err != nil {
		t.Fatal(err)
	}
	event := func(k dataplane.LearnKind, r hnv.Record) dataplane.LearnEvent {
		return dataplane.LearnEvent{Kind: k, RDID: rdid, Record: r}
	}
	for _, tc := range []struct {
		what   string
		events []dataplane.LearnEvent
		want   []hnv.Change
	}{
		{"a new address", []dataplane.LearnEvent{event(dataplane.Learned, rec("10.1.1.20", b, "192.168.1.10", hnv.Dynamic))},
			[]hnv.Change{put(rec("10.1.1.20", b, "192.168.1.10", hnv.Dynamic))}},
		{"learned and gone", []dataplane.LearnEvent{
			event(dataplane.Learned, rec("10.1.1.20", b, "192.168.1.10", hnv.Dynamic)),
			event(dataplane.LearnedAged, rec("10.1.1.20", b, "192.168.1.10", hnv.Dynamic))}, nil},
		{"a configured address", []dataplane.LearnEvent{event(dataplane.Learned, rec("10.1.1.11", b, "192.168.1.10", hnv.Dynamic))}, nil},
		{"known already", []dataplane.LearnEvent{event(dataplane.Learned, rec("10.1.1.12", a, "192.168.1.10", hnv.Dynamic))}, nil},
		{"moved", []dataplane.LearnEvent{event(dataplane.LearnedMove, rec("10.1.1.12", b, "192.168.1.10", hnv.Dynamic))},
			[]hnv.Change{put(rec("10.1.1.12", b, "192.168.1.10", hnv.Dynamic))}},
		{"aged", []dataplane.LearnEvent{event(dataplane.LearnedAged, rec("10.1.1.12", a, "192.168.1.10", hnv.Dynamic))},
			[]hnv.Change{{Delete: rec("10.1.1.12", a, "192.168.1.10", hnv.Dynamic)}}},
		{"aged here, and somewhere else by now", []dataplane.LearnEvent{event(dataplane.LearnedAged, rec("10.1.1.12", a, "192.168.1.66", hnv.Dynamic))}, nil},
		{"of a station that was elsewhere", []dataplane.LearnEvent{event(dataplane.Learned, rec("10.1.1.30", c, "192.168.1.10", hnv.Dynamic))},
			[]hnv.Change{{Delete: rec("10.1.1.31", c, "192.168.1.66", hnv.Dynamic)}, put(rec("10.1.1.30", c, "192.168.1.10", hnv.Dynamic))}},
		{"of a tenant that is gone", []dataplane.LearnEvent{{Kind: dataplane.Learned, RDID: hnv.NewRDID(), Record: rec("10.1.1.20", b, "192.168.1.10", hnv.Dynamic)}}, nil},
	} {
		got := learnChanges(f, tc.events)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %d changes, want %d", tc.what, len(got), len(tc.want))
			continue
		}
		for i := range got {
			if (got[i].Put == nil) != (tc.want[i].Put == nil) || got[i].Put != nil && !got[i].Put.(hnv.Record).Equal(tc.want[i].Put.(hnv.Record)) {
				t.Errorf("%s: change %+v, want %+v", tc.what, got[i], tc.want[i])
			}
		}
	}
}
