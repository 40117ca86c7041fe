//go:build privileged && linux

package compartments

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// newTeam is a machine whose fabric has a switch, with pa0 on its port eth0 and
// pa1 on its port eth1; the host on the fabric is the switch itself.
func newTeam(t testing.TB) (*machine, *Engine) {
	t.Helper()
	m := newMachine(t)
	must(t, m.gw.AddVeth(nl.LinkEnd{Name: "pa1"}, nl.LinkEnd{Name: "eth1", Namespace: netns.Path(m.fabric)}))
	m.ip(m.fabric, "link add br0 type bridge")
	m.ip(m.fabric, "addr flush dev eth0")
	for _, p := range []string{"eth0", "eth1"} {
		m.ip(m.fabric, "link set "+p+" addrgenmode none")
		m.ip(m.fabric, "link set "+p+" master br0")
		m.ip(m.fabric, "link set "+p+" up")
	}
	m.ip(m.fabric, "link set br0 addrgenmode none up")
	m.ip(m.fabric, "addr add 192.168.1.1/24 dev br0")
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev br0 nodad")
	e, err := New(Config{Instance: m.id, Namespace: netns.Path(m.id + ".gw"), PAInterfaces: []string{"pa0", "pa1"}})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return m, e
}

func teamSpec(t testing.TB) ProviderSpec {
	s := ProviderSpec{VSIDs: []hnv.VSID{vsid(t, 5001)}}
	for _, a := range []string{"192.168.1.%d/24", "fd00:aa::%d/64"} {
		for i := range 2 {
			s.Addresses = append(s.Addresses, hnv.ProviderAddress{Addr: prefix(fmt.Sprintf(a, 10+i)), Interface: fmt.Sprintf("pa%d", i)})
		}
	}
	s.Rewrite = []RewriteAddress{{Addr: mustAddr("192.168.1.77")}}
	s.Routes = []hnv.ProviderRoute{providerRoute("192.168.2.0/24", "192.168.1.1")}
	return s
}

// follow does what control does: it lets the engine move addresses when links
// change.
func follow(t testing.TB, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	links, err := e.WatchProvider(ctx)
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var timer <-chan time.Time
			if again := e.ProviderState().Again; again > 0 {
				timer = time.After(again)
			}
			select {
			case <-ctx.Done():
				return
			case <-links:
			case <-timer:
			}
			changed, err := e.Failover(ctx)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			for _, c := range changed {
				t.Log(time.Now().Format("05.000"), c)
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// paState finds an address's state.
func paState(e *Engine, addr string) PAState {
	s := e.ProviderState()
	for _, p := range append(s.Addresses, s.Rewrite...) {
		if p.Addr == mustAddr(addr) {
			return p
		}
	}
	return PAState{}
}

func (m *machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			m.t.Fatalf("never: %s", what)
		}
	}
}

// beat pings an address from the fabric all the time, and tells how long the
// longest pause was since it was last asked.
type beat struct {
	mu    sync.Mutex
	last  time.Time
	worst time.Duration
}

func (m *machine) beat(to string) *beat {
	m.t.Helper()
	ns, err := netns.Open(netns.Path(m.fabric))
	must(m.t, err)
	from := "192.168.1.1"
	if strings.Contains(to, ":") {
		from = "fd00:aa::1"
	}
	b := &beat{last: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := ping(ctx, ns, PingSpec{From: mustAddr(from), To: mustAddr(to), Interval: 5 * time.Millisecond, Timeout: 300 * time.Millisecond}, func(r PingReply) {
			if r.Err == nil {
				b.mu.Lock()
				b.worst = max(b.worst, time.Since(b.last))
				b.last = time.Now()
				b.mu.Unlock()
			}
		})
		if err != nil {
			m.t.Error(err)
		}
	}()
	m.t.Cleanup(func() { cancel(); <-done; must(m.t, ns.Close()) })
	return b
}

func (b *beat) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := max(b.worst, time.Since(b.last))
	b.worst = 0
	return w
}

// since tells whether a reply came after the time.
func (b *beat) since(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last.After(at)
}

