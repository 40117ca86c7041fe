package dataplane

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// alone tells whether a port's lists let a packet pass that is of no connection.
func (x *trial) alone(n *nic, t *Tenant, p probe, dir hnv.Direction) bool {
	all := x.lists(n, t)
	return len(all) == 0 && !x.deny || len(all) > 0 && allowed(all, p.conn(dir))
}

// listeners gives the ports of the virtual subnet on a host that get a broadcast.
func (x *trial) listeners(h *host, tenant int, t *Tenant, vsid uint32, but *nic) (out []*nic) {
	for _, n := range x.nics {
		if n != but && n.host == h && n.vsid == vsid && x.at[n].tenant == tenant && x.alone(n, t, x.p, hnv.Inbound) {
			out = append(out, n)
		}
	}
	return out
}

// kindAt gives the kind of tunnel by which a host, known by any of its PAs, is
// sent broadcasts: that which most of its records in the virtual subnet have.
// None: it has no records there that are sent tunnel packets.
func kindAt(t *Tenant, vsid uint32, pas []netip.Addr) string {
	votes := map[hnv.Rule]int{}
	for _, r := range t.Records {
		if q := spotOf(r); q.vsid == vsid && q.rule != hnv.RuleRewrite && q.at(pas) {
			votes[q.rule]++
		}
	}
	switch n, v := votes[hnv.RuleNVGRE], votes[hnv.RuleVXLAN]; {
	case n+v == 0:
		return ""
	case n > v:
		return string(hnv.RuleNVGRE)
	case v > n:
		return string(hnv.RuleVXLAN)
	}
	return string(t.Encap)
}

// shouts has a port send a broadcast, and follows all its copies.
func (x *trial) shouts(n *nic, payload string) (arrived int) {
	h, tenant := n.host, x.at[n].tenant
	t := x.view(h, tenant)
	x.p.dst, x.p.to, x.p.proto, x.p.echo = macBroadcast, broadcastIP, 17, 0
	x.p.ttl = 64
	var want []*nic
	copies := map[int]string{} // to which hosts, by what kind of tunnel
	var by []*spot
	ok := t != nil && x.p.src == n.mac && x.p.from.Is4()
	if ok {
		by, ok = x.source(n, t, x.p.from)
	}
	if ok && x.alone(n, t, x.p, hnv.Outbound) {
		want = x.listeners(h, tenant, t, n.vsid, n)
		for i := range 4 {
			if k := kindAt(t, n.vsid, hostPAs(i)); k != "" && (i == 3 || x.hosts[i] != h) {
				copies[i] = k
			}
		}
	}
	n.send(x.p.frame(payload))
	out := h.out.drain()
	x.hear(want, payload)
	if len(out) != len(copies) {
		x.fatalf("%d copies went to the fabric, want %d", len(out), len(copies))
	}
	arrived = len(want)
	for _, s := range out {
		x.inspect(h, s)
		o, err := readOuter(s.bytes)
		i := slices.IndexFunc([]int{0, 1, 2, 3}, func(i int) bool { return slices.Contains(hostPAs(i), o.dst) })
		if err != nil || i < 0 || copies[i] != o.kind || o.vsid != n.vsid || !slices.Contains(x.up(h, hostPAs(i)), o.dst) && !slices.Contains(x.down[h], x.up(h, hostPAs(i))[0]) || o.class != x.mark(t, x.p.class) ||
			!slices.ContainsFunc(by, func(src *spot) bool { return src == nil || slices.Contains(x.up(h, src.pas), o.src) }) || !slices.Equal(o.inner, x.p.frame(payload)) {
			x.fatalf("a copy went from %s to %s by %q in VSID %d, class %#x: %v", o.src, o.dst, o.kind, o.vsid, o.class, err)
		}
		delete(copies, i)
		to := x.byPA[o.dst]
		if to == nil {
			continue
		}
		want := x.heardBy(to, o)
		to.inject(s.bytes)
		if back := to.out.drain(); len(back) != 0 {
			x.fatalf("a copy went back to the fabric: %x", back[0].bytes)
		}
		x.hear(want, payload)
		arrived += len(want)
	}
	return arrived
}

// heardBy gives the ports that get a broadcast out of a tunnel.
func (x *trial) heardBy(h *host, o outerView) []*nic {
	tenant, t := x.tenantOf(h, o.vsid)
	if t == nil || slices.Contains(x.pas(h), o.src) {
		return nil
	}
	from, ok := heard(t, o.src, x.p)
	if !ok || o.kind != string(from) && o.kind != string(t.Encap) && o.kind != kindAt(t, o.vsid, hostPAs(slices.Index(x.hosts, h))) {
		return nil
	}
	return x.listeners(h, tenant, t, o.vsid, nil)
}

// hear holds who got a broadcast against who should have.
func (x *trial) hear(want []*nic, payload string) {
	x.t.Helper()
	got, said := x.arrived(nil, payload)
	if len(said) != 0 {
		x.fatalf("an answer came back")
	}
	for _, n := range want {
		if got[n] == nil {
			x.fatalf("%s of VSID %d on %s did not hear it", n.mac, n.vsid, n.host.pa)
		}
		if frame := x.p.frame(payload); !slices.Equal(got[n], frame) {
			x.fatalf("%s heard %x, want %x", n.mac, got[n], frame)
		}
		delete(got, n)
	}
	for n := range got {
		x.fatalf("%s of VSID %d on %s heard it", n.mac, n.vsid, n.host.pa)
	}
}
