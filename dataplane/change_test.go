package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// change changes something, at random.
func (w *world) change() {
	i, h := w.r.IntN(2), w.hosts[w.r.IntN(3)]
	switch w.r.IntN(16) {
	case 0, 1, 2, 3, 4:
		w.update(i)
	case 5, 6:
		for range w.r.IntN(3) {
			w.alterRecord(i, w.r.IntN(2))
		}
		w.tellSome(i)
	case 7:
		w.alterRoutes(i)
		w.tellSome(i)
	case 8, 9:
		w.alterLists(i)
		w.tellSome(i)
	case 10:
		c := w.tenants[i]
		switch w.r.IntN(3) {
		case 0:
			c.QoS = nil
		case 1:
			c.QoS = &hnv.QoS{DSCP: hnv.DSCP(fmt.Sprint(w.r.IntN(64)))}
		case 2:
			c.QoS = &hnv.QoS{DSCP: "copy"}
		}
		if w.r.IntN(3) == 0 {
			c.Encap = []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[w.r.IntN(2)]
		}
		w.tellSome(i)
	case 11:
		if w.gone[h][i] {
			w.tell(h, i)
			break
		}
		h.sw.Remove(w.tenants[i].RDID)
		g := w.gone[h]
		g[i] = true
		w.gone[h] = g
	case 12:
		w.down[h] = nil
		for o := range 4 {
			for _, pa := range hostPAs(o) {
				if w.r.IntN(6) == 0 {
					w.down[h] = append(w.down[h], pa)
				}
			}
		}
		w.tellProvider(h)
	case 13:
		w.now = w.now.Add(time.Hour)
		for _, p := range w.at {
			p.memory, p.unsure, p.seen = memory{}, map[conn]bool{}, map[conn]bool{}
		}
	default:
		w.plugSome()
		if len(w.nics) == 0 {
			break
		}
		n := w.nics[w.r.IntN(len(w.nics))]
		if w.r.IntN(3) != 0 {
			w.alterPort(n)
			break
		}
		n.host.sw.RemovePort(n.id)
		p := w.at[n]
		delete(w.at, n)
		w.nics = slices.DeleteFunc(w.nics, func(o *nic) bool { return o == n })
		w.plugIn(n.host, p.tenant, n.vsid, n.mac)
	}
}

func (w *world) tellSome(tenant int) {
	for _, h := range w.some() {
		if !w.gone[h][tenant] {
			w.tell(h, tenant)
		}
	}
}

// update changes a record by itself.
func (w *world) update(tenant int) {
	c := w.tenants[tenant]
	before := slices.Clone(c.Records)
	w.alterRecord(tenant, w.r.IntN(2))
	var put []hnv.Record
	var del []hnv.RecordKey
	key := func(list []hnv.Record, k hnv.RecordKey) *hnv.Record {
		for i := range list {
			if list[i].RecordKey() == k {
				return &list[i]
			}
		}
		return nil
	}
	for _, r := range c.Records {
		if o := key(before, r.RecordKey()); o == nil || !o.Equal(r) {
			put = append(put, r)
		}
	}
	for _, r := range before {
		if key(c.Records, r.RecordKey()) == nil {
			del = append(del, r.RecordKey())
		}
	}
	for _, h := range w.some() {
		v := w.view(h, tenant)
		if v == nil {
			continue
		}
		if err := h.sw.UpdateRecords(c.RDID, put, del); err != nil {
			w.t.Fatal(err)
		}
		for _, k := range del {
			v.Records = slices.DeleteFunc(v.Records, func(r hnv.Record) bool { return r.RecordKey() == k })
		}
		for _, r := range put {
			switch o := key(v.Records, r.RecordKey()); {
			case o == nil:
				v.Records = append(v.Records, r)
			case r.Type != hnv.Dynamic || o.Type == hnv.Dynamic: // what is configured stays
				*o = r
			}
		}
	}
}

// plugSome plugs ports in where records say.
func (w *world) plugSome() {
	for i, c := range w.tenants {
		for _, rec := range c.Records {
			if h := w.hostOf(rec.PA); h != nil && w.r.IntN(3) != 0 {
				w.plugIn(h, i, rec.VSID.Uint32(), rec.MAC)
			}
		}
	}
}

// alterRecord adds, moves, changes or removes a record of a virtual subnet.
func (w *world) alterRecord(tenant, s int) {
	r, c := w.r, w.tenants[tenant]
	v := mustVSID(uint32(5000+1000*tenant) + uint32(s))
	n := 2 + r.IntN(5)
	if len(w.sent) > 0 && r.IntN(3) == 0 { // somebody that packets went to
		if a := w.sent[r.IntN(len(w.sent))].to; a.Is4() && a.As4()[0] == 10 && a.As4()[2] < 2 && a.As4()[3] > 1 {
			s, n = int(a.As4()[2]), int(a.As4()[3])
			v = mustVSID(uint32(5000+1000*tenant) + uint32(s))
		}
	}
	rec := hnv.Record{VSID: v, CA: ca4(s, n), MAC: randomMAC(r), Type: hnv.Static}
	host := r.IntN(4)
	pas := hostPAs(host)
	first := r.IntN(len(pas))
	rec.PA = pas[first]
	for i, pa := range pas {
		if i != first {
			rec.TeamPAs = append(rec.TeamPAs, pa)
		}
	}
	rec.Rule = []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN, hnv.Rule(c.Encap), hnv.Rule(c.Encap)}[r.IntN(4)]
	switch r.IntN(12) {
	case 0, 1:
		rec.CA = ca6(s, n)
	case 2:
		rec.CA, rec.Type = netip.Addr{}, hnv.L2Only
	case 3:
		rec.Type = hnv.GatewayWildcard
	case 4:
		rec.Type = hnv.Dynamic
	case 5, 6, 7:
		rec.Rule, rec.PA, rec.TeamPAs = hnv.RuleRewrite, standIn(host, tenant, s, n), nil
	}
	rec.UseVMMAC = r.IntN(6) == 0
	c.Records = slices.Clone(c.Records)
	i := slices.IndexFunc(c.Records, func(o hnv.Record) bool { return o.RecordKey() == rec.RecordKey() })
	switch {
	case i < 0:
		c.Records = append(c.Records, rec)
	case r.IntN(4) == 0:
		c.Records = slices.Delete(c.Records, i, i+1)
	case r.IntN(2) == 0 && c.Records[i].Rule != hnv.RuleRewrite && rec.Rule != hnv.RuleRewrite: // a migration
		c.Records[i].PA, c.Records[i].TeamPAs = rec.PA, rec.TeamPAs
	case c.Records[i].Type != hnv.Dynamic && rec.Type == hnv.Dynamic:
	default:
		c.Records[i] = rec
	}
}

