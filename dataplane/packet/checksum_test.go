package packet_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// naive is RFC 1071 as it stands there.
func naive(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return ^uint16(sum)
}

func TestChecksumExample(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7} // RFC 1071 section 3
	if got := packet.Checksum(b, 0); got != ^uint16(0xddf2) {
		t.Errorf("checksum is %#04x, want %#04x", got, ^uint16(0xddf2))
	}
}

func TestChecksumAgreesWithNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
			if r.IntN(4) == 0 {
				b[i] = 0xff // carries
			}
		}
		if got, want := packet.Checksum(b, 0), naive(b); got != want {
			t.Fatalf("%x: checksum %#04x, want %#04x", b, got, want)
		}
		if len(b) > 0 {
			cut := r.IntN(len(b)) &^ 1
			if got := packet.Checksum(b[cut:], packet.Sum(b[:cut], 0)); got != naive(b) {
				t.Fatalf("%x in two parts at %d: checksum %#04x, want %#04x", b, cut, got, naive(b))
			}
		}
	}
	ones := bytes.Repeat([]byte{0xff}, 65536)
	if got := packet.Checksum(ones, 1<<64-1); got != 0 {
		t.Errorf("checksum of all ones is %#04x", got)
	}
}

func TestPseudoSum(t *testing.T) {
	for _, c := range []struct{ src, dst netip.Addr }{{ca1, ca2}, {six1, six2}} {
		b := append(c.src.AsSlice(), c.dst.AsSlice()...)
		b = binary.BigEndian.AppendUint32(b, 1234)
		b = append(b, 0, 0, 0, 17)
		if got, want := packet.Fold(packet.PseudoSum(c.src, c.dst, 17, 1234)), ^naive(b); got != want {
			t.Errorf("%s: %#04x, want %#04x", c.src, got, want)
		}
	}
}

func TestUpdateChecksum(t *testing.T) {
	// RFC 1624 section 4: with equation 2 this gave -0, 0xffff.
	if got := packet.UpdateChecksum(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("the example of RFC 1624 gives %#04x, want 0", got)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, 20)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		sum := naive(b)
		i := r.IntN(10) * 2
		old := binary.BigEndian.Uint16(b[i:])
		now := uint16(r.Uint32())
		if r.IntN(3) == 0 {
			now = []uint16{0, 0xffff, old}[r.IntN(3)]
		}
		binary.BigEndian.PutUint16(b[i:], now)
		if got, want := packet.UpdateChecksum(sum, old, now), naive(b); got != want {
			t.Fatalf("%x word %d %#04x -> %#04x: %#04x, want %#04x", b, i, old, now, got, want)
		}
	}
}

// partial makes the transport checksum of a good frame partial.
func partial(t testing.TB, f *packet.Frame) {
	t.Helper()
	h := decode(t, f.Bytes())
	offset := map[uint8]int{packet.ProtoTCP: 16, packet.ProtoUDP: 6, packet.ProtoICMPv6: 2}[h.Proto]
	length := h.L3 + h.Length - h.L4
	sum := packet.Fold(packet.PseudoSum(h.Src, h.Dst, h.Proto, length))
	binary.BigEndian.PutUint16(f.Bytes()[h.L4+offset:], sum)
	f.Offload.NeedsCsum, f.Offload.CsumStart, f.Offload.CsumOffset = true, uint16(h.L4), uint16(offset)
}

func TestCompleteChecksum(t *testing.T) {
	for name, want := range samples(t) {
		h := decode(t, want)
		if h.IsFragment() || h.Proto == packet.ProtoICMP || name == "udp6 ext" {
			continue // these have no transport checksum that could be partial, or a made-up one
		}
		f := newFrame(t, want)
		partial(t, f)
		if bytes.Equal(f.Bytes(), want) {
			t.Fatalf("%s: the partial checksum equals the full one", name)
		}
		if !packet.CompleteChecksum(f) || f.Offload != (packet.Offload{}) || !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%s: completed to\n%x, want\n%x", name, f.Bytes(), want)
		}
		if !packet.CompleteChecksum(f) || !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%s: completing again changed it", name)
		}
	}
}

func TestCompleteChecksumNeverWritesZero(t *testing.T) {
	f := newFrame(t, []byte{0x12, 0x34, 0, 0, 0xed, 0xcb})
	f.Offload = packet.Offload{NeedsCsum: true, CsumOffset: 2}
	if !packet.CompleteChecksum(f) || !bytes.Equal(f.Bytes(), []byte{0x12, 0x34, 0xff, 0xff, 0xed, 0xcb}) {
		t.Errorf("got %x", f.Bytes())
	}
}

func TestCompleteChecksumAtTheVeryEnd(t *testing.T) {
	f := newFrame(t, []byte{0x12, 0x34, 0, 0})
	f.Offload = packet.Offload{NeedsCsum: true, CsumOffset: 2}
	if !packet.CompleteChecksum(f) || !bytes.Equal(f.Bytes(), []byte{0x12, 0x34, 0xed, 0xcb}) {
		t.Errorf("got %x", f.Bytes())
	}
}

func TestCompleteChecksumOutsideTheFrame(t *testing.T) {
	for _, o := range []packet.Offload{
		{NeedsCsum: true, CsumStart: 10, CsumOffset: 9},
		{NeedsCsum: true, CsumStart: 20},
		{NeedsCsum: true, CsumStart: 65535, CsumOffset: 65535},
	} {
		f := newFrame(t, make([]byte, 20))
		f.Offload = o
		if packet.CompleteChecksum(f) || f.Offload != o {
			t.Errorf("%+v was completed", o)
		}
	}
}
