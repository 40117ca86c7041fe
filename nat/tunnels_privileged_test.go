//go:build privileged && linux

package nat

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/ct"
)

// handshake is as long as WireGuard's initiation, and has its first byte.
func handshake() []byte { return append([]byte{1, 0, 0, 0}, make([]byte, 144)...) }

// listen opens a UDP socket in the compartment, on all addresses, as WireGuard has
// one; what it hears it answers, as the handshake's is, from the address that was
// called.
func (l *lab) listen(port int) *net.UDPConn {
	l.t.Helper()
	var c *net.UDPConn
	do(l.t, l.comp, func() (err error) { c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port}); return err })
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

func echoTo(c *net.UDPConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDP(b)
		if err != nil {
			return
		}
		_, _ = c.WriteToUDP(b[:n], from)
	}
}

func (l *lab) tracked(port uint16) (n int) {
	l.t.Helper()
	conns, err := ct.Open(l.spec.Namespace)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conns.Close()
	if err := conns.Each(func(e ct.Entry) error {
		if e.Orig.Src.Port() == port || e.Orig.Dst.Port() == port {
			n++
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// call sends the packet and tells whether an answer came; one that must not come is
// not waited for long.
func call(c net.Conn, packet []byte, comes bool) bool {
	long := silence
	if comes {
		long = patience
	}
	_ = c.SetDeadline(time.Now().Add(long))
	if _, err := c.Write(packet); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 2048))
	return err == nil
}

// A tunnel's packets come to its address and port and to nowhere else, leave from
// there whatever address the kernel would take, and are not tracked.
func TestTunnelPort(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newWayLab(t, ext1, ext2+":30000-30099")
	l.spec.Tunnels[0].At, l.spec.Tunnels[0].ListenPort = netip.MustParseAddr(ext2), 30099
	l.spec.Tunnels[1].At, l.spec.Tunnels[1].ListenPort = netip.MustParseAddr(dcOwn), 51821
	l.apply()
	// Beside the table that marks what tunnels send, as package s2s has it.
	run(t, "sh", "-c", "ip netns exec "+l.comp+" nft 'table inet hnv-s2s { chain output { type filter hook output priority -150; udp sport 30099 ip dscp set 46; }; }'")
	out := watch(t, l.outside, "x")
	c, dc := l.listen(30099), l.listen(51821)
	go echoTo(c)
	go echoTo(dc)
	for what, c := range map[string]struct {
		ns, to string
		comes  bool
	}{
		"to the external address":        {l.outside, ext2 + ":30099", true},
		"to another external address":    {l.outside, ext1 + ":30099", false},
		"to the port of the attachment":  {l.outside, ext2 + ":51821", false},
		"to the attachment":              {l.dc, dcOwn + ":51821", true},
		"to the external port, inwards":  {l.dc, ext2 + ":30099", false},
		"from a site to the external":    {l.hq, ext2 + ":30099", false},
		"from a site to the attachment":  {l.hq, dcOwn + ":51821", false},
		"from a VM":                      {l.inside, ext2 + ":30099", false},
		"to another port of the address": {l.outside, ext2 + ":30098", false},
	} {
		for _, packet := range [][]byte{handshake(), []byte("\x04data")} {
			if got := call(mustDial(t, c.ns, "udp", "", c.to), packet, c.comes); got != c.comes {
				t.Errorf("%s: an answer came: %v", what, got)
			}
		}
	}
	if n := l.tracked(30099); n != 0 {
		t.Errorf("%d connections of the tunnel are tracked", n)
	}
	// The first word: the kernel would speak from the first address of ext.
	serve(t, l.outside, "udp", remote+":51820")
	seen := make(chan string, 1)
	_ = c.Close()
	first := l.listen(30099)
	if _, err := first.WriteToUDP([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(remote+":51820"))); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 100)
		_ = first.SetReadDeadline(time.Now().Add(patience))
		n, _, _ := first.ReadFromUDP(b)
		seen <- string(b[:n])
	}()
	if got := <-seen; got != ext2+":30099" {
		t.Errorf("the tunnel's first word came from %q", got)
	}
	if n := l.tracked(30099); n != 0 {
		t.Errorf("%d connections of the tunnel are tracked", n)
	}
	out.wantSources(t, ext1, ext2)
	for _, p := range out.all() {
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		ip, ok4 := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if ok && ok4 && (udp.SrcPort != 30099 || ip.TOS != 46<<2) {
			t.Errorf("left from port %d, with TOS %#x", udp.SrcPort, ip.TOS)
		}
	}
}

