//go:build privileged && linux

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestSites joins both tenants to their own sites, which have the same addresses,
// AS numbers and tunnels, tries what an operator expects of that, and takes it away
// again.
func TestSites(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := world.StartSites(ctx); err != nil {
		t.Fatal(err)
	}
	doc, err := world.SitesDocument()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { withoutSites(t) })
	if err := world.Apply(ctx, "gw", "sites.yaml", doc); err != nil {
		t.Fatal(err)
	}
	if err := world.ConnectSites(ctx); err != nil {
		t.Fatal(err)
	}
	settled(t, "gw")
	for _, s := range world.Topology().Sites {
		reachesSite(t, s)
	}
	if t.Failed() {
		explainSites(t)
		t.FailNow()
	}
	for _, x := range []struct {
		name string
		test func(*testing.T)
	}{
		{"reach", sitesReach},
		{"told", sitesTold},
		{"way", sitesWay},
		{"transit", sitesTransit},
		{"config", sitesConfig},
		{"secrets", sitesSecrets},
		{"refused", sitesRefused},
		{"failover", sitesFailover},
		{"blackhole", sitesBlackhole},
		{"flapping", sitesFlapping},
		{"covered", sitesCovered},
		{"initiations", sitesInitiations},
		{"killed", sitesKilled},
		{"IPv6", sitesIPv6},
		{"mapped", sitesMapped},
		{"replayed", sitesReplayed},
		{"marked", sitesMarked},
		{"moved", sitesMoved},
		{"crowded", sitesCrowded},
	} {
		if !t.Run(x.name, x.test) {
			explainSites(t)
		}
	}
}

// api is the gateway's, as programs use it.
func api(t *testing.T) *client.Client {
	t.Helper()
	c := client.New(world.Socket("gw"))
	t.Cleanup(c.Close)
	return c
}

// text shows a value in a message.
func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// vmOf is the VM of the site's tenant that has CA 10.1.1.N.
func vmOf(t *testing.T, s lab.Site, n int) lab.VM {
	t.Helper()
	return vm(t, fmt.Sprintf("%s%d", s.Tenant[:1], n))
}

// reachesSite waits until a VM has an answer from the site's machine.
func reachesSite(t *testing.T, s lab.Site) {
	t.Helper()
	if err := world.Ping(later(t), vmOf(t, s, 11).Name, s.HostAddr(), patience); err != nil {
		t.Errorf("%s: %v", s.Name, err)
	}
}

// explainSites shows what the gateway and the sites think of each other.
func explainSites(t *testing.T) {
	t.Helper()
	for _, tenant := range []string{"contoso", "fabrikam"} {
		c := api(t)
		tunnels, err := c.S2SStatuses(later(t), tenant)
		t.Logf("tunnels of %s: %v\n%s", tenant, err, text(tunnels))
		bgp, err := c.BGPStatus(later(t), tenant)
		t.Logf("BGP of %s: %v\n%s", tenant, err, text(bgp))
	}
	for _, s := range world.Topology().Sites {
		ask := map[lab.Speaker]string{lab.FRR: "show bgp summary", lab.BIRD: "show protocols", lab.GoBGP: "neighbor"}[s.Speaker]
		out, err := world.Speaker(later(t), s.Name, ask)
		t.Logf("%s: %v\n%s", s.Name, err, out)
		for i := range s.Tunnels {
			out, err := world.SiteWG(later(t), s.Name, i, "dump")
			_, peers, _ := strings.Cut(out, "\n") // the first line has the key
			t.Logf("%s, tunnel %d: %v\n%s", s.Name, i, err, peers)
		}
	}
	for _, tenant := range []string{"contoso", "fabrikam"} {
		out, err := world.Exec(later(t), world.Compartment(tenant), "ip", "route")
		t.Logf("compartment of %s: %v\n%s", tenant, err, out)
	}
}

