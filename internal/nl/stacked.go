//go:build linux

package nl

import (
	"errors"
	"fmt"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddMACVLAN makes a link with a MAC address of its own on the link with the
// index parent, which counts in the handle's namespace. Nothing passes between it
// and others on the parent, nor the parent itself (mode private).
func (h *Handle) AddMACVLAN(end LinkEnd, parent int) error {
	return h.addNamed("macvlan", end, func(data *vnl.RtAttr) {
		data.AddRtAttr(vnl.IFLA_MACVLAN_MODE, vnl.Uint32Attr(vnl.MACVLAN_MODE_PRIVATE))
	}, vnl.NewRtAttr(unix.IFLA_LINK, vnl.Uint32Attr(uint32(parent))))
}

// AddWireGuard makes a link of the kernel's WireGuard; errors.ErrUnsupported where the
// kernel has none. Its sockets are those of the handle's namespace.
func (h *Handle) AddWireGuard(end LinkEnd) error { return h.addNamed("wireguard", end, nil) }

// IsolatePort sets whether the bridge's port with the index passes frames to other
// isolated ports.
func (h *Handle) IsolatePort(index int, isolated bool) error {
	v := byte(0)
	if isolated {
		v = 1
	}
	err := h.tell(unix.RTM_NEWLINK, 0, func(r *vnl.NetlinkRequest) {
		msg := vnl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		r.AddData(msg)
		info := vnl.NewRtAttr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_DATA|unix.NLA_F_NESTED, nil).AddRtAttr(unix.IFLA_BRPORT_ISOLATED, []byte{v})
		r.AddData(info)
	})
	if err != nil {
		return fmt.Errorf("set isolation of link %d: %w", index, err)
	}
	return nil
}

// LinkCounters are a link's, since it was made.
type LinkCounters struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxDropped uint64
}

// LinkCounters reads the counters of the link with the index.
func (h *Handle) LinkCounters(index int) (LinkCounters, error) {
	msgs, err := h.ask(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, func(r *vnl.NetlinkRequest) {
		msg := vnl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		r.AddData(msg)
	})
	if errors.Is(err, unix.ENODEV) || err == nil && len(msgs) == 0 {
		return LinkCounters{}, fmt.Errorf("counters of link %d: %w", index, ErrNotFound)
	}
	if err != nil {
		return LinkCounters{}, fmt.Errorf("counters of link %d: %w", index, err)
	}
	if len(msgs[0]) < unix.SizeofIfInfomsg {
		return LinkCounters{}, errors.New("short link message")
	}
	at, err := attrs(msgs[0][unix.SizeofIfInfomsg:])
	if err != nil {
		return LinkCounters{}, fmt.Errorf("counters of link %d: %w", index, err)
	}
	// struct rtnl_link_stats64: packets, bytes, errors and drops, received and sent.
	field := func(i int) uint64 {
		b := at[unix.IFLA_STATS64]
		if len(b) < 8*i+8 {
			return 0
		}
		return vnl.NativeEndian().Uint64(b[8*i:])
	}
	return LinkCounters{RxPackets: field(0), TxPackets: field(1), RxBytes: field(2), TxBytes: field(3),
		RxDropped: field(6), TxDropped: field(7)}, nil
}
