//go:build linux

package s2s

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
)

const (
	// maxTenants have external addresses in the lab's Internet.
	maxTenants = 240
	// tenantRoutes are told to each tenant by its neighbour.
	tenantRoutes = 100
)

// many is a lab of a gateway and one site, which is that of all tenants: it has a
// tunnel to each and a session of BGP over it.
type many struct {
	*lab.Lab
	n    int
	doc  v1.Document
	site lab.Site
	keys []string // public ones, of the gateway's ends
}

func (r *run) tenants(ctx context.Context) (err error) {
	if r.Tenants > maxTenants {
		return fmt.Errorf("there are external addresses for %d tenants only", maxTenants)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	m, err := newMany(r.Bin, r.WireGuard, r.Tenants)
	if err != nil {
		return err
	}
	if err := m.up(ctx); err != nil {
		return errors.Join(err, m.Down())
	}
	defer func() { err = errors.Join(err, m.Down()) }()
	put := r.put(0, fmt.Sprintf("hnvgate-%d-tenants", r.Tenants))
	daemon := m.Daemon(gateway).PID()
	before, err := pss(daemon)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := m.Apply(ctx, gateway, "tenants.yaml", m.doc); err != nil {
		return err
	}
	put("applied", "s", time.Since(begin).Seconds())
	if err := m.forwarding(ctx); err != nil {
		return err
	}
	put("all_forward", "s", time.Since(begin).Seconds())
	if err := m.Ready(ctx, gateway); err != nil {
		return err
	}
	put("all_ready", "s", time.Since(begin).Seconds())
	agents, err := m.agents()
	if err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	busy, err := processorTime(agents)
	if err != nil {
		return err
	}
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	later, err := processorTime(agents)
	if err != nil {
		return err
	}
	put("agent_processor", "s/s/tenant", (later-busy).Seconds()/idle.Seconds()/float64(r.Tenants))
	memory, err := pss(agents...)
	if err != nil {
		return err
	}
	put("agent_memory", "B/tenant", memory/float64(r.Tenants))
	after, err := pss(daemon)
	if err != nil {
		return err
	}
	put("gatewayd_memory", "B/tenant", (after-before)/float64(r.Tenants))
	return nil
}

const (
	// settle is how long after the start the agents are taken for idle: by then they
	// gave back twice what starting took.
	settle = 45 * time.Second
	// idle is how long their processor time is watched.
	idle = 20 * time.Second
)

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// processorTime is what the processes used so far.
func processorTime(pids []int) (sum time.Duration, err error) {
	const tick = 10 * time.Millisecond // USER_HZ, proc(5)
	for _, p := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), ") ") // the name before it may have spaces
		f := strings.Fields(rest)
		if len(f) < 13 {
			return 0, fmt.Errorf("process %d does not tell its time", p)
		}
		for _, field := range f[11:13] { // utime, stime
			n, err := strconv.ParseUint(field, 10, 63)
			if err != nil {
				return 0, fmt.Errorf("time of process %d: %w", p, err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

func newMany(bin, wireguard string, n int) (*many, error) {
	topo := lab.Default()
	topo.Rogue, topo.Hosts, topo.VMs, topo.Gateway.Uplinks = nil, nil, nil, nil
	site, err := topo.Site(siteName)
	if err != nil {
		return nil, err
	}
	site.Speaker = lab.BIRD
	site.Tunnels = site.Tunnels[:1]
	topo.Sites = []lab.Site{site}
	l, err := lab.New(labName('m'), lab.Options{Bin: bin, WireGuard: wireguard, Topology: topo})
	return &many{Lab: l, n: n, site: site}, err
}

// near and far are the ends of the i-th tenant's tunnel.
func near(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{169, 254, byte(100 + i/64), byte(4*(i%64) + 1)})
}
func far(i int) netip.Addr { return near(i).Next() }

// up brings the lab up: everything but what the gateway is told.
func (m *many) up(ctx context.Context) error {
	if err := m.Up(ctx); err != nil {
		return err
	}
	if _, err := m.StartGatewayd(ctx, gateway); err != nil {
		return err
	}
	if err := m.StartSites(ctx, siteName); err != nil {
		return err
	}
	if err := m.describe(); err != nil {
		return err
	}
	var lines []string
	var peers []lab.SitePeer
	var sessions strings.Builder
	for i := range m.n {
		lines = append(lines, fmt.Sprintf("addr add %s/30 dev wg0", far(i)))
		peers = append(peers, lab.SitePeer{
			PublicKey: m.keys[i], Endpoint: netip.AddrPortFrom(external(i), 51820),
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(near(i), 32)},
		})
		fmt.Fprintf(&sessions, "protocol bgp t%d { local %s as %d; neighbor %s as %d; hold time 90; connect retry time 1; connect delay time 1; error wait time 1, 2;\n"+
			" ipv4 { import none; export where source = RTS_STATIC; }; }\n", i, far(i), m.site.ASN, near(i), lab.GatewayASN)
	}
	for _, line := range lines {
		if _, err := m.Exec(ctx, siteName, append([]string{"ip"}, strings.Fields(line)...)...); err != nil {
			return err
		}
	}
	if err := m.AddSitePeers(ctx, siteName, 0, peers); err != nil {
		return err
	}
	o := lab.SpeakerOptions{Extra: sessions.String()}
	for i := range tenantRoutes {
		o.Networks = append(o.Networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i), 0}), 24))
	}
	return m.StartSpeaker(ctx, siteName, o)
}

