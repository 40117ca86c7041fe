package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) s2sCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "s2s", Short: "Site-to-site connections: encrypted tunnels to a tenant's own sites",
		Long: `Site-to-site connections are WireGuard tunnels from a tenant's compartment to the
tenant's own sites. A connection has one or more peers, the other ends.

Keys are drawn by the gateway unless they are given, and given from files: they
stand on no command line. The gateway keeps them encrypted and never shows them;
'gatewayctl s2s export-key' alone gives one out.`,
	}
	peer := &cobra.Command{Use: "peer", Aliases: []string{"peers"}, Short: "The other ends of a connection"}
	peer.AddCommand(c.s2sPeerAdd(), c.s2sPeerSet(), c.s2sPeerDelete())
	cmd.AddCommand(c.s2sAdd(), c.s2sSet(), c.s2sList(), c.s2sShow(), c.s2sDelete(), c.s2sConfig(), c.s2sExportKey(), peer)
	return cmd
}

// s2sFlags are what a connection can be given.
type s2sFlags struct {
	v1.S2SConnection
	localMaps, remoteMaps []string
	keyFile               string
	newKey                bool
}

func (f *s2sFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.Addresses, "address", nil, "address of this end inside the tunnel, with the length of the link's prefix (repeatable)")
	fl.StringVar(&f.LocalAddress, "local-address", "", "external address it listens at (default the tenant's first)")
	fl.Uint16Var(&f.ListenPort, "listen-port", 0, "UDP port it listens at (default a free one)")
	fl.Uint16Var(&f.MTU, "mtu", 0, "bytes of the largest packet inside (default what the path leaves)")
	fl.Uint64Var(&f.InboundKbps, "in-kbps", 0, "rate limit of what comes from the site, in 1000 bit/s; 0: none")
	fl.Uint64Var(&f.OutboundKbps, "out-kbps", 0, "rate limit of what goes to it; 0: none")
	fl.Uint16Var(&f.DSCP, "dscp", 0, "DSCP of the encrypted packets, 0 to 63")
	fl.StringSliceVar(&f.localMaps, "local-map", nil, "prefix of the tenant that the site sees as another, REAL=MAPPED (repeatable)")
	fl.StringSliceVar(&f.remoteMaps, "remote-map", nil, "prefix of the site that the tenant sees as another, REAL=MAPPED (repeatable)")
	fl.StringVar(&f.keyFile, "private-key-file", "", "file of this end's private key, as 'wg genkey' writes it, or - for standard input")
}

func mapsOf(flag string, in []string) ([]v1.PrefixMap, error) {
	var out []v1.PrefixMap
	for _, s := range in {
		realPrefix, mapped, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usagef("--%s %q is malformed: write REAL=MAPPED, as 10.1.1.0/24=100.64.1.0/24", flag, s)
		}
		out = append(out, v1.PrefixMap{Real: realPrefix, Mapped: mapped})
	}
	return out, nil
}

// resolve reads what the flags name.
func (f *s2sFlags) resolve(c *cli) (err error) {
	if f.LocalMaps, err = mapsOf("local-map", f.localMaps); err != nil {
		return err
	}
	if f.RemoteMaps, err = mapsOf("remote-map", f.remoteMaps); err != nil {
		return err
	}
	if f.newKey {
		f.PrivateKey = drawKey(true)
	}
	if f.keyFile != "" {
		f.PrivateKey, err = c.secret(f.keyFile)
	}
	return err
}

// secret reads a secret from the first line of a file.
func (c *cli) secret(path string) (string, error) {
	name, data, err := c.read(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(strings.TrimLeft(string(data), "\r\n"), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("%s is empty: it must hold the secret on its first line", name)
	}
	return line, nil
}

// drawKey makes a key of WireGuard, a private or a pre-shared one.
func drawKey(private bool) string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	if private {
		b[0], b[31] = b[0]&248, b[31]&127|64
	}
	return base64.StdEncoding.EncodeToString(b)
}

