package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// effects is all that packets leave behind on a host, as text.
func (h *host) effects() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v\n", h.sw.Counters())
	fmt.Fprintln(&b, len(h.sw.learner.queue), h.sw.learner.lost.Load())
	h.sw.mu.Lock()
	defer h.sw.mu.Unlock()
	for _, t := range h.sw.byRDID {
		fmt.Fprintln(&b, t.rdid, t.errors.next.Load(), t.sent.next.Load(), t.received.next.Load(), t.sightings.next.Load())
		fmt.Fprintf(&b, "%s %+v %+v\n", t.rdid, t.in.Bucket, t.out.Bucket)
	}
	for _, p := range h.sw.ports.Load().byID.All {
		fmt.Fprintf(&b, "%s %+v %+v %+v %+v\n", p.spec.Name, p.flows.Stats(), p.policy.Load().prog.Counters(), p.in.Bucket, p.out.Bucket)
		for e := range p.flows.All {
			packets, bytes := e.Counters()
			fmt.Fprintln(&b, e.Key(), e.State(), e.Expires(), packets, bytes, e.Gen.Load(), e.Action())
		}
	}
	lines := strings.Split(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func steps(t Trace) string {
	var b strings.Builder
	for _, s := range t.Steps {
		fmt.Fprintf(&b, "%-12s %-24s %s %s %s [%s] %s\n", s.Stage, s.At, s.Layer, s.Group, s.Rule, s.Verdict, s.Detail)
	}
	return b.String()
}

// has tells whether the trace has a step with all the words.
func (t *Trace) has(stage Stage, words ...string) bool {
	return slices.ContainsFunc(t.Steps, func(s TraceStep) bool {
		all := s.At + " " + s.Layer + " " + s.Group + " " + s.Rule + " " + s.Verdict + " " + s.Detail
		return s.Stage == stage && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(all, w) })
	})
}

func mustTrace(t *testing.T, h *host, q TraceQuery) Trace {
	t.Helper()
	out, err := h.sw.Trace(q)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const protoUDP, protoTCP = packet.ProtoUDP, packet.ProtoTCP

// A described packet is shown through everything that decides about it, on the
// sending host and on the receiving one, for two tenants with the same addresses.
func TestTraceOfAllowedAndDenied(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1, h2 := l.hosts[1], l.hosts[2]
	for _, s := range []*site{contoso, fabrikam} {
		web := acl("web", hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 443, Hi: 443}}})
		l.apply(s, func(t *Tenant) { t.ACLs = []hnv.ACL{web} })
		if err := h2.sw.SetPort(s.vm12.id, mustName("web"), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*site{contoso, fabrikam} {
		tunnel := string(s.Encap)
		q := TracePacket{VSID: mustVSID(s.base + 1), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Proto: protoTCP, SrcPort: 40000, DstPort: 443, TCPFlags: packet.TCPSyn}
		sent := mustTrace(t, h1, TraceQuery{Packet: &q})
		if sent.Verdict != VerdictSent || sent.From != h1.portName(s.vm11) || sent.Tenant != s.Name || sent.RDID != s.RDID || sent.VSID != s.base+1 || len(sent.Outputs) != 1 {
			t.Fatalf("%s: %+v\n%s", s.Name, sent, steps(sent))
		}
		for _, want := range []struct {
			stage Stage
			words []string
		}{
			{StageReceived, []string{"tenant " + s.Name.String(), "tcp 40000 > 443 SYN", "10.1.1.11 > 10.1.1.12"}},
			{StageFlow, []string{"miss"}},
			{StageSource, []string{"vouched", "record " + mustVSID(s.base+1).String() + "/10.1.1.11"}},
			{StageLayer, []string{LayerACL, "default", "allow"}},
			{StageLayer, []string{LayerVNET, "bridge"}},
			{StageAction, []string{"encap"}},
			{StageBridge, []string{"on another machine", paHost2}},
			{StageForward, []string{tunnel, paHost1, paHost2, "whole"}},
			{StageOutput, []string{"to fabric", tunnel}},
		} {
			if !sent.has(want.stage, want.words...) {
				t.Errorf("%s: no step %s %q in\n%s", s.Name, want.stage, want.words, steps(sent))
			}
		}
		// What would have left is what arrives.
		got := mustTrace(t, h2, TraceQuery{FromFabric: true, Frame: sent.Outputs[0].Frame})
		if got.Verdict != VerdictDelivered || len(got.Outputs) != 1 || got.Outputs[0].To != h2.portName(s.vm12) || !bytes.Equal(got.Outputs[0].Frame, sent.Frame) || got.Tenant != s.Name {
			t.Errorf("%s: %+v\n%s", s.Name, got, steps(got))
		}
		if !got.has(StageLayer, LayerACL, "port web", "allow", "destination port 443 is 443") || !got.has(StageDecap, tunnel, s.Name.String()) || !got.has(StageDestination, "here") {
			t.Error(steps(got))
		}
		// The same as the receiving host imagines it, and one that it denies.
		q.DstPort = 80
		denied := mustTrace(t, h2, TraceQuery{Packet: &q})
		if denied.From != "fabric" || denied.Verdict != VerdictDropped || denied.Reason != drop.ACLDenied || len(denied.Outputs) != 0 ||
			!denied.has(StageLayer, LayerACL, "rest", "block: acl-denied") || !denied.has(StageDrop, "acl-denied", "An access control list") {
			t.Errorf("%s: %+v\n%s", s.Name, denied, steps(denied))
		}
		if d := h2.drops(s.Name.String()); len(d) != 0 {
			t.Errorf("the traces were counted: %v", d)
		}
	}
}

