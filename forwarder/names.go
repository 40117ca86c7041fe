package forwarder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// names derives every name and MAC address.
type names struct{ instance, machine string }

func digest(words ...string) [32]byte { return sha256.Sum256([]byte(strings.Join(words, "\x00"))) }

// ports is what the names of our bridge ports start with.
func (n names) ports() string {
	sum := digest(n.instance)
	return "f" + hex.EncodeToString(sum[:2])
}

// port names the end of an attachment that is a port of a bridge.
func (n names) port(t, attachment hnv.Name) string {
	sum := digest(t.String(), attachment.String())
	return n.ports() + hex.EncodeToString(sum[:5])
}

// alias marks the links of a tenant's attachments as ours.
func (n names) alias(t hnv.Name) string { return "hnv:" + n.instance + ":" + t.String() + ":fw" }

// mac is the address of an attachment's link: locally administered, apart from
// those of compartments (02:68:6e), and the same whenever the link is made.
func (n names) mac(t, attachment hnv.Name) [6]byte {
	sum := digest(n.machine, n.instance, t.String(), attachment.String())
	return [6]byte{0x06, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// portMAC is the address of the bridge's side. A bridge takes the lowest address
// of its ports for its own: this one is higher than any NIC's.
func (n names) portMAC(t, attachment hnv.Name) [6]byte {
	m := n.mac(t, attachment)
	m[0], m[1] = 0xfe, 0xff
	return m
}

// table names the nftables table in the gateway's namespace.
func (n names) table() string {
	return "hnv_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, n.instance) + "_fw"
}

func (n names) check() error {
	bad := n.instance == "" || len(n.instance) > 32
	for _, r := range n.instance {
		bad = bad || !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if bad {
		return fmt.Errorf("instance name %q: use 1 to 32 lower-case letters, digits, hyphens and underscores", n.instance)
	}
	return nil
}

// linkLocal is the address that a MAC gives (RFC 4291 appendix A).
func linkLocal(m [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}