// A flood of handshakes fills nothing that others need, and does not keep out a peer
// whose address is known, nor what is no handshake.
func TestTunnelFlood(t *testing.T) {
	l := newWayLab(t, ext1+":20000-29999")
	l.spec.Tunnels = []Tunnel{{Link: "wg-hq", ListenPort: 29999, At: netip.MustParseAddr(ext1), Endpoints: addrs(remote)}}
	l.apply()
	go echoTo(l.listen(29999))
	serve(t, l.outside, "tcp", remote+":80")
	nat := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, nat)
	const sent = 20000
	flood := mustDial(t, l.outside, "udp", "203.0.113.1", ext1+":29999")
	for i := range sent {
		if _, err := flood.Write(handshake()); err != nil {
			t.Fatal(err)
		}
		if i == sent/2 { // in the midst of it
			mustAsk(t, nat)
			if !call(mustDial(t, l.outside, "udp", remote, ext1+":29999"), handshake(), true) {
				t.Error("a known peer's handshake is kept out")
			}
			if !call(mustDial(t, l.outside, "udp", "198.51.100.7", ext1+":29999"), []byte("\x04data"), true) {
				t.Error("data are kept out")
			}
		}
	}
	eventually(t, "the flood is counted", func() bool { return l.drops()[DropTunnelRate] > sent/4 })
	if n := l.tracked(29999); n != 0 {
		t.Errorf("%d connections of the flood are tracked", n)
	}
	mustAsk(t, nat)
	mustAsk(t, mustDial(t, l.inside, "tcp", vm1, remote+":80"))
}

// No connection is translated to a tunnel's port, and one that was is ended.
func TestTunnelPortIsItsOwn(t *testing.T) {
	l := newWayLab(t, ext1+":20000-20003")
	l.spec.Tunnels = nil
	l.apply()
	serve(t, l.outside, "udp", remote+":53")
	serve(t, l.outside, "tcp", remote+":80")
	used := func(network, to string) map[uint16]int {
		ports := map[uint16]int{}
		for i := range 4 {
			c, err := dialFor(t, 4*silence, l.inside, network, fmt.Sprintf("%s:%d", vm1, 20000+i), to)
			if err != nil {
				continue
			}
			if s, err := askFor(c, 4*silence); err == nil {
				ports[netip.MustParseAddrPort(s).Port()]++
			}
			_ = c.Close()
		}
		return ports
	}
	if got := used("udp", remote+":53"); len(got) != 4 {
		t.Errorf("all ports of the range are used: %v", got)
	}
	l.spec.Tunnels = []Tunnel{{Link: "wg-hq", ListenPort: 20001, At: netip.MustParseAddr(ext1)}}
	if changes := l.apply(); len(changes) < 2 {
		t.Errorf("what was translated to the port goes on: %q", changes)
	}
	serve(t, l.outside, "udp", remote+":54")
	got := used("udp", remote+":54")
	if got[20001] != 0 || got[20000] == 0 || got[20002]+got[20003] == 0 {
		t.Errorf("UDP is translated to %v", got)
	}
	if got := used("tcp", remote+":80"); got[20001] == 0 {
		t.Errorf("TCP is not: %v", got)
	}
}

