package control

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/nat"
)

func (c *Controller) counters() map[hnv.RDID]dataplane.TenantCounters {
	out := map[hnv.RDID]dataplane.TenantCounters{}
	for _, t := range c.o.Dataplane.Counters() {
		out[t.RDID] = t
	}
	return out
}

func traffic(t dataplane.TenantCounters) v1.Counters {
	return v1.Counters{
		FromFabric: v1.Traffic(t.FromFabric), ToFabric: v1.Traffic(t.ToFabric),
		FromPorts: v1.Traffic(t.FromPorts), ToPorts: v1.Traffic(t.ToPorts),
		Answered: t.Answered, ICMPErrors: t.ICMPErrors, Drops: drops(t),
	}
}

func drops(t dataplane.TenantCounters) []v1.Drop {
	out := []v1.Drop{}
	for r, n := range t.DropsByReason {
		if n > 0 {
			out = append(out, v1.Drop{Reason: r.String(), Packets: n})
		}
	}
	sortDrops(out)
	return out
}

func sortDrops(d []v1.Drop) {
	slices.SortFunc(d, func(a, b v1.Drop) int { return cmp.Compare(a.Reason, b.Reason) })
}

// Compartments tells of each tenant's that this machine is the gateway of.
func (c *Controller) Compartments() []v1.Compartment {
	mtu := c.machine().paMTU
	out := []v1.Compartment{}
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, t := range f.Tenants() {
			if t.Gateway != nil {
				out = append(out, describe(compartmentSpec(f, t, compartmentMTU(f, t, mtu))))
			}
		}
	})
	for i := range out {
		x := &out[i]
		if n, err := hnv.ParseName(x.Tenant); err == nil {
			if t := c.find(n); t != nil {
				t.status.compartment(x, t.wish.pending())
				x.Path, x.PathReason = c.o.Wiring.PortPath(compartmentPort(n)).words()
			}
		}
	}
	return out
}

// describe says what a compartment shall be; as long as nothing else is known,
// it is pending.
func describe(s *compartments.Spec) v1.Compartment {
	out := v1.Compartment{
		Tenant: s.Name.String(), RDID: s.RDID.String(), VSID: s.VSID.Uint32(), Interface: compartments.OverlayLink(s.VSID),
		MAC: s.MAC.String(), MTU: s.MTU, Uplink: s.Uplink, Phase: v1.PhasePending, CAs: []string{}, External: []string{},
	}
	for _, ca := range s.CAs {
		out.CAs = append(out.CAs, ca.String())
	}
	for _, e := range s.External {
		out.External = append(out.External, e.String())
	}
	return out
}

// compartment adds what is known of it.
func (s *status) compartment(out *v1.Compartment, pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.result.Namespace != "" {
		out.Namespace = baseName(s.result.Namespace)
	}
	var conds []v1.Condition
	for _, c := range s.conds {
		if c.Type != condDataplane {
			conds = append(conds, c)
			if !c.Status {
				out.Message = c.Message
			}
		}
	}
	out.Phase = phase(conds, pending || len(conds) == 0, nil, time.Now(), 0)
}

// gatewayDrops reads what the gateway's own rules count, without what they keep
// from the stack as a matter of course because the dataplane has it.
func (c *Controller) gatewayDrops() []v1.Drop {
	out := []v1.Drop{}
	all, err := c.o.Compartments.Drops()
	if err != nil {
		c.o.Log.Warn("read the gateway's drop counters", "err", err)
		return out
	}
	more := c.exitDrops()
	for _, d := range all {
		if n := d.Packets + more[d.Reason]; n > 0 && !d.Routine() {
			out = append(out, v1.Drop{Reason: d.Reason, Packets: n})
		}
	}
	sortDrops(out)
	return out
}

// exitDrops are those of the kernel's programs, by the reasons that the rules have
// too.
func (c *Controller) exitDrops() map[string]uint64 {
	out := map[string]uint64{}
	if c.o.Exits == nil {
		return out
	}
	all, err := c.o.Exits.Counters()
	if err != nil {
		c.o.Log.Warn("read the uplink's counters", "err", err)
	}
	for _, n := range all {
		out[compartments.DropSpoofed] += n.Spoofed
		out[compartments.DropFragment] += n.Fragment
	}
	return out
}

