package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Set by the linker; see the Makefile.
var (
	version = "0.1.0-dev"
	commit  = ""
)

func (c *cli) compartmentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "compartment", Aliases: []string{"compartments"}, Short: "Compartments: the tenants' network namespaces on this gateway"}
	list := &cobra.Command{Use: "list", Short: "List the compartments", Args: takesAtMost(0), Example: "  gatewayctl compartment list"}
	list.RunE = c.does(func(ctx context.Context, _ []string) error {
		items, err := c.client.Compartments(ctx)
		if err != nil {
			return err
		}
		return c.show(v1.CompartmentList{Items: items}, func(w io.Writer) {
			t := table{header: []string{"TENANT", "PHASE", "NAMESPACE", "INTERFACE", "ADDRESSES", "MTU", "PATH", "UPLINK", "EXTERNAL", "MESSAGE"}, none: "No compartments: no tenant has its gateway here."}
			for _, k := range items {
				t.add(k.Tenant, string(k.Phase), k.Namespace, k.Interface, strings.Join(k.CAs, ","), count(k.MTU), k.Path, k.Uplink, strings.Join(k.External, ","), cmp.Or(k.Message, k.PathReason))
			}
			t.write(w)
		})
	})
	cmd.AddCommand(c.shows(list))
	return cmd
}

func (c *cli) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show the state of the gateway and its tenants", Args: takesAtMost(0),
		Long: `Show the state of the gateway and its tenants.

The phase is Ready, Pending (being built, or waiting for what is named), Degraded
(traffic flows, but something is not as desired) or Error (it cannot be built).
The path is who forwards what arrives at an interface: ebpf, the programs in the
kernel, or go, gatewayd itself, and then the message says why. A tenant's is that
of its compartment.`,
		Example: "  gatewayctl status\n  gatewayctl status -o json",
	}
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		st, err := c.client.Status(ctx)
		if err != nil {
			return err
		}
		return c.show(st, func(w io.Writer) { writeStatus(w, st) })
	})
	return c.shows(cmd)
}

func writeStatus(w io.Writer, st v1.GatewayStatus) {
	var f facts
	f.add("Instance", st.Instance)
	f.add("Phase", string(st.Phase))
	f.add("Version", versionWords(st.Version))
	f.add("Kernel", st.Version.Kernel)
	f.add("Started", st.Started.UTC().Format("2006-01-02 15:04:05Z"))
	f.add("Store revision", number(st.StoreRevision))
	f.write(w)
	if len(st.Features) > 0 {
		fmt.Fprintln(w)
		t := table{header: []string{"FEATURE", "PATH", "REASON"}}
		for _, x := range st.Features {
			t.add(x.Name, x.Path, x.Reason)
		}
		t.write(w)
	}
	writeConditions(w, st.Conditions)
	writeLinks(w, "PROVIDER ADDRESS", st.ProviderAddresses)
	writeLinks(w, "UPLINK", st.Uplinks)
	writeLinks(w, "PORT", st.Ports)
	writePeers(w, st)
	if len(st.Tenants) > 0 {
		fmt.Fprintln(w)
		writeTenants(w, st.Tenants)
	}
	writeFastPath(w, st.FastPath)
	writeDrops(w, "DROPPED, OF NO TENANT", st.Unattributed)
	if st.LeftToStack > 0 {
		fmt.Fprintf(w, "%d of these were for the machine's own network stack, which had them.\n", st.LeftToStack)
	}
	writeDrops(w, "DROPPED ROUND COMPARTMENTS", st.GatewayDrops)
}

