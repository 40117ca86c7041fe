//go:build privileged && linux

package offload

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

const childEnv = "HNVGATE_TEST_GATEWAY"

// withRDID is the example's tenant in another process.
func (e example) withRDID(t *testing.T, text string) (c dataplane.Tenant) {
	t.Helper()
	r, err := hnv.ParseRDID(text)
	must(t, err)
	c = e.tenant(t)
	c.RDID = r
	for i := range c.Routes {
		c.Routes[i].RDID = r
	}
	return c
}

// TestGatewayProcess is no test: it is the gateway's process in those that kill
// it. It says when it is ready, and never ends by itself.
func TestGatewayProcess(t *testing.T) {
	args := strings.Fields(os.Getenv(childEnv))
	if len(args) == 0 {
		return
	}
	ns, rdid := args[0], args[1]
	records, err := strconv.Atoi(args[2])
	must(t, err)
	e := examples[0]
	m := openMachine(t, ns, "site-gw", e.paOf(0))
	m.pa, err = m.h.Link("pa0")
	must(t, err)
	m.startSized(e.withRDID(t, rdid), Sizes{Records: uint32(records)})
	time.Sleep(100 * time.Millisecond) // as where there are many tenants
	m.plug(e.vms(t)[0], "w0", e.tunnelMTU())
	must(t, m.f.Settle())
	fmt.Printf("\nready, taking %v\n", m.f.taking)
	select {}
}

// gateway starts that process and waits until it is ready.
func (s *site) gateway(records int) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestGatewayProcess$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", childEnv, s.gw.ns, s.c.RDID, records))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	s.t.Cleanup(func() { s.kill(cmd) })
	var said strings.Builder
	for r := bufio.NewScanner(out); r.Scan(); {
		if strings.HasPrefix(r.Text(), "ready") {
			return cmd
		}
		said.WriteString(r.Text() + "\n")
	}
	s.t.Fatalf("the gateway's process ended: %s", said.String())
	return nil
}

