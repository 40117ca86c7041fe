package offload

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/hnv"
)

// clone copies tables.
func (f *fakes) clone() *fakes {
	c := newFakes()
	c.pas.m, c.vsids.m, c.ports.m, c.stations.m = maps.Clone(f.pas.m), maps.Clone(f.vsids.m), maps.Clone(f.ports.m), maps.Clone(f.stations.m)
	c.records.m, c.hosts.m, c.teams.m, c.routes.m = maps.Clone(f.records.m), maps.Clone(f.hosts.m), maps.Clone(f.teams.m), maps.Clone(f.routes.m)
	c.hopSets.m, c.settings.m, c.now.m, c.buckets.m = maps.Clone(f.hopSets.m), maps.Clone(f.settings.m), maps.Clone(f.now.m), maps.Clone(f.buckets.m)
	c.numbers.m = maps.Clone(f.numbers.m)
	return c
}

// steady runs the change, and fails if at any moment of it a packet whose way is
// the same before and after goes another way, or nowhere.
func steady(t *testing.T, w *world, f *fakes, change func() string) {
	t.Helper()
	before := f.clone()
	probes := w.flows(f, 200)
	var moments []*fakes
	f.watch = func() { moments = append(moments, f.clone()) }
	what := change()
	f.watch = nil
	probes = append(probes, w.flows(f, 50)...)
	if len(moments) > 60 { // enough of them
		moments = slices.DeleteFunc(moments, func(*fakes) bool { return len(moments) > 60 && w.r.IntN(len(moments)) > 60 })
	}
	for _, p := range probes {
		was, is := before.decide(p), f.decide(p)
		if was != is || was.what != "port" && was.what != "fabric" {
			continue
		}
		for i, moment := range moments {
			if now := moment.decide(p); now != is && now != punt("slow") {
				t.Fatalf("%s: after write %d of %d a packet goes astray: %+v\nits way is %+v\nand was %+v", what, i+1, len(moments), p, is, now)
			}
		}
	}
}

// Whatever changes in whatever order, the tables end up as if they had been
// written at once, and no packet whose way stays the same is lost meanwhile.
func TestMirrorFollowsTheSwitch(t *testing.T) {
	passed := 0
	for seed := range uint64(60) {
		w := newWorld(t, seed)
		f := newFakes()
		w.m = newTestMirror(t, w.sw, f)
		w.sw.Follow(w.m)
		w.provider()
		for range 60 {
			steady(t, w, f, w.change)
			for _, p := range w.flows(f, 40) {
				if d := f.decide(p); d.what == "port" || d.what == "fabric" {
					passed++
				}
			}
			compareAnew(t, w, f)
		}
	}
	if passed < 3000 {
		t.Errorf("only %d packets had a way: the test tests little", passed)
	}
	t.Logf("%d packets had a way", passed)
}

// compareAnew holds the tables against those that are written at once.
func compareAnew(t *testing.T, w *world, f *fakes) {
	t.Helper()
	anew := newFakes()
	m := newTestMirror(t, w.sw, anew)
	w.fill(m)
	if diff := cmp.Diff(anew.text(), f.text()); diff != "" {
		t.Fatalf("the tables are not what they would be if written at once (-at once +by and by):\n%s", diff)
	}
}

// fill tells a mirror everything, as a new process does.
func (w *world) fill(m *mirror) {
	fab := Fabric{}
	for _, a := range w.own {
		fab.Tunnel = append(fab.Tunnel, PA{a, w.fabric})
	}
	m.SetFabric(fab)
	m.ProviderChanged()
	for _, r := range w.rdids {
		m.TenantChanged(r)
	}
	for id, l := range w.ports {
		if err := m.Plug(id, l); err != nil {
			w.t.Fatal(err)
		}
	}
}

// The next process takes the tables over: what it is told of goes on all the time,
// and once it has settled, what it was not told of is gone.
func TestMirrorAdopts(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(t, 1000+seed)
		f := newFakes()
		w.m = newTestMirror(t, w.sw, f)
		w.sw.Follow(w.m)
		w.provider()
		for range 25 {
			w.change()
		}
		numbers, subnets := maps.Clone(f.numbers.m), maps.Clone(f.vsids.m)
		// While nobody looks, some things change.
		w.sw.Follow(nil)
		dead := w.m
		w.m = newTestMirror(t, w.sw, newFakes())
		for range 4 {
			w.change()
		}
		steady(t, w, f, func() string {
			w.m = newTestMirror(t, w.sw, f)
			w.fill(w.m)
			if err := w.m.Settle(); err != nil {
				t.Fatal(err)
			}
			return "adoption"
		})
		compareAnew(t, w, f)
		for r, n := range f.numbers.m {
			if was, had := numbers[r]; had && r != (rdid{}) && was != n {
				t.Fatalf("tenant %x was number %d and is %d", r, was, n)
			}
		}
		for v, is := range f.vsids.m {
			if was, had := subnets[v]; had && was.Slot != is.Slot {
				t.Fatalf("VSID %d counted in place %d and does in %d", v, was.Slot, is.Slot)
			}
		}
		if f.numbers.m[rdid{}] < numbers[rdid{}] {
			t.Fatal("a tenant's number may be given out again")
		}
		_ = dead
		w.sw.Follow(w.m)
		for range 10 {
			steady(t, w, f, w.change)
			compareAnew(t, w, f)
		}
	}
}

