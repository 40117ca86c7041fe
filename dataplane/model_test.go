package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// The reference model says who may talk to whom, straight from the tenants'
// objects, by looking at all of them, with nothing of the dataplane's code.

// spot is where an address is found.
type spot struct {
	vsid uint32
	mac  hnv.MAC
	pa   netip.Addr
	rule hnv.Rule
}

// places gives where the tenant's objects say an address is: nil and false if
// nothing leads there at all.
func places(t *Tenant, a netip.Addr) (found []spot, covered, gateway bool) {
	at := func(v hnv.VSID, ca netip.Addr) []spot {
		for _, r := range t.Records {
			if r.VSID == v && r.CA == ca {
				return []spot{{v.Uint32(), r.MAC, r.PA, r.Rule}}
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
	return found, covered, false
}

// probe is a frame of the test, in the terms of the model.
type probe struct {
	src, dst hnv.MAC
	from, to netip.Addr
	icmp     bool
}

// world is a lab of random tenants and ports.
type world struct {
	*lab
	tenants []*Tenant
	nics    []*nic
	owner   map[*nic]*Tenant
	kind    map[*nic]PortKind
}

// portAt finds the port of the tenant on a host.
func (w *world) portAt(t *Tenant, pa netip.Addr, vsid uint32, mac hnv.MAC) *nic {
	for _, n := range w.nics {
		if w.owner[n] == t && n.host.pa == pa && n.vsid == vsid && n.mac == mac {
			return n
		}
	}
	return nil
}

// fromPort says which ports may get the probe that n sends; several where the
// router may choose among equal ways. None: it must be dropped.
func (w *world) fromPort(n *nic, p probe) []*nic {
	t := w.owner[n]
	if p.src != n.mac {
		return nil
	}
	src, covered, router := places(t, p.from)
	here := func(q spot) bool { return q.vsid == n.vsid && q.mac == n.mac && q.pa == n.host.pa }
	if router || !slices.ContainsFunc(src, here) && (covered || w.kind[n] != PortCompartment) {
		return nil
	}
	dst, _, _ := places(t, p.to)
	var out []*nic
	for _, q := range dst {
		if p.dst != hnv.RouterMAC && (q.vsid != n.vsid || q.mac != p.dst) {
			continue
		}
		to := w.portAt(t, q.pa, q.vsid, q.mac)
		if q.pa != n.host.pa {
			// Over the fabric; the receiver must believe it.
			mac := p.src
			if p.dst == hnv.RouterMAC {
				mac = hnv.RouterMAC
			}
			inner := probe{mac, q.mac, p.from, p.to, p.icmp}
			if w.byPA[q.pa] == nil || w.fromFabric(w.byPA[q.pa], n.host.pa, q.rule, q.vsid, inner) != to {
				to = nil
			}
		}
		if to == n {
			to = nil
		}
		out = append(out, to)
	}
	return out
}

// fromFabric says which port of the host gets the probe that came out of a
// tunnel, nil for none.
func (w *world) fromFabric(h *host, pa netip.Addr, rule hnv.Rule, vsid uint32, p probe) *nic {
	var t *Tenant
	for _, c := range w.tenants {
		for _, s := range c.Subnets {
			if s.VSID.Uint32() == vsid {
				t = c
			}
		}
	}
	if t == nil || pa == h.pa {
		return nil
	}
	var rules []hnv.Rule
	src, _, router := places(t, p.from)
	for _, q := range src {
		if q.pa == pa && (p.src == q.mac || p.src == hnv.RouterMAC) {
			rules = append(rules, q.rule)
		}
	}
	if router && p.icmp && p.src == hnv.RouterMAC && slices.ContainsFunc(t.Records, func(r hnv.Record) bool { return r.PA == pa }) {
		rules = append(rules, hnv.Rule(t.Encap))
	}
	if len(rules) == 0 {
		return nil
	}
	to := w.portAt(t, h.pa, vsid, p.dst)
	if to == nil {
		return nil
	}
	dst, covered, _ := places(t, p.to)
	ok := !covered && w.kind[to] == PortCompartment
	for _, q := range dst {
		if q.vsid == vsid && q.mac == p.dst && q.pa == h.pa {
			ok = true
			rules = append(rules, q.rule)
		}
	}
	if !ok || !slices.Contains(rules, rule) {
		return nil
	}
	return to
}

// randomWorld makes three hosts and two tenants that draw from the same few
// addresses and MACs.
func randomWorld(t *testing.T, r *rand.Rand) *world {
	w := &world{lab: newLab(t), owner: map[*nic]*Tenant{}, kind: map[*nic]PortKind{}}
	for i := range 3 {
		w.addHost(fmt.Sprintf("192.168.0.%d", i+1))
	}
	for i, name := range []string{"contoso", "fabrikam"} {
		base := uint32(5000 + 1000*i)
		c := &Tenant{Name: mustName(name), RDID: hnv.NewRDID(), Encap: []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[r.IntN(2)]}
		rules := map[netip.Addr]hnv.Rule{} // a host has one kind of tunnel for a tenant
		for h := range 4 {
			rules[netip.AddrFrom4([4]byte{192, 168, 0, byte(h + 1)})] = []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN, hnv.Rule(c.Encap), hnv.Rule(c.Encap)}[r.IntN(4)]
		}
		for s := range uint32(2) {
			c.Subnets = append(c.Subnets, subnet(base+s, fmt.Sprintf("10.0.%d.0/24", s)))
			for ca := range 5 {
				if r.IntN(4) == 0 {
					continue
				}
				pa := netip.AddrFrom4([4]byte{192, 168, 0, byte(1 + r.IntN(4))}) // .4 is a host that is not there
				c.Records = append(c.Records, hnv.Record{
					VSID: mustVSID(base + s), CA: netip.AddrFrom4([4]byte{10, 0, byte(s), byte(2 + ca)}),
					MAC: randomMAC(r), PA: pa, Rule: rules[pa], Type: hnv.Static,
				})
			}
		}
		for range r.IntN(4) {
			p := []string{"0.0.0.0/0", "8.8.0.0/16", "10.0.0.4/31", "10.0.0.0/16"}[r.IntN(4)]
			s := uint32(r.IntN(2))
			c.Routes = append(c.Routes, hnv.CustomerRoute{
				RDID: c.RDID, VSID: mustVSID(base + s), Prefix: netip.MustParsePrefix(p),
				NextHop: netip.AddrFrom4([4]byte{10, 0, byte(s), byte(2 + r.IntN(5))}), Metric: uint32(r.IntN(2)),
			})
		}
		c.Routes = slices.CompactFunc(c.Routes, func(a, b hnv.CustomerRoute) bool { return a.Key() == b.Key() })
		w.tenants = append(w.tenants, c)
		for _, h := range w.hosts {
			if err := h.sw.Apply(*c); err != nil {
				t.Fatal(err)
			}
		}
		// Ports where records say, and some where none does.
		plug := func(h *host, vsid uint32, mac hnv.MAC) {
			if h == nil || r.IntN(8) == 0 || w.portAt(c, h.pa, vsid, mac) != nil {
				return
			}
			kind := PortVM
			if r.IntN(4) == 0 {
				kind = PortCompartment
			}
			n := h.plug(vsid, mac, kind)
			w.nics = append(w.nics, n)
			w.owner[n], w.kind[n] = c, kind
		}
		for _, rec := range c.Records {
			plug(w.byPA[rec.PA], rec.VSID.Uint32(), rec.MAC)
		}
		for range 3 {
			plug(w.hosts[r.IntN(3)], base+uint32(r.IntN(2)), randomMAC(r))
		}
	}
	return w
}

func randomMAC(r *rand.Rand) hnv.MAC {
	m, _ := hnv.MACFrom([6]byte{0, 0x15, 0x5d, 0, 0, byte(1 + r.IntN(6))})
	return m
}

func randomProbe(r *rand.Rand) probe {
	addr := func() netip.Addr {
		switch r.IntN(6) {
		case 0:
			return netip.AddrFrom4([4]byte{8, 8, 8, byte(r.IntN(3))})
		case 1:
			return netip.AddrFrom4([4]byte{10, 0, 9, 9})
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(1 + r.IntN(6))})
	}
	mac := func() hnv.MAC {
		if r.IntN(2) == 0 {
			return hnv.RouterMAC
		}
		return randomMAC(r)
	}
	return probe{src: mac(), dst: mac(), from: addr(), to: addr(), icmp: r.IntN(4) == 0}
}

func (p probe) frame(payload string) []byte {
	var l4 gopacket.SerializableLayer = &layers.UDP{SrcPort: 1, DstPort: 2}
	if p.icmp {
		l4 = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0)}
	}
	return ipFrame(p.src, p.dst, p.from.String(), p.to.String(), 64, l4, payload)
}

