package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/test/lab/service"
)

// serviceCommands run on the lab's machines; the library starts them.
func serviceCommands() []*cobra.Command {
	return []*cobra.Command{serveCommand(), getCommand(), echoCommand(), streamCommand(), injectCommand()}
}

func serveCommand() *cobra.Command {
	var as string
	c := &cobra.Command{
		Use: "serve", Short: "Run web server, UDP echo and streams here", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := service.Listen()
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return s.Serve(cmd.Context(), as)
		},
	}
	c.Flags().StringVar(&as, "as", "", "name to answer with")
	return c
}

func getCommand() *cobra.Command {
	var from uint16
	var size int64
	var timeout time.Duration
	c := &cobra.Command{
		Use: "get ADDRESS:PORT", Short: "Ask a lab's web server who it is and whom it sees", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if size > 0 {
				return service.Fetch(ctx, args[0], size)
			}
			id, err := service.Get(ctx, args[0], port(from))
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(id)
		},
	}
	c.Flags().Uint16Var(&from, "from", 0, "local port")
	c.Flags().Int64Var(&size, "bytes", 0, "download so many bytes and check them instead")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to try")
	return c
}

func echoCommand() *cobra.Command {
	var from uint16
	var size int
	var timeout time.Duration
	c := &cobra.Command{
		Use: "echo ADDRESS:PORT", Short: "Send a datagram to a lab's UDP echo and want it back", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			id, err := service.Echo(ctx, args[0], port(from), size)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(id)
		},
	}
	c.Flags().Uint16Var(&from, "from", 0, "local port")
	c.Flags().IntVar(&size, "size", 32, "bytes in the datagram")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to try")
	return c
}

func streamCommand() *cobra.Command {
	var req service.StreamRequest
	var direction string
	c := &cobra.Command{
		Use: "stream ADDRESS:PORT", Short: "Transfer over TCP and check every byte", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Direction = service.Direction(direction)
			enc := json.NewEncoder(cmd.OutOrStdout())
			r, err := service.Stream(cmd.Context(), args[0], req, func(r service.StreamReport) { _ = enc.Encode(r) })
			if err != nil {
				return err
			}
			return enc.Encode(r)
		},
	}
	c.Flags().StringVar(&direction, "direction", string(service.Down), "down or up, seen from here")
	c.Flags().Int64Var(&req.Bytes, "bytes", 1<<20, "how much")
	c.Flags().Int64Var(&req.Rate, "rate", 0, "bytes a second; 0 is as fast as it goes")
	return c
}

func injectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inject INTERFACE", Short: "Send the frames on standard input, one a line in hexadecimal", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := service.Inject(args[0], cmd.InOrStdin())
			return err
		},
	}
}

func port(n uint16) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}
