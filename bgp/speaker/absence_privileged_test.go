//go:build privileged && linux

package speaker

import (
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// TestSecuredByFRR has FRR ask for the key and the TTL (RFC 2385, RFC 5082): it takes
// a session with both, and none that lacks one.
func TestSecuredByFRR(t *testing.T) {
	t.Parallel()
	gw, site := newNode(t, "gw"), newNode(t, "site")
	wire(t, gw, "wan 10.0.0.1/30", site, "eth0 10.0.0.2/30")
	f := site.frr(frrBase + " neighbor 10.0.0.1 password k3y\n neighbor 10.0.0.1 ttl-security hops 1\n address-family ipv4 unicast\n  network 172.16.1.0/24\n")
	s := gw.speaker()
	apply := func(password bgp.Secret, ttl uint8) {
		t.Helper()
		p := quick(bgp.Peer{Name: "hq", Address: addr("10.0.0.2"), ASN: 65001, Password: password, TTLSecurity: ttl})
		s.apply(bgp.Spec{ASN: 65000, RouterID: addr("10.0.0.1"), Peers: []bgp.Peer{p}})
	}
	right := func() {
		t.Helper()
		apply("k3y", 1)
		s.established("hq")
		gw.routes("-4", "172.16.1.0/24", true)
	}
	right()
	for _, wrong := range []struct {
		key bgp.Secret
		ttl uint8
	}{{"other", 1}, {"k3y", 0}} {
		apply(wrong.key, wrong.ttl)
		gw.routes("-4", "172.16.1.0/24", false)
		// Both sides try again every second.
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if out := f.show("show bgp neighbors 10.0.0.1"); strings.Contains(out, "BGP state = Established") {
				t.Fatalf("a session with key %q and TTL security %d: %s", wrong.key, wrong.ttl, out)
			}
		}
	}
	right()
}

// TestOwnLongAbsence has BIRD keep our routes beyond the time of a restart, as the last
// choice (RFC 9494), while the kernel keeps its own, until we are there again.
func TestOwnLongAbsence(t *testing.T) {
	t.Parallel()
	gw, s, b, spec := pair(t, "graceful restart on; long lived graceful restart on;")
	spec.Peers[0].GracefulRestart = &bgp.GracefulRestart{Time: time.Second, LongLived: 10 * time.Minute}
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)
	b.sees("show route all 10.1.1.0/24", "via 10.0.0.1 on eth0")
	kill(t, s)
	b.sees("show route all 10.1.1.0/24", "via 10.0.0.1 on eth0", "(65535,6)")
	if out := gw.ip("route show 172.16.0.0/24 proto 203"); out == "" {
		t.Error("the FIB was not kept")
	}
	s = gw.speaker()
	s.apply(spec)
	s.established("hq")
	wait(t, "fresh route", func() (bool, string) {
		out, _ := b.client("show", "route", "all", "10.1.1.0/24")
		return strings.Contains(out, "via 10.0.0.1 on eth0") && !strings.Contains(out, "(65535,6)"), out
	})
	wait(t, "end of the restart", func() (bool, string) {
		st := s.state()
		return !st.Restarting && st.FIB.Stale == 0 && st.FIB.Installed == 1, say(st)
	})
	gw.routes("-4", "172.16.0.0/24", true)
}
