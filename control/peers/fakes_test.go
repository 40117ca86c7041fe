package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store without etcd.
type memory struct {
	mu       sync.Mutex
	f        *hnv.Fabric
	revision atomic.Int64
	subs     []*subscriber
}

type subscriber struct {
	mu    sync.Mutex
	queue []store.Event
	wake  chan struct{}
}

func newMemory() *memory { return &memory{f: hnv.NewFabric(hnv.Site{PAInterfaces: []string{"pa0"}})} }

func (m *memory) View(fn func(*hnv.Fabric)) { m.mu.Lock(); defer m.mu.Unlock(); fn(m.f) }
func (m *memory) Revision() int64           { return m.revision.Load() }

func (s *subscriber) put(e store.Event) {
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (m *memory) Watch(ctx context.Context) <-chan store.Event {
	s := &subscriber{wake: make(chan struct{}, 1)}
	m.mu.Lock()
	s.put(store.Event{Revision: m.revision.Load(), Resync: true})
	m.subs = append(m.subs, s)
	m.mu.Unlock()
	out := make(chan store.Event)
	go func() {
		defer close(out)
		for {
			s.mu.Lock()
			var e store.Event
			some := len(s.queue) > 0
			if some {
				e, s.queue = s.queue[0], s.queue[1:]
			}
			s.mu.Unlock()
			if !some {
				select {
				case <-s.wake:
				case <-ctx.Done():
					return
				}
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (m *memory) UpdateFunc(_ context.Context, plan func(*hnv.Fabric) ([]hnv.Change, error)) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes, err := plan(m.f)
	if err != nil || len(changes) == 0 {
		return m.revision.Load(), err
	}
	before := map[string]hnv.Object{}
	for _, c := range changes {
		o := c.Put
		if o == nil {
			o = c.Delete
		}
		id := string(o.Kind()) + " " + o.Key()
		if _, seen := before[id]; !seen {
			before[id], _ = m.f.Get(o.Kind(), o.Key())
		}
	}
	if _, err := m.f.Apply(changes); err != nil {
		return 0, err
	}
	e := store.Event{Revision: m.revision.Add(1)}
	for id, old := range before {
		kind, key, _ := strings.Cut(id, " ")
		now, _ := m.f.Get(hnv.Kind(kind), key)
		e.Changes = append(e.Changes, store.Applied{Old: old, Object: now})
	}
	for _, s := range m.subs {
		s.put(e)
	}
	return e.Revision, nil
}

// wire is the way from one host to another.
type wire struct {
	to *host

	mu   sync.Mutex
	cut  bool
	hang bool // requests are not answered at all
	deaf bool // requests arrive, answers do not

	puts int
}

func (w *wire) set(fn func(w *wire)) { w.mu.Lock(); defer w.mu.Unlock(); fn(w) }

var errCut = errors.New("connection refused")

func (w *wire) begin(ctx context.Context) (*Exchange, error) {
	w.mu.Lock()
	cut, hang := w.cut, w.hang
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	x := w.to.running.Load()
	if cut || x == nil {
		return nil, errCut
	}
	return x, nil
}

func (w *wire) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return errors.New("connection reset")
	}
	return nil
}

func (w *wire) LearnedRecords(ctx context.Context, pas []string) (v1.LearnedState, error) {
	x, err := w.begin(ctx)
	if err != nil {
		return v1.LearnedState{}, err
	}
	var addrs []netip.Addr
	for _, p := range pas {
		addrs = append(addrs, netip.MustParseAddr(p))
	}
	st, err := x.HeldLearned(ctx, addrs)
	return st, errors.Join(err, w.end())
}

func (w *wire) ReportLearned(ctx context.Context, r v1.LearnedReport) (v1.LearnedResult, error) {
	x, err := w.begin(ctx)
	if err != nil {
		return v1.LearnedResult{}, err
	}
	w.set(func(w *wire) { w.puts += len(r.Put) })
	res, err := x.AcceptLearned(ctx, r)
	return res, errors.Join(err, w.end())
}

// host is a machine: a store, and an exchange while it runs.
type host struct {
	t      *testing.T
	name   string
	pa     netip.Addr
	store  *memory
	limits Limits
	wires  map[string]*wire // by the peer's name
	order  []string

	x       *Exchange
	running atomic.Pointer[Exchange] // as its peers see it

	stop context.CancelFunc
	done chan struct{}
}

func newHost(t *testing.T, name, pa string) *host {
	h := &host{t: t, name: name, pa: netip.MustParseAddr(pa), store: newMemory(), wires: map[string]*wire{}}
	h.apply(
		hnv.Change{Put: hnv.ProviderAddress{Addr: netip.PrefixFrom(h.pa, 24), Interface: "pa0"}},
		hnv.Change{Put: tenant("contoso", 5001, 5002)},
		hnv.Change{Put: tenant("fabrikam", 6001)},
	)
	return h
}

func vsid(n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	if err != nil {
		panic(err)
	}
	return v
}

func tenant(name string, vsids ...uint32) hnv.Tenant {
	n, err := hnv.ParseName(name)
	if err != nil {
		panic(err)
	}
	t := hnv.Tenant{Name: n, Encap: hnv.VXLAN}
	for i, v := range vsids {
		t.Subnets = append(t.Subnets, hnv.Subnet{VSID: vsid(v), Prefixes: []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i+1))}}})
	}
	return t
}

