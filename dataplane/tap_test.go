package dataplane

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// captured gives what a capture on the host holds of what happens meanwhile.
func (h *host) captured(filter capture.Filter, meanwhile func()) []capture.Record {
	t := h.lab.t
	t.Helper()
	var file bytes.Buffer
	s, err := capture.NewSession(&file, capture.Options{Filter: filter, SnapLen: capture.MaxSnapLen, Queue: 64})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.sw.Tap().Run(ctx, s) }()
	for !slices.Contains(h.sw.Tap().Running(), s) {
		time.Sleep(time.Millisecond)
	}
	meanwhile()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var all []capture.Record
	for {
		k, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		k.Data = slices.Clone(k.Data)
		all = append(all, k)
	}
}

// A packet is seen where it enters and where it leaves, as it is there, and
// whoever asks for one tenant sees nothing of another with the same addresses.
func TestCaptureOnTheWay(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		other := fabrikam
		if s == fabrikam {
			other = contoso
		}
		filter := capture.Filter{Tenant: s.RDID}
		question := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "question of "+s.Name.String())
		var atReceiver []capture.Record
		atSender := l.hosts[1].captured(filter, func() {
			atReceiver = l.hosts[2].captured(filter, func() {
				other.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "not for you"))
				s.vm11.send(question)
				l.settle()
			})
		})
		port := func(n *nic) string { return "port=" + n.host.portName(n) }
		want := []struct {
			at       []capture.Record
			comments []string
			link     capture.LinkType
			inner    int
		}{
			{atSender, []string{"point=port-in", port(s.vm11)}, capture.Ethernet, 0},
			{atSender, []string{"point=fabric-out", "src-pa=" + paHost1, "dst-pa=" + paHost2}, capture.RawIP, 0},
			{atReceiver, []string{"point=fabric-in", "src-pa=" + paHost1, "dst-pa=" + paHost2}, capture.RawIP, 0},
			{atReceiver, []string{"point=port-out", port(s.vm12), "src-pa=" + paHost1}, capture.Ethernet, 0},
		}
		if len(atSender) != 2 || len(atReceiver) != 2 {
			t.Fatalf("%s: %d packets at the sender, %d at the receiver, want 2 and 2", s.Name, len(atSender), len(atReceiver))
		}
		for i, w := range want {
			k := w.at[i%2]
			for _, c := range append(w.comments, "tenant="+s.Name.String(), "rdid="+s.RDID.String(), "vsid="+mustVSID(s.base+1).String()) {
				if !strings.Contains(k.Comment+" ", c+" ") {
					t.Errorf("%s: packet %d has the comment %q, which lacks %q", s.Name, i, k.Comment, c)
				}
			}
			if k.Link != w.link || !bytes.Contains(k.Data, []byte("question of "+s.Name.String())) {
				t.Errorf("%s: packet %d is %+v", s.Name, i, k)
			}
			if k.Link == capture.Ethernet && !bytes.Equal(k.Data, question) {
				t.Errorf("%s: packet %d is not as the VM sent it", s.Name, i)
			}
		}
		fabrikam.vm12.drain()
		contoso.vm12.drain()
	}
}

func (h *host) portName(n *nic) string { return h.sw.portName(n.id) }

