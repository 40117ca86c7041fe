//go:build linux

package forwarder

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// executor carries steps out.
type executor struct {
	ctx context.Context // of the one call this executor serves
	e   *Engine
	in  *nl.Handle
}

// run carries out the steps in order and stops at the first that fails.
func (x *executor) run(g group) error {
	for _, s := range g.steps {
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
	case setSysctl:
		err := x.in.SetSysctl(s.key, s.value)
		if errors.Is(err, nl.ErrNotFound) && strings.HasPrefix(s.key, "ipv6/") {
			if strings.HasSuffix(s.key, "/disable_ipv6") && s.value == "0" {
				return errors.New("it has IPv6 addresses and this kernel has no IPv6")
			}
			return nil
		}
		return err
	case addLink:
		return x.addLink(s.link)
	case delLink:
		return x.at(s.side).DelLink(s.name)
	case changeLink:
		return x.onLink(s.side, s.name, func(h *nl.Handle, i int) error { return h.SetLink(i, s.change) })
	case isolate:
		return x.onLink(outward, s.port, func(h *nl.Handle, i int) error { return h.IsolatePort(i, true) })
	case addAddr:
		return x.onLink(inside, s.link, func(h *nl.Handle, i int) error {
			return h.AddAddr(nl.Addr{Prefix: s.prefix, Link: i, Protocol: RouteProtocol})
		})
	case delAddr:
		return x.onLink(inside, s.link, func(h *nl.Handle, i int) error {
			return h.DelAddr(nl.Addr{Prefix: s.prefix, Link: i})
		})
	case announce:
		return x.onLink(inside, s.link, func(h *nl.Handle, i int) error { return h.Announce(i, s.addrs) })
	case addRoute:
		return x.addRoute(s)
	case replaceRoute:
		return x.in.ReplaceRoute(s.kernel)
	case delRoute:
		r := s.kernel
		if r.Multipath {
			r.Link, r.Via = 0, netip.Addr{}
		}
		return x.in.DelRoute(r)
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

// addLink makes the link in its place: the parent's index counts in the gateway's
// namespace, where the request is made.
func (x *executor) addLink(l link) error {
	end := nl.LinkEnd{Name: l.name, Namespace: x.in.Namespace(), MAC: l.mac, MTU: l.mtu}
	var err error
	switch l.kind {
	case KindBridge:
		return x.e.out.AddVeth(nl.LinkEnd{Name: l.port.name, MAC: l.port.mac, MTU: l.port.mtu}, end)
	case KindMACVLAN:
		err = x.e.out.AddMACVLAN(end, l.parentLink)
	case KindVLAN:
		err = x.e.out.AddVLAN(end, l.parentLink, l.vlan)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("VLAN %d of %s is taken, by another tenant or a link of the gateway's own: %w", l.vlan, l.parent, err)
		}
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %s", err, notes[l.kind])
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: is %s a port of a bridge or bond? Then use that one", err, l.parent)
	}
	return err
}

// addRoute tells whose route is in the way.
func (x *executor) addRoute(s addRoute) error {
	err := x.in.AddRoute(s.kernel)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	rs, _ := x.in.RoutesMatching(s.dst.Addr())
	for _, r := range rs {
		if r.Dst == s.dst && r.Metric == s.metric && r.Table == unix.RT_TABLE_MAIN {
			return fmt.Errorf("%w: another route to %s with metric %d is there, %s: give this one another metric", err, s.dst, s.metric, maker(r.Protocol))
		}
	}
	return err
}

// maker says who made the routes of a protocol.
func maker(protocol uint8) string {
	switch protocol {
	case unix.RTPROT_KERNEL:
		return "that of a network on a link"
	case nl.Protocol:
		return "the compartment's own"
	case nl.ProtocolBGP:
		return "learned by BGP"
	case 202:
		return "of a tunnel"
	}
	return fmt.Sprintf("of protocol %d, which is not the gateway's", protocol)
}
