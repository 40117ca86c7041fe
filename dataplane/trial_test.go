package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// trial is one step of the test: what was done, and what came of it.
type trial struct {
	*world
	seed uint64
	step int
	what string
	p    probe
}

func (x *trial) fatalf(format string, args ...any) {
	x.t.Helper()
	drops := ""
	for _, h := range x.hosts {
		drops += fmt.Sprint(" ", h.allDrops())
	}
	if os.Getenv("HNV_MODEL_SEED") != "" {
		x.t.Logf("the worlds of the hosts are\n%s", x.world)
	}
	x.t.Fatalf("seed %d, step %d: %s %s: %s; drops%s", x.seed, x.step, x.p, x.what, fmt.Sprintf(format, args...), drops)
}

// arrived collects what the NICs got; what the router says to the one that sent
// is apart.
func (x *trial) arrived(sender *nic, payload string) (got map[*nic][]byte, said []decoded) {
	got = map[*nic][]byte{}
	for _, n := range x.nics {
		for _, f := range n.drain() {
			d := decode(x.t, f.bytes)
			switch {
			case n == sender && d.SrcMAC == routerMAC && (d.Proto == 1 || d.Proto == 58) && d.Dst == x.p.from:
				said = append(said, d)
			case !strings.Contains(string(f.bytes), payload):
				x.fatalf("something else arrived at %s of VSID %d: %x", n.mac, n.vsid, f.bytes)
			case got[n] != nil:
				x.fatalf("it arrived twice at %s of VSID %d", n.mac, n.vsid)
			default:
				got[n] = f.bytes
			}
		}
	}
	return got, said
}

// looks holds a frame that arrived against what it must look like.
func (x *trial) looks(n *nic, b []byte, as probe, payload string) {
	x.t.Helper()
	x.last = append(x.last, heardProbe{as, n})
	x.last = x.last[max(0, len(x.last)-6):]
	if want := as.frame(payload); !slices.Equal(b, want) {
		x.fatalf("arrives at %s of VSID %d as %x, want %x", n.mac, n.vsid, b, want)
	}
}

// sends has a port send the probe, and follows it.
func (x *trial) sends(n *nic, payload string) (arrived int) {
	h := n.host
	f := x.fromPort(n, x.p)
	n.send(x.p.frame(payload))
	out := h.out.drain()
	if len(out) > 1 || len(out) == 1 && len(f.ways) == 0 {
		x.fatalf("%d packets went to the fabric", len(out))
	}
	if f.kept != nil && !f.maybe {
		f.kept()
	}
	if len(out) == 1 {
		return x.travels(n, f, out[0], payload)
	}
	got, said := x.arrived(n, payload)
	if len(got) > 1 || len(said) > 1 || f.answer && !f.maybe && (len(said) != 1 || said[0].ICMPType != 0 && said[0].ICMPType != 129) {
		x.fatalf("%d ports got it, and %d messages of the router came back", len(got), len(said))
	}
	// Which of the ways within the host did it take?
	var lost, open []candidate
	for _, c := range f.ways {
		switch {
		case c.remote && !c.lost:
			continue
		case c.remote || c.local == nil:
			lost = append(lost, c)
			continue
		}
		// The port's lists are asked about a way only if it is taken.
		if got[c.local] != nil {
			if i := slices.IndexFunc(f.ways, func(o candidate) bool { return o.local == c.local && slices.Equal(o.as.frame(payload), got[c.local]) }); i >= 0 {
				c = f.ways[i]
			}
			pass, maybe, remember := x.admits(c.local, x.view(h, x.at[c.local].tenant), c.as.conn(hnv.Inbound))
			if !pass && !maybe {
				x.fatalf("the lists of %s of VSID %d let it pass", c.local.mac, c.local.vsid)
			}
			if pass {
				remember()
			}
			x.looks(c.local, got[c.local], c.as, payload)
			return 1
		}
		open = append(open, c)
	}
	switch {
	case len(got) != 0:
		for o := range got {
			x.fatalf("it arrived at %s of VSID %d on %s, where it has no business", o.mac, o.vsid, o.host.pa)
		}
	case len(f.ways) == 0 || len(lost) > 0 && len(open) == 0 || f.maybe:
		return 0
	}
	for _, c := range open { // one of them must have denied it
		key := c.as.conn(hnv.Inbound)
		if len(f.ways) == 1 || !slices.ContainsFunc(f.ways, func(o candidate) bool { return o.local != c.local }) {
			if pass, maybe, _ := x.admits(c.local, x.view(h, x.at[c.local].tenant), key); pass && !maybe {
				x.fatalf("it did not arrive at %s of VSID %d", c.local.mac, c.local.vsid)
			}
			continue
		}
		x.at[c.local].unsure[key], x.at[c.local].unsure[key.reverse()] = true, true
	}
	if len(open)+len(lost) == 0 {
		x.fatalf("it did not leave")
	}
	return 0
}

