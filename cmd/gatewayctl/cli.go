package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// The exit codes.
const (
	exitRefused     = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// cli is one call of the program.
type cli struct {
	in       io.Reader
	out, err io.Writer
	target   target
	format   string
	client   *client.Client
	begun    bool // arguments and flags were understood
}

// usageError is a call that cannot mean anything.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// run is the whole program.
func run(ctx context.Context, args []string, env func(string) string, in io.Reader, out, errOut io.Writer) int {
	c := &cli{in: in, out: out, err: errOut}
	root := c.root(env)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if c.client != nil {
		c.client.Close()
	}
	if err == nil {
		return 0
	}
	return c.report(cmd, err)
}

// report says what went wrong and gives the exit code.
func (c *cli) report(cmd *cobra.Command, err error) int {
	var usage *usageError
	var gone *client.Unreachable
	var problem *v1.Problem
	switch {
	case errors.As(err, new(saidError)):
	case errors.As(err, &usage) || !c.begun:
		fmt.Fprintf(c.err, "error: %s\nSee '%s --help'.\n", usageWords(err.Error()), cmd.CommandPath())
		return exitUsage
	case errors.As(err, &gone):
		fmt.Fprintf(c.err, "error: %v\n%s\n", err, c.target.hint(gone))
		return exitUnreachable
	case errors.As(err, &problem) && len(problem.Errors) > 1:
		c.list(problem.Detail, messages(problem))
	default:
		if lines := strings.Split(err.Error(), "\n"); len(lines) > 1 {
			c.list(fmt.Sprintf("%d things are wrong, nothing was changed", len(lines)), lines)
			break
		}
		fmt.Fprintf(c.err, "error: %v\n", err)
	}
	return exitRefused
}

func (c *cli) list(head string, lines []string) {
	fmt.Fprintf(c.err, "error: %s:\n", head)
	for _, l := range lines {
		fmt.Fprintf(c.err, "  %s\n", l)
	}
}

func messages(p *v1.Problem) []string {
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Message)
	}
	return out
}

func (c *cli) root(env func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatewayctl",
		Short: "Drive a hnvgate network virtualization gateway",
		Long: `Drive a hnvgate network virtualization gateway.

Every command is one request to gatewayd, which takes all of it or refuses it
and says why; a refusal changes nothing.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 gatewayd not reachable.`,
		Example: `  gatewayctl tenant add contoso --encap nvgre --subnet 5001=10.1.1.0/24 \
      --gateway-subnet 5000=10.254.254.0/29 --uplink internet --nat 203.0.113.10
  gatewayctl record add --vsid 5001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.10
  gatewayctl status`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.format != "table" && c.format != "json" && c.format != "yaml" {
				return usagef("output format %q is unknown: use table, json or yaml", c.format)
			}
			var err error
			c.client, err = c.target.connect()
			return err
		},
	}
	c.target.register(root, env)
	c.format = "table"
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		c.tenantCommand(), c.subnetCommand(), c.aclCommand(), c.recordCommand(), c.customerRouteCommand(),
		c.providerAddressCommand(), c.providerRouteCommand(), c.portCommand(),
		c.natCommand(), c.forwardCommand(), c.s2sCommand(), c.bgpCommand(), c.compartmentCommand(),
		c.nextHopCommand(), c.pathCommand(), c.pingCommand(), c.traceCommand(), c.captureCommand(),
		c.applyCommand(), c.diffCommand(), c.exportCommand(), c.statusCommand(), c.versionCommand(),
	)
	c.groups(root)
	return root
}

// groups makes a command that only holds others say so.
func (c *cli) groups(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		c.groups(sub)
	}
	if cmd.RunE != nil || !cmd.HasSubCommands() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var names []string
		for _, s := range cmd.Commands() {
			if s.IsAvailableCommand() {
				names = append(names, s.Name())
			}
		}
		if len(args) == 0 {
			return usagef("%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
		}
		text := fmt.Sprintf("unknown command %q for %s: it has %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			text += "; did you mean " + s[0] + "?"
		}
		return &usageError{text}
	}
}

// does wraps what a command does, after its arguments were understood.
func (c *cli) does(fn func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.begun = true
		return fn(cmd.Context(), args)
	}
}

// complete gives a shell the names that list finds; nothing where it cannot.
func (c *cli) complete(list func(*client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	gateway, err := c.target.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer gateway.Close()
	names, err := list(gateway)
	if err != nil {
		names = nil
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// say tells a person that something was done.
func (c *cli) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }
