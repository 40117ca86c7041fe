//go:build privileged && linux

package offload

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// tally counts what became of packets, so that a test that tests nothing fails.
type tally struct {
	actions map[action]int
	reasons map[drop.Reason]int
	whys    map[Why]int
}

func newTally() *tally {
	return &tally{map[action]int{}, map[drop.Reason]int{}, map[Why]int{}}
}

func (c *tally) count(v verdict) {
	c.actions[v.action]++
	switch v.action {
	case actionDrop:
		c.reasons[v.reason]++
	case actionPunt:
		c.whys[v.why]++
	}
}

// TestProgramsDoAsTheSwitch gives random packets of random worlds to both: what
// the programs do, they do byte for byte as the Switch does, and for the same
// reasons.
func TestProgramsDoAsTheSwitch(t *testing.T) {
	c := newTally()
	for seed := range uint64(12) {
		g := newRig(t, 100+seed)
		for range 40 {
			g.step()
		}
		for range 30 {
			g.step()
			g.checkTables()
			for range 60 {
				g.compareOne(t, c)
			}
		}
	}
	c.check(t, 150, 80, 25)
}

// step changes the world, and has a recorder for each port.
func (g *rig) step() {
	known := maps.Clone(g.ports)
	g.last = nil
	g.change()
	for id := range g.ports {
		if _, old := known[id]; !old {
			g.boxes[id] = g.last
		}
	}
	for id := range g.boxes {
		if _, there := g.ports[id]; !there {
			delete(g.boxes, id)
		}
	}
}

func (g *rig) compareOne(t *testing.T, c *tally) {
	t.Helper()
	ids := slices.Sorted(maps.Keys(g.ports))
	if len(ids) > 0 && g.r.IntN(2) == 0 {
		id := ids[g.r.IntN(len(ids))]
		b := g.drawFrame(id)
		if !runnable(b) {
			return
		}
		got, want, alone := g.fromPort(id, b)
		c.count(got)
		if !agree(got, want, alone, b, g.own) {
			g.explain(b, id)
			t.Fatalf("from port %d: %x\nprograms: %s\nSwitch:   %s (alone: %v)", id, b, got, want, alone)
		}
		return
	}
	b := g.drawOuter(ids)
	if !runnable(append(ether(g.fabric, b), b...)) {
		return
	}
	got, want, alone := g.fromFabric(b)
	c.count(got)
	if !agree(got, want, alone, b, g.own) {
		t.Fatalf("from the fabric: %x\nprograms: %s\nSwitch:   %s (alone: %v)", b, got, want, alone)
	}
}

// record draws one of a tenant's records for which it holds.
func (g *rig) recordFor(c *dataplane.Tenant, holds func(hnv.Record) bool) (hnv.Record, bool) {
	for _, i := range g.r.Perm(len(c.Records)) {
		if r := c.Records[i]; r.CA.IsValid() && holds(r) {
			return r, true
		}
	}
	return hnv.Record{}, false
}

func (g *rig) tenantOf(r hnv.RDID) *dataplane.Tenant {
	for _, c := range g.tenants {
		if c != nil && c.RDID == r {
			return c
		}
	}
	return nil
}

// drawFrame draws a frame that the port could send.
func (g *rig) drawFrame(id dataplane.PortID) []byte {
	v, _ := g.sw.PortView(id)
	six := g.r.IntN(3) == 0
	e := ends{smac: v.Spec.MAC.Bytes(), dmac: routerMAC, src: g.address(six), dst: g.address(six), ttl: 64, tos: uint8(g.r.IntN(4))}
	c := g.tenantOf(v.Spec.RDID)
	if c != nil && g.r.IntN(6) != 0 {
		if r, ok := g.recordFor(c, func(r hnv.Record) bool { return r.MAC == v.Spec.MAC && r.VSID == v.Spec.VSID && r.CA.Is6() == six }); ok {
			e.src = r.CA
		}
	}
	if c != nil && g.r.IntN(3) != 0 {
		if r, ok := g.recordFor(c, func(r hnv.Record) bool { return r.CA.Is6() == six }); ok {
			if e.dst = r.CA; g.r.IntN(3) == 0 {
				e.dmac = r.MAC.Bytes()
			}
		}
	}
	g.unlikely(&e)
	b := frame(g.r, e)
	return g.spoiled(b, 80, 14)
}