// Each address lives on its own interface: it is answered for there, and what is
// sent from it leaves there.
func TestSeveralInterfacesInOneNetwork(t *testing.T) {
	m, e := newTeam(t)
	gw := m.id + ".gw"
	for _, l := range []string{"pa0", "pa1"} {
		m.run(gw, "sysctl -qw net.ipv4.conf."+l+".rp_filter=1")
	}
	s := teamSpec(t)
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	repaired, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	if len(repaired) > 0 {
		t.Errorf("not settled: %q", repaired)
	}
	var macs []string
	for _, l := range []string{"pa0", "pa1"} {
		l, err := m.gw.Link(l)
		must(t, err)
		macs = append(macs, nl.MACString(l.MAC))
	}
	for i := range 2 {
		for _, c := range [][2]string{{fmt.Sprintf("192.168.1.%d", 10+i), "192.168.1.1"}, {fmt.Sprintf("fd00:aa::%d", 10+i), "fd00:aa::1"}} {
			mine, other := m.listen(m.fabric, fmt.Sprintf("eth%d", i)), m.listen(m.fabric, fmt.Sprintf("eth%d", 1-i))
			m.ip(m.fabric, "neigh flush dev br0")
			request := echo(t, "echo-"+c[0], c[1], c[0], false, 9)
			m.send(m.fabric, request)
			mine.expect(t, "its own port", []packet{request}, request.mark)
			other.expect(t, "the other port", []packet{request})
			if got := m.neighbour(m.fabric, c[0]); got != macs[i] {
				t.Errorf("%s is at %s, want %s", c[0], got, macs[i])
			}
			if out := m.ip(gw, "route get "+c[1]+" from "+c[0]); !strings.Contains(out, fmt.Sprintf("dev pa%d", i)) {
				t.Errorf("from %s: %s", c[0], out)
			}
		}
	}
	if out := m.ip(gw, "route get 192.168.2.9 from 192.168.1.11"); !strings.Contains(out, "via 192.168.1.1 dev pa1") {
		t.Error(out)
	}
	// Another one's rules and tables are left alone, ours go when they are not
	// needed.
	m.ip(gw, "rule add from 192.168.1.11 lookup 77 priority 5000")
	m.ip(gw, "route add 192.168.3.0/24 dev pa0 table 77")
	s.Addresses = slices.DeleteFunc(s.Addresses, func(a hnv.ProviderAddress) bool { return a.Interface == "pa1" })
	_, err = e.ApplyProvider(t.Context(), s)
	must(t, err)
	out := m.ip(gw, "rule") + m.ip(gw, "-6 rule") + m.ip(gw, "route show table all") + m.ip(gw, "-6 route show table all")
	if strings.Contains(out, "20100") || strings.Contains(out, "table 2010") || !strings.Contains(out, "lookup 77") || !strings.Contains(out, "192.168.3.0/24 dev pa0 table 77") {
		t.Error(out)
	}
}