// What routers say about a tunnel's packets is heard, so that it learns the path's
// MTU; about others' it is not.
func TestTunnelHearsErrors(t *testing.T) {
	l := newWayLab(t, ext1)
	c := l.listen(listenPort)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(remote + ":51820"))
	// A narrow link behind the next hop.
	run(t, "sh", "-c", fmt.Sprintf(`set -e
ip netns exec %[1]s sysctl -qw net.ipv4.ip_forward=1
ip -n %[1]s addr del %[2]s/32 dev lo
ip -n %[1]s link add n0 mtu 1300 type veth peer name n1
ip -n %[1]s link set n0 up
ip -n %[1]s link set n1 up
ip -n %[1]s route add %[2]s/32 dev n0`, l.outside, remote))
	knows := func() bool {
		return strings.Contains(run(t, "ip", "-n", l.comp, "route", "get", remote), "mtu 1300")
	}
	// An error about a packet of another port is invented.
	invent := func(port layers.UDPPort) {
		quoted := gopacket.NewSerializeBuffer()
		ip, udp := ip4(ext1, remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: port, DstPort: 9}
		ip.Version, ip.IHL, ip.TTL = 4, 5, 64
		if err := gopacket.SerializeLayers(quoted, gopacket.SerializeOptions{FixLengths: true}, ip, udp); err != nil {
			t.Fatal(err)
		}
		inject(t, l.outside, ip4("203.0.113.1", ext1, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1300}, gopacket.Payload(quoted.Bytes()))
	}
	invent(9999)
	eventually(t, "it is dropped", func() bool { return l.drops()[DropInvalid] == 1 })
	if knows() {
		t.Error("it was believed")
	}
	if _, err := c.WriteToUDP(append([]byte{4}, make([]byte, 1400)...), to); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path's MTU is known", knows)
	l.wantDrop(DropInvalid, 1)
}

// The compartment speaks with the configured peers over the configured links only,
// whoever begins.
func TestServices(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newWayLab(t, ext1)
	l.spec.Services = []Service{l.bgp(), {Proto: hnv.UDP, Port: 3784, Peers: prefixes("169.254.10.0/30"), At: addrs(hqOwn), Links: []string{"wg-hq"}}}
	l.spec.ConnectionLimit = 1 // the VMs' is not theirs
	l.apply()
	serve(t, l.comp, "tcp", ":179")
	serve(t, l.comp, "udp", hqOwn+":3784")
	serve(t, l.comp, "tcp", ":22")
	serve(t, l.hq, "tcp", hqPeer+":179")
	serve(t, l.hq, "tcp", hqPeer+":22")
	serve(t, l.hq, "tcp", hqHost+":179")
	serve(t, l.branch, "tcp", "169.254.11.2:179")
	for what, c := range map[string]struct {
		ns, network, from, to string
		comes                 bool
	}{
		"BGP from the peer":              {l.hq, "tcp", hqPeer, hqOwn + ":179", true},
		"BGP to the peer":                {l.comp, "tcp", hqOwn, hqPeer + ":179", true},
		"BFD from the peer":              {l.hq, "udp", hqPeer, hqOwn + ":3784", true},
		"BGP from another of the site":   {l.hq, "tcp", hqHost, hqOwn + ":179", false},
		"BGP to another of the site":     {l.comp, "tcp", hqOwn, hqHost + ":179", false},
		"BGP to another address of ours": {l.hq, "tcp", hqPeer, dcOwn + ":179", false},
		"BGP from another site":          {l.branch, "tcp", "169.254.11.2", hqOwn + ":179", false},
		"BGP to another site":            {l.comp, "tcp", "169.254.11.1", "169.254.11.2:179", false},
		"BGP from outside":               {l.outside, "tcp", remote, ext1 + ":179", false},
		"BGP from a VM":                  {l.inside, "tcp", vm1, hqOwn + ":179", false},
		"SSH from the peer":              {l.hq, "tcp", hqPeer, hqOwn + ":22", false},
		"SSH to the peer":                {l.comp, "tcp", hqOwn, hqPeer + ":22", false},
	} {
		long := silence
		if c.comes {
			long = patience
		}
		conn, err := dialFor(t, long, c.ns, c.network, c.from, c.to)
		if err == nil {
			_, err = askFor(conn, long)
		}
		if (err == nil) != c.comes {
			t.Errorf("%s: %v", what, err)
		}
	}
	if d := l.drops(); d[DropInput] == 0 || d[DropOutput] == 0 {
		t.Errorf("drops are %v", d)
	}
}

