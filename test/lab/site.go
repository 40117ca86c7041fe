package lab

import (
	"fmt"
	"net/netip"
)

// Speaker is the program that speaks BGP at a site.
type Speaker string

// The speakers, none of them the product's.
const (
	FRR   Speaker = "frr"
	BIRD  Speaker = "bird"
	GoBGP Speaker = "gobgpd" // Debian's; it leaves the kernel's routes alone
	// NoSpeaker has routes to the tenant's prefixes through its first tunnel instead.
	NoSpeaker Speaker = ""
)

// GatewayASN is the AS number of every tenant's speaker at the gateway.
const GatewayASN = 65000

// Site is a network of a tenant's own outside the overlay: a router, the network
// behind it, and one machine there, Host. The router is reached through tunnels
// over the Internet, or over a link of the gateway's.
type Site struct {
	Name    string       `json:"name"`
	Tenant  string       `json:"tenant"`
	Speaker Speaker      `json:"speaker"`
	ASN     uint32       `json:"asn"`
	LAN     netip.Prefix `json:"lan"`  // the router's address on lan0
	LAN6    netip.Prefix `json:"lan6"` // the router's other one
	Tunnels []SiteTunnel `json:"tunnels,omitempty"`
	Link    *SiteLink    `json:"link,omitempty"`
}

// SiteTunnel is the site's end of a tunnel, on a way to the Internet of its own.
// The I-th of a site is wgI on wanI, and it listens at WireGuardPort.
type SiteTunnel struct {
	// WAN is the site's address in the Internet. The Internet's router has the
	// network's lowest.
	WAN netip.Prefix `json:"wan"`
	// Inside and Inside6 are the site's addresses in the tunnel. The gateway has
	// the networks' lowest.
	Inside  netip.Prefix `json:"inside"`
	Inside6 netip.Prefix `json:"inside6"`
}

// SiteLink joins the router to an uplink of the gateway's.
type SiteLink struct {
	Uplink  string       `json:"uplink"`  // one of Gateway.Uplinks
	Router  netip.Prefix `json:"router"`  // on gw0
	Gateway netip.Addr   `json:"gateway"` // the tenant's, in the same network
}

// UplinkKind says how compartments have part in an uplink's network.
type UplinkKind string

// The kinds of uplinks that the lab makes beside the routed one to the Internet.
const (
	Macvlan UplinkKind = "macvlan"
	Bridge  UplinkKind = "bridge"
)

// UplinkLink is a further uplink of the gateway's.
type UplinkLink struct {
	Name      string     `json:"name"`
	Kind      UplinkKind `json:"kind"`
	Interface string     `json:"interface"`
}

// Host is the name of the site's machine.
func (s Site) Host() string { return s.Name + "-pc" }

// HostAddr is its address: the tenth of the site's network.
func (s Site) HostAddr() netip.Addr { return nth(s.LAN, 10) }

// HostAddr6 is its other one.
func (s Site) HostAddr6() netip.Addr { return nth(s.LAN6, 16) }

// Gateway is the gateway's address in the tunnel.
func (t SiteTunnel) Gateway() netip.Prefix {
	return netip.PrefixFrom(nth(t.Inside, 1), t.Inside.Bits())
}

// Gateway6 is its other one.
func (t SiteTunnel) Gateway6() netip.Prefix {
	return netip.PrefixFrom(nth(t.Inside6, 1), t.Inside6.Bits())
}

// isp is the address of the Internet's router on the tunnel's way.
func (t SiteTunnel) isp() netip.Prefix { return netip.PrefixFrom(nth(t.WAN, 1), t.WAN.Bits()) }

// Endpoint is where the site's end of the I-th tunnel listens.
func (s Site) Endpoint(i int) netip.AddrPort {
	return netip.AddrPortFrom(s.Tunnels[i].WAN.Addr(), WireGuardPort(i))
}

// WireGuardPort is where the I-th tunnel of a site listens.
func WireGuardPort(i int) uint16 { return uint16(51820 + i) }

// nth is the n-th address of the network, n below 256.
func nth(p netip.Prefix, n byte) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] += n
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Site finds a site by name.
func (t *Topology) Site(name string) (Site, error) {
	for _, x := range t.Sites {
		if x.Name == name {
			return x, nil
		}
	}
	return Site{}, fmt.Errorf("the lab has no site %q", name)
}

// SitesOf gives the tenant's sites.
func (t *Topology) SitesOf(tenant string) (out []Site) {
	for _, x := range t.Sites {
		if x.Tenant == tenant {
			out = append(out, x)
		}
	}
	return out
}

// beyond are the prefixes that the gateway leads to, as the site sees it: the
// tenant's, and those of its other sites.
func (t *Topology) beyond(s Site) (out []string) {
	if tenant, err := t.Tenant(s.Tenant); err == nil { // else refused by check
		for _, n := range tenant.Subnets {
			out = append(out, n.prefixes()...)
		}
	}
	for _, o := range t.SitesOf(s.Tenant) {
		if o.Name != s.Name {
			out = append(out, o.LAN.Masked().String(), o.LAN6.Masked().String())
		}
	}
	return out
}

// uplink finds a further uplink of the gateway.
func (t *Topology) uplink(name string) (UplinkLink, error) {
	if t.Gateway != nil {
		for _, u := range t.Gateway.Uplinks {
			if u.Name == name {
				return u, nil
			}
		}
	}
	return UplinkLink{}, fmt.Errorf("the gateway has no uplink %q beside the Internet's", name)
}

// check finds what is wrong with the site.
func (s Site) check(t *Topology) error {
	if _, err := t.Tenant(s.Tenant); err != nil {
		return fmt.Errorf("site %s: %w", s.Name, err)
	}
	if t.Gateway == nil || len(s.Tunnels) == 0 && s.Link == nil {
		return fmt.Errorf("site %s has no way to a gateway", s.Name)
	}
	for i, w := range s.Tunnels {
		if w.WAN.Addr() == w.isp().Addr() || w.Inside.Addr() == w.Gateway().Addr() || w.Inside6.Addr() == w.Gateway6().Addr() {
			return fmt.Errorf("site %s: tunnel %d takes an address that is the other end's", s.Name, i)
		}
	}
	if s.Link == nil {
		return nil
	}
	if _, err := t.uplink(s.Link.Uplink); err != nil {
		return fmt.Errorf("site %s: %w", s.Name, err)
	}
	if !s.Link.Router.Contains(s.Link.Gateway) {
		return fmt.Errorf("site %s: %s is not on its link to the gateway", s.Name, s.Link.Gateway)
	}
	return nil
}
