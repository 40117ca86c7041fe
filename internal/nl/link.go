//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net"
	"os"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Link is a network interface as the kernel shows it.
type Link struct {
	Index int
	Name  string
	Alias string
	Kind  string // "veth", "vlan", ...; empty for hardware and lo
	MAC   [6]byte
	MTU   int
	Up    bool
	NoARP bool
	// Promisc counts for what ip-link(8) shows, not for packet sockets.
	Promisc bool
	// Carrier tells whether frames can pass: for a veth, whether the peer is up.
	Carrier bool
	Queues  int // transmit queues
	// Backlog is how many packets may wait to be sent: of a TUN link, to be read.
	Backlog int
	// Parent is the index of the veth's peer or the VLAN's device; where
	// ParentElsewhere it counts in another namespace.
	Parent          int
	ParentElsewhere bool
	ParentNetns     int // the number that this namespace has for that one; -1: none
	Master          int
	VLAN            uint16
	// Private: a macvlan link that passes nothing to others on its parent.
	Private bool
	// Isolated: a port of a bridge that passes nothing to other such ports.
	Isolated bool
	// AddrGenNone: the kernel makes no IPv6 link-local address.
	AddrGenNone bool
	conf4       []byte // int32 each, IPV4_DEVCONF_* less one
	conf6       []byte // int32 each, DEVCONF_*
}

// Conf4 is a per-interface IPv4 setting (enum of uapi/linux/ip.h).
type Conf4 int

// The settings in use. What they mean is in the kernel's ip-sysctl document
// under conf/INTERFACE.
const (
	Forwarding4       Conf4 = 1
	ProxyARP          Conf4 = 3
	AcceptRedirects4  Conf4 = 4
	SecureRedirects   Conf4 = 5
	SendRedirects     Conf4 = 6
	RPFilter          Conf4 = 8
	AcceptSourceRoute Conf4 = 9
	ARPAnnounce       Conf4 = 18
	ARPIgnore         Conf4 = 19
	// PromoteSecondaries: an address stays when the first one of its prefix goes.
	PromoteSecondaries Conf4 = 20
	IgnoreLinkdown4    Conf4 = 29 // ignore_routes_with_linkdown
)

// Conf6 is a per-interface IPv6 setting (enum of uapi/linux/ipv6.h).
type Conf6 int

// The settings in use.
const (
	Forwarding6      Conf6 = 0
	AcceptRA         Conf6 = 3
	AcceptRedirects6 Conf6 = 4
	Autoconf         Conf6 = 5
	DADTransmits     Conf6 = 6
	ProxyNDP         Conf6 = 22
	DisableIPv6      Conf6 = 26
	IgnoreLinkdown6  Conf6 = 39 // ignore_routes_with_linkdown
)

// Conf4 gives the setting's value; ok is false where the kernel shows none.
func (l *Link) Conf4(c Conf4) (v int, ok bool) { return conf(l.conf4, int(c)-1) }

// Conf6 gives the setting's value; ok is false where the kernel shows none.
func (l *Link) Conf6(c Conf6) (v int, ok bool) { return conf(l.conf6, int(c)) }

// PutConf4 makes l tell the value: for planners, the kernel is not asked.
func (l *Link) PutConf4(c Conf4, v int) { l.conf4 = putConf(l.conf4, int(c)-1, v) }

// PutConf6 is PutConf4 for IPv6.
func (l *Link) PutConf6(c Conf6, v int) { l.conf6 = putConf(l.conf6, int(c), v) }

func putConf(b []byte, i, v int) []byte {
	out := make([]byte, max(len(b), 4*i+4))
	copy(out, b)
	vnl.NativeEndian().PutUint32(out[4*i:], uint32(int32(v)))
	return out
}

func conf(b []byte, i int) (int, bool) {
	if i < 0 || len(b) < 4*i+4 {
		return 0, false
	}
	return int(int32(u32(b[4*i:]))), true
}

const (
	skipStats   = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	addrGenNone = 1      // IN6_ADDR_GEN_MODE_NONE
)

