package hnv

import (
	"net/netip"
	"slices"
)

// Encap is how a tenant's packets ride over the fabric.
type Encap string

// The encapsulations.
const (
	NVGRE Encap = "nvgre" // RFC 7637
	VXLAN Encap = "vxlan" // RFC 7348
)

// ParseEncap checks s.
func ParseEncap(s string) (Encap, error) {
	switch e := Encap(s); e {
	case NVGRE, VXLAN:
		return e, nil
	}
	return "", invalidf("encapsulation %q is unknown: use nvgre or vxlan", s)
}

// Overhead is what the encapsulation adds to an inner IP packet over an outer
// IP header of the family: the outer IP header, the tunnel header and the inner
// Ethernet header.
func (e Encap) Overhead(outer6 bool) int {
	n := 20
	if outer6 {
		n = 40
	}
	if e == VXLAN {
		return n + 8 + 8 + 14
	}
	return n + 8 + 14
}

// Tenant is one routing domain: its virtual subnets and, where this machine is
// its gateway, the compartment.
type Tenant struct {
	Name    Name     `json:"name"`
	RDID    RDID     `json:"rdid"`
	Encap   Encap    `json:"encap"`
	Subnets []Subnet `json:"subnets"`
	// Gateway is nil on a machine that only hosts the tenant's VMs.
	Gateway *Gateway `json:"gateway,omitempty"`
	QoS     *QoS     `json:"qos,omitempty"`
	// StormPPS bounds the broadcast and multicast frames per second that the
	// tenant's ports of a machine may send; 0 is DefaultStormPPS.
	StormPPS uint32 `json:"stormPPS,omitempty"`

	drawn bool // the RDID was drawn for want of one, not given
}

// Subnet is a virtual subnet: one broadcast domain, one VSID.
type Subnet struct {
	VSID     VSID           `json:"vsid"`
	Prefixes []SubnetPrefix `json:"prefixes"`
	// ACL names the tenant's ACL of ports that name none of their own.
	ACL Name `json:"acl,omitzero"`
	// Learning is nil where CAs are what records say and nothing else.
	Learning *Learning `json:"learning,omitempty"`
	// MulticastGroup is the PA group that carries the subnet's broadcasts; unset:
	// each remote host is sent a copy.
	MulticastGroup netip.Addr `json:"multicastGroup,omitzero"`
	// DHCP is the CA of the subnet's DHCP server, in the subnet.
	DHCP netip.Addr `json:"dhcp,omitzero"`
}

// SubnetPrefix is one address range of a subnet and the distributed router's
// address in it.
type SubnetPrefix struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway"` // unset: the lowest usable address
}

// Gateway is the tenant's compartment on this machine.
type Gateway struct {
	VSID   VSID         `json:"vsid"`   // the gateway subnet, one of the tenant's
	CAs    []netip.Addr `json:"cas"`    // the compartment's addresses there, at most one of a family
	Uplink string       `json:"uplink"` // name of an uplink of this machine
	NAT    *NAT         `json:"nat,omitempty"`
}

// NAT is what the tenant's packets are translated to.
type NAT struct {
	Pool []ExternalRange `json:"pool"`
	// ConnectionLimit bounds the tracked connections; 0 is DefaultConnectionLimit.
	ConnectionLimit uint32 `json:"connectionLimit,omitempty"`
	// Offload says who translates the connections that are established.
	Offload Offload `json:"offload,omitempty"`
}

// Offload says whether the packets of a tenant's established connections are
// translated past its compartment, where the gateway can.
type Offload string

// The choices.
const (
	OffloadAuto Offload = ""    // as the gateway does where nothing is said
	OffloadOn   Offload = "on"  //
	OffloadOff  Offload = "off" // every packet passes the compartment
)

// ParseOffload checks s; "auto" is written "".
func ParseOffload(s string) (Offload, error) {
	switch o := Offload(s); o {
	case OffloadAuto, OffloadOn, OffloadOff:
		return o, nil
	case "auto":
		return OffloadAuto, nil
	}
	return "", invalidf("NAT offload %q is unknown: use auto, on or off", s)
}

// DefaultConnectionLimit bounds a tenant's connections where nothing is said.
const DefaultConnectionLimit = 65536

// Kind is KindTenant.
func (Tenant) Kind() Kind { return KindTenant }

// Key is the name.
func (t Tenant) Key() string { return t.Name.String() }

