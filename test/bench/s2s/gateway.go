//go:build linux

package s2s

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	apiclient "github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// The machines of the gateway's lab that are measured: a VM of one tenant on one
// host, and the tenant's headquarters.
const (
	vmMachine, siteName = "c11", "chq"
	gateway             = "gw"
)

// small is the lab with a host, a VM and a site.
func (r *run) small(letter rune, speaker lab.Speaker) (*lab.Lab, error) {
	topo := lab.Default()
	topo.Rogue, topo.Gateway.Uplinks = nil, nil
	topo.Hosts = slices.DeleteFunc(topo.Hosts, func(h lab.Host) bool { return h.Name != "h1" })
	topo.VMs = slices.DeleteFunc(topo.VMs, func(v lab.VM) bool { return v.Name != vmMachine })
	topo.Tenants = slices.DeleteFunc(topo.Tenants, func(t lab.Tenant) bool { return t.Name != "contoso" })
	topo.Sites = slices.DeleteFunc(topo.Sites, func(s lab.Site) bool { return s.Name != siteName })
	for i := range topo.Sites {
		topo.Sites[i].Speaker = speaker
	}
	return lab.New(labName(letter), lab.Options{Bin: r.Bin, WireGuard: r.WireGuard, Topology: topo, BFD: 100 * time.Millisecond})
}

// begin brings the lab up, with gatewayd on its machines and the site's router.
func begin(ctx context.Context, l *lab.Lab) error {
	if err := l.Up(ctx); err != nil {
		return err
	}
	if _, err := l.StartGatewayd(ctx, gateway); err != nil {
		return err
	}
	if err := l.ConfigureGateway(ctx); err != nil {
		return err
	}
	if err := l.StartHosts(ctx); err != nil {
		return err
	}
	return l.StartSites(ctx, siteName)
}

func (r *run) tunnel(ctx context.Context) (err error) {
	l, err := r.small('t', lab.NoSpeaker)
	if err != nil {
		return err
	}
	if err := begin(ctx, l); err != nil {
		return errors.Join(err, l.Down())
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	s, err := l.Topology().Site(siteName)
	if err != nil {
		return err
	}
	if _, err := l.Start(s.Host(), "iperf3-"+s.Host(), "iperf3", "-s"); err != nil {
		return err
	}
	type path struct {
		name, from, to string
		client         client
	}
	paths := []path{{"hnvgate", vmMachine, s.HostAddr().String(), l}}
	for _, hosts := range []bool{false, true} {
		b, e := newBare(ctx, r.Bin, r.WireGuard, hosts)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, b.down()) }()
		paths = append(paths, path{b.name, b.from, b.to, b})
	}
	last := 0
	for _, n := range slices.Sorted(slices.Values(r.Tunnels)) {
		if err := addTunnels(ctx, l, s, last, n); err != nil {
			return fmt.Errorf("%d tunnels: %w", n, err)
		}
		last = n
		if err := l.Ping(ctx, vmMachine, s.HostAddr(), 30*time.Second); err != nil {
			return err
		}
		for round := range r.Rounds {
			for _, x := range paths {
				put := r.put(round, x.name)
				err := tcp(ctx, x.client, x.from, x.to, r.Time, 4, func(metric, unit string, v float64) {
					put(fmt.Sprintf("%s_%d", metric, n), unit, v)
				})
				if err != nil {
					return fmt.Errorf("%s, %d tunnels: %w", x.name, n, err)
				}
			}
		}
	}
	return nil
}