// withoutSites deletes all of it, and wants nothing to be left.
func withoutSites(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(later(t), patience)
	defer cancel()
	doc, err := world.Export(ctx, "gw")
	if err != nil {
		t.Error(err)
		return
	}
	c := api(t)
	for _, p := range doc.BGPPeers {
		err = errors.Join(err, c.DeleteBGPPeer(ctx, p.Tenant, p.Name))
	}
	for _, r := range doc.BGPRouters {
		err = errors.Join(err, c.DeleteBGPRouter(ctx, r.Tenant))
	}
	for _, x := range doc.S2SConnections {
		err = errors.Join(err, c.DeleteS2SConnection(ctx, x.Tenant, x.Name))
	}
	for _, a := range doc.Attachments {
		err = errors.Join(err, c.DeleteAttachment(ctx, a.Tenant, a.Name))
	}
	if err = errors.Join(err, world.StopSites(ctx)); err != nil {
		t.Error(err)
	}
	if err := world.Ready(ctx, "gw"); err != nil {
		t.Error(err)
	}
	for _, tenant := range world.Topology().Tenants {
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			links, err := world.Exec(ctx, world.Compartment(tenant.Name), "ip", "-br", "link")
			if err != nil {
				t.Error(err)
			}
			routes, err := world.Exec(ctx, world.Compartment(tenant.Name), "ip", "route", "show", "proto", "203")
			if err != nil {
				t.Error(err)
			}
			agents := agentsOf(t, tenant.Name)
			if !strings.Contains(links, "wg-") && !strings.Contains(links, "fw-") && routes == "" && len(agents) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("in the compartment of %s there are left: agents %v\n%s\n%s", tenant.Name, agents, links, routes)
				break
			}
		}
		if err := world.Ping(ctx, tenant.Name[:1]+"11", internet(), patience); err != nil {
			t.Error(err)
		}
	}
}

// agentsOf gives the process IDs of the tenant's compartmentd.
func agentsOf(t *testing.T, tenant string) (out []int) {
	t.Helper()
	ns, err := os.Stat("/run/netns/" + world.NS(world.Compartment(tenant)))
	if err != nil {
		t.Error(err)
		return nil
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		st, err := os.Stat(p)
		if err != nil || !os.SameFile(st, ns) {
			continue
		}
		dir := filepath.Dir(filepath.Dir(p))
		if comm, err := os.ReadFile(dir + "/comm"); err == nil && strings.TrimSpace(string(comm)) == "compartmentd" {
			var pid int
			if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
				t.Fatal(err)
			}
			out = append(out, pid)
		}
	}
	return out
}

