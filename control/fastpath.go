package control

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/hnv"
)

// FastPath forwards in the kernel what it can, and leaves the rest on a link of its
// own; *offload.FastPath is one. What it was given stays in the kernel when this
// process ends.
type FastPath interface {
	dataplane.Follower
	SetFabric(offload.Fabric) error
	AttachFabric(ifindex int) error
	DetachFabric(ifindex int) error
	Link(ifindex int) (offload.Link, error)
	Plug(id dataplane.PortID, l offload.Link) error
	Unplug(id dataplane.PortID) error
	// Slow tells why all of a tenant's packets go to user space; nil: they do not.
	Slow(rdid hnv.RDID) error
	// Unrated tells why a port's packets do, for its rates; nil: they do not.
	Unrated(id dataplane.PortID) error
	// Settle takes out what an earlier process left and this one was not told of.
	Settle() error
	PuntLink() string
}

// fast is the Wire's side of a FastPath. A port or an interface of the fabric that
// the FastPath does not take is read in user space, for the reason told.
type fast struct {
	FastPath
	ports atomic.Pointer[map[uint32]dataplane.PortID] // by interface index; Wire.mu is held to change it
	set   offload.Fabric
	punts []*port.PuntReader
	// lost is why nothing takes the fast path any more; nil: it does.
	lost error
}

// maxBulkReaders bounds how many goroutines share what user space has of tenants'
// ordinary packets; those of one tenant stay in order.
const maxBulkReaders = 8

// openFast opens the readers of what the FastPath leaves.
func (w *Wire) openFast(f FastPath) error {
	w.fast = &fast{FastPath: f}
	w.fast.ports.Store(&map[uint32]dataplane.PortID{})
	bulk := min(runtime.GOMAXPROCS(0), maxBulkReaders)
	all := []port.PuntOptions{{Queue: port.PuntOdd, Do: w.o.Do}}
	for i := range bulk {
		all = append(all, port.PuntOptions{Queue: port.PuntBulk, Share: i, Of: bulk, Do: w.o.Do})
	}
	for _, o := range all {
		r, err := port.OpenPunt(f.PuntLink(), o)
		if err != nil {
			return err
		}
		w.fast.punts = append(w.fast.punts, r)
		w.wg.Go(func() {
			err := w.sw.ServePunted(w.ctx, &puntReader{r: r, ports: &w.fast.ports}, w.provider)
			if err != nil && !errors.Is(err, net.ErrClosed) && w.ctx.Err() == nil {
				w.giveUp(fmt.Errorf("what the fast path leaves cannot be read: %w", err))
			}
		})
	}
	return nil
}

// giveUp has user space read everything, for good: a fast path whose leavings are
// lost is worse than none.
func (w *Wire) giveUp(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fast.lost != nil {
		return
	}
	w.fast.lost = why
	w.log.Error("the fast path is given up until gatewayd is started again", "err", why)
	var errs []error
	for name, e := range w.ears {
		if e.r == nil {
			errs = append(errs, w.hear(name))
		}
	}
	for _, p := range w.ports {
		if p.why == nil {
			errs = append(errs, w.speedUp(p))
		}
	}
	if err := errors.Join(errs...); err != nil {
		w.log.Error("take over from the fast path", "err", err)
	}
}

// attach has the FastPath take what arrives on the interface of the fabric.
func (f *fast) attach(index int) error {
	if f.lost != nil {
		return f.lost
	}
	return f.AttachFabric(index)
}

// puntReader knows the ports by their interfaces.
type puntReader struct {
	r     *port.PuntReader
	ports *atomic.Pointer[map[uint32]dataplane.PortID]
	punts [dataplane.BatchSize]port.Punt
}

// unknownPort is the ID of none.
const unknownPort = ^dataplane.PortID(0)

func (p *puntReader) ReadPunted(frames []*packet.Frame, from []dataplane.PortID) (int, error) {
	n, err := p.r.ReadBatch(frames, p.punts[:min(len(frames), len(from), len(p.punts))])
	ports := *p.ports.Load()
	for i, x := range p.punts[:n] {
		if from[i] = dataplane.Fabric; x.Origin == port.PuntPort {
			id, ok := ports[x.Ifindex]
			if !ok {
				id = unknownPort
			}
			from[i] = id
		}
	}
	return n, err
}