// Drops say why, whose, and at which port, as far as that was known by then.
func TestCaptureOfDrops(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h1 := l.hosts[1]
	inner := udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x")
	cases := []struct {
		name   string
		drop   func()
		reason drop.Reason
		link   capture.LinkType
		says   []string
		not    []string
	}{
		{"at a port", func() { contoso.vm11.send(udp(mac11, mac12, "10.1.1.99", "10.1.1.12", "x")) },
			drop.SourceCAUnknown, capture.Ethernet, []string{"tenant=contoso", "vsid=5001", "port=" + h1.portName(contoso.vm11)}, []string{"src-pa"}},
		{"no tunnel packet", func() { h1.inject(inner[14:]) },
			drop.UDPPort, capture.RawIP, []string{"src-pa=10.1.1.12", "dst-pa=10.1.1.11"}, []string{"tenant", "vsid"}},
		{"unknown VSID", func() { h1.inject(outerPacket(hnv.NVGRE, paHost2, paHost1, 7777, inner)) },
			drop.VSIDUnknown, capture.Ethernet, []string{"vsid=7777", "src-pa=" + paHost2}, []string{"tenant", "port"}},
		{"spoofed on the fabric", func() { h1.inject(outerPacket(hnv.NVGRE, paGate, paHost1, 5001, inner)) },
			drop.SourcePAMismatch, capture.Ethernet, []string{"tenant=contoso", "vsid=5001", "port=" + h1.portName(contoso.vm11), "src-pa=" + paGate}, nil},
		{"no port", func() {
			h1.w.FromPort(99, []*packet.Frame{frameOf(inner)})
			h1.w.Flush()
		}, drop.NoPort, capture.Ethernet, []string{"point=drop drop=no-port"}, []string{"tenant", "vsid"}},
	}
	for _, c := range cases {
		all := h1.captured(capture.Filter{OnlyDrops: true}, c.drop)
		if len(all) != 1 {
			t.Errorf("%s: %d packets, want 1", c.name, len(all))
			continue
		}
		k := all[0]
		if k.Link != c.link {
			t.Errorf("%s: the packet begins with %d, want %d", c.name, k.Link, c.link)
		}
		for _, want := range append(c.says, "point=drop", "drop="+c.reason.String()+" ("+c.reason.Meaning()+")") {
			if !strings.Contains(k.Comment, want) {
				t.Errorf("%s: the comment %q lacks %q", c.name, k.Comment, want)
			}
		}
		for _, not := range c.not {
			if strings.Contains(k.Comment, not+"=") {
				t.Errorf("%s: the comment %q has %q", c.name, k.Comment, not)
			}
		}
	}
	// What only one of a broadcast's receivers does not take.
	l.apply(contoso, func(t *Tenant) { t.ACLs = []hnv.ACL{outOnly()} })
	if err := h1.sw.SetPort(contoso.vm13.id, mustName("out-only"), 0, 0); err != nil {
		t.Fatal(err)
	}
	all := h1.captured(capture.Filter{Reason: drop.ACLDenied}, func() {
		contoso.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "all"))
	})
	if len(all) != 1 || !strings.Contains(all[0].Comment, "port="+h1.portName(contoso.vm13)) {
		t.Errorf("the broadcast that one port does not take: %+v", all)
	}
}

func frameOf(b []byte) *packet.Frame {
	f := packet.NewFrame(max(2048, len(b)))
	f.Set(b)
	return f
}

// Every field of a filter finds packets by what is inside them, in ARP and
// behind rewritten addresses too.
func TestCaptureFilters(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h1 := l.hosts[1]
	everything := func() {
		contoso.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.11", "10.1.1.12"))
		contoso.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"))
		contoso.vm13.send(udp(mac13, mac12, "10.1.1.13", "10.1.1.12", "x"))
		h1.inject(outerPacket(hnv.NVGRE, paHost2, paHost1, 5001, udp(mac12, mac13, "10.1.1.12", "10.1.1.13", "x")))
	}
	for _, c := range []struct {
		filter capture.Filter
		want   int
	}{
		{capture.Filter{CA: netip.MustParsePrefix("10.1.1.11/32")}, 4}, // ARP, its answer, and one in and out
		{capture.Filter{CA: netip.MustParsePrefix("10.1.1.13/32")}, 4},
		{capture.Filter{EtherType: packet.EtherTypeARP}, 2},
		{capture.Filter{PA: netip.MustParsePrefix(paHost2 + "/32"), Points: []capture.Point{capture.FabricOut}}, 2},
		{capture.Filter{PA: netip.MustParsePrefix(paHost2 + "/32")}, 4},
		{capture.Filter{VSID: mustVSID(5001), Points: []capture.Point{capture.FabricIn, capture.PortOut}, Proto: packet.ProtoUDP}, 2},
		{capture.Filter{VSID: mustVSID(6001)}, 0},
		{capture.Filter{Port: 2000, Points: []capture.Point{capture.FabricIn}}, 1},
	} {
		if got := h1.captured(c.filter, everything); len(got) != c.want {
			t.Errorf("%s: %d packets, want %d", c.filter, len(got), c.want)
		}
	}
}

// Where nobody captures nothing is kept of a capture that has ended, and packets
// are not copied anywhere; where somebody does, nothing is allocated either.
func TestCaptureDoesNotAllocate(t *testing.T) {
	load := newLoad(t)
	good := goodNVGRE()
	// Port 9 is nobody's: the session's own goroutine has nothing to do.
	s, err := capture.NewSession(io.Discard, capture.Options{Filter: capture.Filter{Port: 9}, Queue: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- load.sw.Tap().Run(ctx, s) }()
	for load.sw.Tap().Sessions() == nil {
		time.Sleep(time.Millisecond)
	}
	load.give(true, good)
	if load.w.taps != nil || load.w.watched {
		t.Error("an idle worker holds on to a capture")
	}
	load.w.x, load.w.taps = transit{}, load.sw.Tap().Sessions()
	f := frameOf(good)
	for name, see := range map[string]func(){
		"fabric-in": func() { load.w.seeFabricIn(f) },
		"drop":      func() { load.w.x = transit{f: f, outer: true}; load.w.seeDrop(drop.OuterChecksum) },
	} {
		if n := testing.AllocsPerRun(50, see); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	load.give(true, good)
	if load.w.taps != nil || load.sw.Tap().Sessions() != nil {
		t.Error("the capture has not ended for the workers")
	}
}
