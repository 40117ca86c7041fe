//go:build privileged && linux

package offload

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// site is an example tenant's fabric with real packets, each machine a namespace:
//
//	comp            gw               wire         host            vm
//	[wnv]------[w0: FastPath pa0]---[bridge]---[pb0 ...]------[eth0]
//	10.254.254.2    192.168.1.1                192.168.1.10   10.1.1.11
//
// The NICs have GRO, and no other offloads, so that what passes the wire is what
// real NICs would send.
// The host is a FastPath of its own, or the kernel's vxlan devices. Where nobody
// reads what is punted (serve), packets that are are lost: neighbours are permanent.
type site struct {
	t              *testing.T
	e              example
	c              dataplane.Tenant
	comp, vm, wire string // namespaces
	gw, host       *machine
	compVM, hostVM vm
	port           dataplane.PortID // the compartment's
}

// machine is a namespace with a Switch and its FastPath.
type machine struct {
	t       *testing.T
	ns      string
	name    string
	h       *nl.Handle
	sw      *dataplane.Switch
	f       *FastPath
	own     netip.Addr
	pa      nl.Link
	without []string           // capabilities
	object  []byte             // programs
	readers []*port.PuntReader // where user space takes part: see serve
	ids     sync.Map           // dataplane.PortID by interface index
	// Rates of the ports that are plugged in from now on.
	inKbps, outKbps uint64
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command in the namespace.
func run(t testing.TB, ns, command string, args ...any) string {
	t.Helper()
	argv := strings.Fields(fmt.Sprintf(command, args...))
	cmd := exec.Command("nsenter", append([]string{"--net=" + netns.Path(ns), "--"}, argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", ns, strings.Join(argv, " "), err, out)
	}
	return string(bytes.TrimSpace(out))
}

func newMachine(t *testing.T, name string, own netip.Addr) *machine {
	return openMachine(t, nstest.New(t, name), "site-"+name, own)
}

func openMachine(t *testing.T, ns, instance string, own netip.Addr) *machine {
	m := &machine{t: t, ns: ns, name: instance, own: own}
	var err error
	m.h, err = nl.Open(netns.Path(ns))
	must(t, err)
	t.Cleanup(m.h.Close)
	return m
}

// start opens the Switch and the FastPath, with the tenant.
func (m *machine) start(c dataplane.Tenant) {
	m.t.Helper()
	m.startSized(c, Sizes{})
}

func (m *machine) startSized(c dataplane.Tenant, sizes Sizes) {
	m.t.Helper()
	m.sw = dataplane.New(dataplane.Options{})
	var err error
	m.f, err = Open(m.sw, Options{Instance: m.name, Namespace: netns.Path(m.ns), Sizes: sizes, without: m.without, object: m.object})
	must(m.t, err)
	m.sw.Follow(m.f)
	m.t.Cleanup(func() { must(m.t, m.f.Close()) })
	must(m.t, m.f.SetFabric(Fabric{Tunnel: []PA{{m.own, m.pa.Index}}}))
	m.sw.SetProvider(dataplane.Provider{Addrs: []netip.Addr{m.own}, MTU: 1500})
	must(m.t, m.sw.Apply(c))
	must(m.t, m.f.AttachFabric(m.pa.Index))
}

func (m *machine) do(f func() error) error { return netns.Do(netns.Path(m.ns), f) }

// serve has the Switch take what is punted.
func (m *machine) serve() {
	m.t.Helper()
	out, err := port.OpenProvider(port.ProviderOptions{Do: m.do})
	must(m.t, err)
	m.t.Cleanup(func() { out.Close() })
	for _, q := range []port.PuntQueue{port.PuntOdd, port.PuntBulk} {
		r, err := port.OpenPunt(m.f.PuntLink(), port.PuntOptions{Queue: q, Do: m.do})
		must(m.t, err)
		m.readers = append(m.readers, r)
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.sw.ServePunted(m.t.Context(), &puntSource{m: m, PuntReader: r}, out) })
		m.t.Cleanup(func() {
			r.Close()
			wg.Wait()
		})
	}
}

