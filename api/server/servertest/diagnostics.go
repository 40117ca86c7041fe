package servertest

import (
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// refusal is a sentence of one of hnv's kinds.
type refusal struct {
	text string
	kind error
}

func (r refusal) Error() string { return r.text }
func (r refusal) Unwrap() error { return r.kind }

func absent(format string, a ...any) error {
	return refusal{fmt.Sprintf(format, a...), hnv.ErrNotFound}
}

// record finds the record of a customer address, and its tenant.
func (b *Backend) record(vsid uint32, ca string) (r hnv.Record, t hnv.Tenant, ok bool) {
	b.Store.View(func(f *hnv.Fabric) {
		for _, o := range f.List(hnv.KindRecord) {
			if x := o.(hnv.Record); x.VSID.Uint32() == vsid && x.CA.String() == ca {
				r, ok = x, true
				t, _ = f.TenantOfVSID(x.VSID)
			}
		}
	})
	return r, t, ok
}

// NextHop bridges between records of one virtual subnet, and knows no other way.
func (b *Backend) NextHop(_ context.Context, vsid uint32, src, dst string) (v1.NextHop, error) {
	from, t, ok := b.record(vsid, src)
	if !ok {
		return v1.NextHop{}, absent("the source %s has no lookup record in VSID %d", src, vsid)
	}
	n := v1.NextHop{Tenant: t.Name.String(), RDID: t.RDID.String(), SrcPAs: []string{from.PA.String()}}
	to, _, ok := b.record(vsid, dst)
	if !ok {
		n.Routed, n.Reason, n.Meaning = true, "destination-unknown", "The destination is in a subnet of the routing domain and has no record."
		return n, nil
	}
	n.Match, n.NextHop, n.VSID = "10.1.1.0/24", dst, vsid
	n.SentTo, n.SrcMAC, n.DstMAC = to.MAC.String(), from.MAC.String(), to.MAC.String()
	n.DstPAs, n.Rule, n.Type = []string{to.PA.String()}, string(to.Rule), string(to.Type)
	return n, nil
}

// Ping answers for records: every other time by the dataplane, after so many
// milliseconds as its sequence number. The third one is lost. An address without a
// record is unknown.
func (b *Backend) Ping(_ context.Context, q v1.PingRequest) (v1.PingReply, error) {
	if _, _, ok := b.record(q.VSID, q.SrcCA); !ok {
		return v1.PingReply{}, absent("the source %s has no lookup record in VSID %d", q.SrcCA, q.VSID)
	}
	r := v1.PingReply{Seq: q.Seq, Outcome: v1.PingReplied, From: q.DstCA, By: "dataplane", RTT: int64(q.Seq) * 1_250_000, Bytes: 64, TTL: 63}
	if q.Size > 0 {
		r.Bytes = q.Size + 8
	}
	_, _, known := b.record(q.VSID, q.DstCA)
	switch {
	case !known:
		return v1.PingReply{Seq: q.Seq, Outcome: v1.PingDropped, Reason: "acl-denied", Port: q.SrcCA, Message: "port vm1 dropped the request for acl-denied: an access control list denies it"}, nil
	case q.Size > 1430 && q.DF:
		return v1.PingReply{Seq: q.Seq, Outcome: v1.PingError, From: "10.1.1.1", MTU: 1458, Message: "the packet is too big: 1458 bytes may pass"}, nil
	case q.Seq == 3:
		return v1.PingReply{Seq: q.Seq, Outcome: v1.PingLost, Message: "no answer in time"}, nil
	case q.Guest:
		r.By = "guest"
	}
	return r, nil
}

// ProviderPing answers for all of 192.168.
func (b *Backend) ProviderPing(_ context.Context, q v1.ProviderPingRequest) (v1.PingReply, error) {
	if !strings.HasPrefix(q.To, "192.168.") {
		return v1.PingReply{Outcome: v1.PingLost, Message: "no answer in time"}, nil
	}
	return v1.PingReply{Outcome: v1.PingReplied, From: q.To, RTT: 500_000, Bytes: 64, TTL: 64}, nil
}

// Trace shows a packet that a port's list denies, or one that is sent.
func (b *Backend) Trace(_ context.Context, q v1.TraceRequest) (v1.Trace, error) {
	if q.Packet == nil {
		return v1.Trace{
			From: q.Port, Frame: q.Frame, Verdict: "dropped", Reason: "inner-truncated", Meaning: "The inner frame ends within a header, or before the length its IP header states.",
			Steps: []v1.TraceStep{{Stage: "received", At: q.Port, Detail: fmt.Sprintf("%d bytes", len(q.Frame))}, {Stage: "drop", At: q.Port, Verdict: "inner-truncated", Detail: "The inner frame ends within a header"}},
		}, nil
	}
	t := v1.Trace{
		From: "vm/vm1", Tenant: "contoso", VSID: q.Packet.VSID, Frame: []byte{1, 2, 3}, Verdict: "sent",
		Steps: []v1.TraceStep{
			{Stage: "received", At: "vm/vm1", Detail: fmt.Sprintf("%s > %s, %s %d > %d", q.Packet.SrcCA, q.Packet.DstCA, q.Packet.Proto, q.Packet.SrcPort, q.Packet.DstPort)},
			{Stage: "flow", At: "vm/vm1", Verdict: "miss", Detail: "no flow is known"},
			{Stage: "layer", At: "vm/vm1", Layer: "acl", Group: "port web", Rule: "110", Verdict: "allow", Detail: "destination port 443 is 443"},
		},
	}
	if q.Packet.DstPort == 443 {
		t.Steps = append(t.Steps, v1.TraceStep{Stage: "output", At: "vm/vm1", Verdict: "to fabric", Detail: "nvgre VSID 5001"})
		t.Outputs = []v1.TraceOutput{{To: "fabric", Frame: []byte{0x45}, Summary: "nvgre VSID 5001"}}
		return t, nil
	}
	t.Steps[2] = v1.TraceStep{Stage: "layer", At: "vm/vm1", Layer: "acl", Group: "port web", Rule: "rest", Verdict: "block: acl-denied", Detail: "it matches every packet"}
	t.Steps = append(t.Steps, v1.TraceStep{Stage: "drop", At: "vm/vm1", Verdict: "acl-denied", Detail: "An access control list denies the packet"})
	t.Verdict, t.Reason, t.Meaning = "dropped", "acl-denied", "An access control list denies the packet."
	return t, nil
}

// Capture gives a section of no packets.
func (b *Backend) Capture(q v1.CaptureRequest) (func(context.Context, io.Writer) error, error) {
	if q.Reason == "no-such" {
		return nil, refusal{`drop reason "no-such" is unknown: docs/drop-reasons.md lists them`, hnv.ErrInvalid}
	}
	return func(_ context.Context, w io.Writer) error {
		if q.Reason == "no-buffer" {
			return absent("too many captures are running: stop one of them first")
		}
		_, err := w.Write([]byte("\x0a\x0d\x0d\x0a\x1c\x00\x00\x00\x4d\x3c\x2b\x1a\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x1c\x00\x00\x00"))
		return err
	}, nil
}

// InspectPort shows a port with a list and one flow.
func (b *Backend) InspectPort(_ context.Context, port string, flows int, _ string) (v1.PortInspection, error) {
	p := v1.PortInspection{
		Port: port, Tenant: "contoso", RDID: "11111111-2222-4333-8444-555555555555", VSID: 5001, MAC: "00:15:5d:00:00:01", Kind: "vm", MTU: 1458, ACL: "web", Up: true,
		Layers: []v1.LayerState{
			{Name: "acl", Priority: 100, Groups: []v1.GroupState{{Name: "port web", Priority: 10, Direction: "inbound", Family: "any", Rules: []v1.RuleState{
				{ID: "110", Priority: 110, Match: "protocol 6, destination port 443", Action: "allow", Packets: 12, Bytes: 1800},
				{ID: "rest", Priority: 65535, Match: "any packet", Action: "block: acl-denied", Packets: 3, Bytes: 180},
			}}}},
			{Name: "meter", Priority: 200},
		},
		Meters:  []v1.MeterState{{Direction: "outbound", Of: "port", Kbps: 20000, Burst: 73728}},
		Learned: []v1.LearnedAddress{{CA: "10.1.1.14", Since: "2026-11-20T06:30:00Z", Seen: "2026-11-20T06:31:00Z"}},
		Table:   v1.FlowTableState{Flows: 1, Hits: 22, Misses: 4, Inserted: 2, Evicted: 1},
	}
	if strings.HasPrefix(port, "compartment/") {
		p.Kind, p.ACL = "compartment", ""
	} else if !b.hasPort(port) {
		return v1.PortInspection{}, absent("port %s does not exist", port)
	}
	if flows > 0 {
		p.Flows = []v1.FlowState{{
			Direction: "inbound", Proto: "tcp", Src: "10.1.1.12:50000", Dst: "10.1.1.11:443", State: "established", Idle: 2, Expires: 1798,
			Sent: v1.Traffic{Packets: 12, Bytes: 1800}, Replied: &v1.Traffic{Packets: 10, Bytes: 9000}, Action: "is delivered", Rules: []string{"acl/port web/110"},
		}}
	}
	return p, nil
}

func (b *Backend) hasPort(name string) (ok bool) {
	b.Store.View(func(f *hnv.Fabric) {
		for _, p := range f.Ports() {
			ok = ok || p.Interface == name
		}
	})
	return ok
}
