package dataplane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// tracer notes what becomes of the one packet of a Worker that has no effects,
// and stands for what would have effects: its methods are called in the place of
// those by the pipeline itself, which is the same for real packets.
type tracer struct {
	w       *Worker
	fresh   bool // no flow is known
	steps   []TraceStep
	outputs []TraceOutput
}

// cell gives counters that nobody reads; nil for no tracer.
func (t *tracer) cell() *cell {
	if t == nil {
		return nil
	}
	return new(cell)
}

func (t *tracer) note(stage Stage, verdict, format string, a ...any) {
	s := TraceStep{Stage: stage, At: fabricName, Verdict: verdict, Detail: fmt.Sprintf(format, a...)}
	if at := t.w.x.at; at != nil {
		s.At = at.spec.Name
	}
	t.steps = append(t.steps, s)
}

func (t *tracer) received(p *port, f *packet.Frame) {
	if p == nil {
		t.note(StageReceived, "", "from the fabric: %s", outerWords(f.Bytes()))
		return
	}
	name := "a tenant that is gone"
	if d := p.tenant.domain.Load(); d != nil {
		name = "tenant " + d.Name.String()
	}
	t.note(StageReceived, "", "from the %s port of %s in VSID %d, whose MAC is %s: %s", p.spec.Kind, name, p.vsid, p.spec.MAC, frameWords(f.Bytes()))
}

func (t *tracer) decap() {
	w := t.w
	t.note(StageDecap, w.outer.Kind.String(), "VSID %d is of tenant %s; inside: %s", w.x.vsid, w.x.domain.Name, frameWords(w.x.f.Bytes()))
}

func (t *tracer) restore(src, dst lookup.Key) {
	t.note(StageDecap, "rewritten", "the PAs stand for %s in VSID %d and %s in VSID %d: %s", src.CA(), src.VSID(), dst.CA(), dst.VSID(), frameWords(t.w.x.f.Bytes()))
}

// recordWords says what a lookup record says.
func (x *transit) recordWords(p place) string {
	pas := make([]string, 0, 1)
	for _, pa := range x.domain.PAs(p.rec) {
		pas = append(pas, pa.String())
	}
	return fmt.Sprintf("record %d/%s: MAC %s, PA %s, %s, %s", p.key.VSID(), p.key.CA(), macFrom(p.rec.MAC), strings.Join(pas, " and "), p.rec.Rule.Hnv(), p.rec.Type.Hnv())
}

func (t *tracer) source(src place) {
	x := &t.w.x
	switch {
	case src.rec != nil:
		t.note(StageSource, "vouched", "%s by %s", x.h.Src, x.recordWords(src))
	case x.in != nil:
		t.note(StageSource, "free", "%s lies outside of the routing domain, for which a compartment may speak", x.h.Src)
	default:
		t.note(StageSource, "router", "%s is the distributed router of a host of the routing domain", x.h.Src)
	}
}

func (t *tracer) destination(to place) {
	x := &t.w.x
	switch {
	case to.rec != nil:
		t.note(StageDestination, "here", "%s by %s", x.h.Dst, x.recordWords(to))
	case x.nameless:
		t.note(StageDestination, "here", "the addresses of the station with MAC %s are not known", macFrom(x.h.DstMAC))
	default:
		t.note(StageDestination, "here", "%s lies outside of the routing domain, where the compartment leads", x.h.Dst)
	}
}

func (t *tracer) lookup(p *port, k *flow.Key) *flow.Entry[action] {
	if t.fresh {
		return nil
	}
	return p.flows.Peek(k, t.w.now)
}

func (t *tracer) flow(fl *flowState) {
	was := t.w.x.at
	t.w.x.at = fl.port
	defer func() { t.w.x.at = was }()
	switch {
	case t.fresh:
		t.note(StageFlow, "miss", "taken for the first packet of a flow, as asked")
	case fl.entry == nil:
		t.note(StageFlow, "miss", "no flow %s is known", fl.key)
	case fl.current(&t.w.x) == nil:
		t.note(StageFlow, "stale", "the flow %s was decided before its policy, routes or records changed", fl.key)
	default:
		t.note(StageFlow, "hit", "the flow %s is %s and %s", fl.key, t.age(fl.entry), t.w.x.actionWords(fl.entry.Action(), fl.dir))
	}
}

// age says how far the flow has come.
func (t *tracer) age(e *flow.Entry[action]) string {
	packets, _ := e.Counters()
	idle := time.Duration(max(0, t.w.now-e.LastSeen())).Round(time.Second)
	return fmt.Sprintf("%s, idle for %s, %d packets old", e.State(), idle, packets)
}

// pass is Worker.pass without effects.
func (t *tracer) pass(fl *flowState, a *action) drop.Reason {
	if r := t.meters(a.meters); r != drop.None {
		return r
	}
	return t.w.transpose(&a.trans)
}

