//go:build linux

package compartments

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

func team() ProviderSpec {
	return ProviderSpec{Addresses: []hnv.ProviderAddress{
		{Addr: prefix("192.168.1.10/24"), Interface: "pa0"},
		{Addr: prefix("192.168.1.11/24"), Interface: "pa1"},
		{Addr: prefix("192.168.1.12/24"), Interface: "pa1", VLAN: 7},
		{Addr: prefix("192.168.1.13/25"), Interface: "pa2"},
		{Addr: prefix("fd00:aa::10/64"), Interface: "pa0"},
		{Addr: prefix("fd00:aa::11/64"), Interface: "pa2"},
	}, Rewrite: []RewriteAddress{{Addr: mustAddr("192.168.1.200")}, {Addr: mustAddr("192.168.1.20")}, {Addr: mustAddr("10.9.9.9")}}}
}

// Only links of the same prefix and VLAN take addresses over.
func TestHeld(t *testing.T) {
	var got []string
	for _, h := range held(team()) {
		got = append(got, fmt.Sprintf("%s %s %s", h.prefix, h.home, strings.Join(h.refuges, ",")))
	}
	want := []string{
		"192.168.1.10/24 pa0 pa1", "192.168.1.11/24 pa1 pa0", "192.168.1.12/24 pa1.7 ", "192.168.1.13/25 pa2 ",
		"fd00:aa::10/64 pa0 pa2", "fd00:aa::11/64 pa2 pa0",
		"192.168.1.200/32 pa0 pa1", "192.168.1.20/32 pa2 ", "10.9.9.9/32 pa0 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if h := held(ProviderSpec{Rewrite: team().Rewrite[:1]}); h[0].home != "" || (PAState{}).Trouble() == "" {
		t.Errorf("without any provider address: %+v", h)
	}
}

// A link that somebody set down is set up again after a respite, if an address has no
// other that works.
func TestMissed(t *testing.T) {
	own := []holding{{prefix: prefix("192.168.1.10/24"), home: "a", refuges: []string{"b"}}, {prefix: prefix("192.168.1.11/24"), home: "b", refuges: []string{"a"}}}
	alone := append(slices.Clone(own), holding{prefix: prefix("192.168.2.10/24"), home: "a"})
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		all   []holding
		since time.Duration // for which a is down
		b     Fault
		at    string // where a's address is
		up    []string
		next  time.Duration
	}{
		{name: "the other has its address", all: own, since: time.Hour, at: "b"},
		{name: "in its respite", all: own, since: respite - time.Millisecond, at: "a", next: time.Millisecond},
		{name: "after its respite", all: own, since: respite, at: "a", up: []string{"a"}},
		{name: "the other does not work", all: own, since: respite, b: FaultNoCarrier, at: "b", up: []string{"a"}},
		{name: "another address has no other", all: alone, since: respite, at: "b", up: []string{"a"}},
	} {
		links := map[string]linkHealth{"a": {index: 1, fault: FaultDown, since: now.Add(-c.since)}, "b": {index: 2, fault: c.b}}
		p := placement{own[0].prefix.Addr(): c.at}
		if up, next := missed(c.all, p, map[string]bool{"a": true}, links, now); !slices.Equal(up, c.up) || next != c.next {
			t.Errorf("%s: %q are set up, others in %v", c.name, up, next)
		}
		if up, next := missed(c.all, p, nil, links, now); up != nil || next != 0 {
			t.Errorf("%s: %q are set up that nobody leaves down", c.name, up)
		}
	}
}

