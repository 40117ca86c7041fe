package stanza

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

var update = flag.Bool("update", false, "write the golden files anew")

func prefixes(in ...string) (out []netip.Prefix) {
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// sites are sessions of many sorts, by the name of their golden files.
func sites() map[string]Site {
	addr := netip.MustParseAddr
	plain := SiteOf(64512, &peering.Peer{Name: "edge", Address: addr("169.254.10.2"), ASN: 65001}, addr("169.254.10.1"), addr("169.254.10.2"))
	plain.Networks = prefixes("172.16.0.0/16", "192.0.2.7/32")
	full := SiteOf(4200000000, &peering.Peer{
		Name: "edge", Address: addr("169.254.10.2"), ASN: 65001, Hold: 9 * time.Second, TTLSecurity: 1,
		BFD: &peering.BFD{}, GracefulRestart: &peering.GracefulRestart{LongLived: time.Hour},
	}, addr("169.254.10.1"), addr("169.254.10.2"))
	full.Password = true
	full.Tunnel = Tunnel{
		PublicKey: "pOCSkrZRwniL0GNBGdC5ZlmNNmPb8zsUHgLiaD3h+To=", Endpoint: netip.MustParseAddrPort("203.0.113.10:51820"),
		Addresses: prefixes("169.254.10.2/30"), ListenPort: 51820, AllowedIPs: prefixes("169.254.10.1/32", "10.1.1.0/24"), Keepalive: 25, MTU: 1420, PresharedKey: true,
	}
	internal := SiteOf(65001, &peering.Peer{Name: "edge", Address: addr("169.254.10.2"), ASN: 65001}, addr("169.254.10.1"), addr("169.254.10.2"))
	internal.Networks = prefixes("172.16.0.0/16")
	internal.Passive = true
	far := SiteOf(64512, &peering.Peer{Name: "edge", Address: addr("169.254.10.2"), ASN: 65001, MultihopTTL: 3}, addr("169.254.10.1"), addr("169.254.10.2"))
	six := SiteOf(64512, &peering.Peer{
		Name: "edge", Address: addr("fd00:10::2"), ASN: 65001, Families: []peering.Family{peering.IPv4, peering.IPv6},
		BFD: &peering.BFD{Interval: 50 * time.Millisecond, Multiplier: 5},
	}, addr("fd00:10::1"), addr("fd00:10::2"))
	six.Networks = prefixes("172.16.0.0/16", "fd00:16::/48")
	out := map[string]Site{"plain": plain, "full": full, "internal": internal, "multihop": far, "ipv6": six}
	for name, s := range out {
		s.Tenant, s.Connection, s.Peer = "contoso", "hq-1", "edge"
		out[name] = s
	}
	return out
}

func TestGolden(t *testing.T) {
	for name, s := range sites() {
		for _, r := range Routers() {
			got, err := s.Write(r)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+"."+string(r))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || string(want) != got {
				t.Errorf("%s: %v\n%s", file, err, got)
			}
		}
	}
	if _, err := (Site{}).Write("junos"); err == nil || !strings.Contains(err.Error(), "use frr, bird or vyos") {
		t.Errorf("junos: %v", err)
	}
}

// What is written is what these programs read.
func TestRoutersTakeIt(t *testing.T) {
	check := map[Router]func(file string) *exec.Cmd{
		FRR:  func(file string) *exec.Cmd { return exec.Command("vtysh", "--dryrun", "--inputfile", file) },
		BIRD: func(file string) *exec.Cmd { return exec.Command("/usr/sbin/bird", "-p", "-c", file) },
	}
	for name, s := range sites() {
		for r, command := range check {
			text, err := s.Write(r)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "conf")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := command(file)
			if _, err := exec.LookPath(cmd.Path); err != nil {
				t.Skipf("%s is not installed: .ci/deps does that", cmd.Path)
			}
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "Unknown command") || strings.Contains(string(out), "%") {
				t.Errorf("%s for %s: %v\n%s\n%s", name, r, err, out, text)
			}
		}
	}
}
