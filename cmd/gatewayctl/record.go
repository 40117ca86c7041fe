package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/recordfile"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) recordCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "record", Aliases: []string{"records", "lookup-record"}, Short: "Lookup records: behind which provider address a customer address is found"}
	cmd.AddCommand(c.recordAdd(), c.recordSet(), c.recordList(), c.recordDelete(), c.recordImport())
	return cmd
}

// recordFlags fills a record from flags.
type recordFlags struct{ v1.LookupRecord }

func (f *recordFlags) key(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Uint32Var(&f.VSID, "vsid", 0, "virtual subnet ID")
	fl.StringVar(&f.CA, "ca", "", "customer address")
	fl.StringVar(&f.MAC, "mac", "", "MAC address of the VM")
}

func (f *recordFlags) rest(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.PA, "pa", "", "provider address of the VM's host")
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
		Example: `  gatewayctl record add --vsid 5001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.10 --vm-name SQL`,
	}
	f.key(cmd)
	f.rest(cmd)
	require(cmd, "vsid", "mac", "pa")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		r, err := c.client.CreateRecord(ctx, f.LookupRecord)
		if err != nil {
			return err
		}
		c.say("lookup record %s created: behind %s", recordName(r), r.PA)
		return nil
	})
	return cmd
}

func (c *cli) recordSet() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "set --vsid VSID --ca CA [flags]", Short: "Change a lookup record, for one when its VM moves", Args: takesAtMost(0),
		Long: `Change a lookup record: what no flag names stays.

When a VM moves to another host, its record gets the provider address of that
host; traffic follows at once and connections go on.`,
		Example: `  gatewayctl record set --vsid 5001 --ca 10.1.1.11 --pa 192.168.2.10`,
	}
	f.key(cmd)
	f.rest(cmd)
	require(cmd, "vsid", "ca")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		r, err := c.client.UpdateRecord(ctx, f.VSID, f.CA, func(r *v1.LookupRecord) error {
			if r.Origin == v1.OriginGateway {
				return fmt.Errorf("lookup record %s is made by the gateway for the compartment of tenant %s: change the tenant instead", recordName(*r), r.Tenant)
			}
			f.change(cmd, r)
			return nil
		})
		if err != nil {
			return err
		}
		c.say("lookup record %s set: behind %s", recordName(r), r.PA)
		return nil
	})
	return cmd
}