// puntSource tells the ports of what is read.
type puntSource struct {
	*port.PuntReader
	m     *machine
	punts [dataplane.BatchSize]port.Punt
}

func (p *puntSource) ReadPunted(frames []*packet.Frame, from []dataplane.PortID) (int, error) {
	n, err := p.ReadBatch(frames, p.punts[:])
	for i, x := range p.punts[:n] {
		from[i] = dataplane.Fabric
		if x.Origin == port.PuntPort {
			id, _ := p.m.ids.Load(x.Ifindex)
			from[i], _ = id.(dataplane.PortID)
		}
	}
	return n, err
}

// plug makes the link the port of the VM.
func (m *machine) plug(v vm, link string, mtu int) dataplane.PortID {
	m.t.Helper()
	l, err := m.h.Link(link)
	must(m.t, err)
	w, err := port.OpenLink(link, port.LinkOptions{WriteOnly: true, Do: m.do})
	must(m.t, err)
	m.t.Cleanup(func() { w.Close() })
	id, err := m.sw.AddPort(dataplane.PortSpec{Name: link, VSID: vsidOf(m.t, v.vsid), MAC: v.mac, Kind: v.kind, MTU: mtu, InKbps: m.inKbps, OutKbps: m.outKbps}, w)
	must(m.t, err)
	m.ids.Store(uint32(l.Index), id)
	must(m.t, m.f.Plug(id, Link{Ifindex: l.Index, Peer: true}))
	return id
}

// tunnelMTU is how great the tenant's packets may be.
func (e example) tunnelMTU() int {
	outer := 20 + 14 + 8
	if e.six {
		outer += 20
	}
	if e.encap == hnv.VXLAN {
		outer += 8
	}
	return 1500 - outer
}

func newSite(t *testing.T, e example, kernelPeer bool) *site {
	t.Helper()
	s := newFabric(t, e, kernelPeer)
	s.gw.start(s.c)
	s.port = s.gw.plug(s.compVM, "w0", e.tunnelMTU())
	return s
}

// newFabric is a site whose gateway is not started.
func newFabric(t *testing.T, e example, kernelPeer bool) *site {
	t.Helper()
	s := &site{t: t, e: e, c: e.tenant(t), comp: nstest.New(t, "comp"), vm: nstest.New(t, "vm")}
	vms := e.vms(t)
	s.compVM, s.hostVM = vms[0], vms[1]
	s.gw = newMachine(t, "gw", e.paOf(0))
	host := newMachine(t, "host", e.paOf(1))
	s.host = host
	bits := 24
	if e.six {
		bits = 64
	}

	s.wire = nstest.New(t, "wire")
	run(t, s.wire, "ip link add br0 type bridge mcast_snooping 0")
	run(t, s.wire, "ip link set br0 up")
	for m, l := range map[*machine]string{s.gw: "pa0", host: "pb0"} {
		run(t, m.ns, "ip link add %s type veth peer name to-%s netns %s", l, l, s.wire)
		run(t, m.ns, "ethtool -K %s gro on gso off tso off tx off", l)
		// A veth merges only what comes from an end that has no TSO.
		run(t, s.wire, "ethtool -K to-%s tso off", l)
		run(t, s.wire, "ip link set to-%s master br0 up", l)
		run(t, m.ns, "ip link set lo up")
		run(t, m.ns, "ip link set %s up", l)
		if e.six {
			run(t, m.ns, "ip addr add %s/%d dev %s nodad", m.own, bits, l)
		} else {
			run(t, m.ns, "ip addr add %s/%d dev %s", m.own, bits, l)
		}
		var err error
		m.pa, err = m.h.Link(l)
		must(t, err)
	}
	s.station(s.gw.ns, "w0", s.comp, "wnv", s.compVM)

	if kernelPeer {
		s.kernelVXLAN(host)
		return s
	}
	s.station(host.ns, "v0", s.vm, "eth0", s.hostVM)
	host.start(s.c)
	v := s.hostVM
	v.kind = dataplane.PortVM
	host.plug(v, "v0", e.tunnelMTU())
	return s
}

