package nat

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/ct"
)

func entry(proto uint8, origSrc, origDst, replySrc, replyDst string) ct.Entry {
	ap := netip.MustParseAddrPort
	return ct.Entry{
		Orig:  ct.Tuple{Proto: proto, Src: ap(origSrc), Dst: ap(origDst)},
		Reply: ct.Tuple{Proto: proto, Src: ap(replySrc), Dst: ap(replyDst)},
	}
}

func TestStale(t *testing.T) {
	s := testSpec(t)
	s.Pool = parse(t, hnv.ParseExternalRange, "203.0.113.10", "203.0.113.11:20000-29999", "2001:db8::10")
	s.Mappings = []hnv.NATMapping{
		testMapping(t, hnv.TCP, "203.0.113.10:443", "10.1.1.12:8443"),
		testMapping(t, hnv.UDP, "[2001:db8::10]:53", "[fd00:1::12]:53"),
	}
	w := newWanted(s)
	const icmp, tcp, udp, icmp6 = 1, 6, 17, 58
	for _, c := range []struct {
		what  string
		entry ct.Entry
		stale bool
	}{
		{"outbound", entry(tcp, "10.1.1.11:5000", "198.51.100.7:80", "198.51.100.7:80", "203.0.113.10:5000"), false},
		{"outbound by a range", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.11:20000"), false},
		{"below the range", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.11:19999"), true},
		{"above the range", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.11:30000"), true},
		{"by an address that is gone", entry(tcp, "10.1.1.11:5000", "198.51.100.7:80", "198.51.100.7:80", "203.0.113.12:5000"), true},
		{"ping", entry(icmp, "10.1.1.11:7", "198.51.100.7:7", "198.51.100.7:20007", "203.0.113.11:20007"), false},
		{"ping with an identifier out of range", entry(icmp, "10.1.1.11:7", "198.51.100.7:7", "198.51.100.7:7", "203.0.113.11:7"), true},
		{"IPv6 ping", entry(icmp6, "[fd00:1::11]:7", "[2001:db8:7::7]:7", "[2001:db8:7::7]:2007", "[2001:db8::10]:2007"), false},
		{"mapped", entry(tcp, "198.51.100.7:5000", "203.0.113.10:443", "10.1.1.12:8443", "198.51.100.7:5000"), false},
		{"mapped to another VM", entry(tcp, "198.51.100.7:5000", "203.0.113.10:443", "10.1.1.13:8443", "198.51.100.7:5000"), true},
		{"mapped to another port", entry(tcp, "198.51.100.7:5000", "203.0.113.10:443", "10.1.1.12:8444", "198.51.100.7:5000"), true},
		{"mapped by another protocol", entry(udp, "198.51.100.7:5000", "203.0.113.10:443", "10.1.1.12:8443", "198.51.100.7:5000"), true},
		{"mapped from a port that is not", entry(tcp, "198.51.100.7:5000", "203.0.113.10:444", "10.1.1.12:8443", "198.51.100.7:5000"), true},
		{"mapped for IPv6", entry(udp, "[2001:db8:7::7]:5000", "[2001:db8::10]:53", "[fd00:1::12]:53", "[2001:db8:7::7]:5000"), false},
		{"hairpin", entry(tcp, "10.1.1.11:5000", "203.0.113.10:443", "10.1.1.12:8443", "203.0.113.10:5000"), false},
		{"hairpin with a source that is gone", entry(tcp, "10.1.1.11:5000", "203.0.113.10:443", "10.1.1.12:8443", "203.0.113.12:5000"), true},
		{"hairpin to a mapping that is gone", entry(tcp, "10.1.1.11:5000", "203.0.113.10:444", "10.1.1.12:8443", "203.0.113.10:5000"), true},
		{"to the compartment", entry(icmp, "10.1.1.11:7", "10.254.254.2:7", "10.254.254.2:7", "10.1.1.11:7"), false},
		{"to an external address that is gone", entry(icmp, "198.51.100.7:7", "203.0.113.12:7", "203.0.113.12:7", "198.51.100.7:7"), true},
		{"by the compartment, to a stranger", entry(tcp, "203.0.113.10:5000", "198.51.100.7:22", "198.51.100.7:22", "203.0.113.10:5000"), true},
		{"over outside as it is", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "10.1.1.11:5000"), true},
		{"over a link that is gone", zoned(entry(udp, "10.1.1.11:5000", "192.168.50.9:53", "192.168.50.9:53", "10.1.1.11:5000")), true},
	} {
		if got := w.stale(c.entry); got != c.stale {
			t.Errorf("%s: stale is %v", c.what, got)
		}
	}
	if !newWanted(Spec{}).stale(entry(tcp, "10.1.1.11:5000", "198.51.100.7:80", "198.51.100.7:80", "203.0.113.10:5000")) {
		t.Error("with nothing to translate by, a translated connection is not stale")
	}
}

func zoned(e ct.Entry) ct.Entry {
	e.Zone = Zone
	return e
}

func TestStaleWays(t *testing.T) {
	s := waySpec(t)
	w := newWanted(s)
	const icmp, tcp, udp, gre = 1, 6, 17, 47
	for _, c := range []struct {
		what  string
		entry ct.Entry
		stale bool
	}{
		{"inside to a site", zoned(entry(tcp, "10.1.1.11:5000", "10.50.1.9:80", "10.50.1.9:80", "10.1.1.11:5000")), false},
		{"transit", zoned(entry(gre, "10.50.1.9:0", "10.60.1.9:0", "10.60.1.9:0", "10.50.1.9:0")), false},
		{"over outside as it is", entry(tcp, "10.1.1.11:5000", "172.16.1.1:80", "172.16.1.1:80", "10.1.1.11:5000"), false},
		{"and from there", entry(tcp, "172.16.1.1:5000", "10.1.1.11:80", "10.1.1.11:80", "172.16.1.1:5000"), false},
		{"from a subnet that does not", entry(tcp, "10.1.2.11:5000", "172.16.1.1:80", "172.16.1.1:80", "10.1.2.11:5000"), true},
		{"to where it does not", entry(tcp, "10.1.1.11:5000", "172.32.1.1:80", "172.32.1.1:80", "10.1.1.11:5000"), true},
		{"translated", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.10:51819"), false},
		{"translated to a tunnel's port", entry(udp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.10:51820"), true},
		{"translated to its number for TCP", entry(tcp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.10:51820"), false},
		{"translated to an attachment's address", entry(tcp, "10.1.1.11:5000", "198.51.100.7:53", "198.51.100.7:53", "203.0.113.99:5000"), true},
		{"mapped at an attachment", zoned(entry(tcp, "192.168.50.9:5000", "192.168.50.2:443", "10.1.1.12:443", "192.168.50.9:5000")), false},
		{"BGP from a peer", zoned(entry(tcp, "169.254.10.2:5000", "169.254.10.1:179", "169.254.10.1:179", "169.254.10.2:5000")), false},
		{"BGP to a peer", zoned(entry(tcp, "169.254.10.1:5000", "169.254.10.2:179", "169.254.10.2:179", "169.254.10.1:5000")), false},
		{"BGP to a peer by another address", zoned(entry(tcp, "169.254.11.1:5000", "169.254.10.2:179", "169.254.10.2:179", "169.254.11.1:5000")), true},
		{"BGP from a stranger", zoned(entry(tcp, "169.254.10.3:5000", "169.254.10.1:179", "169.254.10.1:179", "169.254.10.3:5000")), true},
		{"BGP to a stranger", zoned(entry(tcp, "169.254.10.1:5000", "169.254.10.3:179", "169.254.10.3:179", "169.254.10.1:5000")), true},
		{"SSH from a peer", zoned(entry(tcp, "169.254.10.2:5000", "169.254.10.1:22", "169.254.10.1:22", "169.254.10.2:5000")), true},
		{"a tunnel, tracked", entry(udp, "198.51.100.7:5000", "203.0.113.10:51820", "203.0.113.10:51820", "198.51.100.7:5000"), true},
		{"a probe", zoned(entry(icmp, "169.254.10.1:7", "10.50.1.9:7", "10.50.1.9:7", "169.254.10.1:7")), false},
	} {
		if got := w.stale(c.entry); got != c.stale {
			t.Errorf("%s: stale is %v", c.what, got)
		}
	}
	hairpin := entry(tcp, "10.1.1.11:5000", "192.168.50.2:443", "10.1.1.12:443", "10.254.254.2:5000")
	if !w.stale(hairpin) {
		t.Error("a hairpin to an own address goes on where there are external ones")
	}
	s.Pool, s.Tunnels = nil, nil
	if newWanted(s).stale(hairpin) {
		t.Error("a hairpin to an own address is ended where there is no other")
	}
	s.Forward, s.Tunnels, s.Services, s.Mappings = nil, nil, nil, nil
	if !newWanted(s).stale(zoned(entry(tcp, "10.1.1.11:5000", "10.50.1.9:80", "10.50.1.9:80", "10.1.1.11:5000"))) {
		t.Error("with no way left, a connection over one is not stale")
	}
}

func TestSessionKinds(t *testing.T) {
	for _, c := range []struct {
		entry                            ct.Entry
		kind                             Kind
		inside, external, remote, mapped string
	}{
		{entry(6, "10.1.1.11:5000", "198.51.100.7:80", "198.51.100.7:80", "203.0.113.10:6000"),
			Outbound, "10.1.1.11:5000", "203.0.113.10:6000", "198.51.100.7:80", ""},
		{entry(1, "10.1.1.11:7", "198.51.100.7:7", "198.51.100.7:2007", "203.0.113.10:2007"),
			Outbound, "10.1.1.11:7", "203.0.113.10:2007", "198.51.100.7:7", ""},
		{entry(6, "198.51.100.7:5000", "203.0.113.10:443", "10.1.1.12:8443", "198.51.100.7:5000"),
			Inbound, "10.1.1.12:8443", "203.0.113.10:443", "198.51.100.7:5000", ""},
		{entry(6, "10.1.1.11:5000", "203.0.113.10:443", "10.1.1.12:8443", "203.0.113.10:5000"),
			Hairpin, "10.1.1.11:5000", "203.0.113.10:5000", "203.0.113.10:443", "10.1.1.12:8443"},
		{entry(1, "10.1.1.11:7", "10.254.254.2:7", "10.254.254.2:7", "10.1.1.11:7"),
			Local, "", "10.254.254.2:7", "10.1.1.11:7", ""},
	} {
		s := newSession(c.entry)
		text := func(a netip.AddrPort) string {
			if !a.IsValid() {
				return ""
			}
			return a.String()
		}
		if s.Kind != c.kind || text(s.Inside) != c.inside || text(s.External) != c.external || text(s.Remote) != c.remote || text(s.Mapped) != c.mapped {
			t.Errorf("%+v became %+v", c.entry, s)
		}
	}
}