// Whatever comes, the trace of it says what then happens, and leaves nothing
// behind.
func TestTraceIsWhatHappens(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (*lab, *site, *site){
		"encapsulated": func(t *testing.T) (*lab, *site, *site) {
			l, contoso, fabrikam, _, _ := learnLab(t, hnv.Learning{})
			return l, contoso, fabrikam
		},
		"rewritten": func(t *testing.T) (*lab, *site, *site) { return rewriteLab(t) },
	} {
		t.Run(name, func(t *testing.T) { traceAndSend(t, make) })
	}
}

func traceAndSend(t *testing.T, make func(t *testing.T) (*lab, *site, *site)) {
	l, contoso, fabrikam := make(t)
	for _, s := range []*site{contoso, fabrikam} {
		rule := hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Allow}
		some := acl("some", rule, hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: "udp", DstPorts: []hnv.PortRange{{Lo: 1000, Hi: 1004}}})
		l.apply(s, func(t *Tenant) {
			t.ACLs = []hnv.ACL{some, outOnly()}
			t.QoS = &hnv.QoS{OutKbps: 8, DSCP: "10"}
			t.StormPPS = 3
		})
		for nic, list := range map[*nic]string{s.vm11: "some", s.vm12: "out-only"} {
			if err := nic.host.sw.SetPort(nic.id, mustName(list), 0, 200); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := rand.New(rand.NewPCG(7, uint64(len(t.Name()))))
	reasons, verdicts := map[drop.Reason]int{}, map[Verdict]int{}
	for range 900 {
		l.now = l.now.Add(time.Duration(r.IntN(3)) * time.Millisecond)
		s := []*site{contoso, fabrikam}[r.IntN(2)]
		from := s.nics()[r.IntN(5)]
		frame := someFrame(r, from)
		if r.IntN(4) == 0 {
			frame[r.IntN(len(frame))] ^= 1 << r.IntN(8)
		}
		h, q := from.host, TraceQuery{Port: from.host.portName(from), Frame: frame}
		compareTrace(t, l, h, q, func() { from.send(frame) }, reasons, verdicts)
		for _, o := range l.hosts { // and so on, where it arrives
			for _, k := range o.out.drain() {
				outer := slices.Clone(k.bytes)
				if r.IntN(8) == 0 {
					outer[r.IntN(len(outer))] ^= 1 << r.IntN(8)
				}
				to := l.hosts[r.IntN(len(l.hosts))]
				if r.IntN(8) != 0 {
					if _, dst, _ := ends(k.bytes); l.byPA[dst.Netip()] != nil {
						to = l.byPA[dst.Netip()]
					}
				}
				compareTrace(t, l, to, TraceQuery{FromFabric: true, Frame: outer}, func() { to.inject(outer) }, reasons, verdicts)
				to.out.drain()
			}
		}
		if t.Failed() {
			return
		}
	}
	for _, v := range []Verdict{VerdictSent, VerdictDelivered, VerdictAnswered, VerdictDropped} {
		if verdicts[v] < 5 {
			t.Errorf("%d packets were %s", verdicts[v], v)
		}
	}
	if len(reasons) < 15 || reasons[drop.RateExceeded] == 0 || reasons[drop.StormLimited] == 0 || reasons[drop.ACLDenied] == 0 {
		t.Errorf("the reasons that occurred are %v", reasons)
	}
}

