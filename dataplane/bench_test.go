package dataplane

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// load is a Switch with two tenants, a Worker, and batches of frames for it.
type load struct {
	sw     *Switch
	w      *Worker
	fabric *countingWriter
	ports  *countingWriter
	gate   []PortID
	frames []*packet.Frame
}

type countingWriter struct{ n int }

func (c *countingWriter) WriteBatch(frames []*packet.Frame) (int, error) {
	c.n += len(frames)
	return len(frames), nil
}

func newLoad(t testing.TB) *load {
	l := &load{sw: New(Options{}), fabric: &countingWriter{}, ports: &countingWriter{}}
	l.sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paGate)}, MTU: 1500})
	for i, c := range []Tenant{tenantConfig("contoso", 5000, hnv.NVGRE), tenantConfig("fabrikam", 6000, hnv.VXLAN)} {
		if err := l.sw.Apply(c); err != nil {
			t.Fatal(err)
		}
		base := mustVSID(uint32(5000 + 1000*i))
		id, err := l.sw.AddPort(PortSpec{VSID: base, MAC: hnv.CompartmentMAC(base), Kind: PortCompartment, MTU: 1450}, l.ports)
		if err != nil {
			t.Fatal(err)
		}
		l.gate = append(l.gate, id)
	}
	l.w = l.sw.NewWorker(l.fabric)
	for range BatchSize {
		l.frames = append(l.frames, packet.NewFrame(2048))
	}
	return l
}

// The steady state of the gateway, in both directions, of both tunnels and IP
// versions, with some packets dropped and some ARP answered.
var steady = []struct {
	name   string
	fabric bool
	packet func() []byte
}{
	{"decap/nvgre", true, goodNVGRE},
	{"decap/vxlan", true, goodVXLAN},
	{"decap/ipv6", true, func() []byte {
		return nvgre(5000, udp(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)), "fd00:1::11", "2001:db8::5", "x"))
	}},
	{"spoofed", true, func() []byte { return outerPacket(hnv.NVGRE, "192.168.1.66", paGate, 5000, goodInner(5000)) }},
	{"encap/nvgre", false, func() []byte {
		return udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x")
	}},
	{"encap/vxlan", false, func() []byte {
		return udp(hnv.CompartmentMAC(mustVSID(6000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x")
	}},
	{"encap/ipv6", false, func() []byte {
		return udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "2001:db8::5", "fd00:1::11", "x")
	}},
	{"decap/fragment", true, func() []byte {
		return nvgre(5000, firstFragment(udp(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)), "10.1.1.11", "203.0.113.5", "12345678")))
	}},
	{"encap/fragment", false, func() []byte {
		return firstFragment(udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "12345678"))
	}},
	{"arp", false, func() []byte {
		gw := hnv.CompartmentMAC(mustVSID(5000))
		return arpFrame(1, gw, macBroadcast, gw, "10.254.254.2", "10.254.254.1")
	}},
	{"expired", false, func() []byte {
		b := udp(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x")
		packet.SetECN(b[14:], 0)
		for packet.DecrementTTL(b[14:]) {
		}
		return b
	}},
}

// firstFragment makes the packet in an IPv4 frame the first of several fragments.
func firstFragment(b []byte) []byte {
	h := b[14:34]
	h[6], h[7], h[10], h[11] = 0x20, 0, 0, 0
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h, 0))
	return b
}

// give puts one batch of the packet through the Worker.
func (l *load) give(fabric bool, b []byte) {
	for _, f := range l.frames {
		f.Set(b)
	}
	switch {
	case fabric:
		l.w.FromProvider(l.frames)
	case b[11] == 0x70: // the last byte of fabrikam's compartment MAC, 6000
		l.w.FromPort(l.gate[1], l.frames)
	default:
		l.w.FromPort(l.gate[0], l.frames)
	}
	l.w.Flush()
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	l := newLoad(t)
	for _, s := range steady {
		b := s.packet()
		l.give(s.fabric, b)
		if n := testing.AllocsPerRun(20, func() { l.give(s.fabric, b) }); n != 0 {
			t.Errorf("%s: %v allocations a batch of %d", s.name, n, BatchSize)
		}
	}
	for r := range l.sw.Counters()[0].DropsByReason {
		t.Errorf("dropped for %s without a tenant", r)
	}
	for _, c := range l.sw.Counters()[1:] {
		for r := range c.DropsByReason {
			if r != drop.SourcePAUnknown && r != drop.TTLExpired {
				t.Errorf("%s dropped for %s", c.Name, r)
			}
		}
	}
	if l.fabric.n == 0 || l.ports.n == 0 {
		t.Error("nothing came through")
	}
}

func TestSegmentationDoesNotAllocate(t *testing.T) {
	l := newLoad(t)
	super := superPacket(hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "203.0.113.5", "10.1.1.11", 30000)
	f := []*packet.Frame{packet.NewFrame(1 << 16)}
	give := func() {
		f[0].Set(super.bytes)
		f[0].Offload = super.offload
		l.w.FromPort(l.gate[0], f)
		l.w.Flush()
	}
	give()
	if n := testing.AllocsPerRun(20, give); n != 0 || l.fabric.n != 22*22 {
		t.Errorf("%v allocations, %d segments", n, l.fabric.n)
	}
}

func BenchmarkWorker(b *testing.B) {
	for _, s := range steady {
		b.Run(s.name, func(b *testing.B) {
			l, p := newLoad(b), s.packet()
			b.ReportAllocs()
			for b.Loop() {
				l.give(s.fabric, p)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*BatchSize), "ns/packet")
		})
	}
}
