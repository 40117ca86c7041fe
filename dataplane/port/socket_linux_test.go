package port

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An error that was waiting on the socket, here the ICMP answer to an earlier
// datagram, costs no datagram; one of the datagram itself costs that alone.
func TestSendRetriesAfterQueuedError(t *testing.T) {
	closed, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dst := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = closed.Close()
	s, err := openSocket(nil, unix.AF_INET, unix.SOCK_DGRAM, 0, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrInet4{Port: int(dst.Port()), Addr: dst.Addr().As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var c writeCounters
	b := newIPBatch(4, unix.AF_INET)
	add := func(ap netip.AddrPort) {
		b.dst4[b.n].Addr = ap.Addr().As4()
		b.dst4[b.n].Port = htons(ap.Port())
		b.add([]byte("datagram"))
	}
	for i := range uint64(5) {
		add(dst)
		add(netip.MustParseAddrPort("255.255.255.255:9")) // EACCES
		add(dst)
		if n, err := s.sendAll(b, &c); n != 2 || err != nil {
			t.Fatalf("sent %d: %v", n, err)
		}
		if w := c.snapshot(); w.Frames != 2*i+2 || len(w.Errors) != 1 || w.Errors["EACCES"] != i+1 {
			t.Fatalf("counters: %+v", w)
		}
		// The answer comes before the next round.
		for deadline := time.Now().Add(time.Minute); pendingError(t, s) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("no error on the socket")
			}
			add(dst)
			_, _ = s.sendAll(b, new(writeCounters))
		}
		add(dst)
		_, _ = s.sendAll(b, new(writeCounters))
	}
}

// pendingError takes the error off the socket.
func pendingError(t *testing.T, s *socket) (errno int) {
	t.Helper()
	err := s.control(func(fd int) (err error) {
		errno, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return errno
}

func TestWriteCountersNameErrnos(t *testing.T) {
	var c writeCounters
	c.errno(unix.EMSGSIZE, 2)
	c.errno(unix.ENOBUFS, 1)
	c.errno(unix.EMSGSIZE, 1)
	c.errno(4000, 1)
	s := c.snapshot()
	if len(s.Errors) != 3 || s.Errors["EMSGSIZE"] != 3 || s.Errors["ENOBUFS"] != 1 || s.Errors["unknown"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPoolGivesEachCallerItsOwn(t *testing.T) {
	made := 0
	p := pool[int]{make: func() *int { made++; return new(int) }}
	a, b := p.get(), p.get()
	if a == b {
		t.Error("two callers have the same")
	}
	p.put(a)
	p.put(b)
	c, d := p.get(), p.get()
	if c == d || made != 2 {
		t.Errorf("%d were made", made)
	}
}
