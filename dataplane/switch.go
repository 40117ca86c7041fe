package dataplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// The kinds of refusal of configuration.
var (
	ErrUnknown  = errors.New("unknown")  // the RDID, VSID or port is not there
	ErrConflict = errors.New("conflict") // it belongs to something else already
)

// Options are a Switch's limits and hooks. The zero value is good.
type Options struct {
	// Now is the clock; nil is time.Now. It is asked once a batch.
	Now func() time.Time
	// ICMPRate bounds the ICMP errors sent to one tenant per second, and
	// ICMPBurst those sent at once; 0 are DefaultICMPRate and DefaultICMPBurst.
	ICMPRate, ICMPBurst int
	// DefaultACL is what becomes of the packets of ports to which no access
	// control list applies; unset is to allow them.
	DefaultACL hnv.ACLAction
	// FlowsPerPort bounds a port's flow table; 0 is DefaultFlowsPerPort.
	FlowsPerPort int
	// OnError is told of errors of readers and writers, with the port's name or
	// "provider", from any goroutine and at most once a second for each worker;
	// nil is nobody.
	OnError func(port string, err error)
	// OnLearn is told of what is learned of the stations of this machine, by
	// whoever calls Run or Upkeep; nil is nobody.
	OnLearn func(LearnEvent)
}

// The limits where Options say nothing (RFC 1812 section 4.3.2.8 and RFC 4443
// section 2.4 ask for some).
const (
	DefaultICMPRate     = 100
	DefaultICMPBurst    = 20
	DefaultFlowsPerPort = 1 << 18
)

// Tenant is the whole state of one routing domain. Its fields are those of
// lookup.Config. What it refers to must not be changed once it was applied.
type Tenant struct {
	Name     hnv.Name
	RDID     hnv.RDID
	Encap    hnv.Encap
	QoS      *hnv.QoS
	StormPPS uint32
	Subnets  []hnv.Subnet
	ACLs     []hnv.ACL
	Routes   []hnv.CustomerRoute
	Records  []hnv.Record
}

// Provider is this machine's side of the fabric.
type Provider struct {
	Addrs []netip.Addr // our own PAs
	MTU   int          // of the fabric: the greatest outer IP packet
	// Down are the PAs, of anyone, that are known not to be reachable: a host
	// that has others is sent to, and sends from, those.
	Down []netip.Addr
	// Hybrid says that the machine's own stack has the packets to our PAs that
	// are no tunnel packets of these VSIDs (encap.Claimed): they are told apart
	// from those that were dropped.
	Hybrid bool
	VSIDs  []hnv.VSID
}

// Switch is the dataplane of one machine. Its configuration may be changed from
// any goroutine at any time; packets go through its Workers.
type Switch struct {
	opt  Options
	made time.Time

	// Workers read these, and the tenants' domains, and nothing else.
	provider atomic.Pointer[provider]
	tenants  atomic.Pointer[tenantTable]
	ports    atomic.Pointer[portTable]
	// rewritten has the PAs that stand for a CA of some tenant.
	rewritten atomic.Pointer[rewritten]
	punts     atomic.Pointer[punts]

	follower  atomic.Pointer[Follower]
	offloader atomic.Pointer[Offloader] // the same one, if it is

	tap    capture.Tap // where captures get copies of packets
	pinger pinger

	// mu serialises changes. It is never held while packets wait.
	mu         sync.Mutex
	byRDID     map[hnv.RDID]*tenant
	lastPort   PortID
	lastPolicy uint64
	programs   *vfp.Cache // ports with the same rules share their tables

	learner *learner

	frames  sync.Pool // of readers
	scratch sync.Pool // of workers
	nowhere tenant    // counts what is dropped before the tenant is known
}

