package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

const (
	patience = 30 * time.Second // for what must happen
	silence  = time.Second      // for what must not
)

// traffic tries everything and puts the results into the table.
func (d *demo) traffic(ctx context.Context) {
	for _, t := range d.lab.Topology().Tenants {
		d.internet(ctx, t)
	}
	for _, m := range d.lab.Mappings() {
		d.mapping(ctx, m)
	}
	for _, t := range d.lab.Topology().Tenants {
		d.overlay(ctx, t)
	}
	for _, t := range d.lab.Topology().Tenants {
		d.isolation(ctx, t)
	}
	d.toSites(ctx)
	d.migration(ctx)
	d.kill(ctx)
}

// try fills in a row by calling f and puts it into the table.
func (d *demo) try(r row, f func(*row) error) {
	r.err = f(&r)
	d.table.add(r)
	mark := "ok  "
	if r.err != nil {
		mark = "FAIL"
	}
	d.say("  %s %s, %s to %s", mark, r.what, r.from, r.to)
}

func (d *demo) internet(ctx context.Context, t lab.Tenant) {
	inet := d.lab.Topology().Gateway.Service
	seen := func(r *row, id service.Identity, err error) error {
		if err == nil && !strings.HasPrefix(id.Peer, t.External.String()+":") {
			err = fmt.Errorf("the Internet sees %s instead of %s", id.Peer, t.External)
		}
		r.result = "seen as " + t.External.String()
		return err
	}
	for _, vm := range d.lab.VMs(t.Name) {
		base := row{tenant: t.Name, encap: string(t.Encap), from: d.on(vm), to: "Internet"}
		base.what = "ping"
		d.try(base, func(r *row) error {
			r.result = "answered"
			return d.lab.Ping(ctx, vm.Name, inet, patience)
		})
		base.what = "web page"
		d.try(base, func(r *row) error {
			id, err := d.lab.Get(ctx, vm.Name, netip.AddrPortFrom(inet, service.HTTPPort), 0, patience)
			return seen(r, id, err)
		})
		base.what = "UDP echo"
		d.try(base, func(r *row) error {
			id, err := d.lab.Echo(ctx, vm.Name, netip.AddrPortFrom(inet, service.EchoPort), 0, 1000, patience)
			return seen(r, id, err)
		})
	}
	vm := d.lab.VMs(t.Name)[0]
	for _, dir := range []string{"upload", "download"} {
		d.try(row{what: "iperf3 " + dir, tenant: t.Name, encap: string(t.Encap), from: d.on(vm), to: "Internet"}, func(r *row) error {
			r.result = "through NAT"
			return d.iperf(ctx, r, vm.Name, inet, dir == "download")
		})
	}
}

// on names a VM with its host.
func (d *demo) on(vm lab.VM) string {
	return fmt.Sprintf("%s %s@%s", vm.Name, vm.CA, d.lab.Where(vm.Name))
}

// busyServer is what iperf3 says to whoever comes while its server, which has one
// client at a time, is between two of them.
const busyServer = "unable to receive control message"

func (d *demo) iperf(ctx context.Context, r *row, from string, to netip.Addr, reverse bool) error {
	var err error
	for range 5 {
		if err = d.iperfOnce(ctx, r, from, to, reverse); err == nil || !strings.Contains(err.Error(), busyServer) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	return err
}

func (d *demo) iperfOnce(ctx context.Context, r *row, from string, to netip.Addr, reverse bool) error {
	argv := []string{"iperf3", "-J", "-t", "2", "-c", to.String(), "--connect-timeout", "10000"}
	if reverse {
		argv = append(argv, "-R")
	}
	out, err := d.lab.Exec(ctx, from, argv...)
	if err != nil {
		return err
	}
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return fmt.Errorf("iperf3's report: %w", err)
	}
	if report.End.Received.Rate == 0 {
		return fmt.Errorf("iperf3 connected, but nothing was received: %s", out)
	}
	r.rate = bits(report.End.Received.Rate)
	return nil
}

func bits(rate float64) string {
	if rate >= 1e9 {
		return fmt.Sprintf("%.2f Gbit/s", rate/1e9)
	}
	return fmt.Sprintf("%.0f Mbit/s", rate/1e6)
}

func (d *demo) mapping(ctx context.Context, m lab.Mapping) {
	t, err := d.lab.Topology().Tenant(m.Tenant)
	r := row{what: "static mapping", tenant: m.Tenant, encap: string(t.Encap), from: "Internet", to: m.External.String()}
	d.try(r, func(r *row) error {
		if err != nil {
			return err
		}
		r.result = fmt.Sprintf("%s answers", m.VM)
		id, err := d.lab.Get(ctx, "inet", m.External, 0, patience)
		if err == nil && id.Name != m.VM {
			err = fmt.Errorf("%s answers", id.Name)
		}
		return err
	})
}

