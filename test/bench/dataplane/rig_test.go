package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// layout is what a rig is made for.
type layout struct {
	records        int // of VMs on other hosts; 0: one
	rule           hnv.Rule
	inner6, outer6 bool
	acl            []hnv.ACLRule // of the VM's port; nil: none
	kbps           uint64        // of the VM's port; 0: any
	flows          int           // that the port's table may have; 0: as many as may be
	group          netip.Addr    // PA group of the virtual subnet
	hosts          int           // that the records are spread over; 0: 250
	neighbors      int           // further VMs on this host
	compartment    bool          // A is a compartment, and packets are from or to outside
	size           int           // of the IP packets; 0: the smallest
	super          bool          // super-packets of TCP, to be cut to the MTU
}

// rig is a host with one VM, A, and packets between A and VMs on other hosts of
// the same routing domain.
type rig struct {
	layout
	sw     *dataplane.Switch
	w      *dataplane.Worker
	clock  *clock
	fabric sink
	vm     dataplane.PortID // A's
	vmGets sink
	others sink // what the neighbors get
	shape  dataplane.Tenant
	lent   []*packet.Frame // as many as are timed at once
	made   *packet.Frame
	fresh  int // flows that were begun so far
}

const (
	batch = dataplane.BatchSize
	// So many packets are timed at once. Their frames fit in a second level
	// cache, as the buffers that a kernel has just written do.
	chunk = 16 * batch
	// This is what passes between two of them.
	interval = time.Microsecond
)

var (
	vsid       = must(hnv.NewVSID(5001))
	macA       = [6]byte{2, 0, 0, 0, 0, 1}
	broadcast  = [6]byte{255, 255, 255, 255, 255, 255}
	ownPA4     = netip.MustParseAddr("192.168.0.1")
	ownPA6     = netip.MustParseAddr("2001:db8::1")
	caA4, caA6 = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	outside    = netip.MustParseAddr("203.0.113.5")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// clock is time that stands still.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// sink takes all packets and counts them.
type sink struct {
	n    int
	last netip.Addr // destination of the last one, where keep is set
	keep bool
}

func (s *sink) WriteBatch(frames []*packet.Frame) (int, error) {
	s.n += len(frames)
	if s.keep {
		s.last = netip.AddrFrom4([4]byte(frames[len(frames)-1].Bytes()[16:]))
	}
	return len(frames), nil
}

func (l *layout) caA() netip.Addr {
	if l.inner6 {
		return caA6
	}
	return caA4
}

// ca is the address of the i-th other VM.
func (l *layout) ca(i int) netip.Addr {
	if l.inner6 {
		a := caA6.As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i+16))
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24+uint32(i)+16)
	return netip.AddrFrom4(a)
}

// neighbor is the address of the i-th further VM on this host.
func (l *layout) neighbor(i int) netip.Addr {
	if l.inner6 {
		a := caA6.As16()
		a[8], a[15] = 1, byte(i)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, 255, 0, byte(i)})
}

func (l *layout) neighborMAC(i int) [6]byte { return [6]byte{2, 2, 0, 0, 0, byte(i)} }

func (l *layout) mac(i int) [6]byte {
	m := [6]byte{2, 1}
	binary.BigEndian.PutUint32(m[2:], uint32(i))
	return m
}

// pa is that of the i-th other VM's host.
func (l *layout) pa(i int) netip.Addr {
	h := i % l.hosts
	if l.rule == hnv.RuleRewrite { // each CA has one of its own
		h = i
	}
	if l.outer6 {
		a := ownPA6.As16()
		binary.BigEndian.PutUint32(a[12:], uint32(h)+16)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{192, 168, byte(h>>8 + 1), byte(h)})
}

func (l *layout) ownPA() netip.Addr {
	if l.outer6 {
		return ownPA6
	}
	return ownPA4
}

func (l *layout) record(i int) hnv.Record {
	return hnv.Record{VSID: vsid, CA: l.ca(i), MAC: must(hnv.MACFrom(l.mac(i))), PA: l.pa(i), Rule: l.rule, Type: hnv.Static}
}

func newRig(b testing.TB, l layout) *rig {
	b.Helper()
	l.records, l.hosts = max(1, l.records), max(1, min(l.records, 250), l.hosts)
	if l.rule == "" {
		l.rule = hnv.RuleNVGRE
	}
	if l.flows == 0 {
		l.flows = 1 << 22
	}
	at, room := chunk, 256
	if l.size > 128 {
		at, room = batch, l.size+256
	}
	r := &rig{layout: l, clock: &clock{time.Unix(1e9, 0)}, made: packet.NewFrame(1 << 16)}
	r.sw = dataplane.New(dataplane.Options{Now: r.clock.now, FlowsPerPort: l.flows})
	r.sw.SetProvider(dataplane.Provider{Addrs: []netip.Addr{l.ownPA()}, MTU: 1500})
	r.shape = dataplane.Tenant{
		Name: must(hnv.ParseName("contoso")), RDID: hnv.NewRDID(), Encap: hnv.NVGRE, StormPPS: 10e6,
		Subnets: []hnv.Subnet{{VSID: vsid, MulticastGroup: l.group, Prefixes: []hnv.SubnetPrefix{
			{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("10.0.0.1")},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
		}}},
	}
	spec := dataplane.PortSpec{Name: "a", VSID: vsid, MAC: must(hnv.MACFrom(macA)), Kind: dataplane.PortVM, InKbps: l.kbps, OutKbps: l.kbps}
	if l.compartment {
		spec.Kind = dataplane.PortCompartment
	}
	if l.acl != nil {
		spec.ACL = must(hnv.ParseName("list"))
		r.shape.ACLs = []hnv.ACL{{Tenant: r.shape.Name, Name: spec.ACL, Rules: l.acl}}
	}
	t := r.shape
	t.Records = make([]hnv.Record, 0, l.records+1)
	t.Records = append(t.Records, hnv.Record{VSID: vsid, CA: l.caA(), MAC: spec.MAC, PA: l.ownPA(), Rule: l.rule, Type: hnv.Static})
	for i := range l.records {
		t.Records = append(t.Records, l.record(i))
	}
	for i := range l.neighbors {
		t.Records = append(t.Records, hnv.Record{VSID: vsid, CA: l.neighbor(i), MAC: must(hnv.MACFrom(l.neighborMAC(i))), PA: l.ownPA(), Rule: l.rule, Type: hnv.Static})
	}
	if err := r.sw.Apply(t); err != nil {
		b.Fatal(err)
	}
	r.vm = r.plug(b, spec, &r.vmGets)
	for i := range l.neighbors {
		spec.Name, spec.MAC = fmt.Sprint("neighbor ", i), must(hnv.MACFrom(l.neighborMAC(i)))
		r.plug(b, spec, &r.others)
	}
	r.w = r.sw.NewWorker(&r.fabric)
	for range at {
		r.lent = append(r.lent, packet.NewFrame(room))
	}
	return r
}

