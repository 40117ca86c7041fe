package capture

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// The bytes as the draft has them, field by field.
const golden = `
0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff
  0400 0700 686e7667617465 00 0000 0000 2c000000
01000000 34000000 6500 0000 00080000
  0200 0600 666162726963 0000 0300 0200 5041 0000 0900 0100 09 000000 0000 0000 34000000
06000000 48000000 00000000 5cc7 8618 0600 9dba 05000000 40000000 4500004011 000000
  0100 0200 6869 0000 0200 0400 01000000 0400 0800 0300000000000000 0000 0000 48000000
05000000 28000000 00000000 5cc7 8618 0600 9dba 0800 0800 0100000000000000 0000 0000 28000000
`

func TestWriterGolden(t *testing.T) {
	var b bytes.Buffer
	w := must(NewWriter(&b, "hnvgate", ""))
	id := must(w.AddInterface(Interface{Name: "fabric", Description: "PA", Link: RawIP, SnapLen: 2048}))
	ok := w.WritePacket(&Packet{
		Interface: id, Time: 0x1886c75c_ba9d0006, Data: []byte{0x45, 0, 0, 0x40, 0x11}, Length: 64,
		Direction: Inbound, Lost: 3, Comment: "hi",
	})
	if err := errors.Join(ok, w.WriteStatistics(id, 0x1886c75c_ba9d0006, 1, "")); err != nil {
		t.Fatal(err)
	}
	want := must(hex.DecodeString(strings.Join(strings.Fields(golden), "")))
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got\n%x, want\n%x", b.Bytes(), want)
	}
	if w.Written() != uint64(b.Len()) {
		t.Errorf("written %d of %d", w.Written(), b.Len())
	}
}

// An independent reader finds all that it understands; it knows no comments.
func TestGopacketReadsIt(t *testing.T) {
	var b bytes.Buffer
	w := must(NewWriter(&b, "hnvgate test", "of everything"))
	raw := must(w.AddInterface(Interface{Name: "fabric", Description: "provider addresses", Link: RawIP, SnapLen: 100}))
	var want []Packet
	for i := range 70 {
		p := Packet{Interface: raw, Time: start + int64(i)*1e9 + int64(i), Length: i + 10, Comment: strings.Repeat("ü", i)}
		p.Data = bytes.Repeat([]byte{byte(i)}, i)
		if i == 35 {
			p.Interface = must(w.AddInterface(Interface{Name: "c11", Link: Ethernet}))
		}
		if err := w.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
		want = append(want, p)
	}
	o := pcapgo.DefaultNgReaderOptions
	o.WantMixedLinkType = true
	r, err := pcapgo.NewNgReader(&b, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range want {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, p.Data) || info.Timestamp.UnixNano() != p.Time || info.Length != p.Length || info.InterfaceIndex != int(p.Interface) {
			t.Errorf("packet %d is %+v %x, want %+v", i, info, data, p)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("behind the last packet: %v", err)
	}
	if s := r.SectionInfo(); s.Application != "hnvgate test" || s.Comment != "of everything" {
		t.Errorf("section %+v", s)
	}
	if i := must(r.Interface(0)); i.Name != "fabric" || i.Description != "provider addresses" || i.LinkType != layers.LinkTypeRaw || i.SnapLength != 100 || i.TimestampResolution != 9 {
		t.Errorf("interface %+v", i)
	}
	if i := must(r.Interface(1)); i.Name != "c11" || i.LinkType != layers.LinkTypeEthernet {
		t.Errorf("interface %+v", i)
	}
}

func TestWriterKeepsItsPromises(t *testing.T) {
	var b bytes.Buffer
	w := must(NewWriter(&b, strings.Repeat("é", 40000), "\xff\xfe"))
	all := blocks(t, b.Bytes())
	if got := string(all[0].options[optComment]); got != "\ufffd" {
		t.Errorf("invalid UTF-8 became %q", got)
	}
	if n := len(all[0].options[shbApplication]); n != 65534 {
		t.Errorf("a text of 80000 bytes was cut to %d", n)
	}
	if w.WritePacket(&Packet{}) == nil || w.WriteStatistics(0, 0, 0, "") == nil {
		t.Error("an interface that is not there was written")
	}
	if _, err := NewWriter(errWriter{}, "", ""); err == nil {
		t.Error("no error when writing failed")
	}
}

type errWriter struct{}

func (errWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