// addTunnels makes of so many tunnels so many more. The first one leads to the site's
// network; the others, all to one peer at the site, to an address each, which is
// probed.
func addTunnels(ctx context.Context, l *lab.Lab, s lab.Site, have, want int) error {
	doc, err := l.SitesDocument(s.Name)
	if err != nil {
		return err
	}
	first := doc.S2SConnections[0]
	first.Peers[0].FromBGP = false
	first.Peers[0].Prefixes = append(first.Peers[0].Prefixes, s.LAN.Masked().String())
	doc = v1.Document{APIVersion: v1.APIVersion}
	if have == 0 {
		doc.S2SConnections = append(doc.S2SConnections, first)
	}
	key, err := l.SiteKey(s.Name, 1)
	if err != nil {
		return err
	}
	ours, theirs := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)}) },
		func(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}) }
	for i := max(have, 1); i < want; i++ {
		doc.S2SConnections = append(doc.S2SConnections, v1.S2SConnection{
			Tenant: s.Tenant, Name: fmt.Sprintf("idle-%d", i), Addresses: []string{ours(i).String() + "/32"},
			Peers: []v1.S2SPeer{{Name: "far", PublicKey: key, Endpoint: s.Endpoint(1).String(), Prefixes: []string{theirs(i).String() + "/32"}}},
		})
	}
	if err := l.Apply(ctx, gateway, "tunnels.yaml", doc); err != nil {
		return err
	}
	now, err := l.Export(ctx, gateway)
	if err != nil {
		return err
	}
	var peers []lab.SitePeer
	for _, c := range now.S2SConnections {
		at, err := l.Listens(c)
		if err != nil {
			return err
		}
		if c.Name == first.Name {
			if err := l.ConnectSite(ctx, s.Name, 0, c.PublicKey, at, ""); err != nil {
				return err
			}
			continue
		}
		a, err := netip.ParsePrefix(c.Addresses[0])
		if err != nil {
			return err
		}
		peers = append(peers, lab.SitePeer{PublicKey: c.PublicKey, Endpoint: at, AllowedIPs: []netip.Prefix{a}})
	}
	if have == 0 {
		for _, argv := range [][]string{
			{"ip", "route", "add", "local", "100.64.0.0/16", "dev", "lo"}, {"ip", "route", "add", "100.65.0.0/16", "dev", "wg1"},
		} {
			if _, err := l.Exec(ctx, s.Name, argv...); err != nil {
				return err
			}
		}
	}
	if len(peers) > 0 {
		if err := l.AddSitePeers(ctx, s.Name, 1, peers); err != nil {
			return err
		}
	}
	return l.Ready(ctx, gateway)
}

func (r *run) failover(ctx context.Context) (err error) {
	l, err := r.small('f', lab.FRR)
	if err != nil {
		return err
	}
	if err := begin(ctx, l); err != nil {
		return errors.Join(err, l.Down())
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	s, err := l.Topology().Site(siteName)
	if err != nil {
		return err
	}
	doc, err := l.SitesDocument(siteName)
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, gateway, "sites.yaml", doc); err != nil {
		return err
	}
	if err := l.ConnectSites(ctx, siteName); err != nil {
		return err
	}
	if err := l.Ready(ctx, gateway); err != nil {
		return err
	}
	broken, pauses := 0.0, []float64(nil)
	for cut := range r.Cuts {
		pause, survived, err := oneCut(ctx, l, s)
		if err != nil {
			return fmt.Errorf("cut %d: %w", cut+1, err)
		}
		r.put(cut, "hnvgate")("failover_pause", "s", pause)
		pauses = append(pauses, pause)
		if !survived {
			broken++
		}
	}
	slices.Sort(pauses)
	put := r.put(0, "hnvgate")
	put("failover_pause_p95", "s", pauses[int(math.Ceil(0.95*float64(len(pauses))))-1])
	put("failover_broken", "connection", broken)
	return nil
}

// oneCut cuts the first tunnel while TCP flows to and from the site, and gives the
// longest time without a byte of either.
func oneCut(ctx context.Context, l *lab.Lab, s lab.Site) (pause float64, survived bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	api := apiclient.New(l.Socket(gateway))
	defer api.Close()
	err = poll(ctx, 100*time.Millisecond, "the first tunnel is not in use", func() (bool, error) {
		p, err := api.Path(ctx, s.Tenant, v1.PathQuery{Dst: s.HostAddr().String()})
		return p.Through == s.Connection(0), err
	})
	if err != nil {
		return 0, false, err
	}
	const rate = 1 << 20
	var streams []*lab.Stream
	for _, d := range []service.Direction{service.Down, service.Up} {
		st, err := l.StartStream(vmMachine, s.HostAddr(), service.StreamRequest{Direction: d, Bytes: 6 * rate, Rate: rate})
		if err != nil {
			return 0, false, err
		}
		defer st.Stop()
		streams = append(streams, st)
	}
	for _, st := range streams {
		if err := st.Passed(ctx, rate); err != nil {
			return 0, false, err
		}
	}
	if err := l.Cut(ctx, s.Name, 0); err != nil {
		return 0, false, err
	}
	survived = true
	for _, st := range streams {
		report, e := st.Wait(ctx)
		survived = survived && e == nil
		pause = max(pause, report.Longest.Seconds())
	}
	return pause, survived, l.Mend(ctx, s.Name, 0)
}
