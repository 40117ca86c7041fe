//go:build linux

package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/hnv"
)

func routerMAC() hnv.MAC { return hnv.RouterMAC }

// noGateway leads what the VM's host sends right to the Internet, which knows where
// the VM is.
func (r *rig) noGateway(ctx context.Context) error { return r.knowsVM(ctx, inetMachine, "gw0") }

// knowsVM routes to the VM without an overlay: its host takes what has its address.
func (r *rig) knowsVM(ctx context.Context, machine, link string) error {
	return r.ip(ctx, machine,
		fmt.Sprintf("route add %s dev %s scope link", r.site.ca, link),
		fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", r.site.ca, r.site.hostMAC, link))
}

// plainGateway is what everybody knows how to set up.
func (r *rig) plainGateway(ctx context.Context) error {
	r.compartment = gwMachine
	if err := r.forward(ctx, gwMachine); err != nil {
		return err
	}
	err := r.ip(ctx, gwMachine, fmt.Sprintf("addr add %s dev pa0", netip.PrefixFrom(r.site.gatewayPA, r.site.fabric.Bits())))
	if err != nil {
		return err
	}
	if err := r.knowsVM(ctx, gwMachine, "pa0"); err != nil {
		return err
	}
	return r.nft(ctx, gwMachine, `table ip nat {
	chain out { type nat hook postrouting priority srcnat; oifname "ext0" masquerade; }
}
`)
}

// vxlanGateway gives each tenant a namespace with a vxlan device of the kernel's and
// its own SNAT, and routes between these and the outside: what the product does,
// by the kernel's own means. VMs are permanent neighbours.
func (r *rig) vxlanGateway(ctx context.Context) error {
	r.compartment = r.site.tenant(0).name
	err := r.ip(ctx, gwMachine, fmt.Sprintf("addr add %s dev pa0", netip.PrefixFrom(r.site.gatewayPA, r.site.fabric.Bits())))
	if err != nil {
		return err
	}
	if err := r.routesForTenants(ctx); err != nil {
		return err
	}
	return r.eachTenant(ctx, func(ctx context.Context, t tenant) error {
		link := "vx" + t.gatewayVSID.String()
		mac := hnv.CompartmentMAC(t.gatewayVSID)
		// Made here, so that its socket stays here, but placed in the tenant's namespace.
		err := r.ip(ctx, gwMachine, fmt.Sprintf("link add %s netns %s address %s mtu %d type vxlan id %s local %s dstport 4789 ttl 64 df set noudpcsum nolearning",
			link, r.lab.NS(t.name), mac, r.mtu(), t.gatewayVSID, r.site.gatewayPA))
		if err != nil {
			return err
		}
		if err := r.tenantNAT(ctx, t, link); err != nil {
			return err
		}
		_, err = r.lab.Exec(ctx, t.name, "bridge", "fdb", "add", r.site.vmMAC.String(), "dev", link, "dst", r.site.hostPA.String(), "self", "permanent")
		return err
	})
}

// routesForTenants makes the gateway's namespace route between tenants' namespaces
// and the outside, and answer for their addresses there.
func (r *rig) routesForTenants(ctx context.Context) error {
	if err := r.forward(ctx, gwMachine); err != nil {
		return err
	}
	_, err := r.lab.Exec(ctx, gwMachine, "sysctl", "-qw", "net.ipv4.conf.ext0.proxy_arp=1")
	return err
}

// eachTenant makes the tenants' namespaces, a few at a time, and sets them up.
func (r *rig) eachTenant(ctx context.Context, setUp func(context.Context, tenant) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.NumCPU())
	for n := range r.size.Tenants {
		t := r.site.tenant(n)
		g.Go(func() error {
			if err := r.machine(ctx, t.name); err != nil {
				return err
			}
			if err := r.forward(ctx, t.name); err != nil {
				return err
			}
			return setUp(ctx, t)
		})
	}
	return g.Wait()
}

// tenantNAT gives a tenant's namespace the address of a compartment on the link to
// its VMs, a way outside, and SNAT to the tenant's own address.
func (r *rig) tenantNAT(ctx context.Context, t tenant, link string) error {
	s := r.site
	outer := "x" + t.name
	err := r.ip(ctx, gwMachine,
		fmt.Sprintf("link add %s numtxqueues 1 numrxqueues 1 type veth peer name ext numtxqueues 1 numrxqueues 1 netns %s", outer, r.lab.NS(t.name)),
		fmt.Sprintf("link set %s up", outer),
		fmt.Sprintf("addr add 169.254.0.1/32 dev %s", outer),
		fmt.Sprintf("route add %s dev %s scope link", t.external, outer))
	if err != nil {
		return err
	}
	err = r.ip(ctx, t.name,
		"link set ext up",
		fmt.Sprintf("addr add %s/32 dev ext", t.external),
		"route add 169.254.0.1 dev ext scope link",
		fmt.Sprintf("route add default via 169.254.0.1 dev ext src %s", t.external),
		fmt.Sprintf("link set %s up", link),
		fmt.Sprintf("addr add %s dev %s", netip.PrefixFrom(s.compartmentCA, s.gatewaySubnet.Bits()), link),
		fmt.Sprintf("route add %s dev %s scope link", s.subnet, link),
		fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", s.ca, s.vmMAC, link))
	if err != nil {
		return err
	}
	return r.nft(ctx, t.name, fmt.Sprintf(`table ip nat {
	chain out { type nat hook postrouting priority srcnat; oifname "ext" snat to %s; }
}
`, t.external))
}

func (r *rig) forward(ctx context.Context, machine string) error {
	_, err := r.lab.Exec(ctx, machine, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0")
	return err
}

func (r *rig) nft(ctx context.Context, machine, ruleset string) error {
	_, err := r.lab.ExecInput(ctx, machine, ruleset, "nft", "-f", "-")
	return err
}
