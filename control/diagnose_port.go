package control

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// InspectPort tells all about a port: its interface, or compartment/TENANT.
func (c *Controller) InspectPort(_ context.Context, port string, flows int, ca string) (v1.PortInspection, error) {
	var p parser
	of := p.prefix("customer address", ca)
	if err := p.err(); err != nil {
		return v1.PortInspection{}, err
	}
	in, err := c.o.Sight.Inspect(portName(port), flows, of)
	if err != nil {
		return v1.PortInspection{}, kindly(err)
	}
	out := v1.PortInspection{
		Port: strings.TrimPrefix(in.Spec.Name, vmPort("")), Tenant: in.Tenant.String(), RDID: in.Spec.RDID.String(), VSID: in.Spec.VSID.Uint32(), MAC: in.Spec.MAC.String(),
		Kind: in.Spec.Kind.String(), MTU: in.Spec.MTU, ACL: in.Spec.ACL.String(), Up: in.Up,
		Table: v1.FlowTableState{Flows: in.Table.Flows, Hits: in.Table.Hits, Misses: in.Table.Misses, Inserted: in.Table.Inserts, Full: in.Table.Full},
	}
	for _, n := range in.Table.Evicted {
		out.Table.Evicted += n
	}
	for _, l := range in.Layers {
		out.Layers = append(out.Layers, layerState(l))
	}
	for _, m := range in.Meters {
		out.Meters = append(out.Meters, v1.MeterState{Direction: m.Direction.String(), Of: m.Name, Kbps: m.BitsPerSecond / 1000, Burst: m.Burst})
	}
	for _, l := range in.Learned {
		out.Learned = append(out.Learned, v1.LearnedAddress{CA: l.Record.CA.String(), Since: stamp(l.Since), Seen: stamp(l.Seen), Leased: stamp(l.Until)})
	}
	for i := range in.Flows {
		out.Flows = append(out.Flows, flowState(&in.Flows[i]))
	}
	return out, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func layerState(l dataplane.LayerInspection) v1.LayerState {
	out := v1.LayerState{Name: l.Name, Priority: l.Priority}
	for _, g := range l.Groups {
		group := v1.GroupState{Name: g.Name, Priority: g.Priority, Direction: g.Direction.String(), Family: g.Family.String()}
		for _, r := range g.Rules {
			group.Rules = append(group.Rules, v1.RuleState(r))
		}
		out.Groups = append(out.Groups, group)
	}
	return out
}

func flowState(f *dataplane.FlowInspection) v1.FlowState {
	k := f.Key
	out := v1.FlowState{
		Direction: vfp.Direction(k.Dir).String(), Proto: protoName(k.Proto), State: f.State.String(),
		Src: flowEnd(k.Source(), k.SrcPort), Dst: flowEnd(k.Destination(), k.DstPort),
		Idle: int(f.Idle / time.Second), Expires: int(f.Expires / time.Second),
		Sent: v1.Traffic{Packets: f.Packets, Bytes: f.Bytes}, Action: f.Action, Rules: f.Rules,
	}
	if f.Paired {
		out.Replied = &v1.Traffic{Packets: f.ReplyPackets, Bytes: f.ReplyBytes}
	}
	switch k.Kind {
	case flow.KindEchoRequest:
		out.Proto = "echo-request"
	case flow.KindEchoReply:
		out.Proto = "echo-reply"
	case flow.KindFragment:
		out.Proto = "fragment"
		out.Src, out.Dst = said(k.Source()), said(k.Destination())
	case flow.KindICMP:
		out.Proto += " type " + strconv.Itoa(int(k.SrcPort))
		out.Src, out.Dst = said(k.Source()), said(k.Destination())
	}
	return out
}

func flowEnd(a netip.Addr, port uint16) string {
	if !a.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(a, port).String()
}

// layers sums up what the layers of a tenant's ports have counted.
func (c *Controller) layers(r hnv.RDID) (out []v1.LayerCounters) {
	if c.o.Sight == nil {
		return nil
	}
	for _, l := range c.o.Sight.LayerCounters(r) {
		out = append(out, v1.LayerCounters{Layer: l.Name, Matched: v1.Traffic{Packets: l.Packets, Bytes: l.Bytes}, Dropped: l.Dropped})
	}
	return out
}
