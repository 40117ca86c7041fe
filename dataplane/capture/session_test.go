package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// running starts the session; what it gives ends it and tells how it ended.
func running(t *testing.T, tap *Tap, s *Session) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tap.Run(ctx, s) }()
	synctest.Wait()
	return sync.OnceValue(func() error { cancel(); return <-ended })
}

func comment(k block) string { return string(k.options[optComment]) }

// Two tenants with the same addresses; whoever asks for one does not see the
// other.
func TestSessionSaysWhosePacketItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap Tap
		var file, other bytes.Buffer
		stop := running(t, &tap, must(NewSession(&file, Options{Application: "test"})))
		stop2 := running(t, &tap, must(NewSession(&other, Options{Filter: Filter{Tenant: rdid2}})))
		for _, who := range []struct {
			name string
			m    Meta
		}{{"contoso", Meta{RDID: rdid1, Tenant: contoso, VSID: 5001}}, {"fabrikam", Meta{RDID: rdid2, Tenant: fabrikam, VSID: 6001}}} {
			m, b := arp(t, who.m.Tenant, who.m.RDID)
			m.VSID = who.m.VSID
			tap.Sessions().Offer(&m, b)
			m.Point, m.Reason, m.SrcPA, m.DstPA = Drop, drop.ARPSpoofed, pa1, pa2
			tap.Sessions().Offer(&m, b)
		}
		raw := Meta{Time: start + 1, Point: FabricIn, Link: RawIP, SrcPA: pa1, DstPA: pa2}
		tap.Sessions().Offer(&raw, []byte{0x45, 0, 0, 20})
		raw.Point, raw.Reason = Drop, drop.OuterMalformed
		tap.Sessions().Offer(&raw, []byte{0x45, 0, 0, 20})
		inner := Meta{Point: Drop, Link: Ethernet, Reason: drop.InnerVLAN}
		inner.Offload = packet.Offload{NeedsCsum: true, GSO: packet.GSOTCPv4, GSOSize: 1400}
		tap.Sessions().Offer(&inner, make([]byte, 60))
		if err := errors.Join(stop(), stop2()); err != nil {
			t.Fatal(err)
		}
		if tap.Sessions() != nil {
			t.Error("a session is left")
		}

		all := blocks(t, file.Bytes())
		if got := comment(all[0]); got != "capture of everything" {
			t.Errorf("the section says %q", got)
		}
		var names []string
		for _, i := range only(all, blockInterface) {
			names = append(names, fmt.Sprintf("%s %d", i.options[ifName], binary.LittleEndian.Uint16(i.body)))
		}
		if got := strings.Join(names, ", "); got != "c11 1, c11 1, fabric 101, fabric-inner 1" {
			t.Errorf("interfaces %s", got)
		}
		packets := only(all, blockPacket)
		for i, want := range []struct {
			iface uint32
			flags byte
			text  string
		}{
			{0, 1, "point=port-in tenant=contoso rdid=11111111-2222-4333-8444-555555555555 vsid=5001 port=c11"},
			{0, 0, "point=drop tenant=contoso rdid=11111111-2222-4333-8444-555555555555 vsid=5001 port=c11 src-pa=192.168.1.10 dst-pa=192.168.1.20 drop=arp-spoofed (" + drop.ARPSpoofed.Meaning() + ")"},
			{1, 1, "point=port-in tenant=fabrikam rdid=99999999-2222-4333-8444-555555555555 vsid=6001 port=c11"},
			{1, 0, "point=drop tenant=fabrikam rdid=99999999-2222-4333-8444-555555555555 vsid=6001 port=c11 src-pa=192.168.1.10 dst-pa=192.168.1.20 drop=arp-spoofed (" + drop.ARPSpoofed.Meaning() + ")"},
			{2, 1, "point=fabric-in src-pa=192.168.1.10 dst-pa=192.168.1.20"},
			{2, 0, "point=drop src-pa=192.168.1.10 dst-pa=192.168.1.20 drop=outer-malformed (" + drop.OuterMalformed.Meaning() + ")"},
			{3, 0, "point=drop checksum=partial segments-of=1400 drop=inner-vlan (" + drop.InnerVLAN.Meaning() + ")"},
		} {
			k := packets[i]
			flags := append(k.options[epbFlags], 0)[0]
			if comment(k) != want.text || flags != want.flags || binary.LittleEndian.Uint32(k.body) != want.iface {
				t.Errorf("packet %d at %d, flags %d, says %q;\nwant %d, %d, %q", i, binary.LittleEndian.Uint32(k.body), flags, comment(k), want.iface, want.flags, want.text)
			}
		}
		for _, k := range only(blocks(t, other.Bytes()), blockPacket) {
			if !strings.Contains(comment(k), "rdid=99999999-") {
				t.Errorf("a capture of one tenant has %q", comment(k))
			}
		}
		if n := len(only(blocks(t, other.Bytes()), blockPacket)); n != 2 {
			t.Errorf("a capture of one tenant has %d packets, want 2", n)
		}
	})
}

