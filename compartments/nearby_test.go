package compartments

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// What is found by the index is what a look at all entries finds, whatever came and
// went.
func TestNearby(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	peers := []string{"x1", "x2", "x3"}
	addr := func() netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(4))}) }
	random := func() entry {
		peer := rng.IntN(len(peers))
		switch rng.IntN(5) {
		case 0:
			return entry{set: setExits, link: peers[peer], other: "ext0"}
		case 1:
			return entry{set: setWhole4, link: peers[peer], addr: addr()}
		case 2:
			return entry{set: setShared4, link: peers[peer], addr: addr(), lo: uint16(rng.IntN(2))}
		case 3:
			return entry{set: setSteer4, addr: addr(), index: peer + 1}
		}
		return entry{set: setPA4, addr: addr()}
	}
	n, all := newNearby(), map[entry]bool{}
	for range 2000 {
		if e := random(); rng.IntN(2) == 0 {
			n.add(e)
			all[e] = true
		} else {
			n.del(e)
			delete(all, e)
		}
		peer, a := rng.IntN(len(peers)), addr()
		want, held := []entry{}, false
		for e := range all {
			o := outside{peer: peers[peer]}
			s := seenOutside{}
			s.peer.Index = peer + 1
			if s.mine(e, o.peer) || e.addr == a && (e.external() || e.steers()) {
				want = append(want, e)
			}
			held = held || e.external() && e.addr == a
		}
		got := n.of(peers[peer], peer+1, []netip.Addr{a})
		slices.SortFunc(got, entry.compare)
		slices.SortFunc(want, entry.compare)
		if !slices.Equal(got, want) || n.held(a) != held {
			t.Fatalf("of %s and %s there is %v, held: %v; want %v, %v", peers[peer], a, got, n.held(a), want, held)
		}
	}
	for e := range maps.Keys(all) {
		n.del(e)
	}
	if len(n.links)+len(n.addrs)+len(n.steer) > 0 {
		t.Errorf("%+v is left of nothing", n)
	}
}
