//go:build privileged && linux

package compartments

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// packet is an IP packet to be sent, known again by its mark.
type packet struct {
	mark string
	ip   []byte
}

func ip4(src, dst string, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 1, Protocol: p, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
}

func ip6(src, dst string, p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

func udp(t testing.TB, mark, src string, sport uint16, dst string, dport uint16) packet {
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if strings.Contains(src, ":") {
		i := ip6(src, dst, layers.IPProtocolUDP)
		_ = u.SetNetworkLayerForChecksum(i)
		return packet{mark, build(t, i, u, gopacket.Payload(mark))}
	}
	i := ip4(src, dst, layers.IPProtocolUDP)
	_ = u.SetNetworkLayerForChecksum(i)
	return packet{mark, build(t, i, u, gopacket.Payload(mark))}
}

func tcpSYN(t testing.TB, mark, src string, sport uint16, dst string, dport uint16) packet {
	i := ip4(src, dst, layers.IPProtocolTCP)
	s := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: true, Window: 1000}
	_ = s.SetNetworkLayerForChecksum(i)
	return packet{mark, build(t, i, s, gopacket.Payload(mark))}
}

func echo(t testing.TB, mark, src, dst string, reply bool, id uint16) packet {
	if strings.Contains(src, ":") {
		i := ip6(src, dst, layers.IPProtocolICMPv6)
		typ := uint8(layers.ICMPv6TypeEchoRequest)
		if reply {
			typ = layers.ICMPv6TypeEchoReply
		}
		c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
		_ = c.SetNetworkLayerForChecksum(i)
		return packet{mark, build(t, i, c, &layers.ICMPv6Echo{Identifier: id, SeqNumber: 1}, gopacket.Payload(mark))}
	}
	typ := uint8(layers.ICMPv4TypeEchoRequest)
	if reply {
		typ = layers.ICMPv4TypeEchoReply
	}
	return packet{mark, build(t, ip4(src, dst, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: id, Seq: 1}, gopacket.Payload(mark))}
}

// icmpError is an error about a packet: unreachable, port.
func icmpError(t testing.TB, src, dst string, about packet) packet {
	if strings.Contains(src, ":") {
		i := ip6(src, dst, layers.IPProtocolICMPv6)
		c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, 4)}
		_ = c.SetNetworkLayerForChecksum(i)
		return packet{about.mark, build(t, i, c, gopacket.Payload([]byte{0, 0, 0, 0}), gopacket.Payload(about.ip))}
	}
	return packet{about.mark, build(t, ip4(src, dst, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, gopacket.Payload(about.ip))}
}

// tail is what follows the first fragment of a packet. Where a port would be it
// has "no" or "ye", 28271 or 31077.
func tail(t testing.TB, mark, src, dst string) packet {
	if strings.Contains(src, ":") {
		f := []byte{byte(layers.IPProtocolUDP), 0, 0, 8 << 3, 0, 0, 0, 1}
		return packet{mark, build(t, ip6(src, dst, layers.IPProtocolIPv6Fragment), gopacket.Payload(f), gopacket.Payload(mark+"........"))}
	}
	i := ip4(src, dst, layers.IPProtocolUDP)
	i.FragOffset = 8
	return packet{mark, build(t, i, gopacket.Payload(mark+"........"))}
}

// send sends the packets from a namespace, by its routes, whatever their source.
func (m *machine) send(ns string, packets ...packet) {
	m.t.Helper()
	must(m.t, netns.Do(netns.Path(ns), func() error {
		for _, p := range packets {
			if err := sendRaw(p.ip); err != nil && err != unix.EACCES && err != unix.EPERM {
				return err
			}
		}
		return nil
	}))
}

func sendRaw(b []byte) error {
	family := unix.AF_INET
	if b[0]>>4 == 6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return sendOn(fd, b)
}

func sendOn(fd int, b []byte) error {
	if b[0]>>4 == 6 {
		var to unix.SockaddrInet6
		copy(to.Addr[:], b[24:40])
		return unix.Sendto(fd, b, 0, &to)
	}
	var to unix.SockaddrInet4
	copy(to.Addr[:], b[16:20])
	return unix.Sendto(fd, b, 0, &to)
}

// ear hears every frame on a link.
type ear struct {
	fd   int
	done chan struct{}

	mu     sync.Mutex
	frames [][]byte
}

func (m *machine) listen(ns, link string) *ear {
	m.t.Helper()
	e := &ear{done: make(chan struct{})}
	must(m.t, netns.Do(netns.Path(ns), func() (err error) {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(e.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		tv := unix.Timeval{Usec: 20000}
		if err := unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		return unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index}) // ETH_P_ALL
	}))
	stop := make(chan struct{})
	go func() {
		defer close(e.done)
		b := make([]byte, 70000)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(e.fd, b, 0)
			if err == nil {
				e.mu.Lock()
				e.frames = append(e.frames, slices.Clone(b[:n]))
				e.mu.Unlock()
			}
		}
	}()
	m.t.Cleanup(func() {
		close(stop)
		<-e.done
		_ = unix.Close(e.fd)
	})
	return e
}

// marks gives the marks heard, of those given, after waiting until nothing new
// comes.
func (e *ear) marks(all []string) []string {
	before := -1
	for {
		e.mu.Lock()
		n := len(e.frames)
		e.mu.Unlock()
		if n == before {
			break
		}
		before = n
		time.Sleep(100 * time.Millisecond)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	heard := []string{}
	for _, m := range all {
		if slices.ContainsFunc(e.frames, func(f []byte) bool { return strings.Contains(string(f), m) }) {
			heard = append(heard, m)
		}
	}
	return heard
}

// expect compares what an ear heard with what it should have, of all that was
// sent.
func (e *ear) expect(t *testing.T, where string, sent []packet, want ...string) {
	t.Helper()
	var all []string
	for _, p := range sent {
		all = append(all, p.mark)
	}
	heard := e.marks(all)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); heard = e.marks(all) {
		if !slices.ContainsFunc(want, func(m string) bool { return slices.Contains(all, m) && !slices.Contains(heard, m) }) {
			break
		}
	}
	for _, m := range all {
		switch got, should := slices.Contains(heard, m), slices.Contains(want, m); {
		case got && !should:
			t.Errorf("%s: %s got through", where, m)
		case !got && should:
			t.Errorf("%s: %s did not get through", where, m)
		}
	}
}

// neighbour finds which MAC a namespace has for an address.
func (m *machine) neighbour(ns, addr string) string {
	m.t.Helper()
	words := strings.Fields(m.ip(ns, "neigh show "+addr))
	if i := slices.Index(words, "lladdr"); i >= 0 {
		return words[i+1]
	}
	return ""
}
