package server

import (
	"fmt"
	"testing"

	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func crowded(t *testing.T, n int) (*servertest.Store, hnv.VSID) {
	t.Helper()
	s := servertest.NewStore(hnv.Site{PAInterfaces: []string{"eth1"}})
	put(t, s, v1.ProviderAddress{Address: "192.168.1.1/24", Interface: "eth1"}.Object)
	put(t, s, v1.Tenant{Name: "contoso", Encap: "nvgre", Subnets: []v1.Subnet{{VSID: 5001, Prefixes: []string{"10.0.0.0/8"}}}}.Object)
	if _, err := s.UpdateFunc(t.Context(), func(*hnv.Fabric) (changes []hnv.Change, err error) {
		for i := range n {
			r, err := crowd(i).Object()
			if err != nil {
				return nil, err
			}
			changes = append(changes, hnv.Change{Put: r})
		}
		return changes, nil
	}); err != nil {
		t.Fatal(err)
	}
	v, err := hnv.NewVSID(5001)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func crowd(i int) v1.LookupRecord {
	return v1.LookupRecord{VSID: 5001, CA: fmt.Sprintf("10.1.%d.%d", i>>8, i&0xff), MAC: fmt.Sprintf("02155D%06X", i), PA: "192.168.1.10", Rule: "nvgre"}
}

func put[T hnv.Object](t *testing.T, s *servertest.Store, object func() (T, error)) {
	t.Helper()
	o, err := object()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return []hnv.Change{{Put: o}}, nil }); err != nil {
		t.Fatal(err)
	}
}

// The order of many records is kept for the list that goes on, not for others,
// and not for ever.
func TestOrderIsKeptForItsList(t *testing.T) {
	s, v := crowded(t, keptFrom)
	var o recordOrder
	first := o.of(s, v, 0)
	if first.id == 0 || len(first.keys) != keptFrom {
		t.Fatalf("order %d of %d keys", first.id, len(first.keys))
	}
	for i := 1; i < len(first.keys); i++ {
		if first.keys[i-1].Compare(first.keys[i]) >= 0 {
			t.Fatalf("%s comes before %s", first.keys[i-1], first.keys[i])
		}
	}
	if again := o.of(s, v, first.id); again != first {
		t.Error("the list that goes on gets another order")
	}
	if other := o.of(s, v, 0); other == first {
		t.Error("a list that begins gets an order that is not of now")
	}
	for range 3 * keptMost {
		o.of(s, v, 0)
	}
	if len(o.kept) != keptMost {
		t.Errorf("%d orders are kept", len(o.kept))
	}
	late := o.of(s, v, first.id)
	if late == first || len(late.keys) != keptFrom {
		t.Errorf("order %d of %d keys instead of one that is not kept any more", late.id, len(late.keys))
	}
	o.forget(late)
	if o.find(v, late.id) != nil {
		t.Error("an order whose list is at its end is kept")
	}
	few, w := crowded(t, 100)
	if x := o.of(few, w, 0); x.id != 0 {
		t.Error("the order of few records is kept")
	}
}

// A list of many records goes on while they change: what stays is there once.
func TestOrderOutlivesChanges(t *testing.T) {
	s, v := crowded(t, keptFrom)
	var o recordOrder
	page := recordPage{limit: 10, after: place{origin: -1}, origin: func(int) bool { return true }}
	order := o.of(s, v, 0)
	s.View(func(f *hnv.Fabric) { page.subnet(f, order.from(page.ca.first(v)), nil) })
	if len(page.found) != 11 {
		t.Fatalf("%d records", len(page.found))
	}
	gone, next := page.found[10].record, page.found[9].place
	if _, err := s.UpdateFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return []hnv.Change{{Delete: gone}}, nil }); err != nil {
		t.Fatal(err)
	}
	put(t, s, crowd(keptFrom).Object)
	page = recordPage{limit: keptFrom, after: next, origin: page.origin}
	s.View(func(f *hnv.Fabric) { page.subnet(f, o.of(s, v, order.id).from(next.key), nil) })
	if len(page.found) != keptFrom-11 || page.found[0].key != order.keys[11] {
		t.Errorf("%d records from %s on", len(page.found), page.found[0].key)
	}
}
