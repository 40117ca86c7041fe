package dataplane

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/hnvgate/hnvgate/hnv"
)

// candidate is a way that a packet from a port may take: to a port of the same
// host, or over the fabric. Where the router may choose, there are several.
type candidate struct {
	local  *nic   // nil, and not remote: it is lost
	remote bool   // then
	kind   string // of tunnel, "" for none
	vsid   uint32 //
	src    []netip.Addr
	dst    []netip.Addr
	class  uint8
	lost   bool // a host that sends so drops it: it has no source address that fits, say
	as     probe
}

// fates is what the model says becomes of a frame that a port sends.
type fates struct {
	ways   []candidate
	maybe  bool   // that it goes any way at all cannot be said
	answer bool   // by the router
	kept   func() // what the sender's port remembers, if there is a way
}

// up gives the PAs that a host takes for reachable, all of them if none is.
func (w *world) up(h *host, pas []netip.Addr) []netip.Addr {
	ok := slices.DeleteFunc(slices.Clone(pas), func(pa netip.Addr) bool { return slices.Contains(w.down[h], pa) })
	if len(ok) == 0 {
		return pas[:1]
	}
	return ok
}

// source tells whether the port may send in the name of the address, and by
// whose records, of which any may be taken; none where a compartment speaks for
// the outside.
func (w *world) source(n *nic, t *Tenant, a netip.Addr) (by []*spot, ok bool) {
	found, covered, router := places(t, a)
	for i := range found {
		if q := &found[i]; q.vsid == n.vsid && q.mac == n.mac && q.at(w.pas(n.host)) {
			by = append(by, q)
		}
	}
	if len(by) > 0 {
		return by, true
	}
	return []*spot{nil}, !router && !covered && w.at[n].kind == PortCompartment
}

// admits tells whether the lists of a port let a packet pass, or that it cannot be
// said: one that is denied may be a reply to one that went before there were
// lists. remember is for packets that find their way.
func (w *world) admits(n *nic, t *Tenant, c conn) (pass, maybe bool, remember func()) {
	p, all := w.at[n], w.lists(n, t)
	if len(all) == 0 && !w.deny {
		return true, false, func() { p.seen[c], p.seen[c.reverse()] = true, true }
	}
	pass, remember = p.memory.pass(all, w.deny, c)
	if !pass && p.seen[c] && len(all) > 0 && allowed(all, c.reverse()) {
		p.unsure[c], p.unsure[c.reverse()] = true, true
	}
	return pass, p.unsure[c], remember
}

func (w *world) lists(n *nic, t *Tenant) []hnv.ACL { return lists(t, n.vsid, w.at[n].acl) }

// fromPort says what may become of the probe that n sends.
func (w *world) fromPort(n *nic, p probe) (f fates) {
	t := w.view(n.host, w.at[n].tenant)
	if t == nil || p.src != n.mac || p.ttl == 0 {
		return f
	}
	by, ok := w.source(n, t, p.from)
	if !ok {
		return f
	}
	pass, maybe, remember := w.admits(n, t, p.conn(hnv.Outbound))
	if !pass && !maybe {
		return f
	}
	f.maybe = maybe
	if !pass {
		remember = func() {}
	}
	var to []spot
	found, covered, router := places(t, p.to)
	routed := p.dst == hnv.RouterMAC
	switch {
	case routed && router:
		f.answer = p.echo == 1
		return f
	case routed && p.ttl <= 1:
		return f
	case routed:
		to = found
	default:
		for _, q := range found {
			if q.vsid == n.vsid && q.mac == p.dst {
				to = append(to, q)
			}
		}
		if q, ok := nameless(t, n.vsid, p.dst); len(found) == 0 && covered && ok && inSubnet(t, n.vsid, p.to) {
			to = append(to, q)
			remember = func() {}
		}
	}
	if len(to) == 0 {
		return f
	}
	f.kept = remember
	for _, src := range by {
		for _, q := range to {
			as := p
			if routed {
				as.ttl--
				as.dst = q.mac
				if src == nil || !src.keepsMAC {
					as.src = hnv.RouterMAC
				}
			}
			f.ways = append(f.ways, w.way(n, t, src, q, as))
		}
	}
	return f
}

