package s2s

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	pfx, ap := netip.MustParsePrefix, netip.MustParseAddrPort
	for want, spoil := range map[string]func(*Spec){
		`tunnel "hq", peer "a": public key: it is the tunnel's own`: func(s *Spec) { s.Tunnels[0].Peers[0].PublicKey = s.Tunnels[0].PrivateKey.Public() },
		`tunnel "hq", peer "b": public key: it is that of peer "a"`: func(s *Spec) { s.Tunnels[0].Peers[1].PublicKey = s.Tunnels[0].Peers[0].PublicKey },
		`peer "a": public key: not set`:                             func(s *Spec) { s.Tunnels[0].Peers[0].PublicKey = Key{} },
		`peer "b": prefix: 10.1.7.0/24 is claimed by peer "a"`:      func(s *Spec) { s.Tunnels[0].Peers[1].Prefixes = prefixList("fd10::2/128 10.1.7.0/24") },
		`is inside 100.65.7.0/24, which is reached through tunnel`:  func(s *Spec) { s.Tunnels[1].Peers[0].Endpoint = ap("100.65.7.1:1") },
		`is inside 10.1.7.0/24, which is reached through tunnel`:    func(s *Spec) { s.Tunnels[0].Peers[0].Endpoint = ap("10.1.7.1:1") },
		`tunnel "hq2": listen port: 51820 is that of tunnel "hq"`:   func(s *Spec) { s.Tunnels[1].ListenPort = 51820 },
		`interface: s2s0 is that of tunnel "hq"`:                    func(s *Spec) { s.Tunnels[1].Interface = "s2s0" },
		`"hq": name is given twice`:                                 func(s *Spec) { s.Tunnels[1].Name = "hq" },
		`private key: not set`:                                      func(s *Spec) { s.Tunnels[0].PrivateKey = Secret{} },
		`interface: "s2s/0" is not the name of one`:                 func(s *Spec) { s.Tunnels[0].Interface = "s2s/0" },
		`interface: "s2s0123456789012" is not`:                      func(s *Spec) { s.Tunnels[0].Interface = "s2s0123456789012" },
		`prefix: 10.1.7.1/24 is malformed`:                          func(s *Spec) { s.Tunnels[0].Peers[0].Prefixes = prefixList("10.1.7.1/24") },
		`prefix: 0.0.0.0/0 would take all`:                          func(s *Spec) { s.Tunnels[0].Peers[0].Prefixes = prefixList("0.0.0.0/0") },
		`prefix: invalid Prefix is malformed`:                       func(s *Spec) { s.Tunnels[0].Peers[0].Prefixes = []netip.Prefix{{}} },
		`endpoint: 203.0.113.20:0 is not`:                           func(s *Spec) { s.Tunnels[0].Peers[0].Endpoint = ap("203.0.113.20:0") },
		`endpoint: 224.0.0.1:5 is not`:                              func(s *Spec) { s.Tunnels[0].Peers[0].Endpoint = ap("224.0.0.1:5") },
		`peer "b": prefixes from BGP: the tunnel has other peers`:   func(s *Spec) { s.Tunnels[0].Peers[1].FromBGP = true },
		`DSCP: 64 is out of range`:                                  func(s *Spec) { s.Tunnels[0].DSCP = 64 },
		`MTU: 1279 is out of range`:                                 func(s *Spec) { s.Tunnels[0].MTU = 1279 },
		`outbound limit: 63 kbps is out of range`:                   func(s *Spec) { s.Tunnels[0].OutboundKbps = 63 },
		`inbound limit: 100000001 kbps is out of range`:             func(s *Spec) { s.Tunnels[0].InboundKbps = 1e8 + 1 },
		`local map: 10.1.1.0/24 and 100.64.0.0/16 are not of one`:   func(s *Spec) { s.Tunnels[0].LocalMaps[0].Mapped = pfx("100.64.0.0/16") },
		`local map: 10.1.1.0/24 and fd00::/24 are not of one`:       func(s *Spec) { s.Tunnels[0].LocalMaps[0].Mapped = pfx("fd00::/24") },
		`remote map: 10.1.5.0/24 to 9.9.9.0/24 overlaps`: func(s *Spec) {
			s.Tunnels[0].RemoteMaps = append(s.Tunnels[0].RemoteMaps, Map{pfx("10.1.5.0/24"), pfx("9.9.9.0/24")})
		},
		`address: 169.254.10.1 is given twice`:           func(s *Spec) { s.Tunnels[0].Addresses = prefixList("169.254.10.1/30 169.254.10.1/24") },
		`tunnel "hq2": address: 169.254.10.1 is that of`: func(s *Spec) { s.Tunnels[1].Addresses = prefixList("169.254.10.1/24") },
		`probe target: fd10::3 is in none of the peer's`: func(s *Spec) { s.Tunnels[0].Peers[1].Probe.Target = netip.MustParseAddr("fd10::3") },
		`probe target: fd10::4 is in none of the peer's`: func(s *Spec) {
			s.Tunnels[1].Peers[0].FromBGP, s.Tunnels[1].Peers[0].Probe.Target = true, netip.MustParseAddr("fd10::4")
			s.Tunnels[1].Addresses = append(s.Tunnels[1].Addresses, netip.MustParsePrefix("fd11::1/64"))
		},
		`probe target: fd10::1 is the tunnel's own`:            func(s *Spec) { s.Tunnels[0].Peers[1].Probe.Target = netip.MustParseAddr("fd10::1") },
		`probe target: the tunnel has no address of the famil`: func(s *Spec) { s.Tunnels[1].Peers[0].Probe.Target = netip.MustParseAddr("10.1.7.1") },
		`probe interval: 9 ms is out of range`:                 func(s *Spec) { s.Tunnels[0].Peers[0].Probe.IntervalMS = 9 },
		`probe fall: -1 is out of range`:                       func(s *Spec) { s.Tunnels[0].Peers[0].Probe.Fall = -1 },
		`weight: 257 is out of range`:                          func(s *Spec) { s.Tunnels[0].Peers[0].Weight = 257 },
		`name: use 1 to 63 printable characters`:               func(s *Spec) { s.Tunnels[0].Name = "h/q" },
		`peer "": name:`:                                       func(s *Spec) { s.Tunnels[0].Peers[0].Name = "" },
		`tunnels: 4 peers with 16395 prefixes are more than`: func(s *Spec) {
			for i := range 16 {
				for j := range MaxPrefixes {
					s.Tunnels[1].Peers[0].Prefixes = append(s.Tunnels[1].Peers[0].Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i), byte(j >> 8), byte(j)}), 32))
				}
			}
			s.Tunnels[1].Peers = append(s.Tunnels[1].Peers, Peer{Name: "b", PublicKey: NewPrivateKey().Public(), Prefixes: prefixList("12.0.0.0/8 12.1.0.0/16 12.2.0.0/16 12.3.0.0/16 12.4.0.0/16 12.5.0.0/16 12.6.0.0/16")})
		},
		`tunnels: 258 are more than 256`: func(s *Spec) { s.Tunnels = append(s.Tunnels, make([]Tunnel, 256)...) },
	} {
		s := good()
		spoil(&s)
		err := s.Check()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got: %v", want, err)
		}
	}
	// All that is wrong is told at once.
	s := good()
	s.Tunnels[0].InboundKbps, s.Tunnels[1].MTU = 1, 1
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "inbound") || !strings.Contains(err.Error(), "MTU") {
		t.Errorf("got: %v", err)
	}
}