// natStatus reads what the rules in a tenant's compartment count, which are there for
// NAT and for what it forwards; nil where it has neither. The compartment may vanish
// meanwhile, which the conditions tell: it is no reason to tell nothing.
func (c *Controller) natStatus(ctx context.Context, n hnv.Name) *v1.NATStatus {
	var spec hnv.Tenant
	var rules bool
	c.o.Store.View(func(f *hnv.Fabric) {
		spec, _ = f.Tenant(n)
		rules = spec.Gateway != nil && (spec.Gateway.NAT != nil || reachesOut(f, n))
	})
	t := c.find(n)
	if t == nil || !rules || t.status.namespace() == "" {
		return nil
	}
	s, err := c.o.NAT.Snapshot(ctx, t.status.namespace())
	if err != nil {
		c.o.Log.Warn("read NAT counters", "tenant", n, "rdid", spec.RDID, "err", err)
		return nil
	}
	if !s.Programmed {
		return nil
	}
	out := &v1.NATStatus{Connections: s.Connections, Drops: []v1.Drop{}}
	for name, k := range s.Drops {
		if k.Packets > 0 {
			out.Drops = append(out.Drops, v1.Drop{Reason: strings.TrimPrefix(name, nat.DropPrefix), Packets: k.Packets})
		}
	}
	sortDrops(out.Drops)
	c.offloadStatus(t, out)
	return out
}

// offloadStatus tells who translates the tenant's established connections.
func (c *Controller) offloadStatus(t *tenant, out *v1.NATStatus) {
	t.status.mu.Lock()
	link, within := t.status.exit, t.status.within
	t.status.mu.Unlock()
	out.Offload, out.OffloadReason = pathFast, within
	if within != "" {
		out.Offload = "kernel"
	}
	if c.o.Exits == nil || link == 0 {
		return
	}
	counters, err := c.o.Exits.Counters()
	if err != nil {
		c.o.Log.Warn("read the exits' counters", "tenant", t.name, "err", err)
		return
	}
	if n, ok := counters[link]; ok {
		out.Offloaded = &v1.Passage{In: v1.Traffic(n.NATIn), Out: v1.Traffic(n.NATOut)}
	}
}

// NATSessions lists a tenant's tracked connections.
func (c *Controller) NATSessions(ctx context.Context, n hnv.Name, limit int) (sessions []v1.NATSession, more bool, err error) {
	var t hnv.Tenant
	var ok bool
	c.o.Store.View(func(f *hnv.Fabric) { t, ok = f.Tenant(n) })
	switch {
	case !ok:
		return nil, false, fmt.Errorf("tenant %s does not exist: %w", n, hnv.ErrNotFound)
	case t.Gateway == nil || t.Gateway.NAT == nil:
		return nil, false, fmt.Errorf("tenant %s has no NAT on this machine: %w", n, hnv.ErrNotFound)
	}
	tn := c.find(n)
	if tn == nil || tn.status.namespace() == "" {
		return nil, false, fmt.Errorf("the compartment of tenant %s is not built yet: see «gatewayctl tenant show %s»: %w", n, n, hnv.ErrNotFound)
	}
	list, total, err := c.o.NAT.Sessions(ctx, tn.status.namespace(), limit)
	if err != nil {
		return nil, false, fmt.Errorf("list NAT sessions of tenant %s: %w", n, err)
	}
	out := []v1.NATSession{}
	for _, s := range list {
		out = append(out, session(s))
	}
	return out, total > len(list), nil
}

func session(s nat.Session) v1.NATSession {
	out := v1.NATSession{
		Proto: s.Proto, Direction: direction[s.Kind], Inside: text(s.Inside), External: text(s.External), Remote: text(s.Remote),
		State: s.State, Timeout: uint32(s.Timeout.Seconds()),
	}
	sent, received := v1.Traffic{Packets: s.Sent.Packets, Bytes: s.Sent.Bytes}, v1.Traffic{Packets: s.Received.Packets, Bytes: s.Received.Bytes}
	out.Out, out.In = sent, received
	if s.Kind == nat.Inbound {
		out.Out, out.In = received, sent // Sent is the opener's, and that was outside
	}
	return out
}

var direction = map[nat.Kind]string{nat.Outbound: "out", nat.Inbound: "in", nat.Hairpin: "hairpin", nat.Local: "local"}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
