//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// RouteType says what a route does with packets (enum of uapi/linux/rtnetlink.h).
type RouteType uint8

// The types that decide about unicast packets.
const (
	RouteUnicast     RouteType = unix.RTN_UNICAST
	RouteLocal       RouteType = unix.RTN_LOCAL
	RouteBlackhole   RouteType = unix.RTN_BLACKHOLE
	RouteUnreachable RouteType = unix.RTN_UNREACHABLE
	RouteProhibit    RouteType = unix.RTN_PROHIBIT
)

// hopDown: the kernel may leave such a next hop out.
const hopDown = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN

// FoundRoute is a route of any table and type.
type FoundRoute struct {
	Route
	Type  RouteType
	Table uint32 // as the kernel has it: 254 is the main one
	// Down tells of each of Route's NextHops, or of the only one, that its link is
	// down or has no carrier.
	Down []bool
}

// A Lookup is a packet whose route is asked for.
type Lookup struct {
	Dst netip.Addr
	Src netip.Addr // unset: the kernel's choice
	// In is the index of the link that the packet comes in by; 0: it is made here,
	// and Src is an address of this namespace.
	In   int
	Mark uint32
}

// Refusal is the kernel's answer about a packet that it would not send on.
type Refusal struct{ Errno syscall.Errno }

func (r Refusal) Error() string { return "refused: " + r.Errno.Error() }

// Lookup gives the route in the tables that the packet takes: ErrNoRoute where
// there is none, and a Refusal where the route refuses it or, with In, the packet
// may not come in there with its source.
func (h *Handle) Lookup(q Lookup) (FoundRoute, error) {
	flags := uint32(unix.RTM_F_FIB_MATCH)
	if q.Dst.Is4() {
		flags |= unix.RTM_F_LOOKUP_TABLE // IPv6 tells the table in any case, and refuses this
	}
	msgs, err := h.lookup(q, flags)
	if err != nil {
		return FoundRoute{}, fmt.Errorf("look up route to %s: %w", q.Dst, err)
	}
	f, _, err := parseAnyRoute(msgs[0])
	if err != nil {
		return FoundRoute{}, fmt.Errorf("look up route to %s: %w", q.Dst, err)
	}
	return f, nil
}

// SourceFor gives the address that a packet made here would get as its source.
func (h *Handle) SourceFor(dst netip.Addr, mark uint32) (netip.Addr, error) {
	msgs, err := h.lookup(Lookup{Dst: dst, Mark: mark}, 0)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up source for %s: %w", dst, err)
	}
	f, _, err := parseAnyRoute(msgs[0])
	return f.Src, err
}

func (h *Handle) lookup(q Lookup, flags uint32) ([][]byte, error) {
	msgs, err := h.ask(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, func(r *vnl.NetlinkRequest) {
		msg := &vnl.RtMsg{}
		msg.Family = family(q.Dst)
		msg.Dst_len = uint8(q.Dst.BitLen())
		msg.Flags = flags
		if q.Src.IsValid() {
			msg.Src_len = uint8(q.Src.BitLen())
		}
		r.AddData(msg)
		r.AddData(vnl.NewRtAttr(unix.RTA_DST, q.Dst.AsSlice()))
		if q.Src.IsValid() {
			r.AddData(vnl.NewRtAttr(unix.RTA_SRC, q.Src.AsSlice()))
		}
		if q.In != 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_IIF, vnl.Uint32Attr(uint32(q.In))))
		}
		if q.Mark != 0 {
			r.AddData(vnl.NewRtAttr(unix.RTA_MARK, vnl.Uint32Attr(q.Mark)))
		}
	})
	var errno syscall.Errno
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ESRCH):
		return nil, ErrNoRoute
	case errors.As(err, &errno) && (errno == unix.EHOSTUNREACH || errno == unix.EINVAL || errno == unix.EACCES || errno == unix.EXDEV):
		return nil, Refusal{errno}
	case err == nil && len(msgs) == 0:
		return nil, ErrNoRoute
	}
	return msgs, err
}

// RoutesMatching gives the routes of all tables and types whose prefix the address
// is in, as the kernel lists them. Of the others, which may be a million, none is
// kept.
func (h *Handle) RoutesMatching(a netip.Addr) ([]FoundRoute, error) {
	var out []FoundRoute
	for try := 1; ; try++ {
		out = out[:0]
		whole, err := h.eachRoute(a.Is4(), func(m []byte) error {
			if !maybeContains(m, a) {
				return nil
			}
			f, cloned, err := parseAnyRoute(m)
			if err == nil && !cloned && f.Dst.Contains(a) {
				out = append(out, f)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list routes to %s: %w", a, err)
		}
		// Where routes change all the time, as with a peer that flaps, what was seen
		// has to do.
		if whole || try == interruptedDumps {
			return out, nil
		}
	}
}

// maybeContains looks at the first attributes only, as most routes are not wanted.
func maybeContains(m []byte, a netip.Addr) bool {
	if len(m) < unix.SizeofRtMsg {
		return true // for the parser to complain of
	}
	bits := int(m[1])
	if bits == 0 {
		return true
	}
	for b := m[unix.SizeofRtMsg:]; len(b) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return true
		}
		if binary.NativeEndian.Uint16(b[2:])&typeMask == unix.RTA_DST {
			p := netip.PrefixFrom(addr(b[unix.SizeofRtAttr:n]), bits)
			return p.Contains(a)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return true
}

// eachRoute shows all routes of the family; whole is false where they changed
// meanwhile.
func (h *Handle) eachRoute(ipv4 bool, each func(m []byte) error) (whole bool, err error) {
	fd := -1
	err = netns.Do(h.ns.Path(), func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	r := vnl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	msg := &vnl.RtMsg{}
	msg.Family = unix.AF_INET6
	if ipv4 {
		msg.Family = unix.AF_INET
	}
	r.AddData(msg)
	if err := unix.Sendto(fd, r.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, os.NewSyscallError("sendto", err)
	}
	whole = true
	for b := make([]byte, 64<<10); ; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, os.NewSyscallError("recvfrom", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return false, err
		}
		for _, m := range msgs {
			whole = whole && m.Header.Flags&unix.NLM_F_DUMP_INTR == 0
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return whole, nil
			case unix.NLMSG_ERROR:
				return endOfDump(m.Data, whole)
			case unix.RTM_NEWROUTE:
				if err := each(m.Data); err != nil {
					return false, err
				}
			}
		}
	}
}

// endOfDump reads an error in a dump's place: without the family there is nothing
// to show.
func endOfDump(b []byte, whole bool) (bool, error) {
	if len(b) < 4 {
		return false, errors.New("short netlink error")
	}
	errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(b)))
	if errno == 0 || errno == unix.EOPNOTSUPP || errno == unix.EAFNOSUPPORT {
		return whole, nil
	}
	return false, errno
}
