//go:build privileged && linux

package s2s

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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// place is a namespace of the lab.
type place struct {
	t    *testing.T
	name string
	nl   *nl.Handle
}

func newPlace(t *testing.T, word string) *place {
	t.Helper()
	p := &place{t: t, name: nstest.New(t, word)}
	h, err := nl.Open(p.path())
	must(t, err)
	t.Cleanup(h.Close)
	p.nl = h
	lo, err := h.Link("lo")
	must(t, err)
	must(t, h.SetLink(lo.Index, nl.LinkChange{Up: true}))
	must(t, h.SetSysctl("ipv4/ip_forward", "1"))
	must(t, h.SetSysctl("ipv6/conf/all/forwarding", "1"))
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) path() string { return netns.Path(p.name) }

// ip runs ip(8) inside.
func (p *place) ip(line string) {
	p.t.Helper()
	args := append([]string{"-n", p.name}, strings.Fields(line)...)
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		p.t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// connect joins two places by a link of which each end has an address.
func connect(t *testing.T, a *place, linkA, addrA string, b *place, linkB, addrB string) {
	t.Helper()
	must(t, a.nl.AddVeth(nl.LinkEnd{Name: linkA, Up: true}, nl.LinkEnd{Name: linkB, Namespace: b.path()}))
	b.ip("link set " + linkB + " up")
	for _, addr := range strings.Fields(addrA) {
		a.ip("addr add " + addr + " dev " + linkA + " nodad")
	}
	for _, addr := range strings.Fields(addrB) {
		b.ip("addr add " + addr + " dev " + linkB + " nodad")
	}
}

var links atomic.Int64

// kernelPeer names the variable that has the other end be the kernel's device, where
// there is one.
const kernelPeer = "HNV_TEST_KERNEL_WIREGUARD"

// debian makes a peer that is not ours in the place, Debian's wireguard-go or the
// kernel's device, and gives its link's name.
func (p *place) debian(private Secret, port uint16, address string) *debianPeer {
	p.t.Helper()
	// Its control socket lies in a folder of the whole machine.
	name := fmt.Sprintf("dw%x-%d", os.Getpid(), links.Add(1))
	if os.Getenv(kernelPeer) != "" {
		p.ip("link add " + name + " type wireguard")
	} else {
		p.wireguardGo(name)
	}
	d := &debianPeer{place: p, link: name}
	d.wg(private.Reveal(), "set", name, "listen-port", fmt.Sprint(port), "private-key", "/dev/stdin")
	for _, a := range strings.Fields(address) {
		p.ip("addr add " + a + " dev " + name + " nodad")
	}
	p.ip("link set " + name + " mtu 1420 up")
	return d
}

func (p *place) wireguardGo(name string) {
	p.t.Helper()
	cmd := exec.Command("wireguard-go", "-f", name)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1")
	must(p.t, netns.Do(p.path(), cmd.Start))
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.Remove("/var/run/wireguard/" + name + ".sock")
	})
	await(p.t, "wireguard-go's socket", func() error {
		_, err := os.Stat("/var/run/wireguard/" + name + ".sock")
		return err
	})
}

type debianPeer struct {
	*place
	link string
}

