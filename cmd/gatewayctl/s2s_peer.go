package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// peerFlags are what the other end of a connection can be given.
type peerFlags struct {
	v1.S2SPeer
	probe         v1.S2SProbe
	probeInterval time.Duration
	pskFile       string
	newPSK, noPSK bool
	names         []string // of its flags
}

func (f *peerFlags) register(cmd *cobra.Command) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.StringVar(&f.PublicKey, "peer-key", "", "its public key, as 'wg pubkey' prints it")
	own.StringVar(&f.Endpoint, "endpoint", "", "where it is, as ADDR:PORT (default: it calls)")
	own.StringSliceVar(&f.Prefixes, "prefix", nil, "prefix behind it (repeatable)")
	own.BoolVar(&f.FromBGP, "from-bgp", false, "what else is behind it, BGP says")
	own.Uint16Var(&f.Keepalive, "keepalive", 0, "seconds between keepalives; 0: none")
	own.Uint32Var(&f.Priority, "priority", 0, "of several ways to a prefix the lowest that is alive is taken")
	own.Uint16Var(&f.Weight, "weight", 0, "share of the flows among ways of one priority, 1 to 256 (default 1)")
	own.StringVar(&f.probe.Target, "probe-target", "", "address behind it that answers echo requests (default its first prefix of a single address)")
	own.DurationVar(&f.probeInterval, "probe-interval", 0, "time between probes, 10ms to 1m (default 100ms, 1s where there is no other way)")
	own.Uint16Var(&f.probe.Fall, "probe-fall", 0, "probes without an answer that make it down (default 4)")
	own.Uint16Var(&f.probe.Rise, "probe-rise", 0, "answers in a row that make it up again (default 20, or 3)")
	own.StringVar(&f.pskFile, "preshared-key-file", "", "file of the pre-shared key, as 'wg genpsk' writes it, or - for standard input")
	own.BoolVar(&f.newPSK, "new-preshared-key", false, "draw a pre-shared key; 'gatewayctl s2s export-key' gives it for the other end")
	own.VisitAll(func(x *pflag.Flag) { f.names = append(f.names, x.Name) })
	cmd.Flags().AddFlagSet(own)
	cmd.MarkFlagsMutuallyExclusive("preshared-key-file", "new-preshared-key")
}

// anyChanged names one of its flags that was given; empty: none was.
func (f *peerFlags) anyChanged(given func(string) bool) string {
	if i := slices.IndexFunc(f.names, given); i >= 0 {
		return f.names[i]
	}
	return ""
}

// resolve reads what the flags name.
func (f *peerFlags) resolve(c *cli, given func(string) bool) error {
	if given("probe-interval") {
		ms := f.probeInterval.Milliseconds()
		if ms < 1 || ms > 1<<31 || f.probeInterval%time.Millisecond != 0 {
			return usagef("--probe-interval %s is out of range: use whole milliseconds, 10ms to 1m", f.probeInterval)
		}
		f.probe.IntervalMS = uint32(ms)
	}
	if f.probe != (v1.S2SProbe{}) {
		f.Probe = &f.probe
	}
	switch {
	case f.newPSK:
		key := drawKey(false)
		f.PresharedKey = &key
	case f.noPSK:
		f.PresharedKey = new(string)
	case f.pskFile != "":
		key, err := c.secret(f.pskFile)
		if err != nil {
			return err
		}
		f.PresharedKey = &key
	}
	return nil
}

// change brings what the flags say into p.
func (f *peerFlags) change(given func(string) bool, p *v1.S2SPeer) {
	probe := v1.S2SProbe{}
	if p.Probe != nil {
		probe = *p.Probe
	}
	moves(given, map[string]func(){
		"peer-key":       func() { p.PublicKey = f.PublicKey },
		"endpoint":       func() { p.Endpoint = f.Endpoint },
		"prefix":         func() { p.Prefixes = f.Prefixes },
		"no-prefixes":    func() { p.Prefixes = nil },
		"from-bgp":       func() { p.FromBGP = f.FromBGP },
		"keepalive":      func() { p.Keepalive = f.Keepalive },
		"priority":       func() { p.Priority = f.Priority },
		"weight":         func() { p.Weight = f.Weight },
		"probe-target":   func() { probe.Target = f.probe.Target },
		"probe-interval": func() { probe.IntervalMS = f.probe.IntervalMS },
		"probe-fall":     func() { probe.Fall = f.probe.Fall },
		"probe-rise":     func() { probe.Rise = f.probe.Rise },
	})
	p.Probe = nil
	if probe != (v1.S2SProbe{}) {
		p.Probe = &probe
	}
	if f.PresharedKey != nil {
		p.PresharedKey, p.HasPresharedKey = f.PresharedKey, false
	}
}

