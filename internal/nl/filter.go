//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"fmt"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Filter is a BPF program at a link's ingress, whose return code is the packet's
// fate (cls_bpf in direct action, tc-bpf(8)). Link, Priority and Handle say which
// filter it is.
type Filter struct {
	Link     int    // index
	Priority uint16 // lowest first; a priority belongs to one kind of filter
	Handle   uint32 // among those of the priority
	Name     string // anything: who made it
	// Program and Tag identify the program, as bpftool-prog(8) shows it.
	Program uint32
	Tag     [8]byte
}

// Numbers of include/uapi/linux/pkt_sched.h.
const (
	clsactHandle = 0xffff0000 // TC_H_CLSACT's major number
	clsactParent = 0xfffffff1 // TC_H_CLSACT
	atIngress    = 0xfffffff2 // TC_H_MIN_INGRESS of it
	atEgress     = 0xfffffff3 // TC_H_MIN_EGRESS of it
)

const (
	kindClsact = "clsact"
	kindBPF    = "bpf"
)

// AddClsact gives the link the place for filters, which takes nothing and delays
// nothing; made is false if there is one already.
func (h *Handle) AddClsact(link int) (made bool, err error) {
	err = h.tell(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.TcMsg{Ifindex: int32(link), Handle: clsactHandle, Parent: clsactParent})
		r.AddData(vnl.NewRtAttr(vnl.TCA_KIND, vnl.ZeroTerminated(kindClsact)))
	})
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, linkError(fmt.Sprintf("add clsact to link %d", link), err)
	}
	return true, nil
}

// Clsacts lists the links that have the place for filters, by index.
func (h *Handle) Clsacts() ([]int, error) {
	msgs, err := h.ask(unix.RTM_GETQDISC, unix.NLM_F_DUMP, unix.RTM_NEWQDISC, func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.TcMsg{})
	})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	var out []int
	for _, m := range msgs {
		head, at, err := parseTC(m)
		if err != nil {
			return nil, fmt.Errorf("list qdiscs: %w", err)
		}
		if text(at[vnl.TCA_KIND]) == kindClsact {
			out = append(out, int(head.Ifindex))
		}
	}
	return out, nil
}

// DelClsact takes it away, and all filters with it; it is no error if there is
// none, or no such link.
func (h *Handle) DelClsact(link int) error {
	err := h.tell(unix.RTM_DELQDISC, 0, func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.TcMsg{Ifindex: int32(link), Handle: clsactHandle, Parent: clsactParent})
	})
	if isAbsent(err) || errors.Is(err, unix.EINVAL) { // EINVAL: no qdisc of that handle
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove clsact from link %d: %w", link, err)
	}
	return nil
}

// SetFilter puts the program in the filter's place; a program that is there is
// replaced, and each packet meets one of the two. The link needs clsact.
func (h *Handle) SetFilter(f Filter, program int) error {
	err := h.tell(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, func(r *vnl.NetlinkRequest) {
		r.AddData(filterHead(f))
		r.AddData(vnl.NewRtAttr(vnl.TCA_KIND, vnl.ZeroTerminated(kindBPF)))
		o := vnl.NewRtAttr(vnl.TCA_OPTIONS|unix.NLA_F_NESTED, nil)
		o.AddRtAttr(vnl.TCA_BPF_FD, vnl.Uint32Attr(uint32(program)))
		o.AddRtAttr(vnl.TCA_BPF_NAME, vnl.ZeroTerminated(f.Name))
		o.AddRtAttr(vnl.TCA_BPF_FLAGS, vnl.Uint32Attr(vnl.TCA_BPF_FLAG_ACT_DIRECT))
		r.AddData(o)
	})
	if err != nil {
		return linkError(fmt.Sprintf("set filter %s of link %d", f.Name, f.Link), err)
	}
	return nil
}

// DelFilter takes the filter off; it is no error if it is not there.
func (h *Handle) DelFilter(f Filter) error {
	err := h.tell(unix.RTM_DELTFILTER, 0, func(r *vnl.NetlinkRequest) { r.AddData(filterHead(f)) })
	if isAbsent(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove filter %s of link %d: %w", f.Name, f.Link, err)
	}
	return nil
}

func filterHead(f Filter) *vnl.TcMsg {
	protocol := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network byte order
	return &vnl.TcMsg{Ifindex: int32(f.Link), Handle: f.Handle, Parent: atIngress, Info: uint32(f.Priority)<<16 | uint32(protocol)}
}

// FiltersAt lists the BPF programs of the priority at the link's ingress; none if there
// is no such link.
func (h *Handle) FiltersAt(link int, priority uint16) (out []Filter, err error) {
	msgs, err := h.ask(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, unix.RTM_NEWTFILTER, func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.TcMsg{Ifindex: int32(link), Parent: atIngress, Info: uint32(priority) << 16})
	})
	if isAbsent(err) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, linkError(fmt.Sprintf("list filters of link %d", link), err)
	}
	for _, m := range msgs {
		f, ok, err := parseFilter(m)
		if err != nil {
			return nil, fmt.Errorf("list filters of link %d: %w", link, err)
		}
		if ok && f.Priority == priority {
			out = append(out, f)
		}
	}
	return out, nil
}

// Filters lists the BPF programs at the link's ingress. others counts the filters
// at ingress and egress that are something else.
func (h *Handle) Filters(link int) (out []Filter, others int, err error) {
	for _, parent := range []uint32{atIngress, atEgress} {
		msgs, err := h.ask(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, unix.RTM_NEWTFILTER, func(r *vnl.NetlinkRequest) {
			r.AddData(&vnl.TcMsg{Ifindex: int32(link), Parent: parent})
		})
		if isAbsent(err) || errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			return nil, 0, linkError(fmt.Sprintf("list filters of link %d", link), err)
		}
		for _, m := range msgs {
			f, ok, err := parseFilter(m)
			switch {
			case err != nil:
				return nil, 0, fmt.Errorf("list filters of link %d: %w", link, err)
			case ok && parent == atIngress:
				out = append(out, f)
			case ok || f.Handle != 0: // a handle of 0 is what all of a priority have in common
				others++
			}
		}
	}
	return out, others, nil
}

// parseFilter reads a message of a filter; not ok if it is none of BPF.
func parseFilter(m []byte) (f Filter, ok bool, err error) {
	head, at, err := parseTC(m)
	if err != nil {
		return f, false, err
	}
	f = Filter{Link: int(head.Ifindex), Priority: uint16(head.Info >> 16), Handle: head.Handle}
	if text(at[vnl.TCA_KIND]) != kindBPF || head.Handle == 0 {
		return f, false, nil
	}
	o, err := attrs(at[vnl.TCA_OPTIONS])
	if err != nil {
		return f, false, err
	}
	f.Name, f.Program = text(o[vnl.TCA_BPF_NAME]), u32(o[vnl.TCA_BPF_ID])
	copy(f.Tag[:], o[vnl.TCA_BPF_TAG])
	return f, true, nil
}

func parseTC(m []byte) (vnl.TcMsg, map[uint16][]byte, error) {
	if len(m) < vnl.SizeofTcMsg {
		return vnl.TcMsg{}, nil, errors.New("short traffic control message")
	}
	at, err := attrs(m[vnl.SizeofTcMsg:])
	return *vnl.DeserializeTcMsg(m), at, err
}

// isAbsent tells whether the link, or what was to be there, is not.
func isAbsent(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }

func linkError(what string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", what, err)
}