// know makes what arrives by the interface the port's; with Wire.mu. 0 is that of
// nobody.
func (f *fast) know(ifindex uint32, id dataplane.PortID) {
	old := *f.ports.Load()
	if old[ifindex] == id { // also where it is nobody's and stays so
		return
	}
	next := maps.Clone(old)
	if id != 0 {
		next[ifindex] = id
	} else {
		delete(next, ifindex)
	}
	f.ports.Store(&next)
}

// plug has the FastPath take the port; with Wire.mu.
func (f *fast) plug(p *plug) error {
	if f.lost != nil {
		return f.lost
	}
	l, err := f.Link(p.l.Index())
	if err != nil {
		return err
	}
	f.know(uint32(l.Ifindex), p.id)
	return f.FastPath.Plug(p.id, l)
}

func (f *fast) unplug(p *plug) error {
	err := f.Unplug(p.id)
	f.know(uint32(p.l.Index()), 0)
	return err
}

// fabricOf gives the addresses with the indexes of their interfaces, as far as
// these are there.
func (w *Wire) fabricOf(s FabricSide) offload.Fabric {
	indexes := map[string]int{}
	index := func(link string) int {
		i, known := indexes[link]
		if !known {
			i, _ = w.provider.Index(link)
			indexes[link] = i
		}
		return i
	}
	of := func(list []compartments.PAState) (out []offload.PA) {
		for _, a := range list {
			out = append(out, offload.PA{Addr: a.Addr, Ifindex: index(a.Link)})
		}
		return out
	}
	f := offload.Fabric{Tunnel: of(s.Tunnel), Rewrite: of(s.Rewrite)}
	for _, g := range s.addresses().Groups {
		f.Groups = append(f.Groups, offload.PA{Addr: g.Addr, Ifindex: index(g.Interface)})
	}
	return f
}

// change sets the addresses in the FastPath and, by publish, in the Switch. In
// between, those that go and those that come are both ours: the source of packets
// is always one whose interface is known.
func (f *fast) change(next offload.Fabric, publish func()) error {
	with := func(old, now []offload.PA) []offload.PA {
		has := map[netip.Addr]bool{}
		for _, a := range now {
			has[a.Addr] = true
		}
		return slices.Concat(now, slices.DeleteFunc(slices.Clone(old), func(a offload.PA) bool { return has[a.Addr] }))
	}
	err := f.SetFabric(offload.Fabric{
		Tunnel: with(f.set.Tunnel, next.Tunnel), Rewrite: with(f.set.Rewrite, next.Rewrite), Groups: with(f.set.Groups, next.Groups),
	})
	publish()
	f.set = next
	return errors.Join(err, f.SetFabric(next))
}

// The ways of packets.
const (
	pathFast = "ebpf"
	pathGo   = "go"
)

// Path tells who forwards packets that arrive at an interface, and if it is user
// space, why. The zero Path is nobody.
type Path struct{ Name, Reason string }

func (p Path) words() (name, reason string) { return p.Name, p.Reason }

// FabricPath tells who takes what arrives on the interface of the fabric; the
// empty path is nobody's.
func (w *Wire) FabricPath(link string) Path {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.ears[link]
	switch {
	case e == nil:
		return Path{}
	case e.r == nil:
		return Path{Name: pathFast}
	}
	return Path{Name: pathGo, Reason: w.why(e.why)}
}

// PortPath does the same for a port.
func (w *Wire) PortPath(name string) Path {
	w.mu.Lock()
	p := w.ports[name]
	w.mu.Unlock()
	if p == nil {
		return Path{}
	}
	slow := func(format string, a ...any) Path {
		return Path{Name: pathGo, Reason: fmt.Sprintf(format, a...)}
	}
	if w.fast == nil || p.why != nil {
		return Path{Name: pathGo, Reason: w.why(p.why)}
	}
	t, _ := w.sw.View(p.spec.RDID)
	if t.Slow {
		return slow("the tenant's packets are being captured")
	}
	if err := w.fast.Slow(p.spec.RDID); err != nil {
		return slow("the tenant does not fit the fast path: %v", err)
	}
	v, _ := w.sw.PortView(p.id)
	switch {
	case v.Outbound:
		return slow("it has layers that are user space's")
	case v.Inbound:
		return slow("what it gets must be made fit for it by user space; what it sends takes the fast path")
	}
	if err := w.fast.Unrated(p.id); err != nil {
		return slow("the fast path cannot take its rates: %v", err)
	}
	return Path{Name: pathFast}
}

func (w *Wire) why(err error) string {
	if err == nil {
		return w.o.NoFastPath
	}
	return err.Error()
}
