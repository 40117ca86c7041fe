package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) s2sList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the site-to-site connections and how they are", Args: takesAtMost(1),
		Example: "  gatewayctl s2s list\n  gatewayctl s2s list contoso -o json", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		items, err := c.client.S2SConnections(ctx, oneArg(args))
		if err != nil {
			return err
		}
		var st map[string]v1.S2SStatus
		if c.format == "table" {
			var tenants []string
			for _, s := range items {
				tenants = append(tenants, s.Tenant)
			}
			if st, err = statesOf(ctx, tenants, c.client.S2SStatuses, func(s v1.S2SStatus) string { return s.Tenant + "/" + s.Name }); err != nil {
				return err
			}
		}
		return c.show(v1.S2SConnectionList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "NAME", "PHASE", "LISTENS AT", "PEERS", "ALIVE", "HANDSHAKE", "RECEIVED", "SENT", "MTU", "IMPLEMENTATION", "MESSAGE"}, none: "No site-to-site connections."}
			for _, s := range items {
				x := st[s.Tenant+"/"+s.Name]
				alive, rx, tx := 0, uint64(0), uint64(0)
				var last *uint64
				for _, p := range x.Peers {
					if p.Liveness == v1.LivenessUp {
						alive++
					}
					rx, tx = rx+p.RxBytes, tx+p.TxBytes
					if a := p.HandshakeAge; a != nil && (last == nil || *a < *last) {
						last = a
					}
				}
				t.add(s.Tenant, s.Name, string(x.Phase), x.Endpoint, number(len(s.Peers)), number(alive), optionalAge(last, "never"), bytesWords(rx), bytesWords(tx), count(x.MTU), x.Implementation, x.Message)
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// s2sDetail is what s2s show prints.
type s2sDetail struct {
	Connection v1.S2SConnection `json:"connection"`
	Status     v1.S2SStatus     `json:"status"`
}

func (c *cli) s2sShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TENANT NAME", Short: "Show a site-to-site connection and how its peers are", Args: takes("TENANT", "NAME"),
		Long: `Show a site-to-site connection and how its peers are.

The handshake is the last one: with traffic or keepalives it is never older than
about two minutes. Liveness is what probes through the tunnel find: whether forwarding
works, whatever the handshake says; unprobed, where there is nothing to probe. Active
peers are those that packets go to now.`,
		Example: "  gatewayctl s2s show contoso hq", ValidArgsFunction: c.completeS2S,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		var d s2sDetail
		var err error
		if d.Connection, _, err = c.client.S2SConnection(ctx, args[0], args[1]); err != nil {
			return err
		}
		if d.Status, err = c.client.S2SStatus(ctx, args[0], args[1]); err != nil {
			return err
		}
		return c.show(d, func(w io.Writer) { writeS2S(w, d) })
	})
	return c.shows(cmd)
}

// because is a reason in brackets.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func writeS2S(w io.Writer, d s2sDetail) {
	s, st := d.Connection, d.Status
	var f facts
	f.add("Name", s.Name)
	f.add("Tenant", s.Tenant)
	f.add("Phase", string(st.Phase))
	if st.Message != "" {
		f.add("Message", st.Message)
	}
	f.add("Protocol", s.Protocol)
	f.add("Implementation", st.Implementation+because(st.Reason))
	f.add("Public key", s.PublicKey)
	f.add("Listens at", st.Endpoint)
	f.add("Interface", st.Interface)
	f.add("Addresses", strings.Join(s.Addresses, ", "))
	mtu := count(st.MTU)
	if s.MTU == 0 && mtu != "" {
		mtu += " (derived" + narrowWords(st.Peers) + ")"
	}
	f.add("MTU", mtu)
	f.add("Rate limits", fmt.Sprintf("in %s, out %s", rateWords(s.InboundKbps), rateWords(s.OutboundKbps)))
	if st.InboundDrops+st.OutboundDrops > 0 {
		f.add("Over the limits", fmt.Sprintf("%s in, %s out", plural(int(st.InboundDrops), "packet"), plural(int(st.OutboundDrops), "packet")))
	}
	f.add("DSCP", number(s.DSCP))
	f.write(w)
	writeMaps(w, s)
	writeS2SPeers(w, s, st)
}

