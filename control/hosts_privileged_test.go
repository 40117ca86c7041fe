//go:build privileged && linux

package control

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// network is a switch with hosts on it, each a namespace, which run everything
// between the kernel and the controller.
type network struct {
	t    testing.TB
	ns   string
	fast bool // hosts have a fast path
}

// byBothPaths runs a test on hosts that read all packets, and on hosts with a fast
// path.
func byBothPaths(t *testing.T, f func(t *testing.T, n *network)) {
	for _, path := range []string{pathGo, pathFast} {
		t.Run(path, func(t *testing.T) {
			n := newNetwork(t)
			n.fast = path == pathFast
			f(t, n)
		})
	}
}

// small is enough for a few tenants.
var small = offload.Sizes{VSIDs: 64, Ports: 64, Records: 256, Hosts: 256, Routes: 256, Teams: 64, HopSets: 64, Tenants: 64, PAs: 256}

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{t: t, ns: nstest.New(t, "switch")}
	in(t, n.ns, "ip link add br0 type bridge")
	in(t, n.ns, "ip link set br0 addrgenmode none up")
	return n
}

// in runs a command in a namespace.
func in(t testing.TB, ns, command string) string {
	t.Helper()
	out, err := try(ns, command)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", ns, command, err, out)
	}
	return out
}

func try(ns, command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + netns.Path(ns)}, strings.Fields(command)...)...).CombinedOutput()
	return string(out), err
}

// hvHost is a host: its interfaces pa0, pa1, ... are on the switch, as NAME-0 ...
type hvHost struct {
	n    *network
	name string
	ns   string
	nl   *nl.Handle
	e    *compartments.Engine
	sw   *dataplane.Switch
	w    *Wire
	spec compartments.ProviderSpec
}

// host makes one with these provider addresses.
func (n *network) host(name string, pas ...hnv.ProviderAddress) *hvHost {
	t := n.t
	t.Helper()
	h := &hvHost{n: n, name: name, ns: nstest.New(t, name), sw: dataplane.New(dataplane.Options{})}
	in(t, h.ns, "ip link set lo up")
	h.nl = must(nl.Open(netns.Path(h.ns)))
	t.Cleanup(h.nl.Close)
	var interfaces []string
	for _, pa := range pas {
		if slices.Contains(interfaces, pa.Interface) {
			continue
		}
		end := fmt.Sprintf("%s-%d", name, len(interfaces))
		interfaces = append(interfaces, pa.Interface)
		if err := h.nl.AddVeth(nl.LinkEnd{Name: pa.Interface}, nl.LinkEnd{Name: end, Namespace: netns.Path(n.ns)}); err != nil {
			t.Fatal(err)
		}
		in(t, n.ns, "ip link set "+end+" addrgenmode none master br0 up")
	}
	var err error
	h.e, err = compartments.New(compartments.Config{Instance: name, Namespace: netns.Path(h.ns), PAInterfaces: interfaces})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.e.Close() })
	o := WireOptions{
		MTU: func() int { return 1500 }, Log: slog.New(slog.DiscardHandler), NoFastPath: "a test does without",
		Do: func(f func() error) error { return netns.Do(netns.Path(h.ns), f) },
	}
	if n.fast {
		f, err := offload.Open(h.sw, offload.Options{Instance: filepath.Base(h.ns), Namespace: netns.Path(h.ns), Sizes: small})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		o.Fast = f
	}
	if h.w, err = NewWire(h.sw, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.w.Close() })
	h.spec.Addresses = pas
	h.provide()
	return h
}

// provide does what the controller does for the provider side.
func (h *hvHost) provide() {
	h.n.t.Helper()
	if _, err := h.e.ApplyProvider(h.n.t.Context(), h.spec); err != nil {
		h.n.t.Fatal(err)
	}
	h.serve()
}

func (h *hvHost) serve() {
	h.n.t.Helper()
	st := h.e.ProviderState()
	if err := h.w.Provider(FabricSide{Tunnel: st.Addresses, Rewrite: st.Rewrite, Groups: h.spec.Groups}); err != nil {
		h.n.t.Fatal(err)
	}
}

