//go:build privileged && linux

package offload

import (
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
)

// rateRig has the example's tenants, of which the first one's stations talk.
type rateRig struct {
	*listRig
	x         example
	here, far vm // on this machine, and on another one
	beside    vm // on this one too
}

func newRateRig(t *testing.T) *rateRig {
	t.Helper()
	all := []example{examples[0], examples[1]}
	r := &rateRig{listRig: &listRig{exampleRig: newExampleRig(t, all, mtuHere), all: all}, x: all[0]}
	vms := r.x.vms(t)
	r.here, r.far = vms[5], vms[1]
	i := slices.IndexFunc(vms, func(v vm) bool { return v.host == 0 && v.kind == dataplane.PortVM && v.four != r.here.four })
	r.beside = vms[i]
	return r
}

func (r *rateRig) id(v vm) dataplane.PortID { return r.ids[r.x.portName(v)] }

func (r *rateRig) ifindex(v vm) int { return r.ports[r.id(v)].Ifindex }

// rate sets the port's rates.
func (r *rateRig) rate(v vm, in, out uint64) {
	r.t.Helper()
	must(r.t, r.sw.SetPort(r.id(v), hnv.Name{}, in, out))
}

// shared sets those of the tenant.
func (r *rateRig) shared(in, out uint64) {
	r.t.Helper()
	r.tenants[0].QoS = &hnv.QoS{InKbps: in, OutKbps: out}
	must(r.t, r.sw.Apply(*r.tenants[0]))
}

// entry gives the port's entry of rates, and its tenant's.
func (r *rateRig) entry(v vm) (own, tenant *rateValue) {
	r.t.Helper()
	p, ok, err := r.k.tables().ports.get(uint32(r.ifindex(v)))
	if err != nil || !ok || p.Rates == 0 {
		r.t.Fatalf("the port is %+v (%v, %v)", p, ok, err)
	}
	own = &r.k.rates.entries[p.Rates]
	if n := own.Next.Load(); n != 0 {
		tenant = &r.k.rates.entries[n]
	}
	return own, tenant
}

func ticksNow() int64 { return int64(fineClock()) * vfp.Ticks }

const hour = int64(3600 * 1e9 * vfp.Ticks)

// Whoever takes the packets of a port with rates drops the same ones, for the same
// reason, and a bucket that another one refuses beside is not charged.
func TestRatesAreTheSwitchs(t *testing.T) {
	r := newRateRig(t)
	c := newTally()
	const kbps = 1000
	refused := 0
	for n := range 64 { // a bit for each bucket that is empty
		r.rate(r.here, kbps, kbps)
		r.rate(r.beside, kbps, kbps)
		r.shared(kbps, kbps)
		here, tenant := r.entry(r.here)
		beside, _ := r.entry(r.beside)
		all := []*rateBucket{&here.Out, &here.In, &beside.Out, &beside.In, &tenant.Out, &tenant.In}
		fill := func() {
			for i, b := range all {
				if b.Due.Store(0); n>>i&1 != 0 {
					b.Due.Store(ticksNow() + hour)
				}
			}
		}
		for _, way := range [][2]vm{{r.here, r.far}, {r.far, r.here}, {r.here, r.beside}, {r.beside, r.here}} {
			for _, s := range []said{{layers.IPProtocolUDP, 4000, 5000, ""}, {layers.IPProtocolTCP, 4000, 80, "A"}, {layers.IPProtocolTCP, 4000, 80, "S"}} {
				fill()
				v := r.give(c, r.x, way[0], way[1], s, n%3 == 0)
				if v.action == actionPunt {
					t.Errorf("%s to %s, empty %06b: %s", way[0].four, way[1].four, n, v)
				}
				if v.action == actionDrop && v.reason == drop.RateExceeded {
					refused++
				}
				for i, b := range all {
					due := b.Due.Load()
					switch {
					case n>>i&1 != 0 && due < ticksNow()+hour/2:
						t.Errorf("%s to %s, empty %06b: bucket %d was given something", way[0].four, way[1].four, n, i)
					case v.action == actionDrop && i != 0 && i != 2 && n>>i&1 == 0 && due > ticksNow()+hour/2:
						t.Errorf("%s to %s, empty %06b: bucket %d was charged all the same", way[0].four, way[1].four, n, i)
					}
				}
			}
		}
	}
	r.checkCounters()
	c.check(t, 60, 40, 1)
	if refused < 300 {
		t.Errorf("%d packets were refused", refused)
	}
}

