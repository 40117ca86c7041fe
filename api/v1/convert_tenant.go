package v1

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// Object gives the domain's object. All malformed fields are joined into the
// error, a *FieldError each. The result need not pass Check.
func (t Tenant) Object() (hnv.Tenant, error) {
	var f fields
	out := hnv.Tenant{
		Name:  read(&f, "name", t.Name, parseName),
		RDID:  optional(&f, "rdid", t.RDID, hnv.ParseRDID),
		Encap: read(&f, "encap", t.Encap, parseEncap),
	}
	for i, s := range t.Subnets {
		at := fmt.Sprintf("subnets[%d].", i)
		sub := hnv.Subnet{VSID: f.vsid(at+"vsid", s.VSID)}
		for j, p := range s.Prefixes {
			sub.Prefixes = append(sub.Prefixes, f.subnetPrefix(fmt.Sprintf("%sprefixes[%d]", at, j), p))
		}
		if len(s.Prefixes) == 0 {
			f.failf(at+"prefixes", "VSID %d has no prefix", s.VSID)
		}
		s.services(&f, at, &sub)
		out.Subnets = append(out.Subnets, sub)
	}
	if t.Gateway != nil {
		out.Gateway = t.Gateway.object(&f)
	}
	if q := t.QoS; q != nil {
		out.QoS = &hnv.QoS{InKbps: q.InKbps, OutKbps: q.OutKbps, DSCP: read(&f, "qos.dscp", q.DSCP, hnv.ParseDSCP)}
	}
	out.StormPPS = t.StormPPS
	return out, f.err()
}

// services reads what the subnet offers besides forwarding.
func (s Subnet) services(f *fields, at string, out *hnv.Subnet) {
	part := &fields{}
	if s.ACL != "" {
		out.ACL = part.named(at+"acl", "ACL", s.ACL)
	}
	if l := s.Learning; l != nil {
		out.Learning = &hnv.Learning{MaxPerPort: l.MaxPerPort, AgeSeconds: l.AgeSeconds}
	}
	if s.MulticastGroup != "" {
		out.MulticastGroup = part.addr(at+"multicastGroup", "multicast group", s.MulticastGroup)
	}
	if s.DHCP != "" {
		out.DHCP = part.addr(at+"dhcp", "DHCP server", s.DHCP)
	}
	f.within(fmt.Sprintf("VSID %d", s.VSID), part)
}

func parseName(s string) (hnv.Name, error) {
	if s == "" {
		return hnv.Name{}, invalidf("the name is missing")
	}
	return hnv.ParseName(s)
}

func parseEncap(s string) (hnv.Encap, error) {
	if s == "" {
		return "", invalidf("the encapsulation is missing: use nvgre or vxlan")
	}
	return hnv.ParseEncap(s)
}

// subnetPrefix reads PREFIX or PREFIX@GATEWAY.
func (f *fields) subnetPrefix(field, s string) hnv.SubnetPrefix {
	prefix, gateway, has := strings.Cut(s, "@")
	p := hnv.SubnetPrefix{Prefix: f.prefix(field, "prefix", prefix)}
	if has {
		p.Gateway = f.addr(field, "gateway address", gateway)
	}
	return p
}

func (g *Gateway) object(f *fields) *hnv.Gateway {
	out := &hnv.Gateway{VSID: f.vsid("gateway.vsid", g.VSID), Uplink: g.Uplink}
	if g.Uplink == "" {
		f.failf("gateway.uplink", "the gateway names no uplink")
	}
	for i, ca := range g.CAs {
		out.CAs = append(out.CAs, f.addr(fmt.Sprintf("gateway.cas[%d]", i), "gateway customer address", ca))
	}
	if g.NAT == nil {
		return out
	}
	out.NAT = &hnv.NAT{ConnectionLimit: g.NAT.ConnectionLimit, Offload: read(f, "gateway.nat.offload", g.NAT.Offload, hnv.ParseOffload)}
	for i, r := range g.NAT.Pool {
		out.NAT.Pool = append(out.NAT.Pool, read(f, fmt.Sprintf("gateway.nat.pool[%d]", i), r, hnv.ParseExternalRange))
	}
	return out
}

// NewTenant gives the tenant as the interface shows it.
func NewTenant(t hnv.Tenant) Tenant {
	out := Tenant{Name: t.Name.String(), Encap: string(t.Encap), Subnets: make([]Subnet, 0, len(t.Subnets))}
	if t.RDID.IsValid() {
		out.RDID = t.RDID.String()
	}
	for _, s := range t.Subnets {
		sub := Subnet{VSID: s.VSID.Uint32()}
		for _, p := range s.Prefixes {
			text := p.Prefix.String()
			if p.Gateway.IsValid() {
				text += "@" + p.Gateway.String()
			}
			sub.Prefixes = append(sub.Prefixes, text)
		}
		sub.ACL, sub.MulticastGroup, sub.DHCP = s.ACL.String(), addrText(s.MulticastGroup), addrText(s.DHCP)
		if l := s.Learning; l != nil {
			sub.Learning = &Learning{MaxPerPort: l.MaxPerPort, AgeSeconds: l.AgeSeconds}
		}
		out.Subnets = append(out.Subnets, sub)
	}
	if g := t.Gateway; g != nil {
		out.Gateway = &Gateway{VSID: g.VSID.Uint32(), CAs: texts(g.CAs), Uplink: g.Uplink}
		if g.NAT != nil {
			out.Gateway.NAT = &NAT{Pool: texts(g.NAT.Pool), ConnectionLimit: g.NAT.ConnectionLimit, Offload: string(g.NAT.Offload)}
		}
	}
	if q := t.QoS; q != nil {
		out.QoS = &QoS{InKbps: q.InKbps, OutKbps: q.OutKbps, DSCP: string(q.DSCP)}
	}
	out.StormPPS = t.StormPPS
	return out
}

func texts[T fmt.Stringer](in []T) []string {
	var out []string
	for _, v := range in {
		out = append(out, v.String())
	}
	return out
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