// likely turns a probe of n into one that has a chance.
func (w *world) likely(r *rand.Rand, n *nic, p probe) probe {
	t := w.owner[n]
	if r.IntN(8) != 0 {
		p.src = n.mac
	}
	for _, rec := range t.Records {
		if r.IntN(3) != 0 && rec.MAC == n.mac && rec.VSID.Uint32() == n.vsid && rec.PA == n.host.pa {
			p.from = rec.CA
		}
	}
	if found, _, _ := places(t, p.to); r.IntN(2) == 0 && len(found) > 0 && p.dst != hnv.RouterMAC {
		p.dst = found[0].mac
	}
	return p
}

// TestAgainstModel lets random ports and random tunnel packets of random worlds
// speak, and holds what arrives against the model.
func TestAgainstModel(t *testing.T) {
	arrived, over := 0, 0
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := randomWorld(t, r)
		if len(w.nics) == 0 {
			continue
		}
		for i := range 150 {
			payload := fmt.Sprintf("seed %d probe %d, padded to be long enough", seed, i)
			p := randomProbe(r)
			var allowed []*nic
			var what string
			if r.IntN(3) > 0 {
				n := w.nics[r.IntN(len(w.nics))]
				p = w.likely(r, n, p)
				allowed = w.fromPort(n, p)
				what = fmt.Sprintf("from port %s of VSID %d on %s", n.mac, n.vsid, n.host.pa)
				n.send(p.frame(payload))
			} else {
				h := w.hosts[r.IntN(3)]
				pa := netip.AddrFrom4([4]byte{192, 168, 0, byte(1 + r.IntN(5))})
				rule := []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN}[r.IntN(2)]
				vsid := uint32(5000+1000*r.IntN(2)) + uint32(r.IntN(3))
				if to := w.nics[r.IntN(len(w.nics))]; r.IntN(4) > 0 { // one that could be believed
					h, vsid, p.dst = to.host, to.vsid, to.mac
					for _, rec := range w.owner[to].Records {
						if rec.MAC == to.mac && rec.VSID.Uint32() == vsid {
							p.to = rec.CA
						} else if r.IntN(3) == 0 {
							p.from, pa, p.src = rec.CA, rec.PA, []hnv.MAC{rec.MAC, hnv.RouterMAC}[r.IntN(2)]
						}
					}
				}
				allowed = []*nic{w.fromFabric(h, pa, rule, vsid, p)}
				what = fmt.Sprintf("from PA %s to %s by %s in VSID %d", pa, h.pa, rule, vsid)
				h.inject(outerPacket(hnv.Encap(rule), pa.String(), h.pa.String(), vsid, p.frame(payload)))
				if len(h.out.frames) != 0 {
					t.Fatalf("seed %d: a packet out of a tunnel went into another one", seed)
				}
				over++
			}
			w.settle()
			var got []*nic
			for _, n := range w.nics {
				for _, f := range n.drain() {
					if d := decode(t, f.bytes); d.payload == payload || d.ICMPType == 0 && d.Proto == 1 && p.icmp {
						got = append(got, n)
					}
				}
			}
			must := len(allowed) > 0 && !slices.Contains(allowed, nil)
			switch {
			case len(got) > 1:
				t.Fatalf("seed %d: %s arrived %d times", seed, payload, len(got))
			case len(got) == 1 && !slices.Contains(allowed, got[0]):
				t.Fatalf("seed %d: %+v %s arrived at %s of VSID %d on %s, where it has no business", seed, p, what, got[0].mac, got[0].vsid, got[0].host.pa)
			case len(got) == 0 && must:
				t.Fatalf("seed %d: %+v %s did not arrive; drops %v %v %v", seed, p, what, w.hosts[0].allDrops(), w.hosts[1].allDrops(), w.hosts[2].allDrops())
			}
			arrived += len(got)
		}
	}
	if arrived < 1000 || over < 1000 {
		t.Errorf("only %d probes arrived and %d came from the fabric: the test tests little", arrived, over)
	}
	t.Logf("%d probes arrived", arrived)
}