func (c *cli) s2sPeerAdd() *cobra.Command {
	var f peerFlags
	cmd := &cobra.Command{
		Use: "add TENANT NAME PEER --peer-key KEY [flags]", Short: "Add the other end to a connection", Args: takes("TENANT", "NAME", "PEER"),
		Long: `Add the other end to a connection. The other peers of the connection are not
disturbed.

Several peers may be ways to one prefix only where they belong to different
connections: of these the one with the lowest --priority that is alive is taken, and
those of one priority share the flows by --weight.`,
		Example: `  gatewayctl s2s peer add contoso hq edge --peer-key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= \
      --endpoint 198.51.100.7:51820 --prefix 169.254.10.2/32 --prefix 172.16.0.0/16
  gatewayctl s2s peer add contoso branch van --peer-key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= --prefix 172.18.0.0/24 --new-preshared-key`,
		ValidArgsFunction: c.completeS2S,
	}
	f.register(cmd)
	require(cmd, "peer-key")
	fl := cmd.Flags()
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		f.Name = args[2]
		if err := f.resolve(c, fl.Changed); err != nil {
			return err
		}
		_, err := c.client.UpdateS2SConnection(ctx, args[0], args[1], func(s *v1.S2SConnection) error {
			if peerAt(s, f.Name) >= 0 {
				return fmt.Errorf("site-to-site connection %s/%s has a peer %s already: use «s2s peer set» to change it", s.Tenant, s.Name, f.Name)
			}
			s.Peers = append(s.Peers, f.S2SPeer)
			return nil
		})
		if err != nil {
			return err
		}
		c.say("peer %s added to site-to-site connection %s/%s", f.Name, args[0], args[1])
		return nil
	})
	return cmd
}

func peerAt(s *v1.S2SConnection, name string) int {
	return slices.IndexFunc(s.Peers, func(p v1.S2SPeer) bool { return p.Name == name })
}

// updatePeer changes one peer of a connection; change gives the list after it.
func (c *cli) updatePeer(ctx context.Context, args []string, change func(peers []v1.S2SPeer, i int) []v1.S2SPeer) error {
	_, err := c.client.UpdateS2SConnection(ctx, args[0], args[1], func(s *v1.S2SConnection) error {
		i := peerAt(s, args[2])
		if i < 0 {
			return fmt.Errorf("site-to-site connection %s/%s has no peer %s", s.Tenant, s.Name, args[2])
		}
		s.Peers = change(s.Peers, i)
		return nil
	})
	return err
}

func (c *cli) s2sPeerSet() *cobra.Command {
	var f peerFlags
	var noPrefixes bool
	cmd := &cobra.Command{
		Use: "set TENANT NAME PEER [flags]", Short: "Change the other end of a connection", Args: takes("TENANT", "NAME", "PEER"),
		Long: `Change the other end of a connection: what no flag names stays. Prefixes that are
given replace those that stand; an empty --endpoint or --probe-target takes it away.
The other peers are not disturbed.`,
		Example: `  gatewayctl s2s peer set contoso hq edge --endpoint 198.51.100.8:51820
  gatewayctl s2s peer set contoso hq edge --priority 10 --probe-interval 50ms --probe-fall 3
  gatewayctl s2s peer set contoso hq edge --peer-key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= --new-preshared-key`,
		ValidArgsFunction: c.completeS2SPeers,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.noPSK, "no-preshared-key", false, "have no pre-shared key any more")
	fl.BoolVar(&noPrefixes, "no-prefixes", false, "take all prefixes away")
	cmd.MarkFlagsMutuallyExclusive("prefix", "no-prefixes")
	cmd.MarkFlagsMutuallyExclusive("no-preshared-key", "new-preshared-key")
	cmd.MarkFlagsMutuallyExclusive("no-preshared-key", "preshared-key-file")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		if err := f.resolve(c, fl.Changed); err != nil {
			return err
		}
		err := c.updatePeer(ctx, args, func(peers []v1.S2SPeer, i int) []v1.S2SPeer {
			f.change(fl.Changed, &peers[i])
			return peers
		})
		if err != nil {
			return err
		}
		c.say("peer %s of site-to-site connection %s/%s set", args[2], args[0], args[1])
		return nil
	})
	return cmd
}

func (c *cli) s2sPeerDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT NAME PEER", Short: "Take the other end out of a connection", Args: takes("TENANT", "NAME", "PEER"),
		Example: "  gatewayctl s2s peer delete contoso hq edge", ValidArgsFunction: c.completeS2SPeers,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		err := c.updatePeer(ctx, args, func(peers []v1.S2SPeer, i int) []v1.S2SPeer { return slices.Delete(peers, i, i+1) })
		if err != nil {
			return err
		}
		c.say("peer %s deleted from site-to-site connection %s/%s", args[2], args[0], args[1])
		return nil
	})
	return cmd
}
