package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/nat"
	"github.com/hnvgate/hnvgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store without etcd.
type memory struct {
	t        *testing.T
	mu       sync.Mutex
	f        *hnv.Fabric
	revision int64
	sick     error
	out      chan store.Event
	hold     sync.Mutex // keeps events from being passed on
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, f: hnv.NewFabric(hnv.Site{Uplinks: []string{"internet"}, PAInterfaces: []string{"pa0"}}), out: make(chan store.Event, 1000)}
}

func (m *memory) View(fn func(*hnv.Fabric)) { m.mu.Lock(); defer m.mu.Unlock(); fn(m.f) }
func (m *memory) Revision() int64           { m.mu.Lock(); defer m.mu.Unlock(); return m.revision }

func (m *memory) Healthy() error { m.mu.Lock(); defer m.mu.Unlock(); return m.sick }

func (m *memory) fallSick(err error) { m.mu.Lock(); defer m.mu.Unlock(); m.sick = err }

func (m *memory) Watch(ctx context.Context) <-chan store.Event {
	out := make(chan store.Event)
	go func() {
		defer close(out)
		e := store.Event{Resync: true}
		for {
			m.hold.Lock()
			m.hold.Unlock() //nolint:staticcheck // only waited for
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
			select {
			case e = <-m.out:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (m *memory) change(changes ...hnv.Change) {
	m.t.Helper()
	if _, err := m.UpdateFunc(context.Background(), func(*hnv.Fabric) ([]hnv.Change, error) { return changes, nil }); err != nil {
		m.t.Error(err)
	}
}

func (m *memory) UpdateFunc(_ context.Context, plan func(*hnv.Fabric) ([]hnv.Change, error)) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes, err := plan(m.f)
	if err != nil || len(changes) == 0 {
		return m.revision, err
	}
	e := store.Event{}
	for _, c := range changes {
		o := c.Put
		if o == nil {
			o = c.Delete
		}
		old, _ := m.f.Get(o.Kind(), o.Key())
		e.Changes = append(e.Changes, store.Applied{Old: old, Object: c.Put})
	}
	if _, err := m.f.Apply(changes); err != nil {
		return m.revision, err
	}
	for i, c := range changes {
		if c.Put != nil {
			e.Changes[i].Object, _ = m.f.Get(c.Put.Kind(), c.Put.Key())
		}
	}
	m.revision++
	e.Revision = m.revision
	m.out <- e
	return m.revision, nil
}

// engines fakes all engines and writes down what they were asked, by tenant.
type engines struct {
	silent   map[netip.Addr]bool // provider addresses of others that do not answer
	away     []netip.Addr        // those that the dataplane was told of
	mu       sync.Mutex
	calls    map[string][]string
	fail     map[string]error         // by "nat contoso"
	block    map[string]chan struct{} // likewise: wait for it
	drift    map[string][]string      // what the next compartment Apply repairs
	records  map[hnv.RDID]map[hnv.RecordKey]netip.Addr
	names    map[hnv.RDID]string
	plugged  map[string]bool
	specs    map[string]dataplane.PortSpec // of the last Attach
	tables   map[hnv.RDID]dataplane.Tenant // of the last Apply
	sequence []string                      // of all calls to dataplane and wiring
	settled  []int                         // how many ports were plugged in, of each call
	routes   []hnv.ProviderRoute           // of the provider side, as they are
	spec     compartments.ProviderSpec
	claimed  map[hnv.VSID]bool
	fabric   FabricSide
	links    chan struct{}
	refuge   map[string]string // broken links, and which one took their addresses
	broke    chan string
	asked    func() // called, if any, whenever a port's path is asked for
	log      strings.Builder
}

func newEngines() *engines {
	return &engines{
		calls: map[string][]string{}, fail: map[string]error{}, block: map[string]chan struct{}{}, drift: map[string][]string{},
		records: map[hnv.RDID]map[hnv.RecordKey]netip.Addr{}, names: map[hnv.RDID]string{}, plugged: map[string]bool{},
		specs: map[string]dataplane.PortSpec{}, claimed: map[hnv.VSID]bool{}, links: make(chan struct{}, 1), refuge: map[string]string{}, tables: map[hnv.RDID]dataplane.Tenant{}, broke: make(chan string, 8),
	}
}

// Write takes what the Controller logs.
func (e *engines) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(b)
}

func (e *engines) logged(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(e.log.String(), text)
}

func (e *engines) call(what, tenant string) error {
	e.mu.Lock()
	e.calls[tenant] = append(e.calls[tenant], what)
	wait, err := e.block[what+" "+tenant], e.fail[what+" "+tenant]
	e.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return err
}

func (e *engines) of(tenant string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls[tenant])
}

func (e *engines) set(what string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail[what] = err
}

func (e *engines) pa(rdid hnv.RDID, v uint32, ca string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.records[rdid][hnv.RecordKey{VSID: vsid(v), CA: netip.MustParseAddr(ca)}]
	if !ok {
		return ""
	}
	return a.String()
}

func (e *engines) has(port string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plugged[port]
}

// loaded tells whether the dataplane has the tenant's tables.
func (e *engines) loaded(t hnv.Tenant) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.tables[t.RDID]
	return ok
}