// Links lists all interfaces of the namespace.
func (h *Handle) Links() ([]Link, error) {
	msgs, err := h.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, unix.RTM_NEWLINK, func(r *vnl.NetlinkRequest) {
		r.AddData(vnl.NewIfInfomsg(unix.AF_UNSPEC))
		r.AddData(vnl.NewRtAttr(unix.IFLA_EXT_MASK, vnl.Uint32Attr(skipStats)))
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]Link, 0, len(msgs))
	for _, m := range msgs {
		l, err := parseLink(m)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Link finds an interface by name; ErrNotFound if there is none.
func (h *Handle) Link(name string) (Link, error) {
	return h.link(name, func(r *vnl.NetlinkRequest) {
		r.AddData(vnl.NewIfInfomsg(unix.AF_UNSPEC))
		r.AddData(vnl.NewRtAttr(unix.IFLA_EXT_MASK, vnl.Uint32Attr(skipStats)))
		r.AddData(vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(name)))
	})
}

// LinkByIndex finds an interface by its index; ErrNotFound if there is none.
func (h *Handle) LinkByIndex(index int) (Link, error) {
	return h.link(fmt.Sprintf("with index %d", index), func(r *vnl.NetlinkRequest) {
		msg := vnl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		r.AddData(msg)
		r.AddData(vnl.NewRtAttr(unix.IFLA_EXT_MASK, vnl.Uint32Attr(skipStats)))
	})
}

func (h *Handle) link(what string, build func(*vnl.NetlinkRequest)) (Link, error) {
	msgs, err := h.ask(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, build)
	if errors.Is(err, unix.ENODEV) || err == nil && len(msgs) == 0 {
		return Link{}, fmt.Errorf("link %s: %w", what, ErrNotFound)
	}
	if err != nil {
		return Link{}, fmt.Errorf("get link %s: %w", what, err)
	}
	l, err := parseLink(msgs[0])
	if err != nil {
		return Link{}, fmt.Errorf("get link %s: %w", what, err)
	}
	return l, nil
}

func parseLink(m []byte) (Link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return Link{}, errors.New("short link message")
	}
	head := vnl.DeserializeIfInfomsg(m)
	at, err := attrs(m[unix.SizeofIfInfomsg:])
	if err != nil {
		return Link{}, err
	}
	l := Link{
		Index: int(head.Index), Name: text(at[unix.IFLA_IFNAME]), Alias: text(at[unix.IFLA_IFALIAS]),
		MTU: int(u32(at[unix.IFLA_MTU])), Queues: int(u32(at[unix.IFLA_NUM_TX_QUEUES])),
		Backlog: int(u32(at[unix.IFLA_TXQLEN])),
		Up:      head.Flags&unix.IFF_UP != 0, NoARP: head.Flags&unix.IFF_NOARP != 0, Promisc: head.Flags&unix.IFF_PROMISC != 0,
		Carrier: head.Flags&unix.IFF_LOWER_UP != 0,
		Parent:  int(u32(at[unix.IFLA_LINK])), Master: int(u32(at[unix.IFLA_MASTER])),
	}
	l.ParentNetns = -1
	if id, ok := at[unix.IFLA_LINK_NETNSID]; ok {
		l.ParentElsewhere, l.ParentNetns = true, int(int32(u32(id)))
	}
	copy(l.MAC[:], at[unix.IFLA_ADDRESS])
	if info, ok := at[unix.IFLA_LINKINFO]; ok {
		in, err := attrs(info)
		if err != nil {
			return Link{}, err
		}
		if err := parseKind(in, &l); err != nil {
			return Link{}, err
		}
	}
	return l, parseAFSpec(at[unix.IFLA_AF_SPEC], &l)
}

func parseKind(in map[uint16][]byte, l *Link) error {
	l.Kind = text(in[unix.IFLA_INFO_KIND])
	data, err := attrs(in[unix.IFLA_INFO_DATA])
	if err != nil {
		return err
	}
	switch l.Kind {
	case "vlan":
		if b := data[unix.IFLA_VLAN_ID]; len(b) == 2 {
			l.VLAN = vnl.NativeEndian().Uint16(b)
		}
	case "macvlan":
		l.Private = u32(data[vnl.IFLA_MACVLAN_MODE]) == vnl.MACVLAN_MODE_PRIVATE
	}
	if text(in[unix.IFLA_INFO_SLAVE_KIND]) != "bridge" {
		return nil
	}
	port, err := attrs(in[unix.IFLA_INFO_SLAVE_DATA])
	if b := port[unix.IFLA_BRPORT_ISOLATED]; len(b) == 1 {
		l.Isolated = b[0] != 0
	}
	return err
}

