//go:build privileged && linux

package speaker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// kill ends a process without a word.
func kill(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// Our restart, by kill -9 and by a close that says so, stops no traffic: the FIB
// stays, and so do our routes at a neighbour that helps. What is gone meanwhile is
// taken out once all is told anew.
func TestOwnRestart(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	gw.ip("addr add 10.1.1.1/24 dev lo")
	site.ip("addr add 172.16.1.1/24 dev lo")
	f := site.frr(frrBase + ` bgp graceful-restart
 address-family ipv4 unicast
  network 172.16.1.0/24
  network 172.16.2.0/24
`)
	peer := quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65001, GracefulRestart: &bgp.GracefulRestart{Time: 30 * time.Second}})
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{peer}, Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}}}
	s := gw.speaker()
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.1.0/24", true)
	gw.routes("-4", "172.16.2.0/24", true)
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "10.0.0.1 from 10.0.0.1")

	forwards := func() {
		t.Helper()
		gw.run("ping", "-c1", "-W20", "-I", "10.1.1.1", "172.16.1.1")
	}
	kill(t, s)
	forwards()
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "(stale)")
	f.show("configure terminal", "router bgp 65001", "address-family ipv4 unicast", "no network 172.16.2.0/24")
	if out := gw.ip("route show 172.16.2.0/24"); out == "" {
		t.Error("the FIB was not kept")
	}
	s = gw.speaker()
	if st := s.state().FIB; st.Stale != 2 || st.Installed != 0 {
		t.Errorf("after the restart: %s", say(st))
	}
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.2.0/24", false)
	forwards()
	wait(t, "end of the restart", func() (bool, string) {
		st := s.state()
		return !st.Restarting && st.FIB.Stale == 0 && st.FIB.Installed == 1, say(st)
	})
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "10.0.0.1 from 10.0.0.1")

	s.stop(true)
	forwards()
	f.sees("show bgp ipv4 unicast 10.1.1.0/24", "(stale)")
	s = gw.speaker()
	s.apply(spec)
	s.established("hq")
	wait(t, "end of the second restart", func() (bool, string) {
		st := s.state()
		return !st.Restarting && st.FIB == (bgp.FIBState{Installed: 1}), say(st)
	})
	forwards()

	// A neighbour that is gone for good: what it told goes when the time is over, and
	// at once where nobody is to be waited for.
	kill(t, s)
	spec.Peers = []bgp.Peer{quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.3"), ASN: 65001, GracefulRestart: &bgp.GracefulRestart{Time: 8 * time.Second}})}
	s = gw.speaker()
	s.apply(spec)
	if st := s.state(); !st.Restarting || st.FIB.Stale != 1 {
		t.Errorf("at the third start: %s", say(st))
	}
	gw.routes("-4", "172.16.1.0/24", false)
}

// A speaker that another takes the place of says nothing: a neighbour that is told that
// it is no peer any more keeps away for a minute, as BIRD does unless told otherwise,
// and takes the routes out also where it would keep them over a restart.
func TestReplacedWithoutAWord(t *testing.T) {
	t.Parallel()
	const config = `protocol static { ipv4; route 172.16.0.0/24 blackhole; }
protocol bfd { interface "*" { interval 500 ms; }; }
protocol bgp hub {
  local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65000;
  connect retry time 1; connect delay time 1; %s
  ipv4 { import all; export where source = RTS_STATIC; };
}`
	for name, c := range map[string]struct {
		theirs string
		ours   bgp.Peer
		keeps  bool
	}{
		"plain":            {},
		"graceful":         {"graceful restart on; graceful restart time 60;", bgp.Peer{GracefulRestart: &bgp.GracefulRestart{}}, true},
		"graceful and BFD": {"bfd on; graceful restart on; graceful restart time 60;", bgp.Peer{GracefulRestart: &bgp.GracefulRestart{}, BFD: &bgp.BFD{Interval: 500 * time.Millisecond}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gw, site := newNode(t, "gw"), newNode(t, "site")
			wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
			b := site.bird(fmt.Sprintf(config, c.theirs))
			p := c.ours
			p.Name, p.Address, p.ASN = "hq", addr("10.0.0.2"), 65002
			spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{quick(p)}, Networks: []bgp.Network{{Prefix: prefix("10.1.1.0/24")}}}
			s := gw.speaker()
			s.apply(spec)
			s.established("hq")
			b.sees("show route 10.1.1.0/24", "via 10.0.0.1")
			gw.routes("-4", "172.16.0.0/24", true)
			s.stop(true)
			if out := gw.ip("route show 172.16.0.0/24 proto 203"); out == "" {
				t.Error("the FIB was not kept")
			}
			wait(t, "end of the session", func() (bool, string) {
				out, err := b.client("show", "protocols", "all", "hub")
				return err == nil && !strings.Contains(out, "Established"), out
			})
			if out, _ := b.client("show", "protocols", "all", "hub"); strings.Contains(out, "Received:") || strings.Contains(out, "Error wait") {
				t.Errorf("BIRD was told something: %s", out)
			}
			if c.keeps {
				b.sees("show route 10.1.1.0/24", "via 10.0.0.1")
			}
			s = gw.speaker()
			s.apply(spec)
			s.established("hq")
			b.sees("show route 10.1.1.0/24", "via 10.0.0.1")
		})
	}
}

// A neighbour's restart stops no traffic either. When it does not come back its
// routes stay as the last choice, and then go.
func TestNeighboursRestart(t *testing.T) {
	t.Parallel()
	gw, s, b, spec := pair(t, "graceful restart on; graceful restart time 2; long lived graceful restart on; long lived stale time 8;")
	spec.Peers[0].GracefulRestart = &bgp.GracefulRestart{Time: 30 * time.Second, LongLived: time.Minute}
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.cmd.Wait()
	stale := func() {
		t.Helper()
		wait(t, "stale path", func() (bool, string) {
			paths := s.do(ask{Op: "routes", Filter: Filter{Within: prefix("172.16.0.0/24")}}).Paths
			return len(paths) == 1 && paths[0].Stale, say(paths)
		})
		gw.routes("-4", "172.16.0.0/24", true)
	}
	stale()
	b.again()
	s.established("hq")
	wait(t, "fresh path", func() (bool, string) {
		paths := s.do(ask{Op: "routes", Filter: Filter{Within: prefix("172.16.0.0/24")}}).Paths
		return len(paths) == 1 && !paths[0].Stale, say(paths)
	})
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.cmd.Wait()
	wait(t, "long-lived stale path", func() (bool, string) {
		paths := s.do(ask{Op: "routes", Filter: Filter{Within: prefix("172.16.0.0/24")}}).Paths
		return len(paths) == 1 && len(paths[0].Communities) == 1 && paths[0].Communities[0] == bgp.LLGRStale, say(paths)
	})
	gw.routes("-4", "172.16.0.0/24", true)
	gw.routes("-4", "172.16.0.0/24", false)
}
