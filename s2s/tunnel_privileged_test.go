//go:build privileged && linux

package s2s

import (
	"os"
	"strings"
	"testing"
)

// quick makes probes find out sooner, for tests.
var quick = Probe{IntervalMS: 20, Fall: 10, Rise: 3}

// Two tenants have the same addresses, inside and outside, and sites with the
// same addresses, and each talks to its own over a peer that is not ours.
func TestTwoTenantsWithTheSameAddresses(t *testing.T) {
	t.Parallel()
	type side struct {
		comp, site *place
		engine     *Engine
		word       string
	}
	var sides []side
	for _, name := range []string{"contoso", "fabrikam"} {
		s := side{comp: newPlace(t, name), site: newPlace(t, name+"-site"), word: name}
		connect(t, s.comp, "ext", "203.0.113.10/24 2001:db8::10/64", s.site, "wan", "203.0.113.20/24 2001:db8::20/64")
		s.comp.ip("addr add 10.1.1.1/32 dev lo")
		s.comp.ip("addr add fd01::1/128 dev lo")
		s.site.ip("addr add 192.168.50.1/32 dev lo")
		s.site.ip("addr add fd50::1/128 dev lo")
		ours, theirs, psk := NewPrivateKey(), NewPrivateKey(), NewPresharedKey()
		wg := s.site.debian(theirs, 51820, "169.254.10.2/30 fd10::2/126")
		psk64 := psk.Reveal()
		wg.wg(psk64, "set", wg.link, "peer", ours.Public().String(), "preshared-key", "/dev/stdin")
		wg.peer(ours.Public(), "", "169.254.10.1/32,10.1.1.0/24,fd10::1/128,fd01::/64")
		s.site.echo("192.168.50.1:7")
		s.site.echo("[fd50::1]:7")
		s.engine = s.comp.engine()
		spec := Spec{Tunnels: []Tunnel{{
			Name: "hq", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820,
			Addresses: prefixes("169.254.10.1/30 fd10::1/126"),
			Peers: []Peer{{Name: "hq", PublicKey: theirs.Public(), PresharedKey: psk, Endpoint: addrPort("203.0.113.20:51820"),
				Prefixes: prefixes("169.254.10.2/32 192.168.50.0/24 fd10::2/128 fd50::/64"), Keepalive: 25, Probe: quick}},
		}}}
		apply(t, s.engine, spec)
		if r := apply(t, s.engine, spec); len(r.Changed) > 0 {
			t.Errorf("the same again changed %v", r.Changed)
		}
		sides = append(sides, s)
	}
	for _, s := range sides {
		for from, to := range map[string]string{"10.1.1.1": "192.168.50.1:7", "fd01::1": "[fd50::1]:7"} {
			c := s.comp.dial(from, to)
			if err := say(c, strings.Repeat(s.word, 100000)); err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
		awaitLiveness(t, s.engine, "hq", "hq", Up)
		p, err := peerState(s.engine, "hq", "hq")
		must(t, err)
		if p.LastHandshake.IsZero() || p.RxBytes < 500000 || p.TxBytes < 500000 || p.RTT <= 0 || !p.Active ||
			p.Endpoint != addrPort("203.0.113.20:51820") {
			t.Errorf("state is %+v", p)
		}
		st := s.engine.Snapshot().Tunnels[0]
		if want := os.Getenv(ourImplementation); want != "" && string(st.Implementation) != want {
			t.Errorf("implementation is %s, want %s", st.Implementation, want)
		}
		if st.MTU != 1420 || st.ListenPort != 51820 || st.Error != "" {
			t.Errorf("state is %+v", st)
		}
	}
}
