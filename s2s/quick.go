package s2s

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// FarEnd is what the other end of a tunnel needs to know.
type FarEnd struct {
	Tunnel Tunnel
	Peer   Peer // the other end, one of the tunnel's peers
	// Endpoint is where the tunnel is reached from outside.
	Endpoint netip.AddrPort
	// Prefixes are the tenant's own; they are written as the site sees them.
	Prefixes []netip.Prefix
	// MTU of the tunnel; 0 leaves it to the other end.
	MTU int
	// PrivateKey of the other end, where it was made here; unset: the other end
	// has its own, and the file says so.
	PrivateKey Secret
	// PublicKey of the tunnel, where its private key is not said.
	PublicKey Key
	// PresharedElsewhere: there is a pre-shared key that is not said here, and the
	// file says so.
	PresharedElsewhere bool
}

// Quick writes the file that wg-quick(8) takes at the other end. It holds
// secrets: the pre-shared key, and the private key where there is one.
func (f FarEnd) Quick() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s: the other end of tunnel %s", f.Peer.Name, f.Tunnel.Name)
	line("[Interface]")
	if f.PrivateKey.IsZero() {
		line("# put the private key here that belongs to %s", f.Peer.PublicKey)
		line("# PrivateKey = ")
	} else {
		line("PrivateKey = %s", f.PrivateKey.Reveal())
	}
	if own := f.Addresses(); len(own) > 0 {
		line("Address = %s", join(own))
	}
	if port := f.Peer.Endpoint.Port(); port != 0 {
		line("ListenPort = %d", port)
	}
	if f.MTU != 0 {
		line("MTU = %d", f.MTU)
	}
	line("")
	line("[Peer]")
	public := f.PublicKey
	if public.IsZero() {
		public = f.Tunnel.PrivateKey.Public()
	}
	line("PublicKey = %s", public)
	switch {
	case !f.Peer.PresharedKey.IsZero():
		line("PresharedKey = %s", f.Peer.PresharedKey.Reveal())
	case f.PresharedElsewhere:
		line("# put the pre-shared key here that the gateway has for this peer")
		line("# PresharedKey = ")
	}
	if f.Endpoint.IsValid() {
		line("Endpoint = %s", f.Endpoint)
	}
	line("AllowedIPs = %s", join(f.Allowed()))
	if !f.Peer.Endpoint.IsValid() {
		line("# this end must call: nothing else tells the gateway where it is")
	}
	if k := f.Keepalive(); k != 0 {
		line("PersistentKeepalive = %d", k)
	}
	return b.String()
}

// callKeepalive is what keeps NAT devices open on the way, in seconds.
const callKeepalive = 25

// Keepalive is between the other end's keepalives, in seconds; 0 is none. An end
// that must call is to stay known.
func (f FarEnd) Keepalive() uint16 {
	if !f.Peer.Endpoint.IsValid() && f.Peer.Keepalive == 0 {
		return callKeepalive
	}
	return f.Peer.Keepalive
}

// Addresses are the other end's within the tunnel: those of its prefixes that
// are single addresses on one link with the tunnel's.
func (f FarEnd) Addresses() []netip.Prefix {
	var out []netip.Prefix
	for _, q := range f.Peer.Prefixes {
		for _, a := range f.Tunnel.Addresses {
			if q.IsSingleIP() && a.Contains(q.Addr()) {
				out = append(out, netip.PrefixFrom(q.Addr(), a.Bits()))
			}
		}
	}
	return out
}

// Allowed are the prefixes behind the gateway as the site sees them.
func (f FarEnd) Allowed() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range f.Tunnel.Addresses {
		out = append(out, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	// To the site, what the tenant really has is what is mapped.
	seen := Tunnel{RemoteMaps: f.Tunnel.LocalMaps}.Seen(f.Prefixes)
	slices.SortFunc(seen, comparePrefix)
	return append(out, seen...)
}

func join(ps []netip.Prefix) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