// travels follows a packet that went to the fabric.
func (x *trial) travels(n *nic, f fates, s sent, payload string) (arrived int) {
	x.inspect(n.host, s)
	o, err := readOuter(s.bytes)
	if err != nil {
		x.fatalf("malformed on the fabric: %v", err)
	}
	i := slices.IndexFunc(f.ways, func(c candidate) bool {
		return c.remote && !c.lost && c.kind == o.kind && slices.Contains(c.src, o.src) && slices.Contains(c.dst, o.dst) &&
			(c.kind == "" || c.vsid == o.vsid && c.class == o.class && slices.Equal(o.inner, c.as.frame(payload)))
	})
	if i < 0 {
		x.fatalf("it went from %s to %s by %q in VSID %d, class %#x, as %x; ways are %+v", o.src, o.dst, o.kind, o.vsid, o.class, o.inner, f.ways)
	}
	c := f.ways[i]
	to := x.byPA[o.dst]
	if to == nil {
		x.arrived(n, payload)
		return 0
	}
	as, vsid, rule := c.as, c.vsid, hnv.Rule(c.kind)
	if c.kind == "" {
		ok := false
		if as, vsid, ok = x.restored(to, o, c.as); !ok {
			vsid = 0
		}
		rule = hnv.RuleRewrite
	}
	return x.taken(to, n, s.bytes, o.src, rule, vsid, as, payload)
}

// restored says what a packet between PAs that stand for addresses becomes where
// it arrives.
func (x *trial) restored(h *host, o outerView, p probe) (as probe, vsid uint32, ok bool) {
	for i := range x.tenants {
		t := x.view(h, i)
		if t == nil {
			continue
		}
		var src, dst []spot
		for _, r := range t.Records {
			if r.Rule != hnv.RuleRewrite || !r.CA.IsValid() {
				continue
			}
			if r.PA == o.src {
				src = append(src, spotOf(r))
			}
			if r.PA == o.dst {
				dst = append(dst, spotOf(r))
			}
		}
		if len(src) != 1 || len(dst) != 1 {
			continue
		}
		as = p
		as.from, as.to, as.dst, as.src = src[0].ca, dst[0].ca, dst[0].mac, src[0].mac
		if src[0].vsid != dst[0].vsid {
			as.src = hnv.RouterMAC
		}
		return as, dst[0].vsid, true
	}
	return p, 0, false
}

// taken gives a packet to the host that it is for, and holds what comes of it
// against the model.
func (x *trial) taken(h *host, sender *nic, b []byte, pa netip.Addr, rule hnv.Rule, vsid uint32, as probe, payload string) (arrived int) {
	want, maybe := x.fromFabric(h, pa, rule, vsid, as)
	h.inject(b)
	if out := h.out.drain(); len(out) != 0 {
		x.fatalf("out of a tunnel it went to the fabric again: %x", out[0].bytes)
	}
	got, said := x.arrived(nil, payload)
	if len(said) != 0 {
		x.fatalf("an answer came back")
	}
	for n, b := range got {
		if n != want {
			x.fatalf("from %s by %s in VSID %d it arrived at %s of VSID %d on %s, where it has no business", pa, rule, vsid, n.mac, n.vsid, n.host.pa)
		}
		x.looks(n, b, as, payload)
	}
	if want != nil && len(got) == 0 && !maybe {
		x.fatalf("from %s by %s in VSID %d it did not arrive at %s of VSID %d on %s", pa, rule, vsid, want.mac, want.vsid, h.pa)
	}
	return len(got)
}

// injected makes a packet up that comes from the fabric, often one that could be
// believed.
func (x *trial) injected(payload string) (arrived int) {
	r := x.r
	h := x.hosts[r.IntN(3)]
	src := hostPAs(r.IntN(4))
	pa := src[r.IntN(len(src))]
	if r.IntN(10) == 0 {
		pa = ip("192.168.9.9")
	}
	rule := []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN}[r.IntN(2)]
	vsid := uint32(5000+1000*r.IntN(2)) + uint32(r.IntN(3))
	if to := x.speaker(); r.IntN(8) > 0 {
		h, vsid, x.p.dst = to.host, to.vsid, to.mac
		if t := x.view(h, x.at[to].tenant); t != nil {
			for _, rec := range t.Records {
				switch {
				case !rec.CA.IsValid() || rec.CA.Is4() != x.p.from.Is4():
				case rec.MAC == to.mac && rec.VSID.Uint32() == vsid && r.IntN(3) != 0:
					x.p.to = rec.CA
				case r.IntN(3) == 0:
					all := rec.PAs()
					x.p.from, pa, x.p.src = rec.CA, all[r.IntN(len(all))], []hnv.MAC{rec.MAC, hnv.RouterMAC}[r.IntN(2)]
				}
			}
		}
	}
	own := hostPAs(slices.Index(x.hosts, h))
	dst := own[r.IntN(len(own))]
	x.what = fmt.Sprintf("from PA %s to %s by %s in VSID %d", pa, dst, rule, vsid)
	return x.taken(h, nil, outerPacket(hnv.Encap(rule), pa.String(), dst.String(), vsid, x.p.frame(payload)), pa, rule, vsid, x.p, payload)
}
