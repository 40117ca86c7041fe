//go:build privileged && linux

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// toSite starts a transfer between a VM and the site's machine that goes on until the
// test is over.
func toSite(t *testing.T, v lab.VM, s lab.Site, d service.Direction) *lab.Stream {
	t.Helper()
	st, err := world.StartStream(v.Name, s.HostAddr(), service.StreamRequest{Direction: d, Bytes: 1 << 40, Rate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Stop)
	return st
}

func siteOf(t *testing.T, name string) lab.Site {
	t.Helper()
	s, err := world.Topology().Site(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// both are transfers between the first VM of each tenant and its site, up and down.
func both(t *testing.T, site string) map[string]*lab.Stream {
	t.Helper()
	out := map[string]*lab.Stream{}
	for _, tenant := range []string{"c", "f"} {
		s := siteOf(t, tenant+site)
		for _, d := range []service.Direction{service.Up, service.Down} {
			out[fmt.Sprintf("%s %s", s.Name, d)] = toSite(t, vmOf(t, s, 11), s, d)
		}
	}
	return out
}

// intact wants no transfer to have failed.
func intact(t *testing.T, streams map[string]*lab.Stream) {
	t.Helper()
	for name, s := range streams {
		r, err := s.Progress()
		if err != nil || r.Error != "" {
			t.Errorf("%s: %v, %+v", name, err, r)
			continue
		}
		t.Logf("%s: %d MB, longest pause %v", name, r.Bytes>>20, r.Longest.Round(time.Millisecond))
	}
}

// goesBy waits until the tenant's packets to the site go through the connection.
func goesBy(t *testing.T, s lab.Site, connection string) {
	t.Helper()
	c := api(t)
	var last v1.PathExplanation
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var err error
		if last, err = c.Path(t.Context(), s.Tenant, v1.PathQuery{Dst: s.HostAddr().String()}); err != nil {
			t.Fatal(err)
		}
		if last.Via == v1.ViaS2S && last.Through == connection {
			return
		}
	}
	t.Errorf("packets of %s to %s do not go by %s: %s", s.Tenant, s.Name, connection, text(last))
}

// sitesFailover cuts the active tunnel of one tenant without a sign, and mends it:
// what is under way goes on each time, and nothing is ever lost of it; the other
// tenant, with the same addresses, sees nothing of it.
func sitesFailover(t *testing.T) {
	s := siteOf(t, "chq")
	streams := both(t, "hq")
	flowing(t, streams)
	t.Cleanup(func() {
		if err := world.Mend(later(t), s.Name, 0); err != nil {
			t.Error(err)
		}
	})
	if err := world.Cut(t.Context(), s.Name, 0); err != nil {
		t.Fatal(err)
	}
	flowing(t, streams)
	goesBy(t, s, "hq-2")
	goesBy(t, siteOf(t, "fhq"), "hq-1")
	if err := world.Mend(t.Context(), s.Name, 0); err != nil {
		t.Fatal(err)
	}
	goesBy(t, s, "hq-1")
	flowing(t, streams)
	intact(t, streams)
}

// sitesBlackhole has a site that keeps the session over its first tunnel and forwards
// nothing that comes by it. A probe that goes as far as its machine finds out.
func sitesBlackhole(t *testing.T) {
	s := siteOf(t, "chq")
	probing := func(target string) {
		t.Helper()
		doc, err := world.SitesDocument(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		doc.BGPPeers, doc.BGPRouters = nil, nil
		for i := range doc.S2SConnections {
			if p := &doc.S2SConnections[i].Peers[0]; target != "" {
				p.Probe = &v1.S2SProbe{Target: target}
			}
		}
		if err := world.Apply(later(t), "gw", "probes.yaml", doc); err != nil {
			t.Fatal(err)
		}
	}
	streams := both(t, "hq")
	flowing(t, streams)
	probing(s.HostAddr().String())
	t.Cleanup(func() { probing("") })
	settled(t, "gw")
	goesBy(t, s, "hq-1")
	const hole = "table inet hole { chain f { type filter hook forward priority 0; iifname wg0 drop; }; }"
	if _, err := world.ExecInput(t.Context(), s.Name, hole, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	fill := sync.OnceFunc(func() {
		if _, err := world.Exec(later(t), s.Name, "nft", "delete", "table", "inet", "hole"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(fill)
	goesBy(t, s, "hq-2")
	flowing(t, streams)
	fill()
	goesBy(t, s, "hq-1")
	flowing(t, streams)
	intact(t, streams)
}

// sitesFlapping has a site's speaker come and go. Its neighbours' traffic goes on, and
// in the end it is reached again.
func sitesFlapping(t *testing.T) {
	s := siteOf(t, "fbr")
	streams := both(t, "hq")
	flowing(t, streams)
	for range 4 {
		if err := world.StopSpeaker(t.Context(), s.Name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := world.StartSpeaker(ctx, s.Name, lab.SpeakerOptions{})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	flowing(t, streams)
	reachesSite(t, s)
	intact(t, streams)
	settled(t, "gw")
}

// sitesKilled kills gatewayd, and then the agent of one tenant: tunnels and sessions go
// on without the one, and come back after the other, while connections stay.
func sitesKilled(t *testing.T) {
	streams := both(t, "hq")
	flowing(t, streams)
	before := map[string]int{}
	for _, tenant := range []string{"contoso", "fabrikam"} {
		pids := agentsOf(t, tenant)
		if len(pids) != 1 {
			t.Fatalf("agents of %s: %v", tenant, pids)
		}
		before[tenant] = pids[0]
	}
	restart(t, "gw", syscall.SIGKILL, pathOf(t, "gw"))
	flowing(t, streams)
	for tenant, pid := range before {
		if now := agentsOf(t, tenant); len(now) != 1 || now[0] != pid {
			t.Errorf("agents of %s: %v, and before %d", tenant, now, pid)
		}
	}
	if err := syscall.Kill(before["contoso"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if now := agentsOf(t, "contoso"); len(now) == 1 && now[0] != before["contoso"] {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("agents of contoso: %v", now)
		}
	}
	flowing(t, streams)
	settled(t, "gw")
	if now := agentsOf(t, "fabrikam"); len(now) != 1 || now[0] != before["fabrikam"] {
		t.Errorf("agents of fabrikam: %v, and before %d", now, before["fabrikam"])
	}
	intact(t, streams)
	for _, s := range world.Topology().Sites {
		reachesSite(t, s)
	}
}

// sitesCovered has a site's router advertise a default route, and the network that the
// site's own end of the tunnel is in: what goes through the tunnel goes on doing so, and
// the tunnel's packets do not go into it.
func sitesCovered(t *testing.T) {
	s := siteOf(t, "chq")
	cover, err := s.Endpoint(0).Addr().Prefix(24)
	if err != nil {
		t.Fatal(err)
	}
	speak := func(networks ...netip.Prefix) {
		t.Helper()
		ctx, cancel := context.WithTimeout(later(t), patience)
		defer cancel()
		if err := world.StartSpeaker(ctx, s.Name, lab.SpeakerOptions{Networks: networks}); err != nil {
			t.Fatal(err)
		}
	}
	restored := false
	t.Cleanup(func() {
		if !restored {
			speak()
		}
	})
	speak(cover, netip.MustParsePrefix("0.0.0.0/0"))
	c := api(t)
	refused := func() bool {
		list, err := c.BGPRoutes(t.Context(), s.Tenant, v1.BGPRouteQuery{Table: v1.BGPReceived, Peer: s.Connection(0), Within: cover.String()})
		return err == nil && len(list.Items) > 0 && list.Items[0].Prefix == cover.String() && list.Items[0].Rejected
	}
	for end := time.Now().Add(patience); !refused(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is not received and rejected", cover)
		}
	}
	for i := range s.Tunnels {
		out, err := world.Exec(t.Context(), world.Compartment(s.Tenant), "ip", "route", "get", s.Endpoint(i).Addr().String())
		if err != nil || !strings.Contains(out, "dev ext") {
			t.Errorf("the way to the end of tunnel %d: %v %s", i, err, out)
		}
	}
	reachesSite(t, s)
	for i := range s.Tunnels {
		st, err := c.S2SStatus(t.Context(), s.Tenant, s.Connection(i))
		if err != nil || len(st.Peers) != 1 || st.Peers[0].Liveness != v1.LivenessUp {
			t.Errorf("tunnel %d: %v %s", i, err, text(st))
		}
	}
	speak()
	restored = true
	settled(t, "gw")
	reachesSite(t, s)
}
