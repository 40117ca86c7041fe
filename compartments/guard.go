//go:build linux

package compartments

import (
	"context"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// guardSets are the sets that tell the rules of the fabric.
var guardSets = []string{setPALinks, setPA4, setPA6, setVM4, setVM6, setGuard4, setGuard6, setVMGuard4, setVMGuard6, setVSIDs}

// planGuard keeps the rules' knowledge of the fabric.
func planGuard(links []string, s ProviderSpec, have []entry) changeEntries {
	want := map[entry]bool{}
	for _, l := range links {
		want[entry{set: setPALinks, link: l}] = true
	}
	for _, h := range held(s) {
		ip := h.prefix.Addr()
		sets := []string{setPA4, setGuard4}
		if h.rewrite {
			sets = []string{setPA4, setVM4, setVMGuard4}
		}
		for _, set := range sets {
			want[entry{set: ofFamily(set, ip.Is6()), addr: ip}] = true
		}
	}
	for _, g := range s.Groups {
		want[entry{set: ofFamily(setGuard4, g.Is6()), addr: g}] = true
	}
	for _, v := range s.VSIDs {
		want[entry{set: setVSIDs, vsid: v.Uint32()}] = true
	}
	var c changeEntries
	for _, e := range have {
		if want[e] {
			delete(want, e)
		} else if slices.Contains(guardSets, e.set) {
			c.del = append(c.del, e)
		}
	}
	for e := range want {
		c.put = append(c.put, e)
	}
	slices.SortFunc(c.put, entry.compare)
	slices.SortFunc(c.del, entry.compare)
	return c
}

// ofFamily gives the set of IPv4 addresses, or its sibling.
func ofFamily(set4 string, six bool) string {
	if six {
		return set4[:len(set4)-1] + "6"
	}
	return set4
}

// Claim makes sure that tunnel packets of the virtual subnets are kept from the
// gateway's own stack, beside what ApplyProvider was told: a tenant's are, before
// the dataplane has the tenant.
func (e *Engine) Claim(ctx context.Context, vsids []hnv.VSID) error {
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	x := &executor{ctx: ctx, e: e}
	_, err := e.ensureSteer(x)
	if err == nil {
		_, err = g.sync(false)
	}
	var c changeEntries
	for _, v := range vsids {
		if en := (entry{set: setVSIDs, vsid: v.Uint32()}); !g.entries[en] && !slices.Contains(c.put, en) {
			c.put = append(c.put, en)
		}
	}
	if err == nil && len(c.put) > 0 {
		err = x.run([]step{c})
	}
	if err != nil {
		return fmt.Errorf("claim virtual subnets: %w", err)
	}
	return nil
}
