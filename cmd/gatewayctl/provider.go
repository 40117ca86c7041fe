package main

import (
	"context"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func prefixFlag(name, s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return usagef("%s %q is malformed: write ADDRESS/LENGTH", name, s)
	}
	return nil
}

// states maps the names of links to their status.
func states(links []v1.LinkStatus, key func(v1.LinkStatus) string) map[string]v1.LinkStatus {
	out := map[string]v1.LinkStatus{}
	for _, l := range links {
		out[key(l)] = l
	}
	return out
}

func (c *cli) providerAddressCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "provider-address", Aliases: []string{"provider-addresses"}, Short: "Provider addresses: this machine's addresses on the fabric"}
	cmd.AddCommand(c.providerAddressAdd(), c.providerAddressList(), c.providerAddressDelete())
	return cmd
}

func (c *cli) providerAddressAdd() *cobra.Command {
	var p v1.ProviderAddress
	cmd := &cobra.Command{
		Use: "add ADDRESS/LENGTH --interface IFACE", Short: "Give this machine a provider address", Args: takes("ADDRESS/LENGTH"),
		Example: "  gatewayctl provider-address add 192.168.1.1/24 --interface eth1\n  gatewayctl provider-address add 192.168.3.1/24 --interface eth1 --vlan 30",
	}
	cmd.Flags().StringVar(&p.Interface, "interface", "", "one of this machine's PA interfaces (gatewayd.yaml)")
	cmd.Flags().Uint16Var(&p.VLAN, "vlan", 0, "VLAN it lives in (default: untagged)")
	require(cmd, "interface")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		p.Address = args[0]
		out, err := c.client.CreateProviderAddress(ctx, p)
		if err != nil {
			return err
		}
		c.say("provider address %s created on %s", out.Address, out.Interface)
		return nil
	})
	return cmd
}

func (c *cli) providerAddressList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the provider addresses", Args: takesAtMost(0), Example: "  gatewayctl provider-address list"}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.ProviderAddresses(ctx)
		if err != nil {
			return err
		}
		var st v1.GatewayStatus
		if c.format == "table" {
			if st, err = c.client.Status(ctx); err != nil {
				return err
			}
		}
		return c.show(v1.ProviderAddressList{Items: items}, func(w io.Writer) {
			state := states(st.ProviderAddresses, func(l v1.LinkStatus) string { return l.Name })
			t := table{header: []string{"ADDRESS", "INTERFACE", "VLAN", "PHASE", "MTU", "MESSAGE"}, none: "No provider addresses. Add one with 'gatewayctl provider-address add'."}
			for _, p := range items {
				s := state[p.Address]
				t.add(p.Address, p.Interface, count(p.VLAN), string(s.Phase), count(s.MTU), s.Message)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) providerAddressDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ADDRESS", Short: "Delete a provider address", Args: takes("ADDRESS"),
		Long:    "Delete a provider address. One that lookup records or provider routes need to be reachable is refused.",
		Example: "  gatewayctl provider-address delete 192.168.1.1",
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteProviderAddress(ctx, args[0]); err != nil {
			return err
		}
		c.say("provider address %s deleted", args[0])
		return nil
	})
	return cmd
}
