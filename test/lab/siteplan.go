package lab

import (
	"fmt"
	"slices"
)

// site wires a site: its router to the Internet or the gateway, its machine to
// the router. Tunnels and routes come with StartSites.
func (p *plan) site(s Site) {
	router, host := p.machine(s.Name), p.machine(s.Host())
	router.sysctls = slices.Concat(ipv6, forwarding, []string{"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0"})
	host.sysctls = slices.Concat(ipv6, []string{"net.ipv6.conf.default.accept_dad=0"})
	p.veth(end{router, "lan0", MACOf(s.LAN.Addr())}, end{host, "eth0", MACOf(s.HostAddr())}, 1500)
	router.config = append(router.config, "link set lan0 up",
		fmt.Sprintf("addr add %s dev lan0", s.LAN), fmt.Sprintf("addr add %s dev lan0", s.LAN6))
	host.config = append(host.config, "link set eth0 up",
		fmt.Sprintf("addr add %s/%d dev eth0", s.HostAddr(), s.LAN.Bits()), fmt.Sprintf("addr add %s/%d dev eth0", s.HostAddr6(), s.LAN6.Bits()),
		fmt.Sprintf("route add default via %s", s.LAN.Addr()), fmt.Sprintf("route add ::/0 via %s dev eth0", s.LAN6.Addr()))
	for i, t := range s.Tunnels {
		p.wan(s, i, t, router)
	}
	if s.Link != nil {
		p.siteLink(s, router)
	}
}

// wan gives the router a way to the Internet. The first is the default; what the
// others' tunnels send is marked, and goes their way.
func (p *plan) wan(s Site, i int, t SiteTunnel, router *machinePlan) {
	inet, link := p.machine("inet"), fmt.Sprintf("wan%d", i)
	port := ispPort(s, i)
	p.veth(end{router, link, MACOf(t.WAN.Addr())}, end{inet, port, MACOf(t.isp().Addr())}, 1500)
	inet.config = append(inet.config, fmt.Sprintf("link set %s up", port), fmt.Sprintf("addr add %s dev %s", t.isp(), port))
	router.config = append(router.config, fmt.Sprintf("link set %s up", link), fmt.Sprintf("addr add %s dev %s", t.WAN, link))
	way := fmt.Sprintf("route add default via %s dev %s", t.isp().Addr(), link)
	if i == 0 {
		router.config = append(router.config, way)
		return
	}
	router.config = append(router.config, fmt.Sprintf("%s table %d", way, wanMark(i)),
		fmt.Sprintf("rule add fwmark %d table %d", wanMark(i), wanMark(i)),
		fmt.Sprintf("rule add from %s table %d", t.WAN.Addr(), wanMark(i)))
}

// ispPort names the Internet router's end of the site's I-th way.
func ispPort(s Site, i int) string { return fmt.Sprintf("s-%s-%d", s.Name, i) }

// wanMark marks what goes by the site's I-th way; 0 is no mark.
func wanMark(i int) int {
	if i == 0 {
		return 0
	}
	return 100 + i
}

// siteLink joins the router to the gateway's uplink.
func (p *plan) siteLink(s Site, router *machinePlan) {
	u, err := p.lab.topo.uplink(s.Link.Uplink)
	if err != nil {
		panic(err) // Topology.check has seen it
	}
	gw := p.machine(p.lab.topo.Gateway.Name)
	port := u.Interface
	if u.Kind == Bridge {
		port = "u-" + s.Name
	}
	p.veth(end{router, "gw0", MACOf(s.Link.Router.Addr())}, end{gw, port, ""}, 1500)
	router.config = append(router.config, "link set gw0 up", fmt.Sprintf("addr add %s dev gw0", s.Link.Router))
	if u.Kind == Bridge {
		gw.config = append(gw.config, fmt.Sprintf("link set %s master %s", port, u.Interface))
	}
	gw.config = append(gw.config, fmt.Sprintf("link set %s up", port))
}

// uplinks makes what the gateway's further uplinks are on, where that is not the
// end of a cable.
func (p *plan) uplinks(g *Gateway) {
	gw := p.machine(g.Name)
	for _, u := range g.Uplinks {
		if u.Kind == Bridge {
			gw.config = append(gw.config, fmt.Sprintf("link add %s type bridge", u.Interface), fmt.Sprintf("link set %s up", u.Interface))
		}
	}
}
