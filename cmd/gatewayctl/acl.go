package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) aclCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "acl", Aliases: []string{"acls"}, Short: "ACLs: which packets of a tenant's VMs pass",
		Long: `ACLs say which packets of a tenant's VMs pass. A virtual subnet names one for
all its ports (subnet set --acl), a port one of its own (port set --acl).

The rule with the lowest priority that matches decides. What no rule allows is
denied, in both directions; replies to what was allowed pass without a rule.`,
	}
	rule := &cobra.Command{Use: "rule", Aliases: []string{"rules"}, Short: "Rules of an ACL"}
	rule.AddCommand(c.aclRuleAdd(), c.aclRuleDelete())
	cmd.AddCommand(c.aclAdd(), c.aclList(), c.aclShow(), c.aclDelete(), rule)
	return cmd
}

func (c *cli) aclAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add TENANT NAME", Short: "Create an ACL without rules", Args: takes("TENANT", "NAME"),
		Long: `Create an ACL without rules: it denies everything until some allow something.
A document creates one with its rules ('gatewayctl apply --help').`,
		Example: `  gatewayctl acl add contoso web
  gatewayctl acl rule add contoso web --priority 100 --in --allow --proto tcp --dst-port 443
  gatewayctl acl rule add contoso web --priority 100 --out --allow
  gatewayctl subnet set contoso 5001 --acl web`,
		ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		a, err := c.client.CreateACL(ctx, v1.ACL{Tenant: args[0], Name: args[1], Rules: []v1.ACLRule{}})
		if err != nil {
			return err
		}
		c.say("ACL %s created: it denies everything until rules allow something", aclName(a))
		return nil
	})
	return cmd
}

func aclName(a v1.ACL) string { return a.Tenant + "/" + a.Name }

func (c *cli) aclList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the ACLs", Args: takesAtMost(1),
		Example: "  gatewayctl acl list contoso", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		tenant := ""
		if len(args) > 0 {
			tenant = args[0]
		}
		items, err := c.client.ACLs(ctx, tenant)
		if err != nil {
			return err
		}
		return c.show(v1.ACLList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "NAME", "INBOUND RULES", "OUTBOUND RULES"}, none: "No ACLs."}
			for _, a := range items {
				in := 0
				for _, r := range a.Rules {
					if r.Direction == "inbound" {
						in++
					}
				}
				t.add(a.Tenant, a.Name, number(in), number(len(a.Rules)-in))
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// aclDetail is what acl show prints.
type aclDetail struct {
	ACL     v1.ACL   `json:"acl"`
	Subnets []uint32 `json:"subnets"` // VSIDs that name it
	Ports   []string `json:"ports"`   // interfaces that name it
}

func (c *cli) aclShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TENANT NAME", Short: "Show the rules of an ACL and what names it", Args: takes("TENANT", "NAME"),
		Example: "  gatewayctl acl show contoso web", ValidArgsFunction: c.completeACLs,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		a, _, err := c.client.ACL(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		d := aclDetail{ACL: a, Subnets: []uint32{}, Ports: []string{}}
		if err := c.usersOf(ctx, &d); err != nil {
			return err
		}
		return c.show(d, func(w io.Writer) { writeACL(w, d) })
	})
	return c.shows(cmd)
}

// usersOf finds the virtual subnets and ports that name an ACL.
func (c *cli) usersOf(ctx context.Context, d *aclDetail) error {
	t, _, err := c.client.Tenant(ctx, d.ACL.Tenant)
	if err != nil {
		return err
	}
	ports, err := c.client.Ports(ctx)
	if err != nil {
		return err
	}
	mine := map[uint32]bool{}
	for _, s := range t.Subnets {
		mine[s.VSID] = true
		if s.ACL == d.ACL.Name {
			d.Subnets = append(d.Subnets, s.VSID)
		}
	}
	for _, p := range ports {
		if mine[p.VSID] && p.ACL == d.ACL.Name {
			d.Ports = append(d.Ports, p.Interface)
		}
	}
	return nil
}

func writeACL(w io.Writer, d aclDetail) {
	var f facts
	f.add("Name", d.ACL.Name)
	f.add("Tenant", d.ACL.Tenant)
	var vsids []string
	for _, v := range d.Subnets {
		vsids = append(vsids, number(v))
	}
	f.add("Virtual subnets", strings.Join(vsids, ", "))
	f.add("Ports", strings.Join(d.Ports, ", "))
	f.write(w)
	fmt.Fprintln(w)
	t := table{header: []string{"DIRECTION", "PRIORITY", "ACTION", "PROTO", "SRC", "SRC PORTS", "DST", "DST PORTS"}, none: "No rules: everything is denied."}
	for _, r := range d.ACL.Rules {
		t.add(r.Direction, number(r.Priority), r.Action, r.Proto,
			anyOf(r.Src), anyOf(r.SrcPorts), anyOf(r.Dst), anyOf(r.DstPorts))
	}
	t.write(w)
}

// anyOf is a list in a cell; an empty one matches anything.
func anyOf(in []string) string {
	if len(in) == 0 {
		return "any"
	}
	return strings.Join(in, ",")
}

func (c *cli) aclDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT NAME", Short: "Delete an ACL", Args: takes("TENANT", "NAME"),
		Long:    "Delete an ACL. One that a virtual subnet or a port names is refused.",
		Example: "  gatewayctl acl delete contoso web", ValidArgsFunction: c.completeACLs,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteACL(ctx, args[0], args[1]); err != nil {
			return err
		}
		c.say("ACL %s/%s deleted", args[0], args[1])
		return nil
	})
	return cmd
}

// completeACLs completes TENANT NAME.
func (c *cli) completeACLs(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeTenants(cmd, args, part)
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.ACLs(cmd.Context(), args[0])
		for _, a := range items {
			names = append(names, a.Name)
		}
		return names, err
	})
}