func (s *site) kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// load keeps pings and one TCP connection going, until stop says whether any
// packet was lost.
func (s *site) load() (stop func()) {
	var wg sync.WaitGroup
	var done atomic.Bool
	pinged := 0
	wg.Go(func() {
		for !done.Load() {
			out, err := exec.Command("nsenter", "--net="+netns.Path(s.vm), "--", "ping", "-q", "-c", "200", "-i", "0.002", "-W", "20", s.compVM.four).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " 0% packet loss") {
				s.t.Errorf("ping: %v: %s", err, out)
				return
			}
			pinged += 200
		}
	})
	var l net.Listener
	must(s.t, netns.Do(netns.Path(s.comp), func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(s.compVM.four), 5002).String())
		return err
	}))
	var c net.Conn
	must(s.t, netns.Do(netns.Path(s.vm), func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), time.Minute)
		return err
	}))
	got, sent := int64(0), int64(0)
	wg.Go(func() {
		in, err := l.Accept()
		if err != nil {
			s.t.Error(err)
			return
		}
		defer in.Close()
		if got, err = io.Copy(io.Discard, in); err != nil {
			s.t.Error(err)
		}
	})
	wg.Go(func() {
		defer c.Close()
		b := make([]byte, 1<<15)
		for !done.Load() {
			n, err := c.Write(b)
			sent += int64(n)
			if err != nil {
				s.t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() {
		s.t.Helper()
		done.Store(true)
		wg.Wait()
		l.Close()
		if pinged == 0 || sent == 0 || got != sent {
			s.t.Errorf("%d pings, %d bytes sent and %d received", pinged, sent, got)
		}
	}
}

// What passes goes on passing while the gateway's process is killed, while
// another one takes over its tables, and while one takes its place that has tables
// of another kind.
func TestKilledGatewayLosesNoPacket(t *testing.T) {
	s := newFabric(t, examples[0], false)
	p := s.gateway(1000)
	stop := s.load()
	const while = 300 * time.Millisecond
	for _, records := range []int{1000, 1000, 2000, 3000, 3000} {
		time.Sleep(while)
		s.kill(p)
		time.Sleep(while)
		p = s.gateway(records)
	}
	time.Sleep(while)
	s.kill(p)
	time.Sleep(while)
	stop()
}

// What nobody tells the next process of is gone once it has settled, and what it
// is told of was never touched.
func TestSettleTakesOutTheRest(t *testing.T) {
	s := newSite(t, examples[0], false)
	must(t, s.gw.f.Settle())
	run(t, s.gw.ns, "ip link add other0 type veth peer name other1")
	other, err := s.gw.h.Link("other0")
	must(t, err)
	must(t, s.gw.f.AttachFabric(other.Index))
	s.pings()
	before := idsOf(t, s.gw.f.k)
	number := s.gw.f.last

	s.gw.start(s.c)
	if s.gw.f.taking || !maps.Equal(before, idsOf(t, s.gw.f.k)) {
		t.Fatalf("the tables are not those of before: %v, %v", before, idsOf(t, s.gw.f.k))
	}
	if s.gw.f.last != number {
		t.Errorf("a new tenant number was given out")
	}
	s.pings() // by the port of before
	must(t, s.gw.f.Settle())
	at, err := s.gw.h.Clsacts()
	must(t, err)
	slices.Sort(at)
	want := append([]int{s.gw.pa.Index, s.gw.f.punt.in.Index}, s.gw.f.sockets...)
	slices.Sort(want)
	if !slices.Equal(at, want) {
		t.Errorf("clsact is at %v, want %v", at, want)
	}
	left := 0
	count := func(uint32, portValue) bool { left++; return true }
	must(t, s.gw.f.t.ports.all(count))
	if left != 0 {
		t.Errorf("%d ports are left in the table", left)
	}
	s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
	s.pings()
}

func idsOf(t *testing.T, k *kernel) map[string]ebpf.MapID {
	t.Helper()
	out := map[string]ebpf.MapID{}
	for _, name := range kept {
		info, err := k.maps[name].Info()
		must(t, err)
		id, _ := info.ID()
		out[name] = id
	}
	return out
}

// Whatever a process was doing when it died, the next one makes whole, and
// uninstalling leaves nothing.
func TestDeathHalfWay(t *testing.T) {
	for name, die := range map[string]func(t *testing.T, s *site){
		"punt link made": func(t *testing.T, s *site) {
			_, _, err := makePuntLink(s.gw.h, s.gw.name)
			must(t, err)
		},
		"punt link without names": func(t *testing.T, s *site) {
			out, in := puntNames(s.gw.name)
			must(t, s.gw.h.AddVeth(nl.LinkEnd{Name: out}, nl.LinkEnd{Name: in}))
		},
		"clsact noted": func(t *testing.T, s *site) {
			s.gw.start(s.c)
			w0, err := s.gw.h.Link("w0")
			must(t, err)
			must(t, s.gw.f.hooks.makeRoom(w0.Index))
		},
		"not settled": func(_ *testing.T, s *site) {
			s.gw.startSized(s.c, Sizes{Records: 100})
			s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
			s.gw.startSized(s.c, Sizes{Records: 200})
		},
		"half of the filters replaced": func(t *testing.T, s *site) {
			s.gw.startSized(s.c, Sizes{Records: 100})
			s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
			s.gw.startSized(s.c, Sizes{Records: 200})
			must(t, s.gw.f.hook(s.gw.pa.Index, progFabric))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFabric(t, examples[0], false)
			die(t, s)
			s.gw.start(s.c)
			s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
			must(t, s.gw.f.Settle())
			s.pings()
			_, err := Uninstall(Options{Instance: s.gw.name, Namespace: netns.Path(s.gw.ns)})
			must(t, err)
			if at, err := s.gw.h.Clsacts(); err != nil || len(at) > 0 {
				t.Errorf("clsact is left at %v: %v", at, err)
			}
		})
	}
}

// Links that were only just made when their maker died are removed too.
func TestUninstallOfLinksHalfMade(t *testing.T) {
	m := newMachine(t, "gw", netip.MustParseAddr("192.168.1.1"))
	out, in := puntNames(m.name)
	must(t, m.h.AddVeth(nl.LinkEnd{Name: out}, nl.LinkEnd{Name: in}))
	want := []string{"link " + out}
	for name, local := range socketNames(m.name) {
		must(t, m.h.AddVXLAN(nl.LinkEnd{Name: name}, nl.VXLAN{VNI: socketVNI, Local: local}))
		want = append(want, "link "+name)
	}
	got, err := Uninstall(Options{Instance: m.name, Namespace: netns.Path(m.ns)})
	must(t, err)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("removed %q, want %q", got, want)
	}
}

// What somebody else took away is put back, and nothing besides.
func TestRepair(t *testing.T) {
	s := newSite(t, examples[0], false)
	must(t, s.gw.f.Settle())
	if got, err := s.gw.f.Repair(); err != nil || len(got) > 0 {
		t.Fatalf("repaired %q where nothing was wrong: %v", got, err)
	}
	w0, err := s.gw.h.Link("w0")
	must(t, err)
	for _, index := range []int{s.gw.pa.Index, w0.Index, s.gw.f.punt.in.Index} {
		must(t, s.gw.h.DelClsact(index))
	}
	st, err := s.gw.f.Status()
	must(t, err)
	for _, i := range st.Interfaces {
		if !i.Missing {
			t.Errorf("%+v is not said to be missing", i)
		}
	}
	got, err := s.gw.f.Repair()
	must(t, err)
	slices.Sort(got)
	want := []string{
		fmt.Sprintf("filter hnv:site-gw:from_fabric of interface %d", s.gw.pa.Index),
		fmt.Sprintf("filter hnv:site-gw:from_port of interface %d", w0.Index),
		fmt.Sprintf("filter %s of interface %s", holdName(s.gw.name), s.gw.f.PuntLink()),
	}
	if !slices.Equal(got, want) {
		t.Errorf("repaired %q, want %q", got, want)
	}
	s.pings()
	run(t, s.gw.ns, "ip link del w0")
	if got, err := s.gw.f.Repair(); err != nil || len(got) > 0 {
		t.Errorf("repaired %q where an interface went: %v", got, err)
	}
}

// All tenants have their uplink attached, at once; whose clsact it is stays known, and
// nothing is left of it.
func TestUplinkAttachedByManyAtOnce(t *testing.T) {
	m := newMachine(t, "gw", netip.MustParseAddr("192.168.1.1"))
	f, err := Open(dataplane.New(dataplane.Options{}), Options{Instance: m.name, Namespace: netns.Path(m.ns), NATOffload: true})
	must(t, err)
	defer f.Close()
	u, err := OpenUplink(UplinkOptions{Instance: m.name, Namespace: netns.Path(m.ns), FastPath: f})
	must(t, err)
	defer u.Close()
	for n := range 20 {
		name := fmt.Sprintf("up%d", n)
		must(t, m.h.AddVeth(nl.LinkEnd{Name: name}, nl.LinkEnd{Name: name + "b"}))
		l, err := m.h.Link(name)
		must(t, err)
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			all.Go(func() {
				<-start
				if err := u.Attach(l.Index); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		all.Wait()
		if _, noted, err := f.hooks.made.get(uint32(l.Index)); err != nil || !noted {
			t.Errorf("attachment %d: clsact is not noted as ours: %v", n, err)
		}
	}
	_, err = Uninstall(Options{Instance: m.name, Namespace: netns.Path(m.ns)})
	must(t, err)
	if left, err := m.h.Clsacts(); err != nil || len(left) > 0 {
		t.Errorf("clsact is left at %v: %v", left, err)
	}
}