// way is the one that a packet takes from a port to a spot.
func (w *world) way(n *nic, t *Tenant, src *spot, q spot, as probe) candidate {
	c := candidate{as: as, vsid: q.vsid, dst: w.up(n.host, q.pas)}
	if q.at(w.pas(n.host)) {
		if c.local = w.portAt(w.at[n].tenant, n.host, q.vsid, q.mac); c.local == n {
			c.local = nil
		}
		return c
	}
	c.remote = true
	if q.rule == hnv.RuleRewrite && src != nil && src.rule == hnv.RuleRewrite {
		// Both addresses must be those that the PAs stand for.
		c.src = src.pas
		c.lost = src.ca != as.from || q.ca != as.to
		return c
	}
	c.kind = string(q.rule)
	if q.rule == hnv.RuleRewrite {
		c.kind = string(t.Encap)
	}
	c.class = w.mark(t, as.class)
	if src != nil {
		c.src = w.up(n.host, src.pas)
		return c
	}
	own := slices.DeleteFunc(slices.Clone(w.pas(n.host)), func(pa netip.Addr) bool { return w.stands(n.host, pa) })
	c.src = w.up(n.host, own)
	return c
}

// stands tells whether, as the host knows, the PA stands for an address of a
// tenant.
func (w *world) stands(h *host, pa netip.Addr) bool {
	for i := range w.tenants {
		if t := w.view(h, i); t != nil && slices.ContainsFunc(t.Records, func(r hnv.Record) bool { return r.Rule == hnv.RuleRewrite && r.PA == pa }) {
			return true
		}
	}
	return false
}

// mark is the outer traffic class for an inner one.
func (w *world) mark(t *Tenant, class uint8) uint8 {
	if t.QoS == nil || t.QoS.DSCP == "" {
		return class & 3
	}
	if t.QoS.DSCP == "copy" {
		return class
	}
	n, _ := strconv.Atoi(string(t.QoS.DSCP))
	return uint8(n)<<2 | class&3
}

// tenantOf finds the tenant that has the VSID on a host.
func (w *world) tenantOf(h *host, vsid uint32) (int, *Tenant) {
	for i := range w.tenants {
		if t := w.view(h, i); t != nil && has(t, vsid) {
			return i, t
		}
	}
	return 0, nil
}

// heard says whether the host believes that the packet comes from the PA, and the
// rule of the record that says so.
func heard(t *Tenant, pa netip.Addr, p probe) (rule hnv.Rule, ok bool) {
	src, _, router := places(t, p.from)
	for _, q := range src {
		if slices.Contains(q.pas, pa) && (p.src == q.mac || p.src == hnv.RouterMAC) {
			return q.rule, true
		}
	}
	if router && (p.proto == 1 || p.proto == 58) && p.src == hnv.RouterMAC && hosts(t, pa) {
		return hnv.Rule(t.Encap), true
	}
	return "", false
}

// fromFabric says which port of the host gets the probe that came out of a tunnel
// or, where rule is rewrite, between PAs that stand for its addresses. nil: none.
// maybe tells that this cannot be said.
func (w *world) fromFabric(h *host, pa netip.Addr, rule hnv.Rule, vsid uint32, p probe) (to *nic, maybe bool) {
	i, t := w.tenantOf(h, vsid)
	if t == nil || slices.Contains(w.pas(h), pa) || p.ttl == 0 {
		return nil, false
	}
	from, ok := heard(t, pa, p)
	var rules []hnv.Rule
	to = w.portAt(i, h, vsid, p.dst)
	if !ok || to == nil {
		return nil, false
	}
	found, covered, router := places(t, p.to)
	ok = false
	remembers := true
	for _, q := range found {
		if q.vsid == vsid && q.mac == p.dst && q.at(w.pas(h)) {
			ok = true
			rules = append(rules, q.rule)
		}
	}
	if q, is := nameless(t, vsid, p.dst); !ok && len(found) == 0 && covered && !router && is && inSubnet(t, vsid, p.to) && q.at(w.pas(h)) {
		ok, remembers = true, false
		rules = append(rules, q.rule)
	}
	if !ok && !covered && w.at[to].kind == PortCompartment {
		ok, rules = true, []hnv.Rule{""}
	}
	if !ok || !slices.ContainsFunc(rules, func(to hnv.Rule) bool { return fits(t, rule, from, to) }) {
		return nil, false
	}
	pass, maybe, remember := w.admits(to, t, p.conn(hnv.Inbound))
	switch {
	case !pass && !maybe:
		return nil, false
	case pass && remembers:
		remember()
	}
	return to, maybe
}

// fits tells whether a packet may come by the kind of tunnel: that of either
// end's record. Where one end alone is rewritten, it has the tenant's own.
func fits(t *Tenant, rule, from, to hnv.Rule) bool {
	if rule != hnv.RuleRewrite && from != to {
		if from == hnv.RuleRewrite {
			from = hnv.Rule(t.Encap)
		}
		if to == hnv.RuleRewrite {
			to = hnv.Rule(t.Encap)
		}
	}
	return rule == from || rule == to
}