// sitesReach has VMs on hosts of every kind and the sites' machines reach each other.
// Each sees the other's own address, and its own tenant's machine
// answers.
func sitesReach(t *testing.T) {
	for _, s := range world.Topology().Sites {
		for _, n := range []int{11, 12, 21} {
			v := vmOf(t, s, n)
			type try struct {
				from, to string
				addr     netip.Addr
				seen     netip.Addr
			}
			tries := []try{{v.Name, s.Host(), s.HostAddr(), v.CA}, {s.Host(), v.Name, v.CA, s.HostAddr()}}
			for _, x := range tries {
				id, err := world.Get(t.Context(), x.from, service80(x.addr), 0, patience)
				if err != nil || id.Name != x.to || peerAddr(id) != x.seen.String() {
					t.Errorf("from %s to %s: %q answers and sees %q, want %s and %s (%v)", x.from, x.addr, id.Name, id.Peer, x.to, x.seen, err)
				}
			}
			// In fragments, or with what PMTU discovery makes of it.
			if id, err := world.Echo(t.Context(), v.Name, serviceEcho(s.HostAddr()), 0, 4000, patience); err != nil || id.Name != s.Host() {
				t.Errorf("4000 bytes from %s to %s: %q, %v", v.Name, s.Host(), id.Name, err)
			}
		}
		for _, d := range []service.Direction{service.Down, service.Up} {
			stream, err := world.StartStream(vmOf(t, s, 11).Name, s.HostAddr(), service.StreamRequest{Direction: d, Bytes: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stream.Stop)
			whole(t, map[string]*lab.Stream{fmt.Sprintf("%s %s", s.Name, d): stream})
		}
	}
	// What no site has still goes to the Internet, translated.
	for _, x := range world.Topology().Tenants {
		id, err := world.Get(t.Context(), x.Name[:1]+"11", service80(internet()), 0, patience)
		if err != nil || peerAddr(id) != x.External.String() {
			t.Errorf("%s: the Internet sees %q, want %s (%v)", x.Name, id.Peer, x.External, err)
		}
	}
}

// hears waits until the site's speaker answers the command with all the words.
func hears(t *testing.T, site, command string, words ...string) {
	t.Helper()
	var out string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, _ = world.Speaker(t.Context(), site, command) // some fail where nothing is found
		missing := ""
		for _, w := range words {
			if !strings.Contains(out, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
	}
	t.Errorf("%s: %s says, and not %q:\n%s", site, command, words, out)
}

// sitesTold looks at what the sites' speakers were told, and at what the gateway was.
func sitesTold(t *testing.T) {
	hears(t, "chq", "show bgp ipv4 unicast 10.1.1.0/24 json", `"string":"65000"`, `"ip":"169.254.1.1"`, `"ip":"169.254.2.1"`, `"valid":true`)
	hears(t, "cbr", "show route all 10.1.1.0/24", "BGP.as_path: 65000", "BGP.next_hop: 169.254.3.1")
	hears(t, "fhq", "show route all 10.1.2.0/24", "BGP.as_path: 65000", "BGP.next_hop: 169.254.1.1", "BGP.next_hop: 169.254.2.1")
	hears(t, "fbr", "global rib -a ipv4 10.1.1.0/24", "65000", "169.254.3.1")
	hears(t, "cdc", "show bgp ipv4 unicast 10.1.1.0/24 json", `"string":"65000"`, `"ip":"10.40.0.10"`)
	hears(t, "fdc", "show route all 10.1.1.0/24", "BGP.as_path: 65000", "BGP.next_hop: 10.40.0.10")
	// One site hears of the other by the gateway.
	hears(t, "chq", "show bgp ipv4 unicast 172.16.2.0/24 json", `"string":"65000 65102"`)
	hears(t, "cbr", "show route all 172.16.1.0/24", "BGP.as_path: 65000 65101")
	hears(t, "fbr", "global rib -a ipv4 172.16.1.0/24", "65000 65101")
	c := api(t)
	told := func(tenant string, q v1.BGPRouteQuery, want ...string) {
		t.Helper()
		list, err := c.BGPRoutes(t.Context(), tenant, q)
		have := text(list)
		for _, w := range want {
			if err != nil || !strings.Contains(have, w) {
				t.Errorf("%s: %+v: no %s: %v\n%s", tenant, q, w, err, have)
			}
		}
	}
	told("contoso", v1.BGPRouteQuery{Table: v1.BGPBest}, `"172.16.1.0/24"`, `"172.16.2.0/24"`, `"10.60.1.0/24"`)
	told("fabrikam", v1.BGPRouteQuery{Table: v1.BGPReceived, Peer: "hq-1"}, `"172.16.1.0/24"`, "65101")
	told("fabrikam", v1.BGPRouteQuery{Table: v1.BGPAdvertised, Peer: "hq-1"}, `"10.1.1.0/24"`, `"172.16.2.0/24"`)
	for _, s := range world.Topology().Sites {
		for i := range s.Tunnels {
			st, err := c.S2SStatus(t.Context(), s.Tenant, s.Connection(i))
			if err != nil || st.Phase != v1.PhaseReady || len(st.Peers) != 1 || st.Peers[0].Liveness != v1.LivenessUp ||
				st.Peers[0].Endpoint != s.Endpoint(i).String() || st.Peers[0].HandshakeAge == nil || st.Peers[0].RTT == 0 || st.MTU == 0 || st.Implementation == "" {
				t.Errorf("connection %s of %s: %v %s", s.Connection(i), s.Tenant, err, text(st))
			}
		}
		if s.Link != nil {
			st, err := c.AttachmentStatus(t.Context(), s.Tenant, "dc")
			if err != nil || st.Phase != v1.PhaseReady || !st.Carrier || st.Received.Packets == 0 || st.Sent.Packets == 0 {
				t.Errorf("attachment of %s: %v %s", s.Tenant, err, text(st))
			}
		}
	}
}

// sitesConfig gives a site's end of a tunnel the file that the gateway writes for it,
// and reads what an operator sees of all this.
func sitesConfig(t *testing.T) {
	s := siteOf(t, "cbr")
	file := ctl(t, "gw", "s2s", "config", s.Tenant, s.Connection(0), "--peer", s.Name)
	t.Cleanup(func() {
		if err := world.ConnectSites(later(t), s.Name); err != nil {
			t.Error(err)
		}
		reachesSite(t, s)
	})
	if err := world.SetSiteWG(t.Context(), s.Name, 0, file); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	id, err := world.Get(t.Context(), s.Host(), service80(vmOf(t, s, 11).CA), 0, patience)
	if err != nil || id.Name != vmOf(t, s, 11).Name || peerAddr(id) != s.HostAddr().String() {
		t.Errorf("%q answers and sees %q (%v), with\n%s", id.Name, id.Peer, err, file)
	}
	for _, x := range []struct {
		argv  []string
		words []string
	}{
		{[]string{"s2s", "list"}, []string{"contoso", "fabrikam", "hq-1", "hq-2", "br-1", "Ready"}},
		{[]string{"s2s", "show", "contoso", "hq-1"}, []string{"192.0.2.2:51820", "203.0.113.10", "up"}},
		{[]string{"bgp", "peer", "list"}, []string{"contoso", "fabrikam", "hq-1-v6", "dc", "established"}},
		{[]string{"bgp", "routes", "contoso"}, []string{"172.16.1.0/24", "172.16.2.0/24", "10.60.1.0/24", "65101", "65102", "65200"}},
		{[]string{"forward", "list"}, []string{"servers", "datacenter", "10.40.0.10"}},
		{[]string{"path", "contoso", "172.16.1.10"}, []string{"hq-1"}},
	} {
		out := ctl(t, "gw", x.argv...)
		for _, w := range x.words {
			if !strings.Contains(out, w) {
				t.Errorf("%v does not say %q:\n%s", x.argv, w, out)
			}
		}
	}
}

// sitesWay asks which way packets go.
func sitesWay(t *testing.T) {
	c := api(t)
	for dst, want := range map[string]string{
		"10.1.1.12": "overlay", "172.16.1.10": "s2s", "10.60.1.10": "forward", internet().String(): "nat",
	} {
		for _, tenant := range []string{"contoso", "fabrikam"} {
			got, err := c.Path(t.Context(), tenant, v1.PathQuery{Dst: dst})
			if err != nil {
				t.Fatal(err)
			}
			if got.Via != want || got.Reason == "" {
				t.Errorf("%s to %s: %+v, want %s", tenant, dst, got, want)
			}
			if want == "s2s" && got.Through != "hq-1" {
				t.Errorf("%s to %s: through %q, want hq-1", tenant, dst, got.Through)
			}
		}
	}
}

// sitesTransit goes from site to site through the gateway.
func sitesTransit(t *testing.T) {
	for _, tenant := range []string{"contoso", "fabrikam"} {
		sites := world.Topology().SitesOf(tenant)
		for _, from := range sites {
			for _, to := range sites {
				if from.Name == to.Name {
					continue
				}
				ways := []struct{ to, seen netip.Addr }{{to.HostAddr(), from.HostAddr()}}
				if from.Link == nil && to.Link == nil {
					ways = append(ways, struct{ to, seen netip.Addr }{to.HostAddr6(), from.HostAddr6()})
				}
				for _, x := range ways {
					id, err := world.Get(t.Context(), from.Host(), service80(x.to), 0, patience)
					if err != nil || id.Name != to.Host() || peerAddr(id) != x.seen.String() {
						t.Errorf("%s to %s: %q answers and sees %q (%v)", from.Name, to.Name, id.Name, id.Peer, err)
					}
				}
			}
		}
	}
}
