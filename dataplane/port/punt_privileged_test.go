//go:build privileged && linux

package port

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func openPunt(t *testing.T, n *netns, name string, o PuntOptions) *PuntReader {
	t.Helper()
	o.Do = n.do
	r, err := OpenPunt(name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

type read struct {
	Punt
	packet []byte
	o      packet.Offload
}

// readPunts reads n packets.
func readPunts(t *testing.T, r *PuntReader, n int) (out []read) {
	t.Helper()
	defer time.AfterFunc(time.Minute, func() { _ = r.Close() }).Stop()
	for fs, punts := frameList(3), make([]Punt, 3); len(out) < n; {
		got, err := r.ReadBatch(fs, punts)
		if err != nil {
			t.Fatalf("after %d of %d packets: %v", len(out), n, err)
		}
		for i, f := range fs[:got] {
			out = append(out, read{punts[i], bytes.Clone(f.Bytes()), f.Offload})
		}
	}
	return out
}

// What programs put on one end is read on the other as it was, by the reader of
// its queue and of its tenant's share.
func TestPuntReader(t *testing.T) {
	na, nb := pair(t)
	a := openLink(t, na, "va", LinkOptions{})
	odd := openPunt(t, nb, "vb", PuntOptions{})
	bulk := [2]*PuntReader{
		openPunt(t, nb, "vb", PuntOptions{Queue: PuntBulk, Of: 2}), openPunt(t, nb, "vb", PuntOptions{Queue: PuntBulk, Share: 1, Of: 2}),
	}
	eth := experimental(60, 1)[:ethLen]
	// Super-packets cannot be made here: from a socket, the kernel cuts them by
	// their EtherType. From a program it does not.
	partial := packet.Offload{NeedsCsum: true, CsumStart: 14 + 20, CsumOffset: 16}

	var sent []*packet.Frame
	want := map[*PuntReader][]read{}
	send := func(p Punt, frame []byte, o packet.Offload, by *PuntReader) {
		f := frameOf(punted(p, frame))
		f.Offload = o
		if o.NeedsCsum {
			f.Offload.CsumStart += puntLen
		}
		sent = append(sent, f)
		if by == nil {
			return
		}
		if p.Origin == PuntFabric {
			frame = frame[ethLen:]
			o.CsumStart = uint16(max(0, int(o.CsumStart)-ethLen))
		}
		want[by] = append(want[by], read{p, frame, o})
	}
	for i := range uint32(40) {
		send(Punt{Why: uint8(i), Origin: PuntPort, Ifindex: i, Tenant: 2 * i}, experimental(60+int(i), 1), packet.Offload{}, odd)
		send(Punt{Origin: PuntFabric, Queue: PuntBulk, Ifindex: i, Tenant: i}, experimental(60, byte(i)), packet.Offload{}, bulk[i%2])
	}
	send(Punt{Origin: PuntPort, Queue: PuntBulk, Tenant: 4}, experimental(1000, 3), partial, bulk[0])
	send(Punt{Origin: PuntFabric, Queue: PuntBulk, Tenant: 5}, experimental(1000, 4), partial, bulk[1])
	send(Punt{Origin: PuntPort}, eth[:13], packet.Offload{}, nil) // a runt
	if n, err := a.WriteBatch(sent); n != len(sent) || err != nil {
		t.Fatalf("sent %d of %d: %v", n, len(sent), err)
	}
	for r, list := range want {
		for i, got := range readPunts(t, r, len(list)) {
			w := list[i]
			got.o.HdrLen = 0 // a hint of the kernel's own
			if got.Punt != w.Punt || !bytes.Equal(got.packet, w.packet) || got.o != w.o {
				t.Fatalf("packet %d is %+v %+v of %d bytes, want %+v %+v of %d", i, got.Punt, got.o, len(got.packet), w.Punt, w.o, len(w.packet))
			}
		}
	}
	if c := bulk[0].ReadCounters(); c.Frames != uint64(len(want[bulk[0]])) || c.Malformed != 0 {
		t.Errorf("counters: %+v", c)
	}
	// The runt was the last that its reader got.
	if n, err := a.WriteBatch([]*packet.Frame{frameOf(punted(Punt{Origin: PuntPort}, experimental(60, 2)))}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	readPunts(t, odd, 1)
	if c := odd.ReadCounters(); c.Malformed != 1 {
		t.Errorf("counters: %+v, want one malformed", c)
	}
}

func TestPuntReaderEnds(t *testing.T) {
	na, nb := pair(t)
	r, gone := openPunt(t, nb, "vb", PuntOptions{}), openPunt(t, nb, "vb", PuntOptions{})
	errc := make(chan error, 1)
	wait := func(r *PuntReader) {
		_, err := r.ReadBatch(frameList(1), make([]Punt, 1))
		errc <- err
	}
	go wait(r)
	wantNoError(t, errc, 20*time.Millisecond)
	_ = r.Close()
	wantError(t, errc, net.ErrClosed)
	go wait(gone)
	na.ip("link delete va")
	wantError(t, errc, ErrGone)
	if _, err := OpenPunt("vb", PuntOptions{Do: nb.do}); err == nil {
		t.Error("a link that is gone was opened")
	}
}

// A Link that is only written to gets nothing, still learns of its interface's
// end, and can be made to read, and not to, at any time.
func TestWriteOnlyLink(t *testing.T) {
	t.Run("reads", func(t *testing.T) { testWriteOnlyLink(t, func(l *Link) reader { return l }) })
	t.Run("waits", func(t *testing.T) { testWriteOnlyLink(t, func(l *Link) reader { return waiting{l} }) })
}

// waiting waits where there is nothing to read, without frames.
type waiting struct{ *Link }

func (w waiting) ReadBatch(frames []*packet.Frame) (int, error) {
	if w.Quiet() {
		if err := w.Wait(); err != nil {
			return 0, err
		}
	}
	return w.Link.ReadBatch(frames)
}

func testWriteOnlyLink(t *testing.T, by func(*Link) reader) {
	na, nb := pair(t)
	a, b := openLink(t, na, "va", LinkOptions{WriteOnly: true}), openLink(t, nb, "vb", LinkOptions{})
	frames := make(chan []byte, 64)
	errc := readUntilError(by(a), frames)
	send := func(mark byte) {
		t.Helper()
		if n, err := b.WriteBatch([]*packet.Frame{frameOf(experimental(60, mark))}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	next := func() byte {
		select {
		case b := <-frames:
			return b[14]
		case <-time.After(time.Minute):
			t.Fatal("no frame arrives")
			return 0
		}
	}
	send(1)
	if n, err := a.WriteBatch([]*packet.Frame{frameOf(experimental(60, 9))}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := collect(t, b, 1, isExperimental); len(got) != 1 || got[0][14] != 9 {
		t.Fatalf("the other end got %x", got)
	}
	for i := range byte(3) {
		if err := a.SetWriteOnly(false); err != nil {
			t.Fatal(err)
		}
		send(10 + i)
		if mark := next(); mark != 10+i {
			t.Fatalf("frame %d was read, want %d", mark, 10+i)
		}
		if err := a.SetWriteOnly(true); err != nil {
			t.Fatal(err)
		}
		send(20 + i)
	}
	wantNoError(t, errc, 0)
	na.ip("link set va down")
	wantNoError(t, errc, 3*downPoll)
	na.ip("link set va up")
	na.ip("link delete va")
	wantError(t, errc, ErrGone)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.SetWriteOnly(false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed link: %v", err)
	}
}
