//go:build linux

package s2s

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What a peer that is down offers is silent, unless one that is not offers it too.
func TestSilent(t *testing.T) {
	spec := Spec{Tunnels: []Tunnel{
		{Name: "a", Interface: "a", Addresses: []netip.Prefix{netip.MustParsePrefix("169.254.1.1/30")},
			RemoteMaps: []Map{{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.9.0.0/24")}},
			Peers:      []Peer{{Name: "a", Prefixes: list("169.254.1.2/32", "10.0.0.7/32", "192.0.2.1/32", "172.16.0.0/16")}}},
		{Name: "b", Interface: "b", Addresses: []netip.Prefix{netip.MustParsePrefix("169.254.2.1/29")},
			Peers: []Peer{{Name: "b", Prefixes: list("192.0.2.1/32", "172.16.1.0/24")}, {Name: "c", Prefixes: list("192.0.2.2/32")}}},
	}}
	for _, x := range []struct{ down, want string }{
		{"", ""},
		{"a", "10.9.0.7/32 169.254.1.0/30 169.254.1.2/32"},
		{"b", "172.16.1.0/24"},
		{"c", "192.0.2.2/32"},
		{"a b", "10.9.0.7/32 169.254.1.0/30 169.254.1.2/32 172.16.0.0/16 172.16.1.0/24 192.0.2.1/32"},
	} {
		var got []string
		for _, p := range silent(spec, func(_ string, p Peer) bool { return slices.Contains(strings.Fields(x.down), p.Name) }) {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("with %q down: %v, want %s", x.down, got, x.want)
		}
	}
}

func list(ps ...string) (out []netip.Prefix) {
	for _, p := range ps {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