func TestPlace(t *testing.T) {
	h := holding{prefix: prefix("192.168.1.10/24"), home: "a", refuges: []string{"b", "c"}}
	now := time.Unix(1000, 0)
	links := map[string]linkHealth{}
	for _, c := range []struct {
		after   time.Duration
		a, b, c string // how the links are: "up", "down", "new" (never worked), "gone"
		at      string
		want    string
		valid   time.Duration
	}{
		{0, "new", "new", "new", "", "a", patience}, // a machine starts
		{time.Second, "new", "up", "new", "a", "a", patience - time.Second},
		{time.Second, "up", "up", "new", "a", "a", 0},
		{time.Second, "down", "up", "up", "a", "b", 0}, // at once
		{time.Second, "down", "down", "up", "b", "c", 0},
		{time.Second, "down", "up", "up", "c", "c", 0}, // no need to move
		{time.Second, "up", "up", "up", "c", "c", probation},
		{probation / 3, "up", "up", "up", "c", "c", probation - probation/3},
		{time.Second, "down", "up", "up", "c", "c", 0}, // it was not for good
		{time.Second, "up", "up", "up", "c", "c", probation},
		{probation, "up", "up", "up", "c", "a", 0},
		{time.Second, "down", "up", "up", "a", "b", 0},
		{time.Second, "up", "down", "up", "b", "a", 0}, // there is nothing to wait for
		{time.Second, "down", "down", "down", "a", "a", 0},
		{time.Second, "down", "down", "up", "a", "c", 0},
		{time.Second, "down", "down", "down", "c", "c", 0}, // which comes back first?
		{time.Second, "down", "down", "gone", "c", "a", 0},
		{time.Second, "gone", "up", "gone", "a", "b", 0},
		{time.Second, "up", "up", "up", "b", "b", probation}, // a new interface of the name
	} {
		now = now.Add(c.after)
		for name, how := range map[string]string{"a": c.a, "b": c.b, "c": c.c} {
			index, fault := 1, FaultNone
			switch how {
			case "down", "new":
				fault = FaultNoCarrier
			case "gone":
				index, fault = 0, FaultMissing
			}
			links[name] = links[name].look(index, fault, now)
		}
		got, valid := h.place(c.at, links, now)
		if got != c.want || valid != c.valid {
			t.Errorf("%s: with %s, %s, %s and the address on %q it goes to %s for %v, want %s for %v", now.UTC().Format("04:05"), c.a, c.b, c.c, c.at, got, valid, c.want, c.valid)
		}
	}
	// One that was left elsewhere by a former run stays, without being waited for.
	fresh := map[string]linkHealth{"a": {index: 1, fault: FaultNoCarrier, since: now, first: now}, "b": {index: 2, worked: true, since: now}}
	if got, valid := h.place("b", fresh, now); got != "b" || valid != 0 {
		t.Errorf("after a restart it goes to %s for %v", got, valid)
	}
}

// Whatever links do: an address is on a link that works if any of its network
// does, but for a while at the start; and it moves only for a reason.
func TestPlaceHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h := holding{prefix: prefix("192.168.1.10/24"), home: "a", refuges: []string{"b", "c"}}
	for range 200 {
		now := time.Unix(1000, 0)
		links := map[string]linkHealth{}
		at := ""
		for range 100 {
			now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
			any := false
			for _, name := range []string{"a", "b", "c"} {
				l := links[name]
				if l.since.IsZero() || r.IntN(4) == 0 {
					f := []Fault{FaultNone, FaultNone, FaultDown, FaultNoCarrier, FaultMissing}[r.IntN(5)]
					index := 1
					if f == FaultMissing {
						index = 0
					}
					l = l.look(index, f, now)
				} else {
					l = l.look(l.index, l.fault, now)
				}
				links[name] = l
				any = any || l.fault == FaultNone
			}
			to, valid := h.place(at, links, now)
			if again, v := h.place(to, links, now); again != to || v != valid {
				t.Fatalf("it does not rest: from %q to %s for %v, then to %s for %v: %+v", at, to, valid, again, v, links)
			}
			if any && links[to].fault != FaultNone && now.Sub(links["a"].first) >= patience {
				t.Fatalf("on %s, which does not work, from %q: %+v", to, at, links)
			}
			if at != "" && to != at && links[at].fault == FaultNone && (to != "a" || now.Sub(links["a"].since) < probation) {
				t.Fatalf("from %s, which works, to %s: %+v", at, to, links)
			}
			if valid < 0 || valid > max(probation, patience) {
				t.Fatalf("valid for %v", valid)
			}
			at = to
		}
	}
}
