//go:build linux

package nl

import (
	"errors"
	"fmt"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NeighbourTable is one of the kernel's tables of neighbours, of all namespaces
// together.
type NeighbourTable struct {
	// Max is how many entries there may be (gc_thresh3); those that are permanent do not
	// count.
	Max uint32
	// Used counts all that there are.
	Used uint32
}

// Numbers of include/uapi/linux/neighbour.h.
const (
	ndtaName    = 1
	ndtaThresh3 = 4
	ndtaConfig  = 5

	ndtMsgLen       = 4 // struct ndtmsg
	ndtConfigCounts = 4 // where struct ndt_config has the number of entries
	ndtConfigLen    = ndtConfigCounts + 4
)

// NeighbourTables gives the tables of IPv4 and IPv6. The kernel also tells of each
// link in the namespace, so it is best asked in one that has few.
func (h *Handle) NeighbourTables() (four, six NeighbourTable, err error) {
	msgs, err := h.ask(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP, unix.RTM_NEWNEIGHTBL, func(r *vnl.NetlinkRequest) {
		r.AddData(&vnl.RtGenMsg{RtGenmsg: unix.RtGenmsg{Family: unix.AF_UNSPEC}})
	})
	if err != nil {
		return four, six, fmt.Errorf("ask for the tables of neighbours: %w", err)
	}
	for _, m := range msgs {
		name, t, ok, err := parseNeighbourTable(m)
		switch {
		case err != nil:
			return four, six, fmt.Errorf("ask for the tables of neighbours: %w", err)
		case !ok:
		case name == "arp_cache":
			four = t
		case name == "ndisc_cache":
			six = t
		}
	}
	if four.Max == 0 {
		return four, six, errors.New("the kernel does not tell of its table of neighbours")
	}
	return four, six, nil
}

// parseNeighbourTable reads a message; ok is false of one that is about a link.
func parseNeighbourTable(m []byte) (name string, t NeighbourTable, ok bool, err error) {
	if len(m) < ndtMsgLen {
		return "", t, false, errors.New("short message about neighbours")
	}
	at, err := attrs(m[ndtMsgLen:])
	if err != nil {
		return "", t, false, err
	}
	if len(at[ndtaThresh3]) < 4 {
		return "", t, false, nil
	}
	t.Max = u32(at[ndtaThresh3])
	if c := at[ndtaConfig]; len(c) >= ndtConfigLen {
		t.Used = u32(c[ndtConfigCounts:])
	}
	return text(at[ndtaName]), t, true, nil
}
