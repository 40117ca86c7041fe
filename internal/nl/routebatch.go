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

// RouteOp is what is done with a route.
type RouteOp uint8

// The operations of ChangeRoutes. A route is known by its table, prefix and metric.
const (
	RouteAdd     RouteOp = iota // unix.EEXIST where there is one, whoever made it
	RouteReplace                // in one step; added where there is none
	RouteDelete                 // one of the protocol; no error where there is none
)

// RouteChange is a route and what is done with it.
type RouteChange struct {
	Op    RouteOp
	Route Route
}

// RouteWriter changes many routes fast: the kernel gets them by the hundred and
// answers for what failed only. It is for one goroutine.
type RouteWriter struct {
	fd  int
	seq uint32
	buf []byte
	in  []byte
}

const (
	// batchBytes bounds what is sent at once, and so the answers to it.
	batchBytes = 32 << 10
	// answerBuffer holds an answer to each message of a batch, were all refused; an
	// answer quotes its message.
	answerBuffer = 4 << 20
)

// NewRouteWriter makes a writer for the handle's namespace.
func (h *Handle) NewRouteWriter() (*RouteWriter, error) {
	w := &RouteWriter{fd: -1, in: make([]byte, 64<<10)}
	err := netns.Do(h.ns.Path(), func() (err error) {
		w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, fmt.Errorf("open route writer: %w", err)
	}
	limit := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	_ = unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, answerBuffer)
	err = errors.Join(
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptInt(w.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	)
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("open route writer: %w", err)
	}
	return w, nil
}

// Close frees the writer's socket.
func (w *RouteWriter) Close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
		w.fd = -1
	}
}

// ChangeRoutes makes the changes in their order. failed is told of each that the
// kernel refused, by its place in the list; the others are made all the same. The
// error is of the conversation itself: then it is not known what was done.
func (w *RouteWriter) ChangeRoutes(changes []RouteChange, failed func(i int, err error)) error {
	for first := 0; first < len(changes); {
		w.buf = w.buf[:0]
		base := w.seq + 1
		next, last := first, 0
		for ; next < len(changes) && len(w.buf) < batchBytes; next++ {
			last = len(w.buf)
			w.seq++
			w.buf = append(w.buf, routeRequest(&changes[next], w.seq)...)
		}
		// Of the last an answer is wanted in any case: then all are done.
		flags := binary.NativeEndian.Uint16(w.buf[last+6:])
		binary.NativeEndian.PutUint16(w.buf[last+6:], flags|unix.NLM_F_ACK)
		if err := unix.Sendto(w.fd, w.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("change routes: %w", os.NewSyscallError("sendto", err))
		}
		at := first
		err := w.answers(w.seq, func(seq uint32, err error) {
			i := at + int(seq-base)
			if seq-base < uint32(next-at) && !(changes[i].Op == RouteDelete && errors.Is(err, unix.ESRCH)) {
				failed(i, err)
			}
		})
		if err != nil {
			return fmt.Errorf("change routes: %w", err)
		}
		first = next
	}
	return nil
}

// answers reads until the message with the number last is answered for.
func (w *RouteWriter) answers(last uint32, failed func(seq uint32, err error)) error {
	for {
		n, _, err := unix.Recvfrom(w.fd, w.in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(w.in[:n])
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				failed(m.Header.Seq, syscall.Errno(-code))
			}
			if m.Header.Seq == last {
				return nil
			}
		}
	}
}

func routeRequest(c *RouteChange, seq uint32) []byte {
	typ, flags := unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	switch c.Op {
	case RouteReplace:
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	case RouteDelete:
		typ, flags = unix.RTM_DELROUTE, 0
	}
	r := vnl.NewNetlinkRequest(typ, flags)
	rt := c.Route
	if c.Op == RouteDelete {
		rt = Route{Table: rt.Table, Dst: rt.Dst, Metric: rt.Metric, Protocol: rt.Protocol}
	}
	routeMessage(rt)(r)
	if c.Op == RouteDelete {
		msg := r.Data[0].(*vnl.RtMsg)
		msg.Type, msg.Scope = unix.RTN_UNSPEC, unix.RT_SCOPE_NOWHERE
	}
	r.Seq = seq
	return r.Serialize()
}

// ErrNoRoute: the kernel has no way to the address.
var ErrNoRoute = errors.New("no route")

// RouteTo gives the route in the tables that packets to the address take.
func (h *Handle) RouteTo(a netip.Addr) (Route, error) {
	msgs, err := h.ask(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, func(r *vnl.NetlinkRequest) {
		msg := &vnl.RtMsg{}
		msg.Family = family(a)
		msg.Dst_len = uint8(a.BitLen())
		msg.Flags = unix.RTM_F_FIB_MATCH
		r.AddData(msg)
		r.AddData(vnl.NewRtAttr(unix.RTA_DST, a.AsSlice()))
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ESRCH) {
		return Route{}, ErrNoRoute
	}
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", a, err)
	}
	for _, m := range msgs {
		r, ok, err := parseRoute(m, unix.RT_TABLE_UNSPEC)
		if err != nil {
			return Route{}, fmt.Errorf("look up route to %s: %w", a, err)
		}
		if ok && !r.Unreachable {
			return r, nil
		}
	}
	return Route{}, ErrNoRoute
}
