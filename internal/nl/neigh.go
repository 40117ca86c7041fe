//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Neighbour is an entry that somebody set for good: a permanent one, or an
// address that is answered for by proxy.
type Neighbour struct {
	Addr     netip.Addr
	Link     int // index
	MAC      [6]byte
	Proxy    bool  // MAC does not matter
	Protocol uint8 // who made it
}

// Neighbours lists permanent entries, or the proxied addresses, of the link
// with the index; 0: of all.
func (h *Handle) Neighbours(link int, proxy bool) ([]Neighbour, error) {
	var out []Neighbour
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := h.ask(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, unix.RTM_NEWNEIGH, func(r *vnl.NetlinkRequest) {
			msg := &neighMsg{family: uint8(fam)}
			if proxy {
				msg.flags = unix.NTF_PROXY
			}
			r.AddData(msg)
			if link != 0 {
				r.AddData(vnl.NewRtAttr(unix.NDA_IFINDEX, vnl.Uint32Attr(uint32(link))))
			}
		})
		if errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, m := range msgs {
			n, state, err := parseNeighbour(m)
			if err != nil {
				return nil, fmt.Errorf("list neighbours: %w", err)
			}
			if (link == 0 || n.Link == link) && n.Proxy == proxy && (proxy || state&unix.NUD_PERMANENT != 0) {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// Neighbour gives the permanent entry for the address on the link with the index, if
// there is one. The kernel has one list for all namespaces, which is not gone through
// for one.
func (h *Handle) Neighbour(link int, a netip.Addr) (n Neighbour, ok bool, err error) {
	msgs, err := h.ask(unix.RTM_GETNEIGH, 0, unix.RTM_NEWNEIGH, func(r *vnl.NetlinkRequest) {
		r.AddData(&neighMsg{family: family(a), index: int32(link)})
		r.AddData(vnl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || err == nil && len(msgs) == 0 {
		return n, false, nil
	}
	var state uint16
	if err == nil {
		n, state, err = parseNeighbour(msgs[0])
	}
	if err != nil {
		return n, false, fmt.Errorf("get neighbour %s: %w", a, err)
	}
	return n, state&unix.NUD_PERMANENT != 0, nil
}

// Proxied tells whether the link answers for the address, and who made it so.
func (h *Handle) Proxied(link int, a netip.Addr) (protocol uint8, ok bool, err error) {
	msgs, err := h.ask(unix.RTM_GETNEIGH, 0, unix.RTM_NEWNEIGH, func(r *vnl.NetlinkRequest) {
		r.AddData(&neighMsg{family: family(a), index: int32(link), flags: unix.NTF_PROXY})
		r.AddData(vnl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || err == nil && len(msgs) == 0 {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("get proxied neighbour %s: %w", a, err)
	}
	n, _, err := parseNeighbour(msgs[0])
	return n.Protocol, err == nil, err
}

func parseNeighbour(m []byte) (Neighbour, uint16, error) {
	if len(m) < neighLen {
		return Neighbour{}, 0, errors.New("short neighbour message")
	}
	at, err := attrs(m[neighLen:])
	if err != nil {
		return Neighbour{}, 0, err
	}
	e := vnl.NativeEndian()
	n := Neighbour{Link: int(e.Uint32(m[4:])), Proxy: m[10]&unix.NTF_PROXY != 0, Addr: addr(at[unix.NDA_DST])}
	copy(n.MAC[:], at[unix.NDA_LLADDR])
	if p := at[ndaProtocol]; len(p) == 1 {
		n.Protocol = p[0]
	}
	return n, e.Uint16(m[8:]), nil
}

// SetNeighbour adds or replaces an entry.
func (h *Handle) SetNeighbour(n Neighbour) error {
	err := h.tell(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, neighMessage(n))
	if err != nil {
		return fmt.Errorf("set neighbour %s: %w", n.Addr, err)
	}
	return nil
}

// DelNeighbour removes an entry; it is no error if it is not there.
func (h *Handle) DelNeighbour(n Neighbour) error {
	err := h.tell(unix.RTM_DELNEIGH, 0, neighMessage(n))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove neighbour %s: %w", n.Addr, err)
	}
	return nil
}

func neighMessage(n Neighbour) func(*vnl.NetlinkRequest) {
	return func(r *vnl.NetlinkRequest) {
		msg := &neighMsg{family: family(n.Addr), index: int32(n.Link), state: unix.NUD_PERMANENT}
		if n.Proxy {
			msg.flags = unix.NTF_PROXY
		}
		r.AddData(msg)
		r.AddData(vnl.NewRtAttr(unix.NDA_DST, n.Addr.AsSlice()))
		if !n.Proxy {
			r.AddData(vnl.NewRtAttr(unix.NDA_LLADDR, n.MAC[:]))
		}
		if n.Protocol != 0 {
			r.AddData(vnl.NewRtAttr(ndaProtocol, []byte{n.Protocol}))
		}
	}
}

// AddFDB tells a VXLAN device behind which outer address a MAC lives; the MAC
// of all zeros stands for every MAC not known.
func (h *Handle) AddFDB(link int, mac [6]byte, dst netip.Addr) error {
	err := h.tell(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, func(r *vnl.NetlinkRequest) {
		r.AddData(&neighMsg{family: unix.AF_BRIDGE, index: int32(link), state: unix.NUD_PERMANENT, flags: unix.NTF_SELF})
		r.AddData(vnl.NewRtAttr(unix.NDA_DST, dst.AsSlice()))
		r.AddData(vnl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	})
	if err != nil {
		return fmt.Errorf("add forwarding entry %s: %w", MACString(mac), err)
	}
	return nil
}

// DelFDB takes back AddFDB; it is no error if it is not there.
func (h *Handle) DelFDB(link int, mac [6]byte, dst netip.Addr) error {
	err := h.tell(unix.RTM_DELNEIGH, 0, func(r *vnl.NetlinkRequest) {
		r.AddData(&neighMsg{family: unix.AF_BRIDGE, index: int32(link), state: unix.NUD_PERMANENT, flags: unix.NTF_SELF})
		r.AddData(vnl.NewRtAttr(unix.NDA_DST, dst.AsSlice()))
		r.AddData(vnl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove forwarding entry %s: %w", MACString(mac), err)
	}
	return nil
}

const (
	neighLen    = 12
	ndaProtocol = 12 // NDA_PROTOCOL
)

// neighMsg is struct ndmsg.
type neighMsg struct {
	family uint8
	index  int32
	state  uint16
	flags  uint8
}

func (m *neighMsg) Len() int { return neighLen }

func (m *neighMsg) Serialize() []byte {
	b := make([]byte, neighLen)
	b[0] = m.family
	vnl.NativeEndian().PutUint32(b[4:], uint32(m.index))
	vnl.NativeEndian().PutUint16(b[8:], m.state)
	b[10] = m.flags
	return b
}