// narrowWords tells of the peers whose paths lose what is larger.
func narrowWords(peers []v1.S2SPeerStatus) string {
	out := ""
	for _, p := range peers {
		if p.PathMTU != 0 {
			out += fmt.Sprintf("; larger than %d does not get through to %s", p.PathMTU, p.Name)
		}
	}
	return out
}

func writeMaps(w io.Writer, s v1.S2SConnection) {
	if len(s.LocalMaps)+len(s.RemoteMaps) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"MAP", "REAL", "SEEN AS", "BY"}}
	for _, m := range s.LocalMaps {
		t.add("local", m.Real, m.Mapped, "the site")
	}
	for _, m := range s.RemoteMaps {
		t.add("remote", m.Real, m.Mapped, "the tenant")
	}
	t.write(w)
}

func writeS2SPeers(w io.Writer, s v1.S2SConnection, st v1.S2SStatus) {
	fmt.Fprintln(w)
	t := table{header: []string{"PEER", "ENDPOINT", "HANDSHAKE", "LIVENESS", "SINCE", "LOSS", "RTT", "RECEIVED", "SENT", "PRIORITY", "WEIGHT", "ACTIVE"}, none: "No peers: «gatewayctl s2s peer add» makes one."}
	for _, p := range st.Peers {
		loss, since := "", ""
		if p.Liveness == v1.LivenessUp || p.Liveness == v1.LivenessDown {
			loss, since = percent(p.LossPercent), age(p.SinceSeconds)
		}
		t.add(p.Name, p.Endpoint, optionalAge(p.HandshakeAge, "never"), p.Liveness, since, loss, rttWords(p.RTT),
			bytesWords(p.RxBytes), bytesWords(p.TxBytes), number(p.Priority), number(max(p.Weight, 1)), yesNo(p.Active))
	}
	t.write(w)
	if len(s.Peers) == 0 {
		return
	}
	fmt.Fprintln(w)
	keys := table{header: []string{"PEER", "PUBLIC KEY", "PRE-SHARED KEY", "KEEPALIVE", "PREFIXES"}}
	for _, p := range s.Peers {
		keepalive := ""
		if p.Keepalive != 0 {
			keepalive = number(p.Keepalive) + "s"
		}
		prefixes := append([]string(nil), p.Prefixes...)
		if p.FromBGP {
			prefixes = append(prefixes, "from BGP")
		}
		keys.add(p.Name, p.PublicKey, yesNo(p.HasPresharedKey), keepalive, strings.Join(prefixes, ", "))
	}
	keys.write(w)
}

func (c *cli) completeS2SPeers(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 2 {
		return c.completeS2S(cmd, args, part)
	}
	return c.complete(func(gateway *client.Client) (names []string, err error) {
		s, _, err := gateway.S2SConnection(cmd.Context(), args[0], args[1])
		for _, p := range s.Peers {
			names = append(names, p.Name)
		}
		return names, err
	})
}

