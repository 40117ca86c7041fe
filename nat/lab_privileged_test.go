//go:build privileged && linux

package nat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// Addresses of the lab. The inside is one namespace that holds the VMs'
// addresses and stands for the distributed router too.
const (
	vm1, vm2 = "10.1.1.11", "10.1.1.12"
	router   = "10.254.254.1"
	gateway  = "10.254.254.2"
	ext1     = "203.0.113.10"
	ext2     = "203.0.113.11"
	remote   = "198.51.100.7"

	insideMTU = 1458
)

// lab is one compartment between an inside and an outside.
type lab struct {
	t                     *testing.T
	inside, comp, outside string
	engine                *Engine
	spec                  Spec
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newLab builds the namespaces and applies a Spec with the pool.
func newLab(t *testing.T, pool ...string) *lab {
	t.Helper()
	l := &lab{t: t, inside: nstest.New(t, "in"), comp: nstest.New(t, "gw"), outside: nstest.New(t, "out"), engine: New(nil)}
	script := fmt.Sprintf(`
set -e
for n in %[1]s %[2]s %[3]s; do ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; done
ip -n %[2]s link add wnv5000 mtu 1458 type veth peer name w mtu 1458 netns %[1]s
ip -n %[2]s link add ext type veth peer name x netns %[3]s
for n in %[1]s %[2]s %[3]s; do ip -n $n link set lo up; done
ip -n %[2]s addr add 10.254.254.2/29 dev wnv5000
ip -n %[2]s addr add fd00:fe::2/64 dev wnv5000 nodad
ip -n %[2]s addr add 203.0.113.10/24 dev ext
ip -n %[2]s addr add 203.0.113.11/24 dev ext
ip -n %[2]s addr add 2001:db8::10/64 dev ext nodad
ip -n %[2]s link set wnv5000 up
ip -n %[2]s link set ext up
ip netns exec %[2]s sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
  net.netfilter.nf_conntrack_tcp_be_liberal=1 net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=1 \
  net.netfilter.nf_conntrack_acct=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.wnv5000.send_redirects=0
ip -n %[1]s addr add 10.254.254.1/29 dev w
ip -n %[1]s addr add fd00:fe::1/64 dev w nodad
for a in 10.1.1.11 10.1.1.12 10.1.1.13 10.1.1.14 10.1.1.15 10.1.1.16 10.1.1.17 10.1.1.18 10.9.9.9; do ip -n %[1]s addr add $a/32 dev lo; done
for a in fd00:1::11 fd00:1::12; do ip -n %[1]s addr add $a/128 dev lo nodad; done
ip -n %[1]s link set w up
ip -n %[1]s route add default via 10.254.254.2
ip -n %[1]s route add default via fd00:fe::2
ip netns exec %[1]s sysctl -qw net.ipv4.ping_group_range="0 2147483647" net.ipv4.conf.all.accept_redirects=0 net.ipv4.tcp_syn_retries=1
ip -n %[3]s addr add 203.0.113.1/24 dev x
ip -n %[3]s addr add 2001:db8::1/64 dev x nodad
ip -n %[3]s addr add 198.51.100.7/32 dev lo
ip -n %[3]s addr add 2001:db8:7::7/128 dev lo nodad
ip -n %[3]s link set x up
ip netns exec %[3]s sysctl -qw net.ipv4.tcp_syn_retries=1
ip -n %[2]s route add default via 203.0.113.1
ip -n %[2]s route add default via 2001:db8::1
ip -n %[2]s route add 10.1.1.0/24 via 10.254.254.1
ip -n %[2]s route add fd00:1::/64 via fd00:fe::1
`, l.inside, l.comp, l.outside)
	run(t, "sh", "-c", script)
	name, _ := hnv.ParseName("contoso")
	l.spec = Spec{
		Name: name, Namespace: netns.Path(l.comp), Inside: "wnv5000", Outside: "ext",
		InsidePrefixes: prefixes("10.1.1.0/24", "10.254.254.0/29", "fd00:1::/64", "fd00:fe::/64"),
		InsideAddrs:    []netip.Addr{netip.MustParseAddr(gateway), netip.MustParseAddr("fd00:fe::2")},
		InsideMTU:      insideMTU, ConnectionLimit: 1000,
	}
	l.setPool(pool...)
	l.apply()
	return l
}

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func (l *lab) setPool(pool ...string) {
	l.t.Helper()
	l.spec.Pool = nil
	for _, s := range pool {
		r, err := hnv.ParseExternalRange(s)
		if err != nil {
			l.t.Fatal(err)
		}
		l.spec.Pool = append(l.spec.Pool, r)
	}
}

func (l *lab) addMapping(proto hnv.Proto, external, internal string) {
	l.spec.Mappings = append(l.spec.Mappings, hnv.NATMapping{Tenant: l.spec.Name, Proto: proto,
		External: netip.MustParseAddrPort(external), Internal: netip.MustParseAddrPort(internal)})
}

func (l *lab) apply() []string {
	l.t.Helper()
	r, err := l.engine.Apply(context.Background(), l.spec)
	if err != nil {
		l.t.Fatal(err)
	}
	return r.Repaired
}

func (l *lab) nft(args ...string) string {
	l.t.Helper()
	return run(l.t, append([]string{"ip", "netns", "exec", l.comp, "nft"}, args...)...)
}

// drops gives the counters that are not zero.
func (l *lab) drops() map[string]uint64 {
	l.t.Helper()
	s, err := l.engine.Snapshot(context.Background(), l.spec.Namespace)
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]uint64{}
	for name, c := range s.Drops {
		if c.Packets > 0 && name != DropMulticast {
			out[name] = c.Packets
		}
	}
	return out
}