// station makes the link of a VM or compartment, in its own namespace, with the
// addresses and permanent neighbours.
func (s *site) station(gateway, outer, own, inner string, v vm) {
	s.t.Helper()
	run(s.t, gateway, "ip link add %s mtu %d type veth peer name %s netns %s address %s mtu %d", outer, s.e.tunnelMTU(), inner, own, v.mac, s.e.tunnelMTU())
	run(s.t, gateway, "ip link set %s up", outer)
	run(s.t, own, "ip link set %s up", inner)
	if s.e.six && s.e.encap == hnv.VXLAN { // the programs leave such super-packets to user space
		run(s.t, own, "ethtool -K %s tso off gso off", inner)
	}
	s.address(own, inner, v)
}

func (s *site) address(ns, link string, v vm) {
	s.t.Helper()
	run(s.t, ns, "ip addr add %s/24 dev %s", v.four, link)
	run(s.t, ns, "ip addr add %s/64 dev %s nodad", v.six, link)
	for _, a := range []string{v.four, v.six} {
		p, _ := netip.MustParseAddr(a).Prefix(map[bool]int{true: 24, false: 64}[!strings.Contains(a, ":")])
		router := p.Addr().Next()
		run(s.t, ns, "ip neigh add %s dev %s lladdr %s nud permanent", router, link, hnv.RouterMAC)
		run(s.t, ns, "ip route add default via %s dev %s onlink", router, link)
	}
}

// local gives the gateway's machine a VM, which the example has there, in a
// namespace of its own.
func (s *site) local(four string) (ns string, v vm) {
	s.t.Helper()
	i := slices.IndexFunc(s.e.vms(s.t), func(v vm) bool { return v.four == four })
	v = s.e.vms(s.t)[i]
	ns = nstest.New(s.t, "local")
	link := fmt.Sprintf("l%d", i)
	s.station(s.gw.ns, link, ns, "eth0", v)
	s.gw.plug(v, link, s.e.tunnelMTU())
	return ns, v
}

// kernelVXLAN has the kernel's vxlan devices stand for a host: one for each
// direction, as the host routes between the virtual subnets.
func (s *site) kernelVXLAN(host *machine) {
	s.t.Helper()
	s.vm = host.ns
	run(s.t, s.vm, "ip link add vx1 address %s mtu %d type vxlan id %d local %s dstport 4789 nolearning", s.hostVM.mac, s.e.tunnelMTU(), s.hostVM.vsid, host.own)
	run(s.t, s.vm, "ip link add vx0 address %s mtu %d type vxlan id %d local %s dstport 4789 nolearning", s.hostVM.mac, s.e.tunnelMTU(), s.compVM.vsid, host.own)
	run(s.t, s.vm, "ip link set vx0 up")
	run(s.t, s.vm, "ip link set vx1 up")
	run(s.t, s.vm, "ip addr add %s/32 dev vx1", s.hostVM.four)
	run(s.t, s.vm, "ip addr add %s/128 dev vx1 nodad", s.hostVM.six)
	run(s.t, s.vm, "bridge fdb add %s dev vx0 dst %s self permanent", s.compVM.mac, s.gw.own)
	for _, a := range []string{s.compVM.four, s.compVM.six} {
		run(s.t, s.vm, "ip neigh add %s dev vx0 lladdr %s nud permanent", a, s.compVM.mac)
		src := s.hostVM.four
		if strings.Contains(a, ":") {
			src = s.hostVM.six
		}
		run(s.t, s.vm, "ip route add %s dev vx0 src %s", a, src)
	}
}
