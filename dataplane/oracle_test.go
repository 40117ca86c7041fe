package dataplane

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// The reference model says who may talk to whom, and how a packet must look when
// it arrives, straight from the tenants' objects as each host has them, by
// looking at all of them, with nothing of the dataplane's code. It remembers
// nothing but the connections that lists let pass.

// spot is where a record says that an address, or a MAC, is found.
type spot struct {
	vsid     uint32
	ca       netip.Addr // the record's
	mac      hnv.MAC
	pas      []netip.Addr
	rule     hnv.Rule
	keepsMAC bool
}

func spotOf(r hnv.Record) spot {
	return spot{r.VSID.Uint32(), r.CA, r.MAC, r.PAs(), r.Rule, r.UseVMMAC}
}

// at tells whether the spot is on a machine with the PAs.
func (q *spot) at(pas []netip.Addr) bool {
	return slices.ContainsFunc(q.pas, func(pa netip.Addr) bool { return slices.Contains(pas, pa) })
}

// places gives where the tenant's objects say an address is: by its own record,
// or by those of the next hops that lead to it, the gateways for what lies
// outside last. covered tells that the routing domain has it, router that it is
// the distributed router's.
func places(t *Tenant, a netip.Addr) (found []spot, covered, router bool) {
	at := func(v hnv.VSID, ca netip.Addr) []spot {
		for _, r := range t.Records {
			if r.VSID == v && r.CA == ca && r.CA.IsValid() {
				return []spot{spotOf(r)}
			}
		}
		return nil
	}
	onLink := -1
	for _, s := range t.Subnets {
		if p, ok := s.PrefixOf(a); ok {
			if p.Gateway == a {
				return nil, true, true
			}
			if found := at(s.VSID, a); found != nil {
				return found, true, false
			}
			onLink, covered = p.Prefix.Bits(), true
		}
	}
	bits, best := onLink, uint32(0)
	for _, r := range t.Routes {
		if !r.Prefix.Contains(a) || r.Prefix.Bits() <= onLink || r.Prefix.Bits() < bits {
			continue
		}
		if r.Prefix.Bits() > bits || r.Metric < best {
			bits, best, found = r.Prefix.Bits(), r.Metric, nil
		}
		covered = true
		if r.Metric == best {
			found = append(found, at(r.VSID, r.NextHop)...)
		}
	}
	if !covered {
		for _, r := range t.Records {
			if r.Type == hnv.GatewayWildcard && r.CA.Is4() == a.Is4() {
				found = append(found, spotOf(r))
			}
		}
	}
	return found, covered, false
}

// nameless gives the station with the MAC whose CAs are not known.
func nameless(t *Tenant, vsid uint32, mac hnv.MAC) (spot, bool) {
	for _, r := range t.Records {
		if r.Type == hnv.L2Only && r.VSID.Uint32() == vsid && r.MAC == mac {
			return spotOf(r), true
		}
	}
	return spot{}, false
}

// inSubnet tells whether the address is of the virtual subnet, and nobody's.
func inSubnet(t *Tenant, vsid uint32, a netip.Addr) bool {
	found, covered, router := places(t, a)
	if router || !covered || len(found) != 0 {
		return false
	}
	for _, r := range t.Routes { // cut out of the subnet
		if r.Prefix.Contains(a) && !slices.ContainsFunc(t.Subnets, func(s hnv.Subnet) bool {
			p, ok := s.PrefixOf(a)
			return ok && p.Prefix.Bits() >= r.Prefix.Bits()
		}) {
			return false
		}
	}
	for _, s := range t.Subnets {
		if _, ok := s.PrefixOf(a); ok {
			return s.VSID.Uint32() == vsid
		}
	}
	return false
}

// has tells whether the tenant has the virtual subnet.
func has(t *Tenant, vsid uint32) bool {
	return slices.ContainsFunc(t.Subnets, func(s hnv.Subnet) bool { return s.VSID.Uint32() == vsid })
}

// hosts tells whether any record of the tenant is at the PA.
func hosts(t *Tenant, pa netip.Addr) bool {
	return slices.ContainsFunc(t.Records, func(r hnv.Record) bool { return slices.Contains(r.PAs(), pa) })
}

// conn names the packets of one direction of a connection at a port.
type conn struct {
	dir          hnv.Direction
	proto        uint8
	echo         uint8 // 1: request, 2: reply
	from, to     netip.Addr
	sport, dport uint16
}

func (c conn) reverse() conn {
	r := conn{c.dir, c.proto, c.echo, c.to, c.from, c.dport, c.sport}
	if r.dir = hnv.Inbound; c.dir == hnv.Inbound {
		r.dir = hnv.Outbound
	}
	if c.echo != 0 {
		r.echo = 3 - c.echo
	}
	return r
}

// lists gives what applies to a port: its own list or, if it has none, that of its
// virtual subnet.
func lists(t *Tenant, vsid uint32, port hnv.Name) (out []hnv.ACL) {
	name := port
	for _, s := range t.Subnets {
		if s.VSID.Uint32() == vsid && !port.IsValid() {
			name = s.ACL
		}
	}
	for _, a := range t.ACLs {
		if a.Name == name && name.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// allowed tells whether the lists let a packet begin a connection.
func allowed(all []hnv.ACL, c conn) bool {
	for _, a := range all {
		rules := slices.Clone(a.Rules)
		slices.SortStableFunc(rules, func(a, b hnv.ACLRule) int { return int(a.Priority) - int(b.Priority) })
		i := slices.IndexFunc(rules, func(r hnv.ACLRule) bool { return matches(r, c) })
		if i < 0 || rules[i].Action != hnv.Allow {
			return false
		}
	}
	return true
}

func matches(r hnv.ACLRule, c conn) bool {
	within := func(list []netip.Prefix, a netip.Addr) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	between := func(list []hnv.PortRange, port uint16) bool {
		if len(list) == 0 {
			return true
		}
		return (c.proto == 6 || c.proto == 17) && slices.ContainsFunc(list, func(r hnv.PortRange) bool { return r.Lo <= port && port <= r.Hi })
	}
	proto := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}[r.Proto]
	return r.Direction == c.dir && (r.Proto == "any" || proto == c.proto) &&
		within(r.Src, c.from) && within(r.Dst, c.to) && between(r.SrcPorts, c.sport) && between(r.DstPorts, c.dport)
}

// memory is what is remembered of a port's connections: by both directions, the
// one that began.
type memory map[conn]conn

// pass tells whether the lists let a packet pass, and what to remember once it
// has found its way. What a changed list would not let begin any more is
// forgotten.
func (m memory) pass(all []hnv.ACL, deny bool, c conn) (ok bool, remember func()) {
	none := func() {}
	if len(all) == 0 && !deny {
		return true, none
	}
	judge := func(c conn) bool { return len(all) > 0 && allowed(all, c) }
	opener, known := m[c]
	if known && !judge(opener) {
		delete(m, opener)
		delete(m, opener.reverse())
		known = false
	}
	switch {
	case known && opener != c:
		return true, none
	case !judge(c):
		return false, none
	}
	return true, func() { m[c], m[c.reverse()] = c, c }
}
