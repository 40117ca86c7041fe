package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/recordfile"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

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
tenant that has the VSID. Records of 0.0.0.0 and ::, which say that a VM is a
gateway for all other addresses, give the records of that VM the type
gateway-wildcard; those of type L2Only have no customer address. A host's own
records, of routers (GW) and DHCP (DHCPExt.sys), are left out.

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
		if err := c.leaveOutRouters(ctx, file); err != nil {
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
		if file.Subnet > 0 {
			c.say("%s left out: every virtual subnet has them of itself, for its router and DHCP server", plural(file.Subnet, "lookup record"))
		}
		if file.Wildcards > 0 {
			c.say("%s of 0.0.0.0 or :: taken into the records of their gateways, now of type gateway-wildcard", plural(file.Wildcards, "lookup record"))
		}
		return nil
	})
	return cmd
}

// leaveOutRouters takes out the records of the distributed routers, which a
// Windows host lists under the VM name GW: every host is that router itself.
func (c *cli) leaveOutRouters(ctx context.Context, file *recordfile.File) error {
	if !slices.ContainsFunc(file.Records, isGW) {
		return nil
	}
	tenants, err := c.client.Tenants(ctx)
	if err != nil {
		return err
	}
	type router struct {
		vsid uint32
		ca   string
	}
	routers := map[router]bool{}
	for _, t := range tenants {
		for _, s := range t.Subnets {
			for _, p := range s.Prefixes {
				_, ca, _ := strings.Cut(p, "@")
				routers[router{s.VSID, ca}] = true
			}
		}
	}
	kept := 0
	for i, r := range file.Records {
		if isGW(r) && routers[router{r.VSID, r.CA}] {
			file.Subnet++
			continue
		}
		file.Records[kept], file.Lines[kept] = r, file.Lines[i]
		kept++
	}
	file.Records, file.Lines = file.Records[:kept], file.Lines[:kept]
	return nil
}

func isGW(r v1.LookupRecord) bool { return r.VMName == "GW" }

func (c *cli) recordExport() *cobra.Command {
	var f client.RecordFilter
	var form string
	cmd := &cobra.Command{
		Use: "export [FILE]", Short: "Write lookup records as Windows lists them, in CSV or JSON", Args: takesAtMost(1),
		Long: `Write lookup records to a file, or to standard output where FILE is left out or
a dash, as Get-NetVirtualizationLookupRecord gives them through Export-Csv or
ConvertTo-Json. The form is that of the file's name (.csv or .json), or --format.

'gatewayctl record import' reads them again, without loss: a rule that is another
encapsulation than the tenant's, and the further provider addresses of a team,
stand there in words that Windows does not know. The records that the gateway
makes for its compartments and those of the virtual subnets' own are not written.`,
		Example: `  gatewayctl record export records.csv
  gatewayctl record export --tenant contoso --format json > contoso.json`,
	}
	c.recordFilter(cmd, &f)
	cmd.Flags().StringVar(&form, "format", "", "csv or json (default: as the name of the file says, or csv)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"csv", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		name := append(args, "-")[0]
		if form == "" {
			form = cmp.Or(strings.TrimPrefix(filepath.Ext(name), "."), string(recordfile.CSV))
		}
		format, err := recordfile.ParseFormat(form)
		if err != nil {
			return usagef("%v: say --format", err)
		}
		f.Origin = v1.OriginConfigured
		if name == "-" {
			_, err = c.exportRecords(ctx, c.out, format, f)
			return err
		}
		n, err := c.exportToFile(ctx, name, format, f)
		if err != nil {
			return err
		}
		c.say("%s written to %s", plural(n, "lookup record"), name)
		return nil
	})
	return cmd
}

// exportToFile writes a file whole or not at all: half of the records would pass
// for all of them.
func (c *cli) exportToFile(ctx context.Context, name string, format recordfile.Format, f client.RecordFilter) (n int, err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return 0, fileError(name, err)
	}
	n, err = c.exportRecords(ctx, file, format, f)
	if err := errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name())
		return 0, err
	}
	if err := os.Rename(file.Name(), name); err != nil {
		_ = os.Remove(file.Name())
		return 0, fileError(name, err)
	}
	return n, nil
}

// fileError leaves out the name that the file had until it was complete.
func fileError(name string, err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		err = at.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("write %s: %w", name, err)
}

func (c *cli) exportRecords(ctx context.Context, out io.Writer, format recordfile.Format, f client.RecordFilter) (n int, err error) {
	tenants, err := c.client.Tenants(ctx)
	if err != nil {
		return 0, err
	}
	byName := map[string]v1.Tenant{}
	for _, t := range tenants {
		byName[t.Name] = t
	}
	w := recordfile.NewWriter(out, format)
	for r, err := range c.client.EachRecord(ctx, f) {
		if err != nil {
			return n, err
		}
		t := byName[r.Tenant]
		r.RDID = t.RDID
		if err := w.Write(r, t.Encap); err != nil {
			return n, err
		}
		n++
	}
	return n, w.Close()
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
