package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// Filter says which packets a session wants: those that all of its fields fit.
// A zero field fits every packet, and the zero Filter wants them all. What is not
// known of a packet fits no field that is set: one that was dropped before its
// tenant was known is in no capture of a tenant.
type Filter struct {
	Tenant hnv.RDID
	VSID   hnv.VSID
	CA     netip.Prefix // of either end of the inner packet, or asked for by ARP or ND
	PA     netip.Prefix // of either end of the outer packet

	EtherType uint16 // of the inner frame: packet.EtherTypeARP
	Proto     uint8  // of the inner packet: packet.ProtoTCP
	Port      uint16 // TCP or UDP, of either end

	Points    []Point
	OnlyDrops bool
	Reason    drop.Reason // of the drop
}

// check gives all that is wrong with the filter. A filter that no packet can
// pass is a mistake.
func (f *Filter) check() error {
	var errs []error
	refuse := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	for _, p := range f.Points {
		if p == 0 || p > Drop {
			refuse("capture point %d is none", p)
		}
	}
	if (f.OnlyDrops || f.Reason != drop.None) && len(f.Points) > 0 && !slices.Contains(f.Points, Drop) {
		refuse("only drops are wanted, but not at the point %q", Drop)
	}
	if int(f.Reason) >= drop.Count {
		refuse("drop reason %d is none", f.Reason)
	}
	for i, p := range [...]netip.Prefix{f.CA, f.PA} {
		if p != (netip.Prefix{}) && !p.IsValid() || p.Addr().Is4In6() {
			refuse("%s prefix %s is none: write an IPv4 or IPv6 address with its prefix length", [...]string{"CA", "PA"}[i], p)
		}
	}
	return errors.Join(errs...)
}

// points is the set of points that the filter wants packets of, a bit each.
func (f *Filter) points() (set uint8) {
	all := FabricIn
	if f.OnlyDrops || f.Reason != drop.None {
		all = Drop
	}
	for p := all; p <= Drop; p++ {
		if len(f.Points) == 0 || slices.Contains(f.Points, p) {
			set |= 1 << p
		}
	}
	return set
}

// match tells whether the filter wants a packet of one of its points.
func (f *Filter) match(m *Meta) bool {
	return (f.Tenant == hnv.RDID{} || f.Tenant == m.RDID) &&
		(!f.VSID.IsValid() || f.VSID.Uint32() == m.VSID) &&
		(f.Reason == drop.None || f.Reason == m.Reason) &&
		(f.EtherType == 0 || f.EtherType == m.EtherType) &&
		(f.Proto == 0 || f.Proto == m.Proto) &&
		(f.Port == 0 || f.Port == m.SrcPort || f.Port == m.DstPort) &&
		(!f.CA.IsValid() || f.CA.Contains(m.Src) || f.CA.Contains(m.Dst) || f.CA.Contains(m.Target)) &&
		(!f.PA.IsValid() || f.PA.Contains(m.SrcPA) || f.PA.Contains(m.DstPA))
}

// String gives the fields that are set: "vsid=5001 ca=10.1.1.11/32 drops".
func (f Filter) String() string {
	var b strings.Builder
	add := func(set bool, format string, a ...any) {
		if set {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, format, a...)
		}
	}
	add(f.Tenant.IsValid(), "rdid=%s", f.Tenant)
	add(f.VSID.IsValid(), "vsid=%s", f.VSID)
	add(f.CA.IsValid(), "ca=%s", f.CA)
	add(f.PA.IsValid(), "pa=%s", f.PA)
	add(f.EtherType != 0, "ethertype=%#04x", f.EtherType)
	add(f.Proto != 0, "proto=%d", f.Proto)
	add(f.Port != 0, "port=%d", f.Port)
	for _, p := range f.Points {
		add(true, "point=%s", p)
	}
	add(f.OnlyDrops, "drops")
	add(f.Reason != drop.None, "drop=%s", f.Reason)
	if b.Len() == 0 {
		return "everything"
	}
	return b.String()
}
