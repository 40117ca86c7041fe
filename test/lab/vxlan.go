package lab

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/hnvgate/hnvgate/hnv"
)

// vxlanHost is an HNV host by the kernel's own means. The host machine holds
// the provider address only. Beside it stands one router machine per tenant,
// without any way into the fabric of its own: per VSID a bridge, which is the
// distributed router's interface, and in it the vxlan device, whose UDP socket
// stays in the host machine, and the VMs' NICs.
//
// Broadcast goes to each other host of the subnet by unicast. Nothing is
// learned: records are permanent neighbours of the bridge and
// static entries of the two forwarding tables, and the bridge answers ARP for
// them (neigh_suppress), as in an EVPN fabric with anycast gateway.
type vxlanHost struct {
	lab *Lab
	h   Host

	mu    sync.Mutex
	flood map[string]bool // "VSID PA": who has a copy of a subnet's broadcasts
}

// flooding gives the line that adds the PA to those that have a copy of the
// subnet's broadcasts, if it is not there yet.
func (x *vxlanHost) flooding(r Record) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := r.VSID.String() + " " + r.PA.String()
	if x.flood[k] {
		return ""
	}
	if x.flood == nil {
		x.flood = map[string]bool{}
	}
	x.flood[k] = true
	return fmt.Sprintf("fdb append 00:00:00:00:00:00 dev vx%s dst %s self permanent\n", r.VSID, r.PA)
}

func routerMachine(h Host, t Tenant) string { return h.Name + "-" + t.Name }

func (x *vxlanHost) portMachine(tenant string) string {
	return routerMachine(x.h, Tenant{Name: tenant})
}

func (x *vxlanHost) offloads() bool { return true }

func (x *vxlanHost) up(ctx context.Context) error {
	for _, t := range x.lab.topo.Tenants {
		if x.h.carries(t) != nil {
			continue
		}
		var vxlans, config []string
		for _, s := range t.Subnets {
			// Made by the host machine, so that its socket belongs there, but
			// placed in the router machine.
			vxlans = append(vxlans, fmt.Sprintf("link add vx%s netns %s mtu %d type vxlan id %s local %s dstport 4789 ttl 64 df set noudpcsum nolearning",
				s.VSID, x.lab.NS(routerMachine(x.h, t)), t.MTU(), s.VSID, x.h.PA.Addr()))
			br := bridgeOf(s.VSID)
			config = append(config,
				fmt.Sprintf("link add %s address %s mtu %d type bridge", br, hnv.RouterMAC, t.MTU()),
				fmt.Sprintf("link set vx%s master %s up", s.VSID, br),
				fmt.Sprintf("link set vx%s type bridge_slave learning off neigh_suppress on", s.VSID),
				fmt.Sprintf("link set %s up", br),
				fmt.Sprintf("addr add %s dev %s", netip.PrefixFrom(s.Router(), s.Prefix.Bits()), br))
			if s.Prefix6.IsValid() {
				config = append(config, fmt.Sprintf("addr add %s dev %s nodad", netip.PrefixFrom(s.Router6(), s.Prefix6.Bits()), br))
			}
		}
		config = append(config, "route add default via "+t.GatewayCA.String())
		if err := x.lab.ip(ctx, x.h.Name, vxlans...); err != nil {
			return err
		}
		if err := x.lab.ip(ctx, routerMachine(x.h, t), config...); err != nil {
			return err
		}
		for _, vm := range x.lab.topo.VMs {
			if vm.Host == x.h.Name && vm.Tenant == t.Name {
				if err := x.attach(ctx, vm); err != nil {
					return err
				}
			}
		}
		for _, r := range x.lab.topo.Records(t) {
			if err := x.setRecord(ctx, t, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *vxlanHost) attach(ctx context.Context, vm VM) error {
	return x.lab.ip(ctx, x.portMachine(vm.Tenant),
		fmt.Sprintf("link set %s master %s", vm.Port(), bridgeOf(vm.VSID)),
		fmt.Sprintf("link set %s type bridge_slave learning off", vm.Port()))
}

func (x *vxlanHost) detach(ctx context.Context, vm VM) error {
	return x.lab.ip(ctx, x.portMachine(vm.Tenant), fmt.Sprintf("link set %s nomaster", vm.Port()))
}

// setRecord points the CA at its PA, or at the VM's NIC where the PA is the
// host's own.
func (x *vxlanHost) setRecord(ctx context.Context, t Tenant, r Record) error {
	m := routerMachine(x.h, t)
	port := fmt.Sprintf("vx%s", r.VSID)
	var fdb string
	if r.PA == x.h.PA.Addr() {
		vm, err := x.lab.topo.vmWith(t.Name, r)
		if err != nil {
			return err
		}
		port = vm.Port()
	} else {
		fdb = x.flooding(r) + fmt.Sprintf("fdb replace %s dev %s dst %s self permanent\n", r.MAC, port, r.PA)
	}
	fdb += fmt.Sprintf("fdb replace %s dev %s master static\n", r.MAC, port)
	if _, err := run(ctx, fdb, "bridge", "-n", x.lab.NS(m), "-batch", "-"); err != nil {
		return err
	}
	return x.lab.ip(ctx, m, fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", r.CA, r.MAC, bridgeOf(r.VSID)))
}

// removeRecord forgets where the CA is. The station's entries in the forwarding
// tables are those of its other CAs too.
func (x *vxlanHost) removeRecord(ctx context.Context, t Tenant, r Record) error {
	return x.lab.ip(ctx, routerMachine(x.h, t), fmt.Sprintf("neigh del %s lladdr %s dev %s", r.CA, r.MAC, bridgeOf(r.VSID)))
}

func (t *Topology) vmWith(tenant string, r Record) (VM, error) {
	for _, vm := range t.VMs {
		if vm.Tenant == tenant && vm.VSID == r.VSID && vm.MAC == r.MAC {
			return vm, nil
		}
	}
	return VM{}, fmt.Errorf("no VM of tenant %s in VSID %s has MAC address %s", tenant, r.VSID, r.MAC)
}

func bridgeOf(v hnv.VSID) string { return "br" + v.String() }
