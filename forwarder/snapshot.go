//go:build linux

package forwarder

import (
	"context"
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Snapshot tells the attachments' links that there are in the compartment, in the
// kernel's order.
func (e *Engine) Snapshot(ctx context.Context, tenant hnv.Name, namespace string) ([]LinkState, error) {
	out, err := e.snapshot(ctx, tenant, namespace)
	if err != nil {
		return nil, fmt.Errorf("read attachments of %s: %w", tenant, err)
	}
	return out, nil
}

func (e *Engine) snapshot(ctx context.Context, tenant hnv.Name, namespace string) ([]LinkState, error) {
	in, err := nl.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	links, err := in.Links()
	if err != nil {
		return nil, err
	}
	var out []LinkState
	for _, l := range links {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if l.Alias != e.names.alias(tenant) {
			continue
		}
		s := LinkState{Link: l.Name, Kind: l.Kind, Up: l.Up, Carrier: l.Up && l.Carrier, MAC: nl.MACString(l.MAC), MTU: l.MTU}
		if l.Kind == "veth" {
			s.Kind = KindBridge
			s.Carrier = s.Carrier && e.bridged(l.Parent)
		}
		addrs, err := in.Addrs(l.Index)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			s.Addresses = append(s.Addresses, a.Prefix)
		}
		c, err := in.LinkCounters(l.Index)
		if err != nil {
			return nil, err
		}
		s.Counters = Counters{RxPackets: c.RxPackets, RxBytes: c.RxBytes, RxDropped: c.RxDropped,
			TxPackets: c.TxPackets, TxBytes: c.TxBytes, TxDropped: c.TxDropped}
		out = append(out, s)
	}
	return out, nil
}

// bridged tells whether the port's bridge has a carrier: one of its ports is
// always the link's own other end, so this says that the bridge is up.
func (e *Engine) bridged(port int) bool {
	p, err := e.out.LinkByIndex(port)
	if err != nil || p.Master == 0 {
		return false
	}
	br, err := e.out.LinkByIndex(p.Master)
	return err == nil && br.Up
}