func writeTenants(w io.Writer, tenants []v1.TenantStatus) {
	// Nobody without sites has to look at columns about them.
	sites := slices.ContainsFunc(tenants, func(n v1.TenantStatus) bool { return n.Tunnels != nil || n.BGPSessions != nil })
	row := func(cells []string, tunnels, bgp, path, message string) []string {
		if sites {
			cells = append(cells, tunnels, bgp)
		}
		return append(cells, path, message)
	}
	t := table{header: row([]string{"TENANT", "PHASE", "RECORDS", "FROM FABRIC", "TO FABRIC", "DROPPED", "REPAIRS"}, "TUNNELS", "BGP", "PATH", "MESSAGE")}
	for _, n := range tenants {
		t.add(row([]string{n.Name, string(n.Phase), number(n.Records), number(n.Counters.FromFabric.Packets), number(n.Counters.ToFabric.Packets),
			number(dropped(n.Counters.Drops)), number(n.Repairs)}, shortTally(n.Tunnels), shortTally(n.BGPSessions), n.Path, cmp.Or(firstTrouble(n.Conditions), n.PathReason))...)
	}
	t.write(w)
}

func writeFastPath(w io.Writer, st *v1.FastPathStatus) {
	if st == nil {
		return
	}
	fmt.Fprintln(w)
	tables := table{header: []string{"FAST PATH TABLE", "USED", "MAX"}}
	for _, t := range st.Tables {
		tables.add(t.Name, number(t.Used), number(t.Max))
	}
	tables.write(w)
	if len(st.Left) == 0 {
		return
	}
	fmt.Fprintln(w)
	left := table{header: []string{"LEFT TO GATEWAYD", "PACKETS"}}
	for _, l := range st.Left {
		left.add(l.Reason, number(l.Packets))
	}
	left.write(w)
}

func writeLinks(w io.Writer, head string, links []v1.LinkStatus) {
	if len(links) == 0 {
		return
	}
	fmt.Fprintln(w)
	paths := slices.ContainsFunc(links, func(l v1.LinkStatus) bool { return l.Path != "" })
	row := func(name, ifname, phase, mtu, path, message string) []string {
		if paths {
			return []string{name, ifname, phase, mtu, path, message}
		}
		return []string{name, ifname, phase, mtu, message}
	}
	t := table{header: row(head, "INTERFACE", "PHASE", "MTU", "PATH", "MESSAGE")}
	for _, l := range links {
		t.add(row(l.Name, l.Interface, string(l.Phase), count(l.MTU), l.Path, cmp.Or(l.Message, l.PathReason))...)
	}
	t.write(w)
}

func dropped(drops []v1.Drop) (n uint64) {
	for _, d := range drops {
		n += d.Packets
	}
	return n
}

// firstTrouble is the message of the first condition that does not hold.
func firstTrouble(conds []v1.Condition) string {
	for _, c := range conds {
		if !c.Status {
			if c.Message != "" {
				return c.Message
			}
			return c.Reason
		}
	}
	return ""
}

// versions is what the command version prints.
type versions struct {
	Client v1.Version  `json:"client"`
	Server *v1.Version `json:"server,omitempty"`
}

func (c *cli) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{Use: "version", Short: "Show the versions of gatewayctl and gatewayd", Args: takesAtMost(0), Example: "  gatewayctl version\n  gatewayctl version --client"}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask gatewayd")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		v := versions{Client: clientVersion()}
		var err error
		if !clientOnly {
			var server v1.Version
			if server, err = c.client.Version(ctx); err == nil {
				v.Server = &server
			}
		}
		shown := c.show(v, func(w io.Writer) {
			var f facts
			f.add("gatewayctl", versionWords(v.Client))
			if v.Server != nil {
				f.add("gatewayd", versionWords(*v.Server))
				f.add("kernel", v.Server.Kernel)
			}
			f.write(w)
		})
		if err != nil {
			return err
		}
		return shown
	})
	return c.shows(cmd)
}

func clientVersion() v1.Version {
	v := v1.Version{Version: version, Commit: commit, Go: runtime.Version(), API: v1.APIVersion}
	if info, ok := debug.ReadBuildInfo(); ok && v.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}

func versionWords(v v1.Version) string {
	words := v.Version
	if v.Commit != "" {
		words += " (" + v.Commit + ")"
	}
	return words + ", " + v.Go + ", API " + v.API
}