func (t *tracer) meters(list []*vfp.Bucket) drop.Reason {
	for _, b := range list {
		if !b.Has(t.w.up, t.w.x.charge()) {
			return drop.RateExceeded
		}
	}
	return drop.None
}

func (t *tracer) transpose(to *vfp.Transposition) {
	t.note(StageRewrite, "", "%s", to)
}

// judge is the end of Worker.judge without effects: what the layers said, one
// after the other, or those that were asked of a packet that goes with a flow.
func (t *tracer) judge(fl *flowState, whole bool) drop.Reason {
	w := t.w
	v, x := &w.verdict, &w.x
	was := x.at
	x.at = fl.port
	defer func() { x.at = was }()
	decisions := fl.pol.prog.Explain(fl.dir, &x.h)
	if !whole {
		t.note(StageLayer, "related", "it goes with what was let pass before, as a reply, a further packet, a fragment or an error, or is of the virtual subnet's DHCP server: only rates are asked")
		decisions = slices.DeleteFunc(decisions, func(d vfp.Decision) bool { return d.Layer != LayerMeter })
	}
	for _, d := range decisions {
		t.decision(d)
	}
	v.Lease.Release()
	v.Lease = vfp.Lease{}
	switch {
	case v.NeedsL4:
		return drop.FragmentUnmatched
	case v.Blocked:
		return v.Reason
	case v.Has(vfp.Punt):
		return drop.Punted
	}
	if r := t.meters(v.Meters()); r != drop.None {
		return r
	}
	var all []string
	for _, a := range v.Actions() {
		if s := a.String(); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		all = []string{"nothing"}
	}
	t.note(StageAction, "composed", "%s", strings.Join(all, "; "))
	return drop.None
}

func (t *tracer) decision(d vfp.Decision) {
	verdict := "no match"
	if d.Matched {
		verdict = d.Action.String()
	}
	t.note(StageLayer, verdict, "%s", d.Why)
	s := &t.steps[len(t.steps)-1]
	s.Layer, s.Group, s.Rule = d.Layer, d.Group, d.Rule
}

// way notes where the space of mappings leads.
func (t *tracer) way(to way) {
	x := &t.w.x
	stage, by := StageBridge, "inside the virtual subnet"
	if to.routed {
		stage = StageRoute
		rt, rec := x.domain.Resolve(x.h.Dst)
		match, _ := x.domain.Match(x.h.Dst)
		switch {
		case rt == nil:
			by = "no route, but a wildcard"
		case rec != nil || rt.OnLink():
			match, _ = x.subnetPrefix(rt.VSID, x.h.Dst)
			by = fmt.Sprintf("%s of VSID %d", match, rt.VSID)
		default:
			by = fmt.Sprintf("customer route %s by next hop %s, one of %d", match, to.to.key.CA(), len(rt.Hops))
		}
	}
	where := "on another machine"
	if x.isHere(to.to.rec) {
		where = "on this machine"
	}
	t.note(stage, where, "%s: %s", by, x.recordWords(to.to))
}

func (t *tracer) local(out *port) {
	t.note(StageForward, "local", "to port %s", out.spec.Name)
}

func (t *tracer) emit(tunnel *encap.Header, mtu int, cut bool) {
	x := &t.w.x
	how := "whole"
	switch {
	case x.f.Offload.GSO != packet.GSONone:
		how = fmt.Sprintf("cut into segments of %d bytes", x.f.Offload.GSOSize)
	case cut:
		how = fmt.Sprintf("cut into fragments for %d bytes", mtu)
	}
	if tunnel == nil {
		t.note(StageForward, "rewrite", "%s, with PAs in the place of both CAs and without a tunnel", how)
		return
	}
	entropy := fmt.Sprintf("FlowID %d", tunnel.FlowID)
	if tunnel.Kind == encap.KindVXLAN {
		entropy = fmt.Sprintf("UDP source port %d", tunnel.SrcPort)
	}
	t.note(StageForward, tunnel.Kind.String(), "%s, VSID %d from PA %s to %s, DSCP %d, %s; it may have %d bytes inside", how, tunnel.VSID, tunnel.Src, tunnel.Dst, tunnel.TOS>>2, entropy, mtu)
}

// sent notes a packet that would have left; p is nil for the fabric.
func (t *tracer) sent(p *port, f *packet.Frame) {
	o := TraceOutput{To: fabricName, Fabric: p == nil, Frame: slices.Clone(f.Bytes()), Offload: f.Offload}
	if p == nil {
		o.Summary = outerWords(o.Frame)
	} else {
		o.To, o.Summary = p.spec.Name, frameWords(o.Frame)
	}
	t.outputs = append(t.outputs, o)
	t.note(StageOutput, "to "+o.To, "%s", o.Summary)
}

func (t *tracer) drop(r drop.Reason) {
	t.note(StageDrop, r.String(), "%s", strings.TrimSuffix(r.Meaning(), "."))
}