// someFrame is one of those that stations send, or should not.
func someFrame(r *rand.Rand, from *nic) []byte {
	cas := []string{"10.1.1.11", "10.1.1.12", "10.1.1.13", "10.1.1.14", "10.1.2.11", "10.254.254.2", "10.1.1.1", "8.8.8.8", "255.255.255.255", "224.1.2.3", "10.1.1.255"}
	macs := []hnv.MAC{mac11, mac12, mac13, mac14, mac21, hnv.RouterMAC, macBroadcast, macMulticast}
	own := map[hnv.MAC]string{mac11: "10.1.1.11", mac12: "10.1.1.12", mac13: "10.1.1.13", mac21: "10.1.2.11"}[from.mac]
	if own == "" {
		own = []string{"10.254.254.2", "203.0.113.9"}[r.IntN(2)]
	}
	src, dst, mac := own, cas[r.IntN(len(cas))], macs[r.IntN(len(macs))]
	if r.IntN(10) == 0 {
		src = cas[r.IntN(5)]
	}
	switch dst {
	case "255.255.255.255", "10.1.1.255":
		mac = macBroadcast
	case "224.1.2.3":
		mac = macMulticast
	case "10.1.1.11":
		mac = []hnv.MAC{mac11, hnv.RouterMAC}[r.IntN(2)]
	case "10.1.1.12":
		mac = []hnv.MAC{mac12, hnv.RouterMAC}[r.IntN(2)]
	case "10.1.2.11", "10.1.1.1", "8.8.8.8":
		mac = hnv.RouterMAC
	}
	ttl := uint8(64)
	if r.IntN(10) == 0 {
		ttl = uint8(r.IntN(3))
	}
	switch r.IntN(8) {
	case 0:
		return arpFrame(uint16(1+r.IntN(2)), from.mac, macBroadcast, from.mac, src, dst)
	case 1:
		return ipFrame(from.mac, mac, src, dst, ttl, echo(), "ping")
	case 2:
		return ipFrame(from.mac, mac, src, dst, ttl, &layers.TCP{SrcPort: layers.TCPPort(r.IntN(3)), DstPort: 80, SYN: r.IntN(2) == 0, ACK: r.IntN(2) == 0, FIN: r.IntN(4) == 0}, "")
	case 3, 4, 5:
		return ipFrame(from.mac, mac, src, dst, ttl, &layers.UDP{SrcPort: 1000, DstPort: 1001}, string(bytes.Repeat([]byte("x"), 1300+r.IntN(200))))
	}
	return ipFrame(from.mac, mac, src, dst, ttl, &layers.UDP{SrcPort: layers.UDPPort(1000 + r.IntN(3)), DstPort: layers.UDPPort(1000 + r.IntN(6))}, "data")
}

func compareTrace(t *testing.T, l *lab, h *host, q TraceQuery, happen func(), reasons map[drop.Reason]int, verdicts map[Verdict]int) {
	t.Helper()
	before, drops := h.effects(), h.allDrops()
	given := slices.Clone(q.Frame)
	trace := mustTrace(t, h, q)
	if after := h.effects(); after != before {
		t.Fatalf("the trace had effects:\n%s\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")), steps(trace))
	}
	if !bytes.Equal(q.Frame, given) || !bytes.Equal(trace.Frame, given) {
		t.Fatal("the trace changed the packet")
	}
	var want, got []string
	for _, o := range trace.Outputs {
		want = append(want, fmt.Sprintf("%s %x %+v", o.To, o.Frame, o.Offload))
	}
	happen()
	for _, k := range h.out.frames {
		got = append(got, fmt.Sprintf("fabric %x %+v", k.bytes, k.offload))
	}
	for _, p := range h.sw.ports.Load().byID.All {
		for _, k := range p.w.(*nic).drain() {
			got = append(got, fmt.Sprintf("%s %x %+v", p.spec.Name, k.bytes, k.offload))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Fatalf("%x: the trace says that there come\n%s\nand there came\n%s\n%s", q.Frame, strings.Join(want, "\n"), strings.Join(got, "\n"), steps(trace))
	}
	now := h.allDrops()
	for r, n := range now {
		if now[r] -= drops[r]; n == drops[r] {
			delete(now, r)
		}
	}
	said := map[drop.Reason]uint64{}
	for _, s := range trace.Steps {
		if s.Stage == StageDrop {
			r, _ := drop.Parse(s.Verdict)
			said[r]++
		}
	}
	if fmt.Sprint(now) != fmt.Sprint(said) {
		t.Fatalf("%x: the trace says drops %v, and there were %v\n%s", q.Frame, said, now, steps(trace))
	}
	verdicts[trace.Verdict]++
	reasons[trace.Reason]++
}
