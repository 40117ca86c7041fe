package lookup

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/hnvgate/hnvgate/hnv"
)

func ca(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 1, byte(n)}) }

// oneSubnet has records for n CAs from .11 on.
func oneSubnet(t testing.TB, v uint32, n int) Config {
	t.Helper()
	c := Config{RDID: hnv.NewRDID(), Encap: hnv.NVGRE, Subnets: []hnv.Subnet{subnet(t, v, "10.1.1.0/24")}}
	for i := range n {
		c.Records = append(c.Records, record(t, v, ca(11+i).String(), "192.168.1.11"))
	}
	return c
}

func TestMappingFollowsAMigration(t *testing.T) {
	a, b := oneSubnet(t, 5001, 2), oneSubnet(t, 6001, 2)
	contoso, fabrikam := build(t, a), build(t, b)
	mine, other, theirs := contoso.Mapping(KeyOf(5001, ca(11))), contoso.Mapping(KeyOf(5001, ca(12))), fabrikam.Mapping(KeyOf(6001, ca(11)))
	if contoso.Mapping(KeyOf(6001, ca(11))) != nil || contoso.Mapping(KeyOf(5001, ca(99))) != nil {
		t.Error("there are mappings for what the domain does not have")
	}
	before := [...]*Record{other.Record(), theirs.Record()}
	moved := a.Records[0]
	moved.PA = netip.MustParseAddr("192.168.1.12")
	next := succeed(t, contoso, []hnv.Record{moved}, nil)
	if next.Gen() != contoso.Gen() {
		t.Error("a migration makes all flows be decided anew")
	}
	if r := mine.Record(); r == nil || r.PA != AddrFrom(moved.PA) {
		t.Errorf("the mapping leads to %+v", r)
	}
	if other.Record() != before[0] || theirs.Record() != before[1] {
		t.Error("mappings of what did not change were stored to")
	}
	if next.Mapping(KeyOf(5001, ca(11))) != mine || contoso.Mapping(KeyOf(5001, ca(11))) != mine {
		t.Error("a domain and its successor have different mappings of one key")
	}

	gone := succeed(t, next, nil, []hnv.RecordKey{moved.RecordKey()})
	if mine.Record() != nil || gone.Mapping(KeyOf(5001, ca(11))) != nil {
		t.Error("a deleted record is still led to")
	}
	if gone.Gen() <= next.Gen() {
		t.Error("a key less, and flows are not decided anew")
	}
	// The domain before still has the record, but flows must not be led back.
	if m := next.Mapping(KeyOf(5001, ca(11))); m != mine || m.Record() != nil {
		t.Error("an outdated domain revives a mapping")
	}
	back := succeed(t, gone, []hnv.Record{moved}, nil)
	if r := mine.Record(); r == nil || back.Mapping(KeyOf(5001, ca(11))) != mine {
		t.Error("a mapping still held does not find the record that came back")
	}
}

// A Domain that has been followed by another one makes mappings of what is now.
func TestMappingOfAnOutdatedDomain(t *testing.T) {
	c := oneSubnet(t, 5001, 1)
	old := build(t, c)
	c.Records[0].PA = netip.MustParseAddr("192.168.1.12")
	succeed(t, old, c.Records, nil)
	if m := old.Mapping(KeyOf(5001, ca(11))); m.Record().PA != AddrFrom(c.Records[0].PA) {
		t.Errorf("it leads to %+v", m.Record())
	}
}

// Who loses the race to publish a successor must not have moved anybody's flows
// for good.
func TestSecondSuccessorHasMappingsOfItsOwn(t *testing.T) {
	c := oneSubnet(t, 5001, 1)
	d := build(t, c)
	k := KeyOf(5001, ca(11))
	held := d.Mapping(k)
	to := func(pa string) []hnv.Record {
		r := c.Records[0]
		r.PA = netip.MustParseAddr(pa)
		return []hnv.Record{r}
	}
	lost, won := succeed(t, d, to("192.168.1.12"), nil), succeed(t, d, to("192.168.1.13"), nil)
	if won.Gen() == d.Gen() || won.Gen() == lost.Gen() {
		t.Error("flows with the first successor's mappings would go on with the second one")
	}
	if held.Record().PA.String() != "192.168.1.12" || won.Mapping(k).Record().PA.String() != "192.168.1.13" {
		t.Errorf("mappings lead to %v and %v", held.Record(), won.Mapping(k).Record())
	}
	again := succeed(t, won, to("192.168.1.14"), nil)
	if again.Gen() != won.Gen() || again.Mapping(k).Record().PA.String() != "192.168.1.14" {
		t.Error("the second successor's mappings do not follow its own")
	}
}