func parseAFSpec(b []byte, l *Link) error {
	families, err := attrs(b)
	if err != nil {
		return err
	}
	for fam, b := range families {
		at, err := attrs(b)
		if err != nil {
			return err
		}
		switch fam {
		case unix.AF_INET:
			l.conf4 = at[1] // IFLA_INET_CONF
		case unix.AF_INET6:
			l.conf6 = at[unix.IFLA_INET6_CONF]
			if mode := at[unix.IFLA_INET6_ADDR_GEN_MODE]; len(mode) == 1 {
				l.AddrGenNone = mode[0] == addrGenNone
			}
		}
	}
	return nil
}

// LinkChange says what SetLink changes: what is set, in one step.
type LinkChange struct {
	Name        string
	MAC         [6]byte
	MTU         int
	Backlog     int
	Alias       string
	Up, Down    bool
	ARP, NoARP  bool
	AddrGenNone bool
	Conf4       map[Conf4]int
	Master      int    // index; -1 takes the link out of its bridge
	Namespace   string // path: moves the link
}

// SetLink changes the link with the index.
func (h *Handle) SetLink(index int, c LinkChange) error {
	var ns *os.File
	if c.Namespace != "" {
		f, err := os.Open(c.Namespace)
		if err != nil {
			return fmt.Errorf("set link: %w", err)
		}
		defer f.Close()
		ns = f
	}
	err := h.tell(unix.RTM_SETLINK, 0, func(r *vnl.NetlinkRequest) {
		msg := vnl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		flag := func(on, off bool, bit uint32) {
			if on || off {
				msg.Change |= bit
			}
			if on {
				msg.Flags |= bit
			}
		}
		flag(c.Up, c.Down, unix.IFF_UP)
		flag(c.NoARP, c.ARP, unix.IFF_NOARP)
		r.AddData(msg)
		if c.Name != "" {
			r.AddData(vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(c.Name)))
		}
		if c.MAC != [6]byte{} {
			r.AddData(vnl.NewRtAttr(unix.IFLA_ADDRESS, c.MAC[:]))
		}
		if c.MTU != 0 {
			r.AddData(vnl.NewRtAttr(unix.IFLA_MTU, vnl.Uint32Attr(uint32(c.MTU))))
		}
		if c.Backlog != 0 {
			r.AddData(vnl.NewRtAttr(unix.IFLA_TXQLEN, vnl.Uint32Attr(uint32(c.Backlog))))
		}
		if c.Alias != "" {
			r.AddData(vnl.NewRtAttr(unix.IFLA_IFALIAS, []byte(c.Alias)))
		}
		if c.Master != 0 {
			r.AddData(vnl.NewRtAttr(unix.IFLA_MASTER, vnl.Uint32Attr(uint32(max(c.Master, 0)))))
		}
		if ns != nil {
			r.AddData(vnl.NewRtAttr(unix.IFLA_NET_NS_FD, vnl.Uint32Attr(uint32(ns.Fd()))))
		}
		if c.AddrGenNone || len(c.Conf4) > 0 {
			r.AddData(afSpec(c))
		}
	})
	if err != nil {
		return fmt.Errorf("set link %d: %w", index, err)
	}
	return nil
}

func afSpec(c LinkChange) *vnl.RtAttr {
	spec := vnl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	if len(c.Conf4) > 0 {
		conf := spec.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil).AddRtAttr(1|unix.NLA_F_NESTED, nil) // IFLA_INET_CONF
		for id, v := range c.Conf4 {
			conf.AddRtAttr(int(id), vnl.Uint32Attr(uint32(int32(v))))
		}
	}
	if c.AddrGenNone {
		spec.AddRtAttr(unix.AF_INET6|unix.NLA_F_NESTED, nil).
			AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{addrGenNone})
	}
	return spec
}

// DelLink deletes the link with the name; it is no error if there is none.
func (h *Handle) DelLink(name string) error {
	err := h.tell(unix.RTM_DELLINK, 0, func(r *vnl.NetlinkRequest) {
		r.AddData(vnl.NewIfInfomsg(unix.AF_UNSPEC))
		r.AddData(vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(name)))
	})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// MACString writes an address the usual way.
func MACString(m [6]byte) string { return net.HardwareAddr(m[:]).String() }
