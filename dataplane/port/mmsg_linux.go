package port

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr: one message of recvmmsg(2) or sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // what was received or sent
}

// recvmmsg and sendmmsg go through the scheduler-aware Syscall6: a batch may
// take the whole network stack with it, and another goroutine should run then.

func recvmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sendmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// auxCmsg is the control message of PACKET_AUXDATA as the kernel lays it out.
type auxCmsg struct {
	hdr unix.Cmsghdr
	aux unix.TpacketAuxdata
}

// recvBatch is what one recvmmsg needs, made once: each message is scattered
// over a virtio_net_hdr and a frame.
type recvBatch struct {
	msgs []mmsghdr
	iovs [][2]unix.Iovec
	vnet [][vnetHdrLen]byte
	aux  []auxCmsg // nil where the VLAN tag is of no interest

	// The call under way; do is bound once, for a closure made for each call
	// would allocate.
	want, got int
	errno     syscall.Errno
	waits     int
	do        func(fd uintptr) bool
}

func newRecvBatch(size int, aux bool) *recvBatch {
	b := &recvBatch{
		msgs: make([]mmsghdr, size),
		iovs: make([][2]unix.Iovec, size),
		vnet: make([][vnetHdrLen]byte, size),
	}
	if aux {
		b.aux = make([]auxCmsg, size)
	}
	for i := range b.msgs {
		b.iovs[i][0].Base = &b.vnet[i][0]
		b.iovs[i][0].SetLen(vnetHdrLen)
		b.msgs[i].hdr.Iov = &b.iovs[i][0]
		b.msgs[i].hdr.SetIovlen(2)
		if aux {
			b.msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&b.aux[i]))
		}
	}
	b.do = b.recv
	return b
}

// set makes message i end up in buf.
func (b *recvBatch) set(i int, buf []byte) {
	b.iovs[i][1].Base = unsafe.SliceData(buf)
	b.iovs[i][1].SetLen(len(buf))
	if b.aux != nil {
		b.aux[i] = auxCmsg{}
		b.msgs[i].hdr.SetControllen(int(unsafe.Sizeof(auxCmsg{})))
	}
}

// recv is called by the poller. Woken up without a frame to read, it gives up
// rather than wait again: the wake-up may be the only sign that something
// happened to the interface.
func (b *recvBatch) recv(fd uintptr) bool {
	b.got, b.errno = recvmmsg(fd, b.msgs[:b.want])
	if b.errno != unix.EAGAIN {
		return true
	}
	b.waits++
	return b.waits > 1
}

// length is that of frame i, and whether it was cut off.
func (b *recvBatch) length(i int) (n int, truncated bool) {
	m := &b.msgs[i]
	return int(m.n) - vnetHdrLen, m.hdr.Flags&unix.MSG_TRUNC != 0
}

// vlan is the tag that was taken out of frame i.
func (b *recvBatch) vlan(i int) (tpid, tci uint16, ok bool) {
	c := &b.aux[i]
	if b.msgs[i].hdr.Controllen == 0 || c.hdr.Level != unix.SOL_PACKET || c.hdr.Type != unix.PACKET_AUXDATA ||
		c.aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, 0, false
	}
	tpid = unix.ETH_P_8021Q
	if c.aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = c.aux.Vlan_tpid
	}
	return tpid, c.aux.Vlan_tci, true
}

// sendBatch is what one sendmmsg needs, made once. AF_PACKET messages gather a
// virtio_net_hdr and a frame; messages of raw IP sockets have a destination, a
// source and one piece.
type sendBatch struct {
	msgs []mmsghdr
	iovs [][2]unix.Iovec
	vnet [][vnetHdrLen]byte
	dst4 []unix.RawSockaddrInet4
	dst6 []unix.RawSockaddrInet6
	// As the messages of one socket have several sources, each says its own in a
	// control message.
	from4 []from4
	from6 []from6
	n     int // messages filled in

	// The call under way; see recvBatch.
	todo  []mmsghdr
	sent  int
	errno syscall.Errno
	do    func(fd uintptr)
}

// from4 and from6 are the control messages as the kernel lays them out.
type (
	from4 struct {
		hdr  unix.Cmsghdr
		info unix.Inet4Pktinfo
	}
	from6 struct {
		hdr  unix.Cmsghdr
		info unix.Inet6Pktinfo
	}
)

func newPacketBatch(size int) *sendBatch {
	b := &sendBatch{
		msgs: make([]mmsghdr, size),
		iovs: make([][2]unix.Iovec, size),
		vnet: make([][vnetHdrLen]byte, size),
	}
	for i := range b.msgs {
		b.iovs[i][0].Base = &b.vnet[i][0]
		b.iovs[i][0].SetLen(vnetHdrLen)
		b.msgs[i].hdr.Iov = &b.iovs[i][0]
		b.msgs[i].hdr.SetIovlen(2)
	}
	b.do = b.send
	return b
}

func newIPBatch(size int, family uint16) *sendBatch {
	b := &sendBatch{
		msgs: make([]mmsghdr, size),
		iovs: make([][2]unix.Iovec, size),
	}
	if family == unix.AF_INET {
		b.dst4, b.from4 = make([]unix.RawSockaddrInet4, size), make([]from4, size)
	} else {
		b.dst6, b.from6 = make([]unix.RawSockaddrInet6, size), make([]from6, size)
	}
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Iov = &b.iovs[i][1]
		h.SetIovlen(1)
		if b.dst4 != nil {
			b.dst4[i].Family = family
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.dst4[i])), unix.SizeofSockaddrInet4
			c := &b.from4[i]
			c.hdr.Level, c.hdr.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
			c.hdr.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
			h.Control = (*byte)(unsafe.Pointer(c))
			h.SetControllen(int(c.hdr.Len))
		} else {
			b.dst6[i].Family = family
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.dst6[i])), unix.SizeofSockaddrInet6
			c := &b.from6[i]
			c.hdr.Level, c.hdr.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
			c.hdr.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
			h.Control = (*byte)(unsafe.Pointer(c))
			h.SetControllen(int(c.hdr.Len))
		}
	}
	b.do = b.send
	return b
}

func (b *sendBatch) full() bool { return b.n == len(b.msgs) }

// add takes the frame as the next message; its virtio_net_hdr or destination
// must be in place.
func (b *sendBatch) add(frame []byte) {
	b.iovs[b.n][1].Base = unsafe.SliceData(frame)
	b.iovs[b.n][1].SetLen(len(frame))
	b.n++
}

func (b *sendBatch) send(fd uintptr) {
	b.sent, b.errno = sendmmsg(fd, b.todo)
}

// pool is a free list. Unlike sync.Pool it keeps what it has across garbage
// collections; it grows to the number of goroutines that ever wrote at once.
type pool[T any] struct {
	mu   sync.Mutex
	free []*T
	make func() *T
}

func (p *pool[T]) get() *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		t := p.free[n-1]
		p.free = p.free[:n-1]
		return t
	}
	return p.make()
}

func (p *pool[T]) put(t *T) {
	p.mu.Lock()
	p.free = append(p.free, t)
	p.mu.Unlock()
}
