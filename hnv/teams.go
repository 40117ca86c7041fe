package hnv

import (
	"net/netip"
	"slices"
)

// RemoteTeams gives, of the hosts that records say have several provider
// addresses, all of these, in order and at most so many; this machine's own are
// left out.
func (f *Fabric) RemoteTeams(most int) []netip.Addr {
	all := map[netip.Addr]bool{}
	for _, m := range f.records {
		for _, r := range m {
			if len(r.TeamPAs) == 0 {
				continue
			}
			all[r.PA] = true
			for _, a := range r.TeamPAs {
				all[a] = true
			}
		}
	}
	out := make([]netip.Addr, 0, len(all))
	for a := range all {
		if _, own := f.paddrs[a]; !own {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out[:min(len(out), most)]
}
