//go:build privileged && linux

package port

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// experimental frames carry a local experimental EtherType, which no kernel
// answers.
func experimental(n int, mark byte) []byte {
	b := make([]byte, n)
	copy(b, []byte{2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a, 0x88, 0xb5, mark})
	for i := 15; i < n; i++ {
		b[i] = byte(i * 7)
	}
	return b
}

func isExperimental(b []byte) bool { return b[12] == 0x88 && b[13] == 0xb5 }

func TestLinkEcho(t *testing.T) {
	na, nb := pair(t)
	na.ip("link set va mtu 9000")
	nb.ip("link set vb mtu 9000")
	a, b := openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{Batch: 16, Promiscuous: true})
	done := make(chan error, 1)
	go func() { // turns the addresses round and sends back
		for fs := frameList(16); ; {
			n, err := b.ReadBatch(fs)
			if err != nil {
				done <- err
				return
			}
			for _, f := range fs[:n] {
				p := f.Bytes()
				for i := range 6 {
					p[i], p[6+i] = p[6+i], p[i]
				}
			}
			if sent, err := b.WriteBatch(fs[:n]); sent != n || err != nil {
				t.Errorf("echo: sent %d of %d: %v", sent, n, err)
			}
		}
	}()
	var sent []*packet.Frame
	var want [][]byte
	for i, n := range []int{15, 60, 61, 64, 1514, 1515, 9014} {
		for j := range 20 { // more than a batch in all
			p := experimental(n, byte(i*20+j))
			sent = append(sent, frameOf(p))
			want = append(want, append(append(bytes.Clone(p[6:12]), p[:6]...), p[12:]...))
		}
	}
	// Frames that cannot be sent do not stop those behind them.
	bad := frameOf(experimental(60, 0))
	bad.Offload = packet.Offload{NeedsCsum: true, CsumStart: 59}
	sent = append([]*packet.Frame{bad, frameOf(make([]byte, 13)), frameOf(experimental(9015, 0))}, sent...)
	if n, err := a.WriteBatch(sent); n != len(want) || err != nil {
		t.Fatalf("sent %d of %d: %v", n, len(want), err)
	}
	wc := a.WriteCounters()
	if wc.Frames != uint64(len(want)) || wc.Refused != 2 || len(wc.Errors) != 1 || wc.Errors["EMSGSIZE"] != 1 {
		t.Errorf("counters: %+v", wc)
	}
	got := collect(t, a, len(want), isExperimental)
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d came back as %x\nwant %x", i, got[i], want[i])
		}
	}
	_ = b.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reader ended with %v", err)
	}
}

// The kernel takes the outermost tag out of every frame it receives.
func TestLinkRestoresVLANTag(t *testing.T) {
	na, nb := pair(t)
	a, b := openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{})
	tagged := func(tags ...byte) []byte {
		p := experimental(100, 1)
		return append(append(bytes.Clone(p[:12]), tags...), p[12:]...)
	}
	var sent []*packet.Frame
	for _, p := range [][]byte{
		tagged(0x81, 0, 5<<5, 100),
		tagged(0x88, 0xa8, 0, 7, 0x81, 0, 0, 100),
		tagged(0x81, 0, 0, 0), // priority only
		tagged(),
	} {
		f := frameOf(p)
		// With a checksum that is left to the device.
		f.Offload = packet.Offload{NeedsCsum: true, CsumStart: uint16(len(p) - 40), CsumOffset: 10}
		sent = append(sent, f)
	}
	if n, err := a.WriteBatch(sent); n != len(sent) || err != nil {
		t.Fatalf("sent %d: %v", n, err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = b.Close() }).Stop()
	for i, fs := 0, frameList(1); i < len(sent); {
		if _, err := b.ReadBatch(fs); err != nil {
			t.Fatalf("after %d frames: %v", i, err)
		}
		if !bytes.Contains(fs[0].Bytes(), []byte{0x88, 0xb5, 1}) {
			continue
		}
		if !bytes.Equal(fs[0].Bytes(), sent[i].Bytes()) {
			t.Errorf("frame %d arrived as %x\nwant %x", i, fs[0].Bytes(), sent[i].Bytes())
		}
		if fs[0].Offload != sent[i].Offload {
			t.Errorf("frame %d arrived with %+v, want %+v", i, fs[0].Offload, sent[i].Offload)
		}
		i++
	}
}

