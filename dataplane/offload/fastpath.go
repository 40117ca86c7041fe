//go:build linux

package offload

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// ErrUnsupported is why there can be no fast path on this machine.
var ErrUnsupported = errors.New("the kernel cannot run the fast path")

// Options say how to open a FastPath.
type Options struct {
	// Instance is the gateway's name: filters and links bear it.
	Instance string
	// Namespace is the path of the network namespace that has the fabric's
	// interfaces and the ports; "" is the calling thread's.
	Namespace string
	Sizes     Sizes
	Limits    Limits
	// NATOffload makes it possible to translate established connections in the
	// programs, for those exits of an Uplink that have NAT.
	NATOffload bool
	Log        *slog.Logger // nil: nobody is told

	// For tests: capabilities that are not to be used, and the programs.
	without []string
	object  []byte
}

// FastPath forwards a Switch's packets in the kernel. It is a dataplane.Follower:
// the Switch is told of it (Switch.Follow) before tenants are applied, or they are
// applied anew.
type FastPath struct {
	*mirror
	instance string
	sizes    Sizes
	h        *nl.Handle
	k        *kernel
	programs map[string]numbered // as filters name them
	punt     puntLink

	links    sync.Mutex     // over mirror.mu
	attached map[int]string // programs, by interface
	// taking tells that an earlier process's programs and tables are in force,
	// which cannot be gone on with, until ours are filled: until Settle.
	taking bool
	hooks  hooks
	// sockets are the devices for merging VXLAN packets; mergeless is why there
	// are not all.
	sockets   []int
	mergeless string
	// capabilities are what was found when it was opened.
	capabilities []Capability
}

// Open loads the programs and makes the punt link, or takes over what an earlier
// process of the instance left: its filters go on by its tables, which are brought
// in line as the Switch is configured. Where its tables have another layout or
// other sizes, new ones are filled beside them and take their place at Settle.
//
// No packet is touched until interfaces are attached and ports are plugged in. The
// error is ErrUnsupported where the machine cannot run the programs.
func Open(sw *dataplane.Switch, o Options) (*FastPath, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Sizes = o.Sizes.fill()
	h, err := nl.Open(o.Namespace)
	if err != nil {
		return nil, fmt.Errorf("open the fast path: %w", err)
	}
	f := &FastPath{instance: o.Instance, sizes: o.Sizes, h: h, attached: map[int]string{}}
	if err := f.open(sw, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open the fast path: %w", err), f.Close())
	}
	return f, nil
}

func (f *FastPath) open(sw *dataplane.Switch, o Options) (err error) {
	f.capabilities = probe(o.without)
	if err := missing(f.capabilities); err != nil {
		return err
	}
	var made bool
	if f.punt, made, err = makePuntLink(f.h, f.instance); err != nil {
		return err
	}
	adopted := false
	find := func(specs map[string]*ebpf.MapSpec) (map[string]*ebpf.Map, error) {
		maps, err := held(f.h, f.instance, f.punt.in.Index, specs)
		adopted = maps != nil
		return maps, err
	}
	l := loadOptions{object: o.object, sizes: o.Sizes, find: find, nat: o.NATOffload}
	l.use(f.capabilities)
	if f.k, err = load(l); err != nil {
		return missing([]Capability{capability(capPrograms, err)})
	}
	f.programs = map[string]numbered{progFabric: numberOf(f.k.fabric), progPort: numberOf(f.k.port)}
	f.hooks = hooks{f.h, f.instance, kernelTable[uint32, uint8]{f.k.maps[hooksMap]}, new(sync.Mutex)}
	if f.taking = !made && !adopted; f.taking {
		if err := f.inheritHooks(); err != nil {
			return err
		}
	}
	e, err := newEpoch(kernelTable[uint32, uint64]{f.k.maps["epoch"]})
	if err != nil {
		return err
	}
	if f.mirror, err = newMirror(sw, f.k.tables().date(e), o.Sizes, o.Limits, o.Log); err != nil {
		return err
	}
	f.verdicts.now = machineClock
	f.puntIndex = f.punt.out.Index
	if f.taking {
		o.Log.Info("the fast path's tables are of another kind than the earlier process's, and are filled anew", "instance", f.instance)
		return nil
	}
	return f.keep()
}

// PuntLink is the interface at which user space reads what the programs leave to
// it, each packet behind a header (bpf/punt.h).
func (f *FastPath) PuntLink() string { return f.punt.in.Name }

// SetFabric sets which addresses of the fabric are ours, and on which interfaces.
func (f *FastPath) SetFabric(fabric Fabric) error {
	err := letAsk(f.h, f.punt.out)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fabric = &fabric
	return errors.Join(err, f.provider())
}