func (w *world) alterRoutes(tenant int) {
	r, c := w.r, w.tenants[tenant]
	c.Routes = nil
	for range r.IntN(5) {
		s := r.IntN(2)
		route := hnv.CustomerRoute{
			RDID: c.RDID, VSID: mustVSID(uint32(5000+1000*tenant) + uint32(s)), NextHop: ca4(s, 2+r.IntN(5)), Metric: uint32(r.IntN(2)),
			Prefix: netip.MustParsePrefix([]string{"0.0.0.0/0", "8.8.0.0/16", "10.0.0.4/31", "10.0.0.0/16"}[r.IntN(4)]),
		}
		if r.IntN(4) == 0 {
			route.NextHop = ca6(s, 2+r.IntN(5))
			route.Prefix = netip.MustParsePrefix([]string{"::/0", "2001:db8::/32"}[r.IntN(2)])
		}
		if !slices.ContainsFunc(c.Routes, func(o hnv.CustomerRoute) bool { return o.Key() == route.Key() }) {
			c.Routes = append(c.Routes, route)
		}
	}
}

// alterLists draws a list anew, or which one a virtual subnet has.
func (w *world) alterLists(tenant int) {
	r, c := w.r, w.tenants[tenant]
	if len(c.ACLs) == len(aclNames) && r.IntN(2) == 0 {
		c.Subnets = slices.Clone(c.Subnets)
		s := &c.Subnets[r.IntN(2)]
		if s.ACL = (hnv.Name{}); r.IntN(3) == 0 {
			s.ACL = aclNames[r.IntN(3)]
		}
		return
	}
	a := hnv.ACL{Name: aclNames[min(len(c.ACLs), r.IntN(3))]}
	if len(c.ACLs) < len(aclNames) {
		a.Name = aclNames[len(c.ACLs)]
	}
	priority := uint16(0)
	for range r.IntN(6) {
		priority += uint16(1 + r.IntN(5))
		rule := hnv.ACLRule{
			Priority: priority, Direction: []hnv.Direction{hnv.Inbound, hnv.Outbound}[r.IntN(2)],
			Action: []hnv.ACLAction{hnv.Allow, hnv.Allow, hnv.Deny}[r.IntN(3)], Proto: []string{"any", "any", "tcp", "udp", "icmp"}[r.IntN(5)],
		}
		prefix := func() []netip.Prefix {
			if r.IntN(2) == 0 {
				return nil
			}
			return prefixes([]string{"10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/16", "10.0.0.4/30", "8.0.0.0/8", "0.0.0.0/0"}[r.IntN(6)])
		}
		rule.Src, rule.Dst = prefix(), prefix()
		if rule.Proto == "tcp" || rule.Proto == "udp" {
			if r.IntN(2) == 0 {
				rule.DstPorts = ports(uint16(r.IntN(3)), 3)
			}
			if r.IntN(4) == 0 {
				rule.SrcPorts = ports(uint16(r.IntN(3)), 3)
			}
		}
		if r.IntN(4) == 0 {
			rule.Action, rule.Proto, rule.Src, rule.Dst, rule.DstPorts, rule.SrcPorts = hnv.Allow, "any", nil, nil, nil, nil
		}
		// What nothing ever gets to is refused.
		if !slices.ContainsFunc(a.Rules, func(o hnv.ACLRule) bool { return o.Direction == rule.Direction && covers(o, rule) }) {
			a.Rules = append(a.Rules, rule)
		}
	}
	c.ACLs = slices.Clone(c.ACLs)
	if i := slices.IndexFunc(c.ACLs, func(o hnv.ACL) bool { return o.Name == a.Name }); i >= 0 {
		c.ACLs[i] = a
	} else {
		c.ACLs = append(c.ACLs, a)
	}
}

// covers tells, to be safe, whether a rule may match all that another one does.
func covers(a, b hnv.ACLRule) bool {
	within := func(a, b []netip.Prefix) bool {
		return len(a) == 0 || a[0].Bits() == 0 || len(b) > 0 && a[0].Bits() <= b[0].Bits() && a[0].Contains(b[0].Addr())
	}
	return (a.Proto == "any" || a.Proto == b.Proto) && within(a.Src, b.Src) && within(a.Dst, b.Dst)
}

// alterPort draws the port's own list anew.
func (w *world) alterPort(n *nic) {
	p := w.at[n]
	if w.view(n.host, p.tenant) == nil {
		return
	}
	if p.acl = (hnv.Name{}); w.r.IntN(4) == 0 {
		p.acl = aclNames[w.r.IntN(3)]
	}
	if err := n.host.sw.SetPort(n.id, p.acl, 0, 0); err != nil {
		w.t.Fatal(err)
	}
}
