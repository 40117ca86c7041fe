package port

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// ProviderOptions say how to open the Provider.
type ProviderOptions struct {
	// Interfaces are those with provider addresses, VLAN sub-interfaces by
	// their own names. More can be added later.
	Interfaces []string
	// Addresses are those of this machine, on whichever of the interfaces. Without
	// any, nothing is read.
	Addresses   Addresses
	Batch       int // packets for one system call, at most 1024; 0: DefaultBatch
	ReadBuffer  int // bytes the kernel may hold for one interface; 0: DefaultBuffer
	WriteBuffer int // bytes the kernel may still have to send; 0: DefaultFabricBuffer
	// Mark is put on every packet sent, for the machine's packet filter to know
	// it by; 0: none. It takes CAP_NET_ADMIN.
	Mark uint32
	// Do runs its argument in the network namespace of the interfaces; nil
	// means the calling thread's.
	Do func(func() error) error
}

// Provider is the fabric's side of the dataplane: outer IP packets without an
// Ethernet header. It is written to as a whole, and read by one ProviderReader
// for each interface, each in a goroutine of its own.
type Provider struct {
	o   ProviderOptions
	out rawWriter

	mu      sync.Mutex // guards what follows; taken before no other lock
	addrs   Addresses
	readers []*ProviderReader // in the order of opening
	groups  memberships
	closed  bool
}

// OpenProvider opens the interfaces for reading and the fabric for writing.
func OpenProvider(o ProviderOptions) (*Provider, error) {
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = DefaultFabricBuffer
	}
	o.Batch, o.ReadBuffer, o.WriteBuffer = bounds(o.Batch, o.ReadBuffer, o.WriteBuffer)
	p := &Provider{o: o, groups: memberships{do: o.Do}}
	if err := p.out.open(o); err != nil {
		return nil, fmt.Errorf("open provider: %w", err)
	}
	if err := p.SetAddresses(o.Addresses); err != nil {
		return nil, errors.Join(fmt.Errorf("open provider: %w", err), p.Close())
	}
	for _, name := range o.Interfaces {
		if _, err := p.AddInterface(name); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// AddInterface opens one more interface and gives its reader. An interface that
// has a reader already is refused: its packets would be read twice.
func (p *Provider) AddInterface(ifname string) (*ProviderReader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("open provider interface %s: %w", ifname, net.ErrClosed)
	}
	for _, r := range p.readers {
		if r.name == ifname {
			return nil, fmt.Errorf("open provider interface %s: it is open already", ifname)
		}
	}
	filter, err := providerFilter(p.addrs, ifname)
	if err != nil {
		return nil, fmt.Errorf("open provider interface %s: %w", ifname, err)
	}
	s, err := openPacket(packetOptions{
		ifname: ifname, do: p.o.Do, read: p.o.ReadBuffer, write: p.o.WriteBuffer, protocol: unix.ETH_P_ALL, filter: filter,
	})
	if err != nil {
		return nil, fmt.Errorf("open provider interface %s: %w", ifname, err)
	}
	r := &ProviderReader{name: ifname, p: p, s: s, in: newRecvBatch(p.o.Batch, false)}
	p.readers = append(p.readers, r)
	return r, nil
}

// Index finds an interface by name where the Provider is.
func (p *Provider) Index(ifname string) (index int, err error) {
	err = p.out.v4.control(func(fd int) (err error) {
		index, err = interfaceIndex(fd, ifname)
		return err
	})
	return index, err
}

// Readers gives the readers that are open, in the order of opening.
func (p *Provider) Readers() []*ProviderReader {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.readers)
}

// SetAddresses replaces the addresses whose packets are read, and the groups
// that are joined. Packets are judged by the old addresses or by the new ones, by
// nothing in between. If it fails, some readers may have the new addresses, and
// groups may not be joined, as on an interface that is not there; the next call
// mends that. It is to be called also when an interface that groups are joined
// on was made anew.
func (p *Provider) SetAddresses(a Addresses) error {
	if _, err := a.classified(""); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("set provider addresses: %w", net.ErrClosed)
	}
	p.addrs = Addresses{slices.Clone(a.Tunnel), slices.Clone(a.Rewrite), slices.Clone(a.Groups)}
	var errs []error
	for _, r := range p.readers {
		filter, err := providerFilter(a, r.name)
		if err == nil {
			err = r.s.control(func(fd int) error { return attachFilter(fd, filter) })
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set provider addresses on %s: %w", r.name, err))
		}
	}
	p.out.setWays(a)
	errs = append(errs, p.groups.join(a.Groups))
	return errors.Join(errs...)
}

