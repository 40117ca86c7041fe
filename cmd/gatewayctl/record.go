package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) recordCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "record", Aliases: []string{"records", "lookup-record"}, Short: "Lookup records: behind which provider address a customer address is found"}
	cmd.AddCommand(c.recordAdd(), c.recordSet(), c.recordList(), c.recordDelete(), c.recordImport(), c.recordExport())
	return cmd
}

// recordFlags fills a record from flags.
type recordFlags struct {
	v1.LookupRecord
	noTeam bool
}

// address names the record: its customer address, or of one without its MAC.
func (f *recordFlags) address() string { return cmp.Or(f.CA, f.MAC) }

func (f *recordFlags) key(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Uint32Var(&f.VSID, "vsid", 0, "virtual subnet ID")
	fl.StringVar(&f.CA, "ca", "", "customer address")
	fl.StringVar(&f.MAC, "mac", "", "MAC address of the VM")
}

func (f *recordFlags) rest(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.PA, "pa", "", "provider address of the VM's host")
	fl.StringSliceVar(&f.TeamPAs, "team-pa", nil, "further provider address of that host, of another member of its NIC team (repeatable)")
	fl.StringVar(&f.Type, "type", "", "static, dynamic, l2only or gateway-wildcard (default static)")
	fl.StringVar(&f.Rule, "rule", "", "nvgre, vxlan or rewrite (default: the tenant's encapsulation)")
	fl.StringVar(&f.VMName, "vm-name", "", "name of the VM, for people")
	fl.StringVar(&f.Context, "context", "", "mark of your own")
	fl.BoolVar(&f.UseVMMAC, "use-vm-mac", false, "keep the VM's source MAC on routed packets")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"static", "dynamic", "l2only", "gateway-wildcard"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("rule", cobra.FixedCompletions([]string{"nvgre", "vxlan", "rewrite"}, cobra.ShellCompDirectiveNoFileComp))
}

func (c *cli) recordAdd() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "add --vsid VSID --ca CA --mac MAC --pa PA", Short: "Create a lookup record", Args: takesAtMost(0),
		Long: `Create a lookup record.

The types are those of Windows: static; dynamic, learned from what a VM sends;
l2only, a VM whose customer addresses are not known (give no --ca: they are
learned where the virtual subnet allows it); gateway-wildcard, a gateway in the
virtual network that also takes what no record or route leads elsewhere.`,
		Example: `  gatewayctl record add --vsid 5001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.10 --vm-name SQL

  # the host has a team of two network adapters
  gatewayctl record add --vsid 5001 --ca 10.1.1.12 --mac 00:15:5d:00:00:02 --pa 192.168.1.10 --team-pa 192.168.1.11

  # a VM whose addresses are learned
  gatewayctl record add --vsid 5001 --type l2only --mac 00:15:5d:00:00:03 --pa 192.168.1.10`,
	}
	f.key(cmd)
	f.rest(cmd)
	require(cmd, "vsid", "mac", "pa")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		r, err := c.client.CreateRecord(ctx, f.LookupRecord)
		if err != nil {
			return err
		}
		c.say("lookup record %s created: behind %s", recordName(r), allPAs(r))
		return nil
	})
	return cmd
}

func (c *cli) recordSet() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "set --vsid VSID --ca CA [flags]", Short: "Change a lookup record, for one when its VM moves", Args: takesAtMost(0),
		Long: `Change a lookup record: what no flag names stays. One without a customer
address is named by --mac instead of --ca.

When a VM moves to another host, its record gets the provider address of that
host; traffic follows at once and connections go on. A team of provider
addresses moves with it: name that of the new host with --team-pa, or say
--no-team-pa.`,
		Example: `  gatewayctl record set --vsid 5001 --ca 10.1.1.11 --pa 192.168.2.10
  gatewayctl record set --vsid 5001 --ca 10.1.1.12 --pa 192.168.2.10 --team-pa 192.168.2.11
  gatewayctl record set --vsid 5001 --mac 00:15:5d:00:00:03 --pa 192.168.2.10`,
	}
	f.key(cmd)
	f.rest(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.noTeam, "no-team-pa", false, "the host has no further provider address")
	require(cmd, "vsid")
	cmd.MarkFlagsOneRequired("ca", "mac")
	cmd.MarkFlagsMutuallyExclusive("team-pa", "no-team-pa")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		r, err := c.client.UpdateRecord(ctx, f.VSID, f.address(), func(r *v1.LookupRecord) error {
			switch r.Origin {
			case v1.OriginGateway:
				return fmt.Errorf("lookup record %s is made by the gateway for the compartment of tenant %s: change the tenant instead", recordName(*r), r.Tenant)
			case v1.OriginSubnet:
				return fmt.Errorf("lookup record %s is the virtual subnet's own, for its distributed router or DHCP server: change the virtual subnet of tenant %s instead", recordName(*r), r.Tenant)
			}
			return f.change(fl.Changed, r)
		})
		if err != nil {
			return err
		}
		c.say("lookup record %s set: behind %s", recordName(r), allPAs(r))
		return nil
	})
	return cmd
}

