//go:build linux

package nl

import (
	"fmt"
	"net/netip"
	"os"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LinkEnd describes a link to be made. What is unset the kernel chooses.
type LinkEnd struct {
	Name      string
	Namespace string // path; "" is the handle's
	MAC       [6]byte
	MTU       int
	Up        bool
	NoARP     bool
	Queues    int // transmit and receive queues; 0 is one
}

type linkData func(data *vnl.RtAttr)

// AddVeth makes a pair of links, each in its place: making one and moving it
// costs the kernel many times as much. The kernel cannot make b up: it stays
// down until SetLink.
func (h *Handle) AddVeth(a, b LinkEnd) error {
	b.Up = false
	var peerNS *os.File
	if b.Namespace != "" {
		f, err := os.Open(b.Namespace)
		if err != nil {
			return fmt.Errorf("add link %s: %w", b.Name, err)
		}
		defer f.Close()
		peerNS = f
	}
	err := h.addLink("veth", a, func(data *vnl.RtAttr) {
		peer := data.AddRtAttr(1, nil) // VETH_INFO_PEER: a message inside the message
		for _, d := range endData(b, peerNS) {
			peer.AddChild(d)
		}
	})
	if err != nil {
		return fmt.Errorf("add link %s, peer %s: %w", a.Name, b.Name, err)
	}
	return nil
}

// AddVLAN makes a VLAN link on the link with the index parent.
func (h *Handle) AddVLAN(end LinkEnd, parent int, vlan uint16) error {
	return h.addNamed("vlan", end, func(data *vnl.RtAttr) {
		data.AddRtAttr(unix.IFLA_VLAN_ID, vnl.Uint16Attr(vlan))
	}, vnl.NewRtAttr(unix.IFLA_LINK, vnl.Uint32Attr(uint32(parent))))
}

// AddBridge makes a bridge.
func (h *Handle) AddBridge(end LinkEnd) error { return h.addNamed("bridge", end, nil) }

// VXLAN is a kernel VXLAN device.
type VXLAN struct {
	VNI      uint32
	Local    netip.Addr // the source of outer packets
	Remote   netip.Addr // where frames go whose destination is not known; unset: nowhere
	Port     uint16     // 0 is 4789
	Learning bool
	// External: the device has packets of every VNI, and no addresses of its own;
	// VNI, Local and Remote are not asked.
	External bool
}

// AddVXLAN makes a VXLAN device.
func (h *Handle) AddVXLAN(end LinkEnd, v VXLAN) error {
	return h.addNamed("vxlan", end, func(data *vnl.RtAttr) {
		if v.External {
			data.AddRtAttr(vnl.IFLA_VXLAN_FLOWBASED, []byte{1}) // COLLECT_METADATA by now
			v.Local, v.Remote = netip.Addr{}, netip.Addr{}
		} else {
			data.AddRtAttr(vnl.IFLA_VXLAN_ID, vnl.Uint32Attr(v.VNI))
		}
		port := v.Port
		if port == 0 {
			port = 4789
		}
		data.AddRtAttr(vnl.IFLA_VXLAN_PORT, []byte{byte(port >> 8), byte(port)})
		learning := byte(0)
		if v.Learning {
			learning = 1
		}
		data.AddRtAttr(vnl.IFLA_VXLAN_LEARNING, []byte{learning})
		for _, e := range []struct {
			a      netip.Addr
			v4, v6 int
		}{{v.Local, vnl.IFLA_VXLAN_LOCAL, vnl.IFLA_VXLAN_LOCAL6}, {v.Remote, vnl.IFLA_VXLAN_GROUP, vnl.IFLA_VXLAN_GROUP6}} {
			switch {
			case e.a.Is4():
				data.AddRtAttr(e.v4, e.a.AsSlice())
			case e.a.Is6():
				data.AddRtAttr(e.v6, e.a.AsSlice())
			}
		}
	})
}

func (h *Handle) addNamed(kind string, end LinkEnd, fill linkData, more ...*vnl.RtAttr) error {
	if err := h.addLink(kind, end, fill, more...); err != nil {
		return fmt.Errorf("add %s link %s: %w", kind, end.Name, err)
	}
	return nil
}

func (h *Handle) addLink(kind string, end LinkEnd, fill linkData, more ...*vnl.RtAttr) error {
	var ns *os.File
	if end.Namespace != "" {
		f, err := os.Open(end.Namespace)
		if err != nil {
			return err
		}
		defer f.Close()
		ns = f
	}
	return h.tell(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(r *vnl.NetlinkRequest) {
		for _, d := range endData(end, ns) {
			r.AddData(d)
		}
		for _, a := range more {
			r.AddData(a)
		}
		info := vnl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(kind))
		if fill != nil {
			fill(info.AddRtAttr(unix.IFLA_INFO_DATA, nil))
		}
		r.AddData(info)
	})
}

func endData(e LinkEnd, ns *os.File) []vnl.NetlinkRequestData {
	msg := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	if e.Up {
		msg.Flags |= unix.IFF_UP
		msg.Change |= unix.IFF_UP
	}
	if e.NoARP {
		msg.Flags |= unix.IFF_NOARP
		msg.Change |= unix.IFF_NOARP
	}
	queues := vnl.Uint32Attr(uint32(max(e.Queues, 1)))
	out := []vnl.NetlinkRequestData{
		msg,
		vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(e.Name)),
		vnl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, queues),
		vnl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, queues),
	}
	if e.MAC != [6]byte{} {
		out = append(out, vnl.NewRtAttr(unix.IFLA_ADDRESS, e.MAC[:]))
	}
	if e.MTU != 0 {
		out = append(out, vnl.NewRtAttr(unix.IFLA_MTU, vnl.Uint32Attr(uint32(e.MTU))))
	}
	if ns != nil {
		out = append(out, vnl.NewRtAttr(unix.IFLA_NET_NS_FD, vnl.Uint32Attr(uint32(ns.Fd()))))
	}
	return out
}
