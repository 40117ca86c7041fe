package offload

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
)

func flowNo(n int) flow.Key {
	return flow.Key{
		Src: netip.MustParseAddr("10.0.0.1").As16(), Dst: netip.MustParseAddr("10.0.0.2").As16(), SrcPort: uint16(n), DstPort: 80,
		Proto: 6, Family: 4, Dir: flow.Outbound, Kind: flow.KindPorts,
	}
}

func newTestVerdicts(t *testing.T, f *fakes, max uint32) (v *verdicts, now *uint64) {
	t.Helper()
	v, err := newVerdicts(&f.verdicts, max, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now = new(uint64)
	v.now = func() uint64 { return *now }
	v.plug(1, linked{ifindex: 11, tenant: 1})
	v.plug(2, linked{ifindex: 12, tenant: 2})
	return v, now
}

// A tenant with many flows leaves room for others, however many these have.
func TestVerdictsAreShared(t *testing.T) {
	f := newFakes()
	v, _ := newTestVerdicts(t, f, 100)
	for n := range 1000 {
		v.Offer(dataplane.FlowVerdict{Port: 1, Key: flowNo(n)})
	}
	if len(f.verdicts.m) != 50 || v.share[1] != 50 {
		t.Errorf("one tenant has %d of 100 places, and %d", len(f.verdicts.m), v.share[1])
	}
	for n := range 1000 {
		v.Offer(dataplane.FlowVerdict{Port: 2, Key: flowNo(n)})
	}
	if v.share[2] != 25 {
		t.Errorf("the other one has %d", v.share[2])
	}
	v.Offer(dataplane.FlowVerdict{Port: 1, Key: flowNo(0), Generation: 7})
	if e := f.verdicts.m[verdictKey{Port: 11, DPort: 80, Src: flowNo(0).Src, Dst: flowNo(0).Dst, Dir: 1, Proto: 6}]; e.Policy != v.policy(7) {
		t.Error("a verdict that is there is not renewed when there is no room for more")
	}
	v.unplug(1)
	if len(f.verdicts.m) != 25 || len(v.known) != 25 || len(v.share) != 1 {
		t.Errorf("without the first one's port there are %d, %d", len(f.verdicts.m), len(v.known))
	}
	v.Offer(dataplane.FlowVerdict{Port: 1, Key: flowNo(1)})
	if len(f.verdicts.m) != 25 {
		t.Error("a verdict about no port is taken")
	}
}

// The Switch is told once of what passed, and what nobody makes use of goes.
func TestVerdictsTellWhatPassed(t *testing.T) {
	f := newFakes()
	v, now := newTestVerdicts(t, f, 100)
	v.Offer(dataplane.FlowVerdict{Port: 1, Key: flowNo(1), Generation: 5, Reply: true})
	v.Offer(dataplane.FlowVerdict{Port: 2, Key: flowNo(2), Generation: 6, Reason: drop.ACLDenied})
	use := func(packets uint64) {
		for k, e := range f.verdicts.m {
			e.Packets, e.Bytes, e.Seen = e.Packets+packets, e.Bytes+100*packets, *now
			f.verdicts.m[k] = e
		}
	}
	heard := map[dataplane.PortID]dataplane.FlowVerdict{}
	look := func(want uint64, idle time.Duration) {
		t.Helper()
		clear(heard)
		v.Passed(func(o dataplane.FlowVerdict, i time.Duration, packets, bytes uint64) bool {
			if packets != want || bytes != 100*want || i != idle {
				t.Errorf("%d packets, %d bytes, %s ago; want %d, %s", packets, bytes, i, want, idle)
			}
			heard[o.Port] = o
			return o.Port == 1
		})
	}
	*now = 1e9
	use(3)
	*now = 3e9
	look(3, 2*time.Second)
	if a, b := heard[1], heard[2]; len(heard) != 2 || a.Key != flowNo(1) || a.Generation != 5 || !a.Reply || b.Reason != drop.ACLDenied || b.Generation != 6 {
		t.Errorf("heard %+v", heard)
	}
	if len(f.verdicts.m) != 1 {
		t.Errorf("what was refused is there: %+v", f.verdicts.m)
	}
	look(0, 0)
	if len(heard) != 0 {
		t.Errorf("told once more: %+v", heard)
	}
	use(2)
	v.Offer(dataplane.FlowVerdict{Port: 1, Key: flowNo(1), Generation: 8, Reply: true})
	look(2, 0)
	*now += uint64(idleVerdict) + 1
	look(0, 0)
	if len(f.verdicts.m) != 0 || len(v.known) != 0 || len(v.share) != 0 {
		t.Errorf("unused: %+v %+v", f.verdicts.m, v.known)
	}
}

// The next process takes up what lists let pass now, under a number of its own,
// and takes the rest out.
func TestVerdictsOutliveAProcess(t *testing.T) {
	w := newWorld(t, 1)
	f := newFakes()
	m := newTestMirror(t, w.sw, f)
	old, _ := newTestVerdicts(t, f, 100)
	port := portValue{Ifindex: 11, Policy: old.policy(3)}
	f.ports.m[11] = port
	for n, o := range []dataplane.FlowVerdict{{Generation: 3}, {Generation: 2}, {Generation: 3, Reason: drop.ACLDenied}, {Generation: 3}} {
		o.Port, o.Key = 1, flowNo(n)
		old.Offer(o)
	}
	old.Offer(dataplane.FlowVerdict{Port: 2, Key: flowNo(9), Generation: 3})

	next, err := newVerdicts(&f.verdicts, 100, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	next.plug(4, linked{ifindex: 11, tenant: 9})
	next.inherit(restorer{m.sw, flowNo(0)}, 4, port)
	if err := next.settle(); err != nil {
		t.Fatal(err)
	}
	if len(f.verdicts.m) != 1 || next.share[9] != 1 {
		t.Errorf("left: %+v", f.verdicts.m)
	}
	for k, e := range f.verdicts.m {
		if k.flow() != flowNo(0) || e.Policy != next.policy(77) || e.Key != k {
			t.Errorf("left: %+v", e)
		}
	}
}

// restorer lets one flow pass.
type restorer struct {
	source
	passes flow.Key
}

func (r restorer) Restore(v dataplane.FlowVerdict) (uint64, bool) {
	return 77, v.Key == r.passes && v.Port == 4
}
