//go:build privileged && linux

package speaker

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// manyRoutes is how many a router next door has; more may be asked for, to measure.
func manyRoutes(t *testing.T) int {
	t.Helper()
	if v := os.Getenv("HNVGATE_TEST_ROUTES"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 10_000
}

func blackholes(n int) string {
	var b strings.Builder
	b.WriteString("protocol static many { ipv4;\n")
	for i := range n {
		fmt.Fprintf(&b, "route %s/28 blackhole;\n", netip.AddrFrom4([4]byte{byte(20 + i>>20), byte(i >> 12), byte(i >> 4), byte(i << 4)}))
	}
	b.WriteString("}\n")
	return b.String()
}

// A table full of routes arrives, and goes again with its session; the other
// neighbour, and one that sends more than it may, have no part in it.
func TestManyRoutes(t *testing.T) {
	n := manyRoutes(t)
	gw := newNode(t, "gw")
	config := blackholes(n)
	var peers []bgp.Peer
	var sites []*bird
	for i, name := range []string{"full", "flood", "small"} {
		own, other := fmt.Sprintf("10.0.%d.1", i), fmt.Sprintf("10.0.%d.2", i)
		node := newNode(t, name)
		wire(t, gw, fmt.Sprintf("wan%d %s/30", i, own), node, "eth0 "+other+"/30")
		c := config
		if name == "small" {
			c = "protocol static { ipv4; route 172.16.0.0/24 blackhole; }\n"
		}
		sites = append(sites, node.bird(c+birdPeer("hub", other, own, "ipv4 { import all; export where source = RTS_STATIC; };")))
		p := quick(bgp.Peer{Name: name, Address: addr(other), ASN: 65002, MaxPrefixes: map[bgp.Family]uint32{bgp.IPv4: uint32(2 * n)}})
		if name == "flood" {
			p.MaxPrefixes[bgp.IPv4], p.ReEnable = 2000, time.Hour
		}
		peers = append(peers, p)
	}
	s := gw.speaker()
	spec := bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: peers[1:]}
	s.apply(spec)
	s.established("small")
	gw.routes("-4", "172.16.0.0/24", true)
	wait(t, "end of the flood", func() (bool, string) {
		st := s.state()
		var flood bgp.PeerState
		for _, p := range st.Peers {
			if p.Name == "flood" {
				flood = p
			}
		}
		return flood.OverLimit && flood.Session != "established" && st.FIB.Installed == 1, say(st)
	})
	up := s.peer("small").Since

	spec.Peers = peers
	start := time.Now()
	s.apply(spec)
	installed := func(want int) {
		t.Helper()
		wait(t, fmt.Sprint(want, " routes"), func() (bool, string) {
			time.Sleep(200 * time.Millisecond) // asking costs the speaker time, too
			st := s.state().FIB
			return st.Installed == want, say(st)
		})
	}
	installed(n + 1)
	t.Logf("%d routes in the kernel %s after the peer was configured; memory %s", n, time.Since(start).Round(time.Millisecond), memory(t, s.cmd.Process.Pid))
	if got := strings.Count(gw.ip("-4 route show proto 203"), "\n"); got != n+1 {
		t.Errorf("the kernel has %d routes, want %d", got, n+1)
	}
	start = time.Now()
	if out, err := sites[0].client("disable", "hub"); err != nil {
		t.Fatal(out)
	}
	installed(1)
	t.Logf("gone after %s", time.Since(start).Round(time.Millisecond))
	if st := s.peer("small"); st.Session != "established" || st.Since != up {
		t.Errorf("the other neighbour: %s", say(st))
	}
}

// memory is what the kernel says of a process.
func memory(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
