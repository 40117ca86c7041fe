package s2s

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuick(t *testing.T) {
	s := good()
	tun := s.Tunnels[0]
	theirs := NewPrivateKey()
	got := FarEnd{Tunnel: tun, Peer: tun.Peers[0], Endpoint: netip.MustParseAddrPort("203.0.113.10:51820"),
		Prefixes: prefixList("10.2.0.0/16 10.1.1.0/24"), MTU: 1420, PrivateKey: theirs}.Quick()
	want := `# a: the other end of tunnel hq
[Interface]
PrivateKey = ` + theirs.Reveal() + `
Address = 169.254.10.2/30
ListenPort = 51820
MTU = 1420

[Peer]
PublicKey = ` + tun.PrivateKey.Public().String() + `
PresharedKey = ` + tun.Peers[0].PresharedKey.Reveal() + `
Endpoint = 203.0.113.10:51820
AllowedIPs = 169.254.10.1/32, fd10::1/128, 10.2.0.0/16, 100.64.1.0/24
PersistentKeepalive = 25
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	got = FarEnd{Tunnel: tun, Peer: tun.Peers[1], Prefixes: prefixList("10.2.0.0/16")}.Quick()
	want = `# b: the other end of tunnel hq
[Interface]
# put the private key here that belongs to ` + tun.Peers[1].PublicKey.String() + `
# PrivateKey = 
Address = fd10::2/126

[Peer]
PublicKey = ` + tun.PrivateKey.Public().String() + `
AllowedIPs = 169.254.10.1/32, fd10::1/128, 10.2.0.0/16
# this end must call: nothing else tells the gateway where it is
PersistentKeepalive = 25
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
