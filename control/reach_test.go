package control

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// The addresses of a host that has several are asked; one that ceases to answer
// is passed over until it answers again, and one that never did is left alone.
func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		v, _ := hnv.NewVSID(5001)
		name, _ := hnv.ParseName("contoso")
		mac, _ := hnv.ParseMAC("00:15:5d:00:00:01")
		a, b, plain := netip.MustParseAddr("192.168.1.20"), netip.MustParseAddr("192.168.1.21"), netip.MustParseAddr("192.168.1.30")
		rec := func(ca string, pa netip.Addr, team ...netip.Addr) hnv.Change {
			return hnv.Change{Put: hnv.Record{VSID: v, CA: netip.MustParseAddr(ca), MAC: mac, PA: pa, TeamPAs: team, Rule: hnv.RuleNVGRE, Type: hnv.Static}}
		}
		m.change(
			hnv.Change{Put: hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.10/24"), Interface: "pa0"}},
			hnv.Change{Put: hnv.Tenant{Name: name, Encap: hnv.NVGRE, Subnets: []hnv.Subnet{{VSID: v, Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix("10.1.1.0/24")}}}}}},
			rec("10.1.1.20", a, b), rec("10.1.1.30", plain),
		)
		e := newEngines()
		e.silent = map[netip.Addr]bool{b: true, plain: true}
		c := New(Options{Store: m, Compartments: fakeCompartments{e}, Wiring: fakeWiring{e}, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { newReach(c).run(ctx); close(done) }()
		step := func(what string, silent []netip.Addr, d time.Duration, want ...netip.Addr) {
			e.mu.Lock()
			e.silent = map[netip.Addr]bool{plain: true}
			for _, s := range silent {
				e.silent[s] = true
			}
			e.mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			if !slices.Equal(e.away, want) {
				t.Errorf("%s: %v are passed over, want %v", what, e.away, want)
			}
		}
		step("one never answered", []netip.Addr{b}, 20*time.Second)
		step("all answer", nil, 5*time.Second)
		step("one is lost", []netip.Addr{b}, 10*time.Second, b)
		step("both are lost", []netip.Addr{a, b}, 10*time.Second, a, b)
		step("one is back", []netip.Addr{a}, 5*time.Second, a)
		m.change(hnv.Change{Delete: hnv.Record{VSID: v, CA: netip.MustParseAddr("10.1.1.20")}})
		step("no record names them", []netip.Addr{a}, 10*time.Second)
		stop()
		<-done
	})
}
