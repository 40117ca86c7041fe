//go:build privileged && linux

package compartments

import (
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// With many virtual subnets, what happens often must not cost as much as they
// are: a tenant that comes, and a link that changes.
func BenchmarkManyVirtualSubnets(b *testing.B) {
	_, e := newTeam(b)
	s := teamSpec(b)
	for i := range 10000 {
		s.VSIDs = append(s.VSIDs, vsid(b, uint32(10000+i)))
	}
	_, err := e.ApplyProvider(b.Context(), s)
	must(b, err)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if repaired, err := e.ApplyProvider(b.Context(), s); err != nil || len(repaired) > 0 {
				b.Fatal(repaired, err)
			}
		}
	})
	b.Run("failover", func(b *testing.B) {
		for b.Loop() {
			if _, err := e.Failover(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("claim", func(b *testing.B) {
		n := uint32(30000)
		for b.Loop() {
			n++
			if err := e.Claim(b.Context(), []hnv.VSID{vsid(b, n)}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
