package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// cable is a Writer that hands the fabric's packets over to another Switch.
type cable struct {
	to   *dataplane.Switch
	back *cable
}

func (c *cable) WriteBatch(frames []*packet.Frame) (int, error) {
	for _, f := range frames {
		one := packet.NewFrame(f.Len())
		one.Set(f.Bytes())
		w := c.to.NewWorker(c.back)
		w.FromProvider([]*packet.Frame{one})
		w.Close()
	}
	return len(frames), nil
}

type nowhere struct{}

func (nowhere) WriteBatch(frames []*packet.Frame) (int, error) { return len(frames), nil }

const macA, macB, macC = "00:15:5d:00:00:01", "00:15:5d:00:00:02", "00:15:5d:00:00:03"

// twoHosts are two hosts of contoso: one with 10.1.1.11, which is diagnosed, and
// one with 10.1.1.12, both behind a list, and 10.1.1.13.
func twoHosts(t *testing.T) (c *Controller, m *memory, e *engines) {
	t.Helper()
	m, e = newMemory(t), newEngines()
	m.change(
		put(hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.1/16"), Interface: "pa0"}),
		put(hosted("contoso", 5000)),
	)
	var rdid hnv.RDID
	var tenant hnv.Tenant
	m.View(func(f *hnv.Fabric) { tenant, _ = f.Tenant(must(hnv.ParseName("contoso"))) })
	rdid = tenant.RDID
	config := dataplane.Tenant{
		Name: tenant.Name, RDID: rdid, Encap: tenant.Encap, Subnets: tenant.Subnets,
		ACLs: []hnv.ACL{{Tenant: tenant.Name, Name: must(hnv.ParseName("web")), Rules: []hnv.ACLRule{
			{Priority: 100, Direction: hnv.Outbound, Action: hnv.Allow, Proto: "any"},
			{Priority: 110, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 443, Hi: 443}}},
		}}},
	}
	for i, mac := range []string{macA, macB} {
		r := theRecord(5000, []string{"10.1.1.11", "10.1.1.12"}[i], []string{"192.168.1.1", "192.168.1.2"}[i])
		r.MAC = must(hnv.ParseMAC(mac))
		config.Records = append(config.Records, r)
	}
	open := theRecord(5000, "10.1.1.13", "192.168.1.2")
	open.MAC = must(hnv.ParseMAC(macC))
	config.Records = append(config.Records, open)
	var hosts []*dataplane.Switch
	for i, mac := range []string{macA, macB} {
		sw := dataplane.New(dataplane.Options{})
		sw.SetProvider(dataplane.Provider{Addrs: []netip.Addr{netip.MustParseAddr([]string{"192.168.1.1", "192.168.1.2"}[i])}, MTU: 1500})
		if err := sw.Apply(config); err != nil {
			t.Fatal(err)
		}
		spec := dataplane.PortSpec{Name: "vm/vm1", VSID: vsid(5000), MAC: must(hnv.ParseMAC(mac)), Kind: dataplane.PortVM, MTU: 1458, ACL: must(hnv.ParseName("web")), OutKbps: 20000}
		if _, err := sw.AddPort(spec, nowhere{}); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, sw)
	}
	spec := dataplane.PortSpec{Name: "vm/vm2", VSID: vsid(5000), MAC: open.MAC, Kind: dataplane.PortVM}
	if _, err := hosts[1].AddPort(spec, nowhere{}); err != nil {
		t.Fatal(err)
	}
	there, back := &cable{to: hosts[1]}, &cable{to: hosts[0]}
	there.back, back.back = back, there
	c = New(Options{Store: m, Compartments: fakeCompartments{e}, Dataplane: hosts[0], Sight: sight{hosts[0], there}})
	return c, m, e
}

