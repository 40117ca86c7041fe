package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) bgpPeerList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [TENANT]", Short: "List the BGP peers and their sessions", Args: takesAtMost(1),
		Long: `List the BGP peers and their sessions. Accepted are the prefixes that the protocol
takes, before the import policy; 'gatewayctl bgp routes --received' marks what the policy
rejects.`,
		Example: "  gatewayctl bgp peer list\n  gatewayctl bgp peer list contoso -o json", ValidArgsFunction: c.completeTenants,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		items, err := c.client.BGPPeers(ctx, oneArg(args))
		if err != nil {
			return err
		}
		st := map[string]v1.BGPStatus{}
		for _, p := range items {
			if _, known := st[p.Tenant]; known || c.format != "table" {
				continue
			}
			if st[p.Tenant], err = c.client.BGPStatus(ctx, p.Tenant); err != nil {
				return err
			}
		}
		return c.show(v1.BGPPeerList{Items: items}, func(w io.Writer) {
			t := table{header: append([]string{"TENANT", "PEER"}, sessionHeader...), none: "No BGP peers."}
			for _, p := range items {
				sessions := sessionsOf(st[p.Tenant], p.Name)
				if len(sessions) == 0 { // not known yet, or nobody connected
					sessions = []v1.BGPPeerStatus{{Address: cmp.Or(p.Address, p.Prefix), ASN: p.ASN, Session: "idle"}}
				}
				for _, s := range sessions {
					t.add(append([]string{p.Tenant, p.Name}, sessionCells(s)...)...)
				}
			}
			t.write(w)
		})
	})
	return c.shows(cmd)
}

// sessionsOf finds those of a peer.
func sessionsOf(st v1.BGPStatus, name string) []v1.BGPPeerStatus {
	var out []v1.BGPPeerStatus
	for _, s := range st.Peers {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// peerDetail is what bgp peer show prints.
type peerDetail struct {
	Peer     v1.BGPPeer         `json:"peer"`
	Sessions []v1.BGPPeerStatus `json:"sessions"`
}

func (c *cli) bgpPeerShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TENANT NAME", Short: "Show a BGP peer, its sessions and policies", Args: takes("TENANT", "NAME"),
		Example: "  gatewayctl bgp peer show contoso edge", ValidArgsFunction: c.completeBGPPeers,
	}
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		d := peerDetail{Sessions: []v1.BGPPeerStatus{}}
		var err error
		if d.Peer, _, err = c.client.BGPPeer(ctx, args[0], args[1]); err != nil {
			return err
		}
		st, err := c.client.BGPStatus(ctx, args[0])
		if err != nil {
			return err
		}
		d.Sessions = append(d.Sessions, sessionsOf(st, args[1])...)
		return c.show(d, func(w io.Writer) { writeBGPPeer(w, d) })
	})
	return c.shows(cmd)
}

func writeBGPPeer(w io.Writer, d peerDetail) {
	p := d.Peer
	var f facts
	f.add("Name", p.Name)
	f.add("Tenant", p.Tenant)
	if p.Prefix != "" {
		f.add("Neighbours from", fmt.Sprintf("%s, at most %d", p.Prefix, cmp.Or(p.Limit, 64)))
	} else {
		f.add("Address", p.Address)
	}
	f.add("AS", number(p.ASN))
	f.add("Local address", p.Local)
	f.add("Mode", peerMode(p))
	f.add("Password", yesNo(p.HasPassword))
	f.add("Timers", fmt.Sprintf("hold %ds, keepalive %ds", cmp.Or(p.HoldSeconds, 90), cmp.Or(p.KeepaliveSeconds, cmp.Or(p.HoldSeconds, 90)/3)))
	f.add("BFD", bfdWords(p.BFD))
	f.add("Graceful restart", restartWords(p.GracefulRestart))
	f.add("Maximum prefixes", maxWords(p.MaxPrefixes))
	f.add("Options", optionWords(p))
	f.write(w)
	for _, s := range d.Sessions {
		writeSession(w, s)
	}
	writePolicy(w, "IMPORT", p.Import)
	writePolicy(w, "EXPORT", p.Export)
}

func peerMode(p v1.BGPPeer) string {
	switch {
	case p.Disabled:
		return "disabled"
	case p.Passive, p.Prefix != "":
		return "passive"
	}
	return "active"
}

func bfdWords(b *v1.BGPBFD) string {
	if b == nil {
		return "no"
	}
	return fmt.Sprintf("%dms, %d times", cmp.Or(b.IntervalMS, 200), cmp.Or(b.Multiplier, 3))
}

