package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) customerRouteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "customer-route", Aliases: []string{"customer-routes"}, Short: "Customer routes: prefixes of a routing domain behind a next hop in it",
		Long: `Customer routes lead a prefix of a routing domain to a next hop in one of its
virtual subnets. The subnets' own prefixes need none. A host leads a tenant
outside by a route 0.0.0.0/0 to the compartment's customer address.`,
	}
	cmd.AddCommand(c.customerRouteAdd(), c.customerRouteList(), c.customerRouteDelete())
	return cmd
}

func customerRouteKey(cmd *cobra.Command, r *v1.CustomerRoute) {
	fl := cmd.Flags()
	fl.Uint32Var(&r.VSID, "vsid", 0, "virtual subnet of the next hop")
	fl.StringVar(&r.Prefix, "prefix", "", "destination prefix")
	fl.StringVar(&r.NextHop, "next-hop", "", "customer address of the next hop")
	require(cmd, "vsid", "prefix", "next-hop")
}

func (c *cli) customerRouteAdd() *cobra.Command {
	var r v1.CustomerRoute
	cmd := &cobra.Command{
		Use: "add --vsid VSID --prefix PREFIX --next-hop CA", Short: "Create a customer route", Args: takesAtMost(0),
		Example: "  gatewayctl customer-route add --vsid 5000 --prefix 0.0.0.0/0 --next-hop 10.254.254.2",
	}
	customerRouteKey(cmd, &r)
	cmd.Flags().Uint32Var(&r.Metric, "metric", 0, "the lowest wins")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		out, err := c.client.CreateCustomerRoute(ctx, r)
		if err != nil {
			return err
		}
		c.say("customer route %s by %s created in VSID %d of tenant %s", out.Prefix, out.NextHop, out.VSID, out.Tenant)
		return nil
	})
	return cmd
}

func (c *cli) customerRouteList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{Use: "list", Short: "List the customer routes", Args: takesAtMost(0), Example: "  gatewayctl customer-route list --tenant contoso"}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only of this tenant")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.CustomerRoutes(ctx, tenant)
		if err != nil {
			return err
		}
		return c.show(v1.CustomerRouteList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "VSID", "PREFIX", "NEXT HOP", "METRIC"}, none: "No customer routes."}
			for _, r := range items {
				t.add(r.Tenant, number(r.VSID), r.Prefix, r.NextHop, number(r.Metric))
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) customerRouteDelete() *cobra.Command {
	var r v1.CustomerRoute
	cmd := &cobra.Command{
		Use: "delete --vsid VSID --prefix PREFIX --next-hop CA", Short: "Delete a customer route", Args: takesAtMost(0),
		Example: "  gatewayctl customer-route delete --vsid 5000 --prefix 0.0.0.0/0 --next-hop 10.254.254.2",
	}
	customerRouteKey(cmd, &r)
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		if err := prefixFlag("--prefix", r.Prefix); err != nil {
			return err
		}
		if err := c.client.DeleteCustomerRoute(ctx, r); err != nil {
			return err
		}
		c.say("customer route %s by %s deleted from VSID %d", r.Prefix, r.NextHop, r.VSID)
		return nil
	})
	return cmd
}

func (c *cli) providerRouteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "provider-route", Aliases: []string{"provider-routes"}, Short: "Provider routes: how provider addresses elsewhere are reached",
	}
	cmd.AddCommand(c.providerRouteAdd(), c.providerRouteList(), c.providerRouteDelete())
	return cmd
}

func (c *cli) providerRouteAdd() *cobra.Command {
	var r v1.ProviderRoute
	cmd := &cobra.Command{
		Use: "add PREFIX --next-hop ROUTER", Short: "Create a provider route", Args: takes("PREFIX"),
		Example: "  gatewayctl provider-route add 192.168.2.0/24 --next-hop 192.168.1.254",
	}
	cmd.Flags().StringVar(&r.NextHop, "next-hop", "", "router on the fabric, on-link to a provider address")
	cmd.Flags().Uint32Var(&r.Metric, "metric", 0, "the lowest wins")
	require(cmd, "next-hop")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		r.Prefix = args[0]
		out, err := c.client.CreateProviderRoute(ctx, r)
		if err != nil {
			return err
		}
		c.say("provider route %s by %s created", out.Prefix, out.NextHop)
		return nil
	})
	return cmd
}

func (c *cli) providerRouteList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the provider routes", Args: takesAtMost(0), Example: "  gatewayctl provider-route list"}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.ProviderRoutes(ctx)
		if err != nil {
			return err
		}
		return c.show(v1.ProviderRouteList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"PREFIX", "NEXT HOP", "METRIC"}, none: "No provider routes."}
			for _, r := range items {
				t.add(r.Prefix, r.NextHop, number(r.Metric))
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) providerRouteDelete() *cobra.Command {
	var nextHop string
	cmd := &cobra.Command{
		Use: "delete PREFIX [--next-hop ROUTER]", Short: "Delete a provider route", Args: takes("PREFIX"),
		Long:    "Delete a provider route. The next hop may be left out where the prefix has only one.",
		Example: "  gatewayctl provider-route delete 192.168.2.0/24",
	}
	cmd.Flags().StringVar(&nextHop, "next-hop", "", "router on the fabric")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		r := v1.ProviderRoute{Prefix: args[0], NextHop: nextHop}
		if err := prefixFlag("PREFIX", r.Prefix); err != nil {
			return err
		}
		if nextHop == "" {
			if err := c.onlyNextHop(ctx, &r); err != nil {
				return err
			}
		}
		if err := c.client.DeleteProviderRoute(ctx, r); err != nil {
			return err
		}
		c.say("provider route %s by %s deleted", r.Prefix, r.NextHop)
		return nil
	})
	return cmd
}

// onlyNextHop finds the next hop of a prefix that has one.
func (c *cli) onlyNextHop(ctx context.Context, r *v1.ProviderRoute) error {
	items, err := c.client.ProviderRoutes(ctx)
	if err != nil {
		return err
	}
	for _, o := range items {
		if o.Prefix != r.Prefix {
			continue
		}
		if r.NextHop != "" {
			return usagef("provider route %s has several next hops: name one with --next-hop", r.Prefix)
		}
		r.NextHop = o.NextHop
	}
	if r.NextHop == "" {
		return fmt.Errorf("provider route %s does not exist", r.Prefix)
	}
	return nil
}
