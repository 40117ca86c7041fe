package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// guarded is a port's Writer that looks whose packets it gets.
type guarded struct {
	t      *testing.T
	tenant string
	got    atomic.Int64
}

func (g *guarded) WriteBatch(frames []*packet.Frame) (int, error) {
	g.got.Add(int64(len(frames)))
	for _, f := range frames {
		if b := f.Bytes(); !strings.Contains(string(b), "belongs to "+g.tenant) {
			g.t.Errorf("a port of %s got %x", g.tenant, b)
		}
	}
	return len(frames), nil
}

// sink is the fabric: it takes everything, from anyone.
type sink struct{}

func (sink) WriteBatch(frames []*packet.Frame) (int, error) { return len(frames), nil }

// TestConcurrentChanges lets workers run while tenants, records, ports and PAs
// change under their hands: no race, and no packet at another tenant's port.
func TestConcurrentChanges(t *testing.T) {
	const rounds = 300
	sw := New(Options{})
	provider := Provider{Addrs: []netip.Addr{ip(paGate), ip(paHost1)}, MTU: 1500}
	sw.SetProvider(provider)
	names := []string{"contoso", "fabrikam"}
	var tenants []Tenant
	for i, name := range names {
		tenants = append(tenants, tenantConfig(name, uint32(5000+1000*i), hnv.NVGRE))
		if err := sw.Apply(tenants[i]); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var changes, workers sync.WaitGroup
	var ears []*guarded
	until := func(f func(r *rand.Rand)) {
		changes.Go(func() {
			r := rand.New(rand.NewPCG(1, 2))
			for range rounds {
				f(r)
			}
		})
	}
	for i := range tenants {
		base, c := uint32(5000+1000*i), tenants[i]
		g := &guarded{t: t, tenant: names[i]}
		ears = append(ears, g)
		if _, err := sw.AddPort(PortSpec{VSID: mustVSID(base), MAC: hnv.CompartmentMAC(mustVSID(base)), Kind: PortCompartment}, g); err != nil {
			t.Fatal(err)
		}
		until(func(r *rand.Rand) {
			switch r.IntN(8) {
			case 0:
				sw.Remove(c.RDID)
			default:
				if err := sw.Apply(c); err != nil {
					t.Error(err)
				}
			}
		})
		until(func(r *rand.Rand) {
			pa := []string{paHost1, paHost2}[r.IntN(2)]
			put := []hnv.Record{record(base+1, "10.1.1.11", mac11, pa, hnv.RuleNVGRE)}
			del := []hnv.RecordKey{record(base+1, "10.1.1.13", mac13, pa, hnv.RuleNVGRE).RecordKey()}
			_ = sw.UpdateRecords(c.RDID, put, del) // the tenant may be away
		})
		until(func(*rand.Rand) {
			id, err := sw.AddPort(PortSpec{VSID: mustVSID(base + 1), MAC: mac11, Kind: PortVM}, g)
			if err != nil {
				return
			}
			frames := []*packet.Frame{packet.NewFrame(2048)}
			w := sw.NewWorker(sink{})
			defer w.Close()
			for range 20 {
				frames[0].Set(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "belongs to "+names[i]))
				w.FromPort(id, frames)
				w.Flush()
			}
			sw.RemovePort(id)
		})
		for n := range 2 {
			workers.Go(func() {
				w := sw.NewWorker(sink{})
				defer w.Close()
				gw := hnv.CompartmentMAC(mustVSID(base))
				payload := "belongs to " + names[i]
				good := [][]byte{
					outerPacket(hnv.NVGRE, paHost2, paGate, base, udp(hnv.RouterMAC, gw, "10.1.1.11", "203.0.113.5", payload)),
					outerPacket(hnv.NVGRE, paHost2, paGate, base, udp(hnv.RouterMAC, gw, "10.1.1.12", "203.0.113.5", payload)),
					outerPacket(hnv.NVGRE, paHost2, paHost1, base+1, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", payload)),
				}
				frames := []*packet.Frame{packet.NewFrame(2048), packet.NewFrame(2048), packet.NewFrame(2048)}
				for {
					select {
					case <-stop:
						return
					default:
					}
					for j, f := range frames {
						f.Set(good[(j+n)%3])
					}
					w.FromProvider(frames)
					w.Flush()
				}
			})
		}
	}
	until(func(r *rand.Rand) {
		p := provider
		p.MTU = 1400 + r.IntN(200)
		sw.SetProvider(p)
		_ = sw.Snapshot()
		for _, c := range sw.Counters() {
			_ = c.Drops()
		}
	})
	changes.Wait()
	close(stop)
	workers.Wait()
	for _, c := range tenants {
		if err := sw.Apply(c); err != nil {
			t.Error(err)
		}
	}
	for _, g := range ears {
		if g.got.Load() == 0 {
			t.Errorf("no packet reached a port of %s", g.tenant)
		}
	}
}