// gate is a file on a disk that does not answer until it is opened.
type gate struct {
	bytes.Buffer
	open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) { <-g.open; return g.Buffer.Write(b) }

// A writer that does not keep up loses packets, never time of the workers, and
// the file says how many and where.
func TestSessionCountsWhatItLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap Tap
		file := &gate{open: make(chan struct{})}
		s := must(NewSession(file, Options{Queue: 8, SnapLen: 20}))
		stop := running(t, &tap, s)
		m, b := arp(t, contoso, rdid1)
		offer := func(n int) {
			for range n {
				tap.Sessions().Offer(&m, b)
			}
		}
		offer(108) // the writer hangs in its first write, of the header: 8 find room
		if st := s.Stats(); st.Lost != 100 || st.Packets != 0 {
			t.Fatalf("%+v", st)
		}
		close(file.open)
		synctest.Wait()
		offer(1)
		synctest.Wait()
		offer(2)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		st := s.Stats()
		if want := (Stats{Packets: 11, Lost: 100, Bytes: uint64(file.Len())}); st != want {
			t.Errorf("%+v, want %+v", st, want)
		}
		all := blocks(t, file.Bytes())
		for i, k := range only(all, blockPacket) {
			lost := append(k.options[epbDropCount], make([]byte, 8)...)
			if n := binary.LittleEndian.Uint64(lost); (n != 0) != (i == 8) || i == 8 && n != 100 {
				t.Errorf("packet %d comes after %d lost ones", i, n)
			}
			if kept, whole := binary.LittleEndian.Uint32(k.body[12:]), binary.LittleEndian.Uint32(k.body[16:]); kept != 20 || whole != 42 {
				t.Errorf("%d bytes kept of %d", kept, whole)
			}
		}
		if i := only(all, blockInterface)[0]; binary.LittleEndian.Uint32(i.body[4:]) != 20 {
			t.Error("the snap length does not stand in the file")
		}
		last := all[len(all)-1]
		if last.typ != blockStatistics || !strings.HasPrefix(comment(last), "100 packets were lost") || last.options[isbDelivered][0] != 11 {
			t.Errorf("the end says %q", comment(last))
		}
	})
}

func TestSessionEndsByItself(t *testing.T) {
	for name, o := range map[string]Options{"packets": {MaxPackets: 3}, "bytes": {MaxBytes: 600}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tap Tap
				var file bytes.Buffer
				s := must(NewSession(&file, o))
				ended := make(chan error, 1)
				go func() { ended <- tap.Run(t.Context(), s) }()
				synctest.Wait()
				m, b := arp(t, contoso, rdid1)
				sessions := tap.Sessions()
				for range 10 {
					sessions.Offer(&m, b) // as a worker does that loaded them before the end
				}
				if err := <-ended; err != nil || tap.Sessions() != nil {
					t.Fatal(err, tap.Sessions())
				}
				if n := len(only(blocks(t, file.Bytes()), blockPacket)); n != 3 || s.Stats().Packets != 3 {
					t.Errorf("%d packets, %+v", n, s.Stats())
				}
			})
		})
	}
}

