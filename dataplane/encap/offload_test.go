package encap_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// partial gives the inner frame with its TCP checksum left to the device.
func partial(t testing.TB, n int) *packet.Frame {
	b := inner(t, n)
	var h packet.Headers
	if r := h.DecodeEthernet(b); r != drop.None {
		t.Fatal(r)
	}
	sum := packet.Fold(packet.PseudoSum(h.Src, h.Dst, h.Proto, h.Length-20))
	binary.BigEndian.PutUint16(b[h.L4+16:], sum)
	f := packet.NewFrame(len(b))
	f.Set(b)
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: uint16(h.L4), CsumOffset: 16, HdrLen: uint16(h.L4 + 20)}
	return f
}

// A partial inner checksum may be completed before or behind the tunnel: the
// outer packet is the same, its own UDP checksum included.
func TestPartialChecksumSurvivesPush(t *testing.T) {
	for name, h := range headers() {
		for _, n := range []int{0, 1, 2, 99, 1000, 1001} {
			before, after := partial(t, n), partial(t, n)
			if !packet.CompleteChecksum(before) || !encap.Push(before, &h) {
				t.Fatalf("%s: refused", name)
			}
			if !encap.Push(after, &h) || !after.Offload.NeedsCsum {
				t.Fatalf("%s: refused, or the offload is lost", name)
			}
			if !packet.CompleteChecksum(after) {
				t.Fatalf("%s: cannot be completed behind the tunnel: %+v", name, after.Offload)
			}
			if !bytes.Equal(before.Bytes(), after.Bytes()) {
				t.Errorf("%s, %d bytes:\n%x\n%x", name, n, before.Bytes(), after.Bytes())
			}
		}
	}
}

// A checksum that comes out as 0 is sent as its other form (RFC 768).
func TestOuterChecksumIsNeverZero(t *testing.T) {
	h := headers()["vxlan6"]
	frame := append(shortest[:len(shortest):len(shortest)], 0, 0)
	f := packet.NewFrame(100)
	f.Set(frame)
	encap.Push(f, &h)
	copy(frame[14:], f.Bytes()[46:48]) // the data that makes up for all the rest
	f.Set(frame)
	if !encap.Push(f, &h) || !bytes.Equal(f.Bytes()[46:48], []byte{0xff, 0xff}) {
		t.Errorf("checksum is %x", f.Bytes()[46:48])
	}
}

// An offload at an odd place, which no real packet has, is carried out at once
// where there is an outer checksum to compute.
func TestOddPartialChecksum(t *testing.T) {
	h := headers()["vxlan6"]
	f := packet.NewFrame(100)
	f.Set(make([]byte, 40))
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 15, CsumOffset: 2}
	if !encap.Push(f, &h) || f.Offload.NeedsCsum {
		t.Fatalf("refused or not completed: %+v", f.Offload)
	}
	udp := f.Bytes()[40:]
	if packet.Checksum(udp, packet.PseudoSum(h.Src, h.Dst, 17, len(udp))) != 0 {
		t.Error("outer checksum is wrong")
	}
	f.Set(make([]byte, 40))
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 39, CsumOffset: 2}
	if encap.Push(f, &h) || f.Len() != 40 {
		t.Error("an offload outside the frame was taken")
	}
}

// What the kernel merged from many packets comes as one with the outer length
// up to the limit and the offload meaning the inner TCP header.
func TestSuperPacket(t *testing.T) {
	for name, h := range headers() {
		over := encap.Overhead(h.Kind, h.Src.Is6())
		f := partial(t, 65535-over-40)
		f.Offload.GSO, f.Offload.GSOSize = packet.GSOTCPv4, 1400
		want, frame := f.Offload, bytes.Clone(f.Bytes())
		if h.Src.Is6() && h.Kind == encap.KindVXLAN {
			if encap.Push(f, &h) {
				t.Errorf("%s: one UDP checksum for many segments", name)
			}
			continue
		}
		if !encap.Push(f, &h) || f.Len() != 65535 {
			t.Fatalf("%s: refused; length %d", name, f.Len())
		}
		var got encap.Header
		if r := encap.Pop(f, &got); r != drop.None || got.Total != 65535 {
			t.Fatalf("%s: %s, %+v", name, r, got)
		}
		if f.Offload != want || !bytes.Equal(f.Bytes(), frame) {
			t.Errorf("%s: offload %+v, want %+v", name, f.Offload, want)
		}
	}
}

// An outer UDP checksum left to the device is a partial sum: it must neither be
// verified nor left behind as an offload of the inner frame.
func TestOuterPartialChecksum(t *testing.T) {
	h := headers()["vxlan4"]
	frame := inner(t, 100)
	f := packet.NewFrame(2000)
	f.Set(pushed(t, h, frame))
	udp := f.Bytes()[20:]
	binary.BigEndian.PutUint16(udp[6:], packet.Fold(packet.PseudoSum(h.Src, h.Dst, 17, len(udp))))
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 6}
	var got encap.Header
	if r := encap.Pop(f, &got); r != drop.None {
		t.Fatal(r)
	}
	if f.Offload != (packet.Offload{}) || !packet.CompleteChecksum(f) || !bytes.Equal(f.Bytes(), frame) {
		t.Errorf("offload %+v, frame changed: %v", f.Offload, !bytes.Equal(f.Bytes(), frame))
	}
}

func TestPop(t *testing.T) {
	frame := inner(t, 100)
	var h encap.Header
	for name, want := range headers() {
		f := packet.NewFrame(2000)
		f.Set(append(pushed(t, want, frame), make([]byte, 9)...))
		if r := encap.Pop(f, &h); r != drop.None || h.VSID != want.VSID || !bytes.Equal(f.Bytes(), frame) {
			t.Errorf("%s: %s, %x", name, r, f.Bytes())
		}
	}
	wire := pushed(t, headers()["vxlan4"], frame)
	for name, c := range map[string]struct {
		b    []byte
		o    packet.Offload
		want drop.Reason
	}{
		"malformed":          {wire[:30], packet.Offload{}, drop.OuterLength},
		"merged outside":     {wire, packet.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 6, GSO: packet.GSOUDP, GSOSize: 100}, drop.GSOUnsupported},
		"merged inside":      {wire, packet.Offload{NeedsCsum: true, CsumStart: 70, CsumOffset: 6, GSO: packet.GSOUDP, GSOSize: 100}, drop.None},
		"checksum elsewhere": {append(bytes.Clone(wire), 0, 0, 0, 0), packet.Offload{NeedsCsum: true, CsumStart: uint16(len(wire))}, drop.ChecksumUnsupported},
	} {
		f := packet.NewFrame(2000)
		f.Set(c.b)
		f.Offload = c.o
		r := encap.Pop(f, &h)
		if r != c.want || r != drop.None && (!bytes.Equal(f.Bytes(), c.b) || f.Offload != c.o) {
			t.Errorf("%s: %s, want %s, or changed", name, r, c.want)
		}
	}
}
