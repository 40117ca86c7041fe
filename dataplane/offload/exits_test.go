package offload

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

type fakeExits struct {
	externals fake[addr, externalValue]
	shares    fake[shareKey, externalValue]
	forwards  fake[forwardKey, forwardValue]
	counts    fake[uint32, exitCount]
	exits     fake[uint32, natExit]
	slots     fake[uint32, uint32]
}

func newFakeExits() *fakeExits {
	f := newFakes()
	return &fakeExits{newFake[addr, externalValue](f), newFake[shareKey, externalValue](f), newFake[forwardKey, forwardValue](f), newFake[uint32, exitCount](f), newFake[uint32, natExit](f), newFake[uint32, uint32](f)}
}

func (f *fakeExits) tables() exitTables {
	return exitTables{&f.externals, &f.shares, &f.forwards, &f.counts, &natTables{&f.exits, &f.slots}}
}

// owner finds whose the port of an address is, as the programs do.
func (f *fakeExits) owner(a netip.Addr, port uint16) int {
	e, ok := f.externals.m[addrOf(a)]
	if !ok || e.Link != 0 {
		return int(e.Link)
	}
	for bits := uint32(shareBits); bits > 128; bits-- {
		p := uint32(port) &^ (1<<(shareBits-bits) - 1)
		if v, ok := f.shares.m[shareKey{Bits: bits, Addr: addrOf(a), Port: [2]byte{byte(p >> 8), byte(p)}}]; ok {
			return int(v.Link)
		}
	}
	return 0
}

