package servertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Store is a server.Store in memory.
type Store struct {
	mu       sync.RWMutex
	fabric   *hnv.Fabric
	revision int64
	// Fail, unless nil, is what writing says.
	Fail error
}

// NewStore gives an empty state.
func NewStore(site hnv.Site) *Store { return &Store{fabric: hnv.NewFabric(site)} }

// View calls fn with the present state.
func (s *Store) View(fn func(f *hnv.Fabric)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	fn(s.fabric)
}

// Revision counts the writes that changed something.
func (s *Store) Revision() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.revision
}

// Plan is what the store is asked to do.
type Plan = func(f *hnv.Fabric) ([]hnv.Change, error)

// UpdateFunc carries out all changes or none.
func (s *Store) UpdateFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) (int64, error) {
	return s.do(ctx, plan, false)
}

// CheckFunc tells what UpdateFunc would say.
func (s *Store) CheckFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) error {
	_, err := s.do(ctx, plan, true)
	return err
}

// ImportFunc is UpdateFunc or CheckFunc.
func (s *Store) ImportFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error), check bool) (int64, error) {
	return s.do(ctx, plan, check)
}

func (s *Store) do(ctx context.Context, plan Plan, check bool) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := plan(s.fabric)
	if err != nil {
		return 0, err
	}
	undo, err := s.fabric.Apply(changes)
	if err != nil {
		return 0, err
	}
	if check {
		undo()
		return s.revision, nil
	}
	if s.Fail != nil {
		undo()
		return 0, s.Fail
	}
	if len(changes) > 0 {
		s.revision++
	}
	return s.revision, nil
}

// Objects gives all that the store holds.
func (s *Store) Objects() []hnv.Object {
	var out []hnv.Object
	s.View(func(f *hnv.Fabric) {
		for _, k := range hnv.Kinds() {
			out = append(out, f.List(k)...)
		}
	})
	return out
}

// Same tells whether the store holds just these objects.
func (s *Store) Same(objects []hnv.Object) bool { return reflect.DeepEqual(s.Objects(), objects) }

// Backend is a server.Backend that tells the same at any time: every tenant of
// its store is built and ready, and has seen a little traffic.
type Backend struct {
	Store *Store
	// Sick names a tenant whose compartment cannot be built.
	Sick string
}

var started = time.Date(2026, 11, 20, 6, 30, 0, 0, time.UTC)

// Version is a made-up one.
func (b *Backend) Version() v1.Version {
	return v1.Version{Version: "0.1.0", Commit: "abcdef123456", Go: "go1.26.0", API: "v1", Kernel: "6.18.0"}
}

// Status tells of a gateway in good health.
func (b *Backend) Status(ctx context.Context) (v1.GatewayStatus, error) {
	st := v1.GatewayStatus{
		Instance: "hnv", Phase: v1.PhaseReady, Version: b.Version(), Started: started,
		Features: []v1.Feature{{Name: "dataplane", Path: "ebpf", Reason: "the configuration says so (path: ebpf)"}},
		FastPath: &v1.FastPathStatus{
			Tables: []v1.FastPathTable{{Name: "records", Used: 12, Max: 1 << 20}},
			Left:   []v1.FastPathLeft{{Reason: "arp", Packets: 7}},
		},
		Uplinks:      []v1.LinkStatus{{Name: "internet", Interface: "eth2", Phase: v1.PhaseReady, MTU: 1500}},
		GatewayDrops: []v1.Drop{{Reason: "spoofed", Packets: 4}},
		Unattributed: []v1.Drop{
			{Reason: "outer-malformed", Packets: 2},
			{Reason: "vsid-unknown", Packets: 40},
		},
	}
	var names []hnv.Name
	b.Store.View(func(f *hnv.Fabric) {
		for _, p := range f.ProviderAddresses() {
			st.ProviderAddresses = append(st.ProviderAddresses, v1.LinkStatus{Name: p.Addr.String(), Interface: p.Interface, Phase: v1.PhaseReady, MTU: 1500, Path: "ebpf"})
		}
		for _, p := range f.Ports() {
			st.Ports = append(st.Ports, v1.LinkStatus{Name: p.Interface, Interface: p.Interface, Phase: v1.PhasePending, Message: "the interface is not there yet"})
		}
		for _, t := range f.Tenants() {
			names = append(names, t.Name)
		}
	})
	for _, n := range names {
		t, err := b.TenantStatus(ctx, n)
		if err != nil {
			return st, err
		}
		t.NAT, t.Layers = nil, nil
		st.Tenants = append(st.Tenants, t)
		if t.Phase != v1.PhaseReady {
			st.Phase = v1.PhaseDegraded
		}
	}
	return st, nil
}