// change brings what the flags say into r.
func (f *recordFlags) change(cmd *cobra.Command, r *v1.LookupRecord) {
	for name, move := range map[string]func(){
		"mac":        func() { r.MAC = f.MAC },
		"pa":         func() { r.PA = f.PA },
		"type":       func() { r.Type = f.Type },
		"rule":       func() { r.Rule = f.Rule },
		"vm-name":    func() { r.VMName = f.VMName },
		"context":    func() { r.Context = f.Context },
		"use-vm-mac": func() { r.UseVMMAC = f.UseVMMAC },
	} {
		if cmd.Flags().Changed(name) {
			move()
		}
	}
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
need them to reach the outside.`,
		Example: "  gatewayctl record list --tenant contoso\n  gatewayctl record list --ca 10.1.1.0/28 -o json",
	}
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	cmd.Flags().Uint32Var(&f.VSID, "vsid", 0, "only of this virtual subnet")
	cmd.Flags().StringVar(&f.CA, "ca", "", "only of this customer address, or in this prefix")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.Records(ctx, f)
		if err != nil {
			return err
		}
		return c.show(v1.LookupRecordList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "VSID", "CA", "MAC", "PA", "RULE", "TYPE", "ORIGIN", "VM"}, none: "No lookup records."}
			for _, r := range items {
				t.add(r.Tenant, number(r.VSID), r.CA, r.MAC, r.PA, r.Rule, r.Type, r.Origin, r.VMName)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

func (c *cli) recordDelete() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "delete --vsid VSID --ca CA", Short: "Delete a lookup record", Args: takesAtMost(0),
		Long:    "Delete a lookup record. One of type l2only without a customer address is named by --mac.",
		Example: "  gatewayctl record delete --vsid 5001 --ca 10.1.1.11",
	}
	f.key(cmd)
	require(cmd, "vsid")
	cmd.MarkFlagsOneRequired("ca", "mac")
	cmd.MarkFlagsMutuallyExclusive("ca", "mac")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		address := f.CA
		if address == "" {
			address = f.MAC
		}
		if err := c.client.DeleteRecord(ctx, f.VSID, address); err != nil {
			return err
		}
		c.say("lookup record %s deleted", recordName(f.LookupRecord))
		return nil
	})
	return cmd
}

// importBatch is how many records one request holds.
const importBatch = 100_000

func (c *cli) recordImport() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Create or replace lookup records from a JSON or CSV file", Args: takes("FILE"),
		Long: `Create or replace lookup records from a JSON or CSV file, or from standard
input where FILE is a dash.

The file is what Get-NetVirtualizationLookupRecord gives on Windows Server
through ConvertTo-Json or Export-Csv, or what 'gatewayctl record list -o json'
prints. Rule TranslationMethodEncap becomes the tenant's encapsulation;
TranslationMethodNat becomes rewrite. A CustomerID must be the RDID of the
tenant that has the VSID.

All records are checked before the first is written, in batches of 100000.`,
		Example: `  Get-NetVirtualizationLookupRecord | Export-Csv records.csv      # on Windows Server
  gatewayctl record import records.csv --dry-run
  gatewayctl record import records.csv`,
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything and write nothing")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		name, data, err := c.read(args[0])
		if err != nil {
			return err
		}
		file, err := recordfile.Parse(name, data)
		if err != nil {
			return err
		}
		total, err := c.importAll(ctx, name, file, dryRun)
		if err != nil {
			return err
		}
		words := fmt.Sprintf("%s imported", plural(len(file.Records), "lookup record"))
		if dryRun {
			words = fmt.Sprintf("%s can be imported, nothing was written", plural(len(file.Records), "lookup record"))
		}
		c.say("%s: %d created, %d updated, %d unchanged", words, total.Created, total.Updated, total.Unchanged)
		if file.Gateway > 0 {
			c.say("%s left out: a gateway made them for its compartments", plural(file.Gateway, "lookup record"))
		}
		return nil
	})
	return cmd
}

// importAll checks all batches before it writes the first.
func (c *cli) importAll(ctx context.Context, name string, file *recordfile.File, dryRun bool) (total v1.RecordImportResult, err error) {
	rounds := []bool{dryRun}
	if len(file.Records) > importBatch && !dryRun {
		rounds = []bool{true, false}
	}
	for _, check := range rounds {
		total = v1.RecordImportResult{}
		for first := 0; first < len(file.Records); first += importBatch {
			end := min(first+importBatch, len(file.Records))
			res, err := c.client.ImportRecords(ctx, file.Records[first:end], check)
			if err != nil {
				return total, locate(err, func(at string) string {
					var i int
					if _, err := fmt.Sscanf(at, "body.items[%d]", &i); err != nil || first+i >= len(file.Lines) || i < 0 {
						return name
					}
					return fmt.Sprintf("%s:%d", name, file.Lines[first+i])
				})
			}
			total.Created += res.Created
			total.Updated += res.Updated
			total.Unchanged += res.Unchanged
		}
	}
	return total, nil
}

// locate puts the place in the file in front of every message of a refusal.
func locate(err error, place func(location string) string) error {
	var p *v1.Problem
	if !errors.As(err, &p) || len(p.Errors) == 0 {
		return err
	}
	q := *p
	q.Errors = nil
	for _, e := range p.Errors {
		// "it is at body.tenants[0] already" means a place in the file too.
		e.Message = bodyPlace.ReplaceAllStringFunc(e.Message, func(at string) string {
			if p := place(at); p != "" {
				return p
			}
			return at
		})
		if at := place(e.Location); at != "" {
			e.Message = at + ": " + e.Message
		}
		q.Errors = append(q.Errors, e)
	}
	if len(q.Errors) == 1 {
		q.Detail = q.Errors[0].Message
	}
	return &q
}

var bodyPlace = regexp.MustCompile(`\bbody\.[A-Za-z]+\[[0-9]+\]`)

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
