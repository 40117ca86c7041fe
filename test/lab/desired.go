package lab

import (
	"context"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Mapping is a static mapping that GatewayCommands configures.
type Mapping struct {
	Tenant   string
	External netip.AddrPort
	VM       string
	Port     uint16 // of the VM
}

// Mappings gives the static mappings of the lab: for each tenant one to a VM
// on an independent host and one to a VM on a host that runs gatewayd.
func (l *Lab) Mappings() []Mapping {
	var out []Mapping
	for _, t := range l.topo.Tenants {
		var port uint16 = 8080
		for _, host := range []bool{false, true} { // whether it runs gatewayd
			for _, vm := range l.VMs(t.Name) {
				h, err := l.topo.Host(vm.Host)
				if err == nil && (h.Implementation == Gatewayd) == host {
					out = append(out, Mapping{t.Name, netip.AddrPortFrom(t.External, port), vm.Name, 80})
					port++
					break
				}
			}
		}
	}
	return out
}

// GatewayCommands gives what an operator types, as arguments of gatewayctl, to
// make the gateway serve the lab's tenants.
func (l *Lab) GatewayCommands() ([][]string, error) {
	g := l.topo.Gateway
	subnet, err := l.topo.paSubnet(g.PA.Addr())
	if err != nil {
		return nil, err
	}
	out := [][]string{
		{"provider-address", "add", g.PA.String(), "--interface", "pa0"},
		{"provider-route", "add", fabricPrefix, "--next-hop", subnet.Router.Addr().String()},
	}
	for _, t := range l.topo.Tenants {
		add := []string{"tenant", "add", t.Name, "--rdid", t.RDID.String(), "--encap", string(t.Encap)}
		for _, s := range t.Subnets {
			flag := "--subnet"
			if s.VSID == t.GatewayVSID {
				flag = "--gateway-subnet"
			}
			add = append(add, flag, s.VSID.String()+"="+strings.Join(s.prefixes(), ","))
		}
		add = append(add, "--gateway-ca", t.GatewayCA.String(), "--uplink", Uplink, "--nat", t.External.String())
		out = append(out, add)
	}
	for _, vm := range l.topo.VMs {
		h, err := l.topo.Host(vm.Host)
		if err != nil {
			return nil, err
		}
		for _, r := range vm.records(h.PA.Addr()) {
			out = append(out, []string{"record", "add", "--vsid", r.VSID.String(), "--ca", r.CA.String(),
				"--mac", r.MAC.String(), "--pa", r.PA.String(), "--vm-name", vm.Name})
		}
	}
	for _, m := range l.Mappings() {
		vm, err := l.topo.VM(m.VM)
		if err != nil {
			return nil, err
		}
		out = append(out, []string{"nat", "mapping", "add", m.Tenant, "--proto", "tcp",
			"--external", m.External.String(), "--internal", netip.AddrPortFrom(vm.CA, m.Port).String()})
	}
	return out, nil
}

// HostDocument gives what a datacenter controller tells a host that runs
// gatewayd: its address and route on the fabric, the tenants, where their CAs
// are, the way to their gateways, and the ports of its own VMs.
func (l *Lab) HostDocument(machine string) (v1.Document, error) {
	h, err := l.topo.Host(machine)
	if err != nil {
		return v1.Document{}, err
	}
	subnet, err := l.topo.paSubnet(h.PA.Addr())
	if err != nil {
		return v1.Document{}, err
	}
	doc := v1.Document{
		APIVersion:     v1.APIVersion,
		ProviderRoutes: []v1.ProviderRoute{{Prefix: fabricPrefix, NextHop: subnet.Router.Addr().String()}},
	}
	for _, link := range h.paLinks() {
		doc.ProviderAddresses = append(doc.ProviderAddresses, v1.ProviderAddress{Address: link.pa.String(), Interface: link.name})
	}
	for _, t := range l.topo.Tenants {
		tenant := v1.Tenant{Name: t.Name, RDID: t.RDID.String(), Encap: string(t.Encap)}
		for _, s := range t.Subnets {
			tenant.Subnets = append(tenant.Subnets, v1.Subnet{VSID: s.VSID.Uint32(), Prefixes: s.prefixes()})
		}
		doc.Tenants = append(doc.Tenants, tenant)
		doc.CustomerRoutes = append(doc.CustomerRoutes, v1.CustomerRoute{
			VSID: t.GatewayVSID.Uint32(), Prefix: "0.0.0.0/0", NextHop: t.GatewayCA.String(),
		})
		for _, r := range l.topo.Records(t) {
			doc.LookupRecords = append(doc.LookupRecords, lookupRecord(r))
		}
	}
	for _, vm := range l.topo.VMs {
		if l.Where(vm.Name) == machine {
			doc.Ports = append(doc.Ports, v1.Port{Interface: vm.Port(), VSID: vm.VSID.Uint32(), MAC: vm.MAC.String()})
		}
	}
	return doc, nil
}

func (s Subnet) prefixes() []string {
	out := []string{s.Prefix.String()}
	if s.Prefix6.IsValid() {
		out = append(out, s.Prefix6.String())
	}
	return out
}

func lookupRecord(r Record) v1.LookupRecord {
	return v1.LookupRecord{VSID: r.VSID.Uint32(), CA: r.CA.String(), MAC: r.MAC.String(), PA: r.PA.String()}
}

// ConfigureGateway gives the commands of GatewayCommands and waits until they
// have taken effect.
func (l *Lab) ConfigureGateway(ctx context.Context) error {
	commands, err := l.GatewayCommands()
	if err != nil {
		return err
	}
	for _, c := range commands {
		if _, err := l.Ctl(ctx, l.topo.Gateway.Name, c...); err != nil {
			return err
		}
	}
	return l.Ready(ctx, l.topo.Gateway.Name)
}

// StartHosts starts gatewayd on every host that runs it, with its document.
func (l *Lab) StartHosts(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.topo.Hosts {
		if h.Implementation != Gatewayd {
			continue
		}
		g.Go(func() error {
			if _, err := l.StartGatewayd(ctx, h.Name); err != nil {
				return err
			}
			doc, err := l.HostDocument(h.Name)
			if err != nil {
				return err
			}
			if err := l.Apply(ctx, h.Name, "host.yaml", doc); err != nil {
				return err
			}
			return l.Ready(ctx, h.Name)
		})
	}
	return g.Wait()
}

// hnvHost is a host that runs gatewayd.
type hnvHost struct {
	lab *Lab
	h   Host
}

func (n *hnvHost) portMachine(string) string { return n.h.Name }
func (n *hnvHost) offloads() bool            { return true }

// up leaves the host bare: what it is comes with StartHosts.
func (n *hnvHost) up(context.Context) error { return nil }

func (n *hnvHost) attach(ctx context.Context, vm VM) error {
	add := []string{"port", "add", "--interface", vm.Port(), "--vsid", vm.VSID.String(), "--mac", vm.MAC.String()}
	n.lab.mu.Lock()
	settings, ok := n.lab.ports[vm.Name]
	n.lab.mu.Unlock()
	if ok {
		add = append(add, settings.flags()...)
	}
	_, err := n.lab.Ctl(ctx, n.h.Name, add...)
	return err
}

func (n *hnvHost) detach(ctx context.Context, vm VM) error {
	_, err := n.lab.Ctl(ctx, n.h.Name, "port", "delete", vm.Port())
	return err
}

func (n *hnvHost) setRecord(ctx context.Context, _ Tenant, r Record) error {
	return n.lab.moveRecord(ctx, n.h.Name, r)
}

func (n *hnvHost) removeRecord(ctx context.Context, _ Tenant, r Record) error {
	_, err := n.lab.Ctl(ctx, n.h.Name, "record", "delete", "--vsid", r.VSID.String(), "--ca", r.CA.String())
	return err
}

// moveRecord changes the record of the CA.
func (l *Lab) moveRecord(ctx context.Context, machine string, r Record) error {
	_, err := l.Ctl(ctx, machine, "record", "set", "--vsid", r.VSID.String(), "--ca", r.CA.String(),
		"--mac", r.MAC.String(), "--pa", r.PA.String())
	return err
}