// An address moves at once when its interface fails, and back when that has
// worked for a while.
func TestFailover(t *testing.T) {
	m, e := newTeam(t)
	gw := m.id + ".gw"
	s := teamSpec(t)
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	follow(t, e)
	for _, a := range []string{"192.168.1.10", "192.168.1.11", "fd00:aa::10"} {
		m.run(m.fabric, "ping -c1 -W30 "+a)
	}
	four, six, other := m.beat("192.168.1.10"), m.beat("fd00:aa::10"), m.beat("192.168.1.11")
	time.Sleep(300 * time.Millisecond)
	four.pause()
	six.pause()
	other.pause()
	goesOn := func(what string) {
		t.Helper()
		moved := time.Now()
		for _, b := range []*beat{four, six, other} {
			m.eventually(what+": replies come", func() bool { return b.since(moved) })
		}
	}
	onTheOther := func() bool {
		for _, a := range []string{"192.168.1.10", "fd00:aa::10", "192.168.1.77"} {
			if s := paState(e, a); s.Link != "pa1" || s.Down || s.Home != "pa0" {
				return false
			}
		}
		return true
	}
	atHome := func() bool {
		for _, a := range []string{"192.168.1.10", "fd00:aa::10", "192.168.1.77"} {
			if s := paState(e, a); s.Link != "pa0" || s.Trouble() != "" {
				return false
			}
		}
		return true
	}
	for _, c := range []struct{ name, ns, fail, heal string }{
		{"no carrier", m.fabric, "link set eth0 down", "link set eth0 up"},
		{"set down", gw, "link set pa0 down", "link set pa0 up"},
	} {
		m.ip(c.ns, c.fail)
		m.eventually(c.name+": taken over", onTheOther)
		goesOn(c.name)
		t.Logf("%s: pause of %v (IPv4), %v (IPv6), %v (the other address)", c.name, four.pause(), six.pause(), other.pause())
		if p := paState(e, "192.168.1.10"); p.Fault == FaultNone || !strings.Contains(p.Trouble(), "pa0") {
			t.Errorf("%s: state %+v, %q", c.name, p, p.Trouble())
		}
		if out := m.ip(gw, "route get 192.168.2.9 from 192.168.1.10"); !strings.Contains(out, "dev pa1") {
			t.Errorf("%s: %s", c.name, out)
		}
		healed := time.Now()
		m.ip(c.ns, c.heal)
		m.eventually(c.name+": back", atHome)
		if d := time.Since(healed); d < probation-50*time.Millisecond {
			t.Errorf("%s: back after %v", c.name, d)
		}
		goesOn(c.name + ", back")
		t.Logf("%s, back: pause of %v (IPv4), %v (IPv6), %v (the other address)", c.name, four.pause(), six.pause(), other.pause())
	}

	// Nothing is left to fail over to.
	m.ip(m.fabric, "link set eth0 down")
	m.eventually("taken over", onTheOther)
	m.ip(m.fabric, "link set eth1 down")
	m.eventually("all down", func() bool {
		return paState(e, "192.168.1.10").Down && paState(e, "192.168.1.11").Down && paState(e, "fd00:aa::11").Trouble() != ""
	})
	m.ip(m.fabric, "link set eth1 up")
	m.eventually("the other is up again", func() bool {
		return !paState(e, "192.168.1.11").Down && onTheOther()
	})
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	m.ip(m.fabric, "link set eth0 up")
	m.eventually("all well", atHome)
	if repaired, err := e.ApplyProvider(t.Context(), s); err != nil || len(repaired) > 0 {
		t.Errorf("drift: %q, %v", repaired, err)
	}
}

// An interface that is pulled out is no error, and when it is plugged in again it
// is guarded before it has an address.
func TestMissingInterface(t *testing.T) {
	m, e := newTeam(t)
	gw := m.id + ".gw"
	s := teamSpec(t)
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	follow(t, e)
	must(t, m.gw.DelLink("pa0"))
	m.eventually("taken over", func() bool {
		return paState(e, "192.168.1.10").Link == "pa1" && paState(e, "fd00:aa::10").Link == "pa1"
	})
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	if _, err := e.ApplyProvider(t.Context(), s); err != nil {
		t.Errorf("with an interface less: %v", err)
	}
	if p := paState(e, "192.168.1.10"); p.Fault != FaultMissing {
		t.Errorf("%+v", p)
	}
	guarded := make(chan bool, 10)
	e.gw.mu.Lock()
	e.beforeStep = func(s step) error {
		if a, is := s.(addAddr); is && a.link == "pa0" {
			out, _ := m.try(gw, "nft list chain netdev "+e.names.table()+" guard-pa0")
			guarded <- strings.Contains(out, "@vsids")
		}
		return nil
	}
	e.gw.mu.Unlock()
	must(t, m.gw.AddVeth(nl.LinkEnd{Name: "pa0"}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(m.fabric)}))
	m.ip(m.fabric, "link set eth0 master br0")
	m.ip(m.fabric, "link set eth0 up")
	m.eventually("back", func() bool {
		return paState(e, "192.168.1.10").Link == "pa0" && paState(e, "fd00:aa::10").Link == "pa0"
	})
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	for range len(guarded) {
		if !<-guarded {
			t.Error("an address came before the rules")
		}
	}
	m.ip(m.fabric, "link set eth0 down")
	m.eventually("taken over again", func() bool { return paState(e, "192.168.1.10").Link == "pa1" })
}