func (d *debianPeer) wg(stdin string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command("wg", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out []byte
	err := netns.Do(d.path(), func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		d.t.Fatalf("wg %v: %v: %s", args, err, out)
	}
	return string(out)
}

// peer adds a peer and routes to what is behind it.
func (d *debianPeer) peer(key Key, endpoint, prefixes string, more ...string) {
	d.t.Helper()
	args := []string{"set", d.link, "peer", key.String(), "allowed-ips", prefixes}
	if endpoint != "" {
		args = append(args, "endpoint", endpoint)
	}
	d.wg("", append(args, more...)...)
	for _, p := range strings.Split(prefixes, ",") {
		d.ip("route replace " + p + " dev " + d.link)
	}
}

// await tries until it succeeds; what is waited for must come, the limit is for
// machines that are busy.
func await(t testing.TB, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// echo answers on an address of the place: what it is sent comes back.
func (p *place) echo(addr string) {
	p.t.Helper()
	var l net.Listener
	must(p.t, netns.Do(p.path(), func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	p.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func (p *place) dial(from, to string) net.Conn {
	p.t.Helper()
	c, err := p.tryDial(from, to, 10*time.Second)
	must(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *place) tryDial(from, to string, limit time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: limit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	err = netns.Do(p.path(), func() (err error) {
		c, err = d.DialContext(context.Background(), "tcp", to)
		return err
	})
	return c, err
}

// say sends a word and waits for it to come back.
func say(c net.Conn, word string) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() { // while it comes back: the buffers may be smaller than the word
		_, err := io.WriteString(c, word)
		written <- err
	}()
	b := make([]byte, len(word))
	_, err := io.ReadFull(c, b)
	if err = errors.Join(err, <-written); err != nil {
		return err
	}
	if string(b) != word {
		return fmt.Errorf("%q came back for %q", b, word)
	}
	return nil
}

// datagrams sends so many of 1000 bytes.
func (p *place) datagrams(from, to string, n int) {
	p.t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	var c net.Conn
	must(p.t, netns.Do(p.path(), func() (err error) {
		c, err = d.Dial("udp", to)
		return err
	}))
	defer c.Close()
	for range n {
		_, _ = c.Write(make([]byte, 1000)) // nobody listens there, and some will be told
	}
}

// engine makes an engine in the place.
func (p *place) engine() *Engine {
	p.t.Helper()
	e, err := New(Options{Namespace: p.path()})
	must(p.t, err)
	p.t.Cleanup(func() {
		if err := e.Close(false); err != nil {
			p.t.Error(err)
		}
	})
	return e
}

func apply(t testing.TB, e *Engine, s Spec) Result {
	t.Helper()
	r, err := e.Apply(context.Background(), demanded(s))
	must(t, err)
	return r
}

// ourImplementation names the variable that says what our own tunnels are to be.
const ourImplementation = "HNV_TEST_WIREGUARD"

func demanded(s Spec) Spec {
	if s.Implementation == "" {
		s.Implementation = Implementation(os.Getenv(ourImplementation))
	}
	return s
}

func prefixes(list string) (out []netip.Prefix) {
	for _, s := range strings.Fields(list) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// peerState finds a peer in a snapshot.
func peerState(e *Engine, tunnel, peer string) (PeerState, error) {
	for _, t := range e.Snapshot().Tunnels {
		for _, p := range t.Peers {
			if t.Name == tunnel && p.Name == peer {
				return p, nil
			}
		}
	}
	return PeerState{}, errors.New("no such peer")
}

func awaitLiveness(t testing.TB, e *Engine, tunnel, peer string, want Liveness) {
	t.Helper()
	await(t, tunnel+" "+string(want), func() error {
		p, err := peerState(e, tunnel, peer)
		if err == nil && p.Liveness != want {
			err = fmt.Errorf("liveness is %s", p.Liveness)
		}
		return err
	})
}

// cut drops WireGuard's packets to the port in the place, silently; the function
// it gives mends that.
func (p *place) cut(port uint16) (mend func()) {
	p.t.Helper()
	table := fmt.Sprintf("cut%d", port)
	nft := func(script string) {
		p.t.Helper()
		cmd := exec.Command("ip", "netns", "exec", p.name, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			p.t.Fatalf("nft: %v: %s", err, out)
		}
	}
	nft(fmt.Sprintf("table inet %s { chain in { type filter hook prerouting priority -300; udp dport %d drop; }; chain out { type filter hook output priority -300; udp sport %d drop; }; }", table, port, port))
	return func() { nft("delete table inet " + table) }
}

// redundant is a compartment and a site joined by two tunnels, each over a link
// of its own, with our engine at both ends.
type redundant struct {
	comp, site   *place
	a, b         *Engine
	specA, specB Spec
}

func newRedundant(t *testing.T, priorities [2]uint32, probe Probe) *redundant {
	t.Helper()
	r := &redundant{comp: newPlace(t, "comp"), site: newPlace(t, "site")}
	connect(t, r.comp, "ext1", "203.0.113.10/24", r.site, "wan1", "203.0.113.20/24")
	connect(t, r.comp, "ext2", "198.51.100.10/24", r.site, "wan2", "198.51.100.20/24")
	r.comp.ip("addr add 10.1.1.1/32 dev lo")
	r.site.ip("addr add 192.168.50.1/32 dev lo")
	for i, net := range []string{"203.0.113", "198.51.100"} {
		ours, theirs := NewPrivateKey(), NewPrivateKey()
		port := uint16(51820 + i)
		name, link := fmt.Sprintf("hq%d", i+1), fmt.Sprintf("s2s%d", i+1)
		near, far := fmt.Sprintf("169.254.%d.1", i+1), fmt.Sprintf("169.254.%d.2", i+1)
		r.specA.Tunnels = append(r.specA.Tunnels, Tunnel{Name: name, Interface: link, PrivateKey: ours, ListenPort: port, Addresses: prefixes(near + "/30"),
			Peers: []Peer{{Name: "hq", PublicKey: theirs.Public(), Endpoint: addrPort(fmt.Sprintf("%s.20:%d", net, port)),
				Prefixes: prefixes(far + "/32 192.168.50.0/24"), Priority: priorities[i], Probe: probe}}})
		r.specB.Tunnels = append(r.specB.Tunnels, Tunnel{Name: name, Interface: link, PrivateKey: theirs, ListenPort: port, Addresses: prefixes(far + "/30"),
			Peers: []Peer{{Name: "gw", PublicKey: ours.Public(), Endpoint: addrPort(fmt.Sprintf("%s.10:%d", net, port)),
				Prefixes: prefixes(near + "/32 10.1.1.0/24"), Priority: priorities[i], Probe: probe}}})
	}
	r.a, r.b = r.comp.engine(), r.site.engine()
	apply(t, r.a, r.specA)
	apply(t, r.b, r.specB)
	for _, n := range []string{"hq1", "hq2"} {
		awaitLiveness(t, r.a, n, "hq", Up)
		awaitLiveness(t, r.b, n, "gw", Up)
	}
	return r
}
