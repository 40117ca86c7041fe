package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) pathCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "path TENANT DST", Short: "Tell which way packets of a tenant leave its compartment, and why", Args: takes("TENANT", "DST"),
		Long: `Tell which way packets of a tenant to a destination leave its compartment, and why:
into the virtual network, to the uplink by NAT, over an attachment, or through a
site-to-site connection. The most specific route decides; of several of one prefix
the one with the lowest metric. The routes that match too are told, with what stands
against each.

How packets come to the compartment is told by 'gatewayctl nexthop', and what the
layers of a port do with them by 'gatewayctl trace'.`,
		Example: `  gatewayctl path contoso 172.16.5.9
  gatewayctl path contoso 198.51.100.10 --from 10.1.1.11`,
		ValidArgsFunction: c.completeTenants,
	}
	cmd.Flags().StringVar(&from, "from", "", "source address (default any of the virtual network)")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		x, err := c.client.Path(ctx, args[0], v1.PathQuery{Dst: args[1], Src: from})
		if err != nil {
			return err
		}
		return c.show(x, func(w io.Writer) { writePath(w, x) })
	})
	return c.shows(cmd)
}

// viaWords says a way out.
func viaWords(x v1.PathExplanation) string {
	switch x.Via {
	case v1.ViaOverlay:
		return "the virtual network"
	case v1.ViaNAT:
		return "uplink " + x.Through + ", by NAT"
	case v1.ViaForward:
		return "attachment " + x.Through
	case v1.ViaS2S:
		return "site-to-site connection " + x.Through
	case v1.ViaLocal:
		return "the compartment itself"
	case v1.ViaBlackhole:
		return "nowhere: a route refuses it"
	}
	return "nowhere"
}

func writePath(w io.Writer, x v1.PathExplanation) {
	var f facts
	f.add("Destination", x.Dst)
	if x.Src != "" {
		f.add("Source", x.Src)
	}
	f.add("Goes", viaWords(x))
	f.add("Because", x.Reason)
	if x.Translated != "" {
		f.add("Translated", x.Translated)
	}
	f.add("MTU", count(x.MTU))
	f.write(w)
	fmt.Fprintln(w)
	t := table{header: []string{"ROUTE", "VIA", "INTERFACE", "FROM", "METRIC", "TAKEN"}, none: "No route leads there."}
	add := func(r v1.PathRoute, taken string) {
		var hops, links []string
		for _, h := range r.NextHops {
			hop := h.Address
			if h.Weight > 1 {
				hop += fmt.Sprintf(" (weight %d)", h.Weight)
			}
			if hop != "" {
				hops = append(hops, hop)
			}
			links = append(links, h.Interface)
		}
		if r.Type != "" {
			hops = append(hops, r.Type)
		}
		t.add(r.Prefix, strings.Join(hops, ","), strings.Join(links, ","), r.From, count(r.Metric), taken)
	}
	if x.Route != nil {
		add(*x.Route, "yes")
	}
	for _, r := range x.Others {
		add(r, "no: "+r.Why)
	}
	t.write(w)
}
