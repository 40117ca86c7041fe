package offload

import (
	"slices"
)

// What the programs decide by the tables, in Go and in short: where a packet goes,
// for the tests of the order in which tables are written. That the programs decide
// as the Switch does is for the differential test to say.

// passage is a packet, as far as it matters where it goes.
type passage struct {
	ifindex    uint32 // of the port that it comes from, 0: the fabric
	vsid       uint32 // from the fabric
	pa         addr   // from the fabric: the outer source
	src, dst   addr
	smac, dmac [6]byte
}

// decision is where it goes.
type decision struct {
	what   string // "drop", "punt", "port", "fabric"
	why    string
	vsid   uint32
	mac    [6]byte
	pa     addr
	rule   uint8
	source addr
	out    uint32
	flags  uint8
	dscp   uint8
	mtu    uint32
}

func dropped(why string) decision { return decision{what: "drop", why: why} }
func punt(why string) decision    { return decision{what: "punt", why: why} }

var routerMAC = [6]byte{0x02, 0x68, 0x6e, 0, 0, 1}

// found is what an address resolves to.
type found struct {
	where string // "record", "router", "link", "behind", "nowhere"
	rec   recordValue
	hops  []hop
}

func (f *fakes) resolve(tenant uint32, a addr) found {
	if r, ok := f.records.m[recordKey{tenant, a}]; ok {
		if r.Flags&recordRouter != 0 {
			return found{where: "router"}
		}
		return found{where: "record", rec: r}
	}
	var best *routeValue
	bits := uint32(0)
	for k, v := range f.routes.m {
		if k.tenant() == tenant && k.CA.netip().Is4() == a.netip().Is4() && k.Bits >= bits && samePrefix(k.CA, a, int(k.Bits-tableBits)) {
			bits, best = k.Bits, &v
		}
	}
	switch {
	case best == nil:
		return found{where: "nowhere"}
	case best.Kind == routeOnLink:
		return found{where: "link"}
	case best.N == 1:
		return found{where: "behind", hops: []hop{best.Hop}}
	}
	return found{where: "behind", hops: f.set(best.Set)}
}

func samePrefix(a, b addr, bits int) bool {
	for i := range bits {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

func (f *fakes) set(id uint32) []hop {
	s := f.hopSets.m[id]
	return s.Hop[:s.N]
}

func (f *fakes) wild(vsid uint32, a addr) []hop {
	v := f.vsids.m[vsid]
	if a.netip().Is4() {
		return f.set(v.Wild4)
	}
	return f.set(v.Wild6)
}

func (f *fakes) via(tenant uint32, hops []hop) (out []recordValue) {
	for _, h := range hops {
		if r, ok := f.records.m[recordKey{tenant, h.CA}]; ok && r.Flags&recordRouter == 0 && r.VSID == h.VSID {
			out = append(out, r)
		}
	}
	return out
}

func (f *fakes) at(r recordValue, pa addr) bool {
	t := f.teams.m[r.Team]
	return r.PA == pa || slices.Contains(t.PA[:t.N], pa)
}

func (f *fakes) decide(p passage) decision {
	if p.ifindex == 0 {
		return f.fromFabric(p)
	}
	return f.fromPort(p)
}

func (f *fakes) fromFabric(p passage) decision {
	if f.pas.m[f.settings.m[f.now.m[0]].Source4].Kind != paTunnel {
		return dropped("not ours")
	}
	to, ok := f.stations.m[stationKey{VSID: p.vsid, MAC: p.dmac}]
	tenant := to.Tenant
	slow := to.Flags&portSlow != 0
	if !ok {
		v, known := f.vsids.m[p.vsid]
		if !known {
			return dropped("no tenant")
		}
		tenant, slow = v.Tenant, v.Flags&subnetSlow != 0
	}
	if slow {
		return punt("slow")
	}
	src := f.resolve(tenant, p.src)
	var vouchers []recordValue
	switch src.where {
	case "record":
		vouchers = []recordValue{src.rec}
	case "behind":
		vouchers = f.via(tenant, src.hops)
	case "nowhere":
		vouchers = f.via(tenant, f.wild(p.vsid, p.src))
	}
	i := slices.IndexFunc(vouchers, func(r recordValue) bool {
		return f.at(r, p.pa) && (r.MAC == p.smac || p.smac == routerMAC)
	})
	if i < 0 {
		return dropped("source")
	}
	if !ok {
		return dropped("not local")
	}
	dst := f.resolve(tenant, p.dst)
	var ends []recordValue
	switch dst.where {
	case "record":
		ends = []recordValue{dst.rec}
	case "behind":
		ends = f.via(tenant, dst.hops)
	case "nowhere":
		ends = f.via(tenant, f.wild(p.vsid, p.dst))
	}
	if !slices.ContainsFunc(ends, func(r recordValue) bool {
		return r.Flags&recordHere != 0 && r.VSID == to.VSID && r.MAC == to.MAC
	}) && !(dst.where == "nowhere" && to.Flags&portCompartment != 0) {
		return dropped("destination")
	}
	return decision{what: "port", out: to.Ifindex, flags: to.Flags, mtu: to.MTU}
}

func (f *fakes) fromPort(p passage) decision {
	in, ok := f.ports.m[p.ifindex]
	switch {
	case !ok:
		return dropped("no port")
	case in.Flags&portSlow != 0:
		return punt("slow")
	}
	mine := func(r recordValue) bool { return r.Flags&recordHere != 0 && r.VSID == in.VSID && r.MAC == in.MAC }
	src := f.resolve(in.Tenant, p.src)
	var vouchers []recordValue
	switch src.where {
	case "record":
		vouchers = []recordValue{src.rec}
	case "behind":
		vouchers = f.via(in.Tenant, src.hops)
	case "nowhere":
		vouchers = f.via(in.Tenant, f.wild(in.VSID, p.src))
	}
	var d decision
	d.source = f.settings.m[f.now.m[0]].Source4
	if i := slices.IndexFunc(vouchers, mine); i >= 0 {
		d.source = vouchers[i].PA
	} else if src.where != "nowhere" || in.Flags&portCompartment == 0 {
		return dropped("source")
	}
	dst := f.resolve(in.Tenant, p.dst)
	var ways []recordValue
	switch dst.where {
	case "record":
		ways = []recordValue{dst.rec}
	case "router":
		return punt("router")
	case "behind":
		ways = f.via(in.Tenant, dst.hops)
	case "nowhere":
		ways = f.via(in.Tenant, f.wild(in.VSID, p.dst))
	}
	if p.dmac != routerMAC {
		ways = slices.DeleteFunc(ways, func(r recordValue) bool { return r.VSID != in.VSID || r.MAC != p.dmac })
	}
	if len(ways) == 0 {
		return dropped("destination")
	}
	// With several next hops, the first is as good as any other.
	to := ways[0]
	d.vsid, d.mac, d.pa, d.rule, d.dscp = to.VSID, to.MAC, to.PA, to.Rule, in.DSCP
	if to.Flags&recordHere == 0 {
		d.what = "fabric"
		return d
	}
	out, ok := f.stations.m[stationKey{VSID: to.VSID, MAC: to.MAC}]
	if !ok || out.Tenant != in.Tenant || out.Ifindex == in.Ifindex {
		return dropped("no port")
	}
	return decision{what: "port", out: out.Ifindex, flags: out.Flags &^ portSlow, mtu: out.MTU} // what is slow is what it sends
}
