package dataplane

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// crowd is a machine with two tenants that have the same addresses, and flows in
// both directions at both their compartments, more than a port has without being
// crowded.
type crowd struct {
	sw   *Switch
	w    *Worker
	gate [2]PortID
	out  keeper // to the fabric
	in   keeper // to the compartments
}

// keeper keeps the packets that it takes.
type keeper struct{ got []string }

func (k *keeper) WriteBatch(frames []*packet.Frame) (int, error) {
	for _, f := range frames {
		k.got = append(k.got, string(f.Bytes()))
	}
	return len(frames), nil
}

func newCrowd(t testing.TB) *crowd {
	c := &crowd{sw: New(Options{})}
	c.sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paGate)}, MTU: 1500})
	for i, tenant := range []Tenant{tenantConfig("contoso", 5000, hnv.NVGRE), tenantConfig("fabrikam", 6000, hnv.VXLAN)} {
		if err := c.sw.Apply(tenant); err != nil {
			t.Fatal(err)
		}
		id, err := c.sw.AddPort(PortSpec{VSID: crowdVSID(i), MAC: hnv.CompartmentMAC(crowdVSID(i)), Kind: PortCompartment}, &c.in)
		if err != nil {
			t.Fatal(err)
		}
		c.gate[i] = id
	}
	c.w = c.sw.NewWorker(&c.out)
	for i := 0; i < crowded; i += BatchSize {
		for tenant := range 2 {
			var fabric, ports [][]byte
			for flow := i; flow < i+BatchSize; flow++ {
				fabric, ports = append(fabric, crowdFabric(tenant, flow)), append(ports, crowdPort(tenant, flow))
			}
			c.take(-1, fabric, BatchSize)
			c.take(tenant, ports, BatchSize)
		}
	}
	return c
}

// take takes packets of the tenant's port, or of the fabric if it is -1, so many
// at a time.
func (c *crowd) take(tenant int, packets [][]byte, at int) {
	for some := range slices.Chunk(packets, at) {
		var frames []*packet.Frame
		for _, b := range some {
			f := packet.NewFrame(2048)
			f.Set(b)
			frames = append(frames, f)
		}
		if tenant < 0 {
			c.w.FromProvider(frames)
		} else {
			c.w.FromPort(c.gate[tenant], frames)
		}
	}
	c.w.Flush()
}

func crowdVSID(tenant int) hnv.VSID { return mustVSID(uint32(5000 + 1000*tenant)) }

// crowdPort is a packet of a flow from a compartment to a VM.
func crowdPort(tenant, flow int) []byte {
	return withPorts(udp(hnv.CompartmentMAC(crowdVSID(tenant)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x"), flow)
}

// crowdFabric is one the other way.
func crowdFabric(tenant, flow int) []byte {
	b := withPorts(udp(hnv.RouterMAC, hnv.CompartmentMAC(crowdVSID(tenant)), "10.1.1.11", "203.0.113.5", "x"), flow)
	return outerPacket([]hnv.Encap{hnv.NVGRE, hnv.VXLAN}[tenant], paHost1, paGate, crowdVSID(tenant).Uint32(), b)
}

// withPorts gives the UDP packet in an IPv4 frame the ports of a flow.
func withPorts(b []byte, flow int) []byte {
	binary.BigEndian.PutUint16(b[34:], uint16(flow))
	binary.BigEndian.PutUint16(b[36:], uint16(1000+flow>>16))
	b[40], b[41] = 0, 0 // without a checksum
	return b
}

// broken changes some bytes of a packet, or cuts it.
func broken(r *rand.Rand, b []byte) []byte {
	switch r.IntN(8) {
	case 0:
		return b[:r.IntN(len(b))]
	case 1, 2:
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
	}
	return b
}

// Looking ahead changes nothing about what becomes of packets: those that come
// one by one, for which nobody does, become the same.
func TestLookingAheadChangesNothing(t *testing.T) {
	many, single := newCrowd(t), newCrowd(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		tenant := r.IntN(3) - 1
		var packets [][]byte
		for range 1 + r.IntN(2*BatchSize) {
			flow := r.IntN(2 * crowded) // half of them are new
			if tenant < 0 {
				packets = append(packets, broken(r, crowdFabric(r.IntN(2), flow)))
			} else {
				packets = append(packets, broken(r, crowdPort(tenant, flow)))
			}
		}
		many.take(tenant, packets, len(packets))
		single.take(tenant, packets, 1)
	}
	if many.w.ahead == nil {
		t.Error("the worker did not look ahead")
	}
	for name, k := range map[string][2]*keeper{"fabric": {&many.out, &single.out}, "compartments": {&many.in, &single.in}} {
		slices.Sort(k[0].got)
		slices.Sort(k[1].got)
		if len(k[0].got) < crowded || !slices.Equal(k[0].got, k[1].got) {
			t.Errorf("to the %s: %d packets, want the same %d", name, len(k[0].got), len(k[1].got))
		}
	}
	drops := func(c *crowd) (all []map[string]uint64) {
		for _, t := range c.sw.Counters() {
			m := map[string]uint64{}
			for r, n := range t.DropsByReason {
				m[r.String()] = n
			}
			all = append(all, m)
		}
		return all
	}
	if d := cmp.Diff(drops(single), drops(many)); d != "" {
		t.Errorf("drops (- one by one, + looking ahead):\n%s", d)
	}
}

func TestLookingAheadDoesNotAllocate(t *testing.T) {
	c := newCrowd(t)
	c.out, c.in = keeper{}, keeper{}
	var fabric, port []*packet.Frame
	for i := range BatchSize {
		fabric, port = append(fabric, packet.NewFrame(256)), append(port, packet.NewFrame(256))
		fabric[i].Set(crowdFabric(i%2, i))
		port[i].Set(crowdPort(0, i))
	}
	if !c.w.lookAheadInbound(fabric) {
		t.Fatal("no packet is for a crowded port")
	}
	p := *c.sw.ports.Load().byID.Get(1)
	if n := testing.AllocsPerRun(50, func() {
		c.w.lookAheadInbound(fabric)
		c.w.lookAhead(p, port)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
