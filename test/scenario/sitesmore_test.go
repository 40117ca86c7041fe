//go:build privileged && linux

package scenario

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// unheard wants the site's speaker to know nothing of the prefix. It must know all
// that it is to be told by then.
func unheard(t *testing.T, site, command, prefix string) {
	t.Helper()
	out, err := world.Speaker(t.Context(), site, command+" "+prefix)
	if err == nil && strings.Contains(out, prefix) {
		t.Errorf("%s has heard of %s:\n%s", site, prefix, out)
	}
}

// changeConnection changes the connection to the site's first tunnel until the test is
// over.
func changeConnection(t *testing.T, s lab.Site, change func(*v1.S2SConnection)) {
	t.Helper()
	set := func(change func(*v1.S2SConnection)) {
		t.Helper()
		doc, err := world.SitesDocument(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		change(&doc.S2SConnections[0])
		only := v1.Document{APIVersion: v1.APIVersion, S2SConnections: doc.S2SConnections}
		if err := world.Apply(later(t), "gw", "connection.yaml", only); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		set(func(*v1.S2SConnection) {})
		reachesSite(t, s)
	})
	set(change)
	settled(t, "gw")
}

// sitesMapped has a site and its tenant see each other at other addresses, one to one,
// and the site reach a VM by its external address: BGP says what leads where.
func sitesMapped(t *testing.T) {
	s := siteOf(t, "cbr")
	undo(t, "gw", "tenant", "set", "contoso", "--nat", "203.0.113.10")
	undo(t, "gw", "nat", "mapping", "delete", "contoso", "--proto", "tcp", "--external", "203.0.113.11:8088")
	ctl(t, "gw", "tenant", "set", "contoso", "--nat", "203.0.113.10", "--nat", "203.0.113.11")
	ctl(t, "gw", "nat", "mapping", "add", "contoso", "--proto", "tcp", "--external", "203.0.113.11:8088", "--internal", "10.1.1.13:80")
	changeConnection(t, s, func(c *v1.S2SConnection) {
		c.LocalMaps = []v1.PrefixMap{{Real: "10.1.1.0/24", Mapped: "100.64.1.0/24"}}
		c.RemoteMaps = []v1.PrefixMap{{Real: s.LAN.Masked().String(), Mapped: "100.65.2.0/24"}}
		c.Peers[0].Prefixes = append(c.Peers[0].Prefixes, s.LAN.Masked().String())
	})
	hears(t, "cbr", "show route all 100.64.1.0/24", "BGP.as_path: 65000", "BGP.next_hop: 169.254.3.1")
	hears(t, "cbr", "show route all 203.0.113.11/32", "BGP.as_path: 65000", "BGP.next_hop: 169.254.3.1")
	// The others are told what is so for them; and nobody behind a tunnel where it ends.
	hears(t, "cdc", "show bgp ipv4 unicast 203.0.113.10/32 json", `"string":"65000"`)
	hears(t, "cdc", "show bgp ipv4 unicast 10.1.1.0/24 json", `"string":"65000"`)
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		out, _ := world.Speaker(t.Context(), "cbr", "show route 10.1.1.0/24") // fails where nothing is found
		if !strings.Contains(out, "10.1.1.0/24") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the real prefix is still told: %s", out)
		}
	}
	unheard(t, "cbr", "show route", "203.0.113.10/32")
	unheard(t, "chq", "show bgp ipv4 unicast", "203.0.113.10/32")
	unheard(t, "chq", "show bgp ipv4 unicast", "100.64.1.0/24")

	near, far := netip.MustParseAddr("100.64.1.13"), netip.MustParseAddr("100.65.2.10")
	for _, x := range []struct {
		from, to string
		addr     netip.AddrPort
		seen     netip.Addr
	}{
		{"c13", s.Host(), service80(far), near},
		{s.Host(), "c13", service80(near), far},
		{s.Host(), "c13", netip.MustParseAddrPort("203.0.113.11:8088"), far},
	} {
		id, err := world.Get(t.Context(), x.from, x.addr, 0, patience)
		if err != nil || id.Name != x.to || peerAddr(id) != x.seen.String() {
			t.Errorf("from %s to %s: %q answers and sees %q, want %s and %s (%v)", x.from, x.addr, id.Name, id.Peer, x.to, x.seen, err)
		}
	}
	for _, d := range []service.Direction{service.Up, service.Down} {
		st, err := world.StartStream("c13", far, service.StreamRequest{Direction: d, Bytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Stop)
		whole(t, map[string]*lab.Stream{"mapped " + string(d): st})
	}
}

