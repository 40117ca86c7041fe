//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// executor carries steps out. It holds the compartment's handle, which a step
// may open.
type executor struct {
	ctx context.Context // of the one call this executor serves
	e   *Engine
	in  *nl.Handle
}

func (x *executor) close() {
	if x.in != nil {
		x.in.Close()
		x.in = nil
	}
}

// run carries out the steps in order and stops at the first that fails.
func (x *executor) run(steps []step) error {
	for _, s := range steps {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if x.e.beforeStep != nil {
			if err := x.e.beforeStep(s); err != nil {
				return err
			}
		}
		if err := x.do(s); err != nil {
			return err
		}
	}
	return nil
}

func (x *executor) at(s side) *nl.Handle {
	if s == inside {
		return x.in
	}
	return x.e.out
}

func (x *executor) do(s step) error {
	switch s := s.(type) {
	case makeNamespace:
		return x.makeNamespace(s)
	case setSysctl:
		err := x.at(s.side).SetSysctl(s.key, s.value)
		if errors.Is(err, nl.ErrNotFound) && x.e.optional(s.setting) {
			return nil
		}
		return err
	case addPair:
		return x.addPair(s)
	case addSteer:
		return x.e.out.AddVeth(endOf(s.inner, ""), endOf(s.outer, ""))
	case delLink:
		return x.at(s.side).DelLink(s.name)
	case changeLink:
		return x.onLink(s.side, s.name, func(h *nl.Handle, i int) error { return h.SetLink(i, s.change) })
	case setOffloads:
		return x.in.SetLinkOffloads(s.link, s.to)
	case addAddr:
		return x.onLink(s.side, s.link, func(h *nl.Handle, i int) error {
			return h.AddAddr(nl.Addr{Prefix: s.prefix, Link: i, Protocol: nl.Protocol, NoSource: s.noSource})
		})
	case delAddr:
		return x.onLink(s.side, s.link, func(h *nl.Handle, i int) error {
			return h.DelAddr(nl.Addr{Prefix: s.prefix, Link: i})
		})
	case addRoute:
		return x.onLink(s.side, s.link, func(h *nl.Handle, i int) error { return addOneRoute(h, s.route, i) })
	case delRoute:
		return x.delRoute(s)
	case setHop:
		return x.onLink(s.side, s.link, func(h *nl.Handle, i int) error {
			return h.SetNeighbour(nl.Neighbour{Addr: s.addr, Link: i, MAC: s.mac, Protocol: nl.Protocol})
		})
	case delHop:
		return x.onLink(s.side, s.link, func(h *nl.Handle, i int) error {
			return h.DelNeighbour(nl.Neighbour{Addr: s.addr, Link: i})
		})
	case addProxy:
		return x.onLink(outward, s.link, func(h *nl.Handle, i int) error {
			return h.SetNeighbour(nl.Neighbour{Addr: s.addr, Link: i, Proxy: true, Protocol: nl.Protocol})
		})
	case delProxy:
		return x.onLink(outward, s.link, func(h *nl.Handle, i int) error {
			return h.DelNeighbour(nl.Neighbour{Addr: s.addr, Link: i, Proxy: true})
		})
	case announce:
		if (*x.e.watched.Load())[s.link] {
			x.e.gw.herald(s.addrs, x.e.now())
		}
		return x.onLink(outward, s.link, func(h *nl.Handle, i int) error { return h.Announce(i, s.addrs) })
	case addRule:
		return x.e.out.AddRule(s.Rule)
	case delRule:
		return x.e.out.DelRule(s.Rule)
	case changeEntries:
		return x.e.gw.change(s)
	case addVLAN:
		return x.addVLAN(s)
	}
	return fmt.Errorf("step %T is unknown", s)
}

func (x *executor) onLink(at side, name string, do func(h *nl.Handle, index int) error) error {
	h := x.at(at)
	l, err := h.Link(name)
	if err != nil {
		return err
	}
	if err := do(h, l.Index); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// makeNamespace marks the namespace as ours before it can be seen.
func (x *executor) makeNamespace(s makeNamespace) error {
	err := netns.CreateWith(s.name, func() error {
		h, err := nl.Open("")
		if err != nil {
			return err
		}
		defer h.Close()
		lo, err := h.Link("lo")
		if err != nil {
			return err
		}
		return h.SetLink(lo.Index, nl.LinkChange{Alias: s.marker, Up: true})
	})
	if err != nil {
		return err
	}
	x.in, err = x.e.openCompartment(s.name)
	return err
}

func (x *executor) addPair(s addPair) error {
	return x.e.out.AddVeth(endOf(s.outer, ""), endOf(s.inner, x.in.Namespace()))
}

func endOf(l link, ns string) nl.LinkEnd {
	return nl.LinkEnd{Name: l.name, Namespace: ns, MAC: l.mac, MTU: l.mtu, NoARP: l.noARP}
}

func addOneRoute(h *nl.Handle, r route, index int) error {
	err := h.AddRoute(nl.Route{Table: r.table, Dst: r.dst, Via: r.via, Link: index, OnLink: r.onLink, Metric: r.metric, Src: r.src, Protocol: nl.Protocol})
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: another route to %s is there that does not belong here: remove it", err, r.dst)
	}
	return err
}

// delRoute also removes routes whose link has no name any more.
func (x *executor) delRoute(s delRoute) error {
	h := x.at(s.side)
	r := nl.Route{Table: s.table, Dst: s.dst, Via: s.via, OnLink: s.onLink, Metric: s.metric, Protocol: nl.Protocol}
	if s.link != "" {
		l, err := h.Link(s.link)
		if errors.Is(err, nl.ErrNotFound) {
			return nil // it went with the link
		}
		if err != nil {
			return err
		}
		r.Link = l.Index
	}
	return h.DelRoute(r)
}

func (x *executor) addVLAN(s addVLAN) error {
	err := x.onLink(outward, s.parent, func(h *nl.Handle, i int) error {
		return h.AddVLAN(nl.LinkEnd{Name: s.name}, i, s.vlan)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: this kernel has no VLAN support: load the module 8021q, or make %s some other way", err, s.name)
	}
	if err != nil {
		return err
	}
	return x.onLink(outward, s.name, func(h *nl.Handle, i int) error {
		return h.SetLink(i, nl.LinkChange{Alias: s.alias, Up: true})
	})
}

// optional tells whether the kernel may do without the setting.
func (e *Engine) optional(s setting) bool {
	return s.key == "netfilter/nf_conntrack_tcp_ignore_invalid_rst" ||
		strings.HasPrefix(s.key, "ipv6/") && !e.has(featureIPv6)
}
