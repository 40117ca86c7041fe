package lookup

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestBecome(t *testing.T) {
	v, _ := hnv.NewVSID(5001)
	mac, _ := hnv.ParseMAC("00:15:5d:00:00:01")
	rec := func(ca, pa string, typ hnv.RecordType) hnv.Record {
		return hnv.Record{VSID: v, CA: netip.MustParseAddr(ca), MAC: mac, PA: netip.MustParseAddr(pa), Rule: hnv.RuleNVGRE, Type: typ}
	}
	d, err := Build(Config{
		RDID: hnv.NewRDID(), Encap: hnv.NVGRE,
		Subnets: []hnv.Subnet{{VSID: v, Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.1.1.0/24"), Gateway: netip.MustParseAddr("10.1.1.1")}}}},
		Records: []hnv.Record{rec("10.1.1.11", "192.168.1.10", hnv.Static), rec("10.1.1.12", "192.168.1.10", hnv.Static)},
	})
	if err != nil {
		t.Fatal(err)
	}
	next, ok := d.Become([]hnv.Record{rec("10.1.1.11", "192.168.1.10", hnv.Static), rec("10.1.1.12", "192.168.1.20", hnv.Static)})
	if !ok || next.Gen() != d.Gen() {
		t.Errorf("a moved record: ok %v, generation %d after %d; want the same", ok, next.Gen(), d.Gen())
	}
	if got := next.Record(5001, netip.MustParseAddr("10.1.1.12")).PA.Netip(); got != netip.MustParseAddr("192.168.1.20") {
		t.Errorf("the moved record is at %s", got)
	}
	if _, ok := d.Become([]hnv.Record{rec("10.1.1.11", "192.168.1.10", hnv.Static)}); ok {
		t.Error("a record is too many, and it is ok")
	}
	if _, ok := d.Become([]hnv.Record{rec("10.1.1.11", "192.168.1.10", hnv.Dynamic), rec("10.1.1.12", "192.168.1.10", hnv.Static)}); ok {
		t.Error("a configured record stands where a learned one shall be, and it is ok")
	}
	more, ok := d.Become([]hnv.Record{rec("10.1.1.11", "192.168.1.10", hnv.Static), rec("10.1.1.12", "192.168.1.10", hnv.Static), rec("10.1.1.13", "192.168.1.10", hnv.Dynamic)})
	if !ok || more.Gen() == d.Gen() {
		t.Error("a record more must be ok and another generation")
	}
	var found []hnv.Record
	more.Dynamics(func(r hnv.Record) { found = append(found, r) })
	if len(found) != 1 || !found[0].Equal(rec("10.1.1.13", "192.168.1.10", hnv.Dynamic)) {
		t.Errorf("learned are %+v", found)
	}
}

// A domain whose successor was not published leads flows as it did before.
func TestReinstated(t *testing.T) {
	c := oneSubnet(t, 5001, 1)
	d := build(t, c)
	if d.Reinstated() != d {
		t.Error("a domain without a successor is another one")
	}
	k := KeyOf(5001, ca(11))
	held, was := d.Mapping(k), c.Records[0].PA
	c.Records[0].PA = was.Next()
	succeed(t, d, c.Records, nil)
	again := d.Reinstated()
	if again.Gen() == d.Gen() || again.Mapping(k) == held || again.Mapping(k).Record().PA != AddrFrom(was) {
		t.Errorf("generation %d after %d, and the record is at %v, want %s", again.Gen(), d.Gen(), again.Mapping(k).Record().PA, was)
	}
	c.Records[0].PA = was.Next().Next()
	next := succeed(t, again, c.Records, nil)
	if next.Gen() != again.Gen() || again.Mapping(k).Record().PA != AddrFrom(c.Records[0].PA) {
		t.Error("its mappings do not follow its successors")
	}
}
