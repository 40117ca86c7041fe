package dataplane

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// fuzzed is a host with ports of two tenants that have the same addresses: of
// each its compartment and VM 11.
type fuzzed struct {
	*lab
	host  *host
	sites []*site
	drops uint64
}

func newFuzzed(t testing.TB) *fuzzed {
	z := &fuzzed{lab: newLab(t)}
	z.host = z.addHost(paGate, paHost1)
	for i, name := range []string{"contoso", "fabrikam"} {
		base := uint32(5000 + 1000*i)
		s := &site{Tenant: tenantConfig(name, base, []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[i]), base: base}
		if err := z.host.sw.Apply(s.Tenant); err != nil {
			t.Fatal(err)
		}
		s.gw = z.host.plug(base, hnv.CompartmentMAC(mustVSID(base)), PortCompartment)
		s.vm11 = z.host.plug(base+1, mac11, PortVM)
		z.sites = append(z.sites, s)
	}
	return z
}

// newDrops tells how many packets were dropped since it was asked before.
func (z *fuzzed) newDrops() uint64 {
	total := uint64(0)
	for _, n := range z.host.allDrops() {
		total += n
	}
	n := total - z.drops
	z.drops = total
	return n
}

// mend puts the checksum of the IPv4 header at off right, if there is one, so
// that the fuzzer gets past it.
func mend(b []byte, off int) {
	if len(b) < off+20 || b[off]>>4 != 4 {
		return
	}
	if n := int(b[off]&15) * 4; n >= 20 && len(b) >= off+n {
		b[off+10], b[off+11] = 0, 0
		binary.BigEndian.PutUint16(b[off+10:], packet.Checksum(b[off:off+n], 0))
	}
}

// vsidOf reads the VSID of an outer packet without the dataplane's code.
func vsidOf(b []byte) uint32 {
	if len(b) < 20 {
		return 0
	}
	off := int(b[0]&15) * 4
	if b[0]>>4 == 6 {
		return 0 // the seeds have none; extension headers would make it long
	}
	switch {
	case b[9] == packet.ProtoGRE && len(b) >= off+8:
		return binary.BigEndian.Uint32(b[off+4:]) >> 8
	case b[9] == packet.ProtoUDP && len(b) >= off+16:
		return binary.BigEndian.Uint32(b[off+12:]) >> 8
	}
	return 0
}

// Modes of the fuzz targets.
const (
	mendOuter = 1 << iota
	mendInner
	wrapNVGRE // the input is an inner frame
	wrapVXLAN
)

func fuzzSeeds(f *testing.F) {
	gwMAC := hnv.CompartmentMAC(mustVSID(5000))
	f.Add(goodNVGRE(), uint8(0), uint16(0))
	f.Add(goodVXLAN(), uint8(mendOuter|mendInner), uint16(0))
	f.Add(nvgre(5000, udp(hnv.RouterMAC, gwMAC, "fd00:1::12", "2001:db8::5", "x")), uint8(0), uint16(0))
	for _, inner := range [][]byte{
		udp(hnv.RouterMAC, gwMAC, "10.1.1.12", "203.0.113.5", "x"),
		udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"),
		udp(mac12, mac11, "fd00:1::12", "fd00:1::11", "x"),
		udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "x"),
		udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "x"),
		udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.12", "x"),
		udp(mac11, mac12, "10.1.1.11", "10.1.1.12", string(make([]byte, 1800))),
		ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.1", 64, echo(), "x"),
		arpFrame(1, mac12, mac11, mac12, "10.1.1.12", "10.1.1.11"),
		arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12"),
		arpFrame(1, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "10.254.254.1", "10.254.254.2"),
		neighborFrame(f, packet.NDNeighborSolicitation, mac12, mac11, mac12, "fd00:1::12", "fd00:1::11", "fd00:1::11"),
		neighborFrame(f, packet.NDNeighborSolicitation, mac11, mac12, mac11, "fd00:1::11", "fd00:1::1", "fd00:1::1"),
	} {
		for _, mode := range []uint8{wrapNVGRE, wrapVXLAN, wrapNVGRE | mendInner} {
			for _, vsid := range []uint16{5000, 5001, 6001} {
				f.Add(inner, mode, vsid)
			}
		}
	}
}

