//go:build privileged && linux

package offload

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// rig has a world's Switch and, with the same tables, the programs in the kernel.
// Packets are given to both, and what they do is compared.
type rig struct {
	*world
	k      *kernel
	ns     netns.NS
	fabric nl.Link
	links  []nl.Link
	worker *dataplane.Worker
	out    *recorder // to the fabric
	boxes  map[dataplane.PortID]*recorder
	last   *recorder
	// counted is what the Switch counted of the packets that the programs took.
	counted map[hnv.RDID]dataplane.TenantCounters
	delta   map[hnv.RDID]dataplane.TenantCounters // of the last packet
}

// recorder is a Writer that keeps what it is given.
type recorder struct{ frames [][]byte }

func (r *recorder) WriteBatch(frames []*packet.Frame) (int, error) {
	for _, f := range frames {
		r.frames = append(r.frames, slices.Clone(f.Bytes()))
	}
	return len(frames), nil
}

const rigPorts = 24

func newRig(t *testing.T, seed uint64) *rig {
	t.Helper()
	g := &rig{world: newWorld(t, seed), out: &recorder{}, boxes: map[dataplane.PortID]*recorder{}, counted: map[hnv.RDID]dataplane.TenantCounters{}}
	path := netns.Path(nstest.New(t, "rig"))
	h, err := nl.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for i := range rigPorts + 1 {
		name := fmt.Sprintf("r%d", i)
		if err := h.AddVeth(nl.LinkEnd{Name: name}, nl.LinkEnd{Name: name + "p"}); err != nil {
			t.Fatal(err)
		}
		l, err := h.Link(name)
		if err != nil {
			t.Fatal(err)
		}
		g.links = append(g.links, l)
	}
	g.fabric, g.links = g.links[0], g.links[1:]
	g.world.fabric = g.fabric.Index
	if g.ns, err = netns.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.ns.Close() })
	sizes := Sizes{VSIDs: 256, Ports: 256, Records: 4096, Hosts: 4096, Routes: 4096, Teams: 1024, HopSets: 1024, Tenants: 256, PAs: 64, Verdicts: 4096}
	if g.k, err = load(loadOptions{sizes: sizes, observed: true}); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { g.k.close() })
	if g.m, err = newMirror(g.sw, g.k.tables(), sizes, Limits{Odd: 1e6, Bulk: 1e6}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	g.m.puntIndex = g.fabric.Index
	g.sw.Follow(g.m)
	g.link = func(n int) (Link, bool) {
		if n > len(g.links) {
			return Link{}, false
		}
		return Link{Ifindex: g.links[n-1].Index, Peer: n%2 == 0}, true
	}
	g.writer = func() dataplane.Writer {
		g.last = &recorder{}
		return g.last
	}
	g.worker = g.sw.NewWorker(g.out)
	g.provider()
	return g
}

// context is the beginning of the programs' struct __sk_buff.
type context struct {
	Len, PktType, Mark, QueueMapping, Protocol uint32
	VLANPresent, VLANTCI, VLANProto, Priority  uint32
	IngressIfindex, Ifindex, TCIndex           uint32
	CB                                         [5]uint32
	Hash, TCClassID, Data, DataEnd, NAPIID     uint32
	Family, RemoteIP4, LocalIP4                uint32
	RemoteIP6, LocalIP6                        [4]uint32
	RemotePort, LocalPort, DataMeta            uint32
	FlowKeys, Tstamp                           uint64
	WireLen, GSOSegs                           uint32
	Sk                                         uint64
	GSOSize, Pad                               uint32
}

// verdict is what became of a packet.
type verdict struct {
	action action
	reason drop.Reason // actionDrop
	why    Why         // actionPunt
	rdid   hnv.RDID    // actionDrop: who counts it
	out    uint32      // actionPort: the interface
	bytes  []byte      // that left, actionPunt: with what went before
}

