package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// status is what is known of one tenant.
type status struct {
	mu         sync.Mutex
	conds      []v1.Condition
	revision   int64
	records    int
	rdid       string
	repairs    uint64
	lastRepair *v1.Repair
	result     compartments.Result
	exit       int    // the link of its exit; 0: none
	within     string // why its compartment translates established connections; "": the programs do
}

func (s *status) set(kind string, ok bool, reason, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, there := slices.BinarySearchFunc(s.conds, kind, func(c v1.Condition, k string) int { return strings.Compare(c.Type, k) })
	if !there {
		s.conds = slices.Insert(s.conds, i, v1.Condition{Type: kind, Status: !ok})
	}
	c := &s.conds[i]
	if c.Status != ok {
		c.Since = time.Now()
	}
	c.Status, c.Reason, c.Message = ok, reason, message
}

// get gives a condition, and whether there is one.
func (s *status) get(kind string) (v1.Condition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, there := slices.BinarySearchFunc(s.conds, kind, func(c v1.Condition, k string) int { return strings.Compare(c.Type, k) })
	if !there {
		return v1.Condition{}, false
	}
	return s.conds[i], true
}

func (s *status) drop(kinds ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conds = slices.DeleteFunc(s.conds, func(c v1.Condition) bool { return slices.Contains(kinds, c.Type) })
}

func (s *status) observed(revision int64, d Desired, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records, s.rdid = d.Records, d.RDID.String()
	if err == nil {
		s.revision = revision
	}
}

func (s *status) repaired(what []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repairs++
	s.lastRepair = &v1.Repair{Time: time.Now(), What: what}
}

func (s *status) place(r compartments.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = r
}

func (s *status) unplace() {
	s.place(compartments.Result{})
	s.exits(0, "")
}

// exits notes the exit's link, and why the programs do not translate its connections.
func (s *status) exits(link int, within string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exit, s.within = link, within
}

func (s *status) port() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result.Port
}

func (s *status) namespace() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result.Namespace
}

// Status is the gateway's, with all tenants' and the uplinks as given. Version,
// instance and features are the caller's to fill in.
func (c *Controller) Status(uplinks []v1.LinkStatus) v1.GatewayStatus {
	// Asked before anything else is looked at: what is passed on meanwhile is pending
	// below, or done by then.
	behind := c.behind()
	counters := c.counters()
	out := v1.GatewayStatus{
		Started: c.started, Phase: v1.PhaseReady,
		Conditions:        c.conditions(),
		ProviderAddresses: c.provider.addresses(),
		Ports:             c.ports.list(),
		Uplinks:           uplinks,
		Tenants:           []v1.TenantStatus{},
		Unattributed:      drops(counters[hnv.RDID{}]),
		LeftToStack:       counters[hnv.RDID{}].LeftToStack,
		GatewayDrops:      c.gatewayDrops(),
	}
	for _, n := range c.known() {
		t, err := c.tenantStatus(n, counters)
		if err == nil {
			out.Tenants = append(out.Tenants, t)
		}
	}
	out.Phase = worst(out)
	if out.Phase == v1.PhaseReady && behind {
		out.Phase = v1.PhasePending
	}
	return out
}

// behind tells whether something that was written has not reached all that look
// after it, or what belongs to no tenant is still being worked on.
func (c *Controller) behind() bool {
	return c.handled.Load() < c.o.Store.Revision() || c.provider.wish.pending() || c.ports.wish.pending()
}

// known names the tenants of the store and those still being torn down.
func (c *Controller) known() []hnv.Name {
	set := map[hnv.Name]*tenant{}
	c.mu.Lock()
	for n, t := range c.tenants {
		set[n] = t
	}
	c.mu.Unlock()
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, t := range f.Tenants() {
			set[t.Name] = nil
		}
	})
	return sortedNames(set)
}

func worst(s v1.GatewayStatus) v1.Phase {
	rank := map[v1.Phase]int{v1.PhaseReady: 0, v1.PhasePending: 1, v1.PhaseDegraded: 2, v1.PhaseError: 3}
	w := v1.PhaseReady
	take := func(p v1.Phase) {
		if rank[p] > rank[w] {
			w = p
		}
	}
	for _, c := range s.Conditions {
		switch {
		case c.Status:
		case c.Type == condStore || c.Type == condNeighbours || c.Type == condSecrets:
			take(v1.PhaseDegraded)
		default:
			take(v1.PhaseError)
		}
	}
	for _, l := range [][]v1.LinkStatus{s.ProviderAddresses, s.Ports, s.Uplinks} {
		for _, x := range l {
			take(x.Phase)
		}
	}
	for _, t := range s.Tenants {
		take(t.Phase)
	}
	return w
}

// TenantStatus is one tenant's, with what its NAT counts. That is read from the
// kernel for each call, so that it is not in the status of all.
func (c *Controller) TenantStatus(ctx context.Context, n hnv.Name) (v1.TenantStatus, error) {
	out, err := c.tenantStatus(n, c.counters())
	if err != nil {
		return out, err
	}
	out.NAT = c.natStatus(ctx, n)
	if r, err := hnv.ParseRDID(out.RDID); err == nil {
		out.Layers = c.layers(r)
	}
	return out, nil
}

func (c *Controller) tenantStatus(n hnv.Name, counters map[hnv.RDID]dataplane.TenantCounters) (v1.TenantStatus, error) {
	var spec hnv.Tenant
	var stored bool
	c.o.Store.View(func(f *hnv.Fabric) { spec, stored = f.Tenant(n) })
	t := c.find(n)
	if t == nil && !stored {
		return v1.TenantStatus{}, fmt.Errorf("tenant %s does not exist: %w", n, hnv.ErrNotFound)
	}
	out := v1.TenantStatus{Name: n.String(), Phase: v1.PhasePending, Conditions: []v1.Condition{}}
	if stored {
		out.RDID = spec.RDID.String()
	}
	if t != nil {
		t.status.fill(&out, t.wish.pending() || t.keeper.pending() || !stored, c.o.DriftInterval)
		if stored {
			c.o.Store.View(func(f *hnv.Fabric) { t.fillSites(&out, f, spec) })
		}
		out.Path, out.PathReason = c.o.Wiring.PortPath(compartmentPort(n)).words()
	}
	if stored {
		out.Counters = traffic(counters[spec.RDID])
	} else {
		out.Counters = traffic(dataplane.TenantCounters{})
	}
	return out, nil
}

func (s *status) fill(out *v1.TenantStatus, pending bool, interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Conditions = slices.Clone(s.conds)
	if out.Conditions == nil {
		out.Conditions = []v1.Condition{}
	}
	out.Phase = phase(s.conds, pending, s.lastRepair, time.Now(), interval)
	out.ObservedRevision, out.Repairs, out.Records = s.revision, s.repairs, s.records
	out.LastRepair = s.lastRepair
	if s.result.Namespace != "" {
		out.Compartment = baseName(s.result.Namespace)
	}
	if out.RDID == "" {
		out.RDID = s.rdid
	}
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// DerivedRecords are those of the compartments.
func (c *Controller) DerivedRecords() []hnv.Record {
	var out []hnv.Record
	c.o.Store.View(func(f *hnv.Fabric) {
		pa, ok := f.GatewayPA()
		if !ok {
			return
		}
		for _, t := range f.Tenants() {
			if t.Gateway != nil {
				out = append(out, derivedRecords(t, pa)...)
			}
		}
	})
	return out
}