// tenant is one routing domain's place in the Switch. It lives from the first
// Apply to Remove, and its counters with it.
type tenant struct {
	rdid     hnv.RDID
	domain   atomic.Pointer[lookup.Domain] // nil before and after
	errors   limiter
	counters counters
	// What its broadcasts have used up of its rate: those of our ports, and
	// those from the fabric.
	sent, received limiter
	sightings      limiter
	probed         limiter       // echoes that the dataplane answers for guests
	mark           atomic.Uint32 // the outer DSCP, or copyDSCP
	in, out        meter         // with Switch.mu
	shape          Tenant        // what was applied, but for the records; with Switch.mu
}

// copyDSCP in tenant.mark stands for the inner packet's.
const copyDSCP = 1 << 8

// dscp gives the outer DSCP for an inner one.
func (t *tenant) dscp(inner uint8) uint8 {
	if m := t.mark.Load(); m != copyDSCP {
		return uint8(m)
	}
	return inner
}

func markOf(d hnv.DSCP) uint32 {
	v, same := d.Value()
	if same {
		return copyDSCP
	}
	return uint32(v)
}

type tenantTable = lookup.Map[lookup.Number, *tenant] // by VSID

// provider is an immutable Provider in the form that workers need.
type provider struct {
	Provider
	own, down []lookup.Addr
	many      map[lookup.Addr]struct{} // the same as own, nil where those are few
	claims    map[uint32]struct{}      // nil: not hybrid
}

func (p *provider) claimed(vsid uint32) bool {
	_, ok := p.claims[vsid]
	return ok
}

// isDown tells whether the PA is known not to be reachable. Few ever are.
func (p *provider) isDown(pa lookup.Addr) bool {
	for i := range p.down {
		if p.down[i] == pa {
			return true
		}
	}
	return false
}

// few is how many PAs are looked through one by one. Where PAs stand for CAs,
// there are many.
const few = 8

// owns tells whether the PA is ours.
func (p *provider) owns(pa lookup.Addr) bool {
	if p.many != nil {
		_, ours := p.many[pa]
		return ours
	}
	for i := range p.own { // several times as fast as slices.Contains, and asked for each packet
		if p.own[i] == pa {
			return true
		}
	}
	return false
}

// sourcePA gives our PA for packets for which no record vouches.
func (w *Worker) sourcePA(to lookup.Addr) lookup.Addr {
	return w.x.provider.source(to.Is6(), w.sw.rewritten.Load())
}

// source gives our first PA of the family, if possible one that is up. Those that
// stand for a CA are nobody else's source.
func (p *provider) source(six bool, taken *rewritten) (first lookup.Addr) {
	for _, a := range p.own {
		if a.Is6() != six || taken.Get(a) != nil {
			continue
		}
		if !p.isDown(a) {
			return a
		}
		if !first.IsValid() {
			first = a
		}
	}
	return first
}

// New makes a Switch without tenants, ports and PAs.
func New(o Options) *Switch {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ICMPRate <= 0 {
		o.ICMPRate = DefaultICMPRate
	}
	if o.ICMPBurst <= 0 {
		o.ICMPBurst = DefaultICMPBurst
	}
	if o.FlowsPerPort <= 0 {
		o.FlowsPerPort = DefaultFlowsPerPort
	}
	s := &Switch{opt: o, made: o.Now(), byRDID: map[hnv.RDID]*tenant{}, learner: newLearner(), programs: vfp.NewCache()}
	s.pinger.id = uint16(rand.Uint32())
	s.tap.OnChange(s.tapped)
	s.provider.Store(&provider{})
	s.tenants.Store(&tenantTable{})
	s.ports.Store(newPortTable())
	s.rewritten.Store(&rewritten{})
	return s
}

// Uptime is for how long the Switch is there: the clock of its buckets, which
// nobody sets.
func (s *Switch) Uptime() time.Duration { return s.opt.Now().Sub(s.made) }

