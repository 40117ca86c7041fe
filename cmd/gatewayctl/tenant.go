package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) tenantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tenant", Aliases: []string{"tenants"}, Short: "Tenants: routing domains with their virtual subnets and gateways"}
	cmd.AddCommand(c.tenantAdd(), c.tenantSet(), c.tenantList(), c.tenantShow(), c.tenantDelete())
	return cmd
}

func (c *cli) tenantAdd() *cobra.Command {
	f := tenantFlags{adding: true}
	cmd := &cobra.Command{
		Use:   "add NAME --encap nvgre|vxlan --subnet VSID=PREFIX...",
		Short: "Create a tenant",
		Long: `Create a tenant.

A subnet is written VSID=PREFIX; several prefixes are separated by commas, and
the distributed router's address may follow each after an @ (otherwise it is the
lowest usable one):  5001=10.1.1.0/24@10.1.1.254,fd00:1::/64

With --gateway-subnet this machine becomes the tenant's gateway: a compartment
is made that lives in that subnet and leads to the uplink, through NAT where
--nat gives external addresses. Without it the tenant is only hosted here.`,
		Example: `  gatewayctl tenant add contoso --encap nvgre --subnet 5001=10.1.1.0/24 --subnet 5002=10.1.2.0/24 \
      --gateway-subnet 5000=10.254.254.0/29 --gateway-ca 10.254.254.2 --uplink internet --nat 203.0.113.10

  # two tenants that share an external address by its ports
  gatewayctl tenant add fabrikam --encap vxlan --subnet 6001=10.1.1.0/24 \
      --gateway-subnet 6000=10.254.254.0/29 --uplink internet --nat 203.0.113.11:20000-29999

  # hosted here, its gateway is elsewhere
  gatewayctl tenant add litware --encap vxlan --subnet 7001=10.7.0.0/16`,
		Args: takes("NAME"),
	}
	f.common(cmd)
	cmd.Flags().StringVar(&f.rdid, "rdid", "", "routing domain ID, a GUID (default: drawn)")
	_ = cmd.MarkFlagRequired("encap")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		t := v1.Tenant{Name: args[0], RDID: f.rdid}
		if err := f.change(cmd, &t); err != nil {
			return err
		}
		t, err := c.client.CreateTenant(ctx, t)
		if err != nil {
			return err
		}
		c.say("tenant %s created: %s", t.Name, tenantWords(t))
		return nil
	})
	return cmd
}

func (c *cli) tenantSet() *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "set NAME [flags]",
		Short: "Change a tenant",
		Long: `Change a tenant: what no flag names stays.

--subnet adds a virtual subnet, or gives the one with that VSID new prefixes;
--nat replaces all external addresses. 'gatewayctl subnet set' changes what else
holds for a virtual subnet.`,
		Example: `  gatewayctl tenant set contoso --subnet 5003=10.1.3.0/24
  gatewayctl tenant set contoso --remove-subnet 5002
  gatewayctl tenant set contoso --nat 203.0.113.10 --nat 203.0.113.12:1024-9999
  gatewayctl tenant set contoso --in-kbps 1000000 --out-kbps 500000 --dscp copy
  gatewayctl tenant set contoso --in-kbps 0 --storm-pps 200
  gatewayctl tenant set contoso --no-gateway`,
		Args: takes("NAME"), ValidArgsFunction: c.completeTenants,
	}
	f.common(cmd)
	fl := cmd.Flags()
	fl.UintSliceVar(&f.remove, "remove-subnet", nil, "VSID of a virtual subnet to take away (repeatable)")
	fl.BoolVar(&f.noNAT, "no-nat", false, "stop translating addresses")
	fl.BoolVar(&f.noGateway, "no-gateway", false, "stop being the tenant's gateway; its subnet stays")
	cmd.MarkFlagsMutuallyExclusive("nat", "no-nat", "no-gateway")
	cmd.MarkFlagsMutuallyExclusive("gateway-subnet", "no-gateway")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		t, err := c.client.UpdateTenant(ctx, args[0], func(t *v1.Tenant) error { return f.change(cmd, t) })
		if err != nil {
			return err
		}
		c.say("tenant %s set: %s", t.Name, tenantWords(t))
		return nil
	})
	return cmd
}

// tenantWords sums a tenant up after it was written, with what was filled in.
func tenantWords(t v1.Tenant) string {
	words := "RDID " + t.RDID
	if g := t.Gateway; g != nil {
		words += fmt.Sprintf(", gateway %s in VSID %d", strings.Join(g.CAs, " and "), g.VSID)
	}
	return words
}

func (c *cli) tenantList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the tenants", Args: takesAtMost(0), Example: "  gatewayctl tenant list\n  gatewayctl tenant list -o yaml"}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.Tenants(ctx)
		if err != nil {
			return err
		}
		phases := map[string]string{}
		if c.format == "table" {
			st, err := c.client.Status(ctx)
			if err != nil {
				return err
			}
			for _, t := range st.Tenants {
				phases[t.Name] = string(t.Phase)
			}
		}
		return c.show(v1.TenantList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"NAME", "PHASE", "ENCAP", "VSIDS", "GATEWAY", "UPLINK", "EXTERNAL"}, none: "No tenants. Create one with 'gatewayctl tenant add'."}
			for _, i := range items {
				var vsids []string
				for _, s := range i.Subnets {
					vsids = append(vsids, number(s.VSID))
				}
				var gateway, uplink, external string
				if g := i.Gateway; g != nil {
					gateway, uplink = strings.Join(g.CAs, ","), g.Uplink
					if g.NAT != nil {
						external = strings.Join(g.NAT.Pool, ",")
					}
				}
				t.add(i.Name, phases[i.Name], i.Encap, strings.Join(vsids, ","), gateway, uplink, external)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) tenantDelete() *cobra.Command {
	var cascade bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a tenant",
		Long: `Delete a tenant.

One that still has ACLs, lookup records, customer routes, ports, NAT mappings,
attachments, site-to-site connections or BGP is refused, unless --cascade says that
they go with it.`,
		Args: takes("NAME"), Example: "  gatewayctl tenant delete contoso --cascade", ValidArgsFunction: c.completeTenants,
	}
	cmd.Flags().BoolVar(&cascade, "cascade", false, "delete all that belongs to the tenant too")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		res, err := c.client.DeleteTenant(ctx, args[0], cascade)
		if err != nil {
			return err
		}
		var with []string
		for _, k := range res.Deleted {
			if k.Kind != "tenant" {
				with = append(with, plural(k.Count, kindWord(k.Kind)))
			}
		}
		slices.Sort(with)
		text := "tenant " + args[0] + " deleted"
		if len(with) > 0 {
			text += ", with " + strings.Join(with, ", ")
		}
		c.say("%s", text)
		return nil
	})
	return cmd
}

func kindWord(kind string) string {
	switch kind {
	case "acl":
		return "ACL"
	case "record":
		return "lookup record"
	case "nat-mapping":
		return "NAT mapping"
	case "s2s-connection":
		return "site-to-site connection"
	case "bgp-router":
		return "BGP router"
	case "bgp-peer":
		return "BGP peer"
	}
	return strings.ReplaceAll(kind, "-", " ")
}

func plural(n int, word string) string {
	if n != 1 {
		if strings.HasSuffix(word, "ss") {
			word += "e"
		}
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

func (c *cli) completeTenants(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.Tenants(cmd.Context())
		for _, t := range items {
			names = append(names, t.Name)
		}
		return names, err
	})
}
