package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"
)

// plan is all of a lab that iproute2 can make: computed first, carried out in
// few commands.
type plan struct {
	lab      *Lab
	machines []*machinePlan
	links    []string // veths, made directly between the namespaces
}

// machinePlan is the part of one machine, to be carried out inside it.
type machinePlan struct {
	name    string
	sysctls []string
	config  []string // ip(8) commands
	plain   []string // links that must carry whole, checksummed packets only
}

// IPv6 is off on the infrastructure's links, where router solicitations and
// MLD would only clutter the captures. VMs and their routers have it, with
// everything that a station says by itself.
var (
	quiet = []string{"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"}
	ipv6  = []string{"net.ipv6.conf.all.accept_ra=0", "net.ipv6.conf.default.accept_ra=0"}
)

var forwarding = []string{"net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0"}

func (l *Lab) plan() *plan {
	p := &plan{lab: l}
	p.fabric()
	if g := l.topo.Gateway; g != nil {
		p.gateway(g)
		p.uplinks(g)
	}
	for _, h := range l.topo.Hosts {
		p.host(h)
	}
	if l.topo.Rogue != nil {
		p.onFabric(*l.topo.Rogue, true, true)
	}
	for _, vm := range l.topo.VMs {
		p.vm(vm)
	}
	for _, s := range l.topo.Sites {
		p.site(s)
	}
	return p
}

// machine finds or adds a machine.
func (p *plan) machine(name string) *machinePlan {
	i := slices.IndexFunc(p.machines, func(m *machinePlan) bool { return m.name == name })
	if i >= 0 {
		return p.machines[i]
	}
	m := &machinePlan{name: name, sysctls: quiet, config: []string{"link set lo up"}}
	p.machines = append(p.machines, m)
	return m
}

// end is one end of a veth.
type end struct {
	m    *machinePlan
	name string
	mac  string // "": the kernel's choice
}

func (p *plan) veth(a, b end, mtu int) {
	side := func(e end) string {
		s := fmt.Sprintf("%s netns %s mtu %d numtxqueues 1 numrxqueues 1", e.name, p.lab.NS(e.m.name), mtu)
		if e.mac != "" {
			s += " address " + e.mac
		}
		return s
	}
	p.links = append(p.links, "link add name "+side(a)+" type veth peer name "+side(b))
}

func (p *plan) fabric() {
	fab := p.machine("fab")
	fab.sysctls = slices.Concat(quiet, forwarding)
	// A switch passes on what its kernel would call malformed; where bridges
	// hand frames to netfilter, they judge IP headers first.
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		fab.sysctls = append(fab.sysctls, "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
	}
	for _, s := range p.lab.topo.Fabric {
		br := "br-" + s.Name
		fab.config = append(fab.config,
			fmt.Sprintf("link add %s address %s type bridge", br, MACOf(s.Router.Addr())),
			fmt.Sprintf("link set %s up", br),
			fmt.Sprintf("addr add %s dev %s", s.Router, br))
	}
}

// onFabric wires the machine's pa0. Its address is configured only where
// nobody else does: gatewayd and Open vSwitch do it for themselves.
func (p *plan) onFabric(m Machine, configure, offloads bool) *machinePlan {
	subnet := p.subnet(m.PA)
	fab, mp := p.machine("fab"), p.machine(m.Name)
	port := "p-" + m.Name
	p.veth(end{mp, "pa0", MACOf(m.PA.Addr())}, end{fab, port, ""}, 1500)
	fab.config = append(fab.config, fmt.Sprintf("link set %s master br-%s up", port, subnet.Name))
	mp.config = append(mp.config, "link set pa0 up")
	if configure {
		mp.config = append(mp.config, fmt.Sprintf("addr add %s dev pa0", m.PA),
			fmt.Sprintf("route add %s via %s", fabricPrefix, subnet.Router.Addr()))
	}
	if !offloads {
		mp.plain = append(mp.plain, "pa0")
		fab.plain = append(fab.plain, port)
	}
	return mp
}

func (p *plan) subnet(pa netip.Prefix) PASubnet {
	s, err := p.lab.topo.paSubnet(pa.Addr())
	if err != nil {
		panic(err) // Topology.check has seen it
	}
	return s
}