func TestDiagnoseNextHopAndPing(t *testing.T) {
	c, _, _ := twoHosts(t)
	n, err := c.NextHop(t.Context(), 5000, "10.1.1.11", "10.1.1.12")
	if err != nil || n.NextHop != "10.1.1.12" || n.Tenant != "contoso" || n.SentTo != macB || n.SrcMAC != macA || n.DstMAC != macB || !slices.Equal(n.SrcPAs, []string{"192.168.1.1"}) ||
		!slices.Equal(n.DstPAs, []string{"192.168.1.2"}) || n.Rule != "nvgre" || n.Type != "static" || n.Match != "10.1.1.0/24" || n.VSID != 5000 || n.Local || n.Routed || n.Reason != "" {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := c.NextHop(t.Context(), 5000, "10.1.1.11", "10.1.1.99"); err != nil || n.Reason != "destination-unknown" || n.Meaning == "" || n.SentTo != "" {
		t.Errorf("%+v, %v", n, err)
	}
	r, err := c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Seq: 9})
	if err != nil || r.Outcome != v1.PingLost || r.Seq != 9 || r.Message != "no answer in time" { // the other end's list lets no echo in
		t.Errorf("%+v, %v", r, err)
	}
	r, err = c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.13", Seq: 10})
	if err != nil || r.Outcome != v1.PingReplied || r.By != "dataplane" || r.Seq != 10 || r.From != "10.1.1.13" || r.TTL != 64 || r.Bytes != 64 || r.RTT <= 0 || r.Message != "" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.1"})
	if err != nil || r.Outcome != v1.PingReplied || r.By != "router" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Size: 1472, DF: true})
	if err != nil || r.Outcome != v1.PingDropped || r.Reason != "too-big" || r.MTU != 1458 || r.Port != "vm/vm1" || !strings.HasPrefix(r.Message, "port vm/vm1 dropped the request: too-big (The packet exceeds") || !strings.HasSuffix(r.Message, "; 1458 bytes may pass") {
		t.Errorf("%+v, %v", r, err)
	}
	for kind, f := range map[error]func() error{
		hnv.ErrNotFound: func() error { _, err := c.NextHop(t.Context(), 5000, "10.1.1.99", "10.1.1.12"); return err },
		hnv.ErrInvalid:  func() error { _, err := c.NextHop(t.Context(), 1, "x", ""); return err },
	} {
		if err := f(); !errors.Is(err, kind) || strings.HasSuffix(err.Error(), "unknown") {
			t.Errorf("%v, want it to be %v", err, kind)
		}
	}
	for _, q := range []v1.PingRequest{{VSID: 5000, SrcCA: "10.1.1.12", DstCA: "10.1.1.11"}, {VSID: 4711, SrcCA: "10.1.1.11", DstCA: "10.1.1.12"}} {
		if _, err := c.Ping(t.Context(), q); !errors.Is(err, hnv.ErrNotFound) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, q := range []v1.PingRequest{
		{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "fe80::1%eth0"}, {VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Size: 8},
		{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Timeout: 60000}, {VSID: 5000, SrcCA: "10.1.1.11", DstCA: "224.0.0.1"},
	} {
		if _, err := c.Ping(t.Context(), q); !errors.Is(err, hnv.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ping(ctx, v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v", err)
	}
}

func TestPingMessages(t *testing.T) {
	for _, c := range []struct {
		r    dataplane.PingResult
		v6   bool
		want string
	}{
		{dataplane.PingResult{Outcome: dataplane.PingReplied}, false, ""},
		{dataplane.PingResult{Outcome: dataplane.PingLost}, false, "no answer in time"},
		{dataplane.PingResult{Outcome: dataplane.PingError, ICMPType: 11}, false, "time to live exceeded"},
		{dataplane.PingResult{Outcome: dataplane.PingError, ICMPType: 1}, true, "no route"},
		{dataplane.PingResult{Outcome: dataplane.PingError, ICMPType: 3, ICMPCode: 4, MTU: 1400}, false, "the packet is too big: 1400 bytes may pass"},
		{dataplane.PingResult{Outcome: dataplane.PingError, ICMPType: 12, ICMPCode: 7}, false, "ICMP error of type 12, code 7"},
		{dataplane.PingResult{Outcome: dataplane.PingDropped, Reason: drop.RateExceeded, Back: true}, false,
			"this machine dropped the answer: rate-exceeded (The port or the tenant has used up its bandwidth)"},
	} {
		if got := pingMessage(c.r, c.v6); got != c.want {
			t.Errorf("%+v: %q, want %q", c.r, got, c.want)
		}
	}
	s := compartments.PingSpec{Size: 56}
	for _, c := range []struct {
		r    compartments.PingReply
		want v1.PingReply
	}{
		{compartments.PingReply{From: netip.MustParseAddr("192.168.2.10"), RTT: 5, TTL: 63}, v1.PingReply{Outcome: v1.PingReplied, From: "192.168.2.10", RTT: 5, TTL: 63, Bytes: 64}},
		{compartments.PingReply{Err: compartments.ErrNoReply}, v1.PingReply{Outcome: v1.PingLost, Message: "no answer in time"}},
		{compartments.PingReply{Err: compartments.ErrTooBig, MTU: 1400}, v1.PingReply{Outcome: v1.PingError, MTU: 1400, Message: "the packet is too big: 1400 bytes may pass"}},
		{compartments.PingReply{Err: compartments.ErrUnreachable}, v1.PingReply{Outcome: v1.PingError, Message: "unreachable"}},
	} {
		if got := providerReply(c.r, s); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

func TestDiagnoseTrace(t *testing.T) {
	c, _, _ := twoHosts(t)
	tr, err := c.Trace(t.Context(), v1.TraceRequest{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Proto: "tcp", DstPort: 443}})
	if err != nil || tr.Verdict != "sent" || tr.From != "vm/vm1" || tr.Tenant != "contoso" || tr.RDID == "" || len(tr.Outputs) != 1 || tr.Outputs[0].To != "fabric" || len(tr.Steps) < 5 {
		t.Fatalf("%+v, %v", tr, err)
	}
	// The other way round, from the fabric: allowed, and not.
	for proto, verdict := range map[string]string{"tcp": "delivered", "udp": "dropped"} {
		q := v1.TraceRequest{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.12", DstCA: "10.1.1.11", Proto: proto, SrcPort: 50000, DstPort: 443}}
		tr, err := c.Trace(t.Context(), q)
		if err != nil || tr.Verdict != verdict || tr.From != "fabric" || (tr.Reason == "acl-denied") != (verdict == "dropped") || (tr.Meaning == "") != (verdict != "dropped") {
			t.Errorf("%s: %+v, %v", proto, tr, err)
		}
	}
	// A raw frame at a port, named as its interface is.
	tr, err = c.Trace(t.Context(), v1.TraceRequest{Port: "vm1", Frame: []byte("short")})
	if err != nil || tr.Verdict != "dropped" || tr.Reason != "inner-truncated" || tr.From != "vm/vm1" {
		t.Errorf("%+v, %v", tr, err)
	}
	echo := uint8(13)
	for _, q := range []v1.TraceRequest{
		{}, {Port: "vm1"}, {Frame: []byte{1}}, {Port: "vm1", FromFabric: true, Frame: []byte{1}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "nowhere"}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Proto: "quic"}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Proto: "tcp", TCPFlags: "syn,push"}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", SrcMAC: "00:15"}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", DSCP: 64}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Payload: 1 << 20}},
		{Packet: &v1.TracePacket{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Proto: "icmpv6", ICMPType: &echo}},
	} {
		if tr, err := c.Trace(t.Context(), q); !errors.Is(err, hnv.ErrInvalid) {
			t.Errorf("%+v: %+v, %v", q, tr, err)
		}
	}
	if _, err := c.Trace(t.Context(), v1.TraceRequest{Port: "vm9", Frame: []byte{1}}); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("a port that is not there: %v", err)
	}
}