// overlay goes from the tenant's first VM to all its others.
func (d *demo) overlay(ctx context.Context, t lab.Tenant) {
	vms := d.lab.VMs(t.Name)
	for _, to := range vms[1:] {
		what := "VM to VM, same VSID"
		if to.VSID != vms[0].VSID {
			what = "VM to VM, other VSID"
		}
		d.try(row{what: what, tenant: t.Name, encap: string(t.Encap), from: d.on(vms[0]), to: d.on(to)}, func(r *row) error {
			id, err := d.lab.Get(ctx, vms[0].Name, netip.AddrPortFrom(to.CA, service.HTTPPort), 0, patience)
			if err == nil && id.Name != to.Name {
				err = fmt.Errorf("%s answers", id.Name)
			}
			r.result = to.Name + " answers"
			if err != nil {
				return err
			}
			s, err := d.lab.StartStream(vms[0].Name, to.CA, service.StreamRequest{Direction: service.Down, Bytes: 32 << 20})
			if err != nil {
				return err
			}
			report, err := s.Wait(ctx)
			r.rate = bits(float64(report.Bytes) * 8 / report.Elapsed.Seconds())
			return err
		})
	}
}

// isolation tries what must not work.
func (d *demo) isolation(ctx context.Context, t lab.Tenant) {
	g := d.lab.Topology().Gateway
	from := d.lab.VMs(t.Name)[0]
	for _, c := range []struct {
		what string
		to   netip.Addr
	}{
		{"the fabric's router", d.lab.Topology().Fabric[0].Router.Addr()},
		{"the gateway's PA", g.PA.Addr()},
		{"the management side", g.Manager},
	} {
		d.try(row{what: "isolation", tenant: t.Name, encap: string(t.Encap), from: d.on(from), to: c.what}, func(r *row) error {
			r.result = "out of reach"
			if err := d.lab.Ping(ctx, from.Name, c.to, silence); err == nil {
				return fmt.Errorf("%s answers", c.to)
			}
			return nil
		})
	}
}

// migration moves a VM to another host while it downloads.
func (d *demo) migration(ctx context.Context) {
	for _, c := range []struct{ vm, to string }{{"c11", "h2"}, {"f11", "h4"}} {
		vm, err := d.lab.Topology().VM(c.vm)
		if err != nil {
			d.table.add(row{what: "live migration", err: err})
			continue
		}
		home := d.lab.Where(c.vm)
		d.during(ctx, row{what: "live migration to " + c.to, from: d.on(vm)}, vm, func() error {
			return d.lab.Migrate(ctx, c.vm, c.to)
		})
		if err := d.lab.Migrate(ctx, c.vm, home); err != nil {
			d.table.add(row{what: "live migration back", from: c.to, to: home, err: err})
		}
	}
}

// kill ends gatewayd on the gateway with SIGKILL while a VM downloads.
func (d *demo) kill(ctx context.Context) {
	for _, name := range []string{"c12", "f12"} {
		vm, err := d.lab.Topology().VM(name)
		if err != nil {
			d.table.add(row{what: "kill -9", err: err})
			continue
		}
		d.during(ctx, row{what: "gatewayd killed (-9), restarted", from: d.on(vm)}, vm, func() error {
			d.command("gw", []string{"kill", "-9", fmt.Sprint(d.lab.Daemon("gw").PID())})
			if err := d.lab.KillGatewayd(ctx, "gw"); err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond)
			_, err := d.lab.StartGatewayd(ctx, "gw")
			return err
		})
	}
}

// during runs event in the middle of a download from the Internet, whose every
// byte is checked.
func (d *demo) during(ctx context.Context, r row, vm lab.VM, event func() error) {
	t, err := d.lab.Topology().Tenant(vm.Tenant)
	r.tenant, r.encap, r.to = t.Name, string(t.Encap), "Internet"
	d.try(r, func(r *row) error {
		if err != nil {
			return err
		}
		const rate = 4 << 20
		s, err := d.lab.StartStream(vm.Name, d.lab.Topology().Gateway.Service, service.StreamRequest{Direction: service.Down, Bytes: 4 * rate, Rate: rate})
		if err != nil {
			return err
		}
		defer s.Stop()
		ctx, cancel := context.WithTimeout(ctx, 2*patience)
		defer cancel()
		if err := s.Passed(ctx, rate); err != nil {
			return err
		}
		if err := event(); err != nil {
			return err
		}
		report, err := s.Wait(ctx)
		r.result = fmt.Sprintf("%d MB whole, longest pause %v", report.Bytes>>20, report.Longest.Round(10*time.Millisecond))
		r.rate = bits(float64(report.Bytes) * 8 / report.Elapsed.Seconds())
		return err
	})
}
