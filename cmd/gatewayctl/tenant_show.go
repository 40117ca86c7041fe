package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// tenantDetail is what tenant show prints.
type tenantDetail struct {
	Tenant v1.Tenant       `json:"tenant"`
	Status v1.TenantStatus `json:"status"`
}

func (c *cli) tenantShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a tenant, its state and its counters", Args: takes("NAME"),
		Example: "  gatewayctl tenant show contoso", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		var d tenantDetail
		var err error
		if d.Tenant, _, err = c.client.Tenant(ctx, args[0]); err != nil {
			return err
		}
		if d.Status, err = c.client.TenantStatus(ctx, args[0]); err != nil {
			return err
		}
		return c.show(d, func(w io.Writer) { writeTenant(w, d) })
	})
	return c.shows(cmd)
}

func writeTenant(w io.Writer, d tenantDetail) {
	t, st := d.Tenant, d.Status
	var f facts
	f.add("Name", t.Name)
	f.add("RDID", t.RDID)
	f.add("Encapsulation", t.Encap)
	f.add("Phase", string(st.Phase))
	if g := t.Gateway; g != nil {
		f.add("Gateway subnet", number(g.VSID))
		f.add("Gateway addresses", strings.Join(g.CAs, ", "))
		f.add("Compartment", st.Compartment)
		f.add("Uplink", g.Uplink)
		if g.NAT != nil {
			f.add("External addresses", strings.Join(g.NAT.Pool, ", "))
			f.add("Connections", connectionWords(st.NAT, g.NAT.ConnectionLimit))
			f.add("NAT offload", offloadWords(st.NAT, g.NAT.Offload))
		}
	} else {
		f.add("Gateway", "elsewhere: the tenant is only hosted here")
	}
	writeReach(&f, st)
	writeQoS(&f, t)
	f.add("Lookup records", number(st.Records))
	f.add("Observed revision", number(st.ObservedRevision))
	f.add("Repairs", repairWords(st))
	f.write(w)

	fmt.Fprintln(w)
	subnets := table{header: subnetHeader}
	for _, s := range t.Subnets {
		for _, cells := range subnetCells(s) {
			subnets.add(cells...)
		}
	}
	subnets.write(w)
	writeConditions(w, st.Conditions)
	writeCounters(w, st.Counters)
	writeLayers(w, st.Layers)
	if st.NAT != nil {
		writeDrops(w, "DROPPED IN THE COMPARTMENT", st.NAT.Drops)
	}
}

// writeReach says what leads the tenant to its sites.
func writeReach(f *facts, st v1.TenantStatus) {
	if a := st.Agent; a != nil {
		f.add("Agent", agentWords(a))
	}
	if t := st.Tunnels; t != nil {
		f.add("Tunnels", tallyWords(t))
	}
	if b := st.BGPSessions; b != nil {
		f.add("BGP sessions", tallyWords(b))
	}
	if r := st.DerivedRoutes; r != nil {
		words := number(r.Used)
		if r.LeftOut > 0 {
			words += fmt.Sprintf(", and %d that the default route stands for", r.LeftOut)
		}
		f.add("Routes to sites", words)
	}
}

func agentWords(a *v1.AgentStatus) string {
	words := "does not run"
	if a.Running {
		words = fmt.Sprintf("process %d", a.PID)
		if a.Adopted {
			words += ", adopted"
		}
	}
	if a.Version != "" {
		words += ", release " + a.Version
	}
	words += fmt.Sprintf(", %s", plural(a.Restarts, "restart"))
	if a.LastError != "" {
		words += ": " + a.LastError
	}
	return words
}

func tallyWords(t *v1.Tally) string { return fmt.Sprintf("%d of %d up", t.Up, t.Total) }

// shortTally is tallyWords for a column.
func shortTally(t *v1.Tally) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", t.Up, t.Total)
}

func writeQoS(f *facts, t v1.Tenant) {
	if q := t.QoS; q != nil {
		f.add("Rate limits", fmt.Sprintf("in %s, out %s", rateWords(q.InKbps), rateWords(q.OutKbps)))
		f.add("Outer DSCP", q.DSCP)
	}
	if t.StormPPS != 0 {
		f.add("Broadcast limit", fmt.Sprintf("%d frames/s", t.StormPPS))
	}
}

func rateWords(kbps uint64) string {
	if kbps == 0 {
		return "none"
	}
	return fmt.Sprintf("%d kbit/s", kbps)
}

func connectionWords(n *v1.NATStatus, limit uint32) string {
	if n == nil {
		return fmt.Sprintf("at most %d", limit)
	}
	return fmt.Sprintf("%d of at most %d", n.Connections, limit)
}

// offloadWords tell who translates established connections, and else what was asked
// for.
func offloadWords(n *v1.NATStatus, asked string) string {
	switch {
	case (n == nil || n.Offload == "") && asked == "":
		return "auto"
	case n == nil || n.Offload == "":
		return asked
	case n.OffloadReason != "":
		return fmt.Sprintf("%s: %s", n.Offload, n.OffloadReason)
	case n.Offloaded != nil:
		return fmt.Sprintf("%s, %d packets in, %d out", n.Offload, n.Offloaded.In.Packets, n.Offloaded.Out.Packets)
	}
	return n.Offload
}

func repairWords(st v1.TenantStatus) string {
	if st.LastRepair == nil {
		return number(st.Repairs)
	}
	return fmt.Sprintf("%d, last %s: %s", st.Repairs, st.LastRepair.Time.UTC().Format("2006-01-02 15:04:05Z"), strings.Join(st.LastRepair.What, "; "))
}

func writeConditions(w io.Writer, conds []v1.Condition) {
	if len(conds) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"CONDITION", "STATUS", "REASON", "MESSAGE"}}
	for _, c := range conds {
		status := "no"
		if c.Status {
			status = "yes"
		}
		t.add(c.Type, status, c.Reason, c.Message)
	}
	t.write(w)
}

func writeCounters(w io.Writer, c v1.Counters) {
	fmt.Fprintln(w)
	t := table{header: []string{"TRAFFIC", "PACKETS", "BYTES"}}
	t.add("from fabric", number(c.FromFabric.Packets), number(c.FromFabric.Bytes))
	t.add("to fabric", number(c.ToFabric.Packets), number(c.ToFabric.Bytes))
	t.add("from ports", number(c.FromPorts.Packets), number(c.FromPorts.Bytes))
	t.add("to ports", number(c.ToPorts.Packets), number(c.ToPorts.Bytes))
	t.add("answered", number(c.Answered), "")
	t.add("ICMP errors", number(c.ICMPErrors), "")
	t.write(w)
	writeDrops(w, "DROPPED", c.Drops)
}

func writeDrops(w io.Writer, head string, drops []v1.Drop) {
	if len(drops) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{head, "PACKETS"}}
	for _, d := range drops {
		t.add(d.Reason, number(d.Packets))
	}
	t.write(w)
}
