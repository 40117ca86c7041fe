package offload

import (
	"testing"
	"time"
)

func natOf(port int) *NAT {
	return &NAT{Port: port, Netns: 3, TCPTimeout: 5 * time.Minute, UDPTimeout: 2 * time.Minute}
}

// at is what the programs find for an interface.
func (f *fakeExits) at(ifindex uint32) natExit {
	slot, ok := f.slots.m[ifindex]
	if !ok {
		return natExit{}
	}
	return f.exits.m[slot]
}

// A flow is believed as long as its exit's generation is that which it was learnt
// with: each change that may take something from it makes another one, and nothing
// else does.
func TestGenerations(t *testing.T) {
	f := newFakeExits()
	x := mustExits(t, f)
	a := testExit(t, 10, "203.0.113.10", "203.0.113.20:1000-1999")
	a.NAT = natOf(100)
	set(t, x, a)
	first := f.at(10)
	if first.On != 1 || first.Port != 100 || first.Link != 10 || first.Generation == 0 || f.at(100) != first {
		t.Fatalf("the exit is %+v", first)
	}
	last := first.Generation
	check := func(what string, renewed bool) {
		t.Helper()
		now := f.at(10)
		if (now.Generation != last) != renewed {
			t.Errorf("%s: the generation was %d, and is %d", what, last, now.Generation)
		}
		last = now.Generation
	}
	set(t, x, a)
	check("nothing", false)
	x = mustExits(t, f) // another process
	set(t, x, a)
	check("another process", false)
	b := a
	b.External = append(b.External, ranges(t, "203.0.113.30")...)
	set(t, x, b)
	check("one more address", false)
	set(t, x, a)
	check("one address less", true)
	c := testExit(t, 11, "203.0.113.20:1000-1999")
	c.NAT = natOf(101)
	set(t, x, c)
	check("a range given to another exit", true)
	c.External = ranges(t, "203.0.113.10")
	set(t, x, c)
	check("an address given to another exit", true)
	if err := x.Renew(10); err != nil {
		t.Fatal(err)
	}
	check("renewed", true)
	b = a
	b.NAT = natOf(102)
	b.External = nil
	set(t, x, b)
	check("another port", true)
	if f.at(100) != (natExit{}) || f.at(102) != f.at(10) {
		t.Errorf("the old port has %+v, the new one %+v", f.at(100), f.at(102))
	}
}

// What an exit had is not believed in its successor's time, not in the same slot.
func TestSlotsOfExits(t *testing.T) {
	f := newFakeExits()
	x := mustExits(t, f)
	seen := map[[2]uint32]bool{}
	for i := range 300 {
		e := testExit(t, 1000+i, "203.0.113.10")
		e.NAT = natOf(5000 + i)
		set(t, x, e)
		slot := f.slots.m[uint32(e.Link)]
		k := [2]uint32{slot, f.exits.m[slot].Generation}
		if seen[k] {
			t.Fatalf("slot %d was in use with generation %d before", k[0], k[1])
		}
		seen[k] = true
		if i%3 == 0 {
			x = mustExits(t, f)
		}
		var err error
		if i%2 == 0 {
			err = x.Remove(e.Link)
		} else {
			e.NAT = nil
			err = x.Set(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(f.slots.m) != 0 || f.exits.m[slot].On != 0 {
			t.Fatalf("after it went, slot %d has %+v", slot, f.exits.m[slot])
		}
	}
}

func TestNATIsChecked(t *testing.T) {
	f := newFakeExits()
	for _, n := range []NAT{{}, {Port: 1, Netns: -1, TCPTimeout: time.Minute, UDPTimeout: time.Minute}, {Port: 1, TCPTimeout: time.Minute}, {TCPTimeout: time.Minute, UDPTimeout: time.Minute}} {
		e := testExit(t, 10)
		e.NAT = &n
		if mustExits(t, f).Set(e) == nil {
			t.Errorf("%+v was taken", n)
		}
	}
	tables := f.tables()
	tables.nat = nil
	x, err := newExits(tables, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := testExit(t, 10)
	e.NAT = natOf(100)
	if x.Set(e) == nil {
		t.Error("without the fast path, NAT offload was taken")
	}
}
