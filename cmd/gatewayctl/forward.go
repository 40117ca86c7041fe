package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) forwardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forward", Short: "Attachments: forwarding to physical networks without NAT",
		Long: `Attachments lead a tenant's compartment into a physical network. What goes over
them is forwarded as it is: addresses inside are seen outside, and the physical
network has to know the way back, by its own routes or by BGP.`,
	}
	cmd.AddCommand(c.forwardAdd(), c.forwardSet(), c.forwardList(), c.forwardShow(), c.forwardDelete())
	return cmd
}

// forwardFlags are what an attachment can be given.
type forwardFlags struct {
	v1.Attachment
	routes []string
}

func (f *forwardFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.Uplink, "uplink", "", "uplink of this machine, of any kind")
	fl.Uint16Var(&f.VLAN, "vlan", 0, "802.1Q tag, 1 to 4094, on an uplink of kind vlan")
	fl.StringSliceVar(&f.Addresses, "address", nil, "address of the compartment there with its on-link length; on a routed uplink /32 or /128 (repeatable)")
	fl.Uint16Var(&f.MTU, "mtu", 0, "bytes of the largest packet (default the uplink's)")
	fl.StringSliceVar(&f.routes, "route", nil, "what is behind that network, as PREFIX=ROUTER or PREFIX=ROUTER@METRIC; on a routed uplink PREFIX alone (repeatable)")
	fl.StringVar(&f.ReversePath, "reverse-path", "", "check of sources: strict, loose or off (default strict)")
	_ = cmd.RegisterFlagCompletionFunc("reverse-path", cobra.FixedCompletions([]string{"strict", "loose", "off"}, cobra.ShellCompDirectiveNoFileComp))
}

// routesOf reads the routes.
func routesOf(in []string) ([]v1.AttachmentRoute, error) {
	var out []v1.AttachmentRoute
	for _, s := range in {
		prefix, hop, _ := strings.Cut(s, "=")
		r := v1.AttachmentRoute{Prefix: prefix, NextHop: hop}
		rest := &r.NextHop
		if hop == "" {
			rest = &r.Prefix
		}
		if before, metric, ok := strings.Cut(*rest, "@"); ok {
			n, err := strconv.ParseUint(metric, 10, 32)
			if err != nil {
				return nil, usagef("--route %q: the metric is not a number: write PREFIX=ROUTER@METRIC", s)
			}
			*rest, r.Metric = before, uint32(n)
		}
		out = append(out, r)
	}
	return out, nil
}

func (c *cli) forwardAdd() *cobra.Command {
	var f forwardFlags
	cmd := &cobra.Command{
		Use: "add TENANT NAME --uplink U --address ADDR/LEN [flags]", Short: "Attach a tenant to a physical network", Args: takes("TENANT", "NAME"),
		Example: `  gatewayctl forward add contoso dc --uplink physical --address 172.20.0.2/24 --route 172.16.0.0/12=172.20.0.1
  gatewayctl forward add contoso tagged --uplink trunk --vlan 120 --address 172.21.0.2/24
  gatewayctl forward add contoso edge --uplink internet --address 203.0.113.50/32 --route 192.0.2.0/24`,
		ValidArgsFunction: c.completeTenants,
	}
	f.register(cmd)
	require(cmd, "uplink", "address")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		var err error
		f.Tenant, f.Name = args[0], args[1]
		if f.Routes, err = routesOf(f.routes); err != nil {
			return err
		}
		a, err := c.client.CreateAttachment(ctx, f.Attachment)
		if err != nil {
			return err
		}
		c.say("attachment %s/%s created on uplink %s", a.Tenant, a.Name, a.Uplink)
		return nil
	})
	return cmd
}

func (c *cli) forwardSet() *cobra.Command {
	var f forwardFlags
	var noRoutes bool
	cmd := &cobra.Command{
		Use: "set TENANT NAME [flags]", Short: "Change an attachment", Args: takes("TENANT", "NAME"),
		Long: "Change an attachment: what no flag names stays. Addresses and routes that are given\nreplace those that stand.",
		Example: `  gatewayctl forward set contoso dc --route 172.16.0.0/12=172.20.0.1 --route 10.9.0.0/16=172.20.0.3@20
  gatewayctl forward set contoso dc --no-routes --reverse-path loose`,
		ValidArgsFunction: c.completeAttachments,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&noRoutes, "no-routes", false, "take all routes away")
	cmd.MarkFlagsMutuallyExclusive("route", "no-routes")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		routes, err := routesOf(f.routes)
		if err != nil {
			return err
		}
		_, err = c.client.UpdateAttachment(ctx, args[0], args[1], func(a *v1.Attachment) error {
			moves(fl.Changed, map[string]func(){
				"uplink":       func() { a.Uplink = f.Uplink },
				"vlan":         func() { a.VLAN = f.VLAN },
				"address":      func() { a.Addresses = f.Addresses },
				"mtu":          func() { a.MTU = f.MTU },
				"route":        func() { a.Routes = routes },
				"no-routes":    func() { a.Routes = nil },
				"reverse-path": func() { a.ReversePath = f.ReversePath },
			})
			return nil
		})
		if err != nil {
			return err
		}
		c.say("attachment %s/%s set", args[0], args[1])
		return nil
	})
	return cmd
}

