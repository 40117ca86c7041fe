package vfp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// NATPoolOptions say what a pool has to give.
type NATPoolOptions struct {
	Addrs []netip.Addr // of either family, or both; at most MaxPoolAddrs
	Ports PortRange    // and ICMP identifiers; the zero one is 1024 to 65535
	Max   int          // leases at one time; 0: DefaultLeases
	Seed  uint64       // of the order in which they are given; 0: by chance
}

// Bounds of a pool.
const (
	MaxPoolAddrs  = 256
	DefaultLeases = 1 << 16
)

// NATPool gives out addresses and ports for the sources of flows. A pair of them
// is in use once at a time for each protocol and remote end, so that one
// address serves many flows (RFC 4787 section 4.1, address- and port-dependent
// mapping). It may be used by any number of goroutines.
type NATPool struct {
	opt    NATPoolOptions
	v4, v6 []netip.Addr

	mu      sync.Mutex
	rand    *rand.Rand
	shelves map[shelfKey]*shelf
	leases  int
}

// Lease is an address and port out of a pool; the zero Lease is none.
type Lease struct {
	Pool   *NATPool
	Proto  uint8
	Source netip.AddrPort // port 0 for protocols that have none
	Remote netip.AddrPort
}

// NewNATPool makes a pool, or says what is wrong with the options.
func NewNATPool(o NATPoolOptions) (*NATPool, error) {
	if o.Ports == (PortRange{}) {
		o.Ports = PortRange{1024, 65535}
	}
	if o.Max <= 0 {
		o.Max = DefaultLeases
	}
	if o.Ports.Lo == 0 || o.Ports.Lo > o.Ports.Hi {
		return nil, fmt.Errorf("NAT pool: the ports %d-%d are no range within 1 to 65535", o.Ports.Lo, o.Ports.Hi)
	}
	if n := len(o.Addrs); n == 0 || n > MaxPoolAddrs {
		return nil, fmt.Errorf("NAT pool: it has %d addresses, and needs 1 to %d", n, MaxPoolAddrs)
	}
	p := &NATPool{opt: o, shelves: map[shelfKey]*shelf{}}
	for _, a := range o.Addrs {
		switch {
		case !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			return nil, fmt.Errorf("NAT pool: %s is no station's address", a)
		case slices.Contains(p.v4, a) || slices.Contains(p.v6, a):
			return nil, fmt.Errorf("NAT pool: the address %s is named twice", a)
		case a.Is4():
			p.v4 = append(p.v4, a)
		default:
			p.v6 = append(p.v6, a)
		}
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	p.opt.Seed, p.rand = o.Seed, rand.New(rand.NewPCG(o.Seed, o.Seed))
	return p, nil
}

// serves tells whether the pool has addresses of the IP version.
func (p *NATPool) serves(version uint8) bool {
	return version == 4 && len(p.v4) > 0 || version == 6 && len(p.v6) > 0
}

// addrs are those of the remote end's family.
func (p *NATPool) addrs(remote netip.Addr) []netip.Addr {
	if remote.Is4() {
		return p.v4
	}
	return p.v6
}

// ports are those that leases of the protocol may have.
func (p *NATPool) ports(proto uint8) PortRange {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6:
		return p.opt.Ports
	}
	return PortRange{} // one place, with no port
}

// Allocate gives an address and a port that no other flow of the protocol to the
// remote end has, until Release: one by chance, or the next free one (RFC 6056
// section 3.3.1). The remote port is 0 for ICMP, whose identifiers are given as
// ports, and for protocols without ports. False if there is none left, or the
// pool has as many leases as it may.
func (p *NATPool) Allocate(proto uint8, remote netip.AddrPort) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allocate(proto, remote, p.rand.Uint64())
}

// allocate tries all addresses, from the one that first points to.
func (p *NATPool) allocate(proto uint8, remote netip.AddrPort, first uint64) (netip.AddrPort, bool) {
	addrs := p.addrs(remote.Addr())
	if p.leases >= p.opt.Max {
		return netip.AddrPort{}, false
	}
	ports := p.ports(proto)
	for i := range uint64(len(addrs)) {
		k := shelfKey{addrs[(first+i)%uint64(len(addrs))], remote, proto}
		s := p.shelves[k]
		if s == nil {
			s = &shelf{size: uint32(ports.Hi-ports.Lo) + 1}
			p.shelves[k] = s
		}
		if s.held == s.size {
			continue
		}
		port := ports.Lo + uint16(s.take(p.rand.Uint32N(s.size)))
		p.leases++
		return netip.AddrPortFrom(k.source, port), true
	}
	return netip.AddrPort{}, false
}

// Release gives a pair back. False if it was not out.
func (p *NATPool) Release(proto uint8, source, remote netip.AddrPort) bool {
	ports := p.ports(proto)
	k := shelfKey{source.Addr(), remote, proto}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shelves[k]
	if s == nil || source.Port() < ports.Lo || !s.put(uint32(source.Port()-ports.Lo)) {
		return false
	}
	p.leases--
	if s.held == 0 {
		delete(p.shelves, k)
	}
	return true
}

// Len is the number of leases.
func (p *NATPool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leases
}

// lease gives the flow that begins with a packet its source. Of ICMP only echo
// requests begin one: errors belong to the flow of what they quote. One station
// gets one address as long as that has ports (RFC 4787 section 4.1, paired).
func (p *NATPool) lease(h *packet.Headers) (Lease, bool) {
	if (h.Proto == packet.ProtoICMP || h.Proto == packet.ProtoICMPv6) && !h.IsEchoRequest() {
		return Lease{}, false
	}
	l := Lease{Pool: p, Proto: h.Proto, Remote: netip.AddrPortFrom(h.Dst, h.DstPort)}
	src := wideAddr(h.Src)
	first := (src.hi ^ src.lo ^ p.opt.Seed) * 0x9e3779b97f4a7c15 >> 32 // Fibonacci hashing
	p.mu.Lock()
	defer p.mu.Unlock()
	var ok bool
	l.Source, ok = p.allocate(l.Proto, l.Remote, first)
	return l, ok
}

// Release gives the lease back to its pool. The zero Lease, and one that was
// released before, are none.
func (l *Lease) Release() {
	if l.Pool != nil {
		l.Pool.Release(l.Proto, l.Source, l.Remote)
	}
}

// transposition is what the lease does to the packets of its flow.
func (l *Lease) transposition() Transposition {
	t := Transposition{Set: SetSrc, NewSrc: l.Source.Addr()}
	if l.Source.Port() != 0 {
		t.Set |= SetSrcPort
		t.NewSrcPort = l.Source.Port()
	}
	return t
}
