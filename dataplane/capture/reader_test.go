package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// readAll reads a file to its end.
func readAll(b []byte) (all []Record, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for {
		k, err := r.Next()
		if err != nil {
			if err == io.EOF {
				return all, nil
			}
			return all, err
		}
		k.Data = slices.Clone(k.Data)
		all = append(all, k)
	}
}

// written is a file of two sections by our own Writer.
func written(t testing.TB) []byte {
	var b bytes.Buffer
	for range 2 {
		w := must(NewWriter(&b, "test", "two sections"))
		port := must(w.AddInterface(Interface{Name: "vm/c11", Description: "a port", Link: Ethernet, SnapLen: 4}))
		fabric := must(w.AddInterface(Interface{Name: "fabric", Link: RawIP}))
		for _, k := range []Packet{
			{Interface: port, Time: start, Data: []byte{1, 2, 3}, Length: 60, Direction: Inbound, Comment: "point=port-in"},
			{Interface: fabric, Time: start + 1, Data: []byte{0x45}, Direction: Outbound, Lost: 3},
			{Interface: fabric, Time: start + 2},
		} {
			if err := w.WritePacket(&k); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.WriteStatistics(port, start, 1, "nothing lost"); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestReaderReadsWhatWriterWrites(t *testing.T) {
	all, err := readAll(written(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 {
		t.Fatalf("%d packets, want 6", len(all))
	}
	for i, want := range []Record{
		{Time: start, Link: Ethernet, Interface: "vm/c11", Data: []byte{1, 2, 3}, Length: 60, Direction: Inbound, Comment: "point=port-in"},
		{Time: start + 1, Link: RawIP, Interface: "fabric", Data: []byte{0x45}, Length: 1, Direction: Outbound},
		{Time: start + 2, Link: RawIP, Interface: "fabric", Data: []byte{}},
	} {
		for _, n := range []int{i, i + 3} {
			got := all[n]
			if got.Number != n+1 || got.Time != want.Time || got.Link != want.Link || got.Interface != want.Interface || !bytes.Equal(got.Data, want.Data) ||
				got.Length != want.Length || got.Direction != want.Direction || got.Comment != want.Comment {
				t.Errorf("packet %d is %+v, want %+v", n+1, got, want)
			}
		}
	}
}

// classic makes a pcap file with one packet.
func classic(o binary.ByteOrder, magic, fraction uint32) []byte {
	b := make([]byte, 24, 64)
	o.PutUint32(b, magic)
	o.PutUint16(b[4:], 2)
	o.PutUint16(b[6:], 4)
	o.PutUint32(b[16:], 65535)
	o.PutUint32(b[20:], uint32(RawIP))
	h := make([]byte, 16)
	o.PutUint32(h, 1767323045)
	o.PutUint32(h[4:], fraction)
	o.PutUint32(h[8:], 2)
	o.PutUint32(h[12:], 90)
	return append(append(b, h...), 0x45, 0)
}

func TestReaderReadsPcap(t *testing.T) {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for magic, fraction := range map[uint32]uint32{classicMicro: 7, classicNano: 7000} {
			all, err := readAll(classic(o, magic, fraction))
			if err != nil || len(all) != 1 {
				t.Fatalf("%v %#x: %d packets, %v", o, magic, len(all), err)
			}
			if k := all[0]; k.Time != 1767323045_000007000 || k.Link != RawIP || k.Length != 90 || !bytes.Equal(k.Data, []byte{0x45, 0}) || k.Number != 1 {
				t.Errorf("%v %#x: %+v", o, magic, k)
			}
		}
	}
}

// A section in the other byte order, with timestamps in 1/1024 s and an offset,
// a simple packet, and blocks that are of no interest.
func TestReaderReadsTheOtherByteOrder(t *testing.T) {
	var b []byte
	block := func(typ uint32, body ...[]byte) {
		all := slices.Concat(body...)
		n := uint32(len(all) + 12)
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, typ), n)
		b = binary.BigEndian.AppendUint32(append(b, all...), n)
	}
	u32 := func(n ...uint32) (out []byte) {
		for _, v := range n {
			out = binary.BigEndian.AppendUint32(out, v)
		}
		return out
	}
	block(blockSection, u32(byteOrderMagic, 1<<16, ^uint32(0), ^uint32(0)))
	block(4, u32(0)) // name resolution
	block(blockInterface, u32(1<<16, 2), []byte{0, ifResolution, 0, 1, 0x8a, 0, 0, 0, 0, ifOffset, 0, 8}, u32(0, 1000), u32(optEnd))
	block(blockPacket, u32(0, 0, 3*1024+512, 1, 1), []byte{9, 0, 0, 0})
	block(blockSimple, u32(60), []byte{1, 2, 3, 4})
	all, err := readAll(b)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d packets, %v", len(all), err)
	}
	if all[0].Time != 1003_500000000 || !bytes.Equal(all[0].Data, []byte{9}) {
		t.Errorf("the enhanced packet is %+v", all[0])
	}
	if all[1].Length != 60 || !bytes.Equal(all[1].Data, []byte{1, 2}) {
		t.Errorf("the simple packet, of which 2 bytes were kept, is %+v", all[1])
	}
}

func TestReaderRefusesWhatIsBroken(t *testing.T) {
	good := written(t)
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"empty":          {nil, "too short"},
		"text":           {[]byte(strings.Repeat("no capture ", 9)), "neither"},
		"pcap version":   {append(binary.LittleEndian.AppendUint32(nil, classicMicro), make([]byte, 20)...), "version 0"},
		"pcap cut":       {classic(binary.LittleEndian, classicMicro, 0)[:41], "in the middle"},
		"no section":     {append(slices.Clone(good[:8]), make([]byte, 20)...), "byte order"},
		"cut":            {good[:len(good)-6], "in the middle"},
		"block length":   {patched(good, sectionLen(good)+4, 13), "says that it has"},
		"interface":      {patched(good, firstPacket(good)+8, 7), "interface 7"},
		"packet length":  {patched(good, firstPacket(good)+20, 1<<20), "says that it has"},
		"end of a block": {patched(good, firstPacket(good)-4, 12), "at its end"},
	} {
		all, err := readAll(c.b)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d packets, %v", name, len(all), err)
		}
	}
}

func patched(b []byte, at int, v uint32) []byte {
	b = slices.Clone(b)
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

func sectionLen(b []byte) int { return int(binary.LittleEndian.Uint32(b[4:])) }

// firstPacket is where the first enhanced packet block starts.
func firstPacket(b []byte) int {
	at := 0
	for binary.LittleEndian.Uint32(b[at:]) != blockPacket {
		at += int(binary.LittleEndian.Uint32(b[at+4:]))
	}
	return at
}

// FuzzReader feeds the reader anything: it never panics, takes no more memory
// than it says, and gives no packet with more data than it has bytes of.
func FuzzReader(f *testing.F) {
	f.Add(written(f))
	f.Add(classic(binary.BigEndian, classicNano, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for n := 1; ; n++ {
			k, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				return
			}
			if k.Number != n || len(k.Data) > k.Length || len(k.Data) > len(b) || cap(r.buf) > maxBlock {
				t.Fatalf("packet %d: %+v", n, k)
			}
		}
	})
}
