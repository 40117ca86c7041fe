package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// ruleFlags name a rule: by direction and priority it is the only one.
type ruleFlags struct {
	v1.ACLRule
	in, out, allow, deny bool
}

func (f *ruleFlags) key(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Uint16Var(&f.Priority, "priority", 0, "1 to 65535; of the rules that match the lowest decides")
	fl.BoolVar(&f.in, "in", false, "for packets to the VM")
	fl.BoolVar(&f.out, "out", false, "for packets from the VM")
	require(cmd, "priority")
	cmd.MarkFlagsOneRequired("in", "out")
	cmd.MarkFlagsMutuallyExclusive("in", "out")
}

// rule gives the rule that the flags say.
func (f *ruleFlags) rule() (v1.ACLRule, error) {
	r := f.ACLRule
	r.Direction, r.Action = "inbound", "allow"
	if f.out {
		r.Direction = "outbound"
	}
	if f.deny {
		r.Action = "deny"
	}
	// A flag can be given the value false, which means nothing here.
	if f.in == f.out {
		return r, usagef("give one of --in, --out")
	}
	if r.Priority == 0 {
		return r, usagef("--priority 0 is out of range: use 1 to 65535")
	}
	return r, nil
}

func sameRule(a v1.ACLRule) func(v1.ACLRule) bool {
	return func(b v1.ACLRule) bool { return a.Direction == b.Direction && a.Priority == b.Priority }
}

func ruleName(r v1.ACLRule) string { return fmt.Sprintf("%s rule %d", r.Direction, r.Priority) }

func (c *cli) aclRuleAdd() *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use:   "add TENANT NAME --priority N --in|--out --allow|--deny [flags]",
		Short: "Add a rule to an ACL",
		Long: `Add a rule to an ACL.

A field that no flag names matches anything; of a list, one entry must match. The
prefixes of a rule are all IPv4 or all IPv6. Ports need --proto tcp or udp.

Refused are a second rule of one direction with the same priority, and a rule
that contradicts another one of its direction.`,
		Example: `  gatewayctl acl rule add contoso web --priority 100 --in --allow --proto tcp --dst-port 80 --dst-port 443
  gatewayctl acl rule add contoso web --priority 200 --in --deny --proto tcp --src 10.1.2.0/24 --dst-port 8000-8999
  gatewayctl acl rule add contoso web --priority 300 --in --allow --src 10.1.0.0/16
  gatewayctl acl rule add contoso web --priority 100 --out --allow`,
		Args: takes("TENANT", "NAME"), ValidArgsFunction: c.completeACLs,
	}
	f.key(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.allow, "allow", false, "let pass what matches")
	fl.BoolVar(&f.deny, "deny", false, "drop what matches")
	fl.StringVar(&f.Proto, "proto", "", "any, tcp, udp, icmp, icmpv6 or a protocol's number (default any)")
	fl.StringSliceVar(&f.Src, "src", nil, "source prefix (repeatable; default any)")
	fl.StringSliceVar(&f.Dst, "dst", nil, "destination prefix (repeatable; default any)")
	fl.StringSliceVar(&f.SrcPorts, "src-port", nil, "source port, 80 or 8000-8999 (repeatable; default any)")
	fl.StringSliceVar(&f.DstPorts, "dst-port", nil, "destination port, 80 or 8000-8999 (repeatable; default any)")
	cmd.MarkFlagsOneRequired("allow", "deny")
	cmd.MarkFlagsMutuallyExclusive("allow", "deny")
	_ = cmd.RegisterFlagCompletionFunc("proto", cobra.FixedCompletions([]string{"any", "tcp", "udp", "icmp", "icmpv6"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		rule, err := f.rule()
		if err != nil {
			return err
		}
		if f.allow == f.deny {
			return usagef("give one of --allow, --deny")
		}
		a, err := c.client.UpdateACL(ctx, args[0], args[1], func(a *v1.ACL) error {
			if i := slices.IndexFunc(a.Rules, sameRule(rule)); i >= 0 {
				return fmt.Errorf("ACL %s has an %s already (%s): delete it first, or choose another priority", aclName(*a), ruleName(rule), a.Rules[i].Action)
			}
			a.Rules = append(a.Rules, rule)
			return nil
		})
		if err != nil {
			return err
		}
		c.say("%s added to ACL %s: it has %s", ruleName(rule), aclName(a), plural(len(a.Rules), "rule"))
		return nil
	})
	return cmd
}

func (c *cli) aclRuleDelete() *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use: "delete TENANT NAME --priority N --in|--out", Short: "Take a rule out of an ACL", Args: takes("TENANT", "NAME"),
		Example: "  gatewayctl acl rule delete contoso web --priority 200 --in", ValidArgsFunction: c.completeACLs,
	}
	f.key(cmd)
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		rule, err := f.rule()
		if err != nil {
			return err
		}
		a, err := c.client.UpdateACL(ctx, args[0], args[1], func(a *v1.ACL) error {
			i := slices.IndexFunc(a.Rules, sameRule(rule))
			if i < 0 {
				return fmt.Errorf("ACL %s has no %s", aclName(*a), ruleName(rule))
			}
			a.Rules = slices.Delete(a.Rules, i, i+1)
			return nil
		})
		if err != nil {
			return err
		}
		c.say("%s deleted from ACL %s: it has %s", ruleName(rule), aclName(a), plural(len(a.Rules), "rule"))
		return nil
	})
	return cmd
}
