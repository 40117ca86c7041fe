package nat

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/ct"
)

const (
	protocolTCP = 6
	protocolUDP = 17
)

// wanted answers for many connections whether the Spec still translates them
// so.
type wanted struct {
	spec     Spec
	mappings map[mappingKey]netip.AddrPort
}

type mappingKey struct {
	proto    uint8
	external netip.AddrPort
}

func newWanted(s Spec) wanted {
	w := wanted{s, make(map[mappingKey]netip.AddrPort, len(s.Mappings))}
	for _, m := range s.Mappings {
		p := uint8(protocolTCP)
		if m.Proto == hnv.UDP {
			p = protocolUDP
		}
		w.mappings[mappingKey{p, m.External}] = m.Internal
	}
	return w
}

// stale tells whether a connection must be forgotten: its translation is one
// that no mapping, or no external address, stands for any more. A connection
// that is not translated is never stale. All translation in a compartment is
// this package's.
func (w wanted) stale(e ct.Entry) bool {
	if e.DNAT() {
		internal, ok := w.mappings[mappingKey{e.Orig.Proto, e.Orig.Dst}]
		if !ok || internal != e.Reply.Src {
			return true
		}
	}
	return e.SNAT() && !w.spec.external(e.Reply.Dst)
}