// unlikely changes the ends, now and then, into what few packets have.
func (g *rig) unlikely(e *ends) {
	switch g.r.IntN(40) {
	case 0:
		e.ttl = uint8(g.r.IntN(3))
	case 1:
		e.tos = uint8(g.r.Uint32())
	case 2:
		e.smac = macOf(g.t, g.r.IntN(7)+1).Bytes()
	case 3:
		e.dmac = macOf(g.t, g.r.IntN(7)+1).Bytes()
	case 4:
		e.dmac = [6]byte{255, 255, 255, 255, 255, 255}
	case 5, 6:
		odd := []string{"127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "240.0.0.1", "10.0.0.255"}
		if e.src.Is6() {
			odd = []string{"::", "::1", "fe80::1", "ff02::1", "ff05::2", "::ffff:10.0.0.1", "fec0::1"}
		}
		a := netip.MustParseAddr(odd[g.r.IntN(len(odd))])
		if g.r.IntN(2) == 0 {
			e.src = a
		} else {
			e.dst = a
		}
	}
}

func (g *rig) spoiled(b []byte, n, off int) []byte {
	switch g.r.IntN(8) {
	case 0:
		return spoil(g.r, b, n, off)
	case 1:
		if g.r.IntN(3) == 0 && off == 14 {
			fragment(g.r, b)
		}
	case 2: // with something behind the packet
		if off == 14 {
			b = append(b, make([]byte, 1+g.r.IntN(30))...)
		}
	}
	return b
}

// drawOuter draws a packet that could come from the fabric.
func (g *rig) drawOuter(ids []dataplane.PortID) []byte {
	six := g.r.IntN(3) == 0
	e := ends{smac: routerMAC, dmac: routerMAC, src: g.address(six), dst: g.address(six), ttl: 64, tos: uint8(g.r.IntN(4))}
	o := outer{src: pa(1 + g.r.IntN(5)), dst: g.own[g.r.IntN(len(g.own))], vsid: uint32(5000 + 1000*g.r.IntN(2) + g.r.IntN(4)), tos: uint8(g.r.IntN(4))}
	if len(ids) > 0 {
		v, _ := g.sw.PortView(ids[g.r.IntN(len(ids))])
		o.vsid, e.dmac = v.Spec.VSID.Uint32(), v.Spec.MAC.Bytes()
		if c := g.tenantOf(v.Spec.RDID); c != nil {
			o.vxlan = c.Encap == hnv.VXLAN
			if r, ok := g.recordFor(c, func(r hnv.Record) bool { return r.MAC == v.Spec.MAC && r.CA.Is6() == six }); ok && g.r.IntN(6) != 0 {
				e.dst = r.CA
			}
			if r, ok := g.recordFor(c, func(r hnv.Record) bool { return r.CA.Is6() == six && !slices.Contains(g.own, r.PA) }); ok && g.r.IntN(6) != 0 {
				e.src, o.src = r.CA, r.PAs()[g.r.IntN(len(r.PAs()))]
				if g.r.IntN(2) == 0 {
					e.smac = r.MAC.Bytes()
				}
			}
		}
	}
	switch g.r.IntN(30) {
	case 0:
		o.vxlan = !o.vxlan
	case 1:
		o.vsid = uint32(g.r.IntN(3)) * 4095
	case 2:
		o.src = g.own[g.r.IntN(len(g.own))]
	case 3:
		o.dst = pa(77)
	case 4:
		o.tos = uint8(g.r.Uint32())
	case 5:
		e.src = subnetCA(0, 1, six) // a router's, perhaps
	}
	g.unlikely(&e)
	if o.src.Is6() != o.dst.Is6() {
		for _, a := range g.own {
			if a.Is6() == o.src.Is6() {
				o.dst = a
			}
		}
	}
	if o.src.Is6() != o.dst.Is6() {
		o.src = pa6(1)
		if o.dst.Is4() {
			o.src = pa(3)
		}
	}
	inner := g.spoiled(frame(g.r, e), 80, 14)
	b := wrap(o, inner)
	if g.r.IntN(10) == 0 {
		b = spoil(g.r, b, 50, 0)
	}
	return b
}

// check fails where too little of something was seen.
func (c *tally) check(t *testing.T, ports, fabric, reasons int) {
	t.Helper()
	t.Logf("actions: to ports %d, to the fabric %d, dropped %d, to user space %d, left alone %d", c.actions[actionPort],
		c.actions[actionFabric], c.actions[actionDrop], c.actions[actionPunt], c.actions[actionPass])
	t.Logf("reasons: %v", c.reasons)
	t.Logf("to user space: %v", c.whys)
	if c.actions[actionPort] < ports || c.actions[actionFabric] < fabric || len(c.reasons) < reasons {
		t.Errorf("the test tests little: want %d to ports, %d to the fabric, %d reasons", ports, fabric, reasons)
	}
}

// explain tells what is known of the packet's ends.
func (g *rig) explain(b []byte, id dataplane.PortID) {
	var h packet.Headers
	g.t.Logf("decoded: %s, from %s to %s", h.DecodeEthernet(b), h.Src, h.Dst)
	v, _ := g.sw.PortView(id)
	tv, ok := g.sw.View(v.Spec.RDID)
	g.t.Logf("port %+v, tenant there: %v", v, ok)
	for _, a := range []netip.Addr{h.Src, h.Dst} {
		if ok && a.IsValid() {
			rt, rec := tv.Domain.Resolve(a)
			g.t.Logf("%s: route %+v record %+v", a, rt, rec)
			if rt != nil {
				for _, hop := range rt.Hops {
					g.t.Logf("  hop %d/%s: %+v", hop.VSID(), hop.CA(), tv.Domain.At(hop))
				}
			}
		}
	}
	if ok {
		g.t.Logf("wildcards %v", tv.Domain.Wildcards())
	}
}