func (c *cli) s2sConfig() *cobra.Command {
	var peer, bgp string
	var networks []string
	var withKey bool
	cmd := &cobra.Command{
		Use: "config TENANT NAME --peer PEER [--bgp frr|bird|vyos]", Short: "Print what the other end of a connection needs", Args: takes("TENANT", "NAME"),
		Long: `Print what the other end of a connection needs: a file for wg-quick(8), or with --bgp
the configuration of its router for BGP with the gateway, that of VyOS with the tunnel.
The router advertises the prefixes of the peer and those that --network names.

No secret is in it; where one belongs, a comment says so. --with-preshared-key puts
the pre-shared key into the file for wg-quick, which then is to be kept as a secret.`,
		Example: `  gatewayctl s2s config contoso hq --peer edge > wg-hq.conf
  gatewayctl s2s config contoso hq --peer edge --bgp frr --network 172.16.0.0/16 | ssh edge vtysh -f /dev/stdin
  gatewayctl s2s config contoso hq --peer edge --with-preshared-key > wg-hq.conf`,
		ValidArgsFunction: c.completeS2S,
	}
	fl := cmd.Flags()
	fl.StringVar(&peer, "peer", "", "the other end")
	fl.StringVar(&bgp, "bgp", "", "the router there: frr, bird or vyos")
	fl.StringSliceVar(&networks, "network", nil, "prefix at the site that the router is to advertise, besides those of the peer (repeatable)")
	fl.BoolVar(&withKey, "with-preshared-key", false, "put the pre-shared key in")
	require(cmd, "peer")
	cmd.MarkFlagsMutuallyExclusive("bgp", "with-preshared-key")
	_ = cmd.RegisterFlagCompletionFunc("bgp", cobra.FixedCompletions([]string{"frr", "bird", "vyos"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if bgp != "" && bgp != "frr" && bgp != "bird" && bgp != "vyos" {
			return usagef("--bgp %q is unknown: use frr, bird or vyos", bgp)
		}
		if bgp == "" && len(networks) > 0 {
			return usagef("--network is for a BGP router: name it with --bgp")
		}
		x, err := c.client.S2SPeerConfig(ctx, args[0], args[1], peer, bgp, networks...)
		if err != nil {
			return err
		}
		if withKey {
			key, err := c.client.ExportS2SKey(ctx, args[0], args[1], peer)
			if err != nil {
				return err
			}
			x.Quick = withPresharedKey(x.Quick, key.PresharedKey)
		}
		return c.show(x, func(w io.Writer) {
			if bgp != "" {
				fmt.Fprint(w, x.BGP)
				return
			}
			fmt.Fprint(w, x.Quick)
		})
	})
	return c.shows(cmd)
}

// withPresharedKey puts a key into a file for wg-quick: in place of the comment that
// stands for it, or behind the peer's public key.
func withPresharedKey(quick, key string) string {
	line := "PresharedKey = " + key
	var out []string
	done := false
	for l := range strings.Lines(quick) {
		l = strings.TrimSuffix(l, "\n")
		if strings.HasPrefix(l, "# PresharedKey =") {
			l, done = line, true
			if n := len(out); n > 0 && strings.HasPrefix(out[n-1], "# ") {
				out = out[:n-1] // it says what to put here
			}
		}
		out = append(out, l)
	}
	if !done {
		for i, l := range out {
			if strings.HasPrefix(l, "PublicKey =") {
				out = append(out[:i+1], append([]string{line}, out[i+1:]...)...)
				break
			}
		}
	}
	return strings.Join(out, "\n") + "\n"
}

func (c *cli) s2sExportKey() *cobra.Command {
	var peer string
	cmd := &cobra.Command{
		Use: "export-key TENANT NAME [--peer PEER]", Short: "Print a secret of a connection", Args: takes("TENANT", "NAME"),
		Long: `Print the private key of this end, or with --peer the pre-shared key of that peer.
It is the only way in which a key leaves the gateway, and the log of gatewayd tells
who asked for it.`,
		Example: `  gatewayctl s2s export-key contoso hq > hq.key
  gatewayctl s2s export-key contoso hq --peer edge | ssh edge tee /etc/wireguard/hq.psk`,
		ValidArgsFunction: c.completeS2S,
	}
	cmd.Flags().StringVar(&peer, "peer", "", "give the pre-shared key of this peer")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		key, err := c.client.ExportS2SKey(ctx, args[0], args[1], peer)
		if err != nil {
			return err
		}
		return c.show(key, func(w io.Writer) { fmt.Fprintln(w, key.PrivateKey+key.PresharedKey) })
	})
	return c.shows(cmd)
}
