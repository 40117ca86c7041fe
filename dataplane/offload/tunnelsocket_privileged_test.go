//go:build privileged && linux

package offload

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// A VXLAN device of the machine's own lives beside ours on one port, and what is
// of our device's VNI reaches nothing.
func TestTunnelSockets(t *testing.T) {
	s := newSite(t, examples[1], false)
	for _, m := range []*machine{s.gw, s.host} {
		if st, err := m.f.Status(); err != nil || st.Unmerged != "" {
			t.Fatalf("%s: %v, %s", m.name, err, st.Unmerged)
		}
	}
	for m, other := range map[*machine]*machine{s.gw: s.host, s.host: s.gw} {
		run(t, m.ns, "ip link add vx9 type vxlan id 9 local %s remote %s dstport 4789", m.own, other.own)
		run(t, m.ns, "ip addr add 172.16.9.%d/24 dev vx9", m.own.As4()[3])
		run(t, m.ns, "ip link set vx9 up")
	}
	run(t, s.host.ns, "ping -c 3 -i 0.1 -w 10 172.16.9.%d", s.gw.own.As4()[3])
	s.pings()

	// Ours has a filter, or the gateway would answer this.
	run(t, s.host.ns, "ip link del vx9")
	must(t, removeSocketsOf(s.host))
	run(t, s.host.ns, "ip link add vxff type vxlan id %d local %s remote %s dstport 4789", socketVNI, s.host.own, s.gw.own)
	run(t, s.host.ns, "ip addr add 172.16.7.2/24 dev vxff")
	run(t, s.host.ns, "ip link set vxff up")
	run(t, s.host.ns, "ip neigh add 172.16.7.1 dev vxff lladdr ff:ff:ff:ff:ff:ff nud permanent")
	run(t, s.gw.ns, "ip addr add 172.16.7.1/32 dev lo")
	before := heardEchoes(t, s.gw.ns)
	out, err := exec.Command("nsenter", "--net="+netns.Path(s.host.ns), "--", "ping", "-c", "5", "-i", "0.01", "-W", "1", "172.16.7.1").CombinedOutput()
	if err == nil {
		t.Errorf("the gateway answered: %s", out)
	}
	if n := heardEchoes(t, s.gw.ns) - before; n != 0 {
		t.Errorf("%d packets reached the gateway's own stack", n)
	}
}

func removeSocketsOf(m *machine) error {
	_, err := removeSockets(m.h, m.name)
	return err
}

func heardEchoes(t *testing.T, ns string) int { return snmp(t, ns, "Icmp:", "InEchos") }

// Where the port is another's, the fast path runs without, and says so.
func TestTunnelSocketTaken(t *testing.T) {
	m := newMachine(t, "gw", netip.MustParseAddr("192.168.1.1"))
	must(t, m.h.AddVXLAN(nl.LinkEnd{Name: "vxall"}, nl.VXLAN{External: true}))
	run(t, m.ns, "ip link set vxall up")
	f, err := Open(dataplane.New(dataplane.Options{}), Options{Instance: m.name, Namespace: netns.Path(m.ns)})
	must(t, err)
	defer f.Close()
	st, err := f.Status()
	must(t, err)
	if !strings.Contains(st.Unmerged, "4789") {
		t.Errorf("said to be unmerged: %q", st.Unmerged)
	}
	links, err := m.h.Links()
	must(t, err)
	if slices.ContainsFunc(links, func(l nl.Link) bool { return l.Alias == socketAlias(m.name) }) {
		t.Errorf("devices are left: %+v", links)
	}
}
