package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/document"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) applyCommand() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create or replace all objects of a YAML document, or none", Args: takesAtMost(0),
		Long: `Create or replace all objects of a YAML document, or none.

Everything is checked together and written at once, or refused with all that is
wrong, each with its line. Objects that are just so already are left alone;
objects that the document does not name stay. A file that is a dash is standard
input; several files make one document.

  tenants:
  - name: contoso
    encap: nvgre
    subnets:
    - {vsid: 5000, prefixes: [10.254.254.0/29]}
    - {vsid: 5001, prefixes: [10.1.1.0/24]}
    gateway:
      vsid: 5000
      uplink: internet
      nat:
        pool: [203.0.113.10]
  lookupRecords:
  - {vsid: 5001, ca: 10.1.1.11, mac: 00:15:5d:00:00:01, pa: 192.168.1.10}

The lists are providerAddresses, providerRoutes, tenants, acls, ports,
lookupRecords, customerRoutes, natMappings, attachments, s2sConnections,
bgpRouters and bgpPeers; docs/guide/configuration.md describes them. Keys and
passwords that a document leaves out stay as they are.`,
		Example: "  gatewayctl apply -f site.yaml --dry-run\n  gatewayctl apply -f site.yaml\n  gatewayctl export | ssh other gatewayctl apply -f -",
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "YAML document, or - for standard input (repeatable)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything, say what would be done, and write nothing")
	require(cmd, "file")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		d, err := c.document(files)
		if err != nil {
			return err
		}
		res, err := c.client.Apply(ctx, &d.Document, dryRun)
		if err != nil {
			return inDocument(d, err)
		}
		return c.show(res, func(w io.Writer) { c.writeApplied(w, res) })
	})
	return c.shows(cmd)
}

// document reads files as one document.
func (c *cli) document(files []string) (*document.Document, error) {
	var sources []document.Source
	for _, f := range files {
		name, data, err := c.read(f)
		if err != nil {
			return nil, err
		}
		sources = append(sources, document.Source{Name: name, Data: data})
	}
	return document.Parse(sources...)
}

// inDocument puts the place in the files in front of every message.
func inDocument(d *document.Document, err error) error {
	return locate(err, func(at string) string {
		if p, ok := d.Place(at); ok {
			return p.String()
		}
		return ""
	})
}

func (c *cli) writeApplied(w io.Writer, res v1.ApplyResult) {
	t := table{header: []string{"KIND", "KEY", "ACTION"}}
	n := map[string]int{}
	for _, o := range res.Objects {
		n[o.Action]++
		if o.Action != v1.ActionUnchanged {
			t.add(o.Kind, o.Key, o.Action)
		}
	}
	t.write(w)
	tail := "applied"
	if res.DryRun {
		tail = "nothing was written"
	}
	c.say("%d created, %d updated, %d unchanged: %s (revision %d)", n[v1.ActionCreated], n[v1.ActionUpdated], n[v1.ActionUnchanged], tail, res.Revision)
}

func (c *cli) exportCommand() *cobra.Command {
	var host []string
	cmd := &cobra.Command{
		Use: "export", Short: "Print what is configured, as apply reads it", Args: takesAtMost(0),
		Long: `Print everything that is configured as one YAML document, as apply reads it.
The records that the gateway makes for its compartments are not in it, nor are keys
and passwords.

With --host it is what the host with these provider addresses needs and nothing
else, to be applied there: the tenants that have a lookup record at one of them,
with their ACLs, records and customer routes, and the way to the compartments on
this gateway. The host's own provider addresses, provider routes and ports are
not in it: it must have those already.`,
		Example: `  gatewayctl export > site.yaml
  gatewayctl export --host 192.168.1.10,192.168.1.11 | ssh host1 gatewayctl apply -f -`,
	}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		d, err := c.client.Export(ctx, host...)
		if err != nil {
			return err
		}
		if len(host) > 0 && d.Len() == 0 {
			fmt.Fprintf(c.err, "note: no lookup record is at %s: this host needs nothing\n", strings.Join(host, ", "))
		}
		if c.format == "table" {
			c.format = "yaml"
		}
		return c.show(d, nil)
	})
	cmd.Flags().StringSliceVar(&host, "host", nil, "only what the host with this provider address needs (repeatable)")
	cmd.Flags().StringVarP(&c.format, "output", "o", "yaml", "output format: yaml or json")
	return cmd
}
