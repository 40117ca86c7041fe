package packet_test

import (
	"strconv"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func BenchmarkDecodeEthernet(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame []byte
	}{{"tcp4", frameTCP4(b, 1400)}, {"tcp6", frameTCP6(b, 1400)}, {"udp6-extensions", frameExt6(b)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var h packet.Headers
			for b.Loop() {
				h.DecodeEthernet(c.frame)
			}
		})
	}
}

func BenchmarkFlowHash(b *testing.B) {
	h := decode(b, frameTCP4(b, 100))
	for b.Loop() {
		h.FlowHash()
	}
}

func BenchmarkChecksum(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"20", 20}, {"1460", 1460}, {"65535", 65535}} {
		data := payload(c.n)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.n))
			for b.Loop() {
				packet.Checksum(data, 0)
			}
		})
	}
}

func BenchmarkDecrementTTL(b *testing.B) {
	frame := frameTCP4(b, 100)
	for b.Loop() {
		if !packet.DecrementTTL(frame[14:]) {
			frame[22] = 255
		}
	}
}

func BenchmarkSegment(b *testing.B) {
	big := super(b, frameTCP4(b, 64000), packet.GSOTCPv4, 1400)
	dst := packet.NewFrame(2000)
	b.SetBytes(64000)
	b.ReportAllocs()
	for b.Loop() {
		var s packet.Segments
		s.Start(big)
		for s.Next(dst) {
		}
	}
}

func BenchmarkICMPError(b *testing.B) {
	orig := frameTCP4(b, 1400)
	h := decode(b, orig)
	f := packet.NewFrame(2000)
	b.ReportAllocs()
	for b.Loop() {
		packet.BuildICMPError(f, packet.TooBig, orig, h, router4, router, 1400)
	}
}

func BenchmarkDHCP(b *testing.B) {
	four, six := inUDP4(b, ack(b), 67, 68), inUDP6(b, dhcp6(7, duids, iana(addr6("fd00::1", 1, 2))))
	h4, h6 := decode(b, four), decode(b, six)
	b.Run("v4", func(b *testing.B) {
		b.ReportAllocs()
		var d packet.DHCP
		for b.Loop() {
			d.Parse(four, h4)
		}
	})
	b.Run("v6", func(b *testing.B) {
		b.ReportAllocs()
		var d packet.DHCPv6
		for b.Loop() {
			d.Parse(six, h6)
		}
	})
}

func BenchmarkClone(b *testing.B) {
	for _, n := range []int{100, 1400} {
		f, dst := newFrame(b, frameTCP4(b, n)), packet.NewFrame(2000)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Clone(dst)
			}
		})
	}
}