func TestDiagnoseCapture(t *testing.T) {
	c, _, _ := twoHosts(t)
	run, err := c.Capture(v1.CaptureRequest{Tenant: "contoso", VSID: 5000, CA: "10.1.1.0/24", Proto: "icmp", Points: []string{"port-in", "fabric-out"}, Packets: 2, SnapLen: 65000})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), &file) }()
	for c.o.Sight.Tap().Sessions() == nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Timeout: 1}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil { // by its number of packets
		t.Fatal(err)
	}
	r := must(capture.NewReader(&file))
	for _, want := range []string{"point=port-in tenant=contoso", "point=fabric-out tenant=contoso"} {
		if k, err := r.Next(); err != nil || !strings.HasPrefix(k.Comment, want) {
			t.Errorf("%+v, %v", k, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("there is more: %v", err)
	}
	for _, q := range []v1.CaptureRequest{
		{Reason: "nonsense"}, {CA: "10.1.1"}, {PA: "x/24"}, {Points: []string{"middle"}}, {Seconds: 3601}, {Seconds: -1}, {SnapLen: 1 << 20}, {VSID: 7}, {Proto: "quic"},
		{DropsOnly: true, Points: []string{"port-in"}},
	} {
		if _, err := c.Capture(q); !errors.Is(err, hnv.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := c.Capture(v1.CaptureRequest{Tenant: "nobody"}); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("a tenant that is not there: %v", err)
	}
	// It ends with its request.
	run = must(c.Capture(v1.CaptureRequest{DropsOnly: true, Reason: "acl-denied"}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestDiagnosePort(t *testing.T) {
	c, _, _ := twoHosts(t)
	if _, err := c.Ping(t.Context(), v1.PingRequest{VSID: 5000, SrcCA: "10.1.1.11", DstCA: "10.1.1.12", Timeout: 1}); err != nil {
		t.Fatal(err)
	}
	p, err := c.InspectPort(t.Context(), "vm1", 10, "10.1.1.12")
	if err != nil {
		t.Fatal(err)
	}
	if p.Port != "vm1" || p.Tenant != "contoso" || p.VSID != 5000 || p.MAC != macA || p.Kind != "vm" || p.ACL != "web" || !p.Up || p.MTU != 1458 || len(p.Layers) != 4 || p.Table.Flows != 1 {
		t.Errorf("%+v", p)
	}
	if len(p.Meters) != 1 || p.Meters[0] != (v1.MeterState{Direction: "outbound", Of: "port", Kbps: 20000, Burst: 73728}) {
		t.Errorf("%+v", p.Meters)
	}
	if len(p.Flows) != 1 {
		t.Fatalf("%d flows", len(p.Flows))
	}
	if f := p.Flows[0]; f.Proto != "echo-request" || f.Direction != "outbound" || !strings.HasPrefix(f.Src, "10.1.1.11:") || f.State != "new" || f.Sent.Packets != 1 || f.Replied == nil || f.Expires < 5 ||
		!slices.Contains(f.Rules, "acl/port web/100") || !strings.Contains(f.Action, "192.168.1.2") {
		t.Errorf("%+v", f)
	}
	if r := p.Layers[0].Groups[0].Rules[0]; r.ID != "100" || r.Match != "any packet" || r.Action != "allow" || r.Packets != 1 {
		t.Errorf("%+v", p.Layers[0])
	}
	if p, err := c.InspectPort(t.Context(), "vm/vm1", 10, "10.9.0.0/16"); err != nil || len(p.Flows) != 0 {
		t.Errorf("%+v, %v", p.Flows, err)
	}
	if _, err := c.InspectPort(t.Context(), "compartment/contoso", 10, ""); !errors.Is(err, hnv.ErrNotFound) {
		t.Errorf("a compartment that is not there: %v", err)
	}
	if _, err := c.InspectPort(t.Context(), "vm1", 10, "ten"); !errors.Is(err, hnv.ErrInvalid) {
		t.Errorf("%v", err)
	}
	st, err := c.TenantStatus(t.Context(), must(hnv.ParseName("contoso")))
	if err != nil || len(st.Layers) != 4 || st.Layers[0].Layer != "acl" || st.Layers[0].Matched.Packets != 1 {
		t.Errorf("%+v, %v", st.Layers, err)
	}
}

func TestDiagnoseProviderPing(t *testing.T) {
	c, _, _ := twoHosts(t)
	if r, err := c.ProviderPing(t.Context(), v1.ProviderPingRequest{To: "192.168.2.10"}); err != nil || r.Outcome == "" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, q := range []v1.ProviderPingRequest{{To: "host"}, {To: "fd00::1"}, {To: "192.168.2.10", From: "x"}, {To: "192.168.2.10", Timeout: -1}} {
		if r, err := c.ProviderPing(t.Context(), q); !errors.Is(err, hnv.ErrInvalid) {
			t.Errorf("%+v: %+v, %v", q, r, err)
		}
	}
}
