//go:build privileged && linux

package scenario

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/test/lab"
)

// hostile is one frame from the fabric that the gateway must drop.
type hostile struct {
	name, reason string
	frame        []byte
}

// TestHostileFramesFromTheFabric sends malformed and forged packets to the
// gateway from a machine on the fabric that can forge everything. Each is
// dropped and counted by its reason; none comes out to the Internet; gatewayd
// lives on, and traffic flows as before.
func TestHostileFramesFromTheFabric(t *testing.T) {
	pid := world.Daemon("gw").PID()
	for _, c := range []struct{ name, vm, other string }{{"contoso", "c12", "fabrikam"}, {"fabrikam", "f12", "contoso"}} {
		x := tenant(t, c.name)
		v := vm(t, c.vm)
		h, err := world.Topology().Host(v.Host)
		if err != nil {
			t.Fatal(err)
		}
		inner := datagram{
			srcMAC: hnv.RouterMAC, dstMAC: hnv.CompartmentMAC(x.GatewayVSID),
			src: v.CA.String(), dst: internet().String(), ttl: 63, marker: "HONEST-" + c.name,
		}
		from := outer{x.Encap, h.PA.Addr().String(), x.GatewayVSID.Uint32()}
		honest := from.around(t, inner.bytes(t))

		file := capturing(t, "inet", "gw0", "udp port 9", func() {
			t.Run(c.name+" truncated", func(t *testing.T) { truncated(t, from, inner) })
			for _, h := range hostileFrames(t, from, inner, tenant(t, c.other)) {
				t.Run(c.name+" "+h.name, func(t *testing.T) {
					countsDrop(t, "gw", h.reason, func() { inject(t, "rogue", "pa0", h.frame) })
				})
			}
			inject(t, "rogue", "pa0", honest)
			// What was sent before has passed when this has.
			if err := world.Ping(t.Context(), c.vm, internet(), patience); err != nil {
				t.Error(err)
			}
		})
		for _, r := range dissect(t, file, `frame contains "FORGED"`, "ip.src", "udp.payload") {
			marker, _ := hex.DecodeString(r[1])
			t.Errorf("the Internet sees a packet of %s from %s: %s", c.name, r[0], marker)
		}
		rows := dissect(t, file, `frame contains "HONEST-`+c.name+`"`, "ip.src")
		if len(rows) != 1 || rows[0][0] != x.External.String() {
			t.Errorf("the Internet sees the honest packet of %s as %v, want it once from %s", c.name, rows, x.External)
		}
	}
	if d := world.Daemon("gw"); !d.Running() || d.PID() != pid {
		t.Fatalf("gatewayd ended: %s", d.Output())
	}
}

// forged is the frame with the name of what is wrong with it as its marker, so
// that a capture tells which one got through.
func (d datagram) forged(name string) datagram {
	d.marker = "FORGED: " + name
	return d
}

// truncated cuts a good frame at every byte: as a cable would, and with outer
// lengths that agree, so that every parser behind meets its end.
//
// None of the pieces may be a whole packet. The marker stands at the frame's
// end, and the frame is long enough to need no padding: cutting padding off
// leaves a packet that is as good as before, and the gateway rightly delivers
// it. Inside a tunnel a frame has no least length.
func truncated(t *testing.T, from outer, inner datagram) {
	const name = "cut to a part of its length"
	whole := from.around(t, inner.forged(name).bytes(t))
	if !strings.HasSuffix(string(whole), name) {
		t.Fatalf("the frame ends in padding: %x", whole)
	}
	var frames [][]byte
	for n := atIP; n < len(whole); n++ {
		frames = append(frames, append([]byte{}, whole[:n]...))
		if n < atProto {
			continue
		}
		b := fixIP(append([]byte{}, whole[:n]...))
		if b[atIP+9] == 17 && n >= atVXLAN {
			binary.BigEndian.PutUint16(b[atProto+4:], uint16(n-atProto))
		}
		frames = append(frames, b)
	}
	countsDrop(t, "gw", "inner-truncated", func() { inject(t, "rogue", "pa0", frames...) })
}

