//go:build privileged && linux

package speaker

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/internal/netns"
)

// Message types of RFC 4271, 4.1.
const (
	openType      = 1
	updateType    = 2
	keepaliveType = 4
)

func bgpMessage(typ byte, body []byte) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, typ)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
	return b
}

// speakRaw opens a session by hand from the node and says what it is given; it
// returns when the other side hangs up, or a second after all is said.
func speakRaw(t *testing.T, n *node, messages [][]byte) {
	t.Helper()
	var c net.Conn
	wait(t, "connection by hand", func() (bool, string) {
		err := netns.Do(netns.Path(n.name), func() (err error) {
			d := net.Dialer{Timeout: time.Second}
			c, err = d.Dial("tcp", "10.0.1.1:179")
			return err
		})
		if err != nil {
			return false, err.Error()
		}
		// Version, AS 65003, hold time, router ID, capabilities: IPv4 unicast, four octets.
		open := []byte{4, 0xfd, 0xeb, 0, 90, 10, 0, 1, 2, 14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xeb}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err = c.Write(append(bgpMessage(openType, open), bgpMessage(keepaliveType, nil)...)); err == nil {
			_, err = io.ReadFull(c, make([]byte, 19))
		}
		if err != nil {
			_ = c.Close() // our side is not ready for a session, or has one
			return false, err.Error()
		}
		return true, ""
	})
	defer c.Close()
	for _, m := range messages {
		if _, err := c.Write(m); err != nil {
			return
		}
	}
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, c)
}

// A neighbour that sends rubbish harms nobody but itself: the speaker lives, and the
// session beside goes on.
func TestRubbish(t *testing.T) {
	t.Parallel()
	gw, s, _, spec := pair(t, "")
	evil := newNode(t, "evil")
	wire(t, gw, "wan1 10.0.1.1/30", evil, "eth0 10.0.1.2/30")
	p := quick(bgp.Peer{Name: "evil", Address: addr("10.0.1.2"), ASN: 65003, Passive: true})
	p.Hold = 0
	spec.Peers = append(spec.Peers, p)
	s.apply(spec)
	s.established("hq")
	gw.routes("-4", "172.16.0.0/24", true)
	since := s.peer("hq").Since

	attrs := []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xeb, 0x40, 3, 4, 10, 0, 1, 2}
	update := func(attrs, nlri []byte) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs)))
		return bgpMessage(updateType, append(append(b, attrs...), nlri...))
	}
	good := update(attrs, []byte{24, 172, 31, 1})
	speakRaw(t, evil, [][]byte{good, update(attrs[:4], []byte{24, 172, 31, 2}), update(nil, []byte{24, 172, 31, 3})})
	// What is right is taken, what lacks attributes is not (RFC 7606).
	told := func(p string) bool {
		return s.do(ask{Op: "told", Filter: Filter{Within: prefix(p)}}).Route.Prefix.IsValid()
	}
	wait(t, "the good route", func() (bool, string) { return told("172.31.1.0/24"), say(s.peer("evil")) })
	gw.routes("-4", "172.31.1.0/24", false)
	if told("172.31.2.0/24") || told("172.31.3.0/24") {
		t.Error("a route without its attributes was taken")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2 {
		var messages [][]byte
		for range 20 {
			m := bytes.Clone(good)
			for range 1 + r.IntN(4) {
				m[16+r.IntN(len(m)-16)] = byte(r.Uint32())
			}
			messages = append(messages, m)
		}
		speakRaw(t, evil, messages)
	}
	if st := s.peer("hq"); st.Session != "established" || st.Since != since {
		t.Errorf("the session beside: %s", say(st))
	}
	gw.routes("-4", "172.16.0.0/24", true)
}
