package dataplane

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// pipe is a Reader and a Writer: what is written can be read. It drops what it
// has no room for, as a port does.
type pipe struct {
	packets chan []byte
	closed  chan struct{}
	once    sync.Once
	fail    atomic.Int32 // so many reads fail
	largest atomic.Int32 // frames asked for at once
}

func newPipe() *pipe {
	return &pipe{packets: make(chan []byte, 4096), closed: make(chan struct{})}
}

func (p *pipe) Close() { p.once.Do(func() { close(p.closed) }) }

func (p *pipe) WriteBatch(frames []*packet.Frame) (int, error) {
	n := 0
	for _, f := range frames {
		select {
		case p.packets <- append([]byte(nil), f.Bytes()...):
			n++
		default:
		}
	}
	return n, nil
}

var errTest = errors.New("the reader stumbles")

func (p *pipe) ReadBatch(frames []*packet.Frame) (int, error) {
	p.largest.Store(max(p.largest.Load(), int32(len(frames))))
	if p.fail.Load() > 0 {
		p.fail.Add(-1)
		return 0, errTest
	}
	n := 0
	select {
	case b := <-p.packets:
		frames[0].Set(b)
		n = 1
	case <-p.closed:
		return 0, net.ErrClosed
	}
	for ; n < len(frames); n++ {
		select {
		case b := <-p.packets:
			frames[n].Set(b)
		default:
			return n, nil
		}
	}
	return n, nil
}

// router takes what a host sends to the fabric to the host of the PA.
type router map[netip.Addr]*pipe

func (r router) WriteBatch(frames []*packet.Frame) (int, error) {
	n := 0
	for _, f := range frames {
		to := r[netip.AddrFrom4([4]byte(f.Bytes()[16:20]))]
		m, _ := to.WriteBatch([]*packet.Frame{f})
		n += m
	}
	return n, nil
}

// Two hosts run in full, with workers of their own for every port and the
// fabric; ports come and go meanwhile.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	fabric := router{ip(paHost1): newPipe(), ip(paHost2): newPipe()}
	tenants := []Tenant{tenantConfig("contoso", 5000, hnv.NVGRE), tenantConfig("fabrikam", 6000, hnv.VXLAN)}
	hosts := map[string]*Switch{}
	for pa, p := range fabric {
		sw := New(Options{})
		sw.SetProvider(Provider{Addrs: []netip.Addr{pa}, MTU: 1500})
		for _, c := range tenants {
			if err := sw.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		hosts[pa.String()] = sw
		wg.Go(func() {
			if err := sw.ServeProvider(ctx, p, fabric); err != nil {
				t.Error(err)
			}
		})
	}
	type vm struct{ in, out *pipe }
	plug := func(pa string, vsid uint32, mac hnv.MAC) (vm, PortID) {
		sw, v := hosts[pa], vm{newPipe(), newPipe()}
		id, err := sw.AddPort(PortSpec{Name: "p", VSID: mustVSID(vsid), MAC: mac, Kind: PortVM}, v.in)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := sw.ServePort(ctx, id, v.out, fabric); err != nil {
				t.Error(err)
			}
		})
		return v, id
	}
	const packets = 2000
	var pairs [][2]vm
	for _, base := range []uint32{5000, 6000} {
		a, _ := plug(paHost1, base+1, mac11)
		b, _ := plug(paHost2, base+1, mac12)
		pairs = append(pairs, [2]vm{a, b})
	}
	for i, p := range pairs {
		f := packet.NewFrame(2048)
		f.Set(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", tenants[i].Name.String()))
		for range packets {
			if n, _ := p[0].out.WriteBatch([]*packet.Frame{f}); n != 1 {
				t.Fatal("the pipe is full")
			}
		}
	}
	// Another port comes and goes while the packets flow.
	extra, id := plug(paHost1, 5001, mac13)
	hosts[paHost1].RemovePort(id)
	extra.out.Close()

	for i, p := range pairs {
		for n := range packets {
			select {
			case b := <-p[1].in.packets:
				if got := decode(t, b).payload; got != tenants[i].Name.String() {
					t.Fatalf("a packet of %s arrived at %s", got, tenants[i].Name)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%d of %d packets arrived", n, packets)
			}
		}
		if n := p[0].out.largest.Load(); n <= 1 || n > BatchSize {
			t.Errorf("the busy reader got batches of up to %d", n)
		}
		if n := p[1].out.largest.Load(); n > 1 { // 0: it has not begun yet
			t.Errorf("the idle reader holds %d frames", n)
		}
	}
	cancel()
	for _, p := range pairs {
		p[0].out.Close()
		p[1].out.Close()
	}
	for _, p := range fabric {
		p.Close()
	}
	wg.Wait()
	for pa, sw := range hosts {
		for _, c := range sw.Counters()[1:] {
			if pa == paHost1 && c.FromPorts.Packets != packets || pa == paHost2 && c.ToPorts.Packets != packets || c.Drops() != 0 {
				t.Errorf("host %s counts %+v after its workers ended", pa, c)
			}
		}
	}
}

// A reader that stumbles goes on; one that never works again is given up.
func TestServeReadErrors(t *testing.T) { synctest.Test(t, serveReadErrors) }

func serveReadErrors(t *testing.T) {
	told := make(chan string, 100)
	sw := New(Options{OnError: func(port string, err error) {
		if !errors.Is(err, errTest) {
			t.Error(err)
		}
		told <- port
	}})
	p := newPipe()
	p.fail.Store(3)
	f := packet.NewFrame(64)
	f.Set([]byte{1})
	_, _ = p.WriteBatch([]*packet.Frame{f})
	done := make(chan error)
	go func() { done <- sw.ServeProvider(t.Context(), p, &wire{}) }()
	for sw.Counters()[0].DropsByReason[drop.OuterMalformed] == 0 {
		time.Sleep(time.Millisecond)
	}
	p.Close()
	if err := <-done; err != nil {
		t.Errorf("a closed reader: %v", err)
	}
	if len(told) != 1 || <-told != "provider" {
		t.Errorf("told of errors %d times, want once a second", len(told))
	}

	broken := newPipe()
	broken.fail.Store(1000)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- sw.ServeProvider(ctx, broken, &wire{}) }()
	<-told
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the end: %v", err)
	}
}