// Apply sets the whole state of one tenant. It takes effect at once for the
// next packet, or, if it is refused, not at all. Calls for one RDID must not
// overlap.
func (s *Switch) Apply(t Tenant) error {
	configured := t.Records
	t.Records = s.heed(t.RDID, t.Records, nil, &t)
	if err := s.apply(t); err != nil {
		s.reinstate(t.RDID)
		return err
	}
	s.adopt(t.RDID, configured)
	return nil
}

func (s *Switch) apply(t Tenant) (err error) {
	defer func() {
		if err == nil {
			s.inform(func(f Follower) { f.TenantChanged(t.RDID) })
		}
	}()
	d, alike, err := s.next(t)
	if err != nil {
		return fmt.Errorf("apply tenant %s: %w", t.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.tenants.Load()
	for _, v := range d.VSIDs() {
		if other := table.Get(lookup.Number(v)); other != nil && (*other).rdid != t.RDID {
			return fmt.Errorf("apply tenant %s: VSID %d belongs to routing domain %s: %w", t.Name, v, (*other).rdid, ErrConflict)
		}
	}
	to, known := s.byRDID[t.RDID]
	if !known {
		to = &tenant{rdid: t.RDID}
	}
	var qos hnv.QoS
	if t.QoS != nil {
		qos = *t.QoS
	}
	in, out := to.in.at(qos.InKbps), to.out.at(qos.OutKbps)
	if err := s.claimPAs(t.RDID, d); err != nil {
		return fmt.Errorf("apply tenant %s: %w", t.Name, err)
	}
	var policies map[*port]*policy
	if !alike {
		if policies, err = s.policies(t.RDID, d, in, out); err != nil {
			return fmt.Errorf("apply tenant %s: %w", t.Name, err)
		}
	}
	s.byRDID[t.RDID] = to
	to.in, to.out = in, out
	to.shape = shape(t)
	to.mark.Store(markOf(qos.DSCP))
	old := to.domain.Swap(d)
	edit := table.Edit()
	if old != nil {
		for _, v := range old.VSIDs() {
			edit.Delete(lookup.Number(v))
		}
	}
	for _, v := range d.VSIDs() {
		edit.Put(lookup.Number(v), to)
	}
	s.tenants.Store(edit.Done())
	s.registerPAs(to, old, d)
	if !known {
		s.rebind(to)
	}
	for p, pol := range policies {
		p.policy.Store(pol)
	}
	return nil
}

// next gives the tenant's next domain: where only records differ, the successor
// of the present one, so that flows go on as they were decided. Whether that is so
// is alike: then all ports have the right layers.
func (s *Switch) next(t Tenant) (d *lookup.Domain, alike bool, err error) {
	s.mu.Lock()
	var old *lookup.Domain
	if is := s.byRDID[t.RDID]; is != nil && reflect.DeepEqual(is.shape, shape(t)) {
		old = is.domain.Load()
	}
	s.mu.Unlock()
	if old != nil {
		if d, ok := old.Become(t.Records); ok {
			return d, true, nil
		}
	}
	d, err = lookup.Build(lookup.Config(t))
	return d, old != nil, err
}

// shape is all of a tenant but its records.
func shape(t Tenant) Tenant {
	t.Records = nil
	t.Subnets, t.ACLs, t.Routes = slices.Clone(t.Subnets), slices.Clone(t.ACLs), slices.Clone(t.Routes)
	return t
}

// Remove forgets a tenant: none of its packets passes any more. Its ports stay
// plugged in, without effect, until they are removed.
func (s *Switch) Remove(rdid hnv.RDID) {
	defer s.inform(func(f Follower) { f.TenantChanged(rdid) })
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.byRDID[rdid]
	if !known {
		return
	}
	delete(s.byRDID, rdid)
	old := t.domain.Swap(nil)
	edit := s.tenants.Load().Edit()
	for _, v := range old.VSIDs() {
		edit.Delete(lookup.Number(v))
	}
	s.tenants.Store(edit.Done())
	s.registerPAs(t, old, nil)
}

// UpdateRecords removes the records of del and sets those of put, in one step
// that takes effect for the next packet: a record with another PA is a live
// migration.
func (s *Switch) UpdateRecords(rdid hnv.RDID, put []hnv.Record, del []hnv.RecordKey) error {
	configured := put
	if err := s.updateRecords(rdid, s.heed(rdid, put, del, nil), del); err != nil {
		return err
	}
	s.adopt(rdid, configured)
	return nil
}

func (s *Switch) updateRecords(rdid hnv.RDID, put []hnv.Record, del []hnv.RecordKey) (err error) {
	defer func() {
		if err == nil {
			s.inform(func(f Follower) { f.TenantChanged(rdid) })
		}
	}()
	for {
		t := s.tenantBy(rdid)
		if t == nil {
			return fmt.Errorf("update lookup records: routing domain %s: %w", rdid, ErrUnknown)
		}
		old := t.domain.Load()
		if old == nil {
			continue // removed just now: it is unknown in a moment, or a new one
		}
		next, err := old.Update(put, del)
		if err != nil {
			return fmt.Errorf("update lookup records: %w", err)
		}
		if !old.SameRewrites(next) {
			if done, err := s.swapRewrites(t, old, next); done {
				return err
			}
		} else if t.domain.CompareAndSwap(old, next) {
			return nil
		}
	}
}

// reinstate has flows follow the tenant's present records again, after a successor
// was refused.
func (s *Switch) reinstate(rdid hnv.RDID) {
	if t := s.tenantBy(rdid); t != nil {
		if d := t.domain.Load(); d != nil {
			t.domain.CompareAndSwap(d, d.Reinstated())
		}
	}
}

func (s *Switch) tenantBy(rdid hnv.RDID) *tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byRDID[rdid]
}

// swapRewrites publishes a domain in which other PAs stand for CAs.
func (s *Switch) swapRewrites(t *tenant, old, next *lookup.Domain) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.claimPAs(t.rdid, next); err != nil {
		t.domain.CompareAndSwap(old, old.Reinstated())
		return true, fmt.Errorf("update lookup records: %w", err)
	}
	if !t.domain.CompareAndSwap(old, next) {
		return false, nil
	}
	s.registerPAs(t, old, next)
	return true, nil
}