// Subnet finds the subnet with the VSID.
func (t *Tenant) Subnet(v VSID) (*Subnet, bool) {
	for i := range t.Subnets {
		if t.Subnets[i].VSID == v {
			return &t.Subnets[i], true
		}
	}
	return nil, false
}

// SubnetOf finds the subnet that holds the CA.
func (t *Tenant) SubnetOf(ca netip.Addr) (*Subnet, bool) {
	for i := range t.Subnets {
		if _, ok := t.Subnets[i].PrefixOf(ca); ok {
			return &t.Subnets[i], true
		}
	}
	return nil, false
}

// PrefixOf finds the subnet's prefix that holds the CA.
func (s *Subnet) PrefixOf(ca netip.Addr) (SubnetPrefix, bool) {
	for _, p := range s.Prefixes {
		if p.Prefix.Contains(ca) {
			return p, true
		}
	}
	return SubnetPrefix{}, false
}

// Defaulted fills in what may be left out: an RDID, the subnets' gateways, the
// gateway's CA. It does not change t's slices.
func (t Tenant) Defaulted() Tenant {
	if !t.RDID.IsValid() {
		t.RDID, t.drawn = NewRDID(), true
	}
	t.Subnets = slices.Clone(t.Subnets)
	for i := range t.Subnets {
		s := &t.Subnets[i]
		s.Prefixes = slices.Clone(s.Prefixes)
		for j := range s.Prefixes {
			p := &s.Prefixes[j]
			if !p.Gateway.IsValid() && p.Prefix.IsValid() {
				p.Gateway = p.Prefix.Masked().Addr().Next()
			}
		}
	}
	if t.Gateway == nil {
		return t
	}
	g := *t.Gateway
	if s, ok := t.Subnet(g.VSID); ok && len(g.CAs) == 0 {
		for _, p := range s.Prefixes {
			ca := p.Prefix.Masked().Addr().Next()
			if ca == p.Gateway {
				ca = ca.Next()
			}
			g.CAs = append(g.CAs, ca)
		}
	}
	if g.NAT != nil {
		n := *g.NAT
		if n.ConnectionLimit == 0 {
			n.ConnectionLimit = DefaultConnectionLimit
		}
		g.NAT = &n
	}
	t.Gateway = &g
	return t
}

// Check holds what must be true of the tenant alone.
func (t Tenant) Check() error {
	if !t.Name.IsValid() {
		return invalidf("a tenant needs a name")
	}
	bad := func(format string, args ...any) error {
		return invalidf("tenant "+t.Name.s+": "+format, args...)
	}
	if !t.RDID.IsValid() {
		return bad("the RDID is missing")
	}
	if _, err := ParseEncap(string(t.Encap)); err != nil {
		return bad("%v", err)
	}
	if len(t.Subnets) == 0 {
		return bad("no virtual subnet: give at least one as VSID=PREFIX")
	}
	type owned struct {
		prefix netip.Prefix
		vsid   VSID
	}
	var all []owned
	seen := map[VSID]bool{}
	for _, s := range t.Subnets {
		if !s.VSID.IsValid() {
			return bad("a virtual subnet has no VSID")
		}
		if seen[s.VSID] {
			return bad("VSID %s is named twice", s.VSID)
		}
		seen[s.VSID] = true
		if len(s.Prefixes) == 0 {
			return bad("VSID %s has no prefix", s.VSID)
		}
		for _, p := range s.Prefixes {
			if err := checkSubnetPrefix(p); err != nil {
				return bad("VSID %s: %v", s.VSID, err)
			}
			for _, o := range all {
				if o.prefix.Overlaps(p.Prefix) {
					return bad("prefix %s of VSID %s overlaps %s of VSID %s: one routing domain cannot hold an address twice",
						p.Prefix, s.VSID, o.prefix, o.vsid)
				}
			}
			all = append(all, owned{p.Prefix, s.VSID})
		}
	}
	for i := range t.Subnets {
		if err := t.checkServices(&t.Subnets[i]); err != nil {
			return bad("VSID %s: %v", t.Subnets[i].VSID, err)
		}
	}
	if t.QoS != nil {
		if err := t.QoS.check(); err != nil {
			return bad("%v", err)
		}
	}
	if t.StormPPS > maxStormPPS {
		return bad("a storm limit of %d frames per second is too high: use at most %d", t.StormPPS, maxStormPPS)
	}
	if t.Gateway != nil {
		return t.checkGateway(bad)
	}
	return nil
}

