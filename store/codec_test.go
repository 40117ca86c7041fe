package store

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestCodec(t *testing.T) {
	l2 := record(5001, "10.1.1.11", "00:15:5d:00:00:01", hnv.RuleNVGRE)
	l2.CA, l2.Type = netip.Addr{}, hnv.L2Only
	for _, o := range append(append(twoTenants(), l2), full()...) {
		if tn, ok := o.(hnv.Tenant); ok {
			tn.RDID = hnv.NewRDID() // a drawn one is marked until it is placed
			o = tn.Defaulted()
		}
		value, err := encode(o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(keyOf(o.Kind(), o.Key()), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		if g := reflect.ValueOf(got).Elem().Interface(); !reflect.DeepEqual(g, o) {
			t.Errorf("%s\nbecame %+v\nof     %+v", value, g, o)
		}
	}
}

// FuzzDecode: whatever lies in etcd is read as it would be written, or refused.
func FuzzDecode(f *testing.F) {
	for _, o := range append(twoTenants(), full()...) {
		if tn, ok := o.(hnv.Tenant); ok {
			o = tn.Defaulted()
		}
		value, err := encode(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(keyOf(o.Kind(), o.Key()), []byte(value))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		o, err := decode(key, value)
		if err != nil {
			return
		}
		if keyOf(o.Kind(), o.Key()) != key {
			t.Fatalf("%q gave %s %s", key, o.Kind(), o.Key())
		}
		again, err := encode(o)
		if err != nil {
			t.Fatal(err)
		}
		// An empty list and none are one; written, they are none.
		p, err := decode(key, []byte(again))
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if third, err := encode(p); err != nil || third != again {
			t.Errorf("%s\nbecame %s: %v", again, third, err)
		}
	})
}
