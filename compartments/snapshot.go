//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// State is a compartment as it is.
type State struct {
	Name      hnv.Name       `json:"name"`
	Namespace string         `json:"namespace"` // path
	Links     []LinkState    `json:"links"`
	External  []netip.Addr   `json:"external"` // addresses of ext
	Routes    []netip.Prefix `json:"routes"`   // ours
}

// LinkState is a link of ours in a compartment.
type LinkState struct {
	Name  string         `json:"name"`
	Up    bool           `json:"up"` // and its other end too
	MTU   int            `json:"mtu"`
	MAC   string         `json:"mac"`
	Addrs []netip.Prefix `json:"addrs"`
}

// Drop is what one rule round the compartments has dropped.
type Drop struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Routine tells whether the drop is a matter of course: the dataplane has seen
// the packet, and only the gateway's own stack must not.
func (d Drop) Routine() bool {
	return d.Reason == dropTunnel || d.Reason == dropRewrite || d.Reason == dropPort || d.Reason == dropOverlay
}

// Snapshot tells the compartments there are, by name.
func (e *Engine) Snapshot(ctx context.Context) ([]State, error) {
	found, err := e.list(nil)
	if err != nil {
		return nil, fmt.Errorf("list compartments: %w", err)
	}
	var out []State
	for _, n := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, ok, err := e.state(n)
		if err != nil {
			return nil, fmt.Errorf("read compartment %s: %w", n, err)
		}
		if ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	return out, nil
}

func (e *Engine) state(n hnv.Name) (State, bool, error) {
	ns := e.names.namespace(n)
	h, err := e.openCompartment(ns)
	if h == nil {
		return State{}, false, ignoreGone(err)
	}
	defer h.Close()
	s := State{Name: n, Namespace: netns.Path(ns)}
	links, err := h.Links()
	if err != nil {
		return s, false, err
	}
	addrs, err := h.Addrs(0)
	if err != nil {
		return s, false, err
	}
	for _, l := range links {
		t, _, ours := e.names.tenant(l.Alias)
		if !ours || t != n || l.Name == "lo" {
			continue
		}
		ls := LinkState{Name: l.Name, Up: l.Up && l.Carrier, MTU: l.MTU, MAC: nl.MACString(l.MAC)}
		for _, a := range addrs {
			if a.Link == l.Index {
				ls.Addrs = append(ls.Addrs, a.Prefix)
				if l.Name == ExternalLink {
					s.External = append(s.External, a.Prefix.Addr())
				}
			}
		}
		s.Links = append(s.Links, ls)
	}
	routes, err := h.Routes(nl.Protocol, 0)
	for _, r := range routes {
		s.Routes = append(s.Routes, r.Dst)
	}
	return s, true, err
}

// Drops tells what the rules of the gateway's namespace have dropped, by
// reason; all zero before the first Apply.
func (e *Engine) Drops() ([]Drop, error) {
	var out []Drop
	for _, t := range []struct {
		family  nft.Family
		reasons []string
	}{{nft.Inet, inetDrops}, {nft.NetDev, netdevDrops}} {
		counters, err := e.gw.nft.Counters(t.family, e.names.table())
		if err != nil {
			return nil, fmt.Errorf("read drop counters: %w", err)
		}
		for _, r := range t.reasons {
			c := counters[r]
			out = append(out, Drop{Reason: r, Packets: c.Packets, Bytes: c.Bytes})
		}
	}
	return out, nil
}

// ignoreGone forgives a namespace that vanished while it was looked at.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
