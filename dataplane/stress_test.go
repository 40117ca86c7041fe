package dataplane

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// owned is a port's Writer, or the fabric's, that looks whose packets it gets:
// what says nothing of that is ARP, neighbor discovery and echoes.
type owned struct {
	t      *testing.T
	tenant string // empty: the fabric
	got    atomic.Int64
}

func (o *owned) WriteBatch(frames []*packet.Frame) (int, error) {
	for _, f := range frames {
		b := f.Bytes()
		if o.tenant == "" {
			o.checkOuter(b)
			continue
		}
		var h packet.Headers
		switch {
		case h.DecodeEthernet(b) != drop.None:
			o.t.Errorf("a port of %s got %x", o.tenant, b)
		case h.Version == 0 || h.IsND() || h.IsEchoRequest() || h.IsEchoReply():
		case !strings.Contains(string(b), "belongs to "+o.tenant):
			o.t.Errorf("a port of %s got %x", o.tenant, b)
		default:
			o.got.Add(1)
		}
	}
	return len(frames), nil
}

// checkOuter holds what is said inside a tunnel packet against its VSID.
func (o *owned) checkOuter(b []byte) {
	vsid := vsidOf(b)
	for tenant, base := range map[string]uint32{"contoso": 5000, "fabrikam": 6000} {
		if strings.Contains(string(b), "belongs to "+tenant) && (vsid < base || vsid > base+2) {
			o.t.Errorf("a packet of %s goes out with VSID %d", tenant, vsid)
		}
	}
}

