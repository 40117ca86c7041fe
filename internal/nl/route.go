//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Route is one route.
type Route struct {
	Table    uint32 // 0 is the main table
	Dst      netip.Prefix
	Via      netip.Addr // unset: on-link
	Link     int        // index
	OnLink   bool       // Via is reached on Link though no address there says so
	Src      netip.Addr // preferred source; unset: the kernel's choice
	Metric   uint32     // 0 on IPv6 becomes 1024, as in ip-route(8)
	Protocol uint8
	// Unreachable refuses packets instead of forwarding them.
	Unreachable bool
	// NextHops are those of a route that has several; Via and Link are unset when
	// such a route is made, and those of the first one when it is shown.
	NextHops []NextHop
	// Multipath: the route has several next hops.
	Multipath bool
	// Hops are the next hops of a Multipath route, and one of the other family.
	Hops []netip.Addr
}

func (r Route) String() string {
	s := r.Dst.String()
	if r.Unreachable {
		return "unreachable " + s
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	return s
}

// Routes lists the main table's unicast and unreachable routes, of one
// protocol and one link unless these are 0.
func (h *Handle) Routes(protocol uint8, link int) ([]Route, error) {
	return h.routes(unix.RT_TABLE_MAIN, protocol, link)
}

// LinkRoutes lists a link's unicast and unreachable routes of all tables, of one
// protocol unless that is 0.
func (h *Handle) LinkRoutes(protocol uint8, link int) ([]Route, error) {
	return h.routes(unix.RT_TABLE_UNSPEC, protocol, link)
}

func (h *Handle) routes(table uint32, protocol uint8, link int) ([]Route, error) {
	var out []Route
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := h.ask(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, func(r *vnl.NetlinkRequest) {
			msg := &vnl.RtMsg{}
			msg.Family = uint8(fam)
			msg.Table = uint8(table)
			msg.Protocol = protocol
			r.AddData(msg)
			if link != 0 {
				r.AddData(vnl.NewRtAttr(unix.RTA_OIF, vnl.Uint32Attr(uint32(link))))
			}
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
			continue // no IPv6 in this kernel, no table yet, no such link
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range msgs {
			r, ok, err := parseRoute(m, table)
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			if ok && (protocol == 0 || r.Protocol == protocol) && (link == 0 || r.Link == link) {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// shortTable is a table's number where the old field of a message has room for
// it, and else RT_TABLE_UNSPEC: then an attribute has it.
func shortTable(table uint32) uint8 {
	if table > 255 {
		return unix.RT_TABLE_UNSPEC
	}
	return uint8(table)
}

// parseRoute reads a route of the table wanted, or if that is RT_TABLE_UNSPEC of
// any.
func parseRoute(m []byte, wanted uint32) (r Route, ok bool, err error) {
	f, cloned, err := parseAnyRoute(m)
	if err != nil {
		return r, false, err
	}
	ok = (wanted == unix.RT_TABLE_UNSPEC || f.Table == wanted) && !cloned && (f.Type == RouteUnicast || f.Type == RouteUnreachable)
	if !ok {
		return r, false, nil
	}
	r = f.Route
	r.Table = f.Table
	if r.Table == unix.RT_TABLE_MAIN {
		r.Table = 0
	}
	return r, true, nil
}

// parseAnyRoute reads a route of any table and type. One that is cloned is what
// the kernel keeps of a destination, and in no table.
func parseAnyRoute(m []byte) (f FoundRoute, cloned bool, err error) {
	if len(m) < unix.SizeofRtMsg {
		return f, false, errors.New("short route message")
	}
	head := vnl.DeserializeRtMsg(m)
	at, err := attrs(m[unix.SizeofRtMsg:])
	if err != nil {
		return f, false, err
	}
	f.Type, f.Table = RouteType(head.Type), uint32(head.Table)
	if b, has := at[unix.RTA_TABLE]; has {
		f.Table = u32(b)
	}
	dst := netip.IPv4Unspecified()
	if head.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	if b, has := at[unix.RTA_DST]; has {
		dst = addr(b)
	}
	r := &f.Route
	*r = Route{
		Dst: netip.PrefixFrom(dst, int(head.Dst_len)), Via: addr(at[unix.RTA_GATEWAY]), Link: int(u32(at[unix.RTA_OIF])),
		OnLink: head.Flags&unix.RTNH_F_ONLINK != 0, Src: addr(at[unix.RTA_PREFSRC]), Metric: u32(at[unix.RTA_PRIORITY]),
		Protocol: head.Protocol, Unreachable: f.Type == RouteUnreachable,
	}
	if b, has := at[unix.RTA_MULTIPATH]; has && len(b) >= 8 {
		r.Multipath = true
		r.Link = int(u32(b[4:]))
		if r.NextHops, f.Down, err = parseHops(b); err != nil {
			return f, false, err
		}
		for _, hop := range r.NextHops {
			if hop.Via.IsValid() {
				r.Hops = append(r.Hops, hop.Via)
			}
		}
	} else {
		f.Down = []bool{head.Flags&hopDown != 0}
	}
	if hop := viaAddr(at[unix.RTA_VIA]); hop.IsValid() {
		r.Hops = append(r.Hops, hop)
	}
	return f, head.Flags&unix.RTM_F_CLONED != 0, nil
}

// viaAddr reads struct rtvia: a family and an address of it.
func viaAddr(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	return addr(b[2:])
}

// AddRoute adds a route. A route to the same prefix with the same metric that
// is there already is unix.EEXIST, whoever made it.
func (h *Handle) AddRoute(r Route) error {
	err := h.tell(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, routeMessage(r))
	if err != nil {
		return fmt.Errorf("add route %s: %w", r, err)
	}
	return nil
}

// DelRoute removes exactly this route; it is no error if it is not there.
func (h *Handle) DelRoute(r Route) error {
	err := h.tell(unix.RTM_DELROUTE, 0, routeMessage(r))
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove route %s: %w", r, err)
	}
	return nil
}

func routeMessage(rt Route) func(*vnl.NetlinkRequest) {
	return func(r *vnl.NetlinkRequest) {
		msg := &vnl.RtMsg{}
		msg.Family = family(rt.Dst.Addr())
		msg.Dst_len = uint8(rt.Dst.Bits())
		msg.Table = unix.RT_TABLE_MAIN
		if rt.Table != 0 {
			msg.Table = shortTable(rt.Table)
		}
		msg.Protocol = rt.Protocol
		msg.Type = unix.RTN_UNICAST
		if rt.Unreachable {
			msg.Type = unix.RTN_UNREACHABLE
		}
		if !rt.hasGateway() && !rt.Unreachable && rt.Dst.Addr().Is4() {
			msg.Scope = unix.RT_SCOPE_LINK
		}
		if rt.OnLink {
			msg.Flags |= unix.RTNH_F_ONLINK
		}
		r.AddData(msg)
		if msg.Table == unix.RT_TABLE_UNSPEC {
			r.AddData(vnl.NewRtAttr(unix.RTA_TABLE, vnl.Uint32Attr(rt.Table)))
		}
		if rt.Dst.Bits() > 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_DST, rt.Dst.Masked().Addr().AsSlice()))
		}
		if rt.Via.IsValid() {
			r.AddRawData(gateway(rt.Dst.Addr(), rt.Via))
		}
		if len(rt.NextHops) > 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_MULTIPATH, appendHops(nil, rt.Dst.Addr(), rt.NextHops)))
		}
		if rt.Link != 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_OIF, vnl.Uint32Attr(uint32(rt.Link))))
		}
		if rt.Src.IsValid() {
			r.AddData(vnl.NewRtAttr(unix.RTA_PREFSRC, rt.Src.AsSlice()))
		}
		if rt.Metric != 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_PRIORITY, vnl.Uint32Attr(rt.Metric)))
		}
	}
}
