//go:build privileged && linux

package nat

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// The nft command agrees that the rules in the kernel are what the text says.
func TestRulesetMeansWhatItSays(t *testing.T) {
	for name, table := range goldenTables(t) {
		ours, theirs := nstest.New(t, "ours"), nstest.New(t, "theirs")
		file := filepath.Join("testdata", name+".nft")
		run(t, "ip", "netns", "exec", theirs, "nft", "-f", file)
		c, err := nft.Open(netns.Path(ours))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Apply(table); err != nil {
			t.Fatal(err)
		}
		want := run(t, "ip", "netns", "exec", theirs, "nft", "list", "ruleset")
		got := run(t, "ip", "netns", "exec", ours, "nft", "list", "ruleset")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: nft -f (-) and Apply (+) differ:\n%s", name, diff)
		}
	}
}

// A large tenant is programmed in one batch, too, and changed cheaply.
func TestManyMappings(t *testing.T) {
	ns := nstest.New(t, "many")
	e, s := New(nil), testSpec(t)
	s.Namespace = netns.Path(ns)
	for i := range 20000 {
		s.Mappings = append(s.Mappings, hnv.NATMapping{Tenant: s.Name, Proto: hnv.UDP,
			External: netip.AddrPortFrom(netip.MustParseAddr(ext1), uint16(2000+i)),
			Internal: netip.AddrPortFrom(netip.MustParseAddr(vm1), uint16(2000+i))})
	}
	for i := range 2000 {
		s.InsidePrefixes = append(s.InsidePrefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 7), byte(i << 1)}), 32))
	}
	for round, want := range []int{1, 0, 1, 0} {
		if round == 2 {
			s.Mappings = s.Mappings[1:]
		}
		start := time.Now()
		r, err := e.Apply(t.Context(), s)
		if err != nil || len(r.Repaired) != want {
			t.Fatalf("round %d: %q, %v", round, r.Repaired, err)
		}
		t.Logf("round %d took %s", round, time.Since(start))
	}
}