func (p *plan) gateway(g *Gateway) {
	gw := p.onFabric(g.Machine, false, true)
	inet, mgmt := p.machine("inet"), p.machine("mgmt")
	p.veth(end{gw, "ext0", MACOf(g.External.Addr())}, end{inet, "gw0", MACOf(g.Internet)}, 1500)
	p.veth(end{gw, "mgmt0", MACOf(g.Management.Addr())}, end{mgmt, "eth0", MACOf(g.Manager)}, 1500)
	gw.config = append(gw.config,
		"link set ext0 up", fmt.Sprintf("addr add %s dev ext0", g.External),
		fmt.Sprintf("route add default via %s", g.Internet),
		"link set mgmt0 up", fmt.Sprintf("addr add %s dev mgmt0", g.Management))
	inet.config = append(inet.config,
		"link set gw0 up", fmt.Sprintf("addr add %s dev gw0", netip.PrefixFrom(g.Internet, g.External.Bits())),
		fmt.Sprintf("addr add %s/32 dev lo", g.Service))
	if len(p.lab.topo.Sites) > 0 {
		inet.sysctls = slices.Concat(quiet, forwarding)
		inet.config = append(inet.config, "route add blackhole default") // silent about what it has no way to
	}
	mgmt.config = append(mgmt.config,
		"link set eth0 up", fmt.Sprintf("addr add %s dev eth0", netip.PrefixFrom(g.Manager, g.Management.Bits())),
		// The way back for whoever should get here from elsewhere: a tenant that
		// cannot reach the management network fails at the gateway, not here.
		fmt.Sprintf("route add default via %s", g.Management.Addr()))
}

func (p *plan) host(h Host) {
	m := p.onFabric(h.Machine, h.Implementation == KernelVXLAN, h.Implementation != OpenVSwitch)
	for _, l := range h.paLinks()[1:] {
		fab, subnet := p.machine("fab"), p.subnet(l.pa)
		p.veth(end{m, l.name, MACOf(l.pa.Addr())}, end{fab, l.port, ""}, 1500)
		fab.config = append(fab.config, fmt.Sprintf("link set %s master br-%s up", l.port, subnet.Name))
		m.config = append(m.config, fmt.Sprintf("link set %s up", l.name))
	}
	if h.Implementation != KernelVXLAN {
		return
	}
	for _, t := range p.lab.topo.Tenants {
		if h.carries(t) == nil {
			r := p.machine(routerMachine(h, t))
			r.sysctls = slices.Concat(ipv6, forwarding, []string{"net.ipv6.conf.all.forwarding=1"})
		}
	}
}

func (p *plan) vm(vm VM) {
	tenant, err := p.lab.topo.Tenant(vm.Tenant)
	if err != nil {
		panic(err) // Topology.check has seen it
	}
	subnet, _ := tenant.Subnet(vm.VSID)
	h := p.lab.hosts[vm.Host]
	m, hm := p.machine(vm.Name), p.machine(h.portMachine(vm.Tenant))
	p.veth(end{m, "eth0", vm.MAC.String()}, end{hm, vm.Port(), ""}, tenant.MTU())
	m.config = append(m.config, "link set eth0 up",
		fmt.Sprintf("addr add %s dev eth0", netip.PrefixFrom(vm.CA, subnet.Prefix.Bits())),
		fmt.Sprintf("route add default via %s", subnet.Router()),
		fmt.Sprintf("addr add %s dev eth0", netip.PrefixFrom(vm.CA6, subnet.Prefix6.Bits())),
		fmt.Sprintf("route add ::/0 via %s dev eth0", subnet.Router6()))
	m.sysctls = ipv6
	hm.config = append(hm.config, fmt.Sprintf("link set %s up", vm.Port()))
	if !h.offloads() {
		m.plain = append(m.plain, "eth0")
		hm.plain = append(hm.plain, vm.Port())
	}
}

// MACOf makes an address readable in captures: 02:00 and the IPv4 address.
func MACOf(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

func (p *plan) namespaces() []string {
	var out []string
	for _, m := range p.machines {
		out = append(out, "netns add "+p.lab.NS(m.name))
	}
	return out
}

// each calls f for every machine, a few at a time.
func (p *plan) each(ctx context.Context, f func(context.Context, *machinePlan) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, m := range p.machines {
		g.Go(func() error {
			if err := f(ctx, m); err != nil {
				return fmt.Errorf("machine %s: %w", m.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}