func restartWords(g *v1.BGPGracefulRestart) string {
	if g == nil {
		return "no"
	}
	words := age(uint64(cmp.Or(g.Seconds, 120)))
	if g.LongLivedSeconds > 0 {
		words += ", then " + age(uint64(g.LongLivedSeconds)) + " as the last choice"
	}
	return words
}

func maxWords(m *v1.BGPMaxPrefixes) string {
	if m == nil {
		return "100000 of each family"
	}
	return fmt.Sprintf("ipv4 %d, ipv6 %d", cmp.Or(m.IPv4, 100_000), cmp.Or(m.IPv6, 100_000))
}

func optionWords(p v1.BGPPeer) string {
	var words []string
	for _, o := range []struct {
		set  bool
		word string
	}{
		{p.TTLSecurity > 0, fmt.Sprintf("TTL security %d", p.TTLSecurity)},
		{p.MultihopTTL > 0, fmt.Sprintf("multihop %d", p.MultihopTTL)},
		{len(p.Families) > 0, strings.Join(p.Families, " and ")},
		{p.ASOverride, "AS override"},
		{p.RemovePrivateAS != "", p.RemovePrivateAS + " private AS"},
		{p.AllowOwnAS > 0, fmt.Sprintf("own AS allowed %d times", p.AllowOwnAS)},
		{p.NextHopSelf, "next hop self"},
		{p.DefaultOriginate, "default route"},
	} {
		if o.set {
			words = append(words, o.word)
		}
	}
	return strings.Join(words, ", ")
}

func writeSession(w io.Writer, s v1.BGPPeerStatus) {
	fmt.Fprintln(w)
	t := table{header: sessionHeader}
	t.add(sessionCells(s)...)
	t.write(w)
	if s.Session == "established" {
		fmt.Fprintf(w, "Neighbour %s, local %s, hold %ds, keepalive %ds, flaps %d.\n", dash(s.RouterID), dash(s.Local), s.Hold, s.Keepalive, s.Flaps)
	}
	if len(s.Families) > 0 {
		fmt.Fprintln(w)
		f := table{header: []string{"FAMILY", "RECEIVED", "ACCEPTED", "ADVERTISED", "LIMIT"}}
		for _, x := range s.Families {
			f.add(x.Family, number(x.Received), number(x.Accepted), optionalNumber(x.Advertised), number(x.Limit))
		}
		f.write(w)
	}
	fmt.Fprintln(w)
	m := table{header: []string{"MESSAGES", "UPDATES", "KEEPALIVES", "NOTIFICATIONS", "REFRESHES"}}
	for _, x := range []struct {
		way string
		n   v1.BGPMessages
	}{{"received", s.Received}, {"sent", s.Sent}} {
		m.add(x.way, number(x.n.Updates), number(x.n.Keepalives), number(x.n.Notifications), number(x.n.Refreshes))
	}
	m.write(w)
}

func writePolicy(w io.Writer, head string, p *v1.BGPPolicy) {
	if p == nil {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{head, "NAME", "MATCH", "SET", "ACTION"}}
	for i, r := range p.Rules {
		t.add(number(i+1), r.Name, cmp.Or(matchWords(r.Match), "any"), setWords(r.Set), cmp.Or(r.Action, "accept"))
	}
	t.add("default", "", "any", "", cmp.Or(p.Default, "accept"))
	t.write(w)
}

func matchWords(m *v1.BGPMatch) string {
	if m == nil {
		return ""
	}
	var words []string
	for _, l := range []struct {
		what string
		of   []string
	}{{"prefix", m.Prefixes}, {"as-path", m.ASPath}, {"community", m.Communities}, {"large-community", m.LargeCommunities}, {"next-hop", m.NextHops}} {
		if len(l.of) > 0 {
			words = append(words, l.what+" "+strings.Join(l.of, " | "))
		}
	}
	if m.Origin != "" {
		words = append(words, m.Origin)
	}
	return strings.Join(words, "; ")
}

