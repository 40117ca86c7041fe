// Command hnvlab builds, shows and removes the lab of network namespaces, runs
// the demonstration on it, and is itself the program that runs on the lab's
// machines.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	default:
		fmt.Fprintln(os.Stderr, "hnvlab:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "hnvlab",
		Short:         "A datacenter of network namespaces to try and test the gateway on",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var name string
	root.PersistentFlags().StringVar(&name, "name", lab.DefaultName, "name of the lab; everything in it begins with it")
	root.AddCommand(
		&cobra.Command{
			Use: "up", Short: "Create the lab, without starting gatewayd", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				l, err := lab.New(name, lab.Options{})
				if err != nil {
					return err
				}
				if err := l.Up(cmd.Context()); err != nil {
					return err
				}
				return list(cmd.OutOrStdout(), l)
			},
		},
		&cobra.Command{
			Use: "down", Short: "Remove every trace of the lab, also of a killed run", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				l, err := lab.New(name, lab.Options{})
				if err != nil {
					return err
				}
				return l.Down()
			},
		},
		&cobra.Command{
			Use: "list", Short: "Show the lab's machines", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				l, err := lab.Open(name, lab.Options{})
				if err != nil {
					return err
				}
				return list(cmd.OutOrStdout(), l)
			},
		},
		demoCommand(&name),
		execCommand(&name),
	)
	root.AddCommand(serviceCommands()...)
	return root
}

func execCommand(name *string) *cobra.Command {
	c := &cobra.Command{
		Use: "exec MACHINE COMMAND...", Short: "Run a command on a machine of the lab",
		Example: "  hnvlab exec c11 ping 198.51.100.10",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name, lab.Options{})
			if err != nil {
				return err
			}
			// The terminal sends its signals to the command as well; its end is ours.
			run := exec.Command("nsenter", append([]string{"--net=/run/netns/" + l.NS(args[0]), "--"}, args[1:]...)...)
			run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
			return run.Run()
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}
