//go:build privileged && linux

package nft

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nstest"
)

func simple(rules ...Rule) Table {
	return Table{Family: Inet, Name: "t", Counters: []string{"seen"}, Chains: []Chain{
		{Name: "in", Hook: &Hook{Type: Filter, At: Input}, Rules: rules}}}
}

// A table that the kernel refuses is not made in part, and the error names what
// was refused.
func TestRefusalNamesItsObject(t *testing.T) {
	ns := nstest.New(t, "refuse")
	c := open(t, ns)
	apply(t, c, simple(R(Count("seen"))))
	before := nftCommand(t, ns, "list", "ruleset")
	// Translation is for chains of type nat only.
	bad := simple(R(Count("seen"), Drop()), R(L4Proto(ProtoTCP), SNAT(netip.MustParseAddr("192.0.2.1"), 1, 2)))
	_, err := c.Apply(bad)
	if err == nil || !strings.Contains(err.Error(), "chain in") || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("the refusal is %v", err)
	}
	if after := nftCommand(t, ns, "list", "ruleset"); after != before {
		t.Errorf("a refused change left\n%s", after)
	}
}

// What must be made anew keeps its counters.
func TestRebuildKeepsCounters(t *testing.T) {
	ns := nstest.New(t, "rebuild")
	c := open(t, ns)
	nftCommand(t, ns, `add table inet t; add counter inet t seen { packets 7 bytes 700; }; add chain inet t in { type filter hook forward priority 5; }`)
	changes := apply(t, c, simple(R(Count("seen"))))
	if len(changes) != 1 || !strings.Contains(changes[0], "rebuilt") {
		t.Errorf("changes are %q", changes)
	}
	counters, err := c.Counters(Inet, "t")
	if err != nil || counters["seen"] != (Counter{7, 700}) {
		t.Errorf("counters are %v, %v", counters, err)
	}
	if again := apply(t, c, simple(R(Count("seen")))); len(again) != 0 {
		t.Errorf("a second apply changed %q", again)
	}
}

// Two writers that do not know of each other both come to an end, and the table
// is that of one of them.
func TestWritersAtOnce(t *testing.T) {
	ns := nstest.New(t, "race")
	one, two := simple(R(Count("seen"), Drop())), simple(R(Count("seen"), Accept()), R(Drop()))
	var wg sync.WaitGroup
	for _, table := range []Table{one, two} {
		c := open(t, ns)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if _, err := c.Apply(table); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	c := open(t, ns)
	first, second := apply(t, c, one), apply(t, c, one)
	if len(second) != 0 || len(first) > 1 {
		t.Errorf("after the race: %q, then %q", first, second)
	}
}

func TestDeleteAndAbsence(t *testing.T) {
	c := open(t, nstest.New(t, "delete"))
	if err := c.Delete(Inet, "t"); err != nil {
		t.Errorf("a table that is not there: %v", err)
	}
	if counters, err := c.Counters(Inet, "t"); err != nil || len(counters) != 0 {
		t.Errorf("its counters: %v, %v", counters, err)
	}
	apply(t, c, simple())
	if there, err := c.Exists(Inet, "t"); err != nil || !there {
		t.Errorf("the table is there: %v, %v", there, err)
	}
	if err := c.Delete(Inet, "t"); err != nil {
		t.Error(err)
	}
	if there, err := c.Exists(Inet, "t"); err != nil || there {
		t.Errorf("the table is there: %v, %v", there, err)
	}
}

// Tables of other families and names are nobody's business.
func TestOthersTablesStay(t *testing.T) {
	ns := nstest.New(t, "others")
	nftCommand(t, ns, `add table ip t; add chain ip t in; add table inet other; add set inet other s { type ipv4_addr; }`)
	c := open(t, ns)
	apply(t, c, simple())
	if err := c.Delete(Inet, "t"); err != nil {
		t.Fatal(err)
	}
	if got := nftCommand(t, ns, "list", "tables"); got != "table ip t\ntable inet other\n" {
		t.Errorf("tables are\n%s", got)
	}
}
