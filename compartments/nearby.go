package compartments

import "net/netip"

// nearby finds, among the entries of all compartments, those that have to do with one
// of them.
type nearby struct {
	links map[string]map[entry]bool     // what compartments own, by the peer of ext
	addrs map[netip.Addr]map[entry]bool // external addresses, and what steers to them
	steer map[int]map[entry]bool        // what steers, by the index of the peer of ext
}

func newNearby() nearby {
	return nearby{map[string]map[entry]bool{}, map[netip.Addr]map[entry]bool{}, map[int]map[entry]bool{}}
}

func (n nearby) add(e entry) {
	if e.owned() {
		note(n.links, e.link, e)
	}
	if e.external() || e.steers() {
		note(n.addrs, e.addr, e)
	}
	if e.steers() {
		note(n.steer, e.index, e)
	}
}

func note[K comparable](m map[K]map[entry]bool, k K, e entry) {
	if m[k] == nil {
		m[k] = map[entry]bool{}
	}
	m[k][e] = true
}

func (n nearby) del(e entry) {
	forget(n.links, e.link, e)
	forget(n.addrs, e.addr, e)
	forget(n.steer, e.index, e)
}

func forget[K comparable](m map[K]map[entry]bool, k K, e entry) {
	delete(m[k], e)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// of gives the entries of the compartment with the peer, and whoever's entries there
// are for the addresses.
func (n nearby) of(peer string, index int, addrs []netip.Addr) []entry {
	found := map[entry]bool{}
	take := func(m map[entry]bool) {
		for e := range m {
			found[e] = true
		}
	}
	take(n.links[peer])
	take(n.steer[index])
	for _, a := range addrs {
		take(n.addrs[a])
	}
	out := make([]entry, 0, len(found))
	for e := range found {
		out = append(out, e)
	}
	return out
}

// held tells whether a compartment has the address or a part.
func (n nearby) held(a netip.Addr) bool {
	for e := range n.addrs[a] {
		if e.external() {
			return true
		}
	}
	return false
}
