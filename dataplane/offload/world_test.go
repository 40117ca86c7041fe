package offload

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// world is a Switch whose tenants, ports and PAs change at random. Both tenants
// draw from the same few addresses, MACs and interfaces.
type world struct {
	t       testing.TB
	r       *rand.Rand
	sw      *dataplane.Switch
	m       *mirror
	tenants []*dataplane.Tenant // nil: removed
	names   []hnv.Name
	rdids   []hnv.RDID
	ports   map[dataplane.PortID]Link
	// link gives the interface of the nth port; not ok: there are no more.
	link   func(n int) (l Link, ok bool)
	writer func() dataplane.Writer // of a port
	fabric int                     // the interface of the fabric
	lastIf int
	own    []netip.Addr
	down   []netip.Addr
	mtu    int
}

type nowhere struct{}

func (nowhere) WriteBatch(f []*packet.Frame) (int, error) { return len(f), nil }

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 5)), sw: dataplane.New(dataplane.Options{}), ports: map[dataplane.PortID]Link{},
		tenants: make([]*dataplane.Tenant, 2), own: []netip.Addr{pa(1), pa(2)}, mtu: 1500, fabric: 1,
		link:   func(n int) (Link, bool) { return Link{Ifindex: 10 + n, Peer: true}, true },
		writer: func() dataplane.Writer { return nowhere{} },
	}
	for _, n := range []string{"contoso", "fabrikam"} {
		name, err := hnv.ParseName(n)
		if err != nil {
			t.Fatal(err)
		}
		w.names = append(w.names, name)
		w.rdids = append(w.rdids, hnv.NewRDID())
	}
	return w
}

func pa(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 0, byte(n)}) }

func pa6(n int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 15: byte(n)}) }

// subnetCA gives an address in one of the prefixes of a tenant's subnet.
func subnetCA(third, last int, six bool) netip.Addr {
	if six {
		return netip.AddrFrom16([16]byte{0xfd, 7: byte(third), 15: byte(last)})
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(third), byte(last)})
}

