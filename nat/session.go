package nat

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hnvgate/hnvgate/internal/ct"
)

// Session is one tracked connection of a tenant. The ports of ICMP are the echo
// identifier.
type Session struct {
	Proto string `json:"proto"`
	Kind  Kind   `json:"kind"`
	// Inside is the VM's end; for Hairpin that of the VM which opened it.
	Inside netip.AddrPort `json:"inside"`
	// External is what the outside sees in Inside's place; for Local the
	// compartment's own address.
	External netip.AddrPort `json:"external"`
	Remote   netip.AddrPort `json:"remote"`
	// Mapped is the VM that a hairpin leads to.
	Mapped  netip.AddrPort `json:"mapped"`
	State   string         `json:"state,omitempty"` // of TCP
	Assured bool           `json:"assured"`         // seen to be alive in both directions
	Timeout time.Duration  `json:"timeout"`
	// Sent and Received are seen from whoever opened the connection; zero where
	// the compartment does not count.
	Sent     ct.Traffic `json:"sent"`
	Received ct.Traffic `json:"received"`
}

// Kind tells who opened a session, and towards whom.
type Kind string

// The kinds.
const (
	Outbound Kind = "outbound" // a VM, towards the outside
	Inbound  Kind = "inbound"  // the outside, through a static mapping
	Hairpin  Kind = "hairpin"  // a VM, towards a mapping of its own tenant
	Local    Kind = "local"    // someone and the compartment itself
)

func newSession(e ct.Entry) Session {
	s := Session{
		Proto: protoName(e.Orig.Proto), State: e.TCPState.String(), Assured: e.Status&ct.Assured != 0,
		Timeout: e.Timeout, Sent: e.OrigTraffic, Received: e.ReplyTraffic,
	}
	switch {
	case e.DNAT() && e.SNAT():
		s.Kind, s.Inside, s.External, s.Remote, s.Mapped = Hairpin, e.Orig.Src, e.Reply.Dst, e.Orig.Dst, e.Reply.Src
	case e.DNAT():
		s.Kind, s.Inside, s.External, s.Remote = Inbound, e.Reply.Src, e.Orig.Dst, e.Orig.Src
	case e.SNAT():
		s.Kind, s.Inside, s.External, s.Remote = Outbound, e.Orig.Src, e.Reply.Dst, e.Orig.Dst
	default:
		s.Kind, s.External, s.Remote = Local, e.Orig.Dst, e.Orig.Src
	}
	return s
}

func protoName(p uint8) string {
	switch p {
	case 1:
		return "icmp"
	case protocolTCP:
		return "tcp"
	case protocolUDP:
		return "udp"
	case 58:
		return "icmpv6"
	}
	return strconv.Itoa(int(p))
}

func sortSessions(list []Session) {
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(a.Inside.Compare(b.Inside), a.Remote.Compare(b.Remote), cmp.Compare(a.Proto, b.Proto), a.External.Compare(b.External))
	})
}
