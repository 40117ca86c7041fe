package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) portShow() *cobra.Command {
	var layers, flows bool
	var limit int
	var ca string
	cmd := &cobra.Command{
		Use: "show (IFACE | compartment/TENANT) [flags]", Short: "Show the layers, rates, addresses and flows of a port", Args: takes("IFACE"),
		Long: `Show all that decides about a port's packets, with what it has counted: its layers
with their groups and rules, in the order in which packets that it sends meet them,
the rates that limit it, the addresses that were learned, and the flows of its
unified flow table, the busiest first. A tenant's compartment is a port, too.`,
		Example: `  gatewayctl port show vm1
  gatewayctl port show vm1 --flows --ca 10.1.2.11
  gatewayctl port show compartment/contoso --layers`,
		ValidArgsFunction: c.completePorts,
	}
	fl := cmd.Flags()
	fl.BoolVar(&layers, "layers", false, "show the layers only")
	fl.BoolVar(&flows, "flows", false, "show the flows only")
	fl.IntVar(&limit, "limit", 100, "how many flows at most, up to 10000")
	fl.StringVar(&ca, "ca", "", "only flows of this customer address, or inside this prefix")
	cmd.MarkFlagsMutuallyExclusive("layers", "flows")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if limit < 0 || limit > 10000 {
			return usagef("--limit %d is out of range: use 0 to 10000", limit)
		}
		if layers {
			limit = 0
		}
		p, err := c.client.InspectPort(ctx, args[0], limit, ca)
		if err != nil {
			return err
		}
		return c.show(p, func(w io.Writer) {
			if !layers && !flows {
				writePort(w, p)
				fmt.Fprintln(w)
			}
			if !flows {
				writePortLayers(w, p.Layers)
			}
			if !layers && !flows {
				fmt.Fprintln(w)
			}
			if !layers {
				writeFlows(w, p)
			}
		})
	})
	return c.shows(cmd)
}

func writePort(w io.Writer, p v1.PortInspection) {
	var f facts
	f.add("Port", p.Port)
	f.add("Tenant", p.Tenant)
	f.add("RDID", p.RDID)
	f.add("VSID", number(p.VSID))
	f.add("MAC", p.MAC)
	f.add("Kind", p.Kind)
	f.add("MTU", count(p.MTU))
	f.add("ACL", p.ACL)
	if !p.Up {
		f.add("Up", "no: its tenant or virtual subnet is gone")
	}
	for _, m := range p.Meters {
		f.add("Rate "+m.Direction, fmt.Sprintf("%s of the %s, %d bytes at once", rateWords(m.Kbps), m.Of, m.Burst))
	}
	for _, l := range p.Learned {
		text := fmt.Sprintf("%s since %s, last seen %s", l.CA, l.Since, l.Seen)
		if l.Leased != "" {
			text += ", leased until " + l.Leased
		}
		f.add("Learned", text)
	}
	t := p.Table
	f.add("Flow table", fmt.Sprintf("%d flows; %d hits, %d misses, %d inserted, %d evicted, %d found no room", t.Flows, t.Hits, t.Misses, t.Inserted, t.Evicted, t.Full))
	f.write(w)
}

func writePortLayers(w io.Writer, layers []v1.LayerState) {
	t := table{header: []string{"LAYER", "GROUP", "DIRECTION", "RULE", "MATCH", "ACTION", "PACKETS", "BYTES"}, none: "No layers."}
	for _, l := range layers {
		if len(l.Groups) == 0 {
			t.add(l.Name, "", "", "", "", "", "", "")
		}
		for _, g := range l.Groups {
			dir := g.Direction
			if g.Family != "any" {
				dir += " " + g.Family
			}
			for _, r := range g.Rules {
				t.add(l.Name, g.Name, dir, r.ID, r.Match, r.Action, number(r.Packets), number(r.Bytes))
			}
		}
	}
	t.write(w)
}

func writeFlows(w io.Writer, p v1.PortInspection) {
	t := table{header: []string{"DIRECTION", "PROTO", "FROM", "TO", "STATE", "IDLE", "EXPIRES", "SENT", "REPLIED", "ACTION", "RULES"}, none: "No flows."}
	for _, f := range p.Flows {
		replied := ""
		if f.Replied != nil {
			replied = traffic(*f.Replied)
		}
		t.add(f.Direction, f.Proto, f.Src, f.Dst, f.State, number(f.Idle)+"s", number(f.Expires)+"s", traffic(f.Sent), replied, f.Action, strings.Join(f.Rules, " "))
	}
	t.write(w)
	if n := p.Table.Flows - len(p.Flows); n > 0 {
		fmt.Fprintf(w, "%d of %d flows; see --limit and --ca.\n", len(p.Flows), p.Table.Flows)
	}
}

func writeLayers(w io.Writer, layers []v1.LayerCounters) {
	if len(layers) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"LAYER", "MATCHED", "BYTES", "DROPPED"}}
	for _, l := range layers {
		t.add(l.Layer, number(l.Matched.Packets), number(l.Matched.Bytes), number(l.Dropped))
	}
	t.write(w)
}