// WriteBatch sends outer IP packets; the kernel routes each as one from its
// source, or if it goes to a multicast group, out of the interface that its
// source is on. They must be complete: one with an Offload is refused. One that exceeds the MTU of the
// interface it leaves by is dropped and counted as EMSGSIZE; what routes or ICMP
// errors say of the MTU further on is not heeded.
func (p *Provider) WriteBatch(frames []*packet.Frame) (int, error) { return p.out.write(frames) }

// WriteCounters tell of the packets written so far.
func (p *Provider) WriteCounters() WriteCounters { return p.out.wc.snapshot() }

// Close closes the writer and all readers; goroutines that wait in ReadBatch
// return net.ErrClosed, as does every later call.
func (p *Provider) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return net.ErrClosed
	}
	p.closed = true
	readers := p.readers
	p.readers = nil
	errs := []error{p.groups.join(nil)}
	p.mu.Unlock()
	errs = append(errs, p.out.close())
	for _, r := range readers {
		errs = append(errs, r.s.close())
	}
	return errors.Join(errs...)
}

// ProviderReader reads what arrives on one interface from the fabric and may be
// a tunnel packet for one of the Provider's addresses. Concurrent readers take
// turns.
type ProviderReader struct {
	name string
	p    *Provider
	s    *socket
	read sync.Mutex // held by the goroutine in ReadBatch
	in   *recvBatch
	rc   readCounters
}

// Interface is the name under which the interface was opened.
func (r *ProviderReader) Interface() string { return r.name }

// ReadBatch waits for at least one packet and returns how many of frames it
// filled, from the first on. Each begins with the outer IP header, from which
// its Offload counts, and may end in Ethernet padding. A packet that does not
// fit is dropped and counted: room for packet.MaxPacket bytes is enough for
// whatever the kernel gives.
func (r *ProviderReader) ReadBatch(frames []*packet.Frame) (int, error) {
	r.read.Lock()
	defer r.read.Unlock()
	frames = frames[:min(len(frames), len(r.in.msgs))]
	if len(frames) == 0 {
		return 0, nil
	}
	for {
		for i, f := range frames {
			// The Ethernet header goes into the headroom, the packet where a
			// packet begins.
			f.Reset()
			f.Off = max(0, f.Off-ethLen)
			r.in.set(i, f.Buf[f.Off:])
		}
		got, err := r.s.readBatch(r.in, len(frames), &r.rc)
		if err != nil {
			return 0, fmt.Errorf("read provider interface %s: %w", r.name, err)
		}
		n := 0
		for i := range got {
			if r.take(i, frames[i]) {
				frames[n], frames[i] = frames[i], frames[n]
				n++
			}
		}
		if n > 0 {
			r.rc.frames.Add(uint64(n))
			return n, nil
		}
	}
}

// take makes a packet of message i, which was read into f's buffer.
func (r *ProviderReader) take(i int, f *packet.Frame) bool {
	n, truncated := r.in.length(i)
	if truncated {
		r.rc.truncated.Add(1)
		return false
	}
	f.End = f.Off + n
	if !offload(r.in.vnet[i][:], f, &r.rc) {
		return false
	}
	if !f.TrimFront(ethLen) {
		r.rc.malformed.Add(1)
		return false
	}
	return true
}

// ReadCounters tell of the packets read so far.
func (r *ProviderReader) ReadCounters() ReadCounters {
	r.s.missed(&r.rc)
	return r.rc.snapshot()
}

// Close closes this reader alone, after which its interface can be added again.
func (r *ProviderReader) Close() error {
	r.p.mu.Lock()
	r.p.readers = slices.DeleteFunc(slices.Clone(r.p.readers), func(o *ProviderReader) bool { return o == r })
	r.p.mu.Unlock()
	return r.s.close()
}