func checkSubnetPrefix(p SubnetPrefix) error {
	switch {
	case !p.Prefix.IsValid():
		return invalidf("the prefix is missing or malformed")
	case p.Prefix != p.Prefix.Masked():
		return invalidf("prefix %s has host bits set: write %s", p.Prefix, p.Prefix.Masked())
	case p.Prefix.Addr().Is4In6():
		return invalidf("prefix %s is an IPv4-mapped IPv6 one: write it as IPv4", p.Prefix)
	case !usableRange(p.Prefix):
		return invalidf("prefix %s is not one that hosts can have: loopback, multicast, link-local and 0.0.0.0/8 are not", p.Prefix)
	case p.Prefix.Bits() < 8:
		return invalidf("prefix %s is too short for a virtual subnet: use /8 or longer", p.Prefix)
	case p.Prefix.Addr().BitLen()-p.Prefix.Bits() < 2:
		return invalidf("prefix %s has no room for a gateway and a host: use /%d or shorter", p.Prefix, p.Prefix.Addr().BitLen()-2)
	case !p.Gateway.IsValid():
		return invalidf("prefix %s has no gateway address", p.Prefix)
	}
	if err := checkHostAddr(p.Gateway, p.Prefix); err != nil {
		return invalidf("gateway address: %v", err)
	}
	return nil
}

func usableRange(p netip.Prefix) bool {
	for _, no := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/96", "fe80::/10", "ff00::/8"} {
		if netip.MustParsePrefix(no).Overlaps(p) {
			return false
		}
	}
	return true
}

// checkHostAddr tells whether a host may have the address inside the prefix.
func checkHostAddr(a netip.Addr, p netip.Prefix) error {
	switch {
	case !p.Contains(a):
		return invalidf("%s is outside %s", a, p)
	case a == p.Masked().Addr():
		return invalidf("%s is the network address of %s", a, p)
	case a.Is4() && p.Bits() < 31 && a == lastAddr(p):
		return invalidf("%s is the broadcast address of %s", a, p)
	}
	return nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	host := ^uint32(0) >> p.Bits()
	for i := range b {
		b[i] |= byte(host >> (24 - 8*i))
	}
	return netip.AddrFrom4(b)
}

func (t Tenant) checkGateway(bad func(string, ...any) error) error {
	g := t.Gateway
	s, ok := t.Subnet(g.VSID)
	if !ok {
		return bad("gateway subnet VSID %s is not one of the tenant's virtual subnets", g.VSID)
	}
	if len(g.CAs) == 0 {
		return bad("the gateway has no customer address in VSID %s", g.VSID)
	}
	var have4, have6 bool
	for _, ca := range g.CAs {
		p, ok := s.PrefixOf(ca)
		if !ok {
			return bad("gateway customer address %s is outside the gateway subnet VSID %s (%s)", ca, g.VSID, s.prefixList())
		}
		if err := checkHostAddr(ca, p.Prefix); err != nil {
			return bad("gateway customer address: %v", err)
		}
		if ca == p.Gateway {
			return bad("gateway customer address %s is the distributed router's in VSID %s: choose another", ca, g.VSID)
		}
		have := &have4
		if ca.Is6() {
			have = &have6
		}
		if *have {
			return bad("the gateway has two customer addresses of one family: give one IPv4 and one IPv6 at most")
		}
		*have = true
	}
	if g.Uplink == "" {
		return bad("the gateway names no uplink")
	}
	if g.NAT == nil {
		return nil
	}
	if o, err := ParseOffload(string(g.NAT.Offload)); err != nil || o != g.NAT.Offload {
		return bad("NAT offload %q is unknown: use on, off, or leave it out", g.NAT.Offload)
	}
	if len(g.NAT.Pool) == 0 {
		return bad("NAT needs at least one external address")
	}
	for i, r := range g.NAT.Pool {
		if err := r.check(); err != nil {
			return bad("NAT: %v", err)
		}
		for _, o := range g.NAT.Pool[:i] {
			if r.overlaps(o) {
				return bad("NAT: external address %s is given twice (%s)", r, o)
			}
		}
		if _, ok := t.SubnetOf(r.Addr); ok {
			return bad("NAT: external address %s lies inside the tenant's own virtual network", r.Addr)
		}
	}
	return nil
}

func (s *Subnet) prefixList() string {
	out := ""
	for i, p := range s.Prefixes {
		if i > 0 {
			out += ", "
		}
		out += p.Prefix.String()
	}
	return out
}
