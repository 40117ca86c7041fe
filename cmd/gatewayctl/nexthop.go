package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// saidError is a command that has said itself why it did not do what was asked:
// nothing is left but the exit code.
type saidError struct{}

func (saidError) Error() string { return "it failed" }

func (c *cli) nextHopCommand() *cobra.Command {
	var vsid uint32
	var src, dst string
	cmd := &cobra.Command{
		Use: "nexthop --vsid VSID --src-ca CA --dst-ca ADDR", Aliases: []string{"next-hop"}, Short: "Tell where packets to an address go", Args: takesAtMost(0),
		Long: `Tell where packets from a customer address to another one go, by the lookup
records and routes that the machine has: the next hop, both MAC addresses, the
provider addresses, the virtual subnet and the rule. The source may be on any host.

The exit code is 1 where there is no way.`,
		Example: `  gatewayctl nexthop --vsid 5001 --src-ca 10.1.1.11 --dst-ca 10.1.2.11
  gatewayctl nexthop --vsid 5001 --src-ca 10.1.1.11 --dst-ca 198.51.100.10 -o json`,
	}
	endFlags(cmd, &vsid, &src, &dst)
	require(cmd, "vsid", "src-ca", "dst-ca")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		n, err := c.client.NextHop(ctx, vsid, src, dst)
		if err != nil {
			return err
		}
		if err := c.show(n, func(w io.Writer) { writeNextHop(w, n) }); err != nil {
			return err
		}
		if n.Reason != "" {
			return saidError{}
		}
		return nil
	})
	return c.shows(cmd)
}

// endFlags name both ends of a conversation.
func endFlags(cmd *cobra.Command, vsid *uint32, src, dst *string) {
	fl := cmd.Flags()
	fl.Uint32Var(vsid, "vsid", 0, "virtual subnet ID of the source")
	fl.StringVar(src, "src-ca", "", "customer address of the source")
	fl.StringVar(dst, "dst-ca", "", "address of the destination")
}

func writeNextHop(w io.Writer, n v1.NextHop) {
	var f facts
	f.add("Tenant", n.Tenant)
	f.add("Next hop", n.NextHop)
	f.add("Way", wayWords(n))
	if n.VSID != 0 {
		f.add("VSID", number(n.VSID))
	}
	f.add("Sent to MAC", n.SentTo)
	if n.Reason == "" && !n.Router {
		f.add("Arrives from MAC", n.SrcMAC)
		f.add("Arrives at MAC", n.DstMAC)
	}
	f.add("Source PA", strings.Join(n.SrcPAs, ", "))
	if n.Reason == "" && !n.Router {
		f.add("Destination PA", strings.Join(n.DstPAs, ", "))
		f.add("Rule", n.Rule)
		f.add("Record", n.Type)
		f.add("Where", whereWords(n))
	}
	f.write(w)
}

func wayWords(n v1.NextHop) string {
	by := n.Match
	switch {
	case n.Reason != "":
		return fmt.Sprintf("none: %s (%s)", n.Reason, strings.TrimSuffix(n.Meaning, "."))
	case n.Router:
		return "the distributed router itself, which answers on the source's machine"
	case n.Wildcard:
		by = "a wildcard record, for want of a route"
	case n.CustomerRoute:
		by = "customer route " + n.Match
		if len(n.Equal) > 1 {
			by += ", whose flows spread over " + strings.Join(n.Equal, ", ")
		}
	}
	if n.Routed {
		return "routed by " + by
	}
	return "bridged in " + by
}

func whereWords(n v1.NextHop) string {
	where := "another machine"
	if n.Local {
		where = "this machine"
	}
	if n.Compartment {
		return "the tenant's compartment, on " + where
	}
	return where
}
