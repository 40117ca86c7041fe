package dataplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// cookie is what the data of a ping's echo begins with. It tells the ping from
// all others, and the dataplane of the destination's host that it may answer in
// the place of the guest. Neither can be guessed by guests: the nonce is random,
// and the tag takes the RDID, which every host of the routing domain knows and
// no packet carries. Whoever knows it can have the dataplane answer for stations
// of that one tenant, between the two addresses of the echo, and nothing else.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Who is to answer, or has answered: "hnvprobe", "hnvguest",   |
//	|                           "hnvreply"                          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                         Nonce, 8 bytes                        |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|        Time of sending, nanoseconds since 1970, 8 bytes       |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   Tag, 16 bytes: HMAC-SHA-256 by the RDID of all the above,   |
//	|           the address that asks and the one asked             |
type cookie [cookieLen]byte

const (
	cookieLen = 40
	tagAt     = 24
)

type cookieKind [8]byte

var (
	askDataplane = cookieKind([]byte("hnvprobe"))
	askGuest     = cookieKind([]byte("hnvguest"))
	byDataplane  = cookieKind([]byte("hnvreply"))
)

// cookieLife is for how long a cookie is good: hosts' clocks may differ.
const cookieLife = 10 * time.Minute

func newCookie(k cookieKind, nonce [8]byte, at time.Time, rdid hnv.RDID, asker, asked netip.Addr) (c cookie) {
	copy(c[:], k[:])
	copy(c[8:], nonce[:])
	binary.BigEndian.PutUint64(c[16:], uint64(at.UnixNano()))
	c.seal(rdid, asker, asked)
	return c
}

func (c *cookie) seal(rdid hnv.RDID, asker, asked netip.Addr) {
	tag := c.tag(rdid, asker, asked)
	copy(c[tagAt:], tag[:])
}

func (c *cookie) tag(rdid hnv.RDID, asker, asked netip.Addr) (out [cookieLen - tagAt]byte) {
	h := hmac.New(sha256.New, []byte("hnvgate ping of "+rdid.String()))
	from, to := asker.As16(), asked.As16()
	h.Write(c[:tagAt])
	h.Write(from[:])
	h.Write(to[:])
	copy(out[:], h.Sum(nil))
	return out
}

func (c *cookie) kind() cookieKind { return cookieKind(c[:8]) }

func (c *cookie) nonce() [8]byte { return [8]byte(c[8:16]) }

// good tells whether somebody who knows the RDID made the cookie for these
// addresses, not long ago.
func (c *cookie) good(now int64, rdid hnv.RDID, asker, asked netip.Addr) bool {
	age := time.Duration(now - int64(binary.BigEndian.Uint64(c[16:])))
	tag := c.tag(rdid, asker, asked)
	return age.Abs() <= cookieLife && hmac.Equal(tag[:], c[tagAt:])
}
