package lookup

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// copied is a copy of a Domain, kept by its changes alone.
type copied struct {
	records map[Key]Record
	teams   map[Key][]Addr
	hosts   map[Addr]bool
}

func (c *copied) follow(t *testing.T, old, d *Domain) (changes int) {
	t.Helper()
	for k, ch := range d.RecordChanges(old) {
		changes++
		had, was := c.records[k]
		if was != (ch.Was != nil) || was && had != *ch.Was {
			t.Fatalf("record %v is said to have been %v, and was %v", k, ch.Was, had)
		}
		if ch.Is == nil {
			delete(c.records, k)
			delete(c.teams, k)
		} else {
			c.records[k] = *ch.Is
			c.teams[k] = d.PAs(ch.Is)
		}
	}
	for pa, is := range d.HostChanges(old) {
		if c.hosts[pa] == is {
			t.Fatalf("host %s is said to have changed to %v, and has not", pa, is)
		}
		if c.hosts[pa] = is; !is {
			delete(c.hosts, pa)
		}
	}
	return changes
}

func (c *copied) compare(t *testing.T, d *Domain) {
	t.Helper()
	if want := contents(d.records); !maps.Equal(c.records, want) {
		t.Fatalf("the copy has %d records, the domain %d", len(c.records), len(want))
	}
	for k, r := range c.records {
		if pas := d.PAs(&r); len(pas) != len(c.teams[k]) || pas[len(pas)-1] != c.teams[k][len(pas)-1] {
			t.Fatalf("the copy has PAs %v of %v, the domain %v", c.teams[k], k, pas)
		}
	}
	for pa := range contents(d.pas) {
		if !c.hosts[pa] {
			t.Fatalf("the copy does not know of host %s", pa)
		}
	}
	if len(c.hosts) != d.pas.Len() {
		t.Fatalf("the copy has %d hosts, the domain %d", len(c.hosts), d.pas.Len())
	}
}

// A copy that follows the changes is the domain, through updates, through a Build
// that starts anew, and from nothing.
func TestChangesMakeACopy(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 11))
		c := randomConfig(t, r, 5000)
		kept := map[hnv.RecordKey]hnv.Record{}
		for _, rec := range c.Records {
			kept[rec.RecordKey()] = rec
		}
		cp := copied{map[Key]Record{}, map[Key][]Addr{}, map[Addr]bool{}}
		var old *Domain
		d := build(t, c)
		for range 20 {
			cp.follow(t, old, d)
			cp.compare(t, d)
			old = d
			if r.IntN(5) == 0 { // other tables with the same content
				c.Records = nil
				for _, rec := range kept {
					c.Records = append(c.Records, rec)
				}
				d = build(t, c)
				continue
			}
			put := randomRecords(r, c.Subnets, r.IntN(8))
			var del []hnv.RecordKey
			for _, rec := range randomRecords(r, c.Subnets, r.IntN(8)) {
				del = append(del, rec.RecordKey())
			}
			m := model{c: c, records: kept}
			m.update(put, del)
			var err error
			if d, err = old.Update(put, del); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// One change among many is found without looking at all of them.
func TestChangesPassOverWhatIsShared(t *testing.T) {
	c := Config{RDID: hnv.NewRDID(), Encap: hnv.NVGRE, Subnets: []hnv.Subnet{subnet(t, 5000, "10.0.0.0/8")}}
	for i := range 1 << 17 {
		r := record(t, 5000, "10.0.0.2", "192.168.0.1")
		r.CA = netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)})
		c.Records = append(c.Records, r)
	}
	d := build(t, c)
	moved := c.Records[77]
	moved.PA = netip.MustParseAddr("192.168.0.2")
	next, err := d.Update([]hnv.Record{moved}, nil)
	if err != nil {
		t.Fatal(err)
	}
	looked, changed := 0, 0
	next.records.changes(d.records, func(_ Key, was, is *Record) bool {
		looked++
		if *was != *is {
			changed++
		}
		return true
	})
	if changed != 1 || looked > 2*fullShard {
		t.Errorf("%d changes found among %d records, want 1 among at most %d", changed, looked, 2*fullShard)
	}
	found := maps.Collect(next.RecordChanges(d))
	k := KeyOf(5000, moved.CA)
	if len(found) != 1 || found[k].Is == nil || found[k].Is.PA != AddrFrom(moved.PA) {
		t.Errorf("changes %v, want that of %s", found, moved.CA)
	}
}

func TestRoutesGatewaysAndNameless(t *testing.T) {
	a, _ := twoTenants(t)
	nameless := record(t, 5002, "10.1.2.99", "192.168.1.1")
	nameless.CA, nameless.Type = netip.Addr{}, hnv.L2Only
	a.Records = append(a.Records, nameless)
	d := build(t, a)
	routes := maps.Collect(d.Routes())
	if len(routes) != 9 || !routes[netip.MustParsePrefix("10.1.1.0/24")].OnLink() || routes[netip.MustParsePrefix("10.1.1.64/26")].OnLink() {
		t.Errorf("%d routes %v", len(routes), routes)
	}
	want := map[netip.Addr]uint32{}
	for _, s := range a.Subnets {
		for _, p := range s.Prefixes {
			want[p.Gateway] = s.VSID.Uint32()
		}
	}
	if got := maps.Collect(d.Gateways()); !maps.Equal(got, want) {
		t.Errorf("gateways %v, want %v", got, want)
	}
	if got := d.Nameless(); !maps.Equal(got, map[uint32]bool{5002: true}) {
		t.Errorf("nameless stations in %v", got)
	}
	next, err := d.Update(nil, nil)
	if err != nil || !next.SameRoutes(d) || build(t, a).SameRoutes(d) || d.SameRoutes(nil) {
		t.Errorf("SameRoutes: of the successor %v, of another one %v", next.SameRoutes(d), build(t, a).SameRoutes(d))
	}
}
