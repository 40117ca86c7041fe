//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const ifaProto = 11 // IFA_PROTO, since Linux 5.18

// Addr is an address on a link. The kernel adds its on-link prefix as a route.
type Addr struct {
	Prefix   netip.Prefix // the address with the length of its prefix
	Link     int          // index
	Protocol uint8        // who made it; 0 where the kernel cannot tell (before 5.18)
	// NoSource, for AddAddr: the kernel shall not choose it as the source of a
	// packet that has none yet.
	NoSource bool
	// Tentative: IPv6 duplicate detection has not finished, or has failed.
	Tentative bool
}

// Addrs lists the addresses of the link with the index; 0 is all links.
func (h *Handle) Addrs(link int) ([]Addr, error) {
	msgs, err := h.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, unix.RTM_NEWADDR, func(r *vnl.NetlinkRequest) {
		msg := vnl.NewIfAddrmsg(unix.AF_UNSPEC)
		msg.Index = uint32(link)
		r.AddData(msg)
	})
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("list addresses of link %d: %w", link, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []Addr
	for _, m := range msgs {
		if len(m) < unix.SizeofIfAddrmsg {
			return nil, errors.New("list addresses: short message")
		}
		head := vnl.DeserializeIfAddrmsg(m)
		if link != 0 && int(head.Index) != link {
			continue
		}
		at, err := attrs(m[unix.SizeofIfAddrmsg:])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		b, ok := at[unix.IFA_LOCAL]
		if !ok {
			b = at[unix.IFA_ADDRESS]
		}
		a := Addr{Prefix: netip.PrefixFrom(addr(b), int(head.Prefixlen)), Link: int(head.Index)}
		if p := at[ifaProto]; len(p) == 1 {
			a.Protocol = p[0]
		}
		flags := uint32(head.Flags)
		if f, ok := at[unix.IFA_FLAGS]; ok {
			flags = u32(f)
		}
		a.Tentative = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0
		out = append(out, a)
	}
	return out, nil
}

// AddAddr adds an address. IPv6 duplicate detection is left out: who assigns
// the address knows that it is unique, and it is usable at once.
func (h *Handle) AddAddr(a Addr) error {
	err := h.tell(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, addrMessage(a, true))
	if err != nil {
		return fmt.Errorf("add address %s: %w", a.Prefix, err)
	}
	return nil
}

// DelAddr removes an address; it is no error if it is not there.
func (h *Handle) DelAddr(a Addr) error {
	err := h.tell(unix.RTM_DELADDR, 0, addrMessage(a, false))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove address %s: %w", a.Prefix, err)
	}
	return nil
}

func addrMessage(a Addr, create bool) func(*vnl.NetlinkRequest) {
	return func(r *vnl.NetlinkRequest) {
		ip := a.Prefix.Addr()
		msg := vnl.NewIfAddrmsg(int(family(ip)))
		msg.Prefixlen = uint8(a.Prefix.Bits())
		msg.Index = uint32(a.Link)
		if ip.IsLinkLocalUnicast() || ip.Is4() && a.NoSource {
			msg.Scope = unix.RT_SCOPE_LINK
		}
		r.AddData(msg)
		r.AddData(vnl.NewRtAttr(unix.IFA_LOCAL, ip.AsSlice()))
		r.AddData(vnl.NewRtAttr(unix.IFA_ADDRESS, ip.AsSlice()))
		if !create {
			return
		}
		if ip.Is6() {
			r.AddData(vnl.NewRtAttr(unix.IFA_FLAGS, vnl.Uint32Attr(unix.IFA_F_NODAD)))
		}
		if ip.Is6() && a.NoSource {
			r.AddData(vnl.NewRtAttr(unix.IFA_CACHEINFO, deprecated()))
		}
		if a.Protocol != 0 { // older kernels skip an attribute they do not know
			r.AddData(vnl.NewRtAttr(ifaProto, []byte{a.Protocol}))
		}
	}
}

// deprecated is a struct ifa_cacheinfo: valid for ever, preferred no more.
func deprecated() []byte {
	const forever = 0xffffffff
	b := make([]byte, 16)
	vnl.NativeEndian().PutUint32(b[4:], forever)
	return b
}