// oneTenant gives a world that is mirrored, with the shape of a tenant that has
// subnets and no routes.
func oneTenant(t *testing.T, seed uint64) (*world, *fakes, *dataplane.Tenant) {
	t.Helper()
	w, f := newWorld(t, seed), newFakes()
	w.m = newTestMirror(t, w.sw, f)
	w.sw.Follow(w.m)
	w.provider()
	c := w.shape(0)
	for len(c.Subnets) == 0 {
		c = w.shape(0)
	}
	w.tenants[0], c.Routes = c, nil
	return w, f, c
}

// Of routes that go, the shortest goes first: else what a longer one led would be
// found by the shorter one meanwhile.
func TestShortestRouteGoesFirst(t *testing.T) {
	w, f, c := oneTenant(t, 5)
	prefixes := []string{"0.0.0.0/0", "8.0.0.0/8", "8.8.0.0/16", "8.8.8.0/24"}
	for _, p := range prefixes {
		c.Routes = append(c.Routes, hnv.CustomerRoute{
			RDID: c.RDID, VSID: c.Subnets[0].VSID, Prefix: netip.MustParsePrefix(p), NextHop: w.station(c.Subnets[0], false, 5),
		})
	}
	w.apply(0)
	number, seen := w.m.tenants[c.RDID].number, 0
	gone := func(p string) bool {
		_, there := f.routes.m[routeKeyOf(number, netip.MustParsePrefix(p))]
		return !there
	}
	f.watch = func() {
		for i := range prefixes[1:] {
			if shorter, longer := prefixes[i], prefixes[i+1]; gone(longer) && !gone(shorter) {
				t.Errorf("%s is gone before %s", longer, shorter)
			}
		}
		seen++
	}
	c.Routes = nil
	w.apply(0)
	if seen < len(prefixes) || slices.ContainsFunc(prefixes, func(p string) bool { return !gone(p) }) {
		t.Errorf("%d writes took out too few routes", seen)
	}
}

// A tenant that does not fit stays with user space as a whole, and comes back once
// it does; others do not notice.
func TestTenantThatDoesNotFitGoesThroughUserSpace(t *testing.T) {
	w := newWorld(t, 7)
	f := newFakes()
	w.m = newTestMirror(t, w.sw, f)
	w.sw.Follow(w.m)
	w.provider()
	for i := range w.tenants {
		w.tenants[i] = w.shape(i)
		for len(w.tenants[i].Subnets) < 2 {
			w.tenants[i] = w.shape(i)
		}
		for range 12 {
			if rec, ok := w.record(w.tenants[i]); ok {
				w.tenants[i].Records = keep(w.tenants[i].Records, rec)
			}
		}
	}
	w.apply(0)
	whole := len(f.records.m)
	f.records.limit = whole + 3
	w.apply(1)
	slow := 0
	for _, s := range f.vsids.m {
		if s.Flags&subnetSlow != 0 {
			slow++
			if s.Tenant != w.m.tenants[w.rdids[1]].number {
				t.Error("the tenant that fits goes through user space")
			}
		}
	}
	if slow != len(w.tenants[1].Subnets) {
		t.Errorf("%d virtual subnets go through user space, want %d", slow, len(w.tenants[1].Subnets))
	}
	if err := w.m.tenants[w.rdids[1]].slow; !errors.As(err, &refused{}) {
		t.Errorf("the reason is %v", err)
	}
	f.records.limit = 0
	w.apply(1)
	compareAnew(t, w, f)
}

func TestMirrorRefusesAnInterfaceOfTwoPorts(t *testing.T) {
	w := newWorld(t, 3)
	f := newFakes()
	w.m = newTestMirror(t, w.sw, f)
	w.tenants[0] = w.shape(0)
	w.apply(0)
	for len(w.ports) < 2 {
		w.plug(w.tenants[0])
	}
	ids := slices.Sorted(maps.Keys(w.ports))
	if err := w.m.Plug(ids[1], w.ports[ids[0]]); !errors.Is(err, dataplane.ErrConflict) {
		t.Errorf("plugging a second port into an interface gives %v", err)
	}
	if err := w.m.Plug(999, Link{Ifindex: 99}); !errors.Is(err, dataplane.ErrUnknown) {
		t.Errorf("plugging a port that is not there gives %v", err)
	}
}