// TestConcurrentEverything lets all that a Switch can do happen at the same time
// in two tenants with the same addresses: nothing races, and nothing that belongs
// to one is seen by the other.
func TestConcurrentEverything(t *testing.T) {
	const rounds = 40
	var sw *Switch
	sw = New(Options{FlowsPerPort: 64, OnLearn: func(e LearnEvent) {
		if e.Kind == Learned || e.Kind == LearnedMove {
			_ = sw.UpdateRecords(e.RDID, []hnv.Record{e.Record}, nil)
		}
	}})
	fabric := &owned{t: t}
	sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paGate), ip(paHost1)}, MTU: 1500})
	stop := make(chan struct{})
	var changes, workers sync.WaitGroup
	until := func(f func(r *rand.Rand)) {
		changes.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 2))
			for range rounds {
				f(r)
			}
		})
	}
	always := func(f func(r *rand.Rand)) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 3))
			for {
				select {
				case <-stop:
					return
				default:
					f(r)
				}
			}
		})
	}
	var ears []*owned
	for i, name := range []string{"contoso", "fabrikam"} {
		base := uint32(5000 + 1000*i)
		c := tenantConfig(name, base, hnv.NVGRE)
		c.ACLs = []hnv.ACL{outOnly(), acl("open", hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Allow}, hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow})}
		c.Subnets[1].Learning = &hnv.Learning{}
		c.Records = append(c.Records, hnv.Record{VSID: mustVSID(base + 1), MAC: mac14, PA: ip(paHost1), Rule: hnv.RuleNVGRE, Type: hnv.L2Only})
		if err := sw.Apply(c); err != nil {
			t.Fatal(err)
		}
		pool, err := vfp.NewNATPool(vfp.NATPoolOptions{Addrs: []netip.Addr{ip("10.1.1.200")}, Max: 16})
		if err != nil {
			t.Fatal(err)
		}
		ear := &owned{t: t, tenant: name}
		ears = append(ears, ear)
		plug := func(v uint32, mac hnv.MAC, kind PortKind) PortID {
			id, err := sw.AddPort(PortSpec{Name: name + mac.String(), VSID: mustVSID(v), MAC: mac, Kind: kind}, ear)
			if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
			return id
		}
		gwMAC := hnv.CompartmentMAC(mustVSID(base))
		gwID := plug(base, gwMAC, PortCompartment)
		vmID, stationID := plug(base+1, mac13, PortVM), plug(base+1, mac14, PortVM)
		payload := "belongs to " + name

		until(func(r *rand.Rand) { // the whole state
			next := c
			next.Records = slices.Clone(c.Records)
			switch r.IntN(10) {
			case 0:
				sw.Remove(c.RDID)
				return
			case 1: // without a subnet
				next.Subnets = next.Subnets[:2]
				next.Records = slices.DeleteFunc(next.Records, func(r hnv.Record) bool { return r.VSID == mustVSID(base+2) })
			case 2, 3: // another list
				next.Subnets = slices.Clone(next.Subnets)
				next.Subnets[1].ACL = mustName([]string{"out-only", "open"}[r.IntN(2)])
			case 4: // what is refused
				next.Records = append(next.Records, record(11000-base+1, "10.1.1.99", mac12, paHost2, hnv.RuleNVGRE))
				if sw.Apply(next) == nil {
					t.Error("a record in another tenant's VSID is taken")
				}
				return
			}
			if err := sw.Apply(next); err != nil {
				t.Error(err)
			}
		})
		until(func(r *rand.Rand) { // records that move, go and come, to other MACs too
			rec := record(base+1, "10.1.1.12", []hnv.MAC{mac12, mac13}[r.IntN(2)], []string{paHost1, paHost2, "192.168.2.11"}[r.IntN(3)], hnv.RuleNVGRE)
			if r.IntN(3) == 0 {
				rec.TeamPAs = []netip.Addr{ip("192.168.7.7")}
			}
			_ = sw.UpdateRecords(c.RDID, []hnv.Record{rec}, nil)
			_ = sw.UpdateRecords(c.RDID, nil, []hnv.RecordKey{record(base+1, "fd00:1::12", mac12, paHost2, hnv.RuleNVGRE).RecordKey()})
		})
		until(func(r *rand.Rand) { // a port that is plugged in with one MAC and then another
			v, mac, ca := base+1, mac11, "10.1.1.11"
			if r.IntN(2) == 0 {
				v, mac, ca = base+2, mac21, "10.1.2.11"
			}
			id := plug(v, mac, PortVM)
			w := sw.NewWorker(fabric)
			defer w.Close()
			f := []*packet.Frame{packet.NewFrame(2048)}
			for i := range 10 {
				f[0].Set(ipFrame(mac, hnv.RouterMAC, ca, "203.0.113.5", 64, udpPorts(layers.UDPPort(r.IntN(99)), 53), payload))
				w.FromPort(id, f)
				if i == 5 {
					sw.RemovePort(id)
				}
			}
		})
		until(func(r *rand.Rand) { // what a port may do, and what happens to its packets
			_ = sw.SetPort(vmID, []hnv.Name{{}, mustName("open"), mustName("out-only")}[r.IntN(3)], uint64(r.IntN(2)*1e6), uint64(r.IntN(2)*1e6))
			var custom []vfp.Layer
			if r.IntN(2) == 0 {
				custom = []vfp.Layer{{Name: "nat", Priority: 300, Groups: []vfp.Group{{Name: "nat", Priority: 1, Direction: vfp.Outbound, Family: vfp.IPv4, Rules: []vfp.Rule{
					{ID: "web", Match: vfp.Match{Proto: &[]uint8{6}[0]}, Action: vfp.Action{Kind: vfp.Rewrite, Pool: pool}},
				}}}}}
			}
			_ = sw.SetLayers(vmID, custom)
		})
		until(func(r *rand.Rand) { // who looks on
			p := PingQuery{VSID: mustVSID(base + 1), SrcCA: ip("10.1.1.13"), DstCA: ip([]string{"10.1.1.1", "10.1.1.14", "10.254.254.2"}[r.IntN(3)]), Timeout: time.Millisecond}
			_, _ = sw.Ping(context.Background(), p, fabric)
			tr, err := sw.Trace(TraceQuery{Port: name + mac13.String(), Frame: udp(mac13, mac12, "10.1.1.13", "10.1.1.12", payload)})
			if err == nil && tr.RDID != c.RDID {
				t.Errorf("a trace of %s is of %s", name, tr.RDID)
			}
			in, err := sw.Inspect(name+mac13.String(), 10, netip.Prefix{})
			if err == nil && in.Spec.RDID != c.RDID {
				t.Errorf("an inspection of %s is of %s", name, in.Spec.RDID)
			}
			_, _ = sw.NextHop(NextHopQuery{VSID: mustVSID(base + 1), SrcCA: ip("10.1.1.13"), DstCA: ip("10.1.2.11")})
			_ = sw.LayerCounters(c.RDID)
			s, err := capture.NewSession(io.Discard, capture.Options{Filter: capture.Filter{Tenant: c.RDID}})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
			defer cancel()
			_ = sw.Tap().Run(ctx, s)
		})
		for _, sends := range []struct {
			id     PortID
			frames [][]byte
		}{
			{vmID, [][]byte{
				udp(mac13, mac12, "10.1.1.13", "10.1.1.12", payload),
				udp(mac13, mac14, "10.1.1.13", "10.1.1.60", payload),
				udp(mac13, hnv.RouterMAC, "fd00:1::13", "2001:db8::5", payload),
				udp(mac13, macBroadcast, "10.1.1.13", "255.255.255.255", payload),
				ipFrame(mac13, hnv.RouterMAC, "10.1.1.13", "203.0.113.5", 64, &layers.TCP{SrcPort: 5, DstPort: 6, SYN: true}, payload),
				ipFrame(mac13, hnv.RouterMAC, "10.1.1.13", "203.0.113.5", 1, udpPorts(5, 6), payload),
				arpFrame(1, mac13, macBroadcast, mac13, "10.1.1.13", "10.1.1.60"),
			}},
			{stationID, [][]byte{
				announce(mac14, "10.1.1.60"),
				dhcp(layers.DHCPMsgTypeRelease, mac14, mac12, "10.1.1.60", "10.1.1.12", mac14, "0.0.0.0", "10.1.1.60", 0),
				udp(mac14, mac13, "10.1.1.60", "10.1.1.13", payload),
			}},
			{gwID, [][]byte{
				udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.13", payload),
				udp(gwMAC, hnv.RouterMAC, "2001:db8::5", "fd00:1::13", payload),
			}},
		} {
			always(func(r *rand.Rand) {
				w := sw.NewWorker(fabric)
				defer w.Close()
				frames := []*packet.Frame{packet.NewFrame(2048), packet.NewFrame(2048)}
				for range 50 {
					for _, f := range frames {
						f.Set(sends.frames[r.IntN(len(sends.frames))])
					}
					w.FromPort(sends.id, frames)
					w.Flush()
				}
			})
		}
		always(func(r *rand.Rand) {
			w := sw.NewWorker(fabric)
			defer w.Close()
			f := []*packet.Frame{packet.NewFrame(2048)}
			for range 50 {
				// By chance with the other tenant's VSID, and so that tenant's.
				v, whose := base+1, payload
				if r.IntN(4) == 0 {
					v, whose = 11000-base+1, "belongs to "+[]string{"fabrikam", "contoso"}[i]
				}
				inner := [][]byte{
					udp(mac12, mac13, "10.1.1.12", "10.1.1.13", whose),
					udp(mac12, mac14, "10.1.1.12", "10.1.1.60", whose),
					udp(mac12, macBroadcast, "10.1.1.12", "10.1.1.255", whose),
					arpFrame(1, mac12, macBroadcast, mac12, "10.1.1.12", "10.1.1.60"),
				}[r.IntN(4)]
				f[0].Set(outerPacket(hnv.NVGRE, []string{paHost2, "192.168.7.7"}[r.IntN(2)], paHost1, v, inner))
				w.FromProvider(f)
				w.Flush()
			}
		})
	}
	always(func(*rand.Rand) { sw.Upkeep() })
	changes.Wait()
	close(stop)
	workers.Wait()
	for _, e := range ears {
		if e.got.Load() == 0 {
			t.Errorf("nothing reached a port of %s", e.tenant)
		}
	}
}
