//go:build privileged && linux

package speaker

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// A neighbour with BFD that was restarted, by force or not, comes back and stays,
// and BFD watches it again.
func TestBFDOverRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		run  func(site *node) (restart func(syscall.Signal))
	}{
		{"bird", birdWithBFD}, {"frr", frrWithBFD},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gw, site := newNode(t, "gw"), newNode(t, "site")
			wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
			restart := c.run(site)
			s := gw.speaker()
			p := bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65002, BFD: &bgp.BFD{Interval: 500 * time.Millisecond}, Hold: 3 * patience, Keepalive: patience, ConnectRetry: time.Second}
			s.apply(bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{p}})
			stays := func(long time.Duration) {
				t.Helper()
				var st bgp.PeerState
				up := func() (bool, string) {
					st = s.peer("hq")
					return st.BFD == "up" && st.Session == "established", say(st)
				}
				wait(t, "BFD", up)
				gw.routes("-4", "172.16.0.0/24", true)
				first := st
				for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
					if still, saw := up(); !still || st.Flaps != first.Flaps || st.Since != first.Since {
						t.Fatalf("the session did not stay; it was %s\nand is %s", say(first), saw)
					}
				}
			}
			stays(0)
			for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
				restart(how)
				stays(10 * time.Second)
			}
			// The hold time would be longer than the test's patience.
			site.run("nft", "add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }; add chain inet t out { type filter hook output priority 0; policy drop; }")
			gw.routes("-4", "172.16.0.0/24", false)
			site.run("nft", "delete table inet t")
			stays(3 * time.Second)
		})
	}
}

func birdWithBFD(site *node) func(syscall.Signal) {
	b := site.bird("protocol static { ipv4; route 172.16.0.0/24 blackhole; }\nprotocol bfd { interface \"eth0\" { interval 500 ms; multiplier 3; }; }\n" +
		birdPeer("hub", "10.0.0.2", "10.0.0.1", plain+"hold time 60; keepalive time 20; bfd on;"))
	return func(how syscall.Signal) {
		site.t.Helper()
		signal(site, b.cmd, how)
		_ = os.Remove(filepath.Join(b.dir, "bird.ctl"))
		b.again()
	}
}

func frrWithBFD(site *node) func(syscall.Signal) {
	config := `
router bgp 65002
 bgp router-id 10.0.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 20 60
 neighbor 10.0.0.1 remote-as 65000
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 bfd 3 500 500
 address-family ipv4 unicast
  network 172.16.0.0/24
`
	f := site.frrZebra()
	var bfdd, bgpd *exec.Cmd
	start := func() {
		bfdd = f.daemon("bfdd", "", "--bfdctl", filepath.Join(f.dir, "bfdd.sock"))
		bgpd = f.daemon("bgpd", config)
	}
	start()
	return func(how syscall.Signal) {
		site.t.Helper()
		signal(site, bgpd, how)
		signal(site, bfdd, how)
		for _, name := range []string{"bfdd.vty", "bgpd.vty", "bfdd.pid", "bgpd.pid", "bfdd.sock"} {
			_ = os.Remove(filepath.Join(f.dir, name))
		}
		start()
	}
}

// signal ends a process of the node by the signal.
func signal(n *node, cmd *exec.Cmd, how syscall.Signal) {
	n.t.Helper()
	if err := cmd.Process.Signal(how); err != nil {
		n.t.Fatal(err)
	}
	_ = cmd.Wait()
}