// What the workers had offered when the end came is in the file.
func TestSessionWritesWhatWaits(t *testing.T) {
	var tap Tap
	var file bytes.Buffer
	s := must(NewSession(&file, Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	m, b := arp(t, contoso, rdid1)
	for range 5 {
		s.offer(&m, b)
	}
	cancel()
	if err := tap.Run(ctx, s); err != nil {
		t.Fatal(err)
	}
	if n := len(only(blocks(t, file.Bytes()), blockPacket)); n != 5 {
		t.Errorf("%d packets of 5", n)
	}
	if err := tap.Run(t.Context(), s); !errors.Is(err, ErrUsed) {
		t.Errorf("run again: %v", err)
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestSessionEndsWhenWritingFails(t *testing.T) {
	for _, after := range []int{0, 100, 300} {
		synctest.Test(t, func(t *testing.T) {
			var tap Tap
			s := must(NewSession(&failing{after}, Options{Queue: 4}))
			ended := make(chan error, 1)
			go func() { ended <- tap.Run(t.Context(), s) }()
			synctest.Wait()
			m, b := arp(t, contoso, rdid1)
			for range 3 {
				if sessions := tap.Sessions(); sessions != nil {
					sessions.Offer(&m, b)
				}
				synctest.Wait()
			}
			if err := <-ended; !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("fails after %d bytes: %v", after, err)
			}
			if tap.Sessions() != nil {
				t.Error("the session is still there")
			}
		})
	}
}

func TestTapIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap Tap
		var stops []func() error
		for range MaxSessions {
			s := must(NewSession(io.Discard, Options{Queue: 2, Filter: Filter{OnlyDrops: true}}))
			stops = append(stops, running(t, &tap, s))
		}
		more := must(NewSession(io.Discard, Options{}))
		if err := tap.Run(t.Context(), more); !errors.Is(err, ErrTooMany) || len(tap.Running()) != MaxSessions {
			t.Errorf("one more: %v", err)
		}
		if tap.Sessions().Want(PortIn) || !tap.Sessions().Want(Drop) {
			t.Error("sessions of drops want something else")
		}
		if err := stops[3](); err != nil || len(tap.Running()) != MaxSessions-1 {
			t.Errorf("%d left: %v", len(tap.Running()), err)
		}
		stops = append(stops, running(t, &tap, more)) // now there is room
		if !tap.Sessions().Want(PortIn) {
			t.Error("the new session is not asked")
		}
		for _, stop := range stops {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		if tap.Sessions() != nil || len(tap.Running()) != 0 {
			t.Error("sessions are left")
		}
	})
}

func TestManyPortsShareAnInterface(t *testing.T) {
	var tap Tap
	var file bytes.Buffer
	s := must(NewSession(&file, Options{Queue: 2048, SnapLen: 64}))
	m, b := arp(t, contoso, rdid1)
	for i := range maxInterfaces + 100 {
		m.Port = fmt.Sprintf("tap%d", i)
		s.offer(&m, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tap.Run(ctx, s); err != nil {
		t.Fatal(err)
	}
	all := blocks(t, file.Bytes())
	if n := len(only(all, blockInterface)); n != maxInterfaces+1 {
		t.Errorf("%d interfaces", n)
	}
	packets := only(all, blockPacket)
	if k := packets[len(packets)-1]; len(packets) != maxInterfaces+100 || !strings.Contains(comment(k), "port=tap1123") {
		t.Errorf("%d packets, the last says %q", len(packets), comment(k))
	}
}

func TestSessionRefuses(t *testing.T) {
	_, err := NewSession(io.Discard, Options{SnapLen: -1, Queue: 1 << 30, Filter: Filter{Points: []Point{77}}})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"new capture", "-1 bytes", "capture point 77", "queue 1073741824"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if _, err := NewSession(io.Discard, Options{SnapLen: MaxSnapLen + 1}); err == nil {
		t.Error("a snap length beyond any packet was taken")
	}
	if _, err := NewSession(io.Discard, Options{SnapLen: MaxSnapLen, Queue: 512}); err != nil {
		t.Error(err)
	}
}

// Workers offer, sessions come and go: for the race detector, and every file is
// whole.
func TestWorkersAndSessionsAtOnce(t *testing.T) {
	var tap Tap
	ctx, cancel := context.WithCancel(t.Context())
	var workers, sessions sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			m, b := arp(t, contoso, rdid1)
			for ctx.Err() == nil {
				if s := tap.Sessions(); s != nil && s.Want(m.Point) {
					s.Offer(&m, b)
				}
			}
		})
	}
	for i := range 4 {
		sessions.Go(func() {
			for range 5 {
				var file bytes.Buffer
				s := must(NewSession(&file, Options{Queue: 16, MaxPackets: uint64(50 * (i + 1))}))
				if err := tap.Run(t.Context(), s); err != nil {
					t.Error(err)
				}
				if n := len(only(blocks(t, file.Bytes()), blockPacket)); n != 50*(i+1) || s.Stats().Bytes != uint64(file.Len()) {
					t.Errorf("%d packets, %+v of %d bytes", n, s.Stats(), file.Len())
				}
			}
		})
	}
	sessions.Wait()
	cancel()
	workers.Wait()
}

