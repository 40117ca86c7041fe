package nat

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// The kernel has one table of neighbours for each family, for all namespaces together.
// An address that does not answer is in it for some seconds, and cannot be taken out
// by others; a host that answers stays up to 53 s (its reachable time, which is 45 s at
// most, and then 8 s of asking again). So a VM that tries all addresses of a network,
// or a station there that forges senders, could fill the table for everybody. Hence a
// compartment sends to so many hosts in so long a time, whatever else allows it.
const (
	// DefaultNeighbours is a quarter of the room that Linux has by default.
	DefaultNeighbours = 256
	// NeighbourTime is how long a host counts after the last packet to it.
	NeighbourTime = time.Minute
)

func (b builder) neighbourSet(f family) string {
	return fmt.Sprintf("neighbours%s-%d", f.digit, cmp.Or(b.spec.Neighbours, DefaultNeighbours))
}

// onLink tells whether there are networks of the family.
func (b builder) onLink(f family) bool { return len(merge(b.spec.OnLink, f.six)) > 0 }

// neighbourSets have the bound in their names, as a set keeps that of its making.
func (b builder) neighbourSets() []nft.Set {
	var out []nft.Set
	for _, f := range b.families {
		if b.onLink(f) {
			out = append(out, prefixSet("on-link"+f.digit, f, b.spec.OnLink), nft.Set{
				Name: b.neighbourSet(f), Key: []nft.Type{f.addr},
				Dynamic: true, Size: cmp.Or(b.spec.Neighbours, DefaultNeighbours), Timeout: NeighbourTime,
			})
		}
	}
	return out
}

// toNeighbours have what goes to a host on a link counted, after all else has let it
// go there, and before the kernel asks for the host.
func (b builder) toNeighbours() []nft.Rule {
	var out []nft.Rule
	for _, f := range b.families {
		if b.onLink(f) {
			out = append(out, nft.R(nft.NotOIfName(b.spec.Outside), nft.In("on-link"+f.digit, f.dst), nft.Goto("neighbours"+f.digit)))
		}
	}
	return out
}

func (b builder) neighbourChains() []nft.Chain {
	var out []nft.Chain
	for _, f := range b.families {
		if !b.onLink(f) {
			continue
		}
		c := nft.Chain{Name: "neighbours" + f.digit}
		if f.six { // by these it is that others know the compartment
			c.Rules = neighbours()
		}
		c.Rules = append(c.Rules, nft.R(nft.Remember(b.neighbourSet(f), f.dst), nft.Accept()), drop(DropNeighbours))
		out = append(out, c)
	}
	return out
}