func TestLinkDropsWhatDoesNotFit(t *testing.T) {
	na, nb := pair(t)
	a, b := openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{})
	fs := []*packet.Frame{frameOf(experimental(60, 1)), frameOf(experimental(201, 2)), frameOf(experimental(200, 3))}
	if n, err := a.WriteBatch(fs); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	small := []*packet.Frame{packet.NewFrame(200), packet.NewFrame(200), packet.NewFrame(200)}
	n, err := b.ReadBatch(small)
	if n != 2 || err != nil || small[0].Bytes()[14] != 1 || small[1].Bytes()[14] != 3 || small[0] == small[1] || small[1] == small[2] {
		t.Errorf("read %d frames: %v", n, err)
	}
	if c := b.ReadCounters(); c.Frames != 2 || c.Truncated != 1 {
		t.Errorf("counters: %+v", c)
	}
}

// A kernel's TCP stream is carried over a wire that is this program: from one
// port to another, with and without segmentation left to the device.
func TestLinkCarriesTCP(t *testing.T) {
	for _, tso := range []string{"on", "off"} {
		for _, fam := range []struct{ name, a, b string }{{"IPv4", "10.0.0.1/24", "10.0.0.2/24"}, {"IPv6", "fd00::1/64", "fd00::2/64"}} {
			t.Run(fam.name+", TSO "+tso, func(t *testing.T) {
				left, right, gw := newNetns(t), newNetns(t), newNetns(t)
				veth(left, "va", macA, gw, "wa", macC)
				veth(right, "vb", macB, gw, "wb", macD)
				var nodad string
				if fam.name == "IPv6" {
					nodad = " nodad"
				}
				left.ip("address add " + fam.a + " dev va" + nodad)
				right.ip("address add " + fam.b + " dev vb" + nodad)
				left.run("ethtool", "-K", "va", "tso", tso, "gso", tso, "tx", tso)
				right.run("ethtool", "-K", "vb", "tso", tso, "gso", tso, "tx", tso)
				w := newWire(t, openLink(t, gw, "wa", LinkOptions{}), openLink(t, gw, "wb", LinkOptions{}))
				a, b := netip.MustParsePrefix(fam.a).Addr(), netip.MustParsePrefix(fam.b).Addr()
				stream(t, left, right, b, 32<<20)
				stream(t, right, left, a, 8<<20)
				w.stop()
				if got := w.super.Load() > 0; got != (tso == "on") {
					t.Errorf("%d super-packets were seen, the longest frame had %d bytes", w.super.Load(), w.longest.Load())
				}
				if got := w.partial.Load() > 0; got != (tso == "on") {
					t.Errorf("%d frames came with a partial checksum", w.partial.Load())
				}
				if tso == "off" && w.longest.Load() > 1514 {
					t.Errorf("a frame had %d bytes", w.longest.Load())
				}
			})
		}
	}
}

// wire passes all frames of one Link to the other, both ways.
type wire struct {
	a, b                    *Link
	wg                      sync.WaitGroup
	super, partial, longest atomic.Int64
}