// AttachFabric has the programs take what arrives for our PAs on the interface.
// Its addresses are set before.
func (f *FastPath) AttachFabric(ifindex int) error {
	f.links.Lock()
	defer f.links.Unlock()
	return f.attach(ifindex, progFabric)
}

// DetachFabric leaves the interface to the machine's own stack, and to sockets.
func (f *FastPath) DetachFabric(ifindex int) error {
	f.links.Lock()
	defer f.links.Unlock()
	return f.detach(ifindex, progFabric)
}

// Plug has the programs take what the port sends, and hand it what is for it. Its
// link is in the FastPath's namespace.
func (f *FastPath) Plug(id dataplane.PortID, l Link) error {
	f.links.Lock()
	defer f.links.Unlock()
	if err := f.mirror.Plug(id, l); err != nil {
		return err
	}
	return f.attach(l.Ifindex, progPort)
}

// Unplug leaves the port to user space. A port that is not plugged in is no error.
func (f *FastPath) Unplug(id dataplane.PortID) error {
	f.links.Lock()
	defer f.links.Unlock()
	f.mu.Lock()
	p := f.ports[id]
	f.mu.Unlock()
	if p == nil {
		return nil
	}
	return errors.Join(f.detach(p.link.Ifindex, progPort), f.mirror.Unplug(id))
}

// Settle tells that all tenants and ports are known, and all interfaces attached:
// what an earlier process left and was not told of again is taken out.
func (f *FastPath) Settle() error {
	f.links.Lock()
	defer f.links.Unlock()
	if err := f.settle(); err != nil {
		return fmt.Errorf("settle the fast path: %w", err)
	}
	return nil
}

func (f *FastPath) settle() error {
	var errs []error
	if f.taking {
		_, err := f.rehook()
		errs = append(errs, err)
		if err := f.keep(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		f.taking = false
	}
	return errors.Join(append(errs, f.sweepHooks(), f.mirror.Settle())...)
}

// Repair puts back what somebody has taken away: programs at interfaces, and what
// holds the tables. It tells what that was. Interfaces that are gone are none of
// its business.
func (f *FastPath) Repair() (repaired []string, err error) {
	f.links.Lock()
	defer f.links.Unlock()
	if f.taking {
		return nil, nil
	}
	repaired, err = f.rehook()
	id, _, herr := holder(f.h, f.instance, f.punt.in.Index)
	if herr == nil && id != idOf(f.k.hold) {
		repaired = append(repaired, fmt.Sprintf("filter %s of interface %s", holdName(f.instance), f.punt.in.Name))
		herr = f.keep()
	}
	if err := errors.Join(err, herr); err != nil {
		return repaired, fmt.Errorf("repair the fast path: %w", err)
	}
	return repaired, nil
}

// Close ends this process's part. Programs, tables and links stay, and packets
// pass as before.
func (f *FastPath) Close() error {
	var err error
	if f.k != nil {
		err = f.k.close()
	}
	f.h.Close()
	return err
}

// Uninstall takes all that the instance has in the kernel for the fast path out of
// it, whether a process runs it or not, and names what it found. Packets are
// user space's, or nobody's, from then on.
func Uninstall(o Options) (removed []string, err error) {
	h, err := nl.Open(o.Namespace)
	if err != nil {
		return nil, fmt.Errorf("uninstall the fast path: %w", err)
	}
	defer h.Close()
	removed, err = uninstall(h, o.Instance)
	if err != nil {
		return removed, fmt.Errorf("uninstall the fast path: %w", err)
	}
	return removed, nil
}

func uninstall(h *nl.Handle, instance string) (removed []string, err error) {
	punt, err := findPuntLink(h, instance)
	if errors.Is(err, nl.ErrNotFound) {
		punt, err = puntLink{}, nil // all the same there may be filters, if somebody removed it
	}
	if err != nil {
		return nil, err
	}
	made, done, err := oldHooks(h, instance, punt)
	if err != nil {
		return nil, err
	}
	defer done()
	at, err := h.Clsacts()
	if err != nil {
		return nil, err
	}
	// What would come out of the tunnels' sockets is dropped to the last.
	removed, err = removeSockets(h, instance)
	errs := []error{err}
	for _, link := range at {
		if link == punt.in.Index {
			continue
		}
		names, err := hooks{h, instance, made, new(sync.Mutex)}.remove(link)
		removed = append(removed, names...)
		errs = append(errs, err)
	}
	if punt.out.Name != "" {
		errs = append(errs, h.DelLink(punt.out.Name))
		removed = append(removed, "link "+punt.out.Name)
	}
	return removed, errors.Join(errs...)
}
