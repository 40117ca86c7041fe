//go:build linux

package gateway

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// TestSmallFrames takes the generator's frames apart with another codec.
func TestSmallFrames(t *testing.T) {
	s := newSite()
	for _, c := range Cases() {
		f := c.small(s, s.ca, s.service)
		p := gopacket.NewPacket(f.bytes, layers.LayerTypeEthernet, gopacket.Default)
		if e := p.ErrorLayer(); e != nil {
			t.Errorf("%s: %v", c.Name, e.Error())
			continue
		}
		var types []gopacket.LayerType
		for _, l := range p.Layers() {
			types = append(types, l.LayerType())
			if ip, ok := l.(*layers.IPv4); ok && sum(ip.Contents) != 0xffff {
				t.Errorf("%s: the checksum of %+v is wrong", c.Name, ip)
			}
		}
		want, overhead := "[Ethernet IPv4 UDP Payload]", 0
		switch c.Encap {
		case hnv.NVGRE:
			want, overhead = "[Ethernet IPv4 GRE Ethernet IPv4 UDP Payload]", 20+8+14
		case hnv.VXLAN:
			want, overhead = "[Ethernet IPv4 UDP VXLAN Ethernet IPv4 UDP Payload]", 20+8+8+14
		}
		if got := "[" + join(types) + "]"; got != want || len(f.bytes) != 60+overhead {
			t.Errorf("%s: %d bytes of %s, want %d of %s", c.Name, len(f.bytes), got, 60+overhead, want)
		}
		if u := f.bytes[f.inner+20 : f.inner+22]; f.bytes[f.inner] != 0x45 || !bytes.Equal(u, []byte{0x04, 0x00}) {
			t.Errorf("%s: the VM's packet does not begin at %d", c.Name, f.inner)
		}
		if gre, ok := p.Layer(layers.LayerTypeGRE).(*layers.GRE); ok {
			f.bytes[f.entropy] = 0xab
			if key := s.tenant(0).gatewayVSID.Uint32() << 8; gre.Key != key {
				t.Errorf("%s: key %#x, want %#x", c.Name, gre.Key, key)
			}
			if again := gopacket.NewPacket(f.bytes, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeGRE).(*layers.GRE); again.Key != gre.Key|0xab {
				t.Errorf("%s: byte %d is not the FlowID: key %#x", c.Name, f.entropy, again.Key)
			}
		}
	}
}

func join(types []gopacket.LayerType) string {
	var b bytes.Buffer
	for i, l := range types {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(l.String())
	}
	return b.String()
}

// TestSumWithout does what the generator does with the sum: add the addresses.
func TestSumWithout(t *testing.T) {
	s := newSite()
	f := Cases()[0].small(s, s.ca, s.service)
	h := f.bytes[f.inner : f.inner+20]
	all := f.sumWithout()
	for i := 12; i < 20; i += 2 {
		all += uint32(binary.LittleEndian.Uint16(h[i:]))
	}
	for all>>16 != 0 {
		all = all&0xffff + all>>16
	}
	if got, want := ^uint16(all), binary.LittleEndian.Uint16(h[10:]); got != want {
		t.Errorf("got checksum %#x, the header has %#x", got, want)
	}
}

func TestPing(t *testing.T) {
	b := echoRequest(0x1234, 70_000)
	if sum(b) != 0xffff {
		t.Errorf("checksum of % x", b)
	}
	answer := append([]byte{0x45, 19: 0}, b...)
	if _, ok := echoReply(answer, 0x1234); ok {
		t.Error("a request is taken for a reply")
	}
	answer[20] = 0
	if n, ok := echoReply(answer, 0x1234); !ok || n != 70_000 {
		t.Errorf("got %d, %v", n, ok)
	}
	if _, ok := echoReply(answer, 0x1235); ok {
		t.Error("a reply to another process is taken for one's own")
	}
	if _, ok := echoReply(answer[:31], 0x1234); ok {
		t.Error("a reply cut short is taken for a whole one")
	}
}
