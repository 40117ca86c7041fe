//go:build privileged && linux

package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
	"github.com/hnvgate/hnvgate/nat"
)

// rig is a gateway between a fabric and the outside:
//
//	vm          host             wire           gw                 outside
//	[eth0]--[v<base> pb0]---[bridge, mirror]---[pa0      up0]-----[eth0]
//	10.1.1.11   192.168.1.10                   192.168.1.1        198.51.100.2
//	                                            |  |
//	                                           [wnv ext] compartment of each tenant
//
// The host has VMs of several tenants, all with the same addresses. It is a fast
// path of its own.
type rig struct {
	t                       *testing.T
	instance                string
	gw, host, wire, outside string // namespaces
	h                       *nl.Handle
	compartments            *compartments.Engine
	nat                     *nat.Engine
	sw, hostSwitch          *dataplane.Switch
	fast                    *offload.FastPath
	uplink                  *offload.Uplink
	up0                     nl.Link
	tenants                 []*tenant
}

// tenant is one of them, with its VM on the host.
type tenant struct {
	name      string
	base      uint32
	encap     hnv.Encap
	external  []string
	vm        string // namespace
	dataplane dataplane.Tenant
	spec      compartments.Spec
	nat       nat.Spec
	comp      string // namespace
	exit      offload.Exit
	port      string // of the compartment: the gateway-side link
}

const (
	gatewayPA, hostPA = "192.168.1.1", "192.168.1.10"
	vm4, vm6          = "10.1.1.11", "fd00:1::11"
	comp4, comp6      = "10.254.254.2", "fd00:fe::2"
	out4, out6        = "198.51.100.2", "2001:db8:e::2"
	// remote is far behind the outside's router.
	remote4, remote6 = "192.0.2.7", "2001:db8:7::7"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, ns, command string, args ...any) string {
	t.Helper()
	out, err := try(ns, command, args...)
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", ns, fmt.Sprintf(command, args...), err, out)
	}
	return out
}

func try(ns, command string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	argv := strings.Fields(fmt.Sprintf(command, args...))
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + netns.Path(ns), "--"}, argv...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func macOf(t testing.TB, b byte) hnv.MAC {
	m, err := hnv.ParseMAC(fmt.Sprintf("00:15:5d:00:00:%02x", b))
	must(t, err)
	return m
}

func vsidOf(t testing.TB, n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	must(t, err)
	return v
}

