package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
)

// maxDerived bounds the prefixes behind its compartment that a tenant's virtual
// network is told. The default route leads there for what is left out.
const maxDerived = 10_000

// learned are the prefixes that BGP says are behind the compartment.
type learned struct {
	prefixes []netip.Prefix // sorted
	leftOut  int
}

// follow fetches the routes that the speaker has learned, where they changed. It tells
// whether the tenant's tables follow.
func (k *keeper) follow(ctx context.Context) (changed bool) {
	k.mu.Lock()
	d, now := k.duty, k.speaker
	done := k.taken == now.Generation && k.restart == k.told.PID
	pid := k.told.PID
	k.mu.Unlock()
	if d == nil || d.speaker == nil {
		return k.t.teach(learned{})
	}
	// A speaker that has just started knows less than the kernel has from the one before:
	// what that one learned stands as long as the kernel's routes.
	if done || now.Restarting {
		return false
	}
	l := learned{leftOut: now.FIB.Installed}
	if now.FIB.Installed <= maxDerived {
		paths, err := k.paths(ctx, fmt.Sprintf("routes?best=true&limit=%d", 2*maxDerived))
		if err != nil {
			k.t.c.o.Log.Warn("fetch what BGP learned", "tenant", k.t.name, "err", err)
			return false
		}
		l = learned{prefixes: learnedOf(paths)}
	}
	k.mu.Lock()
	k.taken, k.restart = now.Generation, pid
	k.mu.Unlock()
	return k.t.teach(l)
}

// paths asks the agent for a table of BGP.
func (k *keeper) paths(ctx context.Context, what string) ([]bgp.Path, error) {
	b, err := k.t.c.o.Agents.Ask(ctx, k.t.name, http.MethodGet, "/v1/"+agent.BGP+"/"+what)
	if err != nil {
		return nil, err
	}
	var out []bgp.Path
	return out, decode(b, &out)
}

func learnedOf(paths []bgp.Path) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range paths {
		if p.Best && p.Peer.IsValid() && p.Prefix.Bits() > 0 {
			out = append(out, p.Prefix)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// teach has the tenant's tables follow what was learned, and tells whether they have
// to.
func (t *tenant) teach(l learned) bool {
	old := t.learned.Swap(&l)
	if old == nil && len(l.prefixes) == 0 || old != nil && slices.Equal(old.prefixes, l.prefixes) {
		return false
	}
	t.dirty.Store(true)
	t.wish.wake()
	return true
}

// beyond are the prefixes that are reached through the tenant's compartment, as
// tunnels, attachments and BGP have them: what hosts are told besides the default
// route. Prefixes inside the tenant's own are left out: there it has VMs.
func beyond(f *hnv.Fabric, t hnv.Tenant, l *learned) (out []netip.Prefix, leftOut int) {
	own := tenantPrefixes(t)
	add := func(p netip.Prefix) {
		inside := slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
		if p.Bits() > 0 && !inside {
			out = append(out, p.Masked())
		}
	}
	for _, c := range f.Connections(t.Name) {
		tn := plainTunnel(c)
		for _, a := range tn.Addresses {
			add(a)
		}
		for _, p := range tn.Peers {
			for _, q := range tn.Seen(p.Prefixes) {
				add(q)
			}
		}
	}
	for _, a := range f.Attachments(t.Name) {
		for _, p := range a.Addresses {
			add(p)
		}
		for _, r := range a.Routes {
			add(r.Prefix)
		}
	}
	if l != nil {
		for _, p := range l.prefixes {
			add(p)
		}
		leftOut = l.leftOut
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	out = slices.Compact(out)
	if over := len(out) - maxDerived; over > 0 {
		out, leftOut = out[:maxDerived], leftOut+over
	}
	return out, leftOut
}
