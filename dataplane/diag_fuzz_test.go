package dataplane

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// FuzzTrace traces anything as what a port sends and as what the fabric brings:
// it never panics, leaves nothing behind and says what becomes of the packet.
func FuzzTrace(f *testing.F) {
	inner := udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x")
	for _, b := range [][]byte{
		udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"),
		arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.11", "10.1.1.12"),
		ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.1", 64, echo(), "ping"),
		outerPacket(hnv.NVGRE, paHost2, paHost1, 5001, inner),
		outerPacket(hnv.VXLAN, paHost2, paHost1, 6001, inner),
	} {
		f.Add(b)
	}
	l, contoso, _ := exampleLab(f)
	h := l.hosts[1]
	port := h.portName(contoso.vm11)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := h.effects()
		for _, q := range []TraceQuery{{Port: port, Frame: b}, {FromFabric: true, Frame: b}} {
			if q.Frame == nil {
				q.Frame = []byte{}
			}
			tr, err := h.sw.Trace(q)
			if err != nil {
				if len(b) <= packet.MaxPacket {
					t.Fatal(err)
				}
				continue
			}
			if len(tr.Steps) == 0 || !bytes.Equal(tr.Frame, b) || (tr.Verdict == VerdictDropped) != (tr.Reason != 0) {
				t.Fatalf("%+v", tr)
			}
		}
		if after := h.effects(); after != before {
			t.Fatalf("before\n%s\nafter\n%s", before, after)
		}
	})
}

// echoReplyTo is a guest's reply to an echo request.
func echoReplyTo(t testing.TB, request []byte) []byte {
	f := frameOf(request)
	var h packet.Headers
	if r := h.DecodeEthernet(f.Bytes()); r != drop.None {
		t.Fatal(r)
	}
	if r := packet.EchoReply(f, &h); r != drop.None {
		t.Fatal(r)
	}
	return f.Bytes()
}

// FuzzPing shows anything to a station in whose name a ping is under way, as the
// last thing before its guest: nothing but what has the ping's own nonce ends it,
// and what does not is left as it was. Echoes without a good cookie are the
// guest's.
func FuzzPing(f *testing.F) {
	l, _, _ := exampleLab(f)
	h := l.hosts[1]
	w := h.sw.NewWorker(h.out)
	p, to := h.sw.ports.Load().at(5001, mac11.Bytes()), h.sw.ports.Load().at(5001, mac13.Bytes())
	ping := func() *Ping {
		g, err := h.sw.newPing(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Size: 64})
		if err != nil {
			f.Fatal(err)
		}
		g.sending, g.nonce = false, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		return g
	}
	h.sw.pinger.id = 7
	request, _ := ping().request()
	unreachable := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}
	for _, b := range [][]byte{
		request.Bytes(),
		echoReplyTo(f, request.Bytes()),
		ipFrame(hnv.RouterMAC, mac11, "10.1.1.1", "10.1.1.11", 64, unreachable, string(request.Bytes()[14:])),
		ipFrame(hnv.RouterMAC, mac11, "10.1.1.1", "10.1.1.11", 64, unreachable, string(request.Bytes()[14:14+28])),
		udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > packet.MaxPacket {
			return
		}
		g := ping()
		w.pings = &pings{[]*Ping{g}}
		frame := frameOf(b)
		taken := w.takeReply(p, frame)
		select {
		case <-g.done:
			// An error may quote no more than 8 bytes behind the IP header.
			if g.result.Outcome != PingError && !bytes.Contains(b, g.nonce[:]) || !taken {
				t.Fatalf("%x ended a ping: %+v", b, g.result)
			}
		default:
		}
		if !taken && !slices.Equal(frame.Bytes(), b) {
			t.Fatalf("%x became %x", b, frame.Bytes())
		}
		// To the other end. No input has the RDID's tag, which is drawn anew each time.
		w.x = transit{f: frameOf(b), domain: p.tenant.domain.Load(), tenant: p.tenant, provider: h.sw.provider.Load()}
		if w.x.h.DecodeEthernet(b) == drop.None && w.isProbe(to) {
			t.Fatalf("%x would be answered for a guest", b)
		}
	})
}