// actionWords says what is done with the packets of a flow.
func (x *transit) actionWords(a *action, dir vfp.Direction) string {
	var parts []string
	if !a.trans.IsZero() {
		parts = append(parts, "rewrites: "+a.trans.String())
	}
	to := a.to.now()
	switch {
	case dir == outbound && to.rec != nil:
		verb := "is bridged to "
		if a.routed {
			verb = "is routed to "
		}
		parts = append(parts, verb+x.recordWords(to))
	case dir == outbound:
		parts = append(parts, "leads nowhere any more")
	default:
		parts = append(parts, "is delivered")
	}
	return strings.Join(parts, "; ")
}

// frameWords says what an Ethernet frame is: "00:15:5d:00:00:11 >
// 00:15:5d:00:00:12, 10.1.1.11 > 10.1.1.12, udp 1000 > 2000, TTL 64, 60 bytes".
func frameWords(b []byte) string {
	var h packet.Headers
	r := h.DecodeEthernet(b)
	if len(b) < packet.EthernetLen {
		return fmt.Sprintf("%d bytes, no frame", len(b))
	}
	macs := fmt.Sprintf("%s > %s", macText(h.SrcMAC), macText(h.DstMAC))
	switch {
	case r != drop.None:
		return fmt.Sprintf("%s, %s, %d bytes", macs, r, len(b))
	case h.EtherType == packet.EtherTypeARP:
		return macs + ", " + arpWords(b[h.L3:])
	case h.Version == 0:
		return fmt.Sprintf("%s, EtherType %#04x, %d bytes", macs, h.EtherType, len(b))
	}
	return macs + ", " + ipWords(&h)
}

func macText(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

func arpWords(b []byte) string {
	var a packet.ARP
	switch r := a.Parse(b); {
	case r != drop.None:
		return r.String()
	case a.Op == packet.ARPRequest:
		return fmt.Sprintf("arp: who has %s, asks %s", a.TargetIP, a.SenderIP)
	}
	return fmt.Sprintf("arp: %s is at %s", a.SenderIP, macText(a.SenderMAC))
}

func ipWords(h *packet.Headers) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s > %s, ", h.Src, h.Dst)
	switch {
	case h.FragOffset != 0:
		fmt.Fprintf(&b, "protocol %d, fragment %d from byte %d on", h.Proto, h.FragID, h.FragOffset)
	case h.Proto == packet.ProtoTCP:
		fmt.Fprintf(&b, "tcp %d > %d%s", h.SrcPort, h.DstPort, flagWords(h.TCPFlags))
	case h.Proto == packet.ProtoUDP:
		fmt.Fprintf(&b, "udp %d > %d", h.SrcPort, h.DstPort)
	case h.Proto == packet.ProtoICMP && h.Version == 4, h.Proto == packet.ProtoICMPv6 && h.Version == 6:
		name := map[uint8]string{4: "icmp", 6: "icmpv6"}[h.Version]
		fmt.Fprintf(&b, "%s type %d code %d", name, h.ICMPType, h.ICMPCode)
		switch {
		case h.IsEchoRequest():
			fmt.Fprintf(&b, " (echo request %d)", h.ICMPID)
		case h.IsEchoReply():
			fmt.Fprintf(&b, " (echo reply %d)", h.ICMPID)
		}
	default:
		fmt.Fprintf(&b, "protocol %d", h.Proto)
	}
	if h.FragOffset == 0 && h.MoreFragments {
		fmt.Fprintf(&b, ", first fragment of %d", h.FragID)
	}
	if h.DSCP != 0 {
		fmt.Fprintf(&b, ", DSCP %d", h.DSCP)
	}
	fmt.Fprintf(&b, ", TTL %d, %d bytes", h.TTL, h.Length)
	return b.String()
}

func flagWords(flags uint8) string {
	var set []string
	for i, name := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return ""
	}
	return " " + strings.Join(set, ",")
}

// outerWords says what an IP packet of the fabric is.
func outerWords(b []byte) string {
	var o encap.Header
	if encap.Parse(b, &o) == drop.None {
		entropy := fmt.Sprintf("FlowID %d", o.FlowID)
		if o.Kind == encap.KindVXLAN {
			entropy = fmt.Sprintf("UDP source port %d", o.SrcPort)
		}
		return fmt.Sprintf("%s VSID %d, PA %s > %s, DSCP %d, %s, %d bytes; inside: %s", o.Kind, o.VSID, o.Src, o.Dst, o.TOS>>2, entropy, o.Total, frameWords(b[o.InnerOff:o.Total]))
	}
	var h packet.Headers
	if r := h.DecodeIP(b); r != drop.None {
		return fmt.Sprintf("%d bytes, %s", len(b), r)
	}
	return "no tunnel: " + ipWords(&h)
}