// After a restart addresses are where they were, and links that somebody took
// down are set up only by a look at everything.
func TestFailoverAndRestart(t *testing.T) {
	m, e := newTeam(t)
	gw := m.id + ".gw"
	s := teamSpec(t)
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	m.eventually("carrier", func() bool {
		_, err := e.Failover(t.Context())
		return err == nil && paState(e, "192.168.1.10").Trouble() == "" && paState(e, "192.168.1.11").Trouble() == ""
	})
	m.ip(gw, "link set pa0 down")
	changed, err := e.Failover(t.Context())
	must(t, err)
	if p := paState(e, "192.168.1.10"); p.Link != "pa1" || p.Fault != FaultDown || len(changed) == 0 {
		t.Errorf("%+v after %q", p, changed)
	}
	if changed, err = e.Failover(t.Context()); err != nil || len(changed) > 0 {
		t.Errorf("again: %q, %v", changed, err)
	}

	m.ip(m.fabric, "link set eth0 down")
	again, err := New(e.cfg)
	must(t, err)
	defer again.Close()
	if _, err = again.ApplyProvider(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if l, err := m.gw.Link("pa0"); err != nil || !l.Up {
		t.Errorf("pa0 is not up: %+v, %v", l, err)
	}
	if p := paState(again, "192.168.1.10"); p.Link != "pa1" || p.Down {
		t.Errorf("after the restart %+v", p)
	}
	// An address that somebody else put there is used, and not taken off.
	s.Addresses = append(s.Addresses, hnv.ProviderAddress{Addr: prefix("192.168.1.12/24"), Interface: "pa1"})
	m.ip(gw, "addr add 192.168.1.12/24 dev pa1")
	m.ip(m.fabric, "link set eth0 up")
	m.ip(m.fabric, "link set eth1 down")
	_, err = again.ApplyProvider(t.Context(), s)
	must(t, err)
	m.eventually("their address is taken over", func() bool {
		_, err := again.Failover(t.Context())
		return err == nil && paState(again, "192.168.1.12").Link == "pa0"
	})
	m.run(m.fabric, "ping -c1 -W30 192.168.1.12")
	m.ip(m.fabric, "link set eth1 up")
	m.eventually("their address is back", func() bool {
		_, err := again.Failover(t.Context())
		return err == nil && paState(again, "192.168.1.12").Link == "pa1" && !slices.Contains(m.addrs("pa0"), "192.168.1.12/24")
	})
	if !slices.Contains(m.addrs("pa1"), "192.168.1.12/24") {
		t.Errorf("their address is gone: %v", m.addrs("pa1"))
	}
}

// The only interface of the fabric that somebody sets down comes up again without a
// look at everything, with its addresses and routes, but not before whoever did it
// could have set it up.
func TestOnlyInterfaceSetDown(t *testing.T) {
	m := newMachine(t)
	gw := m.id + ".gw"
	e, err := New(Config{Instance: m.id, Namespace: netns.Path(gw), PAInterfaces: []string{"pa0"}})
	must(t, err)
	defer e.Close()
	now := time.Now()
	e.now = func() time.Time { return now }
	s := ProviderSpec{
		Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}, {Addr: prefix("fd00:aa::10/64"), Interface: "pa0"}},
		Routes:    []hnv.ProviderRoute{providerRoute("192.168.2.0/24", "192.168.1.1")},
	}
	_, err = e.ApplyProvider(t.Context(), s)
	must(t, err)
	whole := func() string {
		return m.ip(gw, "-o link show dev pa0 up") + m.ip(gw, "-o addr show dev pa0 scope global") + m.ip(gw, "route show 192.168.2.0/24")
	}
	m.ip(gw, "link set pa0 down")
	changed, err := e.Failover(t.Context())
	must(t, err)
	if again := e.ProviderState().Again; len(changed) > 0 || again != respite || !paState(e, "192.168.1.10").Down {
		t.Errorf("at once: %q, and again in %v: %+v", changed, again, paState(e, "192.168.1.10"))
	}
	now = now.Add(respite)
	changed, err = e.Failover(t.Context())
	must(t, err)
	for _, want := range []string{"UP", "192.168.1.10/24", "fd00:aa::10/64", "192.168.2.0/24 via 192.168.1.1"} {
		if got := whole(); !strings.Contains(got, want) {
			t.Errorf("after %q %s is missing from\n%s", changed, want, got)
		}
	}

	// The event of the kernel brings all that about.
	e.now = time.Now
	follow(t, e)
	m.ip(gw, "link set pa0 down")
	m.eventually("up again", func() bool { return strings.Contains(whole(), "192.168.2.0/24 via 192.168.1.1") })
	m.eventually("known to be", func() bool { return paState(e, "192.168.1.10").Trouble() == "" })
	m.run(m.fabric, "ping -c1 -W20 192.168.1.10")
}

// A look that finds nothing to do is cheap.
func BenchmarkFailover(b *testing.B) {
	_, e := newTeam(b)
	_, err := e.ApplyProvider(b.Context(), teamSpec(b))
	must(b, err)
	for b.Loop() {
		if _, err := e.Failover(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