// What a packet costs is what package vfp says: with its frame's bytes, and of a
// super-packet with the headers that its packets will have, up to a full bucket.
func TestChargesAreTheSwitchs(t *testing.T) {
	r := newRateRig(t)
	// To another port of the machine: in a test run, no super-packet gets a tunnel.
	e := ends{smac: r.here.mac.Bytes(), dmac: routerMAC, src: netip.MustParseAddr(r.here.four), dst: netip.MustParseAddr(r.beside.four), ttl: 64}
	if r.here.vsid == r.beside.vsid {
		e.dmac = r.beside.mac.Bytes()
	}
	tcp := func(size int) []byte { return good(e, layers.IPProtocolTCP, size) }
	for _, kbps := range []uint64{1, 64, 999, 20_000, 1_000_000, 100_000_000} {
		r.rate(r.here, 0, kbps)
		own, _ := r.entry(r.here)
		per := own.Out.PerByte.Load()
		for _, p := range []struct {
			frame []byte
			gso   uint32
			bytes uint64
		}{
			{tcp(100), 0, 114}, {tcp(1400), 0, 1414}, {good(e, layers.IPProtocolUDP, 28), 0, 42},
			{tcp(3040), 1000, 3054 + 2*54}, {tcp(3041), 1000, 3055 + 3*54}, {tcp(1000), 1400, 1014}, {tcp(3000), 10, 3014 + 295*54},
			{tcp(3000), 1, vfp.MinBurst},
		} {
			own.Out.Ahead.Store(uint64(4 * hour * 1000))
			was := ticksNow() + hour
			own.Out.Due.Store(was)
			if v := r.merged(r.k.port, r.ifindex(r.here), p.frame, p.gso); v.action != actionPort {
				t.Fatalf("%d bytes: %s", len(p.frame), v)
			}
			hi, lo := bits.Mul64(p.bytes, per)
			lo, carry := bits.Add64(lo, 1<<(vfp.Fraction-1), 0)
			want := int64((hi+carry)<<(64-vfp.Fraction) | lo>>vfp.Fraction)
			if got := own.Out.Due.Load() - was; got != want {
				t.Errorf("%d kbit/s: %d bytes in packets of %d cost %d ticks, want %d", kbps, len(p.frame), p.gso, got, want)
			}
		}
		own.Out.Due.Store(0)
	}
}

// The programs and the Switch take out of one bucket, by one clock.
func TestOneBucketForBoth(t *testing.T) {
	r := newRateRig(t)
	r.rate(r.here, 0, 1)
	own, _ := r.entry(r.here)
	e := ends{smac: r.here.mac.Bytes(), dmac: routerMAC, src: netip.MustParseAddr(r.here.four), dst: netip.MustParseAddr(r.far.four), ttl: 64}
	if r.here.vsid == r.far.vsid {
		e.dmac = r.far.mac.Bytes()
	}
	b := good(e, layers.IPProtocolUDP, 1400)
	cost := int64(own.Out.PerByte.Load()*uint64(len(b))) >> vfp.Fraction // more than ten seconds
	program := func() bool { return r.program(r.k.port, r.ifindex(r.here), b).action == actionFabric }
	reference := func() bool {
		out := r.reference(func(f *packet.Frame) {
			f.Set(b)
			r.worker.FromPort(r.id(r.here), []*packet.Frame{f})
		})
		return out[0].action == actionFabric
	}
	for try := range 20 {
		began := ticksNow()
		own.Out.Due.Store(began + int64(own.Out.Ahead.Load()) - 4*cost - cost/2)
		got := []bool{program(), reference(), reference(), program(), program(), reference(), program()}
		if ticksNow()-began > cost/4 {
			t.Logf("try %d took too long to tell", try)
			continue
		}
		if want := []bool{true, true, true, true, false, false, false}; !slices.Equal(got, want) {
			t.Errorf("of packets to the programs and the Switch passed %v, want %v", got, want)
		}
		return
	}
	t.Error("the machine is too slow to tell")
}

