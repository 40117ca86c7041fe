package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// SetRecord changes one lookup record on one host, as a datacenter controller
// would.
func (l *Lab) SetRecord(ctx context.Context, machine, tenant string, r Record) error {
	t, err := l.topo.Tenant(tenant)
	if err != nil {
		return err
	}
	h, ok := l.hosts[machine]
	if !ok {
		return fmt.Errorf("set record: the lab has no host %q", machine)
	}
	if err := h.setRecord(ctx, t, r); err != nil {
		return fmt.Errorf("host %s: set record %s of VSID %s: %w", machine, r.CA, r.VSID, err)
	}
	return nil
}

// PortSettings are what an operator gives the port of a VM on a host that runs
// gatewayd. They go with the VM from host to host.
type PortSettings struct {
	ACL             string // "": the virtual subnet's
	InKbps, OutKbps uint64 // 0: unlimited
}

// SetPort changes the settings of the VM's port, on the host where it is.
func (l *Lab) SetPort(ctx context.Context, name string, s PortSettings) error {
	vm, err := l.topo.VM(name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.ports[name] = s
	host := l.where[name]
	l.mu.Unlock()
	set := append([]string{"port", "set", vm.Port()}, s.flags()...)
	if s.ACL == "" {
		set = append(set, "--no-acl")
	}
	_, err = l.Ctl(ctx, host, set...)
	return err
}

func (s PortSettings) flags() []string {
	out := []string{"--in-kbps", strconv.FormatUint(s.InKbps, 10), "--out-kbps", strconv.FormatUint(s.OutKbps, 10)}
	if s.ACL != "" {
		out = append(out, "--acl", s.ACL)
	}
	return out
}

// RemoveRecord makes a host forget a CA.
func (l *Lab) RemoveRecord(ctx context.Context, machine, tenant string, r Record) error {
	t, err := l.topo.Tenant(tenant)
	if err != nil {
		return err
	}
	h, ok := l.hosts[machine]
	if !ok {
		return fmt.Errorf("remove record: the lab has no host %q", machine)
	}
	if err := h.removeRecord(ctx, t, r); err != nil {
		return fmt.Errorf("host %s: remove record %s of VSID %s: %w", machine, r.CA, r.VSID, err)
	}
	return nil
}

// Migrate moves the VM to another host, as a live migration's last step does:
// its NIC leaves one host and appears on the other, and every host of the
// tenant, and the gateway, get the new record.
func (l *Lab) Migrate(ctx context.Context, name, to string) error {
	if l.Where(name) == to {
		return nil
	}
	if err := l.Move(ctx, name, to); err != nil {
		return err
	}
	vm, err := l.topo.VM(name)
	if err != nil {
		return err
	}
	tenant, err := l.topo.Tenant(vm.Tenant)
	if err != nil {
		return err
	}
	for _, r := range l.RecordsOf(vm) {
		if err := l.announce(ctx, tenant, r); err != nil {
			return err
		}
	}
	return nil
}

// RecordsOf gives the VM's records, where it is now.
func (l *Lab) RecordsOf(vm VM) []Record {
	h, err := l.topo.Host(l.Where(vm.Name))
	if err != nil {
		return nil // no VM of the lab
	}
	return vm.records(h.PA.Addr())
}

// Move takes the VM's NIC from its host to another one, and tells nobody.
func (l *Lab) Move(ctx context.Context, name, to string) error {
	vm, err := l.topo.VM(name)
	if err != nil {
		return err
	}
	tenant, err := l.topo.Tenant(vm.Tenant)
	if err != nil {
		return err
	}
	target, err := l.topo.Host(to)
	if err != nil {
		return err
	}
	if err := target.carries(tenant); err != nil {
		return err
	}
	from := l.Where(name)
	old, dst := l.hosts[from], l.hosts[to]
	if err := old.detach(ctx, vm); err != nil {
		return fmt.Errorf("move %s: leave %s: %w", name, from, err)
	}
	err = l.ip(ctx, old.portMachine(vm.Tenant), fmt.Sprintf("link set %s netns %s", vm.Port(), l.NS(dst.portMachine(vm.Tenant))))
	if err == nil {
		err = l.ip(ctx, dst.portMachine(vm.Tenant), fmt.Sprintf("link set %s up", vm.Port()))
	}
	if err == nil && old.offloads() != dst.offloads() {
		err = l.setOffloads(ctx, vm, dst)
	}
	if err == nil {
		err = dst.attach(ctx, vm)
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", name, to, err)
	}
	l.mu.Lock()
	l.where[name] = to
	l.mu.Unlock()
	return nil
}

// announce gives the record to everyone who has records of the tenant.
func (l *Lab) announce(ctx context.Context, tenant Tenant, r Record) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.topo.Hosts {
		if h.carries(tenant) == nil {
			g.Go(func() error { return l.SetRecord(ctx, h.Name, tenant.Name, r) })
		}
	}
	if gw := l.topo.Gateway; gw != nil {
		g.Go(func() error { return l.moveRecord(ctx, gw.Name, r) })
	}
	return g.Wait()
}

func (l *Lab) setOffloads(ctx context.Context, vm VM, h host) error {
	state := "off"
	if h.offloads() {
		state = "on"
	}
	for _, e := range []struct{ machine, link string }{{vm.Name, "eth0"}, {h.portMachine(vm.Tenant), vm.Port()}} {
		if _, err := l.Exec(ctx, e.machine, "ethtool", "-K", e.link, "tx", state); err != nil {
			return err
		}
	}
	return nil
}

// VMs gives the tenant's VMs by name.
func (l *Lab) VMs(tenant string) []VM {
	return slices.DeleteFunc(slices.Clone(l.topo.VMs), func(v VM) bool { return v.Tenant != tenant })
}
