package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) subnetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "subnet", Aliases: []string{"subnets"}, Short: "Virtual subnets: what holds for all their ports",
		Long: `Virtual subnets, and what holds for all their ports. They are added to a tenant
and taken away from it with 'gatewayctl tenant set'.`,
	}
	cmd.AddCommand(c.subnetList(), c.subnetSet())
	return cmd
}

// subnetRow is what subnet list prints of one.
type subnetRow struct {
	Tenant string `json:"tenant"`
	v1.Subnet
}

// subnetRows is what subnet list prints.
type subnetRows struct {
	Items []subnetRow `json:"items"`
}

func (c *cli) subnetList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the virtual subnets", Args: takesAtMost(1),
		Example: "  gatewayctl subnet list contoso\n  gatewayctl subnet list -o json", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		items, err := c.tenantsNamed(ctx, args)
		if err != nil {
			return err
		}
		rows := subnetRows{Items: []subnetRow{}}
		for _, t := range items {
			for _, s := range t.Subnets {
				rows.Items = append(rows.Items, subnetRow{t.Name, s})
			}
		}
		return c.show(rows, func(w io.Writer) {
			t := table{header: append([]string{"TENANT"}, subnetHeader...), none: "No virtual subnets."}
			for _, r := range rows.Items {
				for _, cells := range subnetCells(r.Subnet) {
					t.add(append([]string{r.Tenant}, cells...)...)
				}
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// tenantsNamed gives the tenant that an argument names, or else all.
func (c *cli) tenantsNamed(ctx context.Context, args []string) ([]v1.Tenant, error) {
	if len(args) == 0 {
		return c.client.Tenants(ctx)
	}
	t, _, err := c.client.Tenant(ctx, args[0])
	return []v1.Tenant{t}, err
}

var subnetHeader = []string{"VSID", "PREFIX", "ROUTER", "ACL", "LEARNING", "MULTICAST GROUP", "DHCP"}

// subnetCells gives a row for each prefix; what holds for all of them stands in
// each.
func subnetCells(s v1.Subnet) (rows [][]string) {
	for _, p := range s.Prefixes {
		prefix, router, _ := strings.Cut(p, "@")
		rows = append(rows, []string{number(s.VSID), prefix, router, s.ACL, learningWords(s.Learning), s.MulticastGroup, s.DHCP})
	}
	return rows
}

func learningWords(l *v1.Learning) string {
	if l == nil {
		return ""
	}
	words := []string{"on"}
	if l.MaxPerPort != 0 {
		words = append(words, fmt.Sprintf("at most %d", l.MaxPerPort))
	}
	if l.AgeSeconds != 0 {
		age := (time.Duration(l.AgeSeconds) * time.Second).String()
		if strings.HasSuffix(age, "m0s") {
			age = strings.TrimSuffix(age, "0s")
		}
		words = append(words, age)
	}
	return strings.Join(words, ",")
}

// subnetFlags are what subnet set takes.
type subnetFlags struct {
	acl, group, dhcp         string
	learning                 bool
	learnMax                 uint16
	learnAge                 time.Duration
	noACL, noLearning        bool
	noMulticastGroup, noDHCP bool
}

func (c *cli) subnetSet() *cobra.Command {
	var f subnetFlags
	cmd := &cobra.Command{
		Use:   "set TENANT VSID [flags]",
		Short: "Change what holds for all ports of a virtual subnet",
		Long: `Change what holds for all ports of a virtual subnet: what no flag names stays.

With --learning the customer addresses of VMs that have a record of type l2only
are learned from what these send. A learned address becomes a lookup record of
type dynamic; it never takes the place of a static one.

Broadcasts are sent to each host by unicast, or once to --multicast-group where
the provider network forwards that. One group may serve several virtual subnets
of one tenant.`,
		Example: `  gatewayctl subnet set contoso 5001 --acl web
  gatewayctl subnet set contoso 5001 --learning --learn-max 4 --learn-age 20m
  gatewayctl subnet set contoso 5001 --no-learning --no-acl
  gatewayctl subnet set contoso 5001 --multicast-group 239.1.1.1 --dhcp 10.1.1.5`,
		Args: takes("TENANT", "VSID"), ValidArgsFunction: c.completeTenants,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.acl, "acl", "", "ACL of the tenant for ports that name none of their own")
	fl.BoolVar(&f.noACL, "no-acl", false, "name no ACL")
	fl.BoolVar(&f.learning, "learning", false, "learn customer addresses of l2only records")
	fl.Uint16Var(&f.learnMax, "learn-max", 0, "how many addresses are learned at a port (0: 8)")
	fl.DurationVar(&f.learnAge, "learn-age", 0, "how long an address is kept without a sign of life, as 90s or 20m (0: 20m)")
	fl.BoolVar(&f.noLearning, "no-learning", false, "learn nothing; what was learned goes")
	fl.StringVar(&f.group, "multicast-group", "", "group of the provider network that carries broadcasts")
	fl.BoolVar(&f.noMulticastGroup, "no-multicast-group", false, "send broadcasts to each host by unicast")
	fl.StringVar(&f.dhcp, "dhcp", "", "customer address of the DHCP server, in the virtual subnet")
	fl.BoolVar(&f.noDHCP, "no-dhcp", false, "name no DHCP server")
	cmd.MarkFlagsMutuallyExclusive("acl", "no-acl")
	cmd.MarkFlagsMutuallyExclusive("multicast-group", "no-multicast-group")
	cmd.MarkFlagsMutuallyExclusive("dhcp", "no-dhcp")
	for _, name := range []string{"learning", "learn-max", "learn-age"} {
		cmd.MarkFlagsMutuallyExclusive(name, "no-learning")
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		vsid, err := parseVSID("the second argument", args[1])
		if err != nil {
			return err
		}
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		_, err = c.client.UpdateTenant(ctx, args[0], func(t *v1.Tenant) error {
			i := slices.IndexFunc(t.Subnets, func(s v1.Subnet) bool { return s.VSID == vsid })
			if i < 0 {
				return fmt.Errorf("tenant %s has no subnet with VSID %d: it has %s", t.Name, vsid, vsids(t))
			}
			return f.change(fl.Changed, &t.Subnets[i])
		})
		if err != nil {
			return err
		}
		c.say("subnet %d of tenant %s set", vsid, args[0])
		return nil
	})
	return cmd
}

func vsids(t *v1.Tenant) string {
	var out []string
	for _, s := range t.Subnets {
		out = append(out, number(s.VSID))
	}
	return strings.Join(out, ", ")
}

// change brings what the flags say into s.
func (f *subnetFlags) change(given func(string) bool, s *v1.Subnet) error {
	for _, o := range []struct {
		name, value string
		none        bool
		field       *string
	}{
		{"acl", f.acl, f.noACL, &s.ACL},
		{"multicast-group", f.group, f.noMulticastGroup, &s.MulticastGroup},
		{"dhcp", f.dhcp, f.noDHCP, &s.DHCP},
	} {
		switch {
		case o.none:
			*o.field = ""
		case given(o.name) && o.value == "":
			return usagef("--%s is empty: use --no-%s to name none", o.name, o.name)
		case given(o.name):
			*o.field = o.value
		}
	}
	return f.changeLearning(given, s)
}

func (f *subnetFlags) changeLearning(given func(string) bool, s *v1.Subnet) error {
	switch {
	case f.noLearning || given("learning") && !f.learning:
		s.Learning = nil
		if given("learn-max") || given("learn-age") {
			return usagef("--learn-max and --learn-age make no sense where nothing is learned")
		}
		return nil
	case f.learning && s.Learning == nil:
		s.Learning = &v1.Learning{}
	}
	if !given("learn-max") && !given("learn-age") {
		return nil
	}
	if s.Learning == nil {
		return usagef("--learn-max and --learn-age need --learning: nothing is learned in VSID %d", s.VSID)
	}
	l := *s.Learning
	if given("learn-max") {
		l.MaxPerPort = f.learnMax
	}
	if given("learn-age") {
		seconds := f.learnAge / time.Second
		if f.learnAge < 0 || f.learnAge%time.Second != 0 || seconds > 1<<31 {
			return usagef("--learn-age %s is not a number of whole seconds", f.learnAge)
		}
		l.AgeSeconds = uint32(seconds)
	}
	s.Learning = &l
	return nil
}
