//go:build privileged && linux

package s2s

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// A peer that shakes hands and forwards nothing is found out, and its packets go
// the other way.
func TestBlackholeBehindASession(t *testing.T) {
	t.Parallel()
	r := newRedundant(t, [2]uint32{10, 20}, quick)
	r.awaitActive(t, true, false)
	r.site.echo("192.168.50.1:7")
	c := r.comp.dial("10.1.1.1", "192.168.50.1:7")
	must(t, say(c, "before"))
	// The site answers nothing that comes by its first tunnel, nor sends by it.
	r.site.ip("addr del 169.254.1.2/30 dev s2s1")
	awaitLiveness(t, r.a, "hq1", "hq", Down)
	must(t, say(c, "meanwhile"))
	p, err := peerState(r.a, "hq1", "hq")
	must(t, err)
	if p.LastHandshake.IsZero() || p.Loss == 0 {
		t.Errorf("state is %+v", p)
	}
	if p.Endpoint != addrPort("203.0.113.20:51820") {
		t.Errorf("the session is with %s", p.Endpoint)
	}
	apply(t, r.b, r.specB)
	r.awaitActive(t, true, false)
	must(t, say(c, "after"))
}

// A peer whose address nobody knows calls, moves, and is followed.
func TestRoaming(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	spec := b.with(func(t *Tunnel) { t.Peers[1].Endpoint = netip.AddrPort{} })
	apply(t, e, spec)
	// The site calls by sending.
	b.comp.echo("10.1.1.1:8")
	back := b.sites[1].dial("192.168.2.1", "10.1.1.1:8")
	must(t, say(back, "calling"))
	at := func(want string) {
		t.Helper()
		await(t, "endpoint "+want, func() error {
			p, err := peerState(e, "branches", "site2")
			if err == nil && p.Endpoint.String() != want {
				err = fmt.Errorf("endpoint is %s", p.Endpoint)
			}
			return err
		})
	}
	at("203.0.2.20:51820")
	b.sites[1].wg("", "set", b.sites[1].link, "listen-port", "51999")
	must(t, say(back, "from elsewhere"))
	at("203.0.2.20:51999")
	// What is applied again does not send it back.
	apply(t, e, spec)
	at("203.0.2.20:51999")
	must(t, say(back, "still"))
}

// Strangers flood the port with what looks like handshakes, and with rubbish: the
// connections of peers go on, and nothing is believed.
func TestFlood(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	apply(t, e, b.spec)
	c := b.comp.dial("10.1.1.1", "192.168.1.1:7")
	must(t, say(c, "before"))
	var u net.Conn
	must(t, netns.Do(b.sites[1].path(), func() (err error) {
		u, err = net.Dial("udp4", "203.0.2.10:51820")
		return err
	}))
	defer u.Close()
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			sizes := [][2]int{{1, 148}, {1, 147}, {2, 92}, {3, 64}, {4, 32}, {4, 1400}, {9, 148}, {0, 0}}[n%8]
			p := make([]byte, sizes[1])
			_, _ = rand.Read(p)
			if len(p) > 4 {
				p[0], p[1], p[2], p[3] = byte(sizes[0]), 0, 0, 0
			}
			_, _ = u.Write(p)
			if n%8 == 7 { // about 8000 a second: a link that is full is another matter
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for range 20 {
		if err := say(c, string(make([]byte, 50000))); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	if n := <-sent; n < 100 {
		t.Errorf("the flood was of %d packets", n)
	}
	p, err := peerState(e, "branches", "site2")
	must(t, err)
	if p.Endpoint != addrPort("203.0.2.20:51820") {
		t.Errorf("a stranger is taken for a peer at %s", p.Endpoint)
	}
	must(t, say(b.comp.dial("10.1.1.1", "192.168.2.1:7"), "after"))
}