// change brings what the flags say into r.
func (f *recordFlags) change(given func(string) bool, r *v1.LookupRecord) error {
	for name, move := range map[string]func(){
		"mac":        func() { r.MAC = f.MAC },
		"pa":         func() { r.PA = f.PA },
		"team-pa":    func() { r.TeamPAs = f.TeamPAs },
		"type":       func() { r.Type = f.Type },
		"rule":       func() { r.Rule = f.Rule },
		"vm-name":    func() { r.VMName = f.VMName },
		"context":    func() { r.Context = f.Context },
		"use-vm-mac": func() { r.UseVMMAC = f.UseVMMAC },
	} {
		if given(name) {
			move()
		}
	}
	if f.noTeam {
		r.TeamPAs = nil
	}
	if given("pa") && len(r.TeamPAs) > 0 && !given("team-pa") {
		return usagef("lookup record %s has further provider addresses (%s), which are of the old host: name those of the new one with --team-pa, or say --no-team-pa", recordName(*r), strings.Join(r.TeamPAs, ", "))
	}
	return nil
}

// allPAs are the provider addresses in a cell.
func allPAs(r v1.LookupRecord) string {
	return strings.Join(append([]string{r.PA}, r.TeamPAs...), ",")
}

func recordName(r v1.LookupRecord) string {
	if r.CA == "" {
		return number(r.VSID) + "/" + r.MAC
	}
	return number(r.VSID) + "/" + r.CA
}

func (c *cli) recordList() *cobra.Command {
	var f client.RecordFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List the lookup records", Args: takesAtMost(0),
		Long: `List the lookup records.

Those with origin gateway are made by this gateway for its compartments: hosts
need them to reach the outside. Those with origin subnet are what every virtual
subnet has of itself, its distributed router (GW) and its DHCP server. A record
of type l2only has no customer address.

The list is printed as it comes, however long it is.`,
		Example: `  gatewayctl record list --tenant contoso
  gatewayctl record list --vsid 5001 --origin configured
  gatewayctl record list --ca 10.1.1.0/28 -o json`,
	}
	c.recordFilter(cmd, &f)
	origins := []string{v1.OriginConfigured, v1.OriginGateway, v1.OriginSubnet}
	cmd.Flags().StringVar(&f.Origin, "origin", "", "only of this origin: configured, gateway or subnet")
	_ = cmd.RegisterFlagCompletionFunc("origin", cobra.FixedCompletions(origins, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		if f.Origin != "" && !slices.Contains(origins, f.Origin) {
			return usagef("--origin %q is unknown: use %s", f.Origin, strings.Join(origins, ", "))
		}
		t := &table{header: []string{"TENANT", "VSID", "CA", "MAC", "PA", "RULE", "TYPE", "ORIGIN", "VM"}, none: "No lookup records."}
		return stream(c, c.client.EachRecord(ctx, f), t, func(r v1.LookupRecord) []string {
			return []string{r.Tenant, number(r.VSID), r.CA, r.MAC, allPAs(r), r.Rule, r.Type, r.Origin, r.VMName}
		})
	})
	return c.shows(cmd)
}

// recordFilter chooses records by flags.
func (c *cli) recordFilter(cmd *cobra.Command, f *client.RecordFilter) {
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	cmd.Flags().Uint32Var(&f.VSID, "vsid", 0, "only of this virtual subnet")
	cmd.Flags().StringVar(&f.CA, "ca", "", "only of this customer address, or in this prefix")
}

func (c *cli) recordDelete() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "delete --vsid VSID --ca CA", Short: "Delete a lookup record", Args: takesAtMost(0),
		Long:    "Delete a lookup record. One of type l2only without a customer address is named by --mac.",
		Example: "  gatewayctl record delete --vsid 5001 --ca 10.1.1.11\n  gatewayctl record delete --vsid 5001 --mac 00:15:5d:00:00:03",
	}
	f.key(cmd)
	require(cmd, "vsid")
	cmd.MarkFlagsOneRequired("ca", "mac")
	cmd.MarkFlagsMutuallyExclusive("ca", "mac")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		if err := c.client.DeleteRecord(ctx, f.VSID, f.address()); err != nil {
			return err
		}
		c.say("lookup record %s deleted", recordName(f.LookupRecord))
		return nil
	})
	return cmd
}

// read gives a file's content, or that of standard input for a dash.
func (c *cli) read(path string) (name string, data []byte, err error) {
	if path == "-" {
		data, err = io.ReadAll(c.in)
		name = "standard input"
	} else {
		data, err = os.ReadFile(path)
		name = path
	}
	if err != nil {
		return "", nil, fmt.Errorf("read %s", strings.TrimPrefix(err.Error(), "open "))
	}
	return name, data, nil
}

// require marks flags without which a command makes no sense.
func require(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		_ = cmd.MarkFlagRequired(f)
	}
}
