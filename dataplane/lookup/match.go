package lookup

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// Match gives the prefix that Route finds a by: a subnet's or a customer
// route's. It is for people; not ok where Route finds nothing.
func (d *Domain) Match(a netip.Addr) (p netip.Prefix, ok bool) {
	if !a.IsValid() {
		return p, false
	}
	p, _, ok = d.routes.lpm.LookupPrefixLPM(netip.PrefixFrom(a, a.BitLen()))
	return p, ok
}

// Hnv gives the type as hnv has it.
func (t RecordType) Hnv() hnv.RecordType {
	switch t {
	case Static:
		return hnv.Static
	case Dynamic:
		return hnv.Dynamic
	case L2Only:
		return hnv.L2Only
	case Wildcard:
		return hnv.GatewayWildcard
	}
	return ""
}