// newRig builds it all, with the uplink's programs attached.
func newRig(t *testing.T, tenants ...*tenant) *rig {
	t.Helper()
	r := &rig{t: t, tenants: tenants, gw: nstest.New(t, "gw"), host: nstest.New(t, "host"), wire: nstest.New(t, "wire"), outside: nstest.New(t, "out")}
	r.instance = strings.TrimPrefix(r.gw, "hnvtest-")
	var err error
	r.h, err = nl.Open(netns.Path(r.gw))
	must(t, err)
	t.Cleanup(r.h.Close)
	for _, ns := range []string{r.gw, r.host, r.wire, r.outside} {
		run(t, ns, "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
		run(t, ns, "ip link set lo up")
	}
	run(t, r.wire, "ip link add br0 type bridge mcast_snooping 0")
	run(t, r.wire, "ip link set br0 up")
	for ns, l := range map[string]string{r.gw: "pa0", r.host: "pb0"} {
		run(t, ns, "ip link add %s type veth peer name to-%s netns %s", l, l, r.wire)
		run(t, ns, "ethtool -K %s gro on gso off tso off tx off", l)
		run(t, r.wire, "ip link set to-%s master br0 up", l)
		run(t, ns, "ip link set %s up", l)
	}
	run(t, r.host, "ip addr add %s/24 dev pb0", hostPA)
	run(t, r.gw, "ip link add up0 type veth peer name eth0 netns %s", r.outside)
	run(t, r.gw, "ethtool -K up0 gro on gso off tso off tx off")
	run(t, r.outside, "ethtool -K eth0 gro off gso off tso off tx off")
	run(t, r.outside, "ip link set eth0 up")
	run(t, r.gw, "ip link set up0 up")
	run(t, r.gw, "ip addr add 198.51.100.1/24 dev up0")
	run(t, r.gw, "ip addr add 2001:db8:e::1/64 dev up0 nodad")
	run(t, r.gw, "ip route add default via %s", out4)
	run(t, r.gw, "ip -6 route add default via %s", out6)
	run(t, r.outside, "ip addr add %s/24 dev eth0", out4)
	run(t, r.outside, "ip addr add %s/64 dev eth0 nodad", out6)
	run(t, r.outside, "ip addr add %s/32 dev lo", remote4)
	run(t, r.outside, "ip addr add %s/128 dev lo nodad", remote6)
	run(t, r.outside, "ip route add 203.0.113.0/24 via 198.51.100.1")
	run(t, r.outside, "ip -6 route add 2001:db8:f::/64 via 2001:db8:e::1")
	r.up0, err = r.h.Link("up0")
	must(t, err)

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r.compartments, err = compartments.New(compartments.Config{
		Instance: r.instance, Namespace: netns.Path(r.gw), Log: log, PAInterfaces: []string{"pa0"},
		Uplinks: []compartments.Uplink{{Name: "internet", Kind: compartments.Routed, Interface: "up0"}},
	})
	must(t, err)
	t.Cleanup(func() { must(t, r.compartments.Close()) })
	_, err = r.compartments.ApplyProvider(t.Context(), compartments.ProviderSpec{
		Addresses: []hnv.ProviderAddress{{Addr: netip.MustParsePrefix(gatewayPA + "/24"), Interface: "pa0"}}})
	must(t, err)
	r.nat = nat.New(log)
	t.Cleanup(r.down)

	r.sw, r.fast = r.machine(r.gw, r.instance, gatewayPA, "pa0")
	hostSwitch, hostFast := r.machine(r.host, r.instance+"h", hostPA, "pb0")
	r.hostSwitch = hostSwitch
	r.uplink, err = offload.OpenUplink(offload.UplinkOptions{Instance: r.instance, Namespace: netns.Path(r.gw), FastPath: r.fast})
	must(t, err)
	t.Cleanup(func() { must(t, r.uplink.Close()) })
	must(t, r.uplink.NATOffload())
	for _, n := range tenants {
		n.fill(t)
		must(t, r.sw.Apply(n.dataplane))
		must(t, hostSwitch.Apply(n.dataplane))
		r.open(n)
		n.vm = nstest.New(t, "vm")
		v := fmt.Sprintf("v%d", n.base)
		mac := macOf(t, 0x11)
		run(t, r.host, "ip link add %s mtu %d type veth peer name eth0 netns %s address %s mtu %d", v, n.spec.MTU, n.vm, mac, n.spec.MTU)
		run(t, r.host, "ip link set %s up", v)
		run(t, n.vm, "ip link set lo up")
		run(t, n.vm, "ip link set eth0 up")
		run(t, n.vm, "ip addr add %s/24 dev eth0", vm4)
		run(t, n.vm, "ip addr add %s/64 dev eth0 nodad", vm6)
		for _, router := range []string{"10.1.1.1", "fd00:1::1"} {
			run(t, n.vm, "ip neigh add %s dev eth0 lladdr %s nud permanent", router, hnv.RouterMAC)
			run(t, n.vm, "ip route add default via %s dev eth0 onlink", router)
		}
		plug(t, hostSwitch, hostFast, r.host, v, dataplane.PortSpec{Name: v, VSID: vsidOf(t, n.base+1), MAC: mac, Kind: dataplane.PortVM, MTU: n.spec.MTU})
	}
	must(t, r.uplink.Attach(r.up0.Index))
	return r
}

// fill derives what the tenant's parts are.
func (n *tenant) fill(t testing.TB) {
	t.Helper()
	name, err := hnv.ParseName(n.name)
	must(t, err)
	c := dataplane.Tenant{Name: name, RDID: hnv.NewRDID(), Encap: n.encap}
	for i, s := range [][2]string{{"10.254.254.0/29", "fd00:fe::/64"}, {"10.1.1.0/24", "fd00:1::/64"}} {
		sub := hnv.Subnet{VSID: vsidOf(t, n.base+uint32(i))}
		for _, p := range s {
			pfx := netip.MustParsePrefix(p)
			sub.Prefixes = append(sub.Prefixes, hnv.SubnetPrefix{Prefix: pfx, Gateway: pfx.Addr().Next()})
		}
		c.Subnets = append(c.Subnets, sub)
	}
	compMAC := hnv.CompartmentMAC(vsidOf(t, n.base))
	for _, r := range [][2]string{{"0.0.0.0/0", comp4}, {"::/0", comp6}} {
		c.Routes = append(c.Routes, hnv.CustomerRoute{RDID: c.RDID, VSID: vsidOf(t, n.base), Prefix: netip.MustParsePrefix(r[0]), NextHop: netip.MustParseAddr(r[1])})
	}
	for _, v := range []struct {
		vsid uint32
		cas  []string
		mac  hnv.MAC
		pa   string
	}{{n.base, []string{comp4, comp6}, compMAC, gatewayPA}, {n.base + 1, []string{vm4, vm6}, macOf(t, 0x11), hostPA}} {
		for _, ca := range v.cas {
			c.Records = append(c.Records, hnv.Record{VSID: vsidOf(t, v.vsid), CA: netip.MustParseAddr(ca), MAC: v.mac,
				PA: netip.MustParseAddr(v.pa), Rule: hnv.Rule(n.encap), Type: hnv.Static})
		}
	}
	n.dataplane = c
	mtu := 1458
	if n.encap == hnv.VXLAN {
		mtu = 1450
	}
	n.spec = compartments.Spec{
		Name: name, RDID: c.RDID, VSID: vsidOf(t, n.base), MAC: compMAC, MTU: mtu, Uplink: "internet",
		CAs: []netip.Prefix{netip.MustParsePrefix(comp4 + "/29"), netip.MustParsePrefix(comp6 + "/64")},
	}
	for _, r := range [][2]string{{"10.1.1.0/24", "10.254.254.1"}, {"fd00:1::/64", "fd00:fe::1"}} {
		n.spec.Routes = append(n.spec.Routes, compartments.Route{Prefix: netip.MustParsePrefix(r[0]), Via: netip.MustParseAddr(r[1])})
	}
	for _, e := range n.external {
		x, err := hnv.ParseExternalRange(e)
		must(t, err)
		n.spec.External = append(n.spec.External, x)
	}
	n.nat = nat.Spec{
		Name: name, Inside: compartments.OverlayLink(n.spec.VSID), Outside: compartments.ExternalLink, InsideMTU: mtu,
		InsidePrefixes: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		InsideAddrs:    []netip.Addr{netip.MustParseAddr(comp4), netip.MustParseAddr(comp6)},
		Pool:           n.spec.External,
	}
}

// open makes the tenant's compartment, with NAT, and its exit.
func (r *rig) open(n *tenant) {
	r.t.Helper()
	res, err := r.compartments.Apply(r.t.Context(), n.spec)
	must(r.t, err)
	n.comp, n.port = r.instance+"-"+n.name, res.Port
	n.nat.Namespace = res.Namespace
	r.translate(n)
	plug(r.t, r.sw, r.fast, r.gw, res.Port, dataplane.PortSpec{Name: n.name, VSID: n.spec.VSID, MAC: n.spec.MAC, Kind: dataplane.PortCompartment, MTU: n.spec.MTU})
	h, err := nl.Open(netns.Path(n.comp))
	must(r.t, err)
	defer h.Close()
	ext, err := h.Link(compartments.ExternalLink)
	must(r.t, err)
	outer, err := r.h.LinkByIndex(ext.Parent)
	must(r.t, err)
	w, err := r.h.Link(res.Port)
	must(r.t, err)
	n.exit = offload.Exit{
		Link: outer.Index, Uplink: r.up0.Index, MAC: ext.MAC, Peer: outer.MAC, MTU: outer.MTU, External: n.spec.External,
		NAT: &offload.NAT{Port: w.Index, Netns: outer.ParentNetns, TCPTimeout: 432000 * time.Second, UDPTimeout: 120 * time.Second},
	}
	must(r.t, r.uplink.Set(n.exit))
}

func (r *rig) translate(n *tenant) {
	r.t.Helper()
	_, err := r.nat.Apply(r.t.Context(), n.nat)
	must(r.t, err)
}

// machine opens a Switch and its fast path in a namespace.
func (r *rig) machine(ns, instance, pa, link string) (*dataplane.Switch, *offload.FastPath) {
	r.t.Helper()
	sw := dataplane.New(dataplane.Options{})
	f, err := offload.Open(sw, offload.Options{Instance: instance, Namespace: netns.Path(ns), NATOffload: true})
	must(r.t, err)
	sw.Follow(f)
	r.t.Cleanup(func() { must(r.t, f.Close()) })
	h, err := nl.Open(netns.Path(ns))
	must(r.t, err)
	defer h.Close()
	l, err := h.Link(link)
	must(r.t, err)
	own := netip.MustParseAddr(pa)
	must(r.t, f.SetFabric(offload.Fabric{Tunnel: []offload.PA{{Addr: own, Ifindex: l.Index}}}))
	sw.SetProvider(dataplane.Provider{Addrs: []netip.Addr{own}, MTU: 1500})
	must(r.t, f.AttachFabric(l.Index))
	return sw, f
}

// nowhere takes what user space would send: nobody is there.
type nowhere struct{}

func (nowhere) WriteBatch(f []*packet.Frame) (int, error) { return len(f), nil }

func plug(t testing.TB, sw *dataplane.Switch, f *offload.FastPath, ns, link string, spec dataplane.PortSpec) dataplane.PortID {
	t.Helper()
	h, err := nl.Open(netns.Path(ns))
	must(t, err)
	defer h.Close()
	l, err := h.Link(link)
	must(t, err)
	id, err := sw.AddPort(spec, nowhere{})
	must(t, err)
	must(t, f.Plug(id, offload.Link{Ifindex: l.Index, Peer: true}))
	return id
}

// down removes the compartments' namespaces.
func (r *rig) down() {
	all, err := netns.List()
	if err != nil {
		r.t.Error(err)
	}
	for _, n := range all {
		if strings.HasPrefix(n, r.instance+"-") {
			if err := netns.Delete(n); err != nil {
				r.t.Error(err)
			}
		}
	}
}

// counters are those of the tenant's exit.
func (r *rig) counters(n *tenant) offload.ExitCounters {
	r.t.Helper()
	all, err := r.uplink.Counters()
	must(r.t, err)
	return all[n.exit.Link]
}

func contoso() *tenant {
	return &tenant{name: "contoso", base: 5000, encap: hnv.NVGRE, external: []string{"203.0.113.10", "2001:db8:f::10"}}
}

func fabrikam() *tenant {
	return &tenant{name: "fabrikam", base: 6000, encap: hnv.VXLAN, external: []string{"203.0.113.20:20000-29999", "[2001:db8:f::20]:20000-29999"}}
}