// knows makes the hosts peers of each other.
func mesh(hosts ...*host) {
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				a.wires[b.name] = &wire{to: b}
				a.order = append(a.order, b.name)
			}
		}
	}
}

func (h *host) start() *host {
	h.t.Helper()
	o := Options{Origin: "hnv@" + h.name, Store: h.store, Limits: h.limits, Log: slog.New(slog.DiscardHandler)}
	for _, n := range h.order {
		o.Peers = append(o.Peers, Peer{Name: n, Target: n, Remote: h.wires[n]})
	}
	x, err := New(o)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.running.Store(x)
	h.x, h.stop, h.done = x, stop, make(chan struct{})
	go func() { defer close(h.done); _ = x.Run(ctx) }()
	return h
}

func (h *host) end() {
	if h.x == nil {
		return
	}
	h.running.Store(nil)
	h.stop()
	<-h.done
	h.x = nil
	h.store.mu.Lock()
	h.store.subs = nil
	h.store.mu.Unlock()
}

func (h *host) apply(changes ...hnv.Change) {
	h.t.Helper()
	if _, err := h.store.UpdateFunc(context.Background(), func(*hnv.Fabric) ([]hnv.Change, error) { return changes, nil }); err != nil {
		h.t.Error(err)
	}
}

func mac(n byte) hnv.MAC {
	m, err := hnv.ParseMAC(fmt.Sprintf("00:15:5d:00:00:%02x", n))
	if err != nil {
		panic(err)
	}
	return m
}

func key(v uint32, ca string) hnv.RecordKey {
	return hnv.RecordKey{VSID: vsid(v), CA: netip.MustParseAddr(ca)}
}

// learned is a record of this host's own.
func (h *host) learned(v uint32, ca string, m byte) hnv.Record {
	return hnv.Record{VSID: vsid(v), CA: netip.MustParseAddr(ca), MAC: mac(m), PA: h.pa, Rule: hnv.RuleVXLAN, Type: hnv.Dynamic}
}

// learn is what whoever learns does: it writes the record, and takes away what
// was learned of the station elsewhere.
func (h *host) learn(v uint32, ca string, m byte) {
	h.t.Helper()
	r := h.learned(v, ca, m)
	changes := []hnv.Change{{Put: r}}
	h.store.View(func(f *hnv.Fabric) {
		for _, o := range f.DynamicRecords() {
			if o.VSID == r.VSID && o.MAC == r.MAC && o.CA != r.CA && o.PA != r.PA {
				changes = append(changes, hnv.Change{Delete: o})
			}
		}
	})
	h.apply(changes...)
}

func (h *host) forget(v uint32, ca string) {
	h.t.Helper()
	h.apply(hnv.Change{Delete: hnv.Record{VSID: vsid(v), CA: netip.MustParseAddr(ca)}})
}

func (h *host) record(v uint32, ca string) (r hnv.Record, ok bool) {
	h.store.View(func(f *hnv.Fabric) { r, ok = f.Record(key(v, ca)) })
	return r, ok
}

// has tells what a host holds: the PA, or nothing.
func (h *host) has(v uint32, ca string) string {
	if r, ok := h.record(v, ca); ok {
		return r.PA.String()
	}
	return ""
}

func (h *host) want(when string, v uint32, ca, pa string) {
	h.t.Helper()
	if got := h.has(v, ca); got != pa {
		h.t.Errorf("%s: %s has %d/%s at %q, want %q", when, h.name, v, ca, got, pa)
	}
}

func (h *host) peer(name string) v1.PeerStatus {
	i := slices.Index(h.order, name)
	return h.x.Peers()[i]
}

// settle lets what follows from a change happen: moments, not minutes.
func settle() { time.Sleep(time.Second) }

func hnvPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// put counts the records that were reported this way.
func (w *wire) put() int { w.mu.Lock(); defer w.mu.Unlock(); return w.puts }
