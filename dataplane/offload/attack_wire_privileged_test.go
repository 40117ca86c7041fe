//go:build privileged && linux

package offload

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// target is a gateway's machine whose fabric is an attacker's, and who listens at
// each of its ports, and at the attacker's own interface:
//
//	attacker          gw               a namespace for each port
//	[att0]-----------[pa0   w<n>]------[eth0]
//	                 PAs of both families
type target struct {
	*machine
	attacker string
	ears     map[string]*ear // by the ports' names
	back     *ear
}

func newTarget(t *testing.T, path string) *target {
	t.Helper()
	g := &target{machine: newMachine(t, "gw", ourPAs[0]), attacker: nstest.New(t, "att"), ears: map[string]*ear{}}
	run(t, g.ns, "ip link add pa0 type veth peer name att0 netns %s", g.attacker)
	run(t, g.attacker, "ip link set att0 up")
	for _, ns := range []string{g.ns, g.attacker} {
		run(t, ns, "ip link set lo up")
	}
	run(t, g.ns, "ip addr add %s/24 dev pa0", ourPAs[0])
	run(t, g.ns, "ip addr add %s/64 dev pa0 nodad", ourPAs[1])
	run(t, g.ns, "ip link set pa0 up")
	var err error
	g.pa, err = g.h.Link("pa0")
	must(t, err)
	g.sw = dataplane.New(dataplane.Options{})
	if path == "ebpf" {
		g.f, err = Open(g.sw, Options{Instance: g.name, Namespace: netns.Path(g.ns)})
		must(t, err)
		t.Cleanup(func() { must(t, g.f.Close()) })
		g.sw.Follow(g.f)
		must(t, g.f.SetFabric(Fabric{Tunnel: []PA{{ourPAs[0], g.pa.Index}, {ourPAs[1], g.pa.Index}}}))
	}
	g.sw.SetProvider(dataplane.Provider{Addrs: ourPAs, MTU: 1500})
	n := 0
	for _, e := range attackTenants {
		must(t, g.sw.Apply(e.tenant(t)))
		for _, v := range e.vms(t) {
			if v.host == 0 {
				n++
				g.listenAt(e, v, fmt.Sprintf("w%d", n))
			}
		}
	}
	if path == "ebpf" {
		must(t, g.f.AttachFabric(g.pa.Index))
		g.serve()
	} else {
		g.read()
	}
	g.back = listen(t, g.attacker, "att0")
	return g
}

// listenAt makes the port of a station, and listens behind it.
func (g *target) listenAt(e example, v vm, link string) {
	g.t.Helper()
	ns := nstest.New(g.t, link)
	run(g.t, ns, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1") // it says nothing of its own
	run(g.t, g.ns, "ip link add %s type veth peer name eth0 netns %s address %s", link, ns, v.mac)
	run(g.t, g.ns, "ip link set %s up", link)
	run(g.t, ns, "ip link set eth0 up")
	g.ears[e.portName(v)] = listen(g.t, ns, "eth0")
	if g.f != nil {
		g.plug(v, link, mtuHere)
		return
	}
	l, err := port.OpenLink(link, port.LinkOptions{Do: g.do})
	must(g.t, err)
	g.t.Cleanup(func() { l.Close() })
	_, err = g.sw.AddPort(dataplane.PortSpec{Name: link, VSID: vsidOf(g.t, v.vsid), MAC: v.mac, Kind: v.kind, MTU: mtuHere}, l)
	must(g.t, err)
}

// read has the Switch read the fabric itself.
func (g *target) read() {
	g.t.Helper()
	// As gatewayd has it: the machine's own stack answers nobody.
	run(g.t, g.ns, "nft add table netdev guard")
	run(g.t, g.ns, "nft add chain netdev guard in { type filter hook ingress device pa0 priority 0 ; policy drop ; }")
	p, err := port.OpenProvider(port.ProviderOptions{Do: g.do, Addresses: port.On(ourPAs...)})
	must(g.t, err)
	r, err := p.AddInterface("pa0")
	must(g.t, err)
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.sw.ServeProvider(g.t.Context(), r, p) })
	g.t.Cleanup(func() {
		p.Close()
		wg.Wait()
	})
}

// send sends the frames from the attacker's interface, not so fast that queues would
// lose any.
func (g *target) send(frames [][]byte) {
	g.t.Helper()
	must(g.t, netns.Do(netns.Path(g.attacker), func() error {
		i, err := net.InterfaceByName("att0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for n, b := range frames {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return errors.Join(fmt.Errorf("%d bytes", len(b)), err)
			}
			if n%8 == 7 {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	}))
}

// dropped is how many packets were dropped, whoever's.
func (g *target) dropped() (n uint64) {
	for _, c := range g.sw.Counters() {
		n += c.Drops()
	}
	return n
}

var marks = regexp.MustCompile(`<attack (\d{6})>`)

// marked tells how often each attack was seen.
func (e *ear) marked(t *testing.T) map[int]int {
	t.Helper()
	all, err := os.ReadFile(e.stop())
	must(t, err)
	out := map[int]int{}
	for _, m := range marks.FindAllSubmatch(all, -1) {
		n, err := strconv.Atoi(string(m[1]))
		must(t, err)
		out[n]++
	}
	return out
}

// The same on real packets, by either path: each port sees what is due to it, once,
// and nothing else, nothing comes back to the attacker, and each packet for us that
// went nowhere is counted.
func TestForgedPacketsOnTheWire(t *testing.T) {
	for _, path := range []string{"ebpf", "go"} {
		t.Run(path, func(t *testing.T) {
			g := newTarget(t, path)
			r := rand.New(rand.NewPCG(5, 6))
			var all []attack
			var frames [][]byte
			want := map[string]map[int]int{}
			lost := uint64(0)
			for i := 0; len(all) < 800; i++ {
				a := drawAttack(t, r, i)
				if a.src.Is6() != a.dst.Is6() {
					continue
				}
				due := a.belongs(t)
				if !due.ours && due.why == "" {
					t.Fatalf("%s: nobody's, and no reason", a)
				}
				b := a.outer()
				all, frames = append(all, a), append(frames, append(ether(g.pa, b), b...))
				if len(due.ports) == 0 && due.ours {
					lost++
				}
				for _, name := range due.ports {
					if want[name] == nil {
						want[name] = map[int]int{}
					}
					want[name][a.n]++
				}
			}
			before := g.dropped()
			g.send(frames)
			names := map[int]attack{}
			for _, a := range all {
				names[a.n] = a
			}
			arrived := 0
			for name, e := range g.ears {
				got := e.marked(t)
				for n, times := range got {
					arrived += times
					if want[name][n] != times {
						t.Errorf("%s: %d at %s, want %d", names[n], times, name, want[name][n])
					}
				}
				for n := range want[name] {
					if got[n] == 0 {
						t.Errorf("%s: not at %s", names[n], name)
					}
				}
			}
			for n, times := range g.back.marked(t) {
				if times != 1 { // as it was sent
					t.Errorf("%s: %d times at the attacker's interface", names[n], times)
				}
			}
			if n := g.dropped() - before; n != lost {
				t.Errorf("%d packets were counted as dropped, of %d", n, lost)
			}
			t.Logf("%d forged packets: %d arrivals, %d dropped", len(all), arrived, lost)
			if arrived < 100 || lost < 300 {
				t.Error("the test tests little")
			}
		})
	}
}