func newWire(t *testing.T, a, b *Link) *wire {
	w := &wire{a: a, b: b}
	for _, d := range [][2]*Link{{a, b}, {b, a}} {
		w.wg.Go(func() {
			for fs := frameList(DefaultBatch); ; {
				n, err := d[0].ReadBatch(fs)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
				for _, f := range fs[:n] {
					if f.Offload.GSO != packet.GSONone {
						w.super.Add(1)
					}
					if f.Offload.NeedsCsum {
						w.partial.Add(1)
					}
					w.longest.Store(max(w.longest.Load(), int64(f.Len())))
				}
				if _, err := d[1].WriteBatch(fs[:n]); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

func (w *wire) stop() {
	_ = w.a.Close()
	_ = w.b.Close()
	w.wg.Wait()
}

// Datagrams that an application hands over as one piece arrive as one, are
// passed on as one, and are read apart again.
func TestLinkCarriesUDPSegments(t *testing.T) {
	left, right, gw := newNetns(t), newNetns(t), newNetns(t)
	veth(left, "va", macA, gw, "wa", macC)
	veth(right, "vb", macB, gw, "wb", macD)
	left.ip("address add 10.0.0.1/24 dev va")
	right.ip("address add 10.0.0.2/24 dev vb")
	w := newWire(t, openLink(t, gw, "wa", LinkOptions{}), openLink(t, gw, "wb", LinkOptions{}))
	var in, out *net.UDPConn
	right.must(func() (err error) {
		in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.2:9000")))
		return err
	})
	defer in.Close()
	left.must(func() (err error) {
		out, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.2:9000")))
		return err
	})
	defer out.Close()
	rc, _ := out.SyscallConn()
	_ = rc.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000); err != nil {
			t.Error(err)
		}
	})
	sent := make([]byte, 20*1000+500)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	if _, err := out.Write(sent); err != nil {
		t.Fatal(err)
	}
	_ = in.SetReadDeadline(time.Now().Add(time.Minute))
	var got []byte
	for b := make([]byte, 2000); len(got) < len(sent); {
		n, err := in.Read(b)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		if n > 1000 {
			t.Errorf("a datagram of %d bytes", n)
		}
		got = append(got, b[:n]...)
	}
	if !bytes.Equal(got, sent) {
		t.Error("the bytes received are not those sent")
	}
	if w.super.Load() == 0 {
		t.Error("no super-packet was seen")
	}
}

// What the machine itself sends out of the interface is not read.
func TestLinkIgnoresWhatGoesOut(t *testing.T) {
	na, nb := pair(t)
	l, other, peer := openLink(t, na, "va", LinkOptions{}), openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{})
	for i, w := range []*Link{other, peer} {
		if n, err := w.WriteBatch([]*packet.Frame{frameOf(experimental(60, byte(i)))}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := collect(t, l, 1, isExperimental); len(got) != 1 || got[0][14] != 1 {
		t.Errorf("read %x", got)
	}
}

func TestLinkConcurrentWriters(t *testing.T) {
	na, nb := pair(t)
	a, b := openLink(t, na, "va", LinkOptions{Batch: 8}), openLink(t, nb, "vb", LinkOptions{ReadBuffer: 64 << 20})
	const writers, batches, size = 4, 50, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			fs := make([]*packet.Frame, size)
			for i := range batches {
				for j := range fs {
					fs[j] = frameOf(append(experimental(15, byte(w)), byte(i), byte(j)))
				}
				if n, err := a.WriteBatch(fs); n != size || err != nil {
					t.Errorf("writer %d sent %d of %d: %v", w, n, size, err)
				}
			}
		})
	}
	seen := make(map[string]bool)
	for _, p := range collect(t, b, writers*batches*size, isExperimental) {
		seen[string(p)] = true
	}
	wg.Wait()
	if len(seen) != writers*batches*size {
		t.Errorf("%d different frames arrived, want %d", len(seen), writers*batches*size)
	}
}

// What the reader is too slow for is counted, and does not hold up the writer.
func TestLinkCountsMissedFrames(t *testing.T) {
	na, nb := pair(t)
	a, b := openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{ReadBuffer: 1})
	f := frameOf(experimental(1000, 0))
	for range 500 {
		if n, err := a.WriteBatch([]*packet.Frame{f}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	var c ReadCounters
	for deadline := time.Now().Add(time.Minute); c.Missed == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		c = b.ReadCounters()
	}
	if c.Missed == 0 || c.Missed > 500 {
		t.Errorf("counters: %+v", c)
	}
}

func TestOpenLinkRefuses(t *testing.T) {
	n := newNetns(t)
	n.ip("tuntap add tun0 mode tun")
	for name, want := range map[string]string{
		"":                 "open port : not an interface name: 1 to 15 characters are allowed",
		"sixteencharacter": "open port sixteencharacter: not an interface name: 1 to 15 characters are allowed",
		"nosuch":           "open port nosuch: there is no such interface in this network namespace: no such device",
		"tun0":             "open port tun0: not an Ethernet interface (its hardware type is 65534)",
	} {
		l, err := OpenLink(name, LinkOptions{Do: n.do})
		if err == nil {
			_ = l.Close()
		}
		if got := fmt.Sprint(err); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	fail := errors.New("no way in")
	if _, err := OpenLink("lo", LinkOptions{Do: func(func() error) error { return fail }}); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
}
