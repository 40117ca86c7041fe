package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) bgpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bgp", Short: "BGP: routes exchanged with a tenant's sites and the datacenter",
		Long: `BGP exchanges routes between a tenant's compartment and the routers that it reaches
through tunnels, attachments and the uplink. What is learned is used there, and told to
the tenant's hosts; the tenant's own prefixes and mapped addresses are advertised.`,
	}
	router := &cobra.Command{Use: "router", Aliases: []string{"routers"}, Short: "The BGP speaker of a tenant's compartment"}
	router.AddCommand(c.bgpRouterSet(), c.bgpRouterList(), c.bgpRouterShow(), c.bgpRouterDelete())
	peer := &cobra.Command{Use: "peer", Aliases: []string{"peers", "neighbor"}, Short: "BGP peers: the neighbours of a speaker"}
	peer.AddCommand(c.bgpPeerAdd(), c.bgpPeerSet(), c.bgpPeerList(), c.bgpPeerShow(), c.bgpPeerDelete())
	cmd.AddCommand(router, peer, c.bgpRoutes(), c.bgpSoftReset())
	return cmd
}

// routerFlags are what a speaker can be given.
type routerFlags struct {
	v1.BGPRouter
	networks, aggregates, summaries []string
}

func (c *cli) bgpRouterSet() *cobra.Command {
	var f routerFlags
	var noNetworks, noAggregates bool
	cmd := &cobra.Command{
		Use: "set TENANT --asn N [flags]", Short: "Make a tenant's BGP speaker, or change it", Args: takes("TENANT"),
		Long: `Make a tenant's BGP speaker, or change it: what no flag names stays. Networks and
aggregates that are given replace those that stand; attributes of theirs are given in a
document ('gatewayctl apply --help').

Another AS number or router ID ends all its sessions.`,
		Example: `  gatewayctl bgp router set contoso --asn 64512
  gatewayctl bgp router set contoso --ecmp 4 --network 10.9.0.0/16 --aggregate 10.0.0.0/8
  gatewayctl bgp router set contoso --no-tenant-prefixes --summary 10.1.0.0/16`,
		ValidArgsFunction: c.completeTenants,
	}
	fl := cmd.Flags()
	fl.Uint32Var(&f.ASN, "asn", 0, "AS number; needed to make one")
	fl.StringVar(&f.RouterID, "router-id", "", "router ID, an IPv4 address (default the compartment's first)")
	fl.Uint16Var(&f.ECMP, "ecmp", 0, "how many equally good next hops are used at once, 1 to 64")
	fl.StringSliceVar(&f.networks, "network", nil, "prefix to advertise besides the tenant's own (repeatable)")
	fl.StringSliceVar(&f.aggregates, "aggregate", nil, "prefix to advertise while a more specific one is known (repeatable)")
	fl.StringSliceVar(&f.summaries, "summary", nil, "likewise, instead of the more specific ones (repeatable)")
	fl.BoolVar(&noNetworks, "no-networks", false, "take all networks away")
	fl.BoolVar(&noAggregates, "no-aggregates", false, "take all aggregates and summaries away")
	fl.BoolVar(&f.NoTenantPrefixes, "no-tenant-prefixes", false, "do not advertise the virtual subnets by itself; =false does again")
	fl.BoolVar(&f.NoMappedAddresses, "no-mapped-addresses", false, "do not advertise the addresses of static mappings by itself; =false does again")
	cmd.MarkFlagsMutuallyExclusive("network", "no-networks")
	cmd.MarkFlagsMutuallyExclusive("aggregate", "no-aggregates")
	cmd.MarkFlagsMutuallyExclusive("summary", "no-aggregates")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		change := func(r *v1.BGPRouter) error {
			f.change(fl.Changed, r)
			if noNetworks {
				r.Networks = nil
			}
			if noAggregates {
				r.Aggregates = nil
			}
			return nil
		}
		there, err := c.client.BGPRouters(ctx, args[0])
		if err != nil {
			return err
		}
		var r v1.BGPRouter
		if len(there) > 0 {
			r, err = c.client.UpdateBGPRouter(ctx, args[0], change)
		} else {
			if !fl.Changed("asn") {
				return usagef("missing: --asn: tenant %s has no BGP router yet", args[0])
			}
			r.Tenant = args[0]
			if err = change(&r); err == nil {
				r, err = c.client.CreateBGPRouter(ctx, r)
			}
		}
		if err != nil {
			return err
		}
		c.say("BGP router of tenant %s set: AS %d", r.Tenant, r.ASN)
		return nil
	})
	return cmd
}

// change brings what the flags say into r.
func (f *routerFlags) change(given func(string) bool, r *v1.BGPRouter) {
	aggregates := func(summary bool, in []string) func() {
		return func() {
			r.Aggregates = slices.DeleteFunc(r.Aggregates, func(a v1.BGPAggregate) bool { return a.SummaryOnly == summary })
			for _, p := range in {
				r.Aggregates = append(r.Aggregates, v1.BGPAggregate{Prefix: p, SummaryOnly: summary})
			}
		}
	}
	moves(given, map[string]func(){
		"asn":       func() { r.ASN = f.ASN },
		"router-id": func() { r.RouterID = f.RouterID },
		"ecmp":      func() { r.ECMP = f.ECMP },
		"network": func() {
			r.Networks = nil
			for _, p := range f.networks {
				r.Networks = append(r.Networks, v1.BGPNetwork{Prefix: p})
			}
		},
		"no-tenant-prefixes":  func() { r.NoTenantPrefixes = f.NoTenantPrefixes },
		"no-mapped-addresses": func() { r.NoMappedAddresses = f.NoMappedAddresses },
	})
	if given("aggregate") {
		aggregates(false, f.aggregates)()
	}
	if given("summary") {
		aggregates(true, f.summaries)()
	}
}

