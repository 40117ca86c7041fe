//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NextHop is one of several ways of a route. A flow keeps to one of them, by its
// addresses (and ports, where the setting fib_multipath_hash_policy is 1).
type NextHop struct {
	Via    netip.Addr // unset: on-link, which IPv6 does not have among several
	Link   int        // index
	Weight int        // share, 1 to 256; 0 is 1
	OnLink bool
}

// ReplaceRoute adds a route, in the place of one to the same prefix with the same
// metric if there is one: no packet finds neither.
func (h *Handle) ReplaceRoute(r Route) error {
	err := h.tell(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, routeMessage(r))
	if err != nil {
		return fmt.Errorf("replace route %s: %w", r, err)
	}
	return nil
}

func (r Route) hasGateway() bool {
	return r.Via.IsValid() || slices.ContainsFunc(r.NextHops, func(n NextHop) bool { return n.Via.IsValid() })
}

// appendHops writes a list of struct rtnexthop: length, flags, weight less one,
// index, and attributes.
func appendHops(b []byte, dst netip.Addr, hops []NextHop) []byte {
	e := vnl.NativeEndian()
	for _, n := range hops {
		at := len(b)
		flags := byte(0)
		if n.OnLink {
			flags = unix.RTNH_F_ONLINK
		}
		b = append(b, 0, 0, flags, byte(max(n.Weight, 1)-1), 0, 0, 0, 0)
		e.PutUint32(b[at+4:], uint32(n.Link))
		if n.Via.IsValid() {
			b = append(b, gateway(dst, n.Via)...)
		}
		e.PutUint16(b[at:], uint16(len(b)-at))
	}
	return b
}

// gateway is a next hop's attribute, also of one of the other family (RFC 8950).
func gateway(dst, via netip.Addr) []byte {
	if dst.Is4() == via.Is4() {
		return vnl.NewRtAttr(unix.RTA_GATEWAY, via.AsSlice()).Serialize()
	}
	b := vnl.Uint16Attr(uint16(family(via)))
	return vnl.NewRtAttr(unix.RTA_VIA, append(b, via.AsSlice()...)).Serialize()
}

// parseHops reads what appendHops writes, and which of the next hops are down.
func parseHops(b []byte) (out []NextHop, down []bool, err error) {
	for e := vnl.NativeEndian(); len(b) >= unix.SizeofRtNexthop; {
		n := int(e.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return nil, nil, errors.New("malformed next hops")
		}
		at, err := attrs(b[unix.SizeofRtNexthop:n])
		if err != nil {
			return nil, nil, err
		}
		hop := NextHop{Link: int(u32(b[4:])), Weight: int(b[3]) + 1, OnLink: b[2]&unix.RTNH_F_ONLINK != 0, Via: addr(at[unix.RTA_GATEWAY])}
		if !hop.Via.IsValid() {
			hop.Via = viaAddr(at[unix.RTA_VIA])
		}
		out, down = append(out, hop), append(down, b[2]&hopDown != 0)
		b = b[min((n+3)&^3, len(b)):]
	}
	return out, down, nil
}
