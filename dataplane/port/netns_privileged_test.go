//go:build privileged && linux

package port

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// netns is a namespace without a name: it goes with the process, however that
// ends.
type netns struct {
	t testing.TB
	f *os.File
}

// onThread runs fn on a thread that is thrown away afterwards.
func onThread(fn func() error) error {
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		errc <- fn()
	}()
	return <-errc
}

func newNetns(t testing.TB) *netns {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root")
	}
	n := &netns{t: t}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.f.Close() })
	n.ip("link set lo up")
	return n
}

func (n *netns) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.f.Fd()) }

// do runs fn inside the namespace; it is fit for the option Do.
func (n *netns) do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// must is do, for what cannot fail.
func (n *netns) must(fn func() error) {
	n.t.Helper()
	if err := n.do(fn); err != nil {
		n.t.Fatal(err)
	}
}

func (n *netns) run(args ...string) {
	n.t.Helper()
	n.output(args...)
}

func (n *netns) output(args ...string) string {
	n.t.Helper()
	var out []byte
	n.must(func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
	return string(out)
}

func (n *netns) ip(args string) {
	n.t.Helper()
	n.run(append([]string{"ip"}, strings.Fields(args)...)...)
}

// lastIndex makes the indexes of interfaces different. The kernel takes ends of
// one index for one device without a peer, and lets their carrier wait.
var lastIndex atomic.Int64

// veth joins a and b by a pair of interfaces that carry frames, without an IPv6
// address to announce.
func veth(a *netns, aName, aMAC string, b *netns, bName, bMAC string) {
	a.t.Helper()
	a.ip(fmt.Sprintf("link add name %s index %d address %s type veth peer name %s index %d address %s netns %s",
		aName, 1000+lastIndex.Add(1), aMAC, bName, 1000+lastIndex.Add(1), bMAC, b.path()))
	a.ip("link set " + aName + " addrgenmode none up")
	b.ip("link set " + bName + " addrgenmode none up")
	// Until the kernel has dealt with the carrier, frames are dropped silently.
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		var flags net.Flags
		a.must(func() error {
			i, err := net.InterfaceByName(aName)
			if err == nil {
				flags = i.Flags
			}
			return err
		})
		if flags&net.FlagRunning != 0 {
			break
		}
		if time.Since(start) > time.Minute {
			a.t.Fatalf("%s does not come up", aName)
		}
	}
	a.ip("link set " + aName + " up") // waits for the lock under which that happens
}

const (
	macA = "02:00:00:00:00:0a"
	macB = "02:00:00:00:00:0b"
	macC = "02:00:00:00:00:0c"
	macD = "02:00:00:00:00:0d"
)

// pair gives two namespaces joined by the interfaces va and vb.
func pair(t testing.TB) (a, b *netns) {
	t.Helper()
	a, b = newNetns(t), newNetns(t)
	veth(a, "va", macA, b, "vb", macB)
	return a, b
}

func frameList(n int) []*packet.Frame {
	out := make([]*packet.Frame, n)
	for i := range out {
		out[i] = packet.NewFrame(packet.MaxPacket + 64)
	}
	return out
}

func openLink(t testing.TB, n *netns, name string, o LinkOptions) *Link {
	t.Helper()
	o.Do = n.do
	l, err := OpenLink(name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func openProvider(t testing.TB, n *netns, o ProviderOptions) *Provider {
	t.Helper()
	o.Do = n.do
	p, err := OpenProvider(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

type reader interface {
	ReadBatch([]*packet.Frame) (int, error)
}

// collect reads until n frames that keep wants have come, or time is up.
func collect(t testing.TB, r interface {
	reader
	Close() error
}, n int, keep func([]byte) bool) [][]byte {
	t.Helper()
	expire := time.AfterFunc(time.Minute, func() { _ = r.Close() })
	defer expire.Stop()
	var out [][]byte
	for fs := frameList(8); len(out) < n; {
		got, err := r.ReadBatch(fs)
		if err != nil {
			t.Errorf("after %d of %d frames: %v", len(out), n, err)
			return out
		}
		for _, f := range fs[:got] {
			if keep == nil || keep(f.Bytes()) {
				out = append(out, append([]byte(nil), f.Bytes()...))
			}
		}
	}
	return out
}

func frameOf(b []byte) *packet.Frame {
	f := packet.NewFrame(len(b))
	f.Set(b)
	return f
}

// stream sends n pseudo-random bytes from one namespace to a listener in the
// other and compares what arrives.
func stream(t *testing.T, from, to *netns, addr netip.Addr, n int64) {
	t.Helper()
	var l net.Listener
	to.must(func() (err error) { l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String()); return err })
	defer l.Close()
	got := make(chan [32]byte, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		h := sha256.New()
		if m, err := io.Copy(h, c); err != nil || m != n {
			t.Errorf("received %d of %d bytes: %v", m, n, err)
			return
		}
		got <- [32]byte(h.Sum(nil))
	}()
	var c net.Conn
	from.must(func() (err error) { c, err = net.DialTimeout("tcp", l.Addr().String(), time.Minute); return err })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	h := sha256.New()
	src := io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
	if _, err := io.Copy(io.MultiWriter(c, h), src); err != nil {
		t.Errorf("send: %v", err)
	}
	c.Close()
	if sum, ok := <-got; ok && sum != [32]byte(h.Sum(nil)) {
		t.Error("the bytes received are not those sent")
	}
}