// What says that it is a neighbour and has crossed a router is not heard, in the midst
// of a session too.
func TestNearServices(t *testing.T) {
	l := newWayLab(t, ext1)
	l.spec.Services = []Service{{Proto: hnv.UDP, Port: 3784, Peers: prefixes("169.254.10.0/30"), At: addrs(hqOwn), Links: []string{"wg-hq"}, Near: true}}
	l.apply()
	serve(t, l.comp, "udp", hqOwn+":3784")
	hops := func(n string) { run(t, "ip", "netns", "exec", l.hq, "sysctl", "-qw", "net.ipv4.ip_default_ttl="+n) }
	hops("255")
	conn, err := dial(t, l.hq, "udp", hqPeer, hqOwn+":3784")
	if err == nil {
		_, err = ask(conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.wantDrop(DropHops, 0)
	hops("254")
	if _, err := ask(conn); err == nil {
		t.Error("what has crossed a router was heard")
	}
	if l.drops()[DropHops] == 0 {
		t.Error("it was not counted")
	}
	hops("255")
	if _, err := ask(conn); err != nil {
		t.Error(err)
	}
}

// Changes cut nothing that is still allowed, and end what is not.
func TestWaysChange(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newWayLab(t, ext1)
	l.spec.Services = []Service{l.bgp()}
	l.apply()
	serve(t, l.comp, "tcp", hqOwn+":179")
	serve(t, l.outside, "tcp", remote+":80")
	for ns, addr := range map[string]string{l.dc: dcHost, l.hq: hqHost, l.branch: branchHost} {
		serve(t, ns, "tcp", addr+":80")
	}
	conns := map[string]net.Conn{
		"NAT":     mustDial(t, l.inside, "tcp", vm1, remote+":80"),
		"dc":      mustDial(t, l.inside, "tcp", vm1, dcHost+":80"),
		"hq":      mustDial(t, l.inside, "tcp", vm1, hqHost+":80"),
		"branch":  mustDial(t, l.inside, "tcp", vm1, branchHost+":80"),
		"transit": mustDial(t, l.hq, "tcp", hqHost, branchHost+":80"),
		"BGP":     mustDial(t, l.hq, "tcp", hqPeer, hqOwn+":179"),
	}
	check := func(step string, gone ...string) {
		t.Helper()
		for name, c := range conns {
			over, long := slices.Contains(gone, name), patience
			if over {
				long = silence
			}
			if _, err := askFor(c, long); (err != nil) != over {
				t.Errorf("%s: connection %s: %v", step, name, err)
			}
		}
		for _, g := range gone {
			delete(conns, g)
		}
	}
	check("at first")
	full := l.spec
	l.spec.Tunnels = append([]Tunnel{{Link: "wg-new", ListenPort: 51900, At: netip.MustParseAddr(ext1)}}, full.Tunnels...)
	l.spec.Services = append([]Service{{Proto: hnv.UDP, Port: 3784, Peers: prefixes(hqPeer + "/32"), At: addrs(hqOwn), Links: []string{"wg-new"}}}, full.Services...)
	l.spec.Forward = append(l.spec.Forward, Link{Name: "fw-new", Addresses: addrs("192.168.99.1"), MTU: 1400})
	l.apply()
	check("with more of all")
	l.spec = full
	l.apply()
	check("without it again")
	l.spec.Services = nil
	l.apply()
	check("without the service", "BGP")
	l.spec.Tunnels = full.Tunnels[:1]
	l.apply()
	check("without one tunnel", "branch", "transit")
	l.spec.Tunnels = nil
	l.apply()
	check("without tunnels", "hq")
	l.spec.Forward = nil
	if changes := l.apply(); len(changes) < 2 {
		t.Errorf("no connections are ended: %q", changes)
	}
	check("without attachments", "dc")
	if err := l.engine.Remove(t.Context(), l.spec.Namespace); err != nil {
		t.Fatal(err)
	}
	check("closed", "NAT")
}
