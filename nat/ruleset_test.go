package nat

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

var update = flag.Bool("update", false, "write the golden files anew")

func parse[T any](t *testing.T, f func(string) (T, error), ss ...string) (out []T) {
	t.Helper()
	for _, s := range ss {
		v, err := f(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func testSpec(t *testing.T) Spec {
	t.Helper()
	return Spec{
		Name: parse(t, hnv.ParseName, "contoso")[0], Namespace: "/run/netns/hnv-contoso", Inside: "wnv5000", Outside: "ext",
		InsidePrefixes: parse(t, netip.ParsePrefix, "10.1.2.0/24", "10.1.1.0/24", "10.254.254.0/29"),
		InsideAddrs:    parse(t, netip.ParseAddr, "10.254.254.2"),
		Pool:           parse(t, hnv.ParseExternalRange, "203.0.113.10"),
		InsideMTU:      1458,
	}
}

func testMapping(t *testing.T, p hnv.Proto, external, internal string) hnv.NATMapping {
	t.Helper()
	return hnv.NATMapping{Tenant: parse(t, hnv.ParseName, "contoso")[0], Proto: p,
		External: netip.MustParseAddrPort(external), Internal: netip.MustParseAddrPort(internal)}
}

// goldenSpecs are specs whose rules are worth reading.
func goldenSpecs(t *testing.T) map[string]Spec {
	t.Helper()
	simple := testSpec(t)
	rich := testSpec(t)
	rich.InsidePrefixes = append(rich.InsidePrefixes, parse(t, netip.ParsePrefix, "fd00:1::/64", "10.1.1.128/25")...)
	rich.InsideAddrs = append(rich.InsideAddrs, netip.MustParseAddr("fd00:fe::2"))
	rich.Pool = parse(t, hnv.ParseExternalRange, "203.0.113.11:20000-29999", "203.0.113.10", "203.0.113.12:1024-2047", "2001:db8::10")
	rich.Mappings = []hnv.NATMapping{
		testMapping(t, hnv.TCP, "203.0.113.10:443", "10.1.1.12:8443"),
		testMapping(t, hnv.UDP, "203.0.113.11:20053", "10.1.2.11:53"),
		testMapping(t, hnv.TCP, "[2001:db8::10]:443", "[fd00:1::12]:443"),
	}
	rich.ConnectionLimit = 500
	empty := testSpec(t)
	empty.Pool = nil
	forward := testSpec(t) // without NAT
	forward.Pool, forward.Forward = nil, []Link{{Name: "fw-dc", Addresses: parse(t, netip.ParseAddr, "192.168.50.2")}}
	forward.Mappings = []hnv.NATMapping{testMapping(t, hnv.TCP, "192.168.50.2:443", "10.1.1.12:443")}
	plain := testSpec(t)
	plain.Pool, plain.Forward = nil, []Link{waySpec(t).Forward[3]}
	return map[string]Spec{"simple": simple, "rich": rich, "no-pool": empty, "ways": waySpec(t), "forward": forward, "plain": plain}
}

func goldenTables(t *testing.T) map[string]nft.Table {
	t.Helper()
	tables := map[string]nft.Table{"closed": Closed()}
	for name, s := range goldenSpecs(t) {
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		tables[name] = Ruleset(s)
	}
	return tables
}

func TestRulesetText(t *testing.T) {
	for name, table := range goldenTables(t) {
		file := filepath.Join("testdata", name+".nft")
		got := table.String()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: (-golden +built)\n%s", name, diff)
		}
	}
}

// The order in which the parts of a Spec are listed makes no difference.
func TestRulesetIsCanonical(t *testing.T) {
	a := goldenSpecs(t)["rich"]
	b := a
	b.Pool = []hnv.ExternalRange{a.Pool[3], a.Pool[2], a.Pool[1], a.Pool[0]}
	b.InsidePrefixes = []netip.Prefix{a.InsidePrefixes[4], a.InsidePrefixes[0], a.InsidePrefixes[2], a.InsidePrefixes[1], a.InsidePrefixes[3]}
	b.Mappings = []hnv.NATMapping{a.Mappings[2], a.Mappings[0], a.Mappings[1]}
	if diff := cmp.Diff(Ruleset(a).String(), Ruleset(b).String()); diff != "" {
		t.Error(diff)
	}
	a, b = waySpec(t), waySpec(t)
	slices.Reverse(b.Forward)
	slices.Reverse(b.Tunnels)
	slices.Reverse(b.OnLink)
	slices.Reverse(b.Services)
	slices.Reverse(b.Services[1].Peers)
	if diff := cmp.Diff(Ruleset(a).String(), Ruleset(b).String()); diff != "" {
		t.Error(diff)
	}
}

// Whatever drops a packet counts it, except the policy of a chain that ends with
// a counted drop anyway.
func TestEveryDropIsCounted(t *testing.T) {
	for name, table := range goldenTables(t) {
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				text := r.String()
				if strings.HasSuffix(text, "drop") && !strings.Contains(text, "counter name") {
					t.Errorf("%s: chain %s: %s", name, c.Name, text)
				}
			}
			if c.Hook != nil && c.Hook.Drop && !strings.HasSuffix(c.Rules[len(c.Rules)-1].String(), "drop") {
				t.Errorf("%s: chain %s drops by policy what nothing counts", name, c.Name)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for says, spoil := range map[string]func(*Spec){
		"same link":                 func(s *Spec) { s.Inside = "ext" },
		"not an interface's":        func(s *Spec) { s.Outside = "averyveryverylongname" },
		"inside MTU 500":            func(s *Spec) { s.InsideMTU = 500 },
		"overlap":                   func(s *Spec) { s.Pool = append(s.Pool, hnv.ExternalRange{Addr: s.Pool[0].Addr, Lo: 5, Hi: 6}) },
		"has no ports":              func(s *Spec) { s.Pool[0].Lo, s.Pool[0].Hi = 9, 3 },
		"malformed":                 func(s *Spec) { s.Pool[0].Addr = netip.Addr{} },
		"inside prefix":             func(s *Spec) { s.InsidePrefixes[0] = netip.Prefix{} },
		"given twice":               func(s *Spec) { s.Mappings = append(s.Mappings, s.Mappings[0]) },
		"cannot be mapped":          func(s *Spec) { s.Mappings[0].Proto = "gre" },
		"not of one address family": func(s *Spec) { s.Mappings[0].Internal = netip.MustParseAddrPort("[fd00::1]:1") },
		"not within the external":   func(s *Spec) { s.Mappings[0].External = netip.MustParseAddrPort("203.0.113.99:443") },
	} {
		s := testSpec(t)
		s.Mappings = []hnv.NATMapping{testMapping(t, hnv.TCP, "203.0.113.10:443", "10.1.1.12:8443")}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want a refusal that says %q, got %v", says, err)
		}
	}
}

// waySpec has one of each way that is not translated.
func waySpec(t *testing.T) Spec {
	t.Helper()
	s := testSpec(t)
	s.InsidePrefixes = append(s.InsidePrefixes, netip.MustParsePrefix("fd00:1::/64"))
	s.Pool = parse(t, hnv.ParseExternalRange, "203.0.113.10", "203.0.113.11:20000-29999", "2001:db8::10")
	s.Mappings = []hnv.NATMapping{testMapping(t, hnv.TCP, "192.168.50.2:443", "10.1.1.12:443")}
	s.Forward = []Link{
		{Name: "fw-dc", Addresses: parse(t, netip.ParseAddr, "192.168.50.2", "fd50::2"), MTU: 1400},
		{Name: "fw-lab", Addresses: parse(t, netip.ParseAddr, "192.168.60.2"), ReversePath: ReversePathLoose},
		{Name: "fw-open", Addresses: parse(t, netip.ParseAddr, "192.168.70.2"), ReversePath: ReversePathOff},
		{Name: "ext", Addresses: parse(t, netip.ParseAddr, "203.0.113.99"),
			Sources: parse(t, netip.ParsePrefix, "10.1.1.0/24", "fd00:1::/64"), Destinations: parse(t, netip.ParsePrefix, "172.16.0.0/12", "fd99::/32")},
	}
	s.Tunnels = []Tunnel{
		{Link: "wg-hq", Addresses: parse(t, netip.ParsePrefix, "169.254.10.1/30", "fd10::1/64"), ListenPort: 51820, At: netip.MustParseAddr("203.0.113.10"),
			Endpoints: parse(t, netip.ParseAddr, "198.51.100.7", "2001:db8:7::7")},
		{Link: "wg-branch", Addresses: parse(t, netip.ParsePrefix, "169.254.11.1/30"), ListenPort: 29999, At: netip.MustParseAddr("203.0.113.11")},
		{Link: "wg-dc", Addresses: parse(t, netip.ParsePrefix, "169.254.12.1/30"), ListenPort: 51821, At: netip.MustParseAddr("192.168.50.2")},
		{Link: "wg-six", ListenPort: 51822, At: netip.MustParseAddr("2001:db8::10")},
	}
	s.Services = []Service{
		{Proto: hnv.TCP, Port: 179, Peers: parse(t, netip.ParsePrefix, "169.254.10.2/32", "192.168.50.0/24", "fd10::2/128"),
			At: parse(t, netip.ParseAddr, "169.254.10.1", "192.168.50.2", "fd10::1"), Links: []string{"wg-hq", "fw-dc"}},
		{Proto: hnv.UDP, Port: 3784, Peers: parse(t, netip.ParsePrefix, "169.254.10.2/32"),
			At: parse(t, netip.ParseAddr, "169.254.10.1"), Links: []string{"wg-hq"}, Near: true},
	}
	s.OnLink, s.Neighbours = parse(t, netip.ParsePrefix, "192.168.50.0/24", "fd50::/64", "192.168.60.0/24"), 300
	return s
}

func TestCheckRefusesWays(t *testing.T) {
	addr := netip.MustParseAddr
	for says, spoil := range map[string]func(*Spec){
		"attachment's link is not":          func(s *Spec) { s.Forward[0].Name = "averyveryverylongname" },
		"link wnv5000 is given twice":       func(s *Spec) { s.Forward[0].Name = "wnv5000" },
		"link fw-dc is given twice":         func(s *Spec) { s.Tunnels[0].Link = "fw-dc" },
		"tunnel's link is not":              func(s *Spec) { s.Tunnels[0].Link = "" },
		"link fw-dc: MTU 500":               func(s *Spec) { s.Forward[0].MTU = 500 },
		"link fw-dc: address invalid IP":    func(s *Spec) { s.Forward[0].Addresses[0] = netip.Addr{} },
		"is one to translate to as well":    func(s *Spec) { s.Forward[0].Addresses[0] = addr("203.0.113.10") },
		"203.0.113.11 is one to translate":  func(s *Spec) { s.Forward[3].Addresses[0] = addr("203.0.113.11") },
		"192.168.50.2 is on another link":   func(s *Spec) { s.Forward[1].Addresses[0] = addr("192.168.50.2") },
		"10.254.254.2 is on another link":   func(s *Spec) { s.Forward[1].Addresses[0] = addr("10.254.254.2") },
		"elsewhere routes decide":           func(s *Spec) { s.Forward[0].Sources = []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")} },
		"prefix invalid Prefix":             func(s *Spec) { s.Forward[3].Destinations[0] = netip.Prefix{} },
		"reverse path check \"lose\"":       func(s *Spec) { s.Forward[0].ReversePath = "lose" },
		"wg-hq and wg-branch listen on the": func(s *Spec) { s.Tunnels[1].ListenPort, s.Tunnels[1].At = 51820, addr("203.0.113.99") },
		"needs an address and a port":       func(s *Spec) { s.Tunnels[0].ListenPort = 0 },
		"203.0.113.11:1 is neither":         func(s *Spec) { s.Tunnels[1].ListenPort = 1 },
		"198.51.100.7:51820 is neither":     func(s *Spec) { s.Tunnels[0].At = addr("198.51.100.7") },
		"leads the same port inside": func(s *Spec) {
			s.Mappings = append(s.Mappings, testMapping(t, hnv.UDP, "203.0.113.10:51820", "10.1.1.12:5"))
		},
		"tunnel wg-hq: address invalid":    func(s *Spec) { s.Tunnels[0].Addresses[0] = netip.Prefix{} },
		"tunnel wg-hq: endpoint invalid":   func(s *Spec) { s.Tunnels[0].Endpoints[0] = netip.Addr{} },
		"use tcp or udp and a port":        func(s *Spec) { s.Services[0].Port = 0 },
		"needs peers":                      func(s *Spec) { s.Services[0].Peers = nil },
		"peer invalid Prefix is malformed": func(s *Spec) { s.Services[0].Peers[0] = netip.Prefix{} },
		"service tcp 179: address":         func(s *Spec) { s.Services[0].At[0] = netip.Addr{} },
		"link \"wg-gone\" is none":         func(s *Spec) { s.Services[0].Links[0] = "wg-gone" },
	} {
		s := waySpec(t)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want a refusal that says %q, got %v", says, err)
		}
	}
}

func TestMergePrefixes(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"10.0.0.0/24":                       "10.0.0.0/24",
		"10.0.0.0/24 10.0.1.0/24":           "10.0.0.0/23",
		"10.0.1.0/24 10.0.2.0/24":           "10.0.1.0/24 10.0.2.0/24",
		"10.0.0.0/8 10.0.1.0/24 10.0.0.0/8": "10.0.0.0/8",
		"10.0.3.0/24 10.0.0.0/24 10.0.1.0/24 10.0.2.0/24": "10.0.0.0/22",
		"0.0.0.0/1 128.0.0.0/1":                           "0.0.0.0/0",
		"10.0.0.7/24 fd00::/64":                           "10.0.0.0/24",
	} {
		var got []string
		for _, p := range merge(parse(t, netip.ParsePrefix, strings.Fields(in)...), false) {
			got = append(got, p.String())
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s became %s, want %s", in, s, want)
		}
	}
}

func TestShares(t *testing.T) {
	for _, limit := range []uint32{1, 2, 511, 512, 513, 1000, 65536, 100000, 1 << 20, 1<<32 - 1} {
		n, each := shares(limit)
		if n == 0 || each == 0 || uint64(n)*uint64(each) > uint64(limit) || each > shareSize {
			t.Errorf("a limit of %d becomes %d shares of %d", limit, n, each)
		}
		if lost := uint64(limit) - uint64(n)*uint64(each); lost > uint64(n) {
			t.Errorf("a limit of %d loses %d", limit, lost)
		}
	}
}

// Operators read of the reasons there.
func TestDropReasonsAreDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "nat-drop-reasons.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	if rows != len(counters) {
		t.Errorf("%d reasons are described, there are %d", rows, len(counters))
	}
	for _, c := range counters {
		reason, ok := strings.CutPrefix(c, DropPrefix)
		if !ok || !strings.Contains(string(b), "\n| `"+reason+"` | ") {
			t.Errorf("%s is not described", c)
		}
	}
}