// moves does what the flags that were given stand for.
func moves(given func(string) bool, all map[string]func()) {
	for name, move := range all {
		if given(name) {
			move()
		}
	}
}

func (c *cli) completeAttachments(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeTenants(cmd, args, part)
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.Attachments(cmd.Context(), args[0])
		for _, a := range items {
			names = append(names, a.Name)
		}
		return names, err
	})
}

// oneArg is the argument, or empty.
func oneArg(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return ""
}

// statesOf asks for the state of objects of several tenants, by TENANT/NAME.
func statesOf[T any](ctx context.Context, tenants []string, ask func(context.Context, string) ([]T, error), key func(T) string) (map[string]T, error) {
	out := map[string]T{}
	last := ""
	for _, t := range tenants { // sorted
		if t == last {
			continue
		}
		last = t
		items, err := ask(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, x := range items {
			out[key(x)] = x
		}
	}
	return out, nil
}

func (c *cli) forwardList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the attachments", Args: takesAtMost(1),
		Example: "  gatewayctl forward list\n  gatewayctl forward list contoso -o json", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		items, err := c.client.Attachments(ctx, oneArg(args))
		if err != nil {
			return err
		}
		var st map[string]v1.AttachmentStatus
		if c.format == "table" {
			var tenants []string
			for _, a := range items {
				tenants = append(tenants, a.Tenant)
			}
			if st, err = statesOf(ctx, tenants, c.client.AttachmentStatuses, func(s v1.AttachmentStatus) string { return s.Tenant + "/" + s.Name }); err != nil {
				return err
			}
		}
		return c.show(v1.AttachmentList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "NAME", "PHASE", "UPLINK", "KIND", "VLAN", "ADDRESSES", "ROUTES", "MTU", "RECEIVED", "SENT", "MESSAGE"}, none: "No attachments."}
			for _, a := range items {
				s := st[a.Tenant+"/"+a.Name]
				t.add(a.Tenant, a.Name, string(s.Phase), a.Uplink, s.Kind, count(a.VLAN), strings.Join(a.Addresses, ","), number(len(a.Routes)), count(s.MTU),
					bytesWords(s.Received.Bytes), bytesWords(s.Sent.Bytes), s.Message)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// attachmentDetail is what forward show prints.
type attachmentDetail struct {
	Attachment v1.Attachment       `json:"attachment"`
	Status     v1.AttachmentStatus `json:"status"`
}

func (c *cli) forwardShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TENANT NAME", Short: "Show an attachment, its state and its counters", Args: takes("TENANT", "NAME"),
		Example: "  gatewayctl forward show contoso dc", ValidArgsFunction: c.completeAttachments,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		var d attachmentDetail
		var err error
		if d.Attachment, _, err = c.client.Attachment(ctx, args[0], args[1]); err != nil {
			return err
		}
		if d.Status, err = c.client.AttachmentStatus(ctx, args[0], args[1]); err != nil {
			return err
		}
		return c.show(d, func(w io.Writer) { writeAttachment(w, d) })
	})
	return c.shows(cmd)
}

func writeAttachment(w io.Writer, d attachmentDetail) {
	a, st := d.Attachment, d.Status
	var f facts
	f.add("Name", a.Name)
	f.add("Tenant", a.Tenant)
	f.add("Phase", string(st.Phase))
	if st.Message != "" {
		f.add("Message", st.Message)
	}
	f.add("Uplink", a.Uplink+" ("+st.Kind+")")
	if a.VLAN != 0 {
		f.add("VLAN", number(a.VLAN))
	}
	f.add("Interface", st.Interface)
	f.add("MAC", st.MAC)
	f.add("Carrier", yesNo(st.Carrier))
	f.add("MTU", count(st.MTU))
	f.add("Addresses", strings.Join(a.Addresses, ", "))
	f.add("Reverse path check", a.ReversePath)
	f.add("Received", trafficWords(st.Received))
	f.add("Sent", trafficWords(st.Sent))
	f.write(w)
	fmt.Fprintln(w)
	t := table{header: []string{"PREFIX", "NEXT HOP", "METRIC"}, none: "No routes: on-link prefixes and what BGP says."}
	for _, r := range a.Routes {
		t.add(r.Prefix, r.NextHop, count(r.Metric))
	}
	t.write(w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *cli) forwardDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT NAME", Short: "Delete an attachment", Args: takes("TENANT", "NAME"),
		Long:    "Delete an attachment. What went over it goes by the routes that are left, or not at all.",
		Example: "  gatewayctl forward delete contoso dc", ValidArgsFunction: c.completeAttachments,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteAttachment(ctx, args[0], args[1]); err != nil {
			return err
		}
		c.say("attachment %s/%s deleted", args[0], args[1])
		return nil
	})
	return cmd
}
