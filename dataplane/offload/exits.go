package offload

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"sync"

	dp "github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// Exit is a compartment's way to the outside: the link between it and the
// gateway, and what it is outside.
type Exit struct {
	Link   int     // index of the gateway-side end
	Uplink int     // index of the interface to the outside
	MAC    [6]byte // of the compartment's end
	Peer   [6]byte // of the gateway-side end
	MTU    int     // the greatest IP packet that the link takes
	// External are the addresses, or ranges of their ports, that are the
	// compartment's alone.
	External []hnv.ExternalRange
	// Forwarded are prefixes from which the compartment may send as well. The
	// programs leave these packets, and those to them, to the kernel's forwarding.
	Forwarded []netip.Prefix
	// NAT has established connections translated in the programs; nil leaves them
	// to the compartment.
	NAT *NAT
}

func (e Exit) check() error {
	if e.Link <= 0 || e.Uplink <= 0 || e.MTU <= 0 {
		return fmt.Errorf("exit over interface %d to interface %d with MTU %d: each must be given", e.Link, e.Uplink, e.MTU)
	}
	for _, r := range e.External {
		if !r.Addr.IsValid() || r.Addr.Is4In6() || !r.Whole() && (r.Lo == 0 || r.Hi < r.Lo) {
			return fmt.Errorf("exit over interface %d: external address %s is malformed", e.Link, r)
		}
	}
	for _, p := range e.Forwarded {
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			return fmt.Errorf("exit over interface %d: forwarded prefix %s is malformed", e.Link, p)
		}
	}
	if e.NAT != nil {
		return e.NAT.check()
	}
	return nil
}

// The entries, as bpf/external.h has them.
type (
	externalValue struct {
		Addr         addr
		Link, Uplink uint32
		MTU          uint32
		Lo, Hi       uint16
		MAC, Peer    [6]byte
	}

	shareKey struct {
		Bits uint32
		Addr addr
		Port [2]byte // in network byte order
		Pad  [2]byte
	}

	forwardKey struct {
		Bits uint32
		Link uint32
		Addr addr
	}

	forwardValue struct{ Link uint32 }

	exitCount struct {
		In, Out           count
		NATIn, NATOut     count
		Spoofed, Fragment uint64
	}
)

// exitTables are those that exits writes.
type exitTables struct {
	externals table[addr, externalValue]
	shares    table[shareKey, externalValue]
	forwards  table[forwardKey, forwardValue]
	counts    table[uint32, exitCount] // summed up; put sets all to zero
	nat       *natTables               // nil: connections are not translated
}

// exits keeps the tables of external addresses. They say whose an address is, to
// whom packets are steered and who may send with it: there is nothing that could
// disagree.
//
// Who gets an address or a range has it from then on, whoever had it before. An
// address that is shared is marked so after the ranges are there, and before they
// go.
type exits struct {
	t exitTables

	mu        sync.Mutex
	links     map[uint32]*exit
	externals map[addr]externalValue // as they were written
	shares    map[shareKey]externalValue
	parts     map[addr]int // how many entries of shares an address has
	nats      *nats
	robbed    map[uint32]bool // links that another one has taken something from
	retired   exitCount       // of links that are gone
}

// exit is what a link has in the tables, or had until another one got it.
type exit struct {
	set       bool // by us, not by an earlier process
	externals map[addr]bool
	shares    map[shareKey]bool
	forwards  map[forwardKey]bool
}

// newExits adopts what an earlier process has written.
func newExits(t exitTables, max uint32) (*exits, error) {
	x := &exits{t: t, links: map[uint32]*exit{}, externals: map[addr]externalValue{}, shares: map[shareKey]externalValue{}, parts: map[addr]int{}, robbed: map[uint32]bool{}}
	nats, err := newNATs(t.nat, max)
	x.nats = nats
	err = errors.Join(err,
		t.externals.all(func(a addr, v externalValue) bool {
			x.externals[a] = v
			if v.Link != 0 {
				x.link(v.Link).externals[a] = true
			}
			return true
		}),
		t.shares.all(func(k shareKey, v externalValue) bool {
			x.shares[k] = v
			x.link(v.Link).shares[k] = true
			x.parts[k.Addr]++
			return true
		}),
		t.forwards.all(func(k forwardKey, _ forwardValue) bool {
			x.link(k.Link).forwards[k] = true
			return true
		}))
	if err != nil {
		return nil, fmt.Errorf("read the tables of external addresses: %w", err)
	}
	return x, nil
}

