// Command gatewayd is the gateway: it terminates the overlay, keeps a
// compartment for each tenant that has its gateway here, and serves the API
// that gatewayctl uses. On a machine without uplinks it is a host: VM ports on
// the same dataplane.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/internal/config"
)

// Set when the release is built.
var (
	version = "0.1.0-dev"
	commit  string
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gatewayd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var path string
	var check, remove bool
	cmd := &cobra.Command{
		Use:   "gatewayd --config FILE",
		Short: "multi-tenant network virtualization gateway",
		Long: `gatewayd terminates NVGRE and VXLAN on the PA interfaces, gives each tenant
a compartment (network namespace) with NAT to an uplink, and serves the API
for gatewayctl on a unix socket.

Stopping it, or killing it, leaves compartments, addresses and NAT in the
kernel; the next start adopts them. Where the fast path is on, packets of
established and of new flows go on meanwhile; --uninstall, while gatewayd does not run,
removes the programs, tables and links that do that.`,
		Example: "  gatewayd --config /etc/hnvgate/gatewayd.yaml\n  gatewayd --config gatewayd.yaml --check\n  gatewayd --config gatewayd.yaml --uninstall",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		Version: version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			if check {
				if err := checkFiles(c); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
				return nil
			}
			if remove {
				return uninstall(c, cmd.OutOrStdout(), c.Log.Logger(os.Stderr))
			}
			err = run(cmd.Context(), c)
			if errors.Is(err, context.Canceled) {
				return nil // asked to stop
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", "/etc/hnvgate/gatewayd.yaml", "configuration file")
	cmd.Flags().BoolVar(&remove, "uninstall", false, "only remove what the fast path has in the kernel")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration file")
	cmd.MarkFlagsMutuallyExclusive("check", "uninstall")
	return cmd
}

func versions() v1.Version {
	v := v1.Version{Version: version, Commit: commit, Go: runtime.Version(), API: "v1"}
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			v.Kernel += string(rune(c))
		}
	}
	return v
}
