//go:build linux

package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// Explain tells which way the kernel of the namespace sends the packet, and what
// else would match it.
func Explain(ctx context.Context, namespace string, q Query) (Path, error) {
	x, err := newExplainer(namespace, q)
	if err == nil {
		defer x.h.Close()
		err = ctx.Err()
	}
	var p Path
	if err == nil {
		p, err = x.explain()
	}
	if err != nil {
		return Path{}, fmt.Errorf("explain the way to %s: %w", q.Dst, err)
	}
	return p, nil
}

type explainer struct {
	h     *nl.Handle
	q     Query
	links []nl.Link
}

func newExplainer(namespace string, q Query) (*explainer, error) {
	plain := func(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
	switch {
	case !plain(q.Dst):
		return nil, errors.New("the destination is malformed")
	case q.Src.IsValid() && (!plain(q.Src) || q.Src.Is4() != q.Dst.Is4()):
		return nil, fmt.Errorf("%s cannot be the source: it is of the other address family", q.Src)
	}
	h, err := nl.Open(namespace)
	if err != nil {
		return nil, err
	}
	links, err := h.Links()
	if err != nil {
		h.Close()
		return nil, err
	}
	return &explainer{h, q, links}, nil
}

func (x *explainer) explain() (Path, error) {
	var p Path
	all, err := x.h.RoutesMatching(x.q.Dst)
	if err != nil {
		return p, err
	}
	slices.SortStableFunc(all, before)
	in, err := x.entry(&p)
	if err != nil {
		return p, err
	}
	l := nl.Lookup{Dst: x.q.Dst, Mark: x.q.Mark}
	if p.Refused == "" && x.q.Src.IsValid() {
		l.Src, l.In = x.q.Src, in.Index
	}
	found, err := x.h.Lookup(l)
	var refused nl.Refusal
	if errors.As(err, &refused) {
		switch {
		case len(all) > 0 && refuses(all[0].Type):
			found, err = all[0], nil
		case l.In != 0:
			if p.Refused, err = x.whyRefused(in, refused); err != nil {
				return p, err
			}
			found, err = x.h.Lookup(nl.Lookup{Dst: x.q.Dst, Mark: x.q.Mark})
		}
	}
	switch {
	case errors.As(err, &refused):
		p.Refused = cmp.Or(p.Refused, "the kernel refuses it: "+refused.Errno.Error())
	case err != nil && !errors.Is(err, nl.ErrNoRoute):
		return p, err
	case err == nil:
		p.Found, p.Route = p.Refused == "", x.match(found)
	}
	for _, f := range all {
		if m := x.match(f); !same(m, p.Route) {
			p.Others = append(p.Others, m)
		}
	}
	if !p.Found || x.q.Src.IsValid() || refuses(found.Type) {
		return p, nil
	}
	p.Source, err = x.h.SourceFor(x.q.Dst, x.q.Mark)
	return p, err
}

// entry finds the link that a packet of the source comes in by; none where the
// packet is the compartment's own.
func (x *explainer) entry(p *Path) (nl.Link, error) {
	if x.q.In != "" && !x.q.Src.IsValid() {
		return nl.Link{}, errors.New("a packet that comes in needs a source")
	}
	if !x.q.Src.IsValid() {
		return nl.Link{}, nil
	}
	in := x.q.In
	if in == "" {
		back, err := x.h.Lookup(nl.Lookup{Dst: x.q.Src})
		var refused nl.Refusal
		switch {
		case errors.Is(err, nl.ErrNoRoute), errors.As(err, &refused):
			p.Refused = fmt.Sprintf("no packet of %s is expected on any link: there is no way back to it", x.q.Src)
			return nl.Link{}, nil
		case err != nil:
			return nl.Link{}, err
		case back.Type == nl.RouteLocal:
			return nl.Link{}, nil
		}
		in = x.name(back.Link)
	}
	i := slices.IndexFunc(x.links, func(l nl.Link) bool { return l.Name == in })
	if i < 0 {
		return nl.Link{}, fmt.Errorf("the compartment has no link %q", in)
	}
	p.In = in
	return x.links[i], nil
}

// whyRefused puts into words what the kernel only has a number for.
func (x *explainer) whyRefused(in nl.Link, r nl.Refusal) (string, error) {
	if x.q.Dst.Is4() {
		if on, ok := in.Conf4(nl.Forwarding4); ok && on == 0 {
			return "IPv4 forwarding is off on " + in.Name, nil
		}
	}
	check, err := x.reversePath(in)
	if err != nil || check == Off {
		return "the kernel refuses it: " + r.Errno.Error(), err
	}
	back, err := x.h.Lookup(nl.Lookup{Dst: x.q.Src})
	var refused nl.Refusal
	switch {
	case errors.Is(err, nl.ErrNoRoute), errors.As(err, &refused):
		return fmt.Sprintf("the reverse path check of %s (%s) does not let %s in: there is no way back to it", in.Name, check, x.q.Src), nil
	case err != nil:
		return "", err
	case check == Strict && !x.leads(back, in.Index):
		return fmt.Sprintf("the reverse path check of %s (%s) does not let %s in: packets back to it leave by %s", in.Name, check, x.q.Src, x.name(back.Link)), nil
	}
	return "the kernel refuses it: " + r.Errno.Error(), nil
}

// reversePath tells how a link checks sources of IPv4: the greater setting of all
// and its own holds.
func (x *explainer) reversePath(in nl.Link) (string, error) {
	own, _ := in.Conf4(nl.RPFilter)
	all, err := x.h.Sysctl("ipv4/conf/all/rp_filter")
	if err != nil {
		return "", err
	}
	switch {
	case own == 2 || all == "2":
		return Loose, nil
	case own == 1 || all == "1":
		return Strict, nil
	}
	return Off, nil
}

func (x *explainer) leads(r nl.FoundRoute, link int) bool {
	return r.Link == link || slices.ContainsFunc(r.NextHops, func(n nl.NextHop) bool { return n.Link == link })
}

func (x *explainer) name(index int) string {
	for _, l := range x.links {
		if l.Index == index {
			return l.Name
		}
	}
	return ""
}

func refuses(t nl.RouteType) bool {
	return t == nl.RouteUnreachable || t == nl.RouteBlackhole || t == nl.RouteProhibit
}

// before is the order in which the kernel looks: by the rules that every namespace
// starts with, then the longest prefix, then the lowest metric.
func before(a, b nl.FoundRoute) int {
	rank := func(table uint32) int {
		if i := slices.Index([]uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}, table); i >= 0 {
			return i
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(a.Table), rank(b.Table)), cmp.Compare(a.Table, b.Table),
		cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
}

func (x *explainer) match(f nl.FoundRoute) Match {
	m := Match{Prefix: f.Dst, Type: typeName(f.Type), Protocol: f.Protocol, Metric: f.Metric, Table: f.Table}
	if f.Type != nl.RouteUnicast && m.Table == unix.RT_TABLE_MAIN && !refuses(f.Type) {
		m.Table = unix.RT_TABLE_LOCAL // the kernel looks both up as one
	}
	if refuses(f.Type) {
		return m
	}
	hops := f.NextHops
	if len(hops) == 0 {
		via := f.Via
		if !via.IsValid() && len(f.Route.Hops) == 1 {
			via = f.Route.Hops[0] // of the other family
		}
		hops = []nl.NextHop{{Via: via, Link: f.Link, Weight: 1}}
	}
	for i, h := range hops {
		m.Hops = append(m.Hops, Hop{Link: x.name(h.Link), Via: h.Via, Weight: max(h.Weight, 1), Down: i < len(f.Down) && f.Down[i]})
	}
	slices.SortStableFunc(m.Hops, func(a, b Hop) int { return cmp.Or(cmp.Compare(a.Link, b.Link), a.Via.Compare(b.Via)) })
	return m
}

func same(a, b Match) bool {
	return a.Prefix == b.Prefix && a.Type == b.Type && a.Protocol == b.Protocol && a.Metric == b.Metric && a.Table == b.Table
}

func typeName(t nl.RouteType) string {
	switch t {
	case nl.RouteUnicast:
		return TypeUnicast
	case nl.RouteLocal:
		return TypeLocal
	case nl.RouteUnreachable:
		return TypeUnreachable
	case nl.RouteBlackhole:
		return TypeBlackhole
	case nl.RouteProhibit:
		return TypeProhibit
	case unix.RTN_BROADCAST:
		return "broadcast"
	case unix.RTN_ANYCAST:
		return "anycast"
	case unix.RTN_MULTICAST:
		return "multicast"
	}
	return fmt.Sprintf("type %d", t)
}
