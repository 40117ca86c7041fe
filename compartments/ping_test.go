//go:build linux

package compartments

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// What comes back may be anything: only what has our token is ours.
func FuzzEchoReply(f *testing.F) {
	p := &pingSocket{token: [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, spec: PingSpec{Size: 56}}
	ours := append([]byte{echoReply4, 0, 0, 0, 1, 2, 0, 7, 3, 4, 5, 6, 7, 8, 9, 10}, make([]byte, 48)...)
	header := append([]byte{0x45}, make([]byte, 19)...)
	f.Add(append(bytes.Clone(header), ours...))
	f.Add(append(bytes.Clone(header), ours[:12]...))
	f.Add(append([]byte{0x4f}, make([]byte, 30)...))
	f.Add([]byte{0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		ttl, icmp, ok := behindIPv4(b)
		if ok && (ttl != int(b[8]) || len(icmp) > len(b)-20) {
			t.Fatalf("TTL %d and %d bytes of % x", ttl, len(icmp), b)
		}
		seq, mine := p.mine(icmp, echoReply4)
		if mine && (icmp[0] != echoReply4 || !bytes.Equal(icmp[4:6], p.token[:2]) || seq != binary.BigEndian.Uint16(icmp[6:]) ||
			!bytes.HasPrefix(p.token[2:], icmp[8:min(16, len(icmp))])) {
			t.Fatalf("taken for ours: % x", b)
		}
		_ = hopLimit(b)
		_, _ = p.extended(b)
	})
}

func TestEchoReplies(t *testing.T) {
	p := &pingSocket{token: [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, spec: PingSpec{Size: 4}}
	ours := []byte{echoReply6, 0, 0, 0, 1, 2, 0, 7, 3, 4, 5, 6}
	if seq, ok := p.mine(ours, echoReply6); !ok || seq != 7 {
		t.Error("ours is not known again")
	}
	for i := range ours {
		if i == 1 || i == 2 || i == 3 || i == 6 || i == 7 {
			continue // code, checksum and sequence number
		}
		b := bytes.Clone(ours)
		b[i] ^= 0x40
		if _, ok := p.mine(b, echoReply6); ok {
			t.Errorf("% x is taken for ours", b)
		}
	}
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) { // RFC 1071 section 3
		t.Errorf("checksum %#x", got)
	}
}
