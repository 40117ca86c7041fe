//go:build privileged && linux

package port

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// readUntilError reads in the background; the channel gives the error that ends
// it.
func readUntilError(r reader, frames chan<- []byte) <-chan error {
	errc := make(chan error, 1)
	go func() {
		for fs := frameList(4); ; {
			n, err := r.ReadBatch(fs)
			if err != nil {
				errc <- err
				return
			}
			for _, f := range fs[:n] {
				if frames != nil && isExperimental(f.Bytes()) {
					frames <- append([]byte(nil), f.Bytes()...)
				}
			}
		}
	}()
	return errc
}

func wantError(t *testing.T, errc <-chan error, want error) {
	t.Helper()
	select {
	case err := <-errc:
		if !errors.Is(err, want) {
			t.Errorf("the reader ended with %v, want %v", err, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the reader did not end with %v", want)
	}
}

func wantNoError(t *testing.T, errc <-chan error, d time.Duration) {
	t.Helper()
	select {
	case err := <-errc:
		t.Fatalf("the reader ended with %v", err)
	case <-time.After(d):
	}
}

func TestCloseUnblocksReaders(t *testing.T) {
	na, nb := pair(t)
	l := openLink(t, na, "va", LinkOptions{})
	p := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: ours})
	r := p.Readers()[0]
	first, second, third := readUntilError(l, nil), readUntilError(l, nil), readUntilError(r, nil)
	wantNoError(t, first, 50*time.Millisecond)
	wantNoError(t, third, 0)
	if err := errors.Join(l.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	for _, errc := range []<-chan error{first, second, third} {
		wantError(t, errc, net.ErrClosed)
	}
	f := []*packet.Frame{frameOf(experimental(60, 0))}
	if n, err := l.WriteBatch(f); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to a closed link: %d, %v", n, err)
	}
	f[0].Set(ip4("10.0.0.1", 47, 0, 0))
	if n, err := p.WriteBatch(f); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to a closed provider: %d, %v", n, err)
	}
	if _, err := p.AddInterface("vb"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("add an interface to a closed provider: %v", err)
	}
	if err := p.SetAddresses(Addresses{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("set addresses of a closed provider: %v", err)
	}
	for _, err := range []error{l.Close(), p.Close(), r.Close()} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
	}
	l.ReadCounters() // still answers
}

func TestInterfaceDeletedWhileReading(t *testing.T) {
	for _, how := range []string{"link delete va", "link set va netns 1"} {
		t.Run(how, func(t *testing.T) {
			na, _ := pair(t)
			if how != "link delete va" {
				how = "link set va netns " + newNetns(t).path()
			}
			l := openLink(t, na, "va", LinkOptions{})
			p := openProvider(t, na, ProviderOptions{Interfaces: []string{"va"}, Addresses: ours})
			rl, rp := readUntilError(l, nil), readUntilError(p.Readers()[0], nil)
			wantNoError(t, rl, 20*time.Millisecond)
			na.ip(how)
			wantError(t, rl, ErrGone)
			wantError(t, rp, ErrGone)
			wantError(t, readUntilError(l, nil), ErrGone) // and again
			f := []*packet.Frame{frameOf(experimental(60, 0)), frameOf(experimental(60, 0))}
			if n, err := l.WriteBatch(f); n != 0 || !errors.Is(err, ErrGone) {
				t.Errorf("write: %d, %v", n, err)
			}
			if c := l.WriteCounters(); c.Errors["ENXIO"] != 2 {
				t.Errorf("counters: %+v", c)
			}
		})
	}
}

// An interface that is down is waited for, and its end is seen also then,
// although the kernel does not report it; a writer that takes the one report
// the kernel makes must not take it from the reader.
func TestInterfaceDownAndUp(t *testing.T) {
	for _, writing := range []bool{false, true} {
		name := "reader alone"
		if writing {
			name = "with a writer"
		}
		t.Run(name, func(t *testing.T) {
			na, nb := pair(t)
			l := openLink(t, na, "va", LinkOptions{})
			frames := make(chan []byte, 100)
			errc := readUntilError(l, frames)
			down := func() {
				na.ip("link set va down")
				for range 3 {
					f := []*packet.Frame{frameOf(experimental(60, 0)), frameOf(experimental(60, 0))}
					if !writing {
						break
					}
					if n, err := l.WriteBatch(f); n != 0 || !errors.Is(err, ErrDown) {
						t.Errorf("write while down: %d, %v", n, err)
					}
				}
				wantNoError(t, errc, 2*downPoll)
			}
			for range 2 {
				down()
				na.ip("link set va up")
				peer := openLink(t, nb, "vb", LinkOptions{})
				// Until the kernel has dealt with the carrier, frames are lost.
				arrived := false
				for start := time.Now(); !arrived && time.Since(start) < time.Minute; {
					if n, err := peer.WriteBatch([]*packet.Frame{frameOf(experimental(60, 1))}); n != 1 || err != nil {
						t.Fatalf("write: %d, %v", n, err)
					}
					select {
					case <-frames:
						arrived = true
					case <-time.After(10 * time.Millisecond):
					}
				}
				if !arrived {
					t.Fatal("no frame after the interface came up again")
				}
				if writing {
					if n, err := l.WriteBatch([]*packet.Frame{frameOf(experimental(60, 1))}); n != 1 || err != nil {
						t.Errorf("write after the interface came up again: %d, %v", n, err)
					}
				}
			}
			down()
			na.ip("link delete va")
			wantError(t, errc, ErrGone)
		})
	}
}

// The writer comes first: it alone is told that the interface is down, before
// there is a reader at all.
func TestOpenedWhileDown(t *testing.T) {
	na, _ := pair(t)
	na.ip("link set va down")
	l := openLink(t, na, "va", LinkOptions{})
	if _, err := l.WriteBatch([]*packet.Frame{frameOf(experimental(60, 1))}); !errors.Is(err, ErrDown) {
		t.Errorf("write: %v", err)
	}
	errc := readUntilError(l, nil)
	wantNoError(t, errc, 2*downPoll)
	na.ip("link delete va")
	wantError(t, errc, ErrGone)
}
