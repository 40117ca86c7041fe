package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/document"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// bgpFlags are what a BGP peer can be given.
type bgpFlags struct {
	v1.BGPPeer
	hold, keepalive, connectRetry, reEnable time.Duration
	restartTime, longLived, bfdInterval     time.Duration
	bfd, graceful                           bool
	bfdMultiplier                           uint16
	maxPrefixes                             uint32
	importFile, exportFile                  string
	importPrefixes, exportPrefixes          []string
	passwordFile                            string

	imported, exported *document.Policy
}

func (f *bgpFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.Address, "address", "", "address of the neighbour")
	fl.StringVar(&f.Prefix, "prefix", "", "neighbours may connect from this prefix; instead of --address")
	fl.Uint16Var(&f.Limit, "limit", 0, "with --prefix, how many there may be at once (default 64)")
	fl.Uint32Var(&f.ASN, "asn", 0, "AS number of the neighbour")
	fl.StringVar(&f.Local, "local", "", "this end's address of the session (default by route)")
	fl.Uint16Var(&f.Port, "port", 0, "TCP port of the neighbour (default 179)")
	fl.BoolVar(&f.Passive, "passive", false, "wait for the neighbour to connect")
	fl.BoolVar(&f.Disabled, "disabled", false, "keep the session down; =false lets it up again")
	fl.StringVar(&f.passwordFile, "password-file", "", "file of the TCP MD5 password, or - for standard input")
	fl.Uint16Var(&f.TTLSecurity, "ttl-security", 0, "how many hops away it is at most (GTSM); 0: no check")
	fl.Uint16Var(&f.MultihopTTL, "multihop", 0, "how many hops away an eBGP neighbour may be; 0: one")
	fl.DurationVar(&f.hold, "hold", 0, "hold time (default 90s)")
	fl.DurationVar(&f.keepalive, "keepalive", 0, "time between keepalives (default a third of the hold time)")
	fl.DurationVar(&f.connectRetry, "connect-retry", 0, "time between attempts to connect (default 10s)")
	fl.StringSliceVar(&f.Families, "family", nil, "whose routes are exchanged, ipv4 or ipv6 (repeatable; default that of the session)")
	fl.BoolVar(&f.bfd, "bfd", false, "watch the way to the neighbour by BFD; =false stops it")
	fl.DurationVar(&f.bfdInterval, "bfd-interval", 0, "time between BFD packets (default 200ms)")
	fl.Uint16Var(&f.bfdMultiplier, "bfd-multiplier", 0, "how many of them may be missing (default 3)")
	fl.BoolVar(&f.graceful, "graceful-restart", false, "keep routes while either end restarts; =false stops it")
	fl.DurationVar(&f.restartTime, "restart-time", 0, "for how long (default 2m)")
	fl.DurationVar(&f.longLived, "long-lived", 0, "for how much longer, as the last choice")
	fl.Uint32Var(&f.maxPrefixes, "max-prefixes", 0, "prefixes of a family that it may send (default 100000)")
	fl.DurationVar(&f.reEnable, "re-enable", 0, "after how long a session is tried again that ended by that (default 5m)")
	fl.BoolVar(&f.ASOverride, "as-override", false, "put the own AS in place of the neighbour's in paths sent to it")
	fl.StringVar(&f.RemovePrivateAS, "remove-private-as", "", "private AS numbers in paths sent: remove, or replace by the own")
	fl.Uint16Var(&f.AllowOwnAS, "allow-own-as", 0, "how many times the own AS may be in a path received")
	fl.BoolVar(&f.NextHopSelf, "next-hop-self", false, "name this speaker as next hop to an iBGP neighbour too")
	fl.BoolVar(&f.DefaultOriginate, "default-originate", false, "advertise a default route")
	fl.StringVar(&f.importFile, "import", "", "file of the import policy, YAML or JSON, or - for standard input")
	fl.StringVar(&f.exportFile, "export", "", "file of the export policy")
	fl.StringSliceVar(&f.importPrefixes, "import-prefix", nil, "take only these: 172.16.0.0/12, or '172.16.0.0/12 le 24' (repeatable)")
	fl.StringSliceVar(&f.exportPrefixes, "export-prefix", nil, "send only these (repeatable)")
	cmd.MarkFlagsMutuallyExclusive("import", "import-prefix")
	cmd.MarkFlagsMutuallyExclusive("export", "export-prefix")
	_ = cmd.RegisterFlagCompletionFunc("family", cobra.FixedCompletions([]string{"ipv4", "ipv6"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("remove-private-as", cobra.FixedCompletions([]string{"remove", "replace"}, cobra.ShellCompDirectiveNoFileComp))
}

// inUnits gives a length of time as a number of units of it.
func inUnits(flag string, d, unit time.Duration) (uint32, error) {
	n := d / unit
	if d < 0 || n > 1<<31 || d%unit != 0 {
		return 0, usagef("--%s %s is out of range: use whole %s", flag, d, map[time.Duration]string{time.Second: "seconds", time.Millisecond: "milliseconds"}[unit])
	}
	return uint32(n), nil
}

// resolve reads what the flags name.
func (f *bgpFlags) resolve(c *cli) (err error) {
	for _, x := range []struct {
		flag string
		d    time.Duration
		into *uint32
	}{
		{"hold", f.hold, &f.HoldSeconds}, {"keepalive", f.keepalive, &f.KeepaliveSeconds},
		{"connect-retry", f.connectRetry, &f.ConnectRetry}, {"re-enable", f.reEnable, &f.ReEnableSeconds},
	} {
		if *x.into, err = inUnits(x.flag, x.d, time.Second); err != nil {
			return err
		}
	}
	if f.imported, err = c.policy(f.importFile, f.importPrefixes); err != nil {
		return err
	}
	if f.exported, err = c.policy(f.exportFile, f.exportPrefixes); err != nil {
		return err
	}
	if f.passwordFile != "" {
		password, err := c.secret(f.passwordFile)
		if err != nil {
			return err
		}
		f.Password = &password
	}
	return nil
}

// policy reads a policy from a file, or makes that of the prefixes; nil: neither was
// given.
func (c *cli) policy(file string, prefixes []string) (*document.Policy, error) {
	if len(prefixes) > 0 {
		return &document.Policy{BGPPolicy: v1.BGPPolicy{Rules: []v1.BGPRule{{Match: &v1.BGPMatch{Prefixes: prefixes}}}, Default: "reject"}}, nil
	}
	if file == "" {
		return nil, nil
	}
	name, data, err := c.read(file)
	if err != nil {
		return nil, err
	}
	return document.ParsePolicy(document.Source{Name: name, Data: data})
}

// change brings what the flags say into p.
func (f *bgpFlags) change(given func(string) bool, p *v1.BGPPeer) error {
	moves(given, map[string]func(){
		"address":           func() { p.Address, p.Prefix = f.Address, "" },
		"prefix":            func() { p.Prefix, p.Address = f.Prefix, "" },
		"limit":             func() { p.Limit = f.Limit },
		"asn":               func() { p.ASN = f.ASN },
		"local":             func() { p.Local = f.Local },
		"port":              func() { p.Port = f.Port },
		"passive":           func() { p.Passive = f.Passive },
		"disabled":          func() { p.Disabled = f.Disabled },
		"ttl-security":      func() { p.TTLSecurity = f.TTLSecurity },
		"multihop":          func() { p.MultihopTTL = f.MultihopTTL },
		"hold":              func() { p.HoldSeconds = f.HoldSeconds },
		"keepalive":         func() { p.KeepaliveSeconds = f.KeepaliveSeconds },
		"connect-retry":     func() { p.ConnectRetry = f.ConnectRetry },
		"re-enable":         func() { p.ReEnableSeconds = f.ReEnableSeconds },
		"family":            func() { p.Families = f.Families },
		"as-override":       func() { p.ASOverride = f.ASOverride },
		"remove-private-as": func() { p.RemovePrivateAS = f.RemovePrivateAS },
		"allow-own-as":      func() { p.AllowOwnAS = f.AllowOwnAS },
		"next-hop-self":     func() { p.NextHopSelf = f.NextHopSelf },
		"default-originate": func() { p.DefaultOriginate = f.DefaultOriginate },
		"no-import":         func() { p.Import = nil },
		"no-export":         func() { p.Export = nil },
		"no-password":       func() { p.Password, p.HasPassword = new(string), false },
	})
	if f.Password != nil {
		p.Password, p.HasPassword = f.Password, false
	}
	if f.imported != nil {
		p.Import = &f.imported.BGPPolicy
	}
	if f.exported != nil {
		p.Export = &f.exported.BGPPolicy
	}
	if given("max-prefixes") {
		p.MaxPrefixes = f.limits(p)
	}
	if err := f.changeBFD(given, p); err != nil {
		return err
	}
	return f.changeRestart(given, p)
}

// limits gives every family that is exchanged the limit.
func (f *bgpFlags) limits(p *v1.BGPPeer) *v1.BGPMaxPrefixes {
	if f.maxPrefixes == 0 {
		return nil
	}
	out := &v1.BGPMaxPrefixes{}
	families := p.Families
	if len(families) == 0 {
		families = []string{"ipv4"}
		if strings.Contains(p.Address+p.Prefix, ":") {
			families = []string{"ipv6"}
		}
	}
	for _, name := range families {
		if name == "ipv6" {
			out.IPv6 = f.maxPrefixes
		} else {
			out.IPv4 = f.maxPrefixes
		}
	}
	return out
}

func (f *bgpFlags) changeBFD(given func(string) bool, p *v1.BGPPeer) error {
	if given("bfd") && !f.bfd {
		p.BFD = nil
		return nil
	}
	if !given("bfd") && !given("bfd-interval") && !given("bfd-multiplier") {
		return nil
	}
	b := v1.BGPBFD{}
	if p.BFD != nil {
		b = *p.BFD
	}
	var err error
	if given("bfd-interval") {
		b.IntervalMS, err = inUnits("bfd-interval", f.bfdInterval, time.Millisecond)
	}
	if given("bfd-multiplier") {
		b.Multiplier = f.bfdMultiplier
	}
	p.BFD = &b
	return err
}

func (f *bgpFlags) changeRestart(given func(string) bool, p *v1.BGPPeer) error {
	if given("graceful-restart") && !f.graceful {
		p.GracefulRestart = nil
		return nil
	}
	if !given("graceful-restart") && !given("restart-time") && !given("long-lived") {
		return nil
	}
	g := v1.BGPGracefulRestart{}
	if p.GracefulRestart != nil {
		g = *p.GracefulRestart
	}
	var err error
	if given("restart-time") {
		if g.Seconds, err = inUnits("restart-time", f.restartTime, time.Second); err != nil {
			return err
		}
	}
	if given("long-lived") {
		g.LongLivedSeconds, err = inUnits("long-lived", f.longLived, time.Second)
	}
	p.GracefulRestart = &g
	return err
}

// placed puts the place in a policy's file in front of what is wrong with it.
func (f *bgpFlags) placed(err error) error {
	return locate(err, func(at string) string {
		for steps, p := range map[string]*document.Policy{"body.import.": f.imported, "body.export.": f.exported} {
			if p == nil {
				continue
			}
			if place, ok := p.Place(at, steps); ok {
				return place.String()
			}
		}
		return ""
	})
}

const policyHelp = `
A policy is a file of rules, the first of which that matches decides:

  default: reject
  rules:
  - match: {prefixes: [172.16.0.0/12 le 24], asPath: [^65001_]}
    set: {localPref: 200, communities: {mode: add, list: ["64512:1"]}}

docs/guide/bgp.md tells all that it can say; --import-prefix and --export-prefix do
for a list of prefixes.`

func (c *cli) bgpPeerAdd() *cobra.Command {
	var f bgpFlags
	cmd := &cobra.Command{
		Use: "add TENANT NAME --address ADDR --asn N [flags]", Short: "Add a BGP peer", Args: takes("TENANT", "NAME"),
		Long: `Add a BGP peer: a router at the other end of a tunnel, in a physical network, or
outside. The tenant needs a speaker first ('gatewayctl bgp router set').
` + policyHelp,
		Example: `  gatewayctl bgp peer add contoso edge --address 169.254.10.2 --asn 65001 --bfd --import-prefix '172.16.0.0/12 le 24'
  gatewayctl bgp peer add contoso tor --address 172.20.0.1 --asn 65100 --password-file tor.md5 --ttl-security 1
  gatewayctl bgp peer add contoso servers --prefix 172.20.0.0/24 --asn 65200 --limit 16 --import servers.yaml`,
		ValidArgsFunction: c.completeTenants,
	}
	f.register(cmd)
	require(cmd, "asn")
	cmd.MarkFlagsOneRequired("address", "prefix")
	cmd.MarkFlagsMutuallyExclusive("address", "prefix")
	fl := cmd.Flags()
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := f.resolve(c); err != nil {
			return err
		}
		p := v1.BGPPeer{Tenant: args[0], Name: args[1]}
		if err := f.change(fl.Changed, &p); err != nil {
			return err
		}
		p, err := c.client.CreateBGPPeer(ctx, p)
		if err != nil {
			return f.placed(err)
		}
		c.say("BGP peer %s/%s created", p.Tenant, p.Name)
		return nil
	})
	return cmd
}