// domains counts the routing domains that the dataplane has.
func (e *engines) domains() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.records)
}

// applied counts how often the dataplane was given the tenant's tables.
func (e *engines) applied(tenant string) (n int) {
	for _, c := range e.of(tenant) {
		if c == "dataplane" {
			n++
		}
	}
	return n
}

// took gives what was done to dataplane and ports since the last call.
func (e *engines) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.sequence
	e.sequence = nil
	return out
}

type fakeCompartments struct{ *engines }

func (f fakeCompartments) Apply(_ context.Context, s compartments.Spec) (compartments.Result, error) {
	if err := f.call("compartment", s.Name.String()); err != nil {
		return compartments.Result{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := compartments.Result{Namespace: "/run/netns/hnv-" + s.Name.String(), Port: "w0000" + s.VSID.String(), Repaired: f.drift[s.Name.String()]}
	delete(f.drift, s.Name.String())
	return r, nil
}

func (f fakeCompartments) Delete(_ context.Context, n hnv.Name) error {
	return f.call("delete compartment", n.String())
}
func (f fakeCompartments) Prune(context.Context, []hnv.Name) ([]string, error) { return nil, nil }
func (f fakeCompartments) ApplyProvider(_ context.Context, s compartments.ProviderSpec) (repaired []string, err error) {
	f.mu.Lock()
	if !slices.Equal(f.routes, s.Routes) {
		f.routes, repaired = s.Routes, []string{"routes"}
	}
	f.spec, f.claimed = s, map[hnv.VSID]bool{}
	for _, v := range s.VSIDs {
		f.claimed[v] = true
	}
	f.mu.Unlock()
	return repaired, f.call("provider", "")
}
func (f fakeCompartments) ProviderState() (out compartments.ProviderState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.spec.Addresses {
		l := compartments.ProviderLink(a)
		st := compartments.PAState{Addr: a.Addr.Addr(), Home: l, Link: l}
		if to, broken := f.refuge[l]; broken {
			st.Fault, st.Down = compartments.FaultNoCarrier, to == ""
			if to != "" {
				st.Link = to
			}
		}
		out.Addresses = append(out.Addresses, st)
	}
	for _, r := range f.spec.Rewrite {
		out.Rewrite = append(out.Rewrite, compartments.PAState{Addr: r.Addr, Home: "pa0", Link: "pa0"})
	}
	return out
}

func (f fakeCompartments) Ping(_ context.Context, s compartments.PingSpec, _ func(compartments.PingReply)) (compartments.PingResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent[s.To] {
		return compartments.PingResult{Sent: 1}, nil
	}
	return compartments.PingResult{Sent: 1, Received: 1}, nil
}

func (f fakeCompartments) WatchProvider(context.Context) (<-chan struct{}, error) {
	return f.links, nil
}

func (f fakeCompartments) Failover(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.fail["failover"]
}

func (f fakeCompartments) Claim(_ context.Context, vsids []hnv.VSID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range vsids {
		f.claimed[v] = true
	}
	return nil
}

func (f fakeCompartments) Drops() ([]compartments.Drop, error) {
	return []compartments.Drop{{Reason: "spoofed", Packets: 3}, {Reason: "astray"}, {Reason: "tunnel", Packets: 7}}, nil
}

func (f fakeCompartments) ApplyPorts(_ context.Context, names []string) map[string]error {
	out := map[string]error{}
	for _, n := range names {
		if err := f.call("port", n); err != nil {
			out[n] = err
		}
	}
	return out
}

type fakeNAT struct{ *engines }

func (f fakeNAT) Apply(_ context.Context, s nat.Spec) (nat.Result, error) {
	return nat.Result{}, f.call("nat", s.Name.String())
}
func (f fakeNAT) Remove(_ context.Context, ns string) error { return f.call("remove nat", ns) }
func (f fakeNAT) Sessions(context.Context, string, int) ([]nat.Session, int, error) {
	return nil, 0, nil
}

// Snapshot counts as many packets as the name of the namespace is long.
func (f fakeNAT) Snapshot(_ context.Context, ns string) (nat.State, error) {
	err := f.call("snapshot", ns)
	return nat.State{Programmed: true, Connections: 3, Drops: map[string]nat.Counter{
		nat.DropNotSYN: {Packets: uint64(len(ns))}, nat.DropInvalid: {Packets: 1}, nat.DropLimit: {},
	}}, err
}

type fakeDataplane struct{ *engines }

func (f fakeDataplane) Apply(t dataplane.Tenant) error {
	if err := f.call("dataplane", t.Name.String()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range t.Subnets {
		if !f.claimed[sub.VSID] {
			return fmt.Errorf("VSID %s is not kept from the machine's own stack yet", sub.VSID)
		}
	}
	m := map[hnv.RecordKey]netip.Addr{}
	for _, r := range t.Records {
		m[r.RecordKey()] = r.PA
	}
	f.records[t.RDID], f.names[t.RDID], f.tables[t.RDID] = m, t.Name.String(), t
	f.sequence = append(f.sequence, "tables of "+t.Name.String())
	return nil
}

func (f fakeDataplane) Remove(r hnv.RDID) {
	f.mu.Lock()
	n := f.names[r]
	delete(f.records, r)
	delete(f.tables, r)
	f.sequence = append(f.sequence, "no tables of "+n)
	f.mu.Unlock()
	_ = f.call("remove dataplane", n)
}

func (f fakeDataplane) UpdateRecords(r hnv.RDID, put []hnv.Record, del []hnv.RecordKey) error {
	f.mu.Lock()
	n, m := f.names[r], f.records[r]
	if m == nil {
		f.mu.Unlock()
		return fmt.Errorf("no routing domain %s", r)
	}
	for _, k := range del {
		delete(m, k)
	}
	for _, p := range put {
		m[p.RecordKey()] = p.PA
	}
	f.mu.Unlock()
	return f.call("records", n)
}
func (f fakeDataplane) Counters() []dataplane.TenantCounters { return nil }

type fakeWiring struct{ *engines }

func (f fakeWiring) Provider(s FabricSide) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fabric = s
	return nil
}
func (f fakeWiring) Attach(s dataplane.PortSpec, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["attach "+s.Name]; err != nil {
		return err
	}
	if !f.plugged[s.Name] {
		f.calls[s.Name] = append(f.calls[s.Name], "attach")
	}
	if !f.plugged[s.Name] || f.specs[s.Name] != s {
		f.sequence = append(f.sequence, "plug "+s.Name)
	}
	f.plugged[s.Name], f.specs[s.Name] = true, s
	return nil
}
func (f fakeWiring) Unreachable(pas []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = pas
}

func (f fakeWiring) Detach(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plugged[name] {
		f.sequence = append(f.sequence, "unplug "+name)
	}
	delete(f.plugged, name)
}
func (f fakeWiring) Failed() <-chan string { return f.broke }
func (f fakeWiring) Settled() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = append(f.settled, len(f.plugged))
	return nil
}
func (f fakeWiring) FabricPath(link string) Path {
	return Path{Name: "go", Reason: "a test has " + link}
}
func (f fakeWiring) PortPath(name string) Path {
	f.mu.Lock()
	asked := f.asked
	f.mu.Unlock()
	if asked != nil {
		asked()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.plugged[name] {
		return Path{}
	}
	return Path{Name: "ebpf"}
}

// start runs a Controller on fakes until the test ends.
func start(t *testing.T, m *memory, e *engines) *Controller {
	t.Helper()
	return startWith(t, m, e, func(*Options) {})
}

func startWith(t *testing.T, m *memory, e *engines, change func(*Options)) *Controller {
	t.Helper()
	o := Options{
		Store: m, Compartments: fakeCompartments{e}, NAT: fakeNAT{e}, Dataplane: fakeDataplane{e}, Wiring: fakeWiring{e},
		PAMTU: func() int { return 1500 }, Log: slog.New(slog.NewTextHandler(e, nil)),
		Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, DriftInterval: 20 * time.Millisecond, StepTimeout: time.Minute,
	}
	change(&o)
	c := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// calm waits until all that was written is done: the first events may come after
// the look at everything that the start begins with.
func calm(t *testing.T, c *Controller) {
	t.Helper()
	eventually(t, "all is done", c.settled)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func vsid(n uint32) hnv.VSID { return must(hnv.NewVSID(n)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func put(o hnv.Object) hnv.Change { return hnv.Change{Put: o} }

func theTenant(name string, base uint32, external string) hnv.Tenant {
	p := func(s string) []hnv.SubnetPrefix { return []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix(s)}} }
	return hnv.Tenant{
		Name: must(hnv.ParseName(name)), RDID: must(hnv.ParseRDID(fmt.Sprintf("00000000-0000-4000-8000-%012d", base))), Encap: hnv.NVGRE,
		Subnets: []hnv.Subnet{{VSID: vsid(base), Prefixes: p("10.1.1.0/24")}, {VSID: vsid(base + 1), Prefixes: p("10.1.2.0/24")}, {VSID: vsid(base - 1), Prefixes: p("10.254.254.0/29")}},
		Gateway: &hnv.Gateway{VSID: vsid(base - 1), Uplink: "internet", NAT: &hnv.NAT{Pool: []hnv.ExternalRange{must(hnv.ParseExternalRange(external))}}},
	}
}

func theRecord(v uint32, ca, pa string) hnv.Record {
	return hnv.Record{VSID: vsid(v), CA: netip.MustParseAddr(ca), MAC: must(hnv.ParseMAC("00:15:5d:00:00:01")), PA: netip.MustParseAddr(pa), Rule: hnv.RuleNVGRE, Type: hnv.Static}
}

var (
	theAddress = hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.1/24"), Interface: "pa0"}
	errBroken  = errors.New("broken on purpose")
)