// follow does what the controller does when links change.
func (h *hvHost) follow() {
	t := h.n.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	links, err := h.e.WatchProvider(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var timer <-chan time.Time
			if again := h.e.ProviderState().Again; again > 0 {
				timer = time.After(again)
			}
			select {
			case <-ctx.Done():
				return
			case <-links:
			case <-timer:
			}
			if _, err := h.e.Failover(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			h.serve()
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// tenant gives the host a tenant.
func (h *hvHost) tenant(d dataplane.Tenant) {
	h.n.t.Helper()
	for _, s := range d.Subnets {
		if !slices.Contains(h.spec.VSIDs, s.VSID) {
			h.spec.VSIDs = append(h.spec.VSIDs, s.VSID)
		}
	}
	h.provide()
	if err := h.sw.Apply(d); err != nil {
		h.n.t.Fatal(err)
	}
}

// vm plugs a VM in and gives its namespace; eth0 is its interface.
func (h *hvHost) vm(spec dataplane.PortSpec, addrs ...string) string {
	t := h.n.t
	t.Helper()
	ns := nstest.New(t, spec.Name)
	link := spec.Name
	if err := h.nl.AddVeth(nl.LinkEnd{Name: link}, nl.LinkEnd{Name: "eth0", MAC: spec.MAC.Bytes(), MTU: spec.MTU, Namespace: netns.Path(ns)}); err != nil {
		t.Fatal(err)
	}
	in(t, ns, "ip link set lo up")
	in(t, ns, "ip link set eth0 addrgenmode none up")
	for _, a := range addrs {
		in(t, ns, "ip addr add "+a+" dev eth0 nodad")
	}
	if refused := h.e.ApplyPorts(t.Context(), []string{link}); len(refused) > 0 {
		t.Fatal(refused)
	}
	if err := h.w.Attach(spec, link); err != nil {
		t.Fatal(err)
	}
	return ns
}

// transfer sends n bytes of TCP from one namespace to an address in another.
func transfer(t testing.TB, from, to string, addr string, n int64) {
	t.Helper()
	var l net.Listener
	if err := netns.Do(netns.Path(to), func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		m, _ := io.Copy(io.Discard, c)
		got <- m
	}()
	var c net.Conn
	if err := netns.Do(netns.Path(from), func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), time.Minute)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Errorf("send: %v", err)
	}
	c.Close()
	if m := <-got; m != n {
		t.Errorf("%d of %d bytes of TCP arrived at %s", m, n, addr)
	}
}

// packetsOn hears every IP packet that comes in at a link, without its Ethernet
// header; the function it gives returns those heard since it was last called.
func packetsOn(t testing.TB, ns, link string) func() [][]byte {
	t.Helper()
	var fd int
	if err := netns.Do(netns.Path(ns), func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index}) // ETH_P_ALL
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() (out [][]byte) {
		time.Sleep(50 * time.Millisecond)
		for b := make([]byte, 70000); ; {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return out
			}
			if n > 14 && (b[12] == 0x08 && b[13] == 0 || b[12] == 0x86 && b[13] == 0xdd) {
				out = append(out, slices.Clone(b[14:n]))
			}
		}
	}
}

func pa(addr, ifname string) hnv.ProviderAddress {
	return hnv.ProviderAddress{Addr: netip.MustParsePrefix(addr), Interface: ifname}
}

// tenantOf gives a tenant with one subnet, the same for all, and no records.
func tenantOf(name string, base uint32, e hnv.Encap) dataplane.Tenant {
	t := theTenant(name, base+1, "203.0.113.10")
	t.Encap = e
	t = t.Defaulted()
	return dataplane.Tenant{Name: t.Name, RDID: t.RDID, Encap: e, Subnets: t.Subnets[:2]}
}

// station is a VM's record of tenant base, the n-th one.
func station(base uint32, n int, where string, rule hnv.Rule) hnv.Record {
	return hnv.Record{
		VSID: vsid(base + 1), CA: netip.MustParseAddr(fmt.Sprintf("10.1.1.%d", n)), MAC: must(hnv.ParseMAC(fmt.Sprintf("00:15:5d:00:00:%02x", n))),
		PA: netip.MustParseAddr(where), Rule: rule, Type: hnv.Static,
	}
}

// portOf is the port of a station, whose MTU leaves room for the outer headers.
func portOf(name string, r hnv.Record, mtu int) dataplane.PortSpec {
	return dataplane.PortSpec{Name: name, VSID: r.VSID, MAC: r.MAC, Kind: dataplane.PortVM, MTU: mtu}
}
