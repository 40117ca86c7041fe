package hnv

import (
	"net/netip"
	"strconv"
	"strings"
)

// ProviderAddress is an address of this machine on the datacenter fabric.
type ProviderAddress struct {
	Addr      netip.Prefix `json:"addr"`      // the address with the length of its on-link prefix
	Interface string       `json:"interface"` // one of this machine's PA interfaces
	VLAN      uint16       `json:"vlan,omitempty"`
}

// Kind is KindProviderAddress.
func (ProviderAddress) Kind() Kind { return KindProviderAddress }

// Key is the address.
func (p ProviderAddress) Key() string { return p.Addr.Addr().String() }

// Check holds what must be true of the address alone.
func (p ProviderAddress) Check() error {
	if !p.Addr.IsValid() {
		return invalidf("a provider address is missing or malformed: write it with its prefix length, as 192.168.1.10/24")
	}
	if err := checkPlain("provider address", p.Addr.Addr()); err != nil {
		return err
	}
	if p.Addr.Addr().BitLen()-p.Addr.Bits() >= 2 {
		if err := checkHostAddr(p.Addr.Addr(), p.Addr.Masked()); err != nil {
			return invalidf("provider address: %v", err)
		}
	}
	if p.VLAN > 4094 {
		return invalidf("provider address %s: VLAN %d is out of range: use 1 to 4094, or 0 for untagged", p.Addr, p.VLAN)
	}
	return checkInterface(p.Interface)
}

func checkInterface(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/ \t\n:") {
		return invalidf("interface name %q is not one that Linux takes: 1 to 15 characters, no space, slash or colon", name)
	}
	return nil
}

// ProviderRoute leads to PAs that are not on-link.
type ProviderRoute struct {
	Prefix  netip.Prefix `json:"prefix"`
	NextHop netip.Addr   `json:"nextHop"`
	Metric  uint32       `json:"metric,omitempty"`
}

// Kind is KindProviderRoute.
func (ProviderRoute) Kind() Kind { return KindProviderRoute }

// Key is PREFIX/NEXTHOP.
func (r ProviderRoute) Key() string {
	return r.Prefix.Addr().String() + "/" + strconv.Itoa(r.Prefix.Bits()) + "/" + r.NextHop.String()
}

// Check holds what must be true of the route alone.
func (r ProviderRoute) Check() error {
	switch {
	case !r.Prefix.IsValid():
		return invalidf("provider route: the prefix is missing or malformed")
	case r.Prefix != r.Prefix.Masked():
		return invalidf("provider route: prefix %s has host bits set: write %s", r.Prefix, r.Prefix.Masked())
	case r.NextHop.Is4() != r.Prefix.Addr().Is4():
		return invalidf("provider route %s: next hop %s is not of the prefix's address family", r.Prefix, r.NextHop)
	}
	if err := checkPlain("next hop", r.NextHop); err != nil {
		return invalidf("provider route %s: %v", r.Prefix, err)
	}
	return nil
}

// Port plugs a VM's network interface on this machine into a virtual subnet.
type Port struct {
	Interface string `json:"interface"`
	VSID      VSID   `json:"vsid"`
	MAC       MAC    `json:"mac"`
	ACL       Name   `json:"acl,omitzero"` // instead of the virtual subnet's
	// InKbps bounds what goes to the port, OutKbps what comes from it, in
	// 1000 bit/s of frames; 0: no bound.
	InKbps  uint64 `json:"inKbps,omitempty"`
	OutKbps uint64 `json:"outKbps,omitempty"`
}

// Kind is KindPort.
func (Port) Kind() Kind { return KindPort }

// Key is the interface.
func (p Port) Key() string { return p.Interface }

// Check holds what must be true of the port alone.
func (p Port) Check() error {
	if err := checkInterface(p.Interface); err != nil {
		return err
	}
	if !p.VSID.IsValid() {
		return invalidf("port %s: the VSID is missing", p.Interface)
	}
	if !p.MAC.IsValid() || p.MAC == RouterMAC {
		return invalidf("port %s: the MAC address is missing or the distributed router's", p.Interface)
	}
	if p.InKbps > maxKbps || p.OutKbps > maxKbps {
		return invalidf("port %s: a rate limit is in kbit/s and at most %d", p.Interface, uint64(maxKbps))
	}
	return nil
}