func setWords(s *v1.BGPSet) string {
	if s == nil {
		return ""
	}
	var words []string
	say := func(set bool, format string, args ...any) {
		if set {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(s.MED != nil, "med %s", optionalNumber(s.MED))
	say(s.LocalPref != nil, "local-pref %s", optionalNumber(s.LocalPref))
	say(s.Prepend > 0, "prepend %d", s.Prepend)
	say(s.Communities != nil, "%s", editWords("community", s.Communities))
	say(s.LargeCommunities != nil, "%s", editWords("large-community", s.LargeCommunities))
	say(s.NextHop != "", "next-hop %s", s.NextHop)
	say(s.NextHopSelf, "next-hop self")
	return strings.Join(words, "; ")
}

func editWords(what string, e *v1.BGPCommunityEdit) string {
	if e == nil {
		return ""
	}
	return what + " " + e.Mode + " " + strings.Join(e.List, " ")
}

func (c *cli) bgpRoutes() *cobra.Command {
	q := v1.BGPRouteQuery{}
	var received, advertised string
	var all bool
	cmd := &cobra.Command{
		Use: "routes TENANT [--received PEER|--advertised PEER|--all]", Short: "List the routes of a tenant's BGP speaker", Args: takes("TENANT"),
		Long: `List the routes of a tenant's BGP speaker: those in use, with --all also those that
others are better than, with --received what a peer sent, before the import policy, and
with --advertised what a peer is sent.

A dynamic neighbour goes by its address.`,
		Example: `  gatewayctl bgp routes contoso
  gatewayctl bgp routes contoso --received edge --within 172.16.0.0/12
  gatewayctl bgp routes contoso --advertised edge -o json`,
		ValidArgsFunction: c.completeTenants,
	}
	fl := cmd.Flags()
	fl.StringVar(&received, "received", "", "what this peer sent")
	fl.StringVar(&advertised, "advertised", "", "what this peer is sent")
	fl.BoolVar(&all, "all", false, "all that import policies let pass")
	fl.StringVar(&q.Within, "within", "", "only this prefix and those inside it")
	fl.IntVar(&q.Limit, "limit", 1000, "how many at most, 1 to 100000")
	cmd.MarkFlagsMutuallyExclusive("received", "advertised", "all")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		if q.Limit < 1 || q.Limit > 100_000 {
			return usagef("--limit %d is out of range: use 1 to 100000", q.Limit)
		}
		q.Table = v1.BGPBest
		switch {
		case received != "":
			q.Table, q.Peer = v1.BGPReceived, received
		case advertised != "":
			q.Table, q.Peer = v1.BGPAdvertised, advertised
		case all:
			q.Table = v1.BGPAll
		}
		list, err := c.client.BGPRoutes(ctx, args[0], q)
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) { writeRoutes(w, list, q.Table) })
	})
	return c.shows(cmd)
}

func writeRoutes(w io.Writer, list v1.BGPRouteList, of string) {
	t := table{header: []string{"STATUS", "PREFIX", "NEXT HOP", "MED", "LOCAL PREF", "PATH", "COMMUNITIES", "PEER", "AGE"}, none: "No routes."}
	for _, r := range list.Items {
		communities := append(append([]string(nil), r.Communities...), r.LargeCommunities...)
		t.add(routeMarks(r, of), r.Prefix, r.NextHop, optionalNumber(r.MED), optionalNumber(r.LocalPref), pathWords(r),
			strings.Join(communities, ","), cmp.Or(r.Peer, r.From, "(own)"), age(r.AgeSeconds))
	}
	t.write(w)
	if len(list.Items) > 0 {
		fmt.Fprintln(w, "Status: * valid, > in use, r rejected, S stale. Path: i igp, e egp, ? incomplete.")
	}
	if list.Truncated {
		fmt.Fprintf(w, "There are more than %d; see --limit and --within.\n", len(list.Items))
	}
}

// routeMarks are those of every router's table.
func routeMarks(r v1.BGPRoute, of string) string {
	marks := "*"
	switch {
	case r.Rejected:
		marks = "r"
	case r.Best || of == v1.BGPAdvertised:
		marks = "*>"
	}
	if r.Stale {
		marks += "S"
	}
	return marks
}

// pathWords is the AS path with the origin behind it.
func pathWords(r v1.BGPRoute) string {
	origin := map[string]string{"igp": "i", "egp": "e"}[r.Origin]
	return strings.TrimSpace(r.ASPath + " " + cmp.Or(origin, "?"))
}

func (c *cli) bgpSoftReset() *cobra.Command {
	var r v1.BGPSoftReset
	cmd := &cobra.Command{
		Use: "soft-reset TENANT PEER [--in] [--out]", Short: "Apply the policies of a BGP peer anew", Args: takes("TENANT", "PEER"),
		Long: `Apply the policies of a BGP peer anew: to what it sent (--in), to what it is sent
(--out), or both. The session goes on. Changed policies need no such thing.`,
		Example: "  gatewayctl bgp soft-reset contoso edge\n  gatewayctl bgp soft-reset contoso edge --out", ValidArgsFunction: c.completeBGPPeers,
	}
	cmd.Flags().BoolVar(&r.In, "in", false, "what it sent")
	cmd.Flags().BoolVar(&r.Out, "out", false, "what it is sent")
	cmd.RunE = c.does(func(ctx context.Context, args []string) error {
		r.Peer = args[1]
		if err := c.client.BGPSoftReset(ctx, args[0], r); err != nil {
			return err
		}
		c.say("BGP peer %s/%s is being judged anew", args[0], args[1])
		return nil
	})
	return cmd
}
