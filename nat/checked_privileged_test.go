//go:build privileged && linux

package nat

import (
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// disturbances are changes that somebody makes to the rules of testSpec.
var disturbances = []string{
	"flush ruleset",
	"flush chain inet hnv egress",
	"insert rule inet hnv forward accept",
	"add rule inet hnv forward accept",
	"add chain inet hnv forward { policy accept; }",
	"add element inet hnv whole4 { 192.0.2.99 }",
	"flush set inet hnv inside4",
	"add table inet hnv { flags dormant; }",
	"add chain inet hnv theirs",
}

func at(t *testing.T) (string, Spec, func(args ...string) string) {
	t.Helper()
	ns := nstest.New(t, "checked")
	s := testSpec(t)
	s.Namespace = netns.Path(ns)
	return ns, s, func(args ...string) string {
		t.Helper()
		return run(t, append([]string{"ip", "netns", "exec", ns, "nft"}, args...)...)
	}
}

func repaired(t *testing.T, e *Engine, s Spec) []string {
	t.Helper()
	r, err := e.Apply(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r.Repaired
}

// Whatever was changed while no process looked, and whatever is changed while one
// does, is found and set right.
func TestChangesAreFound(t *testing.T) {
	_, s, nftables := at(t)
	for _, d := range disturbances {
		for _, restart := range []bool{true, false} {
			e := New(nil)
			for range 3 { // the last one knows that nothing has changed
				repaired(t, e, s)
			}
			want, _ := counted(nftables("list", "ruleset"))
			nftables(d)
			if restart {
				e = New(nil)
			}
			if got := repaired(t, e, s); len(got) == 0 {
				t.Errorf("%s (restart: %v) was not found", d, restart)
			}
			if got := repaired(t, New(nil), s); len(got) != 0 {
				t.Errorf("after %s was repaired, another process changed %q", d, got)
			}
			if got, _ := counted(nftables("list", "ruleset")); len(got) != len(want) {
				t.Errorf("after %s there are %d counters, want %d", d, len(got), len(want))
			}
		}
	}
}

// A new process takes sealed rules over without a change, and compares them all the
// same the next time.
func TestSealedRulesAreTakenOver(t *testing.T) {
	_, s, nftables := at(t)
	repaired(t, New(nil), s)
	before := nftables("list", "ruleset")
	if n := strings.Count(before, "chain sealed-"); n != 1 {
		t.Fatalf("%d seals in\n%s", n, before)
	}
	e := New(nil)
	for range 3 {
		if got := repaired(t, e, s); len(got) != 0 {
			t.Errorf("changed %q", got)
		}
	}
	if after := nftables("list", "ruleset"); after != before {
		t.Errorf("the ruleset was\n%s\nand is\n%s", before, after)
	}
}

// A seal is of one table alone, and there is never more than one.
func TestSealIsOfOneTable(t *testing.T) {
	_, s, nftables := at(t)
	repaired(t, New(nil), s)
	s.InsideMTU--
	if got := repaired(t, New(nil), s); len(got) == 0 {
		t.Error("another process did not see that something else is wanted")
	}
	s.Mappings = append(slices.Clone(s.Mappings), testMapping(t, hnv.UDP, ext1+":4711", vm1+":4711"))
	e := New(nil)
	for range 2 {
		repaired(t, e, s)
	}
	nftables("add", "table", "inet", "other") // as tunnels do
	for range 2 {
		if got := repaired(t, e, s); len(got) != 0 {
			t.Errorf("somebody else's table made it change %q", got)
		}
	}
	if n := strings.Count(nftables("list", "ruleset"), "chain sealed-"); n != 1 {
		t.Errorf("there are %d seals", n)
	}
}

// A namespace that takes another's place, and its path, is not taken for it.
func TestAnotherNamespaceOfThePath(t *testing.T) {
	ns, s, _ := at(t)
	e := New(nil)
	for range 3 {
		repaired(t, e, s)
	}
	if err := netns.Delete(ns); err != nil {
		t.Fatal(err)
	}
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	// As many changes as there were, so that the generation is the same.
	c, err := nft.Open(netns.Path(ns))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	last := e.checked.by[s.Namespace]
	for gen := uint32(0); gen < last.generation; {
		if _, err := c.Apply(nft.Table{Family: nft.Inet, Name: "t", Counters: []string{string(rune('a' + gen))}}); err != nil {
			t.Fatal(err)
		}
		if gen, err = c.Generation(); err != nil {
			t.Fatal(err)
		}
	}
	if got := repaired(t, e, s); len(got) == 0 {
		t.Error("rules that are not there were taken for right")
	}
}