func vsidOf(t testing.TB, n uint32) hnv.VSID {
	t.Helper()
	v, err := hnv.NewVSID(n)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func macOf(t testing.TB, n int) hnv.MAC {
	t.Helper()
	m, err := hnv.MACFrom([6]byte{0, 0x15, 0x5d, 0, 0, byte(n)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shape draws a tenant's subnets and routes.
func (w *world) shape(i int) *dataplane.Tenant {
	base := uint32(5000 + 1000*i)
	c := &dataplane.Tenant{Name: w.names[i], RDID: w.rdids[i], Encap: []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[w.r.IntN(2)]}
	if w.r.IntN(3) == 0 {
		c.QoS = &hnv.QoS{DSCP: []hnv.DSCP{"copy", "46", ""}[w.r.IntN(3)]}
	}
	vsids := w.r.Perm(4)
	for s := range 3 {
		if w.r.IntN(5) == 0 {
			continue
		}
		v := uint32(s)
		if w.r.IntN(8) == 0 {
			v = uint32(vsids[s])
		}
		if slices.ContainsFunc(c.Subnets, func(o hnv.Subnet) bool { return o.VSID.Uint32() == base+v }) {
			continue
		}
		sub := hnv.Subnet{VSID: vsidOf(w.t, base+v)}
		for _, six := range []bool{false, true} {
			gateway := 1
			if w.r.IntN(6) == 0 {
				gateway = 2
			}
			sub.Prefixes = append(sub.Prefixes, hnv.SubnetPrefix{
				Prefix: netip.PrefixFrom(subnetCA(s, 0, six), map[bool]int{false: 24, true: 64}[six]), Gateway: subnetCA(s, gateway, six),
			})
		}
		c.Subnets = append(c.Subnets, sub)
	}
	for range w.r.IntN(6) {
		if len(c.Subnets) == 0 {
			break
		}
		s := c.Subnets[w.r.IntN(len(c.Subnets))]
		p := netip.MustParsePrefix([]string{
			"0.0.0.0/0", "0.0.0.0/0", "8.8.0.0/16", "8.0.0.0/8", "8.8.8.0/24", "10.0.0.4/31", "10.0.0.0/16",
			"::/0", "::/0", "2001:db8::/32", "2001:db8::/64", "fd00::4/127",
		}[w.r.IntN(12)])
		c.Routes = append(c.Routes, hnv.CustomerRoute{
			RDID: c.RDID, VSID: s.VSID, Prefix: p, NextHop: w.station(s, p.Addr().Is6(), 5), Metric: uint32(w.r.IntN(2)),
		})
	}
	c.Routes = slices.CompactFunc(c.Routes, func(a, b hnv.CustomerRoute) bool { return a.Key() == b.Key() })
	return c
}

// station draws the address of one of the n stations of a subnet.
func (w *world) station(s hnv.Subnet, six bool, n int) netip.Addr {
	third := int(s.Prefixes[0].Prefix.Addr().As4()[2])
	return subnetCA(third, 2+w.r.IntN(n), six)
}

// record draws a record of the tenant.
func (w *world) record(c *dataplane.Tenant) (rec hnv.Record, ok bool) {
	if len(c.Subnets) == 0 {
		return rec, false
	}
	s := c.Subnets[w.r.IntN(len(c.Subnets))]
	six := w.r.IntN(3) == 0
	of := pa
	if w.r.IntN(3) == 0 {
		of = pa6
	}
	rec = hnv.Record{
		VSID: s.VSID, CA: w.station(s, six, 6), MAC: macOf(w.t, 1+w.r.IntN(6)), PA: of(1 + w.r.IntN(5)),
		Rule: hnv.Rule(c.Encap), Type: hnv.Static, UseVMMAC: w.r.IntN(8) == 0,
	}
	switch w.r.IntN(8) {
	case 0:
		rec.Type = hnv.GatewayWildcard
	case 1:
		rec.CA, rec.Type = netip.Addr{}, hnv.L2Only
	case 2:
		for n := range 5 {
			if p := of(1 + n); p != rec.PA && w.r.IntN(2) == 0 {
				rec.TeamPAs = append(rec.TeamPAs, p)
			}
		}
	}
	return rec, !slices.ContainsFunc(s.Prefixes, func(p hnv.SubnetPrefix) bool { return p.Gateway == rec.CA })
}

func (w *world) apply(i int) {
	if err := w.sw.Apply(*w.tenants[i]); err != nil {
		w.t.Fatal(err)
	}
}

// change makes one of the changes that control makes, and says what.
func (w *world) change() string {
	i := w.r.IntN(2)
	c := w.tenants[i]
	switch n := w.r.IntN(20); {
	case c == nil || n == 0: // another shape
		next := w.shape(i)
		for range 6 + w.r.IntN(6) {
			if rec, ok := w.record(next); ok {
				next.Records = keep(next.Records, rec)
			}
		}
		if c != nil {
			for _, rec := range c.Records { // those that still fit
				if fits(next, rec) {
					next.Records = keep(next.Records, rec)
				}
			}
		}
		w.tenants[i] = next
		w.apply(i)
		return fmt.Sprintf("shape of tenant %d", i)
	case n == 1:
		w.tenants[i] = nil
		w.sw.Remove(w.rdids[i])
		return fmt.Sprintf("tenant %d removed", i)
	case n < 5:
		w.plug(c)
		return "port"
	case n == 5:
		for id := range w.ports {
			w.unplug(id)
			return "port gone"
		}
	case n == 6:
		w.own = []netip.Addr{pa(1)}
		for k := range 4 {
			if w.r.IntN(3) == 0 {
				w.own = append(w.own, []netip.Addr{pa(2 + k), pa6(1 + k)}[w.r.IntN(2)])
			}
		}
		w.down = nil
		for k := range 5 {
			if w.r.IntN(4) == 0 {
				w.down = append(w.down, pa(1+k), pa6(1+k))
			}
		}
		w.mtu = []int{1500, 9000}[w.r.IntN(2)]
		w.provider()
		return fmt.Sprintf("provider %v", w.own)
	case n == 7:
		for id := range w.ports {
			// No rate of these ever binds.
			if err := w.sw.SetPort(id, hnv.Name{}, uint64(w.r.IntN(2)*1e9), uint64(w.r.IntN(2)*1e9)); err != nil {
				w.t.Fatal(err)
			}
			if err := w.sw.SetLayers(id, []vfp.Layer{{Name: "none", Priority: 500}}[:w.r.IntN(2)]); err != nil {
				w.t.Fatal(err)
			}
			return "layers of a port"
		}
	}
	var put []hnv.Record
	var del []hnv.RecordKey
	for range w.r.IntN(4) {
		if rec, ok := w.record(c); ok {
			put = keep(put, rec)
		}
	}
	for range w.r.IntN(3) {
		if len(c.Records) > 0 {
			k := c.Records[w.r.IntN(len(c.Records))].RecordKey()
			if !slices.ContainsFunc(put, func(r hnv.Record) bool { return r.RecordKey() == k }) {
				del = append(del, k)
			}
		}
	}
	c.Records = slices.DeleteFunc(c.Records, func(r hnv.Record) bool { return slices.Contains(del, r.RecordKey()) })
	for _, rec := range put {
		c.Records = keep(c.Records, rec)
	}
	if err := w.sw.UpdateRecords(c.RDID, put, del); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("records of tenant %d: %v, without %v", i, put, del)
}

func keep(all []hnv.Record, r hnv.Record) []hnv.Record {
	all = slices.DeleteFunc(all, func(o hnv.Record) bool { return o.RecordKey() == r.RecordKey() })
	return append(all, r)
}

func fits(c *dataplane.Tenant, r hnv.Record) bool {
	for _, s := range c.Subnets {
		if s.VSID == r.VSID && (!r.CA.IsValid() || slices.ContainsFunc(s.Prefixes, func(p hnv.SubnetPrefix) bool { return p.Prefix.Contains(r.CA) && p.Gateway != r.CA })) {
			return true
		}
	}
	return false
}

func (w *world) provider() {
	f := Fabric{}
	for _, a := range w.own {
		f.Tunnel = append(f.Tunnel, PA{a, w.fabric})
	}
	w.m.SetFabric(f)
	w.sw.SetProvider(dataplane.Provider{Addrs: w.own, Down: w.down, MTU: w.mtu})
}

func (w *world) plug(c *dataplane.Tenant) {
	if len(c.Subnets) == 0 {
		return
	}
	s := c.Subnets[w.r.IntN(len(c.Subnets))]
	l, ok := w.link(w.lastIf + 1)
	if !ok {
		return
	}
	w.lastIf++
	id, err := w.sw.AddPort(dataplane.PortSpec{
		Name: fmt.Sprintf("port%d", w.lastIf), VSID: s.VSID, MAC: macOf(w.t, 1+w.r.IntN(6)),
		Kind: []dataplane.PortKind{dataplane.PortVM, dataplane.PortCompartment}[w.r.IntN(2)], MTU: 1458,
	}, w.writer())
	if err != nil {
		return // the MAC is taken
	}
	w.ports[id] = l
	if err := w.m.Plug(id, l); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) unplug(id dataplane.PortID) {
	delete(w.ports, id)
	if err := w.m.Unplug(id); err != nil {
		w.t.Fatal(err)
	}
	w.sw.RemovePort(id)
}

// address draws one of a tenant's, or one outside.
func (w *world) address(six bool) netip.Addr {
	switch {
	case w.r.IntN(3) != 0:
		return subnetCA(w.r.IntN(3), 1+w.r.IntN(7), six)
	case six:
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 7: byte(w.r.IntN(2)), 15: byte(w.r.IntN(3))})
	}
	return netip.AddrFrom4([4]byte{8, 8, byte(8 * w.r.IntN(2)), byte(w.r.IntN(3))})
}

// flows draws packets that could be let pass.
func (w *world) flows(f *fakes, n int) []passage {
	ports := slices.Sorted(maps.Keys(f.ports.m))
	records := slices.Collect(maps.Keys(f.records.m))
	slices.SortFunc(records, func(a, b recordKey) int {
		return slices.Compare(append(a.CA[:], byte(a.Tenant)), append(b.CA[:], byte(b.Tenant)))
	})
	var out []passage
	for range n {
		six := w.r.IntN(3) == 0
		p := passage{src: addrOf(w.address(six)), dst: addrOf(w.address(six)), dmac: routerMAC}
		if len(ports) > 0 && w.r.IntN(2) == 0 {
			in := f.ports.m[ports[w.r.IntN(len(ports))]]
			p.ifindex, p.smac = in.Ifindex, in.MAC
			for _, k := range records {
				if v := f.records.m[k]; k.Tenant == in.Tenant && k.CA.netip().Is6() == six && v.VSID == in.VSID && v.MAC == in.MAC && w.r.IntN(4) != 0 {
					p.src = k.CA
				}
			}
			out = append(out, p)
			continue
		}
		p.vsid = uint32(5000 + 1000*w.r.IntN(2) + w.r.IntN(4))
		p.pa, p.smac = addrOf(pa(1+w.r.IntN(5))), routerMAC
		if len(records) > 0 {
			k := records[w.r.IntN(len(records))]
			p.src, p.pa = k.CA, f.records.m[k].PA
		}
		if len(ports) > 0 {
			to := f.ports.m[ports[w.r.IntN(len(ports))]]
			p.vsid, p.dmac = to.VSID, to.MAC
			for _, k := range records {
				if v := f.records.m[k]; k.Tenant == to.Tenant && k.CA.netip().Is6() == p.src.netip().Is6() && v.MAC == to.MAC && w.r.IntN(3) != 0 {
					p.dst = k.CA
				}
			}
		}
		out = append(out, p)
	}
	return out
}