// hostileFrames spoils a good frame in every way that does not depend on its
// length. The other tenant is one that the sender hosts no VM of.
func hostileFrames(t *testing.T, from outer, inner datagram, other lab.Tenant) []hostile {
	t.Helper()
	// What is spoiled: the inner packet, the inner frame, the tunnel, or the
	// whole frame.
	packet := func(name, reason string, change func(*datagram)) hostile {
		d := inner.forged(name)
		change(&d)
		return hostile{name, reason, from.around(t, d.bytes(t))}
	}
	inside := func(name, reason string, change func(b []byte) []byte) hostile {
		return hostile{name, reason, from.around(t, change(inner.forged(name).bytes(t)))}
	}
	outside := func(name, reason string, change func(*outer)) hostile {
		o := from
		change(&o)
		return hostile{name, reason, o.around(t, inner.forged(name).bytes(t))}
	}
	frame := func(name, reason string, change func(b []byte)) hostile {
		b := from.around(t, inner.forged(name).bytes(t))
		change(b)
		return hostile{name, reason, b}
	}
	elsewhere := outer{other.Encap, from.src, other.GatewayVSID.Uint32()}
	stray := inner.forged("another tenant's VSID")
	stray.dstMAC = hnv.CompartmentMAC(other.GatewayVSID)
	at16 := func(b []byte, at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }
	tag := func(kind uint16) func([]byte) []byte {
		return func(b []byte) []byte {
			tagged := binary.BigEndian.AppendUint16(append([]byte{}, b[:12]...), kind)
			return append(append(tagged, 0, 5), b[12:]...)
		}
	}

	out := []hostile{
		frame("outer version", "outer-malformed", func(b []byte) { b[atIP] = 0x55; sumIP(b, atIP) }),
		frame("outer header length", "outer-malformed", func(b []byte) { b[atIP] = 0x44; sumIP(b, atIP) }),
		frame("outer length too long", "outer-length", func(b []byte) { at16(b, atIP+2, uint16(len(b))); sumIP(b, atIP) }),
		frame("outer length too short", "outer-length", func(b []byte) { at16(b, atIP+2, 22); sumIP(b, atIP) }),
		frame("outer checksum", "outer-checksum", func(b []byte) { b[atIP+10] ^= 0xff }),
		frame("first outer fragment", "outer-fragment", func(b []byte) { at16(b, atIP+6, 0x2000); sumIP(b, atIP) }),
		frame("later outer fragment", "outer-fragment", func(b []byte) { at16(b, atIP+6, 100); sumIP(b, atIP) }),
		outside("outer source without records", "source-pa-unknown", func(o *outer) { o.src = "192.168.1.66" }),
		outside("outer source of another host", "source-pa-mismatch", func(o *outer) { o.src = "192.168.1.11" }),
		outside("outer source is the gateway's own", "outer-source-ours", func(o *outer) { o.src = "192.168.1.1" }),
		outside("unknown VSID", "vsid-unknown", func(o *outer) { o.vsid = 77777 }),
		outside("reserved VSID", "vsid-reserved", func(o *outer) { o.vsid = 1 }),
		outside("VSID of a VM's subnet", "not-local", func(o *outer) { o.vsid++ }),
		inside("VLAN tag", "inner-vlan", tag(0x8100)),
		inside("service VLAN tag", "inner-vlan", tag(0x88a8)),
		inside("inner checksum", "inner-checksum", func(b []byte) []byte { b[atIP+10] ^= 0xff; return b }),
		inside("inner header length", "inner-malformed", func(b []byte) []byte { b[atIP] = 0x44; return sumIP(b, atIP) }),
		inside("inner length", "inner-truncated", func(b []byte) []byte { at16(b, atIP+2, 999); return sumIP(b, atIP) }),
		inside("group source MAC address", "inner-source-mac", func(b []byte) []byte { b[6] |= 1; return b }),
		inside("unknown ethertype", "ethertype-unsupported", func(b []byte) []byte { b[12], b[13] = 0x88, 0xb5; return b }),
		packet("inner source without a record", "source-ca-unknown", func(d *datagram) { d.src = "10.1.1.77" }),
		packet("inner source of a VM elsewhere", "source-pa-mismatch", func(d *datagram) { d.src = "10.1.1.11" }),
		packet("inner source of no station", "source-martian", func(d *datagram) { d.src = "127.0.0.1" }),
		packet("inner source of the Internet", "source-pa-mismatch", func(d *datagram) { d.src = "198.51.100.10" }),
		packet("inner destination of no station", "destination-martian", func(d *datagram) { d.dst = "127.0.0.1" }),
		packet("no hop left", "ttl-expired", func(d *datagram) { d.ttl = 0 }),
		packet("MAC address of a VM elsewhere", "not-local", func(d *datagram) { d.dstMAC = mac(t, "00:15:5d:01:01:0b") }),
		{"ARP that claims the gateway's address", "source-pa-mismatch", from.around(t, arp(t, 1, mac(t, "00:15:5d:01:01:0c"), "10.254.254.2", "10.254.254.2"))},
		{"another tenant's VSID", "source-pa-unknown", elsewhere.around(t, stray.bytes(t))},
	}
	if from.encap == hnv.NVGRE {
		return append(out,
			frame("GRE version 1", "gre-version", func(b []byte) { b[atProto+1] |= 1 }),
			frame("GRE checksum bit", "gre-flags", func(b []byte) { b[atProto] |= 0x80 }),
			frame("GRE sequence bit", "gre-flags", func(b []byte) { b[atProto] |= 0x10 }),
			frame("GRE routing bit", "gre-reserved", func(b []byte) { b[atProto] |= 0x40 }),
			frame("no GRE key", "gre-no-key", func(b []byte) { b[atProto] = 0 }),
			frame("GRE of IP", "gre-protocol", func(b []byte) { at16(b, atProto+2, 0x0800) }),
			outside("VXLAN instead of NVGRE", "encap-mismatch", func(o *outer) { o.encap = hnv.VXLAN }),
		)
	}
	return append(out,
		frame("no VNI", "vxlan-no-vni", func(b []byte) { b[atVXLAN] = 0 }),
		frame("UDP length too long", "udp-length", func(b []byte) { at16(b, atProto+4, uint16(len(b))) }),
		frame("UDP length too short", "udp-length", func(b []byte) { at16(b, atProto+4, 9) }),
		outside("NVGRE instead of VXLAN", "encap-mismatch", func(o *outer) { o.encap = hnv.NVGRE }),
	)
}
