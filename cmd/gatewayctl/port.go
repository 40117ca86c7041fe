package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) portCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "port", Aliases: []string{"ports"}, Short: "Ports: network interfaces of VMs on this machine"}
	cmd.AddCommand(c.portAdd(), c.portSet(), c.portList(), c.portShow(), c.portDelete())
	return cmd
}

// portFlags are what port add and port set take.
type portFlags struct {
	v1.Port
	noACL bool
}

func (f *portFlags) common(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Uint32Var(&f.VSID, "vsid", 0, "virtual subnet ID")
	fl.StringVar(&f.MAC, "mac", "", "MAC address of the VM")
	fl.StringVar(&f.ACL, "acl", "", "ACL of the tenant, instead of the virtual subnet's")
	fl.Uint64Var(&f.InKbps, "in-kbps", 0, "rate limit towards the VM, in kbit/s (0: none)")
	fl.Uint64Var(&f.OutKbps, "out-kbps", 0, "rate limit of what comes from the VM, in kbit/s (0: none)")
}

func (c *cli) portAdd() *cobra.Command {
	var f portFlags
	cmd := &cobra.Command{
		Use: "add --interface IFACE --vsid VSID --mac MAC", Short: "Plug a VM's interface into a virtual subnet", Args: takesAtMost(0),
		Long: `Plug a VM's interface on this machine into a virtual subnet. The VM's addresses
come from the lookup records with that VSID and MAC; packets from any other
source are dropped.`,
		Example: `  gatewayctl port add --interface vm1 --vsid 5001 --mac 00:15:5d:00:00:01
  gatewayctl port add --interface vm2 --vsid 5001 --mac 00:15:5d:00:00:02 --acl web --in-kbps 100000 --out-kbps 20000`,
	}
	f.common(cmd)
	cmd.Flags().StringVar(&f.Interface, "interface", "", "Linux interface of the VM")
	require(cmd, "interface", "vsid", "mac")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		out, err := c.client.CreatePort(ctx, f.Port)
		if err != nil {
			return err
		}
		c.say("port %s created in VSID %d", out.Interface, out.VSID)
		return nil
	})
	return cmd
}

func (c *cli) portSet() *cobra.Command {
	var f portFlags
	cmd := &cobra.Command{
		Use: "set IFACE [flags]", Short: "Change a port", Args: takes("IFACE"),
		Long: "Change a port: what no flag names stays.",
		Example: `  gatewayctl port set vm1 --acl web
  gatewayctl port set vm1 --in-kbps 100000 --out-kbps 20000
  gatewayctl port set vm1 --no-acl --in-kbps 0 --out-kbps 0`,
		ValidArgsFunction: c.completePorts,
	}
	f.common(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.noACL, "no-acl", false, "name no ACL: that of the virtual subnet holds")
	cmd.MarkFlagsMutuallyExclusive("acl", "no-acl")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		p, err := c.client.UpdatePort(ctx, args[0], func(p *v1.Port) error { return f.change(fl.Changed, p) })
		if err != nil {
			return err
		}
		c.say("port %s set", p.Interface)
		return nil
	})
	return cmd
}

// change brings what the flags say into p.
func (f *portFlags) change(given func(string) bool, p *v1.Port) error {
	if given("acl") && f.ACL == "" {
		return usagef("--acl is empty: use --no-acl to name none")
	}
	for name, move := range map[string]func(){
		"vsid":     func() { p.VSID = f.VSID },
		"mac":      func() { p.MAC = f.MAC },
		"acl":      func() { p.ACL = f.ACL },
		"in-kbps":  func() { p.InKbps = f.InKbps },
		"out-kbps": func() { p.OutKbps = f.OutKbps },
	} {
		if given(name) {
			move()
		}
	}
	if f.noACL {
		p.ACL = ""
	}
	return nil
}

func (c *cli) completePorts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.Ports(cmd.Context())
		for _, p := range items {
			names = append(names, p.Interface)
		}
		return names, err
	})
}

func (c *cli) portList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the ports", Args: takesAtMost(0), Example: "  gatewayctl port list"}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.Ports(ctx)
		if err != nil {
			return err
		}
		var st v1.GatewayStatus
		if c.format == "table" {
			if st, err = c.client.Status(ctx); err != nil {
				return err
			}
		}
		return c.show(v1.PortList{Items: items}, func(w io.Writer) {
			state := states(st.Ports, func(l v1.LinkStatus) string { return l.Interface })
			t := table{header: []string{"INTERFACE", "VSID", "MAC", "ACL", "IN KBPS", "OUT KBPS", "PHASE", "MTU", "MESSAGE"}, none: "No ports."}
			for _, p := range items {
				s := state[p.Interface]
				t.add(p.Interface, number(p.VSID), p.MAC, p.ACL, count(p.InKbps), count(p.OutKbps), string(s.Phase), count(s.MTU), s.Message)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) portDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete IFACE", Short: "Unplug a VM's interface", Args: takes("IFACE"),
		Example: "  gatewayctl port delete vm1", ValidArgsFunction: c.completePorts,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeletePort(ctx, args[0]); err != nil {
			return err
		}
		c.say("port %s deleted", args[0])
		return nil
	})
	return cmd
}