func (l *lab) wantDrop(name string, packets uint64) {
	l.t.Helper()
	if got := l.drops()[name]; got != packets {
		l.t.Errorf("counter %s is %d, want %d; all: %v", name, got, packets, l.drops())
	}
}

func (l *lab) sessions() []Session {
	l.t.Helper()
	list, _, err := l.engine.Sessions(context.Background(), l.spec.Namespace, 10000)
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// do runs fn in a namespace.
func do(t *testing.T, ns string, fn func() error) {
	t.Helper()
	if err := netns.Do(netns.Path(ns), fn); err != nil {
		t.Fatal(err)
	}
}

// server answers each line or datagram with the address it came from.
func serve(t *testing.T, ns, network, addr string) {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		var conn net.PacketConn
		do(t, ns, func() (err error) { conn, err = net.ListenPacket(network, addr); return err })
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			b := make([]byte, 2048)
			for {
				_, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(from.String()), from)
			}
		}()
		return
	}
	var ln net.Listener
	do(t, ns, func() (err error) { ln, err = net.Listen(network, addr); return err })
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 2048)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := io.WriteString(c, c.RemoteAddr().String()); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// How long a test waits for what must come, and for what must not.
const (
	patience = time.Minute
	silence  = 1500 * time.Millisecond
)

// dial connects from an address inside a namespace; there may be no way.
func dial(t *testing.T, ns, network, from, to string) (net.Conn, error) {
	t.Helper()
	return dialFor(t, silence, ns, network, from, to)
}

