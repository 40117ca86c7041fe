package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// Follower keeps a copy of what the Switch publishes to its workers, such as the
// tables of a fast path. It is told of each change once workers see it, and
// before whoever made the change goes on, and reads by View, PortView and
// ProviderView how things stand: several changes may be seen at once. It may be
// told from several goroutines, and must not change the Switch.
type Follower interface {
	// TenantChanged tells of a tenant that was applied or removed, or whose
	// records have changed, or that is captured, or is no more. Its ports may have
	// other layers.
	TenantChanged(rdid hnv.RDID)
	// PortChanged tells of a port that was altered.
	PortChanged(id PortID)
	// ProviderChanged tells of other PAs of ours, or of another MTU.
	ProviderChanged()
	// Counters gives what the Follower did with packets in the Switch's place,
	// by tenant; they are added to the Switch's own. What was dropped before the
	// tenant was known has no RDID.
	Counters() []TenantCounters
}

// Follow makes f the Switch's Follower; nil: none any more. It is called before
// the Switch is configured, or f looks at everything itself.
func (s *Switch) Follow(f Follower) {
	if f == nil {
		s.follower.Store(nil)
		s.offloader.Store(nil)
		return
	}
	s.follower.Store(&f)
	if o, ok := f.(Offloader); ok {
		s.offloader.Store(&o)
	} else {
		s.offloader.Store(nil)
	}
}

// inform runs fn with the Follower, if there is one. Switch.mu must not be held.
func (s *Switch) inform(fn func(f Follower)) {
	if f := s.follower.Load(); f != nil {
		fn(*f)
	}
}

// TenantView is what workers decide by about a tenant's packets at one moment. The
// Domain must not be changed.
type TenantView struct {
	RDID   hnv.RDID
	Domain *lookup.Domain
	// DSCP is that of outer packets; CopyDSCP: the inner one's.
	DSCP     uint8
	CopyDSCP bool
	// Slow tells that captures are to see the tenant's packets: workers must get
	// them all.
	Slow bool
}

// View gives the tenant of the routing domain; not ok if there is none.
func (s *Switch) View(rdid hnv.RDID) (v TenantView, ok bool) {
	t := s.tenantBy(rdid)
	if t == nil {
		return v, false
	}
	d := t.domain.Load()
	m := t.mark.Load()
	v = TenantView{RDID: rdid, Domain: d, DSCP: uint8(m), CopyDSCP: m == copyDSCP}
	v.Slow = d != nil && s.tap.Sessions().WantTenant(rdid, d.VSIDs())
	return v, d != nil
}

// tapped informs the Follower of tenants that are captured now, or were before.
func (s *Switch) tapped(old, now *capture.Sessions) {
	var some []hnv.RDID
	s.mu.Lock()
	for rdid, t := range s.byRDID {
		d := t.domain.Load()
		if d != nil && (old.WantTenant(rdid, d.VSIDs()) || now.WantTenant(rdid, d.VSIDs())) {
			some = append(some, rdid)
		}
	}
	s.mu.Unlock()
	for _, rdid := range some {
		s.inform(func(f Follower) { f.TenantChanged(rdid) })
	}
}

// PortView is a port as workers see it.
type PortView struct {
	ID   PortID
	Spec PortSpec // with the RDID
	// Outbound and Inbound tell that what the port sends, or gets, is for workers
	// alone: it has custom layers, or what it gets must be made fit for it.
	Outbound, Inbound bool
	// Lists tells that its lists say which packets pass, so that verdicts about flows
	// are of use, as long as they are of this Generation. It is another one after each
	// change of the layers, and before whoever made it goes on.
	Lists      bool
	Generation uint64
	Rates      Rates
}

// Rates are the buckets that a port's packets are taken out of, nil where there is
// no limit: its own first, then its tenant's, which all ports of the tenant share.
// A packet is taken out of both, or dropped (drop.RateExceeded) and out of none.
// Whoever lets packets pass in the Switch's place gives the buckets a Place that
// both know (vfp.Bucket.Move); their clock is Uptime.
type Rates struct{ Out, In, TenantOut, TenantIn *vfp.Bucket }

// PortView gives the port; not ok if there is none.
func (s *Switch) PortView(id PortID) (v PortView, ok bool) {
	p := s.ports.Load().byID.Get(lookup.Number(id))
	if p == nil {
		return v, false
	}
	pol := (*p).policy.Load()
	return PortView{ID: id, Spec: (*p).spec, Outbound: pol.custom, Inbound: pol.custom || (*p).spec.Plain, Lists: pol.plain, Generation: pol.gen, Rates: pol.rates}, true
}

// ProviderView gives our PAs and the fabric's MTU.
func (s *Switch) ProviderView() Provider { return s.provider.Load().Provider }

// SourcePA gives the PA of ours, of either family, by which packets leave for
// which no record vouches; invalid where there is none.
func (s *Switch) SourcePA(six bool) lookup.Addr {
	return s.provider.Load().source(six, s.rewritten.Load())
}