// A reader that never works again is given up after some patience.
func TestServeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		p.fail.Store(1000)
		begin := time.Now()
		err := New(Options{}).ServePort(t.Context(), 7, p, &wire{})
		if !errors.Is(err, errTest) || 1000-p.fail.Load() != maxFailures {
			t.Errorf("given up with %v after %d reads", err, 1000-p.fail.Load())
		}
		if took := time.Since(begin); took < time.Second || took > 10*time.Second {
			t.Errorf("given up after %s", took)
		}
	})
}

// A reader holds more frames while it is busy, and gives them back.
func TestBatchFollowsTheLoad(t *testing.T) {
	b := newBatch(new(sync.Pool))
	for range 10 {
		b.had(len(b.next()))
	}
	if n := len(b.next()); n != BatchSize {
		t.Errorf("a busy reader has %d frames", n)
	}
	for range 20 * idleReads {
		b.had(1)
	}
	if n := len(b.next()); n > 4 {
		t.Errorf("an idle reader has %d frames", n)
	}
}

// leftovers are what a fast path left to the Switch, read all at once.
type leftovers struct {
	packets [][]byte
	from    []PortID
}

func (l *leftovers) ReadPunted(frames []*packet.Frame, from []PortID) (int, error) {
	if len(l.packets) == 0 {
		return 0, net.ErrClosed
	}
	n := min(len(frames), len(l.packets))
	for i := range n {
		frames[i].Set(l.packets[i])
	}
	copy(from, l.from[:n])
	l.packets, l.from = l.packets[n:], l.from[n:]
	return n, nil
}

// What a fast path leaves to the Switch is each sender's: the fabric's, this port's,
// that port's, or nobody's.
func TestServePunted(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h := l.hosts[1]
	var p leftovers
	add := func(from PortID, b []byte) { p.packets, p.from = append(p.packets, b), append(p.from, from) }
	const rounds = 40 // more than a batch in all
	for range rounds {
		for _, s := range []*site{contoso, fabrikam} {
			add(s.vm11.id, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", s.Name.String()))
			add(s.vm11.id, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", s.Name.String()))
			add(s.vm13.id, udp(mac13, mac11, "10.1.1.13", "10.1.1.11", s.Name.String()))
			add(s.vm13.id, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "forged"))
		}
		add(Fabric, outerPacket(hnv.NVGRE, paHost2, paHost1, 5001, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "fabric")))
		add(99, udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "no port's"))
	}
	if err := h.sw.ServePunted(t.Context(), &p, h.out); err != nil {
		t.Fatal(err)
	}
	all := h.sw.Counters()
	if n := all[0].DropsByReason[drop.NoPort]; n != rounds {
		t.Errorf("%d packets of no port, want %d", n, rounds)
	}
	for _, s := range []*site{contoso, fabrikam} {
		i := slices.IndexFunc(all, func(c TenantCounters) bool { return c.RDID == s.RDID })
		fromFabric := uint64(0)
		if s == contoso {
			fromFabric = rounds
		}
		c := all[i]
		if c.FromPorts.Packets != 4*rounds || c.FromFabric.Packets != fromFabric || c.ToPorts.Packets != 3*rounds+fromFabric ||
			c.DropsByReason[drop.SourceMACMismatch] != rounds {
			t.Errorf("%s: %+v", s.Name, c)
		}
	}
}
