package main

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/control"
)

// What the engines would not carry out is refused before it is stored, with the
// object, what is wrong with it and what to do.
func TestEnginesRefuse(t *testing.T) {
	socket, store := gateway(t, control.Check)
	for _, line := range []string{
		"gatewayctl tenant add contoso --encap nvgre --subnet 5001=10.1.1.0/24 --gateway-subnet 5000=10.254.254.0/29 --uplink internet --nat 203.0.113.10",
		"gatewayctl s2s add contoso hq --address 169.254.10.1/30 --peer edge --peer-key pOCSkrZRwniL0GNBGdC5ZlmNNmPb8zsUHgLiaD3h+To= --endpoint 198.51.100.7:51820 --prefix 169.254.10.2/32 --prefix 172.16.0.0/16",
		"gatewayctl bgp router set contoso --asn 64512",
		"gatewayctl bgp peer add contoso edge --address 169.254.10.2 --asn 65001",
	} {
		if out := call(t, socket, line); strings.Contains(out, "[exit") {
			t.Fatalf("%s\n%s", line, out)
		}
	}
	before := store.Objects()
	for line, want := range map[string]string{
		"s2s peer set contoso hq edge --endpoint 172.16.0.9:51820":                                                              "endpoint: 172.16.0.9:51820 is inside 172.16.0.0/16, which is reached through tunnel \"hq\"",
		"s2s peer set contoso hq edge --prefix 172.16.0.1/16":                                                                   "host bits",
		"s2s peer set contoso hq edge --weight 257":                                                                             "weight: 257 is out of range: use 1 to 256",
		"s2s peer set contoso hq edge --probe-interval 9ms":                                                                     "probe interval: 9 ms is out of range: use 10 to 60000",
		"s2s peer set contoso hq edge --probe-target 192.0.2.1":                                                                 "probe target: 192.0.2.1 is in none of the peer's prefixes",
		"s2s peer set contoso hq edge --prefix 0.0.0.0/0":                                                                       "0.0.0.0/0 would take all of the tenant's traffic",
		"s2s peer add contoso hq van --peer-key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw= --prefix 172.18.0.0/24 --from-bgp": "give the peer a tunnel of its own",
		"s2s set contoso hq --mtu 1000":                                                                                         "MTU: 1000 is out of range: use 1280 to 9000",
		"s2s set contoso hq --in-kbps 63":                                                                                       "63 kbps is out of range: use 64 to",
		"s2s set contoso hq --dscp 64":                                                                                          "DSCP 64 is out of range: use 0 to 63",
		"s2s set contoso hq --local-map 10.1.1.0/24=100.64.0.0/16":                                                              "are not of one length",
		"s2s add contoso two --address 169.254.10.1/30":                                                                         "169.254.10.1 is that of tunnel",
		"bgp peer set contoso edge --multihop 2 --bfd":                                                                          "is for neighbours one hop away",
		"bgp peer set contoso edge --family ipv6":                                                                               "ipv6 needs a session over IPv6",
		"bgp peer set contoso edge --hold 2s":                                                                                   "hold",
		"bgp peer set contoso edge --asn 64512 --as-override":                                                                   "is for eBGP: the peer's AS is the speaker's",
		"bgp router set contoso --network 10.9.0.0/16,10.9.0.0/16":                                                              "10.9.0.0/16 is there twice",
		"bgp router set contoso --aggregate 0.0.0.0/0":                                                                          "0.0.0.0/0 cannot be an aggregate",
	} {
		out := call(t, socket, "gatewayctl "+line)
		if !strings.Contains(out, "[exit 1]") || !strings.Contains(out, want) {
			t.Errorf("%s\n%swant %q", line, out, want)
		}
		if !store.Same(before) {
			t.Fatalf("%s changed the state", line)
		}
	}
}
