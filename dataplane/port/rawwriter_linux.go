package port

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// DefaultFabricBuffer is what packets to the fabric may fill before the rest of
// a batch is dropped. All tenants share it, and what waits for a neighbour that
// does not answer stays in it for seconds. It is more (the kernel doubles it)
// than one packet of the largest size that it then keeps, 9000 bytes in a buffer
// of 16 KiB, for each of the 1024 neighbours that it knows at most; that it keeps
// but one is set on the fabric's interfaces (unres_qlen_bytes).
const DefaultFabricBuffer = 16 << 20

// rawWriter sends IP packets through raw sockets, whose kernel side routes them
// and resolves the neighbours, so that provider addresses beyond routers work
// as well as neighbours do.
type rawWriter struct {
	v4, v6 *socket // v6 is nil on a machine without IPv6
	out    pool[rawBatch]
	ways   atomic.Pointer[ways]
	wc     writeCounters
}

// ways are the interfaces by which packets to multicast groups leave, by their
// source.
type ways map[netip.Addr]uint32

// setWays finds the interfaces of the addresses. The packets of one whose
// interface is not there leave by one that the kernel chooses, if any.
func (w *rawWriter) setWays(a Addresses) {
	out := ways{}
	for _, pa := range slices.Concat(a.Tunnel, a.Rewrite) {
		if pa.Interface == "" {
			continue
		}
		_ = w.v4.control(func(fd int) error { // fails when closed, or without the interface
			index, err := interfaceIndex(fd, pa.Interface)
			if err == nil {
				out[pa.Addr] = uint32(index)
			}
			return err
		})
	}
	w.ways.Store(&out)
}

// rawBatch has a batch for each family.
type rawBatch struct{ v4, v6 *sendBatch }

func (w *rawWriter) open(o ProviderOptions) (err error) {
	w.out.make = func() *rawBatch {
		return &rawBatch{newIPBatch(o.Batch, unix.AF_INET), newIPBatch(o.Batch, unix.AF_INET6)}
	}
	w.v4, err = openRaw(o, unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if err != nil {
		return fmt.Errorf("raw IPv4 socket: %w", err)
	}
	w.v6, err = openRaw(o, unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("raw IPv6 socket: %w", err), w.v4.close())
	}
	return nil
}

// openRaw makes a socket of protocol IPPROTO_RAW, which implies that packets
// bring their own IP header. With PMTUDISC_PROBE the interface's MTU alone is the
// limit: who forges ICMP errors that tell of a smaller one cannot make a host
// unreachable. Packets to a group are not for this machine's own sockets, and
// those of an address that moves between interfaces not to be refused meanwhile.
func openRaw(o ProviderOptions, family, level, pmtu, probe int) (*socket, error) {
	return openSocket(o.Do, family, unix.SOCK_RAW, unix.IPPROTO_RAW, func(fd int) error {
		// It must never hold what it is not asked for.
		if err := attachFilter(fd, []bpf.Instruction{reject}); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, level, pmtu, probe); err != nil {
			return fmt.Errorf("setsockopt MTU_DISCOVER: %w", err)
		}
		loop, free := unix.IP_MULTICAST_LOOP, unix.IP_FREEBIND
		if level == unix.IPPROTO_IPV6 {
			loop, free = unix.IPV6_MULTICAST_LOOP, unix.IPV6_FREEBIND
		}
		if err := unix.SetsockoptInt(fd, level, loop, 0); err != nil {
			return fmt.Errorf("setsockopt MULTICAST_LOOP: %w", err)
		}
		if err := unix.SetsockoptInt(fd, level, free, 1); err != nil {
			return fmt.Errorf("setsockopt FREEBIND: %w", err)
		}
		if o.Mark != 0 {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(o.Mark)); err != nil {
				return fmt.Errorf("setsockopt SO_MARK: %w", err)
			}
		}
		return setBuffers(fd, 0, o.WriteBuffer)
	})
}

func (w *rawWriter) close() error {
	err := w.v4.close()
	if w.v6 != nil {
		err = errors.Join(err, w.v6.close())
	}
	return err
}

func (w *rawWriter) write(frames []*packet.Frame) (int, error) {
	b := w.out.get()
	defer w.out.put(b)
	ways := *w.ways.Load()
	total := 0
	for len(frames) > 0 {
		for len(frames) > 0 && !b.v4.full() && !b.v6.full() {
			if !b.add(frames[0], ways) {
				w.wc.refused.Add(1)
			}
			frames = frames[1:]
		}
		sent, err := w.v4.sendAll(b.v4, &w.wc)
		total += sent
		if w.v6 != nil {
			var err6 error
			sent, err6 = w.v6.sendAll(b.v6, &w.wc)
			total += sent
			err = errors.Join(err, err6)
		} else if b.v6.n > 0 {
			w.wc.errno(unix.EAFNOSUPPORT, b.v6.n)
			b.v6.n = 0
		}
		if err != nil {
			w.wc.refused.Add(uint64(len(frames)))
			return total, err
		}
	}
	return total, nil
}

// add takes a frame into the batch of its family, under the destination that
// its header names, and asks the kernel to route it as from the source there.
func (b *rawBatch) add(f *packet.Frame, ways ways) bool {
	p := f.Bytes()
	if f.Offload.NeedsCsum || f.Offload.GSO != packet.GSONone || len(p) == 0 {
		return false
	}
	const groups4, groups6 = 0xe, 0xff
	switch {
	case p[0]>>4 == 4 && len(p) >= 20:
		from := &b.v4.from4[b.v4.n].info
		copy(from.Spec_dst[:], p[12:16])
		from.Ifindex = 0
		if p[16]>>4 == groups4 {
			from.Ifindex = int32(ways[netip.AddrFrom4([4]byte(p[12:16]))])
		}
		copy(b.v4.dst4[b.v4.n].Addr[:], p[16:20])
		b.v4.add(p)
	case p[0]>>4 == 6 && len(p) >= 40:
		from := &b.v6.from6[b.v6.n].info
		copy(from.Addr[:], p[8:24])
		from.Ifindex = 0
		if p[24] == groups6 {
			from.Ifindex = ways[netip.AddrFrom16([16]byte(p[8:24]))]
		}
		copy(b.v6.dst6[b.v6.n].Addr[:], p[24:40])
		b.v6.add(p)
	default:
		return false
	}
	return true
}
