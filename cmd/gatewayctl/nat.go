package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) natCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "nat", Short: "Address translation: static mappings and tracked connections"}
	mapping := &cobra.Command{Use: "mapping", Aliases: []string{"mappings"}, Short: "Static mappings: ports of VMs that the outside can reach"}
	mapping.AddCommand(c.mappingAdd(), c.mappingList(), c.mappingDelete())
	cmd.AddCommand(mapping, c.natSessions())
	return cmd
}

func mappingKey(cmd *cobra.Command, m *v1.NATMapping) {
	cmd.Flags().StringVar(&m.Proto, "proto", "", "transport protocol: tcp or udp")
	cmd.Flags().StringVar(&m.External, "external", "", "external end as ADDR:PORT, within the tenant's external addresses")
	_ = cmd.RegisterFlagCompletionFunc("proto", cobra.FixedCompletions([]string{"tcp", "udp"}, cobra.ShellCompDirectiveNoFileComp))
	require(cmd, "proto", "external")
}

func (c *cli) mappingAdd() *cobra.Command {
	var m v1.NATMapping
	cmd := &cobra.Command{
		Use: "add TENANT --proto tcp|udp --external ADDR:PORT --internal CA:PORT", Short: "Make a VM's port reachable from outside", Args: takes("TENANT"),
		Example: "  gatewayctl nat mapping add contoso --proto tcp --external 203.0.113.10:443 --internal 10.1.1.12:443", ValidArgsFunction: c.completeTenants,
	}
	mappingKey(cmd, &m)
	cmd.Flags().StringVar(&m.Internal, "internal", "", "the VM's end as CA:PORT")
	require(cmd, "internal")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		m.Tenant = args[0]
		out, err := c.client.CreateNATMapping(ctx, m)
		if err != nil {
			return err
		}
		c.say("NAT mapping created: %s %s leads to %s of tenant %s", out.Proto, out.External, out.Internal, out.Tenant)
		return nil
	})
	return cmd
}

func (c *cli) mappingList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the static mappings", Args: takesAtMost(1),
		Example: "  gatewayctl nat mapping list contoso", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		tenant := ""
		if len(args) > 0 {
			tenant = args[0]
		}
		items, err := c.client.NATMappings(ctx, tenant)
		if err != nil {
			return err
		}
		return c.show(v1.NATMappingList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "PROTO", "EXTERNAL", "INTERNAL"}, none: "No NAT mappings."}
			for _, m := range items {
				t.add(m.Tenant, m.Proto, m.External, m.Internal)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) mappingDelete() *cobra.Command {
	var m v1.NATMapping
	cmd := &cobra.Command{
		Use: "delete TENANT --proto tcp|udp --external ADDR:PORT", Short: "Delete a static mapping", Args: takes("TENANT"),
		Long:    "Delete a static mapping. Connections that came in by it are cut.",
		Example: "  gatewayctl nat mapping delete contoso --proto tcp --external 203.0.113.10:443", ValidArgsFunction: c.completeTenants,
	}
	mappingKey(cmd, &m)
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		old, etag, err := c.client.NATMapping(ctx, m.Proto, m.External)
		if err != nil {
			return err
		}
		if old.Tenant != args[0] {
			return fmt.Errorf("NAT mapping %s/%s belongs to tenant %s, not to %s", m.Proto, m.External, old.Tenant, args[0])
		}
		if err := c.client.DeleteNATMapping(ctx, m.Proto, m.External, client.IfMatch(etag)); err != nil {
			return err
		}
		c.say("NAT mapping %s %s of tenant %s deleted", m.Proto, m.External, args[0])
		return nil
	})
	return cmd
}

func (c *cli) natSessions() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "sessions TENANT", Short: "List a tenant's tracked connections", Args: takes("TENANT"),
		Example: "  gatewayctl nat sessions contoso --limit 50", ValidArgsFunction: c.completeTenants,
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most, 1 to 10000")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if limit < 1 || limit > 10000 {
			return usagef("--limit %d is out of range: use 1 to 10000", limit)
		}
		list, err := c.client.NATSessions(ctx, args[0], limit)
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) {
			t := table{header: []string{"PROTO", "DIR", "INSIDE", "EXTERNAL", "REMOTE", "STATE", "TIMEOUT", "OUT", "IN"}, none: "No connections."}
			for _, s := range list.Items {
				t.add(s.Proto, s.Direction, s.Inside, s.External, s.Remote, s.State, number(s.Timeout)+"s", traffic(s.Out), traffic(s.In))
			}
			t.write(w)
			if list.Truncated {
				fmt.Fprintf(w, "There are more than %d; see --limit.\n", len(list.Items))
			}
		})
	})
	return c.shows(cmd)
}

func traffic(t v1.Traffic) string {
	if t.Packets == 0 && t.Bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%dB", t.Packets, t.Bytes)
}