// reconnect has the site's end of its first tunnel begin anew: it shakes hands.
func reconnect(t *testing.T, s lab.Site) {
	t.Helper()
	c := connectionOf(t, s.Tenant, s.Connection(0))
	at, err := world.Listens(c)
	if err != nil {
		t.Fatal(err)
	}
	other := connectionOf(t, s.Tenant, "hq-2").PublicKey // nobody answers to it here
	for _, key := range []string{other, c.PublicKey} {
		if err := world.ConnectSite(later(t), s.Name, 0, key, at, ""); err != nil {
			t.Fatal(err)
		}
	}
	reachesSite(t, s)
}

// sitesReplayed records the beginning of a real handshake and says it again, from
// elsewhere and from where it came from: nobody answers, and the peer is where it was.
func sitesReplayed(t *testing.T) {
	s := siteOf(t, "cbr")
	c := connectionOf(t, s.Tenant, s.Connection(0))
	external := tenant(t, s.Tenant).External.String()
	file := capturing(t, "inet", "s-cbr-0", fmt.Sprintf("udp dst port %d and udp[8:4] = 0x01000000", c.ListenPort), func() { reconnect(t, s) })
	rows := dissect(t, file, "ip.dst=="+external, "udp.payload")
	if len(rows) == 0 {
		t.Fatal("no handshake was begun")
	}
	streams := both(t, "br")
	flowing(t, streams)
	shaken, err := world.SiteWG(t.Context(), s.Name, 0, "latest-handshakes")
	if err != nil {
		t.Fatal(err)
	}
	const stranger = "100.90.0.1"
	file = capturing(t, "inet", "gw0", "udp and host "+stranger, func() {
		for _, r := range rows {
			payload, err := hex.DecodeString(strings.ReplaceAll(r[0], ":", ""))
			if err != nil || len(payload) != 148 {
				t.Fatalf("a handshake begins with %q: %v", r[0], err)
			}
			for i := range 50 {
				inject(t, "inet", "gw0", fromInternet(t, net.ParseIP(stranger), uint16(2000+i), c.ListenPort, external, payload),
					fromInternet(t, net.IP(s.Endpoint(0).Addr().AsSlice()), s.Endpoint(0).Port(), c.ListenPort, external, payload))
			}
		}
		flowing(t, streams)
	})
	if rows := dissect(t, file, "ip.src=="+stranger, "udp.length"); len(rows) < 50 {
		t.Errorf("%d replays were sent", len(rows))
	}
	if rows := dissect(t, file, "ip.dst=="+stranger, "ip.src", "udp.length"); len(rows) > 0 {
		t.Errorf("the stranger is answered: %v", rows)
	}
	st, err := api(t).S2SStatus(t.Context(), s.Tenant, s.Connection(0))
	if err != nil || st.Peers[0].Endpoint != s.Endpoint(0).String() || st.Peers[0].Liveness != v1.LivenessUp {
		t.Errorf("the peer is elsewhere, or not up: %v %s", err, text(st))
	}
	if now, err := world.SiteWG(t.Context(), s.Name, 0, "latest-handshakes"); err != nil || now != shaken {
		t.Errorf("there was another handshake: %v, %s and before %s", err, now, shaken)
	}
	if out := in(t, world.Compartment(s.Tenant), "conntrack", "-L", "-p", "udp"); strings.Contains(out, stranger) {
		t.Errorf("the kernel remembers the stranger: %s", out)
	}
	intact(t, streams)
}