func (c *cli) bgpPeerSet() *cobra.Command {
	var f bgpFlags
	cmd := &cobra.Command{
		Use: "set TENANT NAME [flags]", Short: "Change a BGP peer", Args: takes("TENANT", "NAME"),
		Long: `Change a BGP peer: what no flag names stays. A new policy is applied to the routes
that are there, without ending the session.
` + policyHelp,
		Example: `  gatewayctl bgp peer set contoso edge --max-prefixes 5000 --graceful-restart
  gatewayctl bgp peer set contoso edge --import edge-in.yaml --export-prefix 10.1.0.0/16
  gatewayctl bgp peer set contoso edge --disabled`,
		ValidArgsFunction: c.completeBGPPeers,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.Bool("no-import", false, "have no import policy any more: take all")
	fl.Bool("no-export", false, "have no export policy any more: send all")
	fl.Bool("no-password", false, "have no password any more")
	cmd.MarkFlagsMutuallyExclusive("address", "prefix")
	for _, pair := range [][2]string{{"import", "no-import"}, {"import-prefix", "no-import"}, {"export", "no-export"}, {"export-prefix", "no-export"}, {"password-file", "no-password"}} {
		cmd.MarkFlagsMutuallyExclusive(pair[0], pair[1])
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		if err := f.resolve(c); err != nil {
			return err
		}
		_, err := c.client.UpdateBGPPeer(ctx, args[0], args[1], func(p *v1.BGPPeer) error { return f.change(fl.Changed, p) })
		if err != nil {
			return f.placed(err)
		}
		c.say("BGP peer %s/%s set", args[0], args[1])
		return nil
	})
	return cmd
}

func (c *cli) completeBGPPeers(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeTenants(cmd, args, part)
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.BGPPeers(cmd.Context(), args[0])
		for _, p := range items {
			names = append(names, p.Name)
		}
		return names, err
	})
}

func (c *cli) bgpPeerDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT NAME", Short: "Delete a BGP peer", Args: takes("TENANT", "NAME"),
		Long:    "Delete a BGP peer: its session ends, and what was learned from it goes.",
		Example: "  gatewayctl bgp peer delete contoso edge", ValidArgsFunction: c.completeBGPPeers,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteBGPPeer(ctx, args[0], args[1]); err != nil {
			return err
		}
		c.say("BGP peer %s/%s deleted", args[0], args[1])
		return nil
	})
	return cmd
}
