//go:build privileged && linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultSitesOverlap(t *testing.T) {
	topo := Default()
	if err := topo.check(); err != nil {
		t.Fatal(err)
	}
	one, two := topo.SitesOf("contoso"), topo.SitesOf("fabrikam")
	if len(one) != len(two) || len(one) == 0 {
		t.Fatalf("sites %d and %d", len(one), len(two))
	}
	for i := range one {
		a, b := one[i], two[i]
		for n := range a.Tunnels {
			if a.Tunnels[n].WAN == b.Tunnels[n].WAN {
				t.Errorf("%s and %s have one address in the Internet", a.Name, b.Name)
			}
			a.Tunnels[n].WAN = b.Tunnels[n].WAN
		}
		if a.Link != nil && b.Link != nil {
			at := *a.Link
			at.Uplink = b.Link.Uplink
			if at != *b.Link {
				t.Errorf("links differ: %+v, %+v", at, *b.Link)
			}
			a.Link, b.Link = nil, nil
		}
		a.Name, a.Tenant, a.Speaker = b.Name, b.Tenant, b.Speaker
		if d := cmp.Diff(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b)); d != "" {
			t.Errorf("sites differ: %s", d)
		}
	}
}

// TestSites lets Debian's wireguard-go and BIRD be the gateway: every site's tunnels
// and sessions come up, over IPv4 and IPv6, packets get to its machine and back, and
// after a cut they go by the other tunnel.
func TestSites(t *testing.T) {
	topo := Default()
	topo.VMs, topo.Hosts = nil, nil
	l, err := New("sites"+strconv.Itoa(os.Getpid()), Options{Topology: topo, Bin: world.opts.Bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Down() })
	if err := l.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	if err := l.StartSites(ctx); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"contoso", "fabrikam"} {
		standIn(ctx, t, l, tenant)
	}
}