func ranges(t testing.TB, s ...string) []hnv.ExternalRange {
	t.Helper()
	var out []hnv.ExternalRange
	for _, s := range s {
		r, err := hnv.ParseExternalRange(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func testExit(t testing.TB, link int, external ...string) Exit {
	return Exit{Link: link, Uplink: 2, MTU: 1500, External: ranges(t, external...)}
}

func mustExits(t testing.TB, f *fakeExits) *exits {
	t.Helper()
	x, err := newExits(f.tables(), 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func set(t testing.TB, x *exits, e Exit) {
	t.Helper()
	if err := x.Set(e); err != nil {
		t.Fatal(err)
	}
}

// A range is cut into prefixes that have its ports and no others.
func TestShareKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := netip.MustParseAddr("203.0.113.20")
	cases := [][2]uint16{{1, 65535}, {1, 1}, {65535, 65535}, {20000, 29999}, {32768, 65535}, {1024, 2047}}
	for range 200 {
		lo, hi := uint16(1+r.IntN(65535)), uint16(1+r.IntN(65535))
		cases = append(cases, [2]uint16{min(lo, hi), max(lo, hi)})
	}
	for _, c := range cases {
		n := make([]int, 1<<16)
		keys := shareKeys(a, c[0], c[1])
		for _, k := range keys {
			at := uint32(k.Port[0])<<8 | uint32(k.Port[1])
			for i := range uint32(1) << (shareBits - k.Bits) {
				n[at+i]++
			}
		}
		for port, n := range n {
			want := 0
			if port >= int(c[0]) && port <= int(c[1]) {
				want = 1
			}
			if n != want {
				t.Fatalf("%d-%d: port %d is in %d prefixes", c[0], c[1], port, n)
			}
		}
		if len(keys) > 30 {
			t.Errorf("%d-%d: %d prefixes", c[0], c[1], len(keys))
		}
	}
}

// What an exit forwards is its own, also of what an earlier process left.
func TestExitsForward(t *testing.T) {
	f := newFakeExits()
	x := mustExits(t, f)
	with := func(link int, prefixes ...string) Exit {
		e := testExit(t, link, fmt.Sprintf("203.0.113.%d", link))
		for _, p := range prefixes {
			e.Forwarded = append(e.Forwarded, netip.MustParsePrefix(p))
		}
		return e
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for k, v := range f.forwards.m {
			a := netip.AddrFrom16([16]byte(k.Addr))
			bits := int(k.Bits) - linkBits
			if a.Is4In6() {
				a, bits = a.Unmap(), bits-96
			}
			if k.Link != v.Link {
				t.Errorf("the entry %+v is of %d", k, v.Link)
			}
			got = append(got, fmt.Sprintf("%d:%s/%d", k.Link, a, bits))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("forwarded: %v, want %v", got, want)
		}
	}
	set(t, x, with(10, "10.1.1.0/24", "fd00:1::/64"))
	set(t, x, with(11, "10.2.0.0/16"))
	check("10:10.1.1.0/24", "10:fd00:1::/64", "11:10.2.0.0/16")
	set(t, x, with(10, "10.1.1.0/24", "10.1.2.0/24"))
	check("10:10.1.1.0/24", "10:10.1.2.0/24", "11:10.2.0.0/16")
	x = mustExits(t, f)
	set(t, x, with(10, "10.1.2.0/24"))
	check("10:10.1.2.0/24", "11:10.2.0.0/16")
	if err := x.Settle(); err != nil {
		t.Fatal(err)
	}
	check("10:10.1.2.0/24")
	if err := x.Remove(10); err != nil {
		t.Fatal(err)
	}
	check()
	bad := with(10)
	bad.Forwarded = []netip.Prefix{netip.MustParsePrefix("10.1.1.1/24")}
	if err := x.Set(bad); err == nil {
		t.Error("a malformed prefix is taken")
	}
}

// Whatever exits come, change and go, each port is its exit's.
func TestExitsAreWhatWasSetLast(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	f := newFakeExits()
	x := mustExits(t, f)
	addrs := []string{"203.0.113.10", "203.0.113.11", "2001:db8::10"}
	blocks := []string{"", "1000-1999", "2000-2999", "3000-4500"}
	now := map[int]map[string]bool{}
	for range 2000 {
		link := 10 + r.IntN(4)
		has := map[string]bool{}
		if r.IntN(4) > 0 { // else it is removed
			for _, a := range addrs {
				for _, b := range blocks {
					if r.IntN(4) == 0 {
						has[a+" "+b] = true
					}
				}
			}
		}
		var e []string
		for s := range has { // as hnv sees to it: nobody else has these any more
			for l, o := range now {
				maps.DeleteFunc(o, func(o string, _ bool) bool { return l != link && clash(o, s) })
			}
		}
		for l, o := range now {
			if l != link {
				set(t, x, testExit(t, l, texts(o)...))
			}
		}
		now[link] = has
		e = texts(has)
		if len(has) == 0 && r.IntN(2) == 0 {
			delete(now, link)
			if err := x.Remove(link); err != nil {
				t.Fatal(err)
			}
		} else {
			set(t, x, testExit(t, link, e...))
		}
		if r.IntN(50) == 0 {
			x = mustExits(t, f) // another process
			for l, o := range now {
				set(t, x, testExit(t, l, texts(o)...))
			}
			if err := x.Settle(); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range addrs {
			for _, port := range []uint16{999, 1000, 1500, 1999, 2000, 4500, 4501} {
				want := 0
				for l, o := range now {
					for _, r := range ranges(t, texts(o)...) {
						if r.Contains(netip.AddrPortFrom(netip.MustParseAddr(a), port)) {
							want = l
						}
					}
				}
				if got := f.owner(netip.MustParseAddr(a), port); got != want {
					t.Fatalf("%s:%d is of %d, not of %d; %v", a, port, got, want, now)
				}
			}
		}
		if len(now) == 0 && len(f.externals.m)+len(f.shares.m) > 0 {
			t.Fatalf("nobody has an address, and %d and %d entries are left", len(f.externals.m), len(f.shares.m))
		}
	}
}

func texts(has map[string]bool) []string {
	var out []string
	for s := range has {
		a, ports := s[:len(s)-len(afterSpace(s))-1], afterSpace(s)
		if ports == "" {
			out = append(out, a)
		} else {
			out = append(out, fmt.Sprintf("[%s]:%s", a, ports))
		}
	}
	slices.Sort(out)
	return out
}

func afterSpace(s string) string {
	for i := range s {
		if s[i] == ' ' {
			return s[i+1:]
		}
	}
	return ""
}

func clash(a, b string) bool {
	if a == b {
		return true
	}
	pa, pb := afterSpace(a), afterSpace(b)
	return a[:len(a)-len(pa)] == b[:len(b)-len(pb)] && (pa == "" || pb == "")
}

// An address is shared only as long as its ranges are there.
func TestSharedAddressIsMarkedLast(t *testing.T) {
	f := newFakeExits()
	x := mustExits(t, f)
	a := addrOf(netip.MustParseAddr("203.0.113.20"))
	watch := func() {
		if v, ok := f.externals.m[a]; ok && v.Link == 0 && len(f.shares.m) == 0 {
			t.Error("the address is marked as shared, and nobody has a part of it")
		}
	}
	f.externals.wrote, f.shares.wrote = watch, watch
	set(t, x, testExit(t, 10, "203.0.113.20:20000-29999"))
	set(t, x, testExit(t, 11, "203.0.113.20:30000-39999"))
	set(t, x, testExit(t, 10))
	if got := f.owner(a.netip(), 30000); got != 11 {
		t.Errorf("port 30000 is of %d", got)
	}
	if got := f.owner(a.netip(), 20000); got != 0 {
		t.Errorf("port 20000 is of %d", got)
	}
	if err := x.Remove(11); err != nil {
		t.Fatal(err)
	}
	if len(f.externals.m)+len(f.shares.m) != 0 {
		t.Errorf("%d and %d entries are left", len(f.externals.m), len(f.shares.m))
	}
}

func TestExitsAreChecked(t *testing.T) {
	x := mustExits(t, newFakeExits())
	for _, e := range []Exit{
		{}, {Link: 1, Uplink: 2}, {Link: 1, MTU: 1500}, {Uplink: 2, MTU: 1500},
		{Link: 1, Uplink: 2, MTU: 1500, External: []hnv.ExternalRange{{}}},
		{Link: 1, Uplink: 2, MTU: 1500, External: []hnv.ExternalRange{{Addr: netip.MustParseAddr("203.0.113.1"), Lo: 5, Hi: 4}}},
	} {
		if x.Set(e) == nil {
			t.Errorf("%+v was taken", e)
		}
	}
}
