package lookup

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestLookupsDoNotAllocate(t *testing.T) {
	c := bigConfig(t, 1000)
	c.Records[7].TeamPAs = []netip.Addr{netip.MustParseAddr("192.168.77.1")}
	c.Records[8].Type = hnv.GatewayWildcard
	c.Records[9].Rule = hnv.RuleRewrite
	d := build(t, c)
	off := netip.MustParseAddr("8.8.8.8")
	teamed, single, rewritten := d.Record(5001, c.Records[7].CA), d.Record(5001, c.Records[10].CA), AddrFrom(c.Records[9].PA)
	held := d.Mapping(KeyOf(5001, c.Records[3].CA))
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		r := &c.Records[i%len(c.Records)]
		rt, rec := d.Resolve(r.CA)
		out, _ := d.Resolve(off)
		switch _, ok := d.Rewritten(rewritten); {
		case rt == nil || rec == nil || d.At(out.Hops[0]) == nil || d.Has(6001) || !ok,
			!d.Hosts(AddrFrom(r.PA)) || d.IsGateway(5001, off) || d.Gateway(5001, off).Is6(),
			d.Station(5001, r.MAC.Bytes()) == nil || len(d.Flood(5001)) == 0 || d.Subnet(5001) == nil,
			len(d.PAs(teamed)) != 2 || len(d.PAs(single)) != 1 || d.IsAt(teamed, single.PA),
			len(d.Wildcards()) != 1 || len(d.WildcardsFor(off)) != 1 || d.Gen() == 0 || held.Record() == nil,
			d.Mapping(KeyOf(5001, c.Records[3].CA)) != held:
			t.Fatal("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

// An Update of one record must not copy what a domain holds.
func TestOneUpdateIsCheap(t *testing.T) {
	c := bigConfig(t, 100_000)
	d := build(t, c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const updates = 200
	for i := range updates {
		r := c.Records[i*997%len(c.Records)]
		r.PA = c.Records[i].PA
		d = succeed(t, d, []hnv.Record{r}, nil)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / updates; each > 100<<10 {
		t.Errorf("one update allocates %d bytes; the tables have %d", each, 100_000*106)
	}
}