func (c *cli) s2sAdd() *cobra.Command {
	var f s2sFlags
	var p peerFlags
	cmd := &cobra.Command{
		Use: "add TENANT NAME --address ADDR/LEN [--peer NAME --peer-key KEY --endpoint ADDR:PORT --prefix P] [flags]", Short: "Create a site-to-site connection",
		Long: `Create a site-to-site connection, with its first peer where --peer names one.

The gateway draws the keys of this end, unless --private-key-file gives one, and
chooses a free port. 'gatewayctl s2s config' prints what the other end needs.

A peer with --endpoint is called, one without calls. What is behind it is said by
--prefix, by BGP (--from-bgp), or both; give its own address in the tunnel as a
prefix of a single address, so that forwarding to it can be probed.`,
		Example: `  gatewayctl s2s add contoso hq --address 169.254.10.1/30 --peer edge --peer-key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= \
      --endpoint 198.51.100.7:51820 --prefix 169.254.10.2/32 --prefix 172.16.0.0/16
  gatewayctl s2s add contoso branch --address 169.254.11.1/30 --in-kbps 100000 --out-kbps 100000
  gatewayctl s2s add contoso clash --address 169.254.12.1/30 --remote-map 10.1.1.0/24=100.64.1.0/24`,
		Args: takes("TENANT", "NAME"), ValidArgsFunction: c.completeTenants,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.Protocol, "protocol", "", "how it is carried: wireguard (the default)")
	fl.StringVar(&p.Name, "peer", "", "name of its first peer")
	p.register(cmd)
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		f.Tenant, f.Name = args[0], args[1]
		if err := f.resolve(c); err != nil {
			return err
		}
		switch named := p.anyChanged(fl.Changed); {
		case p.Name != "":
			if p.PublicKey == "" {
				return usagef("missing: --peer-key, the public key of peer %s", p.Name)
			}
			if err := p.resolve(c, fl.Changed); err != nil {
				return err
			}
			f.Peers = []v1.S2SPeer{p.S2SPeer}
		case named != "":
			return usagef("--%s is of a peer: name it with --peer", named)
		}
		s, err := c.client.CreateS2SConnection(ctx, f.S2SConnection)
		if err != nil {
			return err
		}
		c.say("site-to-site connection %s/%s created: it listens at UDP port %d", s.Tenant, s.Name, s.ListenPort)
		c.say("its public key is %s", s.PublicKey)
		return nil
	})
	return cmd
}

func (c *cli) s2sSet() *cobra.Command {
	var f s2sFlags
	var none struct{ addresses, localMaps, remoteMaps bool }
	cmd := &cobra.Command{
		Use: "set TENANT NAME [flags]", Short: "Change a site-to-site connection", Args: takes("TENANT", "NAME"),
		Long: `Change a site-to-site connection: what no flag names stays. Addresses and maps that
are given replace those that stand. Its peers have commands of their own.

--new-key rotates the key of this end: tell the other ends the new public key. Until
they have it, sessions that stand go on, for two minutes at most.`,
		Example: `  gatewayctl s2s set contoso hq --in-kbps 500000 --out-kbps 500000 --dscp 46
  gatewayctl s2s set contoso hq --local-address 203.0.113.11
  gatewayctl s2s set contoso hq --new-key`,
		ValidArgsFunction: c.completeS2S,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.newKey, "new-key", false, "draw a new private key")
	fl.BoolVar(&none.addresses, "no-addresses", false, "take all addresses away")
	fl.BoolVar(&none.localMaps, "no-local-maps", false, "take all maps of the tenant's prefixes away")
	fl.BoolVar(&none.remoteMaps, "no-remote-maps", false, "take all maps of the site's prefixes away")
	for _, pair := range [][2]string{{"new-key", "private-key-file"}, {"address", "no-addresses"}, {"local-map", "no-local-maps"}, {"remote-map", "no-remote-maps"}} {
		cmd.MarkFlagsMutuallyExclusive(pair[0], pair[1])
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if fl.NFlag() == 0 {
			return usagef("nothing to change is named")
		}
		if err := f.resolve(c); err != nil {
			return err
		}
		s, err := c.client.UpdateS2SConnection(ctx, args[0], args[1], func(s *v1.S2SConnection) error {
			moves(fl.Changed, map[string]func(){
				"address":        func() { s.Addresses = f.Addresses },
				"no-addresses":   func() { s.Addresses = nil },
				"local-address":  func() { s.LocalAddress = f.LocalAddress },
				"listen-port":    func() { s.ListenPort = f.ListenPort },
				"mtu":            func() { s.MTU = f.MTU },
				"in-kbps":        func() { s.InboundKbps = f.InboundKbps },
				"out-kbps":       func() { s.OutboundKbps = f.OutboundKbps },
				"dscp":           func() { s.DSCP = f.DSCP },
				"local-map":      func() { s.LocalMaps = f.LocalMaps },
				"no-local-maps":  func() { s.LocalMaps = nil },
				"remote-map":     func() { s.RemoteMaps = f.RemoteMaps },
				"no-remote-maps": func() { s.RemoteMaps = nil },
			})
			if f.PrivateKey != "" {
				s.PrivateKey, s.PublicKey = f.PrivateKey, ""
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.say("site-to-site connection %s/%s set", s.Tenant, s.Name)
		if f.PrivateKey != "" {
			c.say("its public key is %s: give it to the other ends", s.PublicKey)
		}
		return nil
	})
	return cmd
}

func (c *cli) completeS2S(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeTenants(cmd, args, part)
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		items, err := gateway.S2SConnections(cmd.Context(), args[0])
		for _, s := range items {
			names = append(names, s.Name)
		}
		return names, err
	})
}

func (c *cli) s2sDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TENANT NAME", Short: "Delete a site-to-site connection", Args: takes("TENANT", "NAME"),
		Long:    "Delete a site-to-site connection and its keys. To keep the private key, export it first.",
		Example: "  gatewayctl s2s delete contoso hq", ValidArgsFunction: c.completeS2S,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if err := c.client.DeleteS2SConnection(ctx, args[0], args[1]); err != nil {
			return err
		}
		c.say("site-to-site connection %s/%s deleted", args[0], args[1])
		return nil
	})
	return cmd
}
