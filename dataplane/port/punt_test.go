package port

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// punted is a packet behind the header of a fast path's programs.
func punted(p Punt, pkt []byte) []byte {
	b := []byte{puntVersion, p.Why, byte(p.Origin), byte(p.Queue)}
	b = binary.NativeEndian.AppendUint32(b, p.Ifindex)
	b = binary.NativeEndian.AppendUint32(b, p.Tenant)
	b = binary.BigEndian.AppendUint16(b, puntEtherType)
	return append(b, pkt...)
}

func TestUnwrap(t *testing.T) {
	eth := bytes.Repeat([]byte{0xee}, ethLen)
	body := bytes.Repeat([]byte{0xbb}, 100)
	frame := append(bytes.Clone(eth), body...)
	port := Punt{Why: 9, Origin: PuntPort, Queue: PuntOdd, Ifindex: 0x01020304, Tenant: 0xfffffffe}
	fabric := Punt{Why: 1, Origin: PuntFabric, Queue: PuntBulk, Ifindex: 7}
	// The byte order is that of the only machines that the programs are for.
	golden := []byte{1, 9, 2, 0, 4, 3, 2, 1, 0xfe, 0xff, 0xff, 0xff, 0x88, 0xb5}
	if got := punted(port, nil); !bytes.Equal(got, golden) {
		t.Fatalf("the header is %x, want %x", got, golden)
	}
	csum := func(at uint16) packet.Offload {
		return packet.Offload{NeedsCsum: true, CsumStart: at, CsumOffset: 6}
	}
	broken := func(at int, v byte) []byte {
		b := punted(port, frame)
		b[at] = v
		return b
	}
	for name, c := range map[string]struct {
		wire   []byte
		o      packet.Offload
		want   Punt
		packet []byte
		left   packet.Offload
		bad    bool
	}{
		"of a port":                  {wire: punted(port, frame), want: port, packet: frame},
		"of the fabric":              {wire: punted(fabric, frame), want: fabric, packet: body},
		"with a checksum to make":    {wire: punted(port, frame), o: csum(14 + 34), want: port, packet: frame, left: csum(34)},
		"the fabric's, with one":     {wire: punted(fabric, frame), o: csum(28 + 20), want: fabric, packet: body, left: csum(20)},
		"of another version":         {wire: broken(0, 2), bad: true},
		"of no origin":               {wire: broken(2, 3), bad: true},
		"of no queue":                {wire: broken(3, 2), bad: true},
		"of another protocol":        {wire: broken(13, 0xb6), bad: true},
		"nothing":                    {wire: nil, bad: true},
		"a byte short of a header":   {wire: punted(port, nil)[:13], bad: true},
		"a port's runt":              {wire: punted(port, frame[:13]), bad: true},
		"a fabric's runt":            {wire: punted(fabric, frame[:13]), bad: true},
		"a fabric's empty packet":    {wire: punted(fabric, eth), want: fabric, packet: []byte{}},
		"with a checksum in what is": {wire: punted(port, frame), o: csum(6), bad: true},
		"the fabric's, likewise":     {wire: punted(fabric, frame), o: csum(20), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := packet.NewFrame(2048)
			f.Set(c.wire)
			f.Offload = c.o
			got, err := unwrap(f)
			if (err != nil) != c.bad {
				t.Fatalf("%+v, %v", got, err)
			}
			if err != nil {
				return
			}
			if got != c.want || !bytes.Equal(f.Bytes(), c.packet) || f.Offload != c.left {
				t.Errorf("%+v, %x, %+v\nwant %+v, %x, %+v", got, f.Bytes(), f.Offload, c.want, c.packet, c.left)
			}
		})
	}
}

// Each packet of the fast path is let pass by exactly one of the readers that
// share the link, and nothing else by any.
func TestPuntFilter(t *testing.T) {
	machines := map[string]*bpf.VM{}
	run := func(q PuntQueue, share, of int, b []byte) bool {
		prog, err := puntFilter(q, share, of)
		if err != nil {
			t.Fatal(err)
		}
		key := string([]byte{byte(q), byte(share), byte(of)})
		if machines[key] == nil {
			if machines[key], err = bpf.NewVM(prog); err != nil {
				t.Fatal(err)
			}
		}
		n, err := machines[key].Run(b)
		if err != nil {
			t.Fatal(err)
		}
		return n >= len(b) && n > 0
	}
	for tenant := range uint32(600) {
		for q := range PuntQueue(2) {
			b := punted(Punt{Origin: PuntPort, Queue: q, Tenant: tenant}, make([]byte, 60))
			if !run(q, 0, 1, b) || run(1-q, 0, 1, b) {
				t.Fatalf("queue %d: it is not let pass by its reader alone", q)
			}
			passed := 0
			for share := range 3 {
				if run(q, share, 3, b) {
					passed++
				}
			}
			if passed != 1 {
				t.Fatalf("tenant %d: %d of three readers let it pass", tenant, passed)
			}
		}
	}
	other := punted(Punt{Origin: PuntPort}, make([]byte, 60))
	other[12] = 8
	if run(PuntOdd, 0, 1, other) {
		t.Error("a packet of another protocol passes")
	}
	for _, c := range []struct {
		q         PuntQueue
		share, of int
	}{{0, 0, 0}, {0, 2, 2}, {0, -1, 2}, {0, 0, 257}, {2, 0, 1}} {
		if _, err := puntFilter(c.q, c.share, c.of); err == nil {
			t.Errorf("a filter for %+v", c)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	f.Add(punted(Punt{Why: 3, Origin: PuntPort, Ifindex: 1, Tenant: 2}, make([]byte, 60)), uint16(14+34), uint16(16), true)
	f.Add(punted(Punt{Why: 3, Origin: PuntFabric, Queue: PuntBulk}, make([]byte, 14)), uint16(0), uint16(0), false)
	f.Add([]byte{1, 1, 2}, uint16(1), uint16(0), true)
	f.Fuzz(func(t *testing.T, b []byte, start, offset uint16, partial bool) {
		fr := packet.NewFrame(len(b))
		fr.Set(b)
		if partial {
			if int(start)+int(offset)+2 > len(b) {
				return // parseVnetHdr lets no such pass
			}
			fr.Offload = packet.Offload{NeedsCsum: true, CsumStart: start, CsumOffset: offset}
		}
		p, err := unwrap(fr)
		if err != nil {
			return
		}
		cut := puntLen
		if p.Origin == PuntFabric {
			cut += ethLen
		}
		if !bytes.Equal(fr.Bytes(), b[cut:]) {
			t.Errorf("%x of %x", fr.Bytes(), b)
		}
		if !bytes.Equal(punted(p, nil), b[:puntLen]) {
			t.Errorf("%+v of %x", p, b)
		}
		if o := fr.Offload; o.NeedsCsum != partial || partial && int(o.CsumStart)+cut != int(start) {
			t.Errorf("%+v is left, of a checksum at %d", o, start)
		}
	})
}