func (v verdict) String() string {
	switch v.action {
	case actionDrop:
		return fmt.Sprintf("dropped: %s, for %s", v.reason, v.rdid)
	case actionPunt:
		return fmt.Sprintf("to user space: %s", v.why)
	case actionPort:
		return fmt.Sprintf("to interface %d: %x", v.out, v.bytes)
	case actionFabric:
		return fmt.Sprintf("to the fabric: %x", v.bytes)
	}
	return "left to the stack"
}

// program runs a program on a frame that arrived on the interface.
func (g *rig) program(p *ebpf.Program, ifindex int, b []byte) verdict {
	g.t.Helper()
	return g.merged(p, ifindex, b, 0)
}

// merged runs a program on a super-packet of packets with so much data each; 0: on
// an ordinary one.
func (g *rig) merged(p *ebpf.Program, ifindex int, b []byte, gso uint32) verdict {
	g.t.Helper()
	if err := g.k.collection.Maps["outcomes"].Put(uint32(0), outcome{}); err != nil {
		g.t.Fatal(err)
	}
	in := context{Ifindex: uint32(ifindex), GSOSize: gso}
	o := &ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+256), Context: in}
	if err := g.ns.Do(func() error { _, err := p.Run(o); return err }); err != nil {
		g.t.Fatalf("run %s on %d bytes %x: %v", p, len(b), b, err)
	}
	var got outcome
	if err := g.k.collection.Maps["outcomes"].Lookup(uint32(0), &got); err != nil {
		g.t.Fatal(err)
	}
	v := verdict{action: got.Action, out: got.Ifindex, bytes: o.DataOut}
	switch got.Action {
	case actionDrop:
		v.reason = drop.Reason(got.Reason)
		v.rdid = g.owner(got.VSID)
	case actionPunt:
		v.why = Why(-got.Reason)
	}
	return v
}

// owner gives the tenant of a virtual subnet, none for 0.
func (g *rig) owner(vsid uint32) hnv.RDID {
	for r, t := range g.m.tenants {
		if _, ok := t.subnets[vsid]; ok {
			return r
		}
	}
	return hnv.RDID{}
}

// reference gives the frame to the Switch. It tells all that became of it.
func (g *rig) reference(give func(f *packet.Frame)) (out []verdict) {
	g.t.Helper()
	before := g.counters()
	f := packet.NewFrame(4096)
	give(f)
	g.worker.Flush()
	for id, box := range g.boxes {
		for _, b := range box.frames {
			out = append(out, verdict{action: actionPort, out: uint32(g.ports[id].Ifindex), bytes: b})
		}
		box.frames = nil
	}
	for _, b := range g.out.frames {
		out = append(out, verdict{action: actionFabric, bytes: b})
	}
	g.out.frames = nil
	defer func() {
		if len(out) == 0 { // as with a broadcast that is waited for elsewhere
			out = []verdict{{}}
		}
	}()
	g.delta = map[hnv.RDID]dataplane.TenantCounters{}
	for r, now := range g.counters() {
		g.delta[r] = plus(now, before[r], -1)
		for reason, n := range now.DropsByReason {
			for range n - before[r].DropsByReason[reason] {
				out = append(out, verdict{action: actionDrop, reason: reason, rdid: r})
			}
		}
	}
	return out
}

// counters are those of the Switch alone.
func (g *rig) counters() map[hnv.RDID]dataplane.TenantCounters {
	g.sw.Follow(nil)
	defer g.sw.Follow(g.m)
	out := map[hnv.RDID]dataplane.TenantCounters{}
	for _, c := range g.sw.Counters() {
		out[c.RDID] = c
	}
	return out
}