func dialFor(t *testing.T, long time.Duration, ns, network, from, to string) (c net.Conn, err error) {
	t.Helper()
	_ = netns.Do(netns.Path(ns), func() error {
		d := net.Dialer{Timeout: long, FallbackDelay: -1}
		if from != "" {
			if _, _, err := net.SplitHostPort(from); err != nil {
				from = net.JoinHostPort(from, "0")
			}
			ap := netip.MustParseAddrPort(from)
			if strings.HasPrefix(network, "udp") {
				d.LocalAddr = net.UDPAddrFromAddrPort(ap)
			} else {
				d.LocalAddr = net.TCPAddrFromAddrPort(ap)
			}
		}
		c, err = d.Dial(network, to)
		return nil
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func mustDial(t *testing.T, ns, network, from, to string) net.Conn {
	t.Helper()
	c, err := dialFor(t, patience, ns, network, from, to)
	if err != nil {
		t.Fatalf("%s from %s to %s: %v", network, from, to, err)
	}
	return c
}

// ask sends a word over the connection and gives the answer, if one comes: the
// address that the server sees.
func ask(c net.Conn) (string, error) { return askFor(c, silence) }

func askFor(c net.Conn, long time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(long)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "who am I?"); err != nil {
		return "", err
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	return string(b[:n]), err
}

func mustAsk(t *testing.T, c net.Conn) netip.AddrPort {
	t.Helper()
	s, err := askFor(c, patience)
	if err != nil {
		t.Fatalf("%s -> %s: %v", c.LocalAddr(), c.RemoteAddr(), err)
	}
	return netip.MustParseAddrPort(s)
}

// capture holds what was seen on a link.
type capture struct {
	raw syscall.RawConn

	mu      sync.Mutex
	b       []byte
	packets []gopacket.Packet
}

// take takes all that the socket has; EAGAIN says that nothing is left.
func (c *capture) take(fd uintptr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		n, from, err := unix.Recvfrom(int(fd), c.b, 0)
		if err != nil {
			return err
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		c.packets = append(c.packets, gopacket.NewPacket(append([]byte(nil), c.b[:n]...), layers.LayerTypeEthernet, gopacket.Default))
	}
}

// watch records all frames that arrive at the link until the test ends.
func watch(t *testing.T, ns, link string) *capture {
	t.Helper()
	fd := -1
	do(t, ns, func() error {
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		proto := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: ifi.Index})
	})
	f := os.NewFile(uintptr(fd), "packets")
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{raw: raw, b: make([]byte, 70000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = raw.Read(func(fd uintptr) bool { return !errors.Is(c.take(fd), unix.EAGAIN) })
	}()
	t.Cleanup(func() { _ = f.Close(); <-done })
	return c
}

// all waits until what was sent has arrived and gives what was seen.
func (c *capture) all() []gopacket.Packet {
	time.Sleep(50 * time.Millisecond)
	_ = c.raw.Control(func(fd uintptr) { _ = c.take(fd) })
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]gopacket.Packet(nil), c.packets...)
}

// wantSources fails for each IP packet seen with a source that is not allowed.
func (c *capture) wantSources(t *testing.T, allowed ...string) {
	t.Helper()
	ok := map[string]bool{}
	for _, a := range allowed {
		ok[a] = true
	}
	seen := 0
	for _, p := range c.all() {
		if ip, is := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); is {
			seen++
			if !ok[ip.SrcIP.String()] {
				t.Errorf("left with source %s: %v", ip.SrcIP, p)
			}
		}
		if ip, is := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); is && !ip.SrcIP.IsLinkLocalUnicast() && !ip.SrcIP.IsUnspecified() {
			if !ok[ip.SrcIP.String()] {
				t.Errorf("left with source %s: %v", ip.SrcIP, p)
			}
		}
	}
	if seen == 0 {
		t.Error("nothing was seen at all: the capture proves nothing")
	}
}

// inject sends raw IPv4 packets from a namespace, whatever their source.
func inject(t *testing.T, ns string, packet ...gopacket.SerializableLayer) {
	t.Helper()
	for i, l := range packet {
		ip, ok := l.(*layers.IPv4)
		if !ok {
			continue
		}
		ip.Version, ip.IHL = 4, 5
		if ip.TTL == 0 {
			ip.TTL = 64
		}
		if i+1 < len(packet) {
			switch next := packet[i+1].(type) {
			case *layers.TCP:
				_ = next.SetNetworkLayerForChecksum(ip)
			case *layers.UDP:
				_ = next.SetNetworkLayerForChecksum(ip)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, packet...); err != nil {
		t.Fatal(err)
	}
	dst := packet[0].(*layers.IPv4).DstIP.To4()
	do(t, ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, b.Bytes(), 0, &unix.SockaddrInet4{Addr: [4]byte(dst)})
		if errors.Is(err, unix.EPERM) { // dropped by the namespace's own rules
			return nil
		}
		return err
	})
}

func ip4(src, dst string, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4(), Protocol: proto}
}

// eventually waits for a condition that the kernel fulfils a moment later.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("did not happen: %s", what)
			return
		}
	}
}