func external(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)}) }

func tenantName(i int) string { return fmt.Sprintf("t%d", i) }

// describe writes what the gateway will be told.
func (m *many) describe() error {
	gw := m.Topology().Gateway
	key, err := m.SiteKey(siteName, 0)
	if err != nil {
		return err
	}
	m.doc = v1.Document{
		APIVersion:        v1.APIVersion,
		ProviderAddresses: []v1.ProviderAddress{{Address: gw.PA.String(), Interface: "pa0"}},
	}
	for i := range m.n {
		name, vsid := tenantName(i), uint32(10_000+2*i)
		private, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		m.keys = append(m.keys, base64.StdEncoding.EncodeToString(private.PublicKey().Bytes()))
		m.doc.Tenants = append(m.doc.Tenants, v1.Tenant{
			Name: name, RDID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", vsid), Encap: "nvgre",
			Subnets: []v1.Subnet{
				{VSID: vsid, Prefixes: []string{"10.254.254.0/29"}},
				{VSID: vsid + 1, Prefixes: []string{"10.1.1.0/24"}},
			},
			Gateway: &v1.Gateway{VSID: vsid, CAs: []string{"10.254.254.2"}, Uplink: lab.Uplink, NAT: &v1.NAT{Pool: []string{external(i).String()}}},
		})
		m.doc.S2SConnections = append(m.doc.S2SConnections, v1.S2SConnection{
			Tenant: name, Name: "hq", PrivateKey: base64.StdEncoding.EncodeToString(private.Bytes()), ListenPort: 51820,
			Addresses: []string{netip.PrefixFrom(near(i), 30).String()},
			Peers: []v1.S2SPeer{{
				Name: "hq", PublicKey: key, Endpoint: m.site.Endpoint(0).String(), FromBGP: true,
				Prefixes: []string{netip.PrefixFrom(far(i), 32).String()},
			}},
		})
		m.doc.BGPRouters = append(m.doc.BGPRouters, v1.BGPRouter{Tenant: name, ASN: lab.GatewayASN})
		m.doc.BGPPeers = append(m.doc.BGPPeers, v1.BGPPeer{Tenant: name, Name: "hq", Address: far(i).String(), ASN: m.site.ASN, ConnectRetry: 1})
	}
	return nil
}

// forwarding waits until each tenant's compartment has all routes that BGP told in its
// kernel, and an answer through its tunnel.
func (m *many) forwarding(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range m.n {
		g.Go(func() error {
			at := m.Compartment(tenantName(i))
			return poll(ctx, 50*time.Millisecond, at, func() (bool, error) {
				routes, err := m.Exec(ctx, at, "ip", "route", "show", "proto", "203")
				if err == nil && strings.Count(routes, "\n") < tenantRoutes {
					err = fmt.Errorf("%d of %d routes", strings.Count(routes, "\n"), tenantRoutes)
				}
				if err == nil {
					_, err = m.Exec(ctx, at, "ping", "-n", "-q", "-c", "1", "-W", "1", far(i).String())
				}
				return err == nil, err
			})
		})
	}
	return g.Wait()
}

// agents gives the process IDs of compartmentd, one for each tenant.
func (m *many) agents() ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var ours []os.FileInfo
	for i := range m.n {
		st, err := os.Stat("/run/netns/" + m.NS(m.Compartment(tenantName(i))))
		if err != nil {
			return nil, err
		}
		ours = append(ours, st)
	}
	var out []int
	for _, comm := range all {
		b, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(b)) != "compartmentd" {
			continue
		}
		dir := filepath.Dir(comm)
		st, err := os.Stat(dir + "/ns/net")
		if err != nil || !slices.ContainsFunc(ours, func(o os.FileInfo) bool { return os.SameFile(o, st) }) {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
			return nil, err
		}
		out = append(out, pid)
	}
	if len(out) != m.n {
		return nil, fmt.Errorf("%d tenants have %d agents", m.n, len(out))
	}
	return out, nil
}
