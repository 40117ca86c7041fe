package port

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func vnet(flags, typ byte, hdrLen, gsoSize, start, off uint16) []byte {
	b := []byte{flags, typ}
	for _, v := range []uint16{hdrLen, gsoSize, start, off} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func TestParseVnetHdr(t *testing.T) {
	const n = 2000
	for name, c := range map[string]struct {
		b    []byte
		want packet.Offload
		err  error
	}{
		"nothing to do":     {vnet(0, 0, 0, 0, 0, 0), packet.Offload{}, nil},
		"checksum valid":    {vnet(2, 0, 0, 0, 0, 0), packet.Offload{}, nil},
		"partial":           {vnet(1, 0, 0, 0, 34, 16), packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16}, nil},
		"partial, last":     {vnet(1, 0, 0, 0, n-18, 16), packet.Offload{NeedsCsum: true, CsumStart: n - 18, CsumOffset: 16}, nil},
		"partial, beyond":   {vnet(1, 0, 0, 0, n-17, 16), packet.Offload{}, errOffload},
		"partial, overflow": {vnet(1, 0, 0, 0, 65535, 65535), packet.Offload{}, errOffload},
		"TCPv4 with CWR": {vnet(1, 0x81, 100, 1448, 34, 16),
			packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: packet.GSOTCPv4, ECN: true, GSOSize: 1448, HdrLen: 100}, nil},
		"TCPv6": {vnet(1, 4, 3000, 1428, 54, 16),
			packet.Offload{NeedsCsum: true, CsumStart: 54, CsumOffset: 16, GSO: packet.GSOTCPv6, GSOSize: 1428, HdrLen: n}, nil},
		"UDP": {vnet(1, 5, 42, 1400, 34, 6),
			packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 6, GSO: packet.GSOUDP, GSOSize: 1400, HdrLen: 42}, nil},
		"segments of nothing": {vnet(1, 1, 54, 0, 34, 16), packet.Offload{}, errOffload},
		"UDP fragmentation":   {vnet(1, 3, 42, 1400, 34, 6), packet.Offload{}, errUnsupported},
		"unknown type":        {vnet(0, 0x20, 0, 0, 0, 0), packet.Offload{}, errUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			o := packet.Offload{GSOSize: 9, HdrLen: 9} // what the last frame left behind
			if err := parseVnetHdr(c.b, n, &o); err != c.err {
				t.Fatalf("parseVnetHdr: %v, want %v", err, c.err)
			}
			if c.err == nil && o != c.want {
				t.Errorf("got  %+v\nwant %+v", o, c.want)
			}
		})
	}
}

// superFrame is a frame of n bytes whose TCP header at l4 takes hdr bytes.
func superFrame(n, l4, hdr int) []byte {
	f := make([]byte, n)
	f[l4+tcpDataOff] = byte(hdr / 4 << 4)
	return f
}

