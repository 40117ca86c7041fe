//go:build privileged && linux

package compartments

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// What the compartment sends into the overlay reaches the dataplane as it was sent,
// super-packets in one piece, addressed to the distributed router; and nothing that
// nobody sent.
func TestSuperPacketsReachTheOverlay(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := specOf(t, "contoso", 5000, "203.0.113.10")
	r := apply(t, e, s)
	ear := m.listen(m.id+".gw", r.Port)
	in := m.id + "-contoso"
	m.ip(in, "link set wnv5000 down")
	m.ip(in, "link set wnv5000 up")
	apply(t, e, s)

	payload := strings.Repeat("super-packet", 400) // four segments
	must(t, netns.Do(netns.Path(in), func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1200),
			unix.Sendto(fd, []byte(payload), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 1, 1, 11}}))
	}))
	ear.marks(nil)
	if len(ear.frames) != 1 {
		t.Fatalf("%d frames arrived, not one", len(ear.frames))
	}
	p := gopacket.NewPacket(ear.frames[0], layers.LayerTypeEthernet, gopacket.Default)
	eth, _ := p.LinkLayer().(*layers.Ethernet)
	if router := hnv.RouterMAC.Bytes(); string(eth.DstMAC) != string(router[:]) {
		t.Errorf("it is for %s", eth.DstMAC)
	}
	if u, ok := p.TransportLayer().(*layers.UDP); !ok || string(u.Payload) != payload {
		t.Errorf("not what was sent: %s", p)
	}
}

// A gateway of before switched offloads off, and the next one takes its compartment
// over: the link becomes what a new one is, in all features.
func TestOffloadsComeBack(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := specOf(t, "contoso", 5000, "203.0.113.10")
	apply(t, e, s)
	in := m.id + "-contoso"
	fresh := m.run(in, "ethtool -k wnv5000")

	h, err := nl.Open(netns.Path(in))
	must(t, err)
	defer h.Close()
	must(t, h.SetLinkOffloads("wnv5000", nl.Offloads{}))
	if m.run(in, "ethtool -k wnv5000") == fresh {
		t.Fatal("nothing was switched off")
	}
	e = m.engine()
	if r := apply(t, e, s); !slices.Contains(r.Repaired, "link wnv5000: transmit offloads switched on") {
		t.Errorf("repaired %q", r.Repaired)
	}
	settled(t, e, s)
	if now := m.run(in, "ethtool -k wnv5000"); now != fresh {
		t.Errorf("features are now\n%s\nand were\n%s", now, fresh)
	}
}

// A tenant with IPv6 can find its neighbours: the link has a link-local address.
func TestIPv6Inside(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := bothFamilies(t)
	r := apply(t, e, s)
	ear := m.listen(m.id+".gw", r.Port)
	_, _ = m.try(m.id+"-contoso", "ping -c1 -W1 fd00:1::5")
	ear.marks(nil)
	var solicited bool
	for _, f := range ear.frames {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		ns, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
		solicited = solicited || ok && ns.TargetAddress.String() == "fd00:1::5"
	}
	if !solicited {
		t.Error("the neighbour was not asked for")
	}
}

// Two gateways in one namespace, with the same tenant's name and VSID. Each has
// an uplink of its own.
func TestTwoInstances(t *testing.T) {
	m := newMachine(t)
	one := m.engine()
	two, err := New(Config{Instance: m.id + "-b", Namespace: one.cfg.Namespace, Uplinks: []Uplink{{"lan", Routed, "mg0"}}})
	must(t, err)
	t.Cleanup(func() { must(t, two.Close()) })
	a, b := specOf(t, "contoso", 5000, "203.0.113.10"), specOf(t, "contoso", 5000, "172.16.0.11")
	b.Uplink = "lan"
	apply(t, one, a)
	apply(t, two, b)
	settled(t, one, a)
	settled(t, two, b)
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)
	m.run(m.id+"-b-contoso", "ping -c1 -W30 172.16.0.2")
	if removed, err := one.Prune(t.Context(), []hnv.Name{a.Name}); err != nil || len(removed) > 0 {
		t.Errorf("one removed %q, %v", removed, err)
	}
	_, err = one.Prune(t.Context(), nil)
	must(t, err)
	if netns.Exists(m.id + "-contoso") {
		t.Error("its own is still there")
	}
	settled(t, two, b)
	m.run(m.mgmt, "ping -c1 -W30 172.16.0.11")
}

// Compartments are made side by side.
func TestParallel(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	var wg sync.WaitGroup
	for i := range 20 {
		s := numbered(t, i)
		wg.Go(func() {
			for range 3 {
				if _, err := e.Apply(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
			if i%2 == 0 {
				if err := e.Delete(t.Context(), s.Name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	states, err := e.Snapshot(t.Context())
	must(t, err)
	if len(states) != 10 {
		t.Errorf("%d compartments, not 10", len(states))
	}
	for i := 1; i < 20; i += 2 {
		settled(t, e, numbered(t, i))
	}
}

// Whoever asks before there is anything is told that there is nothing.
func TestNothingYet(t *testing.T) {
	m := newMachine(t)
	before := m.state()
	e := m.engine()
	states, err := e.Snapshot(t.Context())
	if err != nil || len(states) > 0 {
		t.Errorf("%v, %v", states, err)
	}
	for reason, n := range drops(t, e) {
		if n != 0 {
			t.Errorf("%d packets dropped as %s", n, reason)
		}
	}
	m.unchanged(t, before, "nobody has applied anything")
}

func TestFeatures(t *testing.T) {
	for _, f := range newMachine(t).engine().Features() {
		if f.OK != (f.Note == "") {
			t.Errorf("%+v", f)
		}
		t.Logf("%+v", f)
	}
}

// Without privileges New says so and what to do. The test runs itself as
// another user.
func TestWithoutPrivileges(t *testing.T) {
	if os.Getenv(unprivileged) != "" {
		_, err := New(Config{Instance: "x"})
		if err == nil {
			t.Fatal("started")
		}
		t.Log(err)
		return
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestWithoutPrivileges$", "-test.v")
	c.Env = append(os.Environ(), unprivileged+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "needs root, or the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN (the process has user ID 65534)") {
		t.Errorf("%v\n%s", err, out)
	}
}
