package offload

import (
	"errors"
	"maps"

	dp "github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// totals are what the programs counted.
type totals struct {
	traffic trafficValue
	drops   map[drop.Reason]uint64
	punts   map[Why]uint64
	left    uint64 // to the machine's own stack
	// answered are requests for neighbors.
	answered uint64
}

// add adds another processor's, or another virtual subnet's.
func (t *trafficValue) add(o trafficValue) {
	for _, c := range []struct {
		to *count
		count
	}{{&t.FromFabric, o.FromFabric}, {&t.ToFabric, o.ToFabric}, {&t.FromPorts, o.FromPorts}, {&t.ToPorts, o.ToPorts}} {
		c.to.Packets += c.Packets
		c.to.Bytes += c.Bytes
	}
}

func (t *totals) add(o totals) {
	t.traffic.add(o.traffic)
	for r, n := range o.drops {
		t.event(uint32(r), n)
	}
	for w, n := range o.punts {
		t.event(punted+uint32(w), n)
	}
	t.left += o.left
	t.answered += o.answered
}

// event adds n of an event.
func (t *totals) event(event uint32, n uint64) {
	if t.drops == nil {
		t.drops, t.punts = map[drop.Reason]uint64{}, map[Why]uint64{}
	}
	switch {
	case event == leftToStack:
		t.left += n
	case event == answered:
		t.answered += n
	case event >= punted:
		t.punts[Why(event-punted)] += n
	default:
		t.drops[drop.Reason(event)] += n
	}
}

// retire keeps what was counted of a virtual subnet that is gone.
func (m *mirror) retire(t *mirrored, vsid, slot uint32) error {
	sum := totals{}
	var keys []eventKey
	v, _, err := m.t.traffic.get(slot)
	sum.traffic = v
	err = errors.Join(err, m.t.events.all(func(k eventKey, n uint64) bool {
		if k.VSID == vsid {
			keys = append(keys, k)
			sum.event(k.Event, n)
		}
		return true
	}))
	t.retired.add(sum)
	return errors.Join(err, m.t.events.delete(keys))
}

// collect sums up what was counted, by virtual subnet; 0 is where no tenant was
// known.
func (m *mirror) collect() (map[uint32]*totals, error) {
	out := map[uint32]*totals{0: {}}
	var errs []error
	for _, t := range m.tenants {
		for v, s := range t.subnets {
			n, _, err := m.t.traffic.get(s.Slot)
			errs = append(errs, err)
			out[v] = &totals{traffic: n}
		}
	}
	errs = append(errs, m.t.events.all(func(k eventKey, n uint64) bool {
		if t := out[k.VSID]; t != nil {
			t.event(k.Event, n)
		}
		return true
	}))
	return out, errors.Join(errs...)
}

// Counters gives what the programs did, by tenant.
func (m *mirror) Counters() []dp.TenantCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, err := m.collect()
	if err != nil {
		m.log.Warn("read the fast path's counters", "err", err)
	}
	nobodys := countersOf(hnv.RDID{}, *all[0])
	if m.sw.ProviderView().Hybrid {
		nobodys.LeftToStack = all[0].left
	}
	out := []dp.TenantCounters{nobodys}
	for r, t := range m.tenants {
		sum := totals{}
		sum.add(t.retired)
		for v := range t.subnets {
			sum.add(*all[v])
		}
		out = append(out, countersOf(r, sum))
	}
	return out
}

func countersOf(r hnv.RDID, t totals) dp.TenantCounters {
	drops := maps.Clone(t.drops)
	if drops == nil {
		drops = map[drop.Reason]uint64{}
	}
	return dp.TenantCounters{
		RDID:       r,
		FromFabric: dp.Traffic(t.traffic.FromFabric), ToFabric: dp.Traffic(t.traffic.ToFabric),
		FromPorts: dp.Traffic(t.traffic.FromPorts), ToPorts: dp.Traffic(t.traffic.ToPorts),
		Answered:      t.answered,
		DropsByReason: drops,
	}
}
