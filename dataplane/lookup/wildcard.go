package lookup

import (
	"net/netip"
	"slices"
)

// Wildcards lists the GatewayWildcard records of the domain, those with an IPv4
// CA first. They are the last resort: they get, and speak for, what Resolve finds
// no route for. As records they are like others: their own CAs resolve to them.
// The caller must not change the list.
func (d *Domain) Wildcards() []Key { return d.wild }

// WildcardsFor lists those of the address family of a.
func (d *Domain) WildcardsFor(a netip.Addr) []Key {
	for i := range d.wild {
		if d.wild[i].ca.Is6() {
			if a.Is6() {
				return d.wild[i:]
			}
			return d.wild[:i]
		}
	}
	if a.Is6() {
		return nil
	}
	return d.wild
}

// wildcards gives the list after the keys changed.
func (d *Domain) wildcards(changed map[Key]struct{}, records *Editor[Key, Record]) []Key {
	if len(changed) == 0 {
		return d.wild
	}
	out := slices.Clone(d.wild)
	out = slices.DeleteFunc(out, func(k Key) bool {
		_, dirty := changed[k]
		return dirty
	})
	for k := range changed {
		if r := records.Get(k); r != nil && r.Type == Wildcard {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, Key.compare)
	return slices.Clip(out)
}
