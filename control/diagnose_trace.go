package control

import (
	"context"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Trace takes a packet through the layers for show.
func (c *Controller) Trace(_ context.Context, in v1.TraceRequest) (v1.Trace, error) {
	q := dataplane.TraceQuery{Port: portName(in.Port), FromFabric: in.FromFabric, NewFlow: in.NewFlow, Frame: in.Frame}
	if in.Packet != nil {
		var p parser
		d := p.packet(in.Packet)
		if err := p.err(); err != nil {
			return v1.Trace{}, err
		}
		q.Packet = &d
	}
	t, err := c.o.Sight.Trace(q)
	if err != nil {
		return v1.Trace{}, kindly(err)
	}
	out := v1.Trace{From: t.From, Tenant: t.Tenant.String(), VSID: t.VSID, Frame: t.Frame, Verdict: string(t.Verdict)}
	if t.RDID.IsValid() {
		out.RDID = t.RDID.String()
	}
	if t.Reason != 0 {
		out.Reason, out.Meaning = t.Reason.String(), t.Reason.Meaning()
	}
	for _, s := range t.Steps {
		out.Steps = append(out.Steps, v1.TraceStep{Stage: string(s.Stage), At: s.At, Layer: s.Layer, Group: s.Group, Rule: s.Rule, Verdict: s.Verdict, Detail: s.Detail})
	}
	for _, o := range t.Outputs {
		out.Outputs = append(out.Outputs, v1.TraceOutput{To: o.To, Frame: o.Frame, Summary: o.Summary})
	}
	return out, nil
}

// packet reads the description of a packet.
func (p *parser) packet(in *v1.TracePacket) dataplane.TracePacket {
	d := dataplane.TracePacket{
		SrcCA: p.addr("source", in.SrcCA, false), DstCA: p.addr("destination", in.DstCA, false),
		SrcMAC: p.mac("source MAC", in.SrcMAC), DstMAC: p.mac("destination MAC", in.DstMAC),
		SrcPA: p.addr("source PA", in.SrcPA, true), DstPA: p.addr("destination PA", in.DstPA, true),
		Ask: in.Ask, SrcPort: in.SrcPort, DstPort: in.DstPort, ICMPCode: in.ICMPCode, Payload: in.Payload, TTL: in.TTL, DSCP: in.DSCP, DontFragment: in.DF,
	}
	if in.VSID != 0 {
		d.VSID = p.vsid(in.VSID)
	}
	switch {
	case in.Proto != "":
		d.Proto = p.proto(in.Proto)
	case d.DstCA.Is6():
		d.Proto = packet.ProtoICMPv6
	default:
		d.Proto = packet.ProtoICMP
	}
	if d.Proto == packet.ProtoTCP {
		d.TCPFlags = p.flags(in.TCPFlags)
	}
	switch {
	case in.ICMPType != nil:
		d.ICMPType = *in.ICMPType
	case d.Proto == packet.ProtoICMP:
		d.ICMPType = packet.ICMPEchoRequest
	case d.Proto == packet.ProtoICMPv6:
		d.ICMPType = packet.ICMPv6EchoRequest
	}
	return d
}

func (p *parser) flags(s string) (set uint8) {
	if s == "" {
		return packet.TCPSyn
	}
	names := []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}
next:
	for f := range strings.SplitSeq(strings.ToLower(s), ",") {
		for i, name := range names {
			if strings.TrimSpace(f) == name {
				set |= 1 << i
				continue next
			}
		}
		p.fail("TCP flag %q is unknown: use %s, separated by commas", f, strings.Join(names, ", "))
	}
	return set
}
