//go:build privileged && linux

package nat

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// Addresses beside those of lab: a physical network with a host, and two sites
// behind links that stand for tunnels.
const (
	dcOwn, dcHost          = "192.168.50.2", "192.168.50.9"
	hqOwn, hqPeer          = "169.254.10.1", "169.254.10.2"
	hqHost, branchHost     = "10.50.1.9", "10.60.1.9"
	dcHost6, hqHost6       = "fd50::9", "fd51::9"
	vm16                   = "fd00:1::11"
	listenPort         int = 51820
)

// wayLab is a lab with ways that are not translated.
type wayLab struct {
	*lab
	dc, hq, branch string
}

func newWayLab(t *testing.T, pool ...string) *wayLab {
	t.Helper()
	l := &wayLab{newLab(t, pool...), nstest.New(t, "dc"), nstest.New(t, "hq"), nstest.New(t, "branch")}
	script := fmt.Sprintf(`
set -e
for n in %[2]s %[3]s %[4]s; do ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv4.tcp_syn_retries=1; ip -n $n link set lo up; done
ip -n %[1]s link add fw-dc type veth peer name dc0 netns %[2]s
ip -n %[1]s link add wg-hq type veth peer name wg0 netns %[3]s
ip -n %[1]s link add wg-branch type veth peer name wg0 netns %[4]s
ip -n %[1]s addr add 192.168.50.2/24 dev fw-dc
ip -n %[1]s addr add fd50::2/64 dev fw-dc nodad
ip -n %[1]s addr add 169.254.10.1/30 dev wg-hq
ip -n %[1]s addr add fd10::1/64 dev wg-hq nodad
ip -n %[1]s addr add 169.254.11.1/30 dev wg-branch
for d in fw-dc wg-hq wg-branch; do ip -n %[1]s link set $d up; ip netns exec %[1]s sysctl -qw net.ipv4.conf.$d.send_redirects=0; done
ip -n %[2]s addr add 192.168.50.9/24 dev dc0
ip -n %[2]s addr add fd50::9/64 dev dc0 nodad
ip -n %[2]s link set dc0 up
ip -n %[2]s route add default via 192.168.50.2
ip -n %[2]s route add default via fd50::2
ip -n %[3]s addr add 169.254.10.2/30 dev wg0
ip -n %[3]s addr add fd10::2/64 dev wg0 nodad
ip -n %[3]s addr add 10.50.1.9/32 dev lo
ip -n %[3]s addr add fd51::9/128 dev lo nodad
ip -n %[3]s link set wg0 up
ip -n %[3]s route add default via 169.254.10.1
ip -n %[3]s route add default via fd10::1
ip -n %[4]s addr add 169.254.11.2/30 dev wg0
ip -n %[4]s addr add 10.60.1.9/32 dev lo
ip -n %[4]s link set wg0 up
ip -n %[4]s route add default via 169.254.11.1
ip -n %[1]s route add 10.50.0.0/16 via 169.254.10.2
ip -n %[1]s route add fd51::/64 via fd10::2
ip -n %[1]s route add 10.60.0.0/16 via 169.254.11.2
`, l.comp, l.dc, l.hq, l.branch)
	run(t, "sh", "-c", script)
	at := netip.MustParseAddr(ext1)
	if len(l.spec.Pool) == 0 || !l.spec.Pool[0].Whole() {
		at = netip.MustParseAddr(dcOwn)
	}
	l.spec.Forward = []Link{{Name: "fw-dc", Addresses: addrs(dcOwn, "fd50::2")}}
	l.spec.Tunnels = []Tunnel{
		{Link: "wg-hq", Addresses: prefixes(hqOwn+"/30", "fd10::1/64"), ListenPort: uint16(listenPort), At: at},
		{Link: "wg-branch", Addresses: prefixes("169.254.11.1/30"), ListenPort: uint16(listenPort) + 1, At: at},
	}
	l.apply()
	return l
}

func addrs(ss ...string) (as []netip.Addr) {
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func (l *wayLab) route(args ...string) {
	l.t.Helper()
	run(l.t, append([]string{"ip", "-n", l.comp, "route"}, args...)...)
}

// wantSeen asks over a new connection, and wants the server to see the address.
func (l *wayLab) wantSeen(ns, network, from, to, seen string) {
	l.t.Helper()
	c, err := dialFor(l.t, patience, ns, network, from, to)
	if err != nil {
		l.t.Errorf("%s from %s to %s: %v", network, from, to, err)
		return
	}
	got, err := askFor(c, patience)
	if err != nil {
		l.t.Errorf("%s from %s to %s: %v", network, from, to, err)
		return
	}
	if a := netip.MustParseAddrPort(got).Addr().String(); a != seen {
		l.t.Errorf("%s from %s to %s was seen as %s, want %s", network, from, to, a, seen)
	}
}

// wantSilence fails if an answer comes.
func (l *wayLab) wantSilence(ns, network, from, to string) {
	l.t.Helper()
	c, err := dial(l.t, ns, network, from, to)
	if err != nil {
		return
	}
	if got, err := ask(c); err == nil {
		l.t.Errorf("%s from %s to %s was answered: seen as %s", network, from, to, got)
	}
}

func (l *wayLab) bgp() Service {
	return Service{Proto: hnv.TCP, Port: 179, Peers: prefixes(hqPeer + "/32"), At: addrs(hqOwn), Links: []string{"wg-hq"}}
}