// sitesCrowded has a site's router send more routes than it may, by far: its session
// ends, the tenant's agent lives within its memory, the other tenants notice nothing,
// and when there are fewer all is well again by itself.
func sitesCrowded(t *testing.T) {
	const routes, allowed = 200_000, 10_000
	s := siteOf(t, "cbr")
	c := api(t)
	doc, err := world.SitesDocument(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	peer := func(change func(*v1.BGPPeer)) {
		t.Helper()
		d := v1.Document{APIVersion: v1.APIVersion}
		for _, p := range doc.BGPPeers {
			if p.Name == s.Connection(0) {
				change(&p)
				d.BGPPeers = append(d.BGPPeers, p)
			}
		}
		if err := world.Apply(later(t), "gw", "crowd.yaml", d); err != nil {
			t.Fatal(err)
		}
	}
	speak := func(extra string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(later(t), patience)
		defer cancel()
		if err := world.StartSpeaker(ctx, s.Name, lab.SpeakerOptions{Extra: extra}); err != nil {
			t.Fatal(err)
		}
	}
	restored := false
	t.Cleanup(func() {
		if !restored {
			speak("")
		}
		peer(func(*v1.BGPPeer) {})
		reachesSite(t, s)
	})
	agents := agentsOf(t, s.Tenant)
	if len(agents) != 1 {
		t.Fatalf("agents: %v", agents)
	}
	streams := both(t, "hq")
	flowing(t, streams)
	peer(func(p *v1.BGPPeer) { p.ReEnableSeconds, p.MaxPrefixes = 2, &v1.BGPMaxPrefixes{IPv4: allowed} })

	var many strings.Builder
	many.WriteString("protocol static crowd { ipv4;\n")
	for i := range routes {
		fmt.Fprintf(&many, "route %s/28 blackhole;\n", netip.AddrFrom4([4]byte{byte(20 + i>>20), byte(i >> 12), byte(i >> 4), byte(i << 4)}))
	}
	many.WriteString("}\n")
	speak(many.String())
	status := func() v1.BGPPeerStatus {
		t.Helper()
		st, err := c.BGPStatus(t.Context(), s.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Peers {
			if p.Name == s.Connection(0) {
				return p
			}
		}
		return v1.BGPPeerStatus{}
	}
	over := func(want bool) {
		t.Helper()
		for end := time.Now().Add(2 * patience); ; time.Sleep(100 * time.Millisecond) {
			p := status()
			if p.OverLimit == want && (p.Session == "established") == !want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("over its limit is to be %v: %s", want, text(p))
			}
		}
	}
	over(true)
	flowing(t, streams)
	boundedMemory(t, agents[0])
	if n := strings.Count(in(t, world.Compartment(s.Tenant), "ip", "route", "show", "proto", "203", "root", "20.0.0.0/6"), "\n"); n > allowed {
		t.Errorf("%d of its routes are in the kernel", n)
	}
	speak("")
	restored = true
	over(false)
	reachesSite(t, s)
	flowing(t, streams)
	intact(t, streams)
	boundedMemory(t, agents[0])
	if now := agentsOf(t, s.Tenant); len(now) != 1 || now[0] != agents[0] {
		t.Errorf("agents: %v, and before %v", now, agents)
	}
}

// boundedMemory wants the agent to have less memory than agents.memoryMiB lets it.
func boundedMemory(t *testing.T, pid int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kB, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || kB > 512<<10 {
		t.Errorf("the agent had %d kB at most: %v", kB, err)
	}
	t.Logf("the agent had %d MB at most", kB>>10)
}

// sitesMarked gives a tunnel a mark and bounds, and looks at its packets outside and
// at what TCP agrees on inside.
func sitesMarked(t *testing.T) {
	s := siteOf(t, "cbr")
	const dscp, kbps = 46, 2000
	changeConnection(t, s, func(c *v1.S2SConnection) { c.DSCP, c.InboundKbps, c.OutboundKbps = dscp, kbps, kbps })
	c := api(t)
	before, err := c.S2SStatus(t.Context(), s.Tenant, s.Connection(0))
	if err != nil || before.MTU == 0 {
		t.Fatalf("%v: %s", err, text(before))
	}
	var at string
	outside := capturing(t, "inet", "gw0", "udp", func() {
		at = capturing(t, s.Host(), "eth0", "tcp[tcpflags] & tcp-syn != 0", func() {
			for _, d := range []service.Direction{service.Up, service.Down} {
				st, err := world.StartStream("c13", s.HostAddr(), service.StreamRequest{Direction: d, Bytes: 1 << 19})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(st.Stop)
				whole(t, map[string]*lab.Stream{"bounded " + string(d): st})
			}
			if _, err := world.Get(t.Context(), s.Host(), service80(vm(t, "c13").CA), 0, patience); err != nil {
				t.Error(err)
			}
		})
	})
	mine := fmt.Sprintf("ip.src==%s && ip.dst==%s", tenant(t, s.Tenant).External, s.Endpoint(0).Addr())
	if rows := dissect(t, outside, mine+fmt.Sprintf(" && !(ip.dsfield.dscp==%d)", dscp), "ip.dsfield.dscp"); len(rows) > 0 {
		t.Errorf("%d packets of the tunnel have another mark: %v", len(rows), rows[0])
	}
	if rows := dissect(t, outside, mine, "ip.len"); len(rows) < 20 {
		t.Errorf("there are %d packets of the tunnel", len(rows))
	}
	if rows := dissect(t, outside, fmt.Sprintf("ip.dsfield.dscp==%d && !(%s)", dscp, mine), "ip.src", "ip.dst"); len(rows) > 0 {
		t.Errorf("others have the mark: %v", rows[0])
	}
	// Not by their length: the kernel hands over several as one between virtual links.
	if rows := dissect(t, outside, "ip.flags.mf==1 || ip.frag_offset>0", "ip.src", "ip.len"); len(rows) > 0 {
		t.Errorf("the tunnel's packets do not fit the path: %v", rows[0])
	}
	most := before.MTU - 40
	for _, who := range []string{vm(t, "c13").CA.String(), s.HostAddr().String()} {
		rows := dissect(t, at, "ip.src=="+who, "tcp.options.mss_val")
		for _, r := range rows {
			// What the host itself says passes the clamp on its way, not here.
			if mss, err := strconv.Atoi(r[0]); err != nil || mss > most && who != s.HostAddr().String() {
				t.Errorf("%s announces segments of %v, and the tunnel's are of %d: %v", who, r, most, err)
			}
		}
		if len(rows) == 0 {
			t.Errorf("%s has begun no connection", who)
		}
	}
	after, err := c.S2SStatus(t.Context(), s.Tenant, s.Connection(0))
	if err != nil || after.OutboundDrops == before.OutboundDrops || after.InboundDrops == before.InboundDrops {
		t.Errorf("nothing was over the bounds: %v %s", err, text(after))
	}
}

// sitesMoved has a site's end move to another port, and the gateway's key change, under
// what is on its way.
func sitesMoved(t *testing.T) {
	s := siteOf(t, "cbr")
	streams := both(t, "br")
	flowing(t, streams)
	endpoint := func(want netip.AddrPort) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			st, err := api(t).S2SStatus(t.Context(), s.Tenant, s.Connection(0))
			if err == nil && st.Peers[0].Endpoint == want.String() {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the peer is not followed to %s: %v %s", want, err, text(st))
			}
		}
	}
	home := s.Endpoint(0)
	for _, at := range []netip.AddrPort{netip.AddrPortFrom(home.Addr(), 51999), home} {
		if err := world.MoveSite(t.Context(), s.Name, 0, at.Port()); err != nil {
			t.Fatal(err)
		}
		endpoint(at)
		flowing(t, streams)
	}
	old := connectionOf(t, s.Tenant, s.Connection(0)).PublicKey
	out := ctl(t, "gw", "s2s", "set", s.Tenant, s.Connection(0), "--new-key")
	fresh := connectionOf(t, s.Tenant, s.Connection(0)).PublicKey
	if fresh == old || !strings.Contains(out, fresh) {
		t.Errorf("the key was %s and is %s: %s", old, fresh, out)
	}
	if err := world.ConnectSites(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	flowing(t, streams)
	endpoint(home)
	intact(t, streams)
}
