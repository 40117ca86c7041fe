package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/hnvgate/hnvgate/test/lab"
)

func list(out io.Writer, l *lab.Lab) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, address, what string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, l.NS(name), address, what)
	}
	t := l.Topology()
	fmt.Fprintln(w, "MACHINE\tNAMESPACE\tADDRESS\tWHAT")
	for _, s := range t.Fabric {
		row("fab", s.Router.String(), "router of the provider fabric, subnet "+s.Name)
	}
	if g := t.Gateway; g != nil {
		row(g.Name, g.PA.String(), "the gateway; outside "+g.External.String()+", management "+g.Management.String())
		row("inet", g.Service.String(), "the Internet: web server, UDP echo, streams, iperf3")
		row("mgmt", g.Manager.String(), "the management network")
	}
	for _, h := range t.Hosts {
		row(h.Name, h.PA.String(), "tenant host by "+string(h.Implementation))
	}
	if t.Rogue != nil {
		row(t.Rogue.Name, t.Rogue.PA.String(), "on the fabric, but no tenant host")
	}
	for _, vm := range t.VMs {
		row(vm.Name, vm.CA.String(), fmt.Sprintf("VM of %s in VSID %s on host %s", vm.Tenant, vm.VSID, vm.Host))
	}
	for _, s := range t.Sites {
		row(s.Name, s.LAN.String(), fmt.Sprintf("router of a site of %s, AS %d, by %s", s.Tenant, s.ASN, s.Speaker))
		row(s.Host(), s.HostAddr().String(), "machine at the site")
	}
	return w.Flush()
}