// TenantStatus tells of one tenant.
func (b *Backend) TenantStatus(_ context.Context, n hnv.Name) (v1.TenantStatus, error) {
	var t hnv.Tenant
	var ok bool
	records := 0
	b.Store.View(func(f *hnv.Fabric) {
		t, ok = f.Tenant(n)
		records = len(f.TenantRecords(n))
	})
	if !ok {
		return v1.TenantStatus{}, fmt.Errorf("tenant %s: %w", n, hnv.ErrNotFound)
	}
	st := v1.TenantStatus{
		Name: n.String(), RDID: t.RDID.String(), Phase: v1.PhaseReady, ObservedRevision: 1, Records: records,
		Conditions: []v1.Condition{{Type: "DataplaneReady", Status: true, Reason: "Applied", Since: started}},
		Counters: v1.Counters{
			FromFabric: v1.Traffic{Packets: 1200, Bytes: 150000}, ToFabric: v1.Traffic{Packets: 1100, Bytes: 990000},
			FromPorts: v1.Traffic{Packets: 1100, Bytes: 940000}, ToPorts: v1.Traffic{Packets: 1200, Bytes: 110000},
			Answered: 4, Drops: []v1.Drop{{Reason: "source-pa-mismatch", Packets: 3}},
		},
	}
	st.Layers = []v1.LayerCounters{{Layer: "acl", Matched: v1.Traffic{Packets: 2300, Bytes: 1050000}, Dropped: 7}, {Layer: "vnet", Matched: v1.Traffic{Packets: 2293, Bytes: 1049580}}}
	if t.Gateway != nil {
		st.Records++
		st.Compartment = "hnv-" + n.String()
		st.Path = "ebpf"
		if t.QoS != nil {
			st.Path, st.PathReason = "go", "the tenant's packets are being captured"
		}
		ready := v1.Condition{Type: "CompartmentReady", Status: true, Reason: "Applied", Since: started}
		if b.Sick == n.String() {
			st.Phase = v1.PhaseError
			ready = v1.Condition{Type: ready.Type, Reason: "ApplyFailed", Message: "create compartment " + b.Sick + ": no space left on device", Since: started}
		}
		st.Conditions = append(st.Conditions, ready)
		if t.Gateway.NAT != nil {
			st.NAT = &v1.NATStatus{Connections: 2, Drops: []v1.Drop{{Reason: "invalid", Packets: 7}, {Reason: "not-syn", Packets: 1}}}
		}
		b.reach(n, &st)
		st.Repairs = 1
		st.LastRepair = &v1.Repair{Time: started.Add(time.Hour), What: []string{"route 10.1.1.0/24 was missing"}}
	}
	return st, nil
}

// Compartments tells of one for each tenant with a gateway.
func (b *Backend) Compartments(context.Context) ([]v1.Compartment, error) {
	var out []v1.Compartment
	b.Store.View(func(f *hnv.Fabric) {
		for _, t := range f.Tenants() {
			if t.Gateway == nil {
				continue
			}
			g := v1.NewTenant(t).Gateway
			c := v1.Compartment{
				Tenant: t.Name.String(), RDID: t.RDID.String(), Namespace: "hnv-" + t.Name.String(), VSID: g.VSID,
				Interface: "wnv" + t.Gateway.VSID.String(), MAC: hnv.CompartmentMAC(t.Gateway.VSID).String(), CAs: g.CAs,
				MTU: 1500 - t.Encap.Overhead(false), Uplink: g.Uplink, Phase: v1.PhaseReady, Path: "ebpf",
			}
			if g.NAT != nil {
				c.External = g.NAT.Pool
			}
			out = append(out, c)
		}
	})
	return out, nil
}

// DerivedRecords gives the compartments' records, behind the first PA.
func (b *Backend) DerivedRecords() []hnv.Record {
	var out []hnv.Record
	b.Store.View(func(f *hnv.Fabric) {
		pas := f.ProviderAddresses()
		for _, t := range f.Tenants() {
			if t.Gateway == nil || len(pas) == 0 {
				continue
			}
			for _, ca := range t.Gateway.CAs {
				out = append(out, hnv.Record{
					VSID: t.Gateway.VSID, CA: ca, MAC: hnv.CompartmentMAC(t.Gateway.VSID), PA: pas[0].Addr.Addr(),
					Rule: hnv.Rule(t.Encap), Type: hnv.Static,
				})
			}
		}
	})
	return out
}

// ForHost gives what the state has for a host, with the records of the
// compartments.
func (b *Backend) ForHost(pas []netip.Addr) (out []hnv.Object) {
	b.Store.View(func(f *hnv.Fabric) { out = f.ForHost(pas) })
	mine := map[hnv.VSID]bool{}
	for _, o := range out {
		if t, ok := o.(hnv.Tenant); ok {
			for _, s := range t.Subnets {
				mine[s.VSID] = true
			}
		}
	}
	for _, r := range b.DerivedRecords() {
		if mine[r.VSID] {
			out = append(out, r)
		}
	}
	return out
}

// errNoNAT is told of a tenant that has no NAT here.
type errNoNAT struct{ tenant hnv.Name }

func (e errNoNAT) Error() string {
	return "tenant " + e.tenant.String() + " has no NAT on this gateway"
}
func (errNoNAT) Unwrap() error { return hnv.ErrNotFound }

// NATSessions tells of two.
func (b *Backend) NATSessions(_ context.Context, n hnv.Name, limit int) ([]v1.NATSession, bool, error) {
	var t hnv.Tenant
	b.Store.View(func(f *hnv.Fabric) { t, _ = f.Tenant(n) })
	if t.Gateway == nil || t.Gateway.NAT == nil {
		return nil, false, errNoNAT{n}
	}
	if limit < 1 {
		return nil, false, errors.New("limit below 1")
	}
	all := []v1.NATSession{
		{Proto: "tcp", Direction: "out", Inside: "10.1.1.11:50312", External: "203.0.113.10:50312", Remote: "198.51.100.20:80", State: "ESTABLISHED", Timeout: 432000,
			Out: v1.Traffic{Packets: 12, Bytes: 1400}, In: v1.Traffic{Packets: 10, Bytes: 14000}},
		{Proto: "icmp", Direction: "out", Inside: "10.1.1.12:77", External: "203.0.113.10:77", Remote: "198.51.100.20:0", Timeout: 30},
	}
	return all[:min(limit, len(all))], limit < len(all), nil
}