// plus adds, or with -1 takes away, what programs count too.
func plus(a, b dataplane.TenantCounters, sign int) (out dataplane.TenantCounters) {
	add := func(x, y uint64) uint64 { return uint64(int64(x) + int64(sign)*int64(y)) }
	sum := func(x, y dataplane.Traffic) dataplane.Traffic {
		return dataplane.Traffic{Packets: add(x.Packets, y.Packets), Bytes: add(x.Bytes, y.Bytes)}
	}
	out.FromFabric, out.ToFabric = sum(a.FromFabric, b.FromFabric), sum(a.ToFabric, b.ToFabric)
	out.FromPorts, out.ToPorts = sum(a.FromPorts, b.FromPorts), sum(a.ToPorts, b.ToPorts)
	out.Answered = add(a.Answered, b.Answered)
	out.LeftToStack = add(a.LeftToStack, b.LeftToStack)
	out.DropsByReason = maps.Clone(a.DropsByReason)
	if out.DropsByReason == nil {
		out.DropsByReason = map[drop.Reason]uint64{}
	}
	for r, n := range b.DropsByReason {
		out.DropsByReason[r] = add(out.DropsByReason[r], n)
	}
	maps.DeleteFunc(out.DropsByReason, func(_ drop.Reason, n uint64) bool { return n == 0 })
	return out
}

// count notes what the Switch counted of a packet that the programs took too.
func (g *rig) count(program verdict) {
	if program.action == actionPunt || program.action == actionPass {
		return
	}
	for r, c := range g.delta {
		g.counted[r] = plus(g.counted[r], c, 1)
	}
}

// checkCounters holds what the programs counted against that.
func (g *rig) checkCounters() {
	g.t.Helper()
	got := map[hnv.RDID]dataplane.TenantCounters{}
	packets := uint64(0)
	for _, c := range g.m.Counters() {
		got[c.RDID] = plus(c, dataplane.TenantCounters{}, 1)
		packets += c.FromFabric.Packets + c.FromPorts.Packets
	}
	if packets == 0 {
		g.t.Error("the programs counted nothing")
	}
	if diff := cmp.Diff(g.counted, got, cmpopts.EquateComparable(hnv.RDID{}, hnv.Name{})); diff != "" {
		g.t.Errorf("the programs do not count as the Switch does (-Switch +programs):\n%s", diff)
	}
}

// fromPort gives a frame of a port to both.
func (g *rig) fromPort(id dataplane.PortID, b []byte) (program, reference verdict, alone bool) {
	program = g.program(g.k.port, g.ports[id].Ifindex, b)
	all := g.reference(func(f *packet.Frame) {
		f.Set(b)
		g.worker.FromPort(id, []*packet.Frame{f})
	})
	g.count(program)
	return program, all[0], len(all) == 1
}

// fromFabric gives an outer packet to both.
func (g *rig) fromFabric(b []byte) (program, reference verdict, alone bool) {
	program = g.program(g.k.fabric, g.fabric.Index, append(ether(g.fabric, b), b...))
	all := g.reference(func(f *packet.Frame) {
		f.Set(b)
		g.worker.FromProvider([]*packet.Frame{f})
	})
	g.count(program)
	return program, all[0], len(all) == 1
}

const etherLen = 14

// ether is an Ethernet header for an outer packet to the interface.
func ether(to nl.Link, b []byte) []byte {
	proto := []byte{0x08, 0x00}
	if len(b) > 0 && b[0]>>4 == 6 {
		proto = []byte{0x86, 0xdd}
	}
	return slices.Concat(to.MAC[:], []byte{2, 0, 0, 0, 0, 9}, proto)
}

// runnable tells whether the kernel takes the frame for a test run.
func runnable(b []byte) bool {
	switch {
	case len(b) <= etherLen:
		return false
	case b[12] == 0x08 && b[13] == 0x00:
		return len(b) >= etherLen+20
	case b[12] == 0x86 && b[13] == 0xdd:
		return len(b) >= etherLen+40
	}
	return true
}

// heard tells whether the fabric's socket is given an outer packet: one to a PA of
// ours, and of GRE or UDP to VXLAN's port as far as can be seen.
func heard(b []byte, own []netip.Addr) bool {
	var dst netip.Addr
	var proto byte
	var l4 int
	switch {
	case len(b) < 20:
		return false
	case b[0]>>4 != 6:
		dst, proto, l4 = netip.AddrFrom4([4]byte(b[16:])), b[9], int(b[0]&15)*4
		if proto == 17 && (b[6]&0x1f|b[7] != 0 || l4 < 20) {
			return slices.Contains(own, dst)
		}
	case len(b) < 40:
		return false
	default:
		dst, proto, l4 = netip.AddrFrom16([16]byte(b[24:])), b[6], 40
	}
	return slices.Contains(own, dst) && (proto == 47 || proto == 17 && len(b) >= l4+4 && b[l4+2] == 4789>>8 && b[l4+3] == 4789&0xff)
}