func (r *rig) plug(b testing.TB, spec dataplane.PortSpec, w dataplane.Writer) dataplane.PortID {
	b.Helper()
	id, err := r.sw.AddPort(spec, w)
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// way is which way packets go through the rig.
type way string

const (
	encapsulate way = "encap"   // A sends them to other hosts
	decapsulate way = "decap"   // other hosts send them to A
	hairpin     way = "hairpin" // A sends them to its neighbors
)

// packet makes one of the i-th flow. Flows differ in ports, and in the other VM.
func (r *rig) packet(to way, i int, change func(*ends)) *packet.Frame {
	other := i % r.records
	e := ends{
		srcMAC: macA, dstMAC: r.mac(other), src: r.caA(), dst: r.ca(other),
		sport: uint16(1024 + i%60000), dport: uint16(1 + i/60000), size: r.size, tcp: r.super,
	}
	if r.compartment {
		e.src, e.dstMAC = outside, hnv.RouterMAC.Bytes()
	}
	if to == hairpin {
		e.dstMAC, e.dst = r.neighborMAC(i%r.neighbors), r.neighbor(i%r.neighbors)
	}
	if to == decapsulate {
		e.srcMAC, e.dstMAC, e.src, e.dst = e.dstMAC, e.srcMAC, e.dst, e.src
		if r.rule != hnv.RuleRewrite {
			e.outer = &encap.Header{Kind: encap.KindNVGRE, Src: r.pa(other), Dst: r.ownPA(), VSID: vsid.Uint32()}
			if r.rule == hnv.RuleVXLAN {
				e.outer.Kind = encap.KindVXLAN
			}
		} else { // as it was rewritten by the other host
			e.src, e.dst = r.pa(other), r.ownPA()
		}
	}
	if change != nil {
		change(&e)
	}
	e.build(r.made)
	if to == decapsulate && r.rule == hnv.RuleRewrite {
		r.made.TrimFront(packet.EthernetLen)
	}
	return r.made
}

// flowsOf makes a packet of each of n flows, in random order.
func (r *rig) flowsOf(to way, from, n int, change func(*ends)) *stack {
	s := &stack{}
	for _, i := range rand.New(rand.NewPCG(1, uint64(from))).Perm(n) {
		s.add(r.packet(to, from+i, change))
	}
	return s
}

// pass takes up to chunk packets of the stack through the Worker, from the i-th
// on and around its end.
func (r *rig) pass(t *watch, to way, s *stack, i, n int) {
	frames := r.lent[:n]
	for j, f := range frames {
		f.Set(s.at((i + j) % s.len()))
		if r.super {
			f.Offload = packet.Offload{GSO: packet.GSOTCPv4, GSOSize: 1400}
		}
	}
	r.clock.t = r.clock.t.Add(time.Duration(n) * interval)
	t.start()
	for len(frames) > 0 {
		m := min(batch, len(frames))
		if to == decapsulate {
			r.w.FromProvider(frames[:m])
		} else {
			r.w.FromPort(r.vm, frames[:m])
		}
		r.w.Flush()
		frames = frames[m:]
	}
	t.stop(n)
}

// drops gives what was dropped since the rig was made.
func (r *rig) drops() map[drop.Reason]uint64 {
	all := map[drop.Reason]uint64{}
	for _, c := range r.sw.Counters() {
		for reason, n := range c.DropsByReason {
			all[reason] += n
		}
	}
	return all
}

// passed checks that as many packets came through, and none else was dropped.
func (r *rig) passed(b *testing.B, to *sink, n int) {
	b.Helper()
	r.w.Flush()
	if d := r.drops(); to.n != n || len(d) != 0 {
		b.Fatalf("%d packets came through, want %d; dropped: %v", to.n, n, d)
	}
	to.n = 0
}

// sinkOf is where packets come out.
func (r *rig) sinkOf(to way) *sink {
	switch to {
	case decapsulate:
		return &r.vmGets
	case hairpin:
		return &r.others
	}
	return &r.fabric
}

func short(n int) string {
	switch {
	case n >= 1e6 && n%1e6 == 0:
		return fmt.Sprint(n/1e6, "M")
	case n >= 1e3 && n%1e3 == 0:
		return fmt.Sprint(n/1e3, "k")
	}
	return fmt.Sprint(n)
}