func TestPutVnetHdr(t *testing.T) {
	tcp := packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: packet.GSOTCPv4, GSOSize: 1000}
	with := func(change func(*packet.Offload)) packet.Offload {
		o := tcp
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		o     packet.Offload
		frame []byte
		want  []byte // nil: refused
	}{
		"nothing to do":            {packet.Offload{}, make([]byte, 60), vnet(0, 0, 0, 0, 0, 0)},
		"a stale hint":             {packet.Offload{HdrLen: 77}, make([]byte, 60), vnet(0, 0, 0, 0, 0, 0)},
		"partial":                  {packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 6}, make([]byte, 60), vnet(1, 0, 0, 0, 34, 6)},
		"partial beyond the frame": {packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 6}, make([]byte, 41), nil},
		"TCP":                      {tcp, superFrame(3000, 34, 32), vnet(1, 1, 66, 1000, 34, 16)},
		"TCP, hint not believed":   {with(func(o *packet.Offload) { o.HdrLen = 3000 }), superFrame(3000, 34, 20), vnet(1, 1, 54, 1000, 34, 16)},
		"TCP with CWR":             {with(func(o *packet.Offload) { o.ECN = true }), superFrame(3000, 34, 20), vnet(1, 0x81, 54, 1000, 34, 16)},
		"TCPv6":                    {with(func(o *packet.Offload) { o.GSO, o.CsumStart = packet.GSOTCPv6, 54 }), superFrame(3000, 54, 20), vnet(1, 4, 74, 1000, 54, 16)},
		"UDP":                      {with(func(o *packet.Offload) { o.GSO, o.CsumOffset = packet.GSOUDP, 6 }), make([]byte, 3000), vnet(1, 5, 42, 1000, 34, 6)},
		"TCP header too short":     {tcp, superFrame(3000, 34, 16), nil},
		"TCP header cut off":       {tcp, make([]byte, 53), nil},
		"TCP options cut off":      {tcp, superFrame(60, 34, 60), nil},
		"UDP header cut off":       {with(func(o *packet.Offload) { o.GSO, o.CsumOffset = packet.GSOUDP, 0 }), make([]byte, 41), nil},
		"no segment size":          {with(func(o *packet.Offload) { o.GSOSize = 0 }), superFrame(3000, 34, 20), nil},
		"super-packet summed up":   {with(func(o *packet.Offload) { o.NeedsCsum = false }), superFrame(3000, 34, 20), nil},
		"unknown type":             {with(func(o *packet.Offload) { o.GSO = 3 }), superFrame(3000, 34, 20), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := vnet(0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff)
			ok := putVnetHdr(got, &c.o, c.frame)
			if ok != (c.want != nil) {
				t.Fatalf("putVnetHdr: %v", ok)
			}
			if ok && string(got) != string(c.want) {
				t.Errorf("got  %x\nwant %x", got, c.want)
			}
		})
	}
}

// Whatever putVnetHdr writes, parseVnetHdr reads back as it was.
func TestVnetHdrRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	written := 0
	for range 100000 {
		frame := make([]byte, 14+r.IntN(300))
		for i := range frame {
			frame[i] = byte(r.Uint32())
		}
		o := packet.Offload{NeedsCsum: r.IntN(4) != 0, GSO: packet.GSOType(r.IntN(7)), ECN: r.IntN(2) == 0, GSOSize: uint16(r.IntN(3) * 500)}
		if o.NeedsCsum {
			o.CsumStart, o.CsumOffset = uint16(r.IntN(320)), uint16(r.IntN(20))
		}
		var b [vnetHdrLen]byte
		if !putVnetHdr(b[:], &o, frame) {
			continue
		}
		written++
		var back packet.Offload
		if err := parseVnetHdr(b[:], len(frame), &back); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if o.GSO == packet.GSONone {
			o.ECN, o.GSOSize = false, 0
		} else if o.HdrLen = uint16(gsoHeaderLen(&o, frame)); int(o.HdrLen) > len(frame) {
			t.Fatalf("headers of %d bytes in a frame of %d", o.HdrLen, len(frame))
		}
		if back != o {
			t.Fatalf("got  %+v\nwant %+v", back, o)
		}
	}
	if written < 1000 {
		t.Fatalf("only %d of the random offloads could be written", written)
	}
}

func FuzzParseVnetHdr(f *testing.F) {
	f.Add(vnet(1, 1, 66, 1448, 34, 16), 2000)
	f.Add(vnet(1, 0x84, 86, 1428, 54, 16), 60)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if len(b) < vnetHdrLen || n < 0 || n > 1<<20 {
			return
		}
		var o packet.Offload
		if parseVnetHdr(b, n, &o) != nil {
			return
		}
		if o.NeedsCsum && int(o.CsumStart)+int(o.CsumOffset)+2 > n {
			t.Errorf("checksum of %+v lies outside %d bytes", o, n)
		}
		if int(o.HdrLen) > n || o.GSO != packet.GSONone && o.GSOSize == 0 {
			t.Errorf("impossible for %d bytes: %+v", n, o)
		}
	})
}
