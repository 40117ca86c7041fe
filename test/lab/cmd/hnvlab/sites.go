package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// The sites of the demonstration: contoso's headquarters, with two tunnels to a
// router that runs FRR, and fabrikam's network in the datacenter, behind one that
// runs BIRD.
var demoSites = []string{"chq", "fdc"}

// sites has the gateway reach the tenants' own sites.
func (d *demo) sites(ctx context.Context) error {
	d.say("\nStarting the routers of two sites: contoso's headquarters, which runs FRR and has")
	d.say("two ways to the Internet, and fabrikam's network in the datacenter, which runs BIRD.")
	if err := d.lab.StartSites(ctx, demoSites...); err != nil {
		return err
	}
	for _, name := range demoSites {
		s, err := d.lab.Topology().Site(name)
		if err != nil {
			return err
		}
		if _, err := d.lab.Start(s.Host(), "iperf3-"+s.Host(), "iperf3", "-s"); err != nil {
			return err
		}
	}
	doc, err := d.lab.SitesDocument(demoSites...)
	if err != nil {
		return err
	}
	text, err := lab.DocumentText(doc)
	if err != nil {
		return err
	}
	d.say("The gateway gets two tunnels for contoso, a foot in the datacenter's network for")
	d.say("fabrikam, and BGP over all of them:")
	d.indent(text)
	if err := d.lab.Apply(ctx, d.lab.Topology().Gateway.Name, "sites.yaml", doc); err != nil {
		return err
	}
	if err := d.lab.ConnectSites(ctx, demoSites...); err != nil {
		return err
	}
	return d.lab.Ready(ctx, d.lab.Topology().Gateway.Name)
}

// toSites goes to the sites and back, and cuts a tunnel.
func (d *demo) toSites(ctx context.Context) {
	for _, name := range demoSites {
		s, err := d.lab.Topology().Site(name)
		if err != nil {
			d.table.add(row{what: "site", to: name, err: err})
			continue
		}
		d.site(ctx, s)
	}
	if s, err := d.lab.Topology().Site(demoSites[0]); err == nil {
		d.cut(ctx, s)
	}
}

// by says how packets get to the site.
func by(s lab.Site) string {
	if s.Link != nil {
		return "forwarded, BGP by " + string(s.Speaker)
	}
	return "WireGuard, BGP by " + string(s.Speaker)
}

func (d *demo) site(ctx context.Context, s lab.Site) {
	t, err := d.lab.Topology().Tenant(s.Tenant)
	if err != nil {
		d.table.add(row{what: "site", to: s.Name, err: err})
		return
	}
	vm := d.lab.VMs(s.Tenant)[0]
	base := row{tenant: t.Name, encap: string(t.Encap), from: d.on(vm), to: s.Host() + " " + s.HostAddr().String()}
	back := row{tenant: t.Name, encap: string(t.Encap), from: base.to, to: base.from}
	for _, x := range []struct {
		row        row
		from, want string
		to, seen   netip.Addr
	}{{base, vm.Name, s.Host(), s.HostAddr(), vm.CA}, {back, s.Host(), vm.Name, vm.CA, s.HostAddr()}} {
		x.row.what = "web page, " + by(s)
		d.try(x.row, func(r *row) error {
			id, err := d.lab.Get(ctx, x.from, netip.AddrPortFrom(x.to, service.HTTPPort), 0, patience)
			r.result = fmt.Sprintf("%s sees %s", x.want, x.seen)
			if err == nil && (id.Name != x.want || !strings.HasPrefix(id.Peer, x.seen.String()+":")) {
				err = fmt.Errorf("%s answers and sees %s", id.Name, id.Peer)
			}
			return err
		})
	}
	for _, dir := range []string{"upload", "download"} {
		base.what = "iperf3 " + dir
		d.try(base, func(r *row) error {
			r.result = by(s)
			return d.iperf(ctx, r, vm.Name, s.HostAddr(), dir == "download")
		})
	}
}

// cut lets nothing through one tunnel any more, without a sign, while a VM downloads
// through it.
func (d *demo) cut(ctx context.Context, s lab.Site) {
	vm := d.lab.VMs(s.Tenant)[0]
	t, err := d.lab.Topology().Tenant(s.Tenant)
	d.try(row{what: "tunnel 1 of 2 cut", tenant: t.Name, encap: string(t.Encap), from: d.on(vm), to: s.Host()}, func(r *row) error {
		if err != nil {
			return err
		}
		const rate = 4 << 20
		stream, err := d.lab.StartStream(vm.Name, s.HostAddr(), service.StreamRequest{Direction: service.Down, Bytes: 4 * rate, Rate: rate})
		if err != nil {
			return err
		}
		defer stream.Stop()
		ctx, cancel := context.WithTimeout(ctx, 2*patience)
		defer cancel()
		if err := stream.Passed(ctx, rate); err != nil {
			return err
		}
		if err := d.lab.Cut(ctx, s.Name, 0); err != nil {
			return err
		}
		report, err := stream.Wait(ctx)
		r.result = fmt.Sprintf("connection goes on after %d ms", report.Longest/time.Millisecond)
		r.rate = bits(float64(report.Bytes) * 8 / report.Elapsed.Seconds())
		if mend := d.lab.Mend(ctx, s.Name, 0); err == nil {
			err = mend
		}
		return err
	})
}