func (c *cli) bgpRouterList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the tenants' BGP speakers", Args: takesAtMost(0), Example: "  gatewayctl bgp router list",
	}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.BGPRouters(ctx, "")
		if err != nil {
			return err
		}
		st := map[string]v1.BGPStatus{}
		for _, r := range items {
			if c.format != "table" {
				break
			}
			if st[r.Tenant], err = c.client.BGPStatus(ctx, r.Tenant); err != nil {
				return err
			}
		}
		return c.show(v1.BGPRouterList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "PHASE", "AS", "ROUTER ID", "PEERS", "ESTABLISHED", "ROUTES", "MESSAGE"}, none: "No BGP routers."}
			for _, r := range items {
				s, up := st[r.Tenant], 0
				for _, p := range s.Peers {
					if p.Session == "established" {
						up++
					}
				}
				t.add(r.Tenant, string(s.Phase), number(r.ASN), cmp.Or(s.RouterID, r.RouterID), number(len(s.Peers)), number(up), number(s.FIB.Installed), s.Message)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// routerDetail is what bgp router show prints.
type routerDetail struct {
	Router v1.BGPRouter `json:"router"`
	Status v1.BGPStatus `json:"status"`
}

func (c *cli) bgpRouterShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TENANT", Short: "Show a tenant's BGP speaker and its peers", Args: takes("TENANT"),
		Example: "  gatewayctl bgp router show contoso", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		var d routerDetail
		var err error
		if d.Router, _, err = c.client.BGPRouter(ctx, args[0]); err != nil {
			return err
		}
		if d.Status, err = c.client.BGPStatus(ctx, args[0]); err != nil {
			return err
		}
		return c.show(d, func(w io.Writer) { writeRouter(w, d) })
	})
	return c.shows(cmd)
}

func writeRouter(w io.Writer, d routerDetail) {
	r, st := d.Router, d.Status
	var f facts
	f.add("Tenant", r.Tenant)
	f.add("Phase", string(st.Phase))
	if st.Message != "" {
		f.add("Message", st.Message)
	}
	f.add("AS", number(r.ASN))
	f.add("Router ID", cmp.Or(st.RouterID, r.RouterID))
	f.add("ECMP", number(max(r.ECMP, 1)))
	f.add("Routes in use", fibWords(st.FIB))
	var aggregates []string
	for _, a := range r.Aggregates {
		word := a.Prefix
		if a.SummaryOnly {
			word += " (summary only)"
		}
		if !slices.Contains(st.Aggregates, a.Prefix) {
			word += " (not advertised: nothing more specific is known)"
		}
		aggregates = append(aggregates, word)
	}
	advertised := strings.Join(st.Networks, ", ")
	if st.Withheld {
		advertised = "nothing: the compartment cannot forward"
	}
	f.add("Advertised", advertised)
	f.add("Aggregates", strings.Join(aggregates, ", "))
	if st.Restarting {
		f.add("Restarting", "yes: routes of before are kept until the peers have told theirs")
	}
	f.write(w)
	fmt.Fprintln(w)
	t := table{header: append([]string{"PEER"}, sessionHeader...), none: "No peers: «gatewayctl bgp peer add» makes one."}
	for _, p := range st.Peers {
		t.add(append([]string{p.Name}, sessionCells(p)...)...)
	}
	t.write(w)
}

func fibWords(f v1.BGPFIB) string {
	words := number(f.Installed)
	for _, x := range []struct {
		n    int
		word string
	}{{f.Unresolved, "without a reachable next hop"}, {f.Stale, "stale"}, {f.Conflicts, "whose place something else has"}} {
		if x.n > 0 {
			words += fmt.Sprintf(", %d %s", x.n, x.word)
		}
	}
	if f.LastError != "" {
		words += "; the kernel refused: " + f.LastError
	}
	return words
}

var sessionHeader = []string{"ADDRESS", "AS", "SESSION", "UP/DOWN", "RECEIVED", "ACCEPTED", "ADVERTISED", "BFD", "LAST ERROR"}

// sessionCells is a row of a neighbour.
func sessionCells(p v1.BGPPeerStatus) []string {
	var received, accepted, advertised uint64
	known := len(p.Families) > 0
	for _, f := range p.Families {
		received, accepted = received+f.Received, accepted+f.Accepted
		if f.Advertised == nil {
			known = false
		} else {
			advertised += *f.Advertised
		}
	}
	cells := []string{p.Address, number(p.ASN), p.Session, optionalAge(p.SinceSeconds, "never"), number(received), number(accepted), "", p.BFD, p.LastError}
	if known {
		cells[6] = number(advertised)
	}
	if p.OverLimit {
		cells[8] = fmt.Sprintf("more prefixes than its limit; tried again in %s", age(p.RetrySeconds))
	}
	return cells
}

func (c *cli) bgpRouterDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT", Short: "Delete a tenant's BGP speaker", Args: takes("TENANT"),
		Long:    "Delete a tenant's BGP speaker, which must have no peers any more. What it learned goes.",
		Example: "  gatewayctl bgp router delete contoso", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteBGPRouter(ctx, args[0]); err != nil {
			return err
		}
		c.say("BGP router of tenant %s deleted", args[0])
		return nil
	})
	return cmd
}