// While a tenant is captured all of its packets, and nobody else's, go to user
// space; afterwards all is as it was.
func TestMirrorLeavesWhatIsCapturedToUserSpace(t *testing.T) {
	tried := 0
	for seed := range uint64(20) {
		w := newWorld(t, 3000+seed)
		f := newFakes()
		w.m = newTestMirror(t, w.sw, f)
		w.sw.Follow(w.m)
		w.provider()
		for range 25 {
			w.change()
		}
		number := f.numbers.m[rdid(w.rdids[0].Bytes())]
		if v, ok := w.sw.View(w.rdids[0]); !ok || len(v.Domain.VSIDs()) == 0 {
			continue
		}
		tried++
		before := f.text()
		s, err := capture.NewSession(io.Discard, capture.Options{Filter: capture.Filter{Tenant: w.rdids[0]}})
		if err != nil {
			t.Fatal(err)
		}
		t.Run("capture", func(t *testing.T) {
			ended := make(chan error, 1)
			go func() { ended <- w.sw.Tap().Run(t.Context(), s) }()
			t.Cleanup(func() {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
				w.m.mu.Lock()
				wrong := wrongWhileCaptured(f, number)
				w.m.mu.Unlock()
				if wrong == "" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(wrong)
				}
			}
		})
		if diff := cmp.Diff(before, f.text()); diff != "" {
			t.Fatalf("the capture leaves traces (-before +after):\n%s", diff)
		}
	}
	if tried < 10 {
		t.Errorf("only %d tenants were captured", tried)
	}
}

// wrongWhileCaptured finds an entry that is not as it is to be while the tenant is
// captured.
func wrongWhileCaptured(f *fakes, tenant uint32) string {
	for v, s := range f.vsids.m {
		if (s.Flags&subnetSlow != 0) != (s.Tenant == tenant) {
			return fmt.Sprintf("VSID %d has flags %#x", v, s.Flags)
		}
	}
	for i, p := range f.ports.m {
		if (p.Flags&portSlow != 0) != (p.Tenant == tenant) {
			return fmt.Sprintf("the port at interface %d has flags %#x", i, p.Flags)
		}
	}
	for k, p := range f.stations.m {
		if (p.Flags&portSlow != 0) != (p.Tenant == tenant) {
			return fmt.Sprintf("station %v has flags %#x", k, p.Flags)
		}
	}
	return ""
}

// A record ceases to be a wildcard and moves to another PA at once: what the other
// wildcard stands for comes from its own PA all the time.
func TestRecordThatIsNoWildcardAnyMoreMoves(t *testing.T) {
	w, f, c := oneTenant(t, 3)
	here, far := macOf(t, 2), macOf(t, 9)
	record := func(last int, mac hnv.MAC, at netip.Addr, typ hnv.RecordType) hnv.Record {
		s := c.Subnets[0]
		return hnv.Record{
			VSID: s.VSID, CA: subnetCA(int(s.Prefixes[0].Prefix.Addr().As4()[2]), last, false), MAC: mac, PA: at, Rule: hnv.Rule(c.Encap), Type: typ,
		}
	}
	c.Records = []hnv.Record{
		record(5, here, pa(1), hnv.GatewayWildcard), record(6, here, pa(1), hnv.GatewayWildcard), record(7, far, pa(5), hnv.Static),
	}
	w.apply(0)
	id, err := w.sw.AddPort(dataplane.PortSpec{Name: "vm", VSID: c.Subnets[0].VSID, MAC: here, Kind: dataplane.PortVM, MTU: 1458}, nowhere{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.m.Plug(id, Link{Ifindex: 11}); err != nil {
		t.Fatal(err)
	}
	p := passage{ifindex: 11, src: addrOf(netip.MustParseAddr("8.8.0.2")), dst: addrOf(c.Records[2].CA), smac: here.Bytes(), dmac: routerMAC}
	was, moments := f.decide(p), 0
	if was.what != "fabric" || was.source != addrOf(pa(1)) {
		t.Fatalf("its way is %+v", was)
	}
	f.watch = func() {
		moments++
		if now := f.decide(p); now != was && now != punt("slow") {
			t.Errorf("after write %d it goes %+v", moments, now)
		}
	}
	moved := record(5, here, pa(2), hnv.Static)
	if err := w.sw.UpdateRecords(c.RDID, []hnv.Record{moved}, nil); err != nil {
		t.Fatal(err)
	}
	if now := f.decide(p); now != was || moments < 2 {
		t.Errorf("in the end it goes %+v, after %d writes", now, moments)
	}
}