// FuzzProvider gives anything to the receive path. Whatever it is: it is either
// dropped, counted once, or delivered to one port of the VSID it came with, as
// it came, or answered to where it came from; and only hosts of the tenant are
// heard at all.
func FuzzProvider(f *testing.F) {
	fuzzSeeds(f)
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, b []byte, mode uint8, vsid uint16) {
		if len(b) > 9000 {
			return
		}
		z.lab.t = t
		b = bytes.Clone(b)
		if mode&mendInner != 0 && mode&(wrapNVGRE|wrapVXLAN) != 0 {
			mend(b, 14)
		}
		switch {
		case mode&wrapNVGRE != 0:
			b = outerPacket(hnv.NVGRE, paHost2, paGate, uint32(vsid), b)
		case mode&wrapVXLAN != 0:
			b = outerPacket(hnv.VXLAN, paHost2, paHost1, uint32(vsid), b)
		case mode&mendInner != 0:
			mend(b, 42)
			mend(b, 50)
		}
		if mode&mendOuter != 0 {
			mend(b, 0)
		}
		z.host.inject(bytes.Clone(b))
		outcomes := z.newDrops()
		for _, s := range z.sites {
			for _, n := range []*nic{s.gw, s.vm11} {
				for _, got := range n.drain() {
					outcomes++
					if n.vsid != vsidOf(b) {
						t.Fatalf("a packet of VSID %d was delivered in VSID %d", vsidOf(b), n.vsid)
					}
					if src := ip(paHost2).AsSlice(); !bytes.Equal(b[12:16], src) {
						t.Fatalf("a packet of PA %v was delivered", b[12:16])
					}
					if [6]byte(got.bytes) != n.mac.Bytes() || !bytes.Contains(b, got.bytes[22:]) {
						t.Fatalf("delivered %x of %x", got.bytes, b)
					}
				}
			}
		}
		for _, got := range z.host.out.drain() {
			outcomes++
			if !bytes.Equal(got.bytes[16:20], b[12:16]) || vsidOf(got.bytes) != vsidOf(b) || got.bytes[9] != b[9] {
				t.Fatalf("%x was answered by %x", b, got.bytes)
			}
		}
		if outcomes != 1 {
			t.Fatalf("one packet had %d outcomes: %x", outcomes, b)
		}
	})
}

// FuzzPort gives anything to the ports. Whatever it is: it goes to ports of the
// same tenant, or to the fabric with a VSID of the same tenant and to a PA of
// one of its records, still between the addresses that were checked.
func FuzzPort(f *testing.F) {
	fuzzSeeds(f)
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, b []byte, mode uint8, from uint16) {
		if len(b) > 9000 {
			return
		}
		z.lab.t = t
		b = bytes.Clone(b)
		if mode&mendInner != 0 {
			mend(b, 14)
		}
		s, other := z.sites[from%2], z.sites[1-from%2]
		n := []*nic{s.gw, s.vm11}[from/2%2]
		if mode&mendOuter != 0 && len(b) >= 12 {
			mac := n.mac.Bytes()
			copy(b[6:], mac[:])
		}
		in := sent{bytes: b}
		if mode&wrapVXLAN != 0 { // a super-packet, with whatever offload
			in.offload = packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: packet.GSOType(from >> 8 & 7), GSOSize: from}
			if from&4 != 0 {
				in.offload.CsumStart, in.offload.CsumOffset = from>>3&63, from>>9
			}
		}
		var before packet.Headers
		before.DecodeEthernet(b)
		n.sendOffloaded(in)
		outcomes := z.newDrops()
		for _, p := range []*nic{other.gw, other.vm11} {
			if got := p.drain(); len(got) != 0 {
				t.Fatalf("a frame of %s reached %s: %x", s.Name, other.Name, got[0].bytes)
			}
		}
		for _, p := range []*nic{s.gw, s.vm11} {
			outcomes += uint64(len(p.drain()))
		}
		for _, got := range z.host.out.drain() {
			outcomes++
			vsid := vsidOf(got.bytes)
			if vsid < s.base || vsid > s.base+2 || !bytes.Equal(got.bytes[16:20], ip(paHost2).AsSlice()) || got.offload != (packet.Offload{}) {
				t.Fatalf("a frame of %s went to the fabric as %x", s.Name, got.bytes)
			}
			var h packet.Headers
			if r := h.DecodeEthernet(got.bytes[len(got.bytes)-innerLen(got.bytes):]); r != drop.None && r != drop.InnerTruncated && r != drop.InnerMalformed {
				t.Fatalf("what went to the fabric is %s: %x", r, got.bytes)
			}
			if h.Src != before.Src || h.Dst != before.Dst || h.EtherType != before.EtherType {
				t.Fatalf("a packet from %s to %s became one from %s to %s: %x", before.Src, before.Dst, h.Src, h.Dst, got.bytes)
			}
		}
		if outcomes == 0 {
			t.Fatalf("a frame vanished: %x", b)
		}
	})
}

// innerLen is the length of the inner frame of an outer packet of ours.
func innerLen(b []byte) int {
	if b[9] == packet.ProtoGRE {
		return len(b) - 28
	}
	return len(b) - 36
}