// standIn is a gateway of the tenant's for as long as it takes.
func standIn(ctx context.Context, t *testing.T, l *Lab, tenant string) {
	t.Helper()
	var all Site // the other ends of all the tenant's tunnels, as if of one site
	all.Name, all.Tenant, all.Speaker, all.ASN = "gw", tenant, BIRD, GatewayASN
	all.LAN, all.LAN6 = l.topo.Tenants[0].Subnets[1].Prefix, l.topo.Tenants[0].Subnets[1].Prefix6
	config := "log stderr all; router id 10.9.9.9; protocol device {}\nprotocol direct { ipv4; ipv6; interface \"lo\"; }\n" +
		"protocol kernel { ipv4 { export where source = RTS_BGP; }; }\nprotocol kernel { ipv6 { export where source = RTS_BGP; }; }\n" +
		"protocol bfd { interface \"wg*\" { interval 100 ms; multiplier 3; }; }\n"
	type way struct {
		site Site
		n    int
	}
	var ways []way
	for _, s := range l.topo.SitesOf(tenant) {
		for n, x := range s.Tunnels {
			ways = append(ways, way{s, n})
			all.Tunnels = append(all.Tunnels, SiteTunnel{Inside: x.Gateway(), Inside6: x.Gateway6()})
			for i, end := range []struct{ family, local, far string }{
				{"ipv4", x.Gateway().Addr().String(), x.Inside.Addr().String()}, {"ipv6", x.Gateway6().Addr().String(), x.Inside6.Addr().String()},
			} {
				watch := "bfd on;"
				if s.Speaker == GoBGP {
					watch = ""
				}
				config += fmt.Sprintf("protocol bgp %sv%d { local %s as %d; neighbor %s as %d; connect retry time 1; connect delay time 1; error wait time 1, 2; %s\n"+
					" %s { import filter { bgp_local_pref = %d; accept; }; export all; }; }\n",
					fmt.Sprint(s.Name, n), 4+2*i, end.local, GatewayASN, end.far, s.ASN, watch, end.family, 200-n)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.ip(ctx, "gw", "addr replace 10.1.1.1/24 dev lo"))
	_, err := l.Exec(ctx, "gw", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0", "net.ipv6.conf.lo.disable_ipv6=0", "net.ipv6.conf.default.accept_dad=0")
	must(err)
	must(l.ip(ctx, "gw", "addr replace fd00:1:1::1/64 dev lo"))
	for k, w := range ways {
		must(l.startTunnel(ctx, all, k))
		theirs, err := l.SiteKey(w.site.Name, w.n)
		must(err)
		ours, err := l.SiteKey("gw", k)
		must(err)
		_, err = l.wg(ctx, all, k, "", "set", fmt.Sprintf("wg%d", k), "fwmark", "0", "peer", theirs, "endpoint", w.site.Endpoint(w.n).String(), "allowed-ips", "0.0.0.0/0,::/0")
		must(err)
		must(l.ConnectSite(ctx, w.site.Name, w.n, ours, netip.AddrPortFrom(l.topo.Gateway.External.Addr(), WireGuardPort(k)), ""))
	}
	dir := l.speakerDir(all)
	must(os.MkdirAll(dir, 0o755))
	must(os.WriteFile(filepath.Join(dir, "bird.conf"), []byte(config), 0o600))
	bird, err := l.Start("gw", "bird-gw", "bird", "-f", "-c", filepath.Join(dir, "bird.conf"), "-s", filepath.Join(dir, "bird.ctl"))
	must(err)

	for _, s := range l.topo.SitesOf(tenant) {
		if s.Link != nil {
			continue // see TestDatacenters
		}
		for _, to := range []string{s.HostAddr().String(), s.HostAddr6().String()} {
			from := "10.1.1.1"
			if strings.Contains(to, ":") {
				from = "fd00:1:1::1"
			}
			if err := l.pings(ctx, "gw", from, to); err != nil {
				for _, q := range []string{"show protocols", "show bfd sessions"} {
					out, _ := l.Exec(ctx, "gw", append([]string{"birdc", "-s", filepath.Join(dir, "bird.ctl")}, strings.Fields(q)...)...)
					t.Log(out)
				}
				t.Fatal(err)
			}
		}
		if len(s.Tunnels) < 2 {
			continue
		}
		// By the first way, until it is cut.
		count := func(n int) string {
			out, err := l.SiteWG(ctx, s.Name, n, "transfer")
			must(err)
			return strings.Fields(out)[1] // key, received, sent
		}
		must(l.Cut(ctx, s.Name, 0))
		time.Sleep(200 * time.Millisecond) // for what is under way
		was := count(0)
		must(l.pings(ctx, "gw", "10.1.1.1", s.HostAddr().String()))
		if now := count(0); now != was {
			t.Errorf("%s: packets came through a cut: %s, then %s", s.Name, was, now)
		}
		must(l.Mend(ctx, s.Name, 0))
		must(l.Mend(ctx, s.Name, 0))
	}
	must(bird.Kill(ctx, syscall.SIGTERM))
	for k := range ways {
		must(l.stop(ctx, tunnelProcess(all, k), syscall.SIGTERM))
	}
}

// pings waits for an answer to an echo request from the address.
func (l *Lab) pings(ctx context.Context, machine, from, to string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := l.Exec(ctx, machine, "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", from, to)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// TestDatacenters lets BIRD be the gateway on each of its uplinks in turn.
func TestDatacenters(t *testing.T) {
	topo := Default()
	topo.VMs, topo.Hosts = nil, nil
	topo.Sites = slices.DeleteFunc(topo.Sites, func(s Site) bool { return s.Link == nil })
	l, err := New("dcs"+strconv.Itoa(os.Getpid()), Options{Topology: topo, Bin: world.opts.Bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Down() })
	if err := l.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := l.StartSites(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range topo.Sites {
		u, err := topo.uplink(s.Link.Uplink)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.ip(ctx, "gw", fmt.Sprintf("addr add %s/24 dev %s", s.Link.Gateway, u.Interface), "addr replace 10.1.1.1/24 dev lo"); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(l.dir, "bird-"+s.Name)
		config := fmt.Sprintf("log stderr all; router id 10.9.9.9; protocol device {}\nprotocol direct { ipv4; interface \"lo\"; }\n"+
			"protocol kernel { ipv4 { export where source = RTS_BGP; }; }\nprotocol bfd { interface %q { interval 200 ms; }; }\n"+
			"protocol bgp dc { local %s as %d; neighbor %s as %d; bfd on; connect retry time 1; connect delay time 1; error wait time 1, 2; ipv4 { import all; export all; }; }\n",
			u.Interface, s.Link.Gateway, GatewayASN, s.Link.Router.Addr(), s.ASN)
		if err := os.WriteFile(file+".conf", []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		bird, err := l.Start("gw", "bird-gw", "bird", "-f", "-c", file+".conf", "-s", file+".ctl")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.pings(ctx, "gw", "10.1.1.1", s.HostAddr().String()); err != nil {
			t.Fatal(err)
		}
		if err := bird.Kill(ctx, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := l.ip(ctx, "gw", "addr flush dev "+u.Interface); err != nil {
			t.Fatal(err)
		}
	}
}
