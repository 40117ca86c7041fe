//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// dissolve is how long the kernel may take to dissolve a namespace before its
// links are deleted one by one: someone may have a process in it.
const dissolve = time.Second

// Delete removes the compartment and all of it outside. It is no error if there
// is none.
func (e *Engine) Delete(ctx context.Context, n hnv.Name) error {
	defer e.lock(n)()
	if _, err := e.remove(ctx, []hnv.Name{n}, false); err != nil {
		return fmt.Errorf("delete compartment %s: %w", n, err)
	}
	return nil
}

// Prune removes every compartment of ours that is not in keep, and what killed
// runs left behind. It says what it removed.
func (e *Engine) Prune(ctx context.Context, keep []hnv.Name) ([]string, error) {
	removed, err := e.prune(ctx, keep)
	if err != nil {
		return removed, fmt.Errorf("prune compartments: %w", err)
	}
	return removed, nil
}

func (e *Engine) prune(ctx context.Context, keep []hnv.Name) ([]string, error) {
	skip := map[hnv.Name]bool{} // those that stay are not looked at: at the start, all others wait for this
	for _, n := range keep {
		skip[n] = true
	}
	found, err := e.list(skip)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		skip[n] = true
	}
	links, err := e.out.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if t, _, ours := e.names.tenant(l.Alias); ours && !skip[t] {
			skip[t] = true
			found = append(found, t) // links without their namespace
		}
	}
	slices.SortFunc(found, func(a, b hnv.Name) int { return strings.Compare(a.String(), b.String()) })
	for _, n := range found {
		defer e.lock(n)()
	}
	removed, err := e.remove(ctx, found, true)
	if err != nil {
		return removed, err
	}
	stubs, err := e.pruneStubs()
	return append(removed, stubs...), err
}

// pruneStubs removes the files of namespaces whose making was killed.
func (e *Engine) pruneStubs() ([]string, error) {
	stubs, err := netns.Stubs()
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, s := range stubs {
		rest, ours := strings.CutPrefix(s, e.names.instance+"-")
		if _, err := hnv.ParseName(rest); !ours || err != nil {
			continue
		}
		if err := netns.Delete(s); err != nil {
			return removed, err
		}
		removed = append(removed, "file of a namespace that was never made: "+s)
	}
	return removed, nil
}

// list names the compartments there are, by their marks, but for those to skip.
func (e *Engine) list(skip map[hnv.Name]bool) ([]hnv.Name, error) {
	all, err := netns.List()
	if err != nil {
		return nil, err
	}
	var out []hnv.Name
	for _, ns := range all {
		rest, ok := strings.CutPrefix(ns, e.names.instance+"-")
		n, err := hnv.ParseName(rest)
		if !ok || err != nil || skip[n] {
			continue
		}
		ours, err := e.ours(ns, n)
		if err != nil {
			return nil, err
		}
		if ours {
			out = append(out, n)
		}
	}
	return out, nil
}

// ours tells whether the namespace has our mark. One that vanishes meanwhile
// does not.
func (e *Engine) ours(ns string, n hnv.Name) (bool, error) {
	h, err := e.openCompartment(ns)
	if h == nil {
		return false, ignoreGone(err)
	}
	defer h.Close()
	lo, err := h.Link("lo")
	return err == nil && lo.Alias == e.names.marker(n), err
}

// remove removes compartments together: the kernel dissolves many namespaces in
// the time of one.
func (e *Engine) remove(ctx context.Context, tenants []hnv.Name, everything bool) ([]string, error) {
	var removed []string
	var links []string
	var spaces []string
	for _, n := range tenants {
		ns := e.names.namespace(n)
		peers, ours, err := e.traces(ns, n)
		if err != nil {
			return removed, err
		}
		links = append(links, peers...)
		if ours {
			spaces = append(spaces, ns)
			removed = append(removed, "compartment "+n.String())
		}
	}
	swept, err := e.sweep(ctx, links, everything || len(links) == 0)
	if everything {
		removed = append(removed, swept...)
	}
	if err != nil {
		return removed, err
	}
	for _, ns := range spaces {
		if err := netns.Delete(ns); err != nil {
			return removed, err
		}
	}
	return removed, e.waitGone(ctx, links)
}

// traces finds the gateway-side links of a compartment.
func (e *Engine) traces(ns string, n hnv.Name) (peers []string, ours bool, err error) {
	h, err := e.openCompartment(ns)
	if err := ignoreGone(err); err != nil {
		return nil, false, err
	}
	if h == nil {
		return e.strayLinks(n)
	}
	defer h.Close()
	inner, err := h.Links()
	if err != nil {
		return nil, false, err
	}
	for _, l := range inner {
		if l.Name == "lo" && l.Alias != e.names.marker(n) {
			return e.strayLinks(n) // somebody else's namespace
		}
		if l.Kind != "veth" || !l.ParentElsewhere {
			continue
		}
		peer, err := e.out.LinkByIndex(l.Parent)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if peer.Parent == l.Index && e.isPeer(peer, n) {
			peers = append(peers, peer.Name)
		}
	}
	return peers, true, nil
}

// isPeer tells whether a link is the gateway's side of a link of n. One that
// was just made has no alias yet.
func (e *Engine) isPeer(l nl.Link, n hnv.Name) bool {
	t, _, ok := e.names.tenant(l.Alias)
	return ok && t == n ||
		l.Alias == "" && (strings.HasPrefix(l.Name, e.names.overlayPeers()) || strings.HasPrefix(l.Name, e.names.uplinkPeers()))
}

// strayLinks finds links by their alias alone, where the namespace is gone.
func (e *Engine) strayLinks(n hnv.Name) ([]string, bool, error) {
	all, err := e.out.Links()
	if err != nil {
		return nil, false, err
	}
	var out []string
	for _, l := range all {
		if t, _, ok := e.names.tenant(l.Alias); ok && t == n {
			out = append(out, l.Name)
		}
	}
	return out, false, nil
}

// waitGone waits until the links have vanished with their namespaces, and
// deletes those that do not: their names must be free again.
func (e *Engine) waitGone(ctx context.Context, links []string) error {
	deadline := time.Now().Add(dissolve)
	for pause := time.Millisecond; len(links) > 0; pause = min(2*pause, 20*time.Millisecond) {
		var left []string
		for _, name := range links {
			_, err := e.out.Link(name)
			switch {
			case errors.Is(err, nl.ErrNotFound):
			case err != nil:
				return err
			case time.Now().After(deadline):
				if err := e.out.DelLink(name); err != nil {
					return err
				}
			default:
				left = append(left, name)
			}
		}
		if links = left; len(links) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}