// sameOuter compares outer packets. An outer UDP checksum over IPv6 is made of the
// inner one, so that it is wrong where that one is: this alone may differ.
func sameOuter(got, want, inner []byte) bool {
	const check = 40 + 6
	if len(got) == len(want) && len(got) > check+2 && got[0]>>4 == 6 && got[6] == 17 && !goodChecksum(inner) {
		got, want = slices.Clone(got), slices.Clone(want)
		clear(got[check : check+2])
		clear(want[check : check+2])
	}
	return bytes.Equal(got, want)
}

// goodChecksum tells whether the checksum of the frame's transport header is right.
func goodChecksum(b []byte) bool {
	var h packet.Headers
	if h.DecodeEthernet(b) != drop.None || h.Version == 0 {
		return true
	}
	m := b[h.L4 : h.L3+h.Length]
	if h.Proto == packet.ProtoICMP {
		return packet.Checksum(m, 0) == 0
	}
	return packet.Checksum(m, packet.PseudoSum(h.Src, h.Dst, h.Proto, len(m))) == 0
}

// agree tells whether the programs did what the Switch did, or left it to that
// one as it came.
func agree(got, want verdict, alone bool, in []byte, own []netip.Addr) bool {
	switch got.action {
	case actionPunt:
		return bytes.HasSuffix(got.bytes, in) && len(got.bytes) >= len(in)+etherLen
	case actionPass: // what the fabric's socket would not have been given either
		return want.action == actionDrop && !heard(in, own)
	case actionFabric:
		return alone && want.action == actionFabric && sameOuter(got.bytes[etherLen:], want.bytes, in)
	case actionPort:
		return alone && want.action == actionPort && got.out == want.out && bytes.Equal(got.bytes, want.bytes)
	}
	if got.reason == drop.NoPort && got.rdid == (hnv.RDID{}) { // the tables have no ports of subnets that are gone
		return want.action == 0 || alone && want.action == actionDrop && want.reason == drop.PortDown
	}
	return alone && want.action == actionDrop && got.reason == want.reason && got.rdid == want.rdid
}

// copy reads the kernel's tables.
func (g *rig) copy() *fakes {
	g.t.Helper()
	f, t := newFakes(), g.k.tables()
	fill(g.t, f.pas.m, t.pas)
	fill(g.t, f.vsids.m, t.vsids)
	fill(g.t, f.ports.m, t.ports)
	fill(g.t, f.stations.m, t.stations)
	fill(g.t, f.records.m, t.records)
	fill(g.t, f.hosts.m, t.hosts)
	fill(g.t, f.teams.m, t.teams)
	fill(g.t, f.routes.m, t.routes)
	fill(g.t, f.hopSets.m, t.hopSets)
	fill(g.t, f.settings.m, t.settings)
	fill(g.t, f.now.m, t.now)
	fill(g.t, f.buckets.m, t.buckets)
	fill(g.t, f.numbers.m, t.numbers)
	return f
}

func fill[K comparable, V any](t testing.TB, m map[K]V, from table[K, V]) {
	t.Helper()
	if err := from.all(func(k K, v V) bool {
		m[k] = v
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

// checkTables holds the kernel's tables against those of a mirror in memory that
// writes everything at once.
func (g *rig) checkTables() {
	g.t.Helper()
	anew := newFakes()
	m := newTestMirror(g.t, g.sw, anew)
	m.puntIndex, m.limits = g.m.puntIndex, g.m.limits
	g.world.fill(m)
	if diff := cmp.Diff(anew.text(), g.copy().text()); diff != "" {
		g.t.Fatalf("the kernel's tables are not what they should be (-should +are):\n%s", diff)
	}
}
