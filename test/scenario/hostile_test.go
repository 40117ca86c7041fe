//go:build privileged && linux

package scenario

import (
	"encoding/binary"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// hostile is one frame from the fabric that the gateway must drop.
type hostile struct {
	name, reason string // an empty reason is any
	frame        []byte
}

// TestHostileFramesFromTheFabric sends malformed and forged packets to the
// gateway from a machine on the fabric that can forge everything. Each is
// dropped and counted by its reason; none comes out to the Internet; gatewayd
// lives on, and traffic flows as before.
func TestHostileFramesFromTheFabric(t *testing.T) {
	pid := world.Daemon("gw").PID()
	for _, c := range []struct{ name, vm string }{{"contoso", "c12"}, {"fabrikam", "f12"}} {
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
		inner.marker = "FORGED-" + c.name

		file := capturing(t, "inet", "gw0", "udp port 9", func() {
			t.Run(c.name+" truncated", func(t *testing.T) { truncated(t, from.around(t, inner.bytes(t))) })
			for _, x := range hostileFrames(t, x.Encap, from, inner) {
				t.Run(c.name+" "+x.name, func(t *testing.T) {
					countsDrop(t, "gw", x.reason, func() { inject(t, "rogue", "pa0", x.frame) })
				})
			}
			inject(t, "rogue", "pa0", honest)
			// What was sent before has passed when this has.
			if err := world.Ping(t.Context(), c.vm, internet(), patience); err != nil {
				t.Error(err)
			}
		})
		if rows := dissect(t, file, `frame contains "FORGED"`, "ip.src", "data.len"); len(rows) > 0 {
			t.Errorf("the Internet sees %d forged packets of %s, the first %v", len(rows), c.name, rows[0])
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

// truncated cuts a good frame at every byte: as a cable would, and with outer
// lengths that agree, so that every parser behind meets its end. The marker is
// the frame's last part: none of the pieces is a whole packet.
func truncated(t *testing.T, whole []byte) {
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
// length.
func hostileFrames(t *testing.T, e hnv.Encap, from outer, inner datagram) []hostile {
	t.Helper()
	packet := func(change func(*datagram)) []byte {
		d := inner
		change(&d)
		return d.bytes(t)
	}
	same := packet(func(*datagram) {})
	frame := func(change func(b []byte)) []byte {
		b := from.around(t, same)
		change(b)
		return b
	}
	outside := func(change func(*outer)) []byte {
		o := from
		change(&o)
		return o.around(t, same)
	}
	inside := func(change func(b []byte) []byte) []byte {
		return from.around(t, change(append([]byte{}, same...)))
	}
	at16 := func(b []byte, at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }

	out := []hostile{
		{"outer version", "outer-malformed", frame(func(b []byte) { b[atIP] = 0x55; sumIP(b, atIP) })},
		{"outer header length", "outer-malformed", frame(func(b []byte) { b[atIP] = 0x44; sumIP(b, atIP) })},
		{"outer length too long", "outer-length", frame(func(b []byte) { at16(b, atIP+2, uint16(len(b))); sumIP(b, atIP) })},
		{"outer length too short", "outer-length", frame(func(b []byte) { at16(b, atIP+2, 22); sumIP(b, atIP) })},
		{"outer checksum", "outer-checksum", frame(func(b []byte) { b[atIP+10] ^= 0xff })},
		{"first outer fragment", "outer-fragment", frame(func(b []byte) { at16(b, atIP+6, 0x2000); sumIP(b, atIP) })},
		{"later outer fragment", "outer-fragment", frame(func(b []byte) { at16(b, atIP+6, 100); sumIP(b, atIP) })},
		{"outer source without records", "source-pa-unknown", outside(func(o *outer) { o.src = "192.168.1.66" })},
		{"outer source of another host", "source-pa-mismatch", outside(func(o *outer) { o.src = "192.168.1.11" })},
		{"outer source is the gateway's own", "outer-source-ours", outside(func(o *outer) { o.src = "192.168.1.1" })},
		{"unknown VSID", "vsid-unknown", outside(func(o *outer) { o.vsid = 77777 })},
		{"reserved VSID", "vsid-reserved", outside(func(o *outer) { o.vsid = 1 })},
		{"VSID of a VM's subnet", "", outside(func(o *outer) { o.vsid++ })},
		{"VLAN tag", "inner-vlan", inside(func(b []byte) []byte {
			return append(append(append([]byte{}, b[:12]...), 0x81, 0, 0, 5), b[12:]...)
		})},
		{"service VLAN tag", "inner-vlan", inside(func(b []byte) []byte {
			return append(append(append([]byte{}, b[:12]...), 0x88, 0xa8, 0, 5), b[12:]...)
		})},
		{"inner checksum", "inner-checksum", inside(func(b []byte) []byte { b[atIP+10] ^= 0xff; return b })},
		{"inner header length", "inner-malformed", inside(func(b []byte) []byte { b[atIP] = 0x44; return sumIP(b, atIP) })},
		{"inner length", "inner-truncated", inside(func(b []byte) []byte { at16(b, atIP+2, 999); return sumIP(b, atIP) })},
		{"group source MAC address", "inner-source-mac", inside(func(b []byte) []byte { b[6] |= 1; return b })},
		{"unknown ethertype", "ethertype-unsupported", inside(func(b []byte) []byte { b[12], b[13] = 0x88, 0xb5; return b })},
		{"inner source without a record", "source-ca-unknown", from.around(t, packet(func(d *datagram) { d.src = "10.1.1.77" }))},
		{"inner source of a VM elsewhere", "source-pa-mismatch", from.around(t, packet(func(d *datagram) { d.src = "10.1.1.11" }))},
		{"inner source of no station", "source-martian", from.around(t, packet(func(d *datagram) { d.src = "127.0.0.1" }))},
		{"inner source of the Internet", "", from.around(t, packet(func(d *datagram) { d.src = "198.51.100.10" }))},
		{"inner destination of no station", "destination-martian", from.around(t, packet(func(d *datagram) { d.dst = "127.0.0.1" }))},
		{"no hop left", "", from.around(t, packet(func(d *datagram) { d.ttl = 0 }))},
		{"another's MAC address", "", from.around(t, packet(func(d *datagram) { d.dstMAC = mac(t, "00:15:5d:01:01:0b") }))},
		{"a VM's own gratuitous ARP", "", from.around(t, arp(t, 1, mac(t, "00:15:5d:01:01:0c"), "10.254.254.2", "10.254.254.2"))},
	}
	if e == hnv.NVGRE {
		return append(out,
			hostile{"GRE version 1", "gre-version", frame(func(b []byte) { b[atProto+1] |= 1 })},
			hostile{"GRE checksum bit", "gre-flags", frame(func(b []byte) { b[atProto] |= 0x80 })},
			hostile{"GRE sequence bit", "gre-flags", frame(func(b []byte) { b[atProto] |= 0x10 })},
			hostile{"GRE routing bit", "gre-reserved", frame(func(b []byte) { b[atProto] |= 0x40 })},
			hostile{"no GRE key", "gre-no-key", frame(func(b []byte) { b[atProto] = 0 })},
			hostile{"GRE of IP", "gre-protocol", frame(func(b []byte) { at16(b, atProto+2, 0x0800) })},
			hostile{"another tenant's VSID", "", outside(func(o *outer) { o.vsid = 6000 })},
			hostile{"VXLAN instead of NVGRE", "encap-mismatch", outside(func(o *outer) { o.encap = hnv.VXLAN })},
		)
	}
	return append(out,
		hostile{"no VNI", "vxlan-no-vni", frame(func(b []byte) { b[atVXLAN] = 0 })},
		hostile{"UDP length too long", "udp-length", frame(func(b []byte) { at16(b, atProto+4, uint16(len(b))) })},
		hostile{"UDP length too short", "udp-length", frame(func(b []byte) { at16(b, atProto+4, 9) })},
		hostile{"another tenant's VSID", "", outside(func(o *outer) { o.vsid = 5000 })},
		hostile{"NVGRE instead of VXLAN", "encap-mismatch", outside(func(o *outer) { o.encap = hnv.NVGRE })},
	)
}
