package hnv

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ExternalRange is an external address, whole or only a range of its ports
// (TCP and UDP ports, ICMP identifiers): tenants may share an address by ports.
type ExternalRange struct {
	Addr netip.Addr `json:"addr"`
	Lo   uint16     `json:"lo,omitempty"` // Lo and Hi both 0: the whole address
	Hi   uint16     `json:"hi,omitempty"`
}

// ParseExternalRange reads ADDR or ADDR:LO-HI ([ADDR]:LO-HI for IPv6).
func ParseExternalRange(s string) (ExternalRange, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		r := ExternalRange{Addr: a}
		return r, r.check()
	}
	bad := func() (ExternalRange, error) {
		return ExternalRange{}, invalidf("external address %q is malformed: write 203.0.113.10, or 203.0.113.10:20000-29999 for a range of its ports", s)
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return bad()
	}
	a, err := netip.ParseAddr(strings.Trim(s[:i], "[]"))
	lo, hi, ok := strings.Cut(s[i+1:], "-")
	l, err1 := strconv.ParseUint(lo, 10, 16)
	h, err2 := strconv.ParseUint(hi, 10, 16)
	if err != nil || !ok || err1 != nil || err2 != nil {
		return bad()
	}
	r := ExternalRange{a, uint16(l), uint16(h)}
	if r.Whole() {
		return ExternalRange{}, invalidf("external address %s: port 0 cannot be used", s)
	}
	return r, r.check()
}

// Whole tells whether the range is all of the address.
func (r ExternalRange) Whole() bool { return r.Lo == 0 && r.Hi == 0 }

// Ports gives the bounds to translate to; 1024 to 65535 for a whole address.
func (r ExternalRange) Ports() (lo, hi uint16) {
	if r.Whole() {
		return 1024, 65535
	}
	return r.Lo, r.Hi
}

// Contains tells whether the range holds the port of the address.
func (r ExternalRange) Contains(a netip.AddrPort) bool {
	return r.Addr == a.Addr() && (r.Whole() || r.Lo <= a.Port() && a.Port() <= r.Hi)
}

func (r ExternalRange) overlaps(o ExternalRange) bool {
	if r.Addr != o.Addr {
		return false
	}
	return r.Whole() || o.Whole() || r.Lo <= o.Hi && o.Lo <= r.Hi
}

func (r ExternalRange) check() error {
	switch {
	case !r.Addr.IsValid():
		return invalidf("the external address is missing")
	case r.Addr.Zone() != "" || r.Addr.Is4In6():
		return invalidf("external address %s: write it plainly, without a zone and not IPv4-mapped", r.Addr)
	case !r.Addr.IsGlobalUnicast():
		return invalidf("external address %s is not a unicast address that can be routed", r.Addr)
	case !r.Whole() && (r.Lo == 0 || r.Hi < r.Lo):
		return invalidf("external address %s: port range %d-%d is empty or starts at 0", r.Addr, r.Lo, r.Hi)
	}
	return nil
}

func (r ExternalRange) String() string {
	if r.Whole() {
		return r.Addr.String()
	}
	if r.Addr.Is6() {
		return fmt.Sprintf("[%s]:%d-%d", r.Addr, r.Lo, r.Hi)
	}
	return fmt.Sprintf("%s:%d-%d", r.Addr, r.Lo, r.Hi)
}

// Proto is a transport protocol that can be mapped.
type Proto string

// The protocols of static mappings.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// ParseProto checks s.
func ParseProto(s string) (Proto, error) {
	switch p := Proto(s); p {
	case TCP, UDP:
		return p, nil
	}
	return "", invalidf("protocol %q cannot be mapped: use tcp or udp", s)
}

// NATMapping makes a VM's port reachable from outside at an external one.
type NATMapping struct {
	Tenant   Name           `json:"tenant"`
	Proto    Proto          `json:"proto"`
	External netip.AddrPort `json:"external"`
	Internal netip.AddrPort `json:"internal"`
}

// Kind is KindNATMapping.
func (NATMapping) Kind() Kind { return KindNATMapping }

// Key is PROTO/EXTERNAL: an external port leads to one place only.
func (m NATMapping) Key() string { return string(m.Proto) + "/" + m.External.String() }

// Check holds what must be true of the mapping alone.
func (m NATMapping) Check() error {
	if !m.Tenant.IsValid() {
		return invalidf("a NAT mapping needs a tenant")
	}
	if _, err := ParseProto(string(m.Proto)); err != nil {
		return err
	}
	for _, e := range []struct {
		what string
		ap   netip.AddrPort
	}{{"external", m.External}, {"internal", m.Internal}} {
		if !e.ap.IsValid() || e.ap.Port() == 0 {
			return invalidf("NAT mapping of tenant %s: the %s end needs an address and a port from 1 to 65535", m.Tenant, e.what)
		}
		if e.ap.Addr().Is4In6() || e.ap.Addr().Zone() != "" {
			return invalidf("NAT mapping of tenant %s: %s address %s: write it plainly, without a zone and not IPv4-mapped", m.Tenant, e.what, e.ap.Addr())
		}
	}
	if m.External.Addr().Is4() != m.Internal.Addr().Is4() {
		return invalidf("NAT mapping %s of tenant %s: external and internal end must be of one address family", m.Key(), m.Tenant)
	}
	return nil
}