// Together they let pass what the rate says, while both are offered more than that.
func TestRateOfBothAtOnce(t *testing.T) {
	r := newRateRig(t)
	const kbps = 8000
	r.rate(r.here, 0, kbps)
	own, _ := r.entry(r.here)
	e := ends{smac: r.here.mac.Bytes(), dmac: routerMAC, src: netip.MustParseAddr(r.here.four), dst: netip.MustParseAddr(r.far.four), ttl: 64}
	if r.here.vsid == r.far.vsid {
		e.dmac = r.far.mac.Bytes()
	}
	b := good(e, layers.IPProtocolUDP, 1000)
	passed := func() (n uint64) {
		for _, c := range r.sw.Counters() {
			n += c.ToFabric.Packets
		}
		return n
	}
	before := passed()
	own.Out.Due.Store(0)
	began := time.Now()
	deadline, wanted := began.Add(time.Minute), 4*uint64(vfp.MinBurst)
	var wg sync.WaitGroup
	done := func() bool { return uint64(len(b))*(passed()-before) > wanted || time.Now().After(deadline) }
	for range 2 {
		wg.Go(func() {
			if err := r.ns.Do(func() error {
				for !done() {
					for range 100 {
						if _, err := r.k.port.Run(&ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+256), Context: context{Ifindex: uint32(r.ifindex(r.here))}}); err != nil {
							return err
						}
					}
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		w := r.sw.NewWorker(nowhere{})
		wg.Go(func() {
			defer w.Close()
			f := packet.NewFrame(4096)
			for !done() {
				for range 100 {
					f.Reset()
					f.Set(b)
					w.FromPort(r.id(r.here), []*packet.Frame{f})
					w.Flush()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	got := float64(uint64(len(b)) * (passed() - before))
	if most := float64(vfp.MinBurst) + kbps*125*took.Seconds() + 8*float64(len(b)); got > most {
		t.Errorf("%.0f bytes passed in %s, and %.0f may", got, took, most)
	}
	if got < float64(wanted) {
		t.Errorf("%.0f bytes passed in %s: the bucket got stuck", got, took)
	}
}

// Packets that are forged cost nobody anything, and neither do those that user space
// charges; an entry that is another tenant's is left alone.
func TestForgedPacketsCostNothing(t *testing.T) {
	r := newRateRig(t)
	const kbps = 1000
	r.shared(kbps, kbps)
	r.rate(r.here, kbps, kbps)
	own, tenant := r.entry(r.here)
	untouched := func(what string, f func()) {
		t.Helper()
		words := []*rateBucket{&own.Out, &own.In, &tenant.Out, &tenant.In}
		was := ticksNow() + hour // so much that time does not count
		for _, w := range words {
			w.Ahead.Store(uint64(4 * hour))
			w.Due.Store(was)
		}
		f()
		for i, w := range words {
			if got := w.Due.Load(); got != was {
				t.Errorf("%s: bucket %d was charged %d ticks", what, i, got-was)
			}
		}
	}
	four := netip.MustParseAddr
	out := ends{smac: r.here.mac.Bytes(), dmac: routerMAC, src: four(r.here.four), dst: four(r.far.four), ttl: 64}
	for what, change := range map[string]func(e *ends){
		"another's CA":  func(e *ends) { e.src = four(r.beside.four) },
		"another's MAC": func(e *ends) { e.smac = r.beside.mac.Bytes() },
		"unknown CA":    func(e *ends) { e.src = four("10.1.1.250") },
		"TTL 1":         func(e *ends) { e.ttl = 1 },
		"no address":    func(e *ends) { e.dst = four("127.0.0.1") },
		"to the router": func(e *ends) { e.dst = four("10.1.1.1") },
	} {
		untouched(what, func() {
			e := out
			change(&e)
			v := r.program(r.k.port, r.ifindex(r.here), good(e, layers.IPProtocolUDP, 500))
			if v.action != actionDrop && v.action != actionPunt {
				t.Errorf("%s: %s", what, v)
			}
		})
	}
	in := ends{smac: routerMAC, dmac: r.here.mac.Bytes(), src: four(r.far.four), dst: four(r.here.four), ttl: 64}
	for what, o := range map[string]outer{
		"another host's PA": {src: netip.MustParseAddr("192.168.9.9"), dst: r.x.paOf(0), vsid: r.here.vsid},
		"our own PA":        {src: r.x.paOf(0), dst: r.x.paOf(0), vsid: r.here.vsid},
		"another encap":     {src: r.x.paOf(r.far.host), dst: r.x.paOf(0), vsid: r.here.vsid, vxlan: r.x.encap != hnv.VXLAN},
	} {
		untouched(what, func() {
			b := wrap(o, good(in, layers.IPProtocolUDP, 500))
			if v := r.program(r.k.fabric, r.fabric.Index, append(ether(r.fabric, b), b...)); v.action == actionPort {
				t.Errorf("%s: %s", what, v)
			}
		})
	}
	untouched("an entry of another tenant", func() {
		table := r.k.tables().ports
		p, _, err := table.get(uint32(r.ifindex(r.here)))
		must(t, err)
		theirs := p
		theirs.Tenant++
		must(t, put(table, p.Ifindex, theirs))
		_ = r.program(r.k.port, r.ifindex(r.here), good(out, layers.IPProtocolUDP, 500))
		must(t, put(table, p.Ifindex, p))
		own.Tenant.Add(1)
		if v := r.program(r.k.port, r.ifindex(r.here), good(out, layers.IPProtocolUDP, 500)); v.action != actionPunt || v.why != WhyPolicy {
			t.Errorf("by an entry of another tenant: %s", v)
		}
		own.Tenant.Add(^uint32(0))
	})
}

// flood has the compartment send datagrams for longer than they may pass, and checks
// that no more of them arrive than the rate lets.
func flood(t *testing.T, s *site, kbps int) {
	t.Helper()
	const size, want = 1000, 4 << 20 / 10
	var in net.PacketConn
	must(t, netns.Do(netns.Path(s.vm), func() (err error) {
		in, err = net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(s.hostVM.four), 5003).String())
		return err
	}))
	defer in.Close()
	var out net.Conn
	must(t, netns.Do(netns.Path(s.comp), func() (err error) {
		out, err = net.Dial("udp", in.LocalAddr().String())
		return err
	}))
	var done atomic.Bool
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		for b := make([]byte, size); !done.Load(); {
			for range 20 {
				_, _ = out.Write(b)
			}
			time.Sleep(time.Millisecond)
		}
	})
	must(t, in.SetReadDeadline(time.Now().Add(2*time.Minute)))
	got, b := 0, make([]byte, 2*size)
	var err error
	for n := 0; got < want && err == nil; got += n {
		n, _, err = in.ReadFrom(b)
	}
	took := time.Since(began)
	done.Store(true)
	wg.Wait()
	out.Close()
	if most := vfp.MinBurst + float64(kbps)*125*took.Seconds(); err != nil || float64(got) > most {
		t.Errorf("by UDP: %d bytes in %s, and %.0f may: %v", got, took, most, err)
	}
}

// Real packets of a port with rates stay in the kernel, at no more than the rates,
// each way, TCP and UDP.
func TestRatedPortStaysInTheKernel(t *testing.T) {
	for _, e := range []example{examples[0], examples[1]} {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			s.gw.serve()
			const kbps, size = 40_000, 1 << 20
			must(t, s.gw.sw.SetPort(s.port, hnv.Name{}, kbps, kbps))
			punts := func() uint64 {
				st, err := s.gw.f.Status()
				must(t, err)
				return st.Punts[WhyPolicy] + st.Punts[WhySlow]
			}
			before := punts()
			least := time.Duration(float64(size-vfp.MinBurst) / (kbps * 125) * 1e9)
			for what, f := range map[string]func(){
				"in":         func() { transfer(t, s.vm, s.comp, s.compVM.four, size) },
				"out":        func() { transfer(t, s.comp, s.vm, s.hostVM.four, size) },
				"in, IPv6":   func() { transfer(t, s.vm, s.comp, s.compVM.six, size) },
				"out by UDP": func() { flood(t, s, kbps) },
			} {
				began := time.Now()
				f()
				took := time.Since(began)
				t.Logf("%s took %s", what, took)
				if took < least && what != "out by UDP" {
					t.Errorf("%s: it took %s, and at the rate at least %s", what, took, least)
				}
			}
			if n := punts() - before; n != 0 {
				t.Errorf("%d packets went through user space", n)
			}
			refused := uint64(0)
			for _, c := range s.gw.sw.Counters() {
				if n := c.DropsByReason[drop.RateExceeded]; n > 0 && c.RDID != s.c.RDID {
					t.Errorf("%d packets of %s were refused", n, c.RDID)
				}
				refused += c.DropsByReason[drop.RateExceeded]
			}
			if refused == 0 {
				t.Error("nothing was refused")
			}
			// Without rates it takes what it takes, and nothing is refused.
			must(t, s.gw.sw.SetPort(s.port, hnv.Name{}, 0, 0))
			transfer(t, s.vm, s.comp, s.compVM.four, size)
			for _, c := range s.gw.sw.Counters() {
				refused -= c.DropsByReason[drop.RateExceeded]
			}
			if refused != 0 {
				t.Error("packets were refused without rates")
			}
		})
	}
}

// The next process has the buckets as they were.
func TestRatesAreAdopted(t *testing.T) {
	s := newFabric(t, examples[0], false)
	s.gw.inKbps = 1 // 8 ms for a byte
	s.c.QoS = &hnv.QoS{OutKbps: 1}
	s.gw.start(s.c)
	s.port = s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
	must(t, s.gw.f.Settle())
	due := func() (out []int64) {
		for i := range s.gw.f.k.rates.entries {
			if e := &s.gw.f.k.rates.entries[i]; e.Tenant.Load() != 0 {
				out = append(out, e.Out.Due.Load(), e.In.Due.Load())
			}
		}
		return out
	}
	run(t, s.vm, "ping -c 3 -s 1000 -i 0.01 -W 20 %s", s.compVM.four)
	before := due()
	if len(before) != 4 || slices.Max(before) < ticksNow() {
		t.Fatalf("the buckets are at %v", before)
	}
	s.gw.start(s.c)
	s.port = s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
	must(t, s.gw.f.Settle())
	if after := due(); !slices.Equal(before, after) {
		t.Errorf("the buckets were at %v, and are at %v", before, after)
	}
	out := run(t, s.vm, "ping -c 1 -s 1000 -W 20 %s", s.compVM.four)
	if after := due(); slices.Equal(before, after) || !strings.Contains(out, "1 received") {
		t.Errorf("the buckets are at %v, as before: %s", after, out)
	}
}

// The cost of a rate to a packet that a port sends to another one of the machine, in
// the best of some runs: for people, who ask for it by -v. All packets pass.
func TestCostOfRates(t *testing.T) {
	r := newRateRig(t)
	e := ends{smac: r.here.mac.Bytes(), dmac: r.beside.mac.Bytes(), src: netip.MustParseAddr(r.here.four), dst: netip.MustParseAddr(r.beside.four), ttl: 64}
	b := good(e, layers.IPProtocolUDP, 64)
	const repeat, redirected = 1000, 7 // TC_ACT_REDIRECT
	cost := func() time.Duration {
		best := time.Hour
		must(t, r.ns.Do(func() error {
			for range 25 {
				began := time.Now()
				got, err := r.k.port.Run(&ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+256), Context: context{Ifindex: uint32(r.ifindex(r.here))}, Repeat: repeat})
				if err != nil {
					return err
				}
				if got != redirected {
					t.Errorf("the packet does not pass: %d", got)
				}
				best = min(best, time.Since(began)/repeat)
			}
			return nil
		}))
		return best
	}
	none := cost()
	r.rate(r.here, 0, 1e9)
	port := cost()
	r.shared(0, 1e9)
	t.Logf("a packet takes %s, with a rate of the port %s, and with one of the tenant too %s", none, port, cost())
}