// SetProvider sets our own PAs and the fabric's MTU.
func (s *Switch) SetProvider(p Provider) {
	p.Addrs, p.Down = slices.Clone(p.Addrs), slices.Clone(p.Down)
	if p.MTU <= 0 {
		p.MTU = defaultMTU
	}
	n := &provider{Provider: p}
	for _, a := range p.Addrs {
		n.own = append(n.own, lookup.AddrFrom(a))
	}
	if len(n.own) > few {
		n.many = make(map[lookup.Addr]struct{}, len(n.own))
		for _, a := range n.own {
			n.many[a] = struct{}{}
		}
	}
	for _, a := range p.Down {
		n.down = append(n.down, lookup.AddrFrom(a))
	}
	if p.Hybrid {
		n.claims = make(map[uint32]struct{}, len(p.VSIDs))
		for _, v := range p.VSIDs {
			n.claims[v.Uint32()] = struct{}{}
		}
	}
	old := s.provider.Swap(n)
	s.inform(func(f Follower) { f.ProviderChanged() })
	if !slices.Equal(old.Addrs, n.Addrs) {
		s.adoptAll()
	}
}

// tenantOf finds the tenant of a VSID and its domain, nil and nil if no tenant
// has it.
func (s *Switch) tenantOf(vsid uint32) (*tenant, *lookup.Domain) {
	p := s.tenants.Load().Get(lookup.Number(vsid))
	if p == nil {
		return nil, nil
	}
	d := (*p).domain.Load()
	if d == nil || !d.Has(vsid) { // between two steps of Apply or Remove
		return nil, nil
	}
	return *p, d
}