func TestOfferDoesNotAllocate(t *testing.T) {
	var tap Tap
	all := must(NewSession(io.Discard, Options{Queue: 4}))
	none := must(NewSession(io.Discard, Options{Filter: Filter{Tenant: rdid2}}))
	for _, s := range []*Session{all, none} {
		if err := tap.add(s); err != nil {
			t.Fatal(err)
		}
	}
	_, b := arp(t, contoso, rdid1)
	var h packet.Headers
	h.DecodeEthernet(b)
	var m Meta
	for _, full := range []bool{false, true} {
		if n := testing.AllocsPerRun(100, func() {
			m = Meta{Time: start, Point: PortIn, Link: Ethernet, RDID: rdid1, VSID: 5001, Tenant: contoso, Port: "c11"}
			m.SetInner(&h, b, packet.Offload{})
			tap.Sessions().Offer(&m, b)
			if !full && all.ring.first() != nil {
				all.ring.release()
			}
		}); n != 0 {
			t.Errorf("%v allocations a packet", n)
		}
	}
	if all.Stats().Lost == 0 {
		t.Error("the queue never was full")
	}
}

func BenchmarkOffer(b *testing.B) {
	m, data := arp(b, contoso, rdid1)
	for name, f := range map[string]Filter{"wanted": {}, "other-tenant": {Tenant: rdid2}, "other-point": {OnlyDrops: true}} {
		b.Run(name, func(b *testing.B) {
			var tap Tap
			s := must(NewSession(io.Discard, Options{Filter: f}))
			if err := tap.add(s); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				tap.Sessions().Offer(&m, data)
				if s.ring.first() != nil {
					s.ring.release()
				}
			}
		})
	}
	b.Run("nobody", func(b *testing.B) {
		var tap Tap
		for b.Loop() {
			if s := tap.Sessions(); s != nil {
				s.Offer(&m, data)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	m, data := arp(b, contoso, rdid1)
	s := must(NewSession(io.Discard, Options{}))
	s.out = must(NewWriter(io.Discard, "", ""))
	b.ReportAllocs()
	for b.Loop() {
		s.offer(&m, data)
		if err := s.write(s.ring.first()); err != nil {
			b.Fatal(err)
		}
		s.ring.release()
	}
}