func (x *exits) link(index uint32) *exit {
	e := x.links[index]
	if e == nil {
		e = &exit{externals: map[addr]bool{}, shares: map[shareKey]bool{}, forwards: map[forwardKey]bool{}}
		x.links[index] = e
	}
	return e
}

// Set brings the exit's entries in line: it is all that the link has.
func (x *exits) Set(e Exit) error {
	if err := e.check(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	whole, shared := e.values()
	l := x.link(uint32(e.Link))
	l.set = true
	var errs []error
	if _, there, err := x.t.counts.get(uint32(e.Link)); err != nil {
		return err
	} else if !there {
		errs = append(errs, put(x.t.counts, uint32(e.Link), exitCount{}))
	}
	for k, v := range shared {
		errs = append(errs, x.putShare(k, v))
	}
	for a, v := range whole {
		errs = append(errs, x.putExternal(a, v))
	}
	for k, v := range shared {
		if x.externals[k.Addr].Link != 0 || x.externals[k.Addr].Addr != k.Addr {
			errs = append(errs, x.putExternal(k.Addr, externalValue{Addr: k.Addr, Uplink: v.Uplink}))
		}
	}
	forwards := e.forwards()
	for k := range forwards {
		errs = append(errs, x.putForward(l, k))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	taken, err := x.trim(uint32(e.Link), whole, shared, forwards)
	if err != nil {
		return err
	}
	// Now that nobody may use it any more, what was established with it is looked
	// at anew.
	for link := range x.robbed {
		errs = append(errs, x.nats.anew(link))
	}
	clear(x.robbed)
	return errors.Join(append(errs, x.nats.set(e, taken))...)
}

// Renew has every connection of the exit looked at anew that is translated in the
// programs: what the compartment does not translate any more ends with that.
func (x *exits) Renew(link int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.nats.anew(uint32(link))
}

// Remove takes the link's entries out.
func (x *exits) Remove(link int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.remove(uint32(link))
}

func (x *exits) remove(link uint32) error {
	if _, err := x.trim(link, nil, nil, nil); err != nil {
		return err
	}
	if err := x.nats.remove(link); err != nil {
		return err
	}
	delete(x.links, link)
	n, _, err := x.t.counts.get(link)
	x.retired.add(n)
	return errors.Join(err, erase(x.t.counts, link))
}

// Settle takes out the exits that an earlier process left and that were not set
// since.
func (x *exits) Settle() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for index, l := range x.links {
		if !l.set {
			errs = append(errs, x.remove(index))
		}
	}
	return errors.Join(errs...)
}

// trim takes out what the link has and should not; taken if there was something of
// what is translated to.
func (x *exits) trim(link uint32, whole map[addr]externalValue, shared map[shareKey]externalValue, forwards map[forwardKey]bool) (taken bool, err error) {
	l := x.links[link]
	if l == nil {
		return false, nil
	}
	var errs []error
	for a := range l.externals {
		if _, stays := whole[a]; stays && x.externals[a].Link == link {
			continue
		}
		if x.externals[a].Link == link {
			errs = append(errs, x.eraseExternal(a))
		}
		taken = true
		delete(l.externals, a)
	}
	for k := range l.shares {
		if _, stays := shared[k]; stays && x.shares[k].Link == link {
			continue
		}
		if x.shares[k].Link == link {
			errs = append(errs, x.eraseShare(k))
		}
		taken = true
		delete(l.shares, k)
	}
	for k := range l.forwards {
		if forwards[k] {
			continue
		}
		if err := erase(x.t.forwards, k); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(l.forwards, k)
	}
	return taken, errors.Join(errs...)
}

func (x *exits) putForward(l *exit, k forwardKey) error {
	if l.forwards[k] {
		return nil
	}
	if err := put(x.t.forwards, k, forwardValue{k.Link}); err != nil {
		return err
	}
	l.forwards[k] = true
	return nil
}

func (x *exits) putExternal(a addr, v externalValue) error {
	if was := x.externals[a]; was != v {
		if err := put(x.t.externals, a, v); err != nil {
			return err
		}
		x.externals[a] = v
		if was.Link != 0 && was.Link != v.Link {
			x.robbed[was.Link] = true
		}
	}
	if v.Link != 0 {
		x.link(v.Link).externals[a] = true
	}
	return nil
}

func (x *exits) eraseExternal(a addr) error {
	if err := erase(x.t.externals, a); err != nil {
		return err
	}
	delete(x.externals, a)
	return nil
}

func (x *exits) putShare(k shareKey, v externalValue) error {
	was, there := x.shares[k]
	if !there || was != v {
		if err := put(x.t.shares, k, v); err != nil {
			return err
		}
		x.shares[k] = v
		if there && was.Link != v.Link {
			x.robbed[was.Link] = true
		}
	}
	if !there {
		x.parts[k.Addr]++
	}
	x.link(v.Link).shares[k] = true
	return nil
}

func (x *exits) eraseShare(k shareKey) error {
	// The mark goes first: without it, the address is nobody's.
	if x.parts[k.Addr] == 1 && x.externals[k.Addr].Addr == k.Addr && x.externals[k.Addr].Link == 0 {
		if err := x.eraseExternal(k.Addr); err != nil {
			return err
		}
	}
	if err := erase(x.t.shares, k); err != nil {
		return err
	}
	delete(x.shares, k)
	if x.parts[k.Addr]--; x.parts[k.Addr] == 0 {
		delete(x.parts, k.Addr)
	}
	return nil
}

// Counters gives, by link, what the programs did; under 0 for those that are gone.
func (x *exits) Counters() (map[int]ExitCounters, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[int]ExitCounters{0: x.retired.counters()}
	err := x.t.counts.all(func(link uint32, c exitCount) bool {
		out[int(link)] = c.counters()
		return true
	})
	return out, err
}

func (c exitCount) counters() ExitCounters {
	return ExitCounters{dp.Traffic(c.In), dp.Traffic(c.Out), dp.Traffic(c.NATIn), dp.Traffic(c.NATOut), c.Spoofed, c.Fragment}
}

// ExitCounters are those of one exit. A super-packet counts as one packet.
type ExitCounters struct {
	In, Out       dp.Traffic // what the programs passed to and from the compartment; IP packets' bytes
	NATIn, NATOut dp.Traffic // what they translated, past the compartment
	Spoofed       uint64     // not let out: not from an external address, or port, of its own
	Fragment      uint64     // not let out: from an address of which it has a part: a fragment has no port
}

func (c *exitCount) add(o exitCount) {
	for _, f := range []struct {
		to *count
		count
	}{{&c.In, o.In}, {&c.Out, o.Out}, {&c.NATIn, o.NATIn}, {&c.NATOut, o.NATOut}} {
		f.to.Packets += f.Packets
		f.to.Bytes += f.Bytes
	}
	c.Spoofed += o.Spoofed
	c.Fragment += o.Fragment
}

// enum exit_drop of bpf/external.h.
const (
	exitSpoofed  = 1
	exitFragment = 2
)

// values gives the exit's entries. Where it has all of an address, parts of that
// mean nothing.
func (e Exit) values() (whole map[addr]externalValue, shared map[shareKey]externalValue) {
	whole, shared = map[addr]externalValue{}, map[shareKey]externalValue{}
	v := externalValue{Link: uint32(e.Link), Uplink: uint32(e.Uplink), MTU: uint32(e.MTU), MAC: e.MAC, Peer: e.Peer}
	for _, r := range e.External {
		if r.Whole() {
			v := v
			v.Addr, v.Hi = addrOf(r.Addr), 0xffff
			whole[v.Addr] = v
		}
	}
	for _, r := range e.External {
		v := v
		v.Addr, v.Lo, v.Hi = addrOf(r.Addr), r.Lo, r.Hi
		if _, all := whole[v.Addr]; all {
			continue
		}
		for _, k := range shareKeys(r.Addr, r.Lo, r.Hi) {
			shared[k] = v
		}
	}
	return whole, shared
}

// forwards gives the keys of the exit's forwarded prefixes.
func (e Exit) forwards() map[forwardKey]bool {
	out := map[forwardKey]bool{}
	for _, p := range e.Forwarded {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		out[forwardKey{Bits: linkBits + uint32(bits), Link: uint32(e.Link), Addr: addrOf(p.Addr())}] = true
	}
	return out
}

// shareKeys cuts a range of ports into prefixes of their numbers.
func shareKeys(a netip.Addr, lo, hi uint16) []shareKey {
	var out []shareKey
	for at, end := uint32(lo), uint32(hi)+1; at < end; {
		free := bits.TrailingZeros32(at | 1<<16) // how many bits may vary from here on
		free = min(free, bits.Len32(end-at)-1)   // and before the end
		out = append(out, shareKey{Bits: shareBits - uint32(free), Addr: addrOf(a), Port: [2]byte{byte(at >> 8), byte(at)}})
		at += 1 << free
	}
	return out
}

// linkBits is how many bits of a forwardKey the link has.
const linkBits = 32

// shareBits is how many bits the key of a single port has: SHARE_BITS.
const shareBits = 128 + 16