// eventually collects garbage until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		runtime.GC()
	}
}

func TestUnusedMappingsVanish(t *testing.T) {
	d := build(t, oneSubnet(t, 5001, 200))
	keep := d.Mapping(KeyOf(5001, ca(11)))
	for i := range 200 {
		if d.Mapping(KeyOf(5001, ca(11+i))) == nil {
			t.Fatal("no mapping")
		}
	}
	in := &d.family.keys
	eventually(t, "mappings that nobody holds are kept", func() bool { return in.held.Load() == 1 })
	for i := range in.shards {
		for k := range in.shards[i].m {
			if k != KeyOf(5001, ca(11)) {
				t.Errorf("%v is still interned", k)
			}
		}
	}
	if d.Mapping(KeyOf(5001, ca(11))) != keep {
		t.Error("a mapping in use was forgotten")
	}
	runtime.KeepAlive(keep)
}

// A flow that outlives its tenant must not keep the tenant's tables.
func TestMappingKeepsNoDomain(t *testing.T) {
	d := build(t, oneSubnet(t, 5001, 2))
	m := d.Mapping(KeyOf(5001, ca(11)))
	w := weak.Make(d)
	d = nil
	eventually(t, "a mapping keeps its domain", func() bool { return w.Value() == nil })
	if m.Record() == nil {
		t.Error("and it has lost its record")
	}
}

// TestMappingsUnderRaces has flows come, look and go while records migrate,
// vanish and return, and garbage is collected. Every record led to must be one
// that was published; in the end all mappings lead to what is.
func TestMappingsUnderRaces(t *testing.T) {
	const n = 64
	c := oneSubnet(t, 5001, n)
	var now atomic.Pointer[Domain]
	now.Store(build(t, c))
	var stop atomic.Bool
	var flows, writer sync.WaitGroup
	ends := make([]map[int]*Mapping, 4)
	for f := range ends {
		ends[f] = map[int]*Mapping{}
		flows.Go(func() {
			held := ends[f]
			for i := f; !stop.Load(); i++ {
				k := i * 31 % n
				if m := now.Load().Mapping(KeyOf(5001, ca(11+k))); m != nil {
					held[k] = m
				}
				if m := held[i%n]; m != nil {
					if r := m.Record(); r != nil && r.MAC != c.Records[i%n].MAC.Bytes() {
						t.Errorf("the mapping of %s leads to %+v", ca(11+i%n), r)
						return
					}
				}
				if i%7 == 0 {
					delete(held, i/7%n)
				}
			}
		})
	}
	writer.Go(func() {
		for i := range 2000 {
			r := c.Records[i*17%n]
			r.PA = netip.MustParseAddr(fmt.Sprintf("192.168.2.%d", 1+i%200))
			put, del := []hnv.Record{r}, []hnv.RecordKey(nil)
			if i%3 == 0 {
				put, del = nil, []hnv.RecordKey{r.RecordKey()}
			}
			next, err := now.Load().Update(put, del)
			if err != nil {
				t.Error(err)
				return
			}
			now.Store(next)
			if i%100 == 0 {
				runtime.GC()
			}
		}
	})
	writer.Wait()
	stop.Store(true)
	flows.Wait()
	for _, held := range ends {
		for k, m := range held {
			checkMapping(t, m, now.Load().Record(5001, ca(11+k)))
			if d := now.Load(); m.Record() != nil && d.Mapping(KeyOf(5001, ca(11+k))) != m {
				t.Errorf("%s has two mappings", ca(11+k))
			}
		}
	}
}
