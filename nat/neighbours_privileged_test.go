//go:build privileged && linux

package nat

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// A VM that tries all addresses of a network takes few places of the kernel's table
// of neighbours, which all namespaces share, and hosts that are spoken with stay
// reachable meanwhile.
func TestScansAreBounded(t *testing.T) {
	const bound, tried = 16, 200
	l := newWayLab(t, ext1, "2001:db8::10")
	l.spec.OnLink = prefixes("192.168.50.0/24", "fd50::/64")
	l.spec.Neighbours = bound
	l.apply()
	serve(t, l.dc, "tcp", dcHost+":80")
	serve(t, l.dc, "tcp", "["+dcHost6+"]:80")
	ask := func() {
		t.Helper()
		l.wantSeen(l.inside, "tcp", vm1, dcHost+":80", vm1)
		l.wantSeen(l.inside, "tcp", vm16, "["+dcHost6+"]:80", vm16)
	}
	ask()
	for i := range tried {
		scan(t, l.inside, vm1, fmt.Sprintf("192.168.50.%d", 20+i))
		scan(t, l.inside, vm16, fmt.Sprintf("fd50::1:%x", i))
	}
	ask()
	dropped := func() bool { return l.drops()[DropNeighbours] >= 2*(tried-bound) }
	eventually(t, "most of the scan is dropped", dropped)
	for _, family := range []string{"-4", "-6"} {
		out := run(t, "ip", "-n", l.comp, family, "neigh", "show", "dev", "fw-dc")
		n := 0
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "fe80:") { // of which there are no more than stations
				n++
			}
		}
		if n > bound || n < 2 {
			t.Errorf("%d neighbours, at most %d may be tried:\n%s", n, bound, out)
		}
	}
	if again := l.apply(); len(again) != 0 {
		t.Errorf("the second apply changed %q", again)
	}
	// The bound changes in place.
	l.spec.Neighbours = 2 * bound
	l.apply()
	ask()
}

// scan sends a datagram to somebody who may not be there.
func scan(t *testing.T, ns, from, to string) {
	t.Helper()
	do(t, ns, func() error {
		c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}).Dial("udp", net.JoinHostPort(to, "9"))
		if err != nil {
			return err
		}
		_, _ = c.Write([]byte("x")) // what is told of the ones before does not matter
		return c.Close()
	})
}

// While one tenant's VM tries all addresses of a /16 again and again, another tenant
// finds hosts that it has not spoken with.
func TestScanLeavesOthersAlone(t *testing.T) {
	scanner, other := newWayLab(t, ext1), newWayLab(t, ext1)
	for _, l := range []*wayLab{scanner, other} {
		run(t, "ip", "-n", l.comp, "addr", "add", "192.168.50.2/16", "dev", "fw-dc")
		l.spec.OnLink = prefixes("192.168.0.0/16")
		l.apply()
	}
	stop, tried := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { tried <- n }()
		var c net.PacketConn
		err := netns.Do(netns.Path(scanner.inside), func() (err error) { c, err = net.ListenPacket("udp", vm1+":0"); return err })
		if err != nil {
			return
		}
		defer c.Close()
		for {
			select {
			case <-stop:
				return
			default:
			}
			to := netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)})
			_, _ = c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
			n++
		}
	}()
	eventually(t, "the scan is held up", func() bool { return scanner.drops()[DropNeighbours] > 10000 })
	for i := range 20 {
		host := fmt.Sprintf("192.168.50.%d", 100+i)
		run(t, "ip", "-n", other.dc, "addr", "add", host+"/24", "dev", "dc0")
		serve(t, other.dc, "tcp", host+":80")
		other.wantSeen(other.inside, "tcp", vm1, host+":80", vm1)
	}
	close(stop)
	if n := <-tried; n < 10000 {
		t.Errorf("only %d addresses were tried", n)
	}
	if out := run(t, "ip", "-n", scanner.comp, "-4", "neigh", "show", "dev", "fw-dc"); strings.Count(out, "\n") > 3*DefaultNeighbours { // on a slow machine some are of minutes before
		t.Errorf("the scan has %d neighbours", strings.Count(out, "\n"))
	}
}
