package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/test/lab"
)

func demoCommand(name *string) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "demo", Short: "Create the lab, run the gateway in it, drive it as an operator, and show what flows", Args: cobra.NoArgs,
		Long: `demo creates the lab anew, starts gatewayd on the gateway and on two of the
four hosts, and gives the gateway its configuration by the commands an operator
types, which it prints. Tenant contoso also gets two WireGuard tunnels to a site whose
router runs FRR, and fabrikam a foot in a network of the datacenter whose router runs
BIRD, with BGP over both. Then it sends real traffic, cuts a tunnel, kills gatewayd,
and prints a table of what flowed. The lab stays up; "hnvlab down" removes it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{out: cmd.OutOrStdout()}
			l, err := lab.New(*name, lab.Options{Command: d.command, Path: path, BFD: 100 * time.Millisecond})
			if err != nil {
				return err
			}
			d.lab = l
			return d.run(cmd.Context())
		},
	}
	c.Flags().StringVar(&path, "path", "", "path of packets through gatewayd: auto, ebpf or go")
	return c
}

// demo is one run of the demonstration.
type demo struct {
	out   io.Writer
	lab   *lab.Lab
	table table
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// command prints an operator's command as it runs.
func (d *demo) command(machine string, argv []string) {
	d.say("  %s# %s", machine, strings.Join(argv, " "))
}

func (d *demo) run(ctx context.Context) error {
	begin := time.Now()
	d.say("Creating the lab: every machine is a network namespace.")
	if err := d.lab.Up(ctx); err != nil {
		return err
	}
	if err := list(d.out, d.lab); err != nil {
		return err
	}
	if err := d.gateway(ctx); err != nil {
		return d.explain(err, "gw")
	}
	if err := d.hosts(ctx); err != nil {
		return d.explain(err, "h1", "h2")
	}
	if err := d.sites(ctx); err != nil {
		return d.explain(err, "gw")
	}
	d.say("\nSending traffic.")
	d.traffic(ctx)
	if err := d.state(ctx); err != nil {
		return d.explain(err, "gw")
	}
	d.say("")
	d.table.print(d.out)
	d.say("\nTook %v. The lab stays up; look around:", time.Since(begin).Round(time.Second))
	self := os.Args[0]
	hnvlab := self
	if d.lab.Name() != lab.DefaultName {
		hnvlab += " --name " + d.lab.Name()
	}
	for _, s := range []string{
		hnvlab + " list",
		hnvlab + " exec c11 ping -c 3 " + d.lab.Topology().Gateway.Service.String(),
		strings.TrimSuffix(self, "hnvlab") + "gatewayctl --socket " + d.lab.Socket("gw") + " status",
		hnvlab + " down",
	} {
		d.say("  %s", s)
	}
	if n := d.table.failed(); n > 0 {
		return fmt.Errorf("%d of %d lines of the table failed; logs are in %s/log", n, len(d.table.rows), d.lab.Dir())
	}
	return nil
}

// explain adds what the daemons said last to an error.
func (d *demo) explain(err error, machines ...string) error {
	for _, m := range machines {
		if p := d.lab.Daemon(m); p != nil {
			err = fmt.Errorf("%w\ngatewayd on %s said last:\n%s", err, m, lastLines(p.Output(), 5))
		}
	}
	return err
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (d *demo) gateway(ctx context.Context) error {
	d.say("\nStarting gatewayd on the gateway, with this configuration:")
	d.indent(d.lab.Config("gw"))
	if _, err := d.lab.StartGatewayd(ctx, "gw"); err != nil {
		return err
	}
	d.say("\nConfiguring the gateway:")
	return d.lab.ConfigureGateway(ctx)
}

func (d *demo) hosts(ctx context.Context) error {
	d.say("\nStarting gatewayd on hosts h1 and h2. A datacenter controller would give them")
	d.say("their part; here it is a file each. That of h1:")
	doc, err := d.lab.HostDocument("h1")
	if err != nil {
		return err
	}
	text, err := lab.DocumentText(doc)
	if err != nil {
		return err
	}
	d.indent(text)
	return d.lab.StartHosts(ctx)
}

func (d *demo) indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(d.out, "  | "+line)
	}
}

// state shows what the operator sees of all this.
func (d *demo) state(ctx context.Context) error {
	d.say("\nWhat the operator sees:")
	var errs []error
	for _, argv := range [][]string{
		{"compartment", "list"},
		{"status"},
		{"nat", "sessions", "contoso", "--limit", "8"},
		{"s2s", "list"},
		{"bgp", "peer", "list"},
		{"bgp", "routes", "contoso"},
		{"bgp", "routes", "fabrikam"},
		{"path", "contoso", "172.16.1.10"},
		{"path", "fabrikam", "10.60.1.10"},
	} {
		out, err := d.lab.Ctl(ctx, "gw", argv...)
		d.indent(out)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
