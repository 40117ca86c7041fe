//go:build linux

package compartments

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// barred is what there cannot be, and why: it is done without.
type barred struct {
	links map[string]string     // VLAN links, by name: they are missing links
	addrs map[netip.Addr]string // addresses that no link takes
}

// without gives what is left to be made where some addresses cannot be had: not the
// routes over them either.
func (s ProviderSpec) without(addrs map[netip.Addr]string) ProviderSpec {
	if len(addrs) == 0 {
		return s
	}
	s.Addresses = slices.DeleteFunc(slices.Clone(s.Addresses), func(a hnv.ProviderAddress) bool { return addrs[a.Addr.Addr()] != "" })
	s.Rewrite = slices.DeleteFunc(slices.Clone(s.Rewrite), func(r RewriteAddress) bool { return addrs[r.Addr] != "" })
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r hnv.ProviderRoute) bool { _, ok := onLink(s, r.NextHop); return !ok })
	return s
}

// barStrangers passes over links that have the name of a VLAN link and are
// something else.
func barStrangers(s ProviderSpec, seen *seenProvider) {
	for _, a := range s.Addresses {
		name := ProviderLink(a)
		l, have := seen.links[name]
		if a.VLAN != 0 && have && (l.Kind != "vlan" || l.VLAN != a.VLAN || l.Parent != seen.links[a.Interface].Index) {
			seen.barred.links[name] = fmt.Sprintf("is there and is not VLAN %d of %s: rename or remove it", a.VLAN, a.Interface)
			delete(seen.links, name)
		}
	}
}

// runBarring carries out the steps in order, and tells which it did. A VLAN link or
// an address that cannot be had is barred, and what may build on it, which was
// planned with it, left for another plan.
func (x *executor) runBarring(steps []step, not barred) (done []step, err error) {
	lacking := false
	for _, s := range steps {
		if lacking && builds(s) {
			return done, nil
		}
		err := x.run([]step{s})
		if err == nil {
			done = append(done, s)
			continue
		}
		v, vlan := s.(addVLAN)
		a, addr := s.(addAddr)
		switch {
		case x.ctx.Err() != nil || !vlan && !addr:
			return done, err
		case vlan:
			not.links[v.name] = "cannot be made: " + err.Error()
		case addr:
			not.addrs[a.prefix.Addr()] = err.Error()
		}
		lacking = true
	}
	return done, nil
}

// builds tells whether the step may need an address.
func builds(s step) bool {
	switch s.(type) {
	case addRoute, addRule, announce:
		return true
	}
	return false
}
