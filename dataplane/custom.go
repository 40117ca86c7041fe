package dataplane

import (
	"fmt"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// A library user's layers may allow, block, meter and rewrite as any layer may.
// Two more things they can do: send packets through a tunnel of their own choice,
// whatever the mapping space says, and hand them over to whoever reads a queue.
// Where packets are found, and what becomes of those out of tunnels, is for the
// virtual network's own layers alone.

// checkCustom refuses what a library user's layer may not do; no tunnel leads out
// of the routing domain.
func checkCustom(l *vfp.Layer, d *lookup.Domain) error {
	for _, g := range l.Groups {
		for _, r := range g.Rules {
			at := fmt.Sprintf("layer %q, group %q, rule %q", l.Name, g.Name, r.ID)
			switch a := &r.Action; {
			case a.Kind == vfp.Route || a.Kind == vfp.Decap || a.Kind == vfp.Encap && a.Space != "":
				return fmt.Errorf("%s: the action %s is for the layers %s and %s", at, a.Kind, LayerVNET, LayerForward)
			case a.Kind != vfp.Encap:
			case g.Direction != outbound:
				return fmt.Errorf("%s: packets to the port cannot be encapsulated", at)
			case !d.Has(a.Tunnel.VSID):
				return fmt.Errorf("%s: VSID %d is not one of the routing domain's: %w", at, a.Tunnel.VSID, ErrUnknown)
			}
		}
	}
	return nil
}

// punts are the readers of the queues; immutable.
type punts [256]Writer

// SetPunt gives the packets that rules hand over to a queue to w, as the Ethernet
// frames that they are, to a port or from it; nil is nobody.
func (s *Switch) SetPunt(q vfp.PuntQueue, w Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := punts{}
	if old := s.punts.Load(); old != nil {
		next = *old
	}
	next[q] = w
	s.punts.Store(&next)
}

// punt hands the packet under way over.
func (w *Worker) punt(q vfp.PuntQueue) drop.Reason {
	readers := w.sw.punts.Load()
	if readers == nil || readers[q] == nil {
		return drop.PuntUnread
	}
	one := [1]*packet.Frame{w.x.f}
	if n, err := readers[q].WriteBatch(one[:]); n != 1 || err != nil {
		return drop.PuntUnread
	}
	return drop.Punted
}

// fixedTunnel gives the tunnel that a library user's rule sends the packet
// through, nil if none does.
func fixedTunnel(v *vfp.Composed) *vfp.Tunnel {
	if !v.Has(vfp.Encap) {
		return nil
	}
	for _, a := range v.Actions() {
		if a.Kind == vfp.Encap && a.Space == "" {
			return &a.Tunnel
		}
	}
	return nil
}

// forwardTunnel sends the packet through a library user's tunnel.
func (w *Worker) forwardTunnel(t *vfp.Tunnel, src place) drop.Reason {
	x := &w.x
	kind := encap.KindNVGRE
	if t.Protocol == vfp.VXLAN {
		kind = encap.KindVXLAN
	}
	hash := x.h.FlowHash()
	dst := lookup.AddrFrom(t.Dst)
	from := w.outerSource(src.rec, dst, hash)
	if !from.IsValid() || from.Is6() != dst.Is6() {
		return drop.NoSourcePA
	}
	tunnel := encap.Header{Kind: kind, Src: from.Netip(), Dst: t.Dst, VSID: t.VSID, TOS: x.tenant.dscp(x.h.DSCP)<<2 | x.h.ECN}
	tunnel.SetEntropy(hash)
	mtu := x.innerMTU(&tunnel)
	cut, r := w.fit(mtu)
	if r != drop.None {
		return r
	}
	return w.emit(&tunnel, mtu, cut)
}
