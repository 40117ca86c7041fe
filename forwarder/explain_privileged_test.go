//go:build privileged && linux

package forwarder

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// way writes a path in a line: what was found, and behind it the others.
func way(p Path) string {
	var b strings.Builder
	one := func(m Match) {
		fmt.Fprintf(&b, "%s %s proto %d metric %d", m.Type, m.Prefix, m.Protocol, m.Metric)
		for _, h := range m.Hops {
			fmt.Fprintf(&b, " %s", h.Link)
			if h.Via.IsValid() {
				fmt.Fprintf(&b, " via %s", h.Via)
			}
			if h.Weight != 1 {
				fmt.Fprintf(&b, " weight %d", h.Weight)
			}
			if h.Down {
				b.WriteString(" down")
			}
		}
	}
	switch {
	case p.Found:
		one(p.Route)
	case p.Refused != "":
		b.WriteString("refused: " + p.Refused)
	default:
		b.WriteString("none")
	}
	for _, m := range p.Others {
		b.WriteString("; ")
		one(m)
	}
	return b.String()
}

// explained is a compartment with routes of everybody's.
func explained(t *testing.T) (l *lab, comp string) {
	l = newLab(t)
	comp, _ = l.compartment()
	l.station("dc0", "10.50.0.1/24")
	foot := l.foot(KindMACVLAN, "dc0", "10.50.0.2/24", "fd50::2/64").
		via("10.60.0.0/16", "10.50.0.1", 0).via("10.64.0.0/16", "10.50.0.1", 5).via("10.64.0.0/16", "10.50.0.9", 5).via("fd60::/48", "fd50::1", 0)
	l.apply("contoso", comp, foot)
	// ext and two tunnels are stood in for by veths.
	for _, n := range []string{"ext", "wg-a", "wg-b"} {
		l.ip(comp, "link add "+n+" type veth peer name "+n+"-peer")
		l.up(comp, n+"-peer")
		l.up(comp, n)
	}
	l.ip(comp, "addr add 203.0.113.10/32 dev ext")
	l.ip(comp, "addr add 172.31.0.2/30 dev wg-a")
	for _, r := range []string{
		"route add default via 169.254.0.1 dev ext onlink proto 201",
		"route add 10.1.2.0/24 via 10.1.1.254 dev wnv5000 proto 201",
		"route add 10.60.7.0/24 via 10.50.0.1 metric 20 proto 203",
		"route add 10.70.0.0/16 metric 2000 proto 202 nexthop dev wg-a weight 1 nexthop dev wg-b weight 3",
		"route add unreachable 10.70.0.0/16 metric 4000000000 proto 202",
		"route add 10.71.0.0/16 dev wg-b metric 2000 proto 202",
		"route add unreachable 10.71.0.0/16 metric 4000000000 proto 202",
		"route add 10.71.0.0/16 via 10.50.0.1 metric 200 proto 203",
		"route add unreachable 10.1.0.0/16 metric 254 proto 203",
		"route add blackhole 10.80.0.0/16",
		"-6 route add fd70::/48 metric 2000 proto 202 nexthop via fe80::1 dev wg-a nexthop via fe80::1 dev wg-b",
		"-6 route add unreachable fd70::/48 metric 4000000000 proto 202",
	} {
		l.ip(comp, r)
	}
	return l, comp
}

func TestExplain(t *testing.T) {
	l, comp := explained(t)
	const byDefault = "unicast 0.0.0.0/0 proto 201 metric 0 ext via 169.254.0.1"
	const refuse = "unreachable %s proto 202 metric 4000000000"
	for _, c := range []struct{ dst, src, source, want string }{
		{"192.0.2.1", "", "203.0.113.10", byDefault},
		{"192.0.2.1", "10.1.1.11", "", byDefault},
		{"10.1.1.11", "", "10.1.1.1", "unicast 10.1.1.0/24 proto 2 metric 0 wnv5000; unreachable 10.1.0.0/16 proto 203 metric 254; " + byDefault},
		{"10.1.2.11", "203.0.113.10", "", "unicast 10.1.2.0/24 proto 201 metric 0 wnv5000 via 10.1.1.254; unreachable 10.1.0.0/16 proto 203 metric 254; " + byDefault},
		{"10.1.3.11", "10.1.1.11", "", "unreachable 10.1.0.0/16 proto 203 metric 254; " + byDefault},
		{"10.1.3.11", "", "", "unreachable 10.1.0.0/16 proto 203 metric 254; " + byDefault},
		{"10.50.0.1", "10.1.1.11", "", "unicast 10.50.0.0/24 proto 2 metric 0 fw-dc; " + byDefault},
		{"10.50.0.2", "10.1.1.11", "", "local 10.50.0.2/32 proto 2 metric 0 fw-dc; unicast 10.50.0.0/24 proto 2 metric 0 fw-dc; " + byDefault},
		{"10.60.1.1", "10.1.1.11", "", "unicast 10.60.0.0/16 proto 204 metric 0 fw-dc via 10.50.0.1; " + byDefault},
		{"10.60.7.1", "10.1.1.11", "", "unicast 10.60.7.0/24 proto 203 metric 20 fw-dc via 10.50.0.1; unicast 10.60.0.0/16 proto 204 metric 0 fw-dc via 10.50.0.1; " + byDefault},
		{"10.64.0.1", "", "10.50.0.2", "unicast 10.64.0.0/16 proto 204 metric 5 fw-dc via 10.50.0.1 fw-dc via 10.50.0.9; " + byDefault},
		{"10.70.0.1", "10.1.1.11", "", "unicast 10.70.0.0/16 proto 202 metric 2000 wg-a wg-b weight 3; " + fmt.Sprintf(refuse, "10.70.0.0/16") + "; " + byDefault},
		{"10.71.0.1", "10.1.1.11", "", "unicast 10.71.0.0/16 proto 203 metric 200 fw-dc via 10.50.0.1; unicast 10.71.0.0/16 proto 202 metric 2000 wg-b; " + fmt.Sprintf(refuse, "10.71.0.0/16") + "; " + byDefault},
		{"10.80.0.1", "10.1.1.11", "", "blackhole 10.80.0.0/16 proto 3 metric 0; " + byDefault},
		{"10.80.0.1", "", "", "blackhole 10.80.0.0/16 proto 3 metric 0; " + byDefault},
		{"fd60::1", "fd01::11", "", "unicast fd60::/48 proto 204 metric 1024 fw-dc via fd50::1"},
		{"fd70::1", "fd01::11", "", "unicast fd70::/48 proto 202 metric 2000 wg-a via fe80::1 wg-b via fe80::1; " + fmt.Sprintf(refuse, "fd70::/48")},
		{"2001:db8::1", "fd01::11", "", "none"},
		{"2001:db8::1", "", "", "none"},
	} {
		q := Query{Dst: ip(c.dst)}
		if c.src != "" {
			q.Src = ip(c.src)
		}
		p, err := Explain(t.Context(), netns.Path(comp), q)
		if err != nil {
			t.Errorf("to %s: %v", c.dst, err)
			continue
		}
		if got := way(p); got != c.want {
			t.Errorf("from %s to %s:\n got %s\nwant %s", c.src, c.dst, got, c.want)
		}
		if c.source != "" && p.Source.String() != c.source || c.src != "" && p.Source.IsValid() {
			t.Errorf("to %s: the source is %s, not %s", c.dst, p.Source, c.source)
		}
		wantIn := map[string]string{"10.1.1.11": "wnv5000", "fd01::11": "wnv5000"}[c.src]
		if p.In != wantIn {
			t.Errorf("from %s: comes in by %q, not %q", c.src, p.In, wantIn)
		}
	}
	// Without its tunnels a prefix is refused, and not sent elsewhere.
	l.ip(comp, "link set wg-b down")
	l.ip(comp, "link set wg-a down")
	p, err := Explain(t.Context(), netns.Path(comp), Query{Dst: ip("10.70.0.1"), Src: ip("10.1.1.11")})
	must(t, err)
	if p.Route.Type != TypeUnreachable || !p.Found {
		t.Errorf("with the tunnels down: %s", way(p))
	}
}

// A rule for marked packets is followed.
func TestExplainMark(t *testing.T) {
	l, comp := explained(t)
	l.ip(comp, "rule add fwmark 7 table 100")
	l.ip(comp, "route add default dev wg-a table 100")
	p, err := Explain(t.Context(), netns.Path(comp), Query{Dst: ip("192.0.2.1"), Mark: 7})
	must(t, err)
	if p.Route.Table != 100 || len(p.Route.Hops) != 1 || p.Route.Hops[0].Link != "wg-a" || len(p.Others) != 1 {
		t.Errorf("marked: %+v", p)
	}
}

// Packets that the kernel does not let in are told apart from those without a way.
func TestExplainRefused(t *testing.T) {
	l, comp := explained(t)
	for _, c := range []struct{ dst, src, in, want string }{
		{"10.1.1.11", "10.9.9.9", "fw-dc", "the reverse path check of fw-dc (strict) does not let 10.9.9.9 in: packets back to it leave by ext"},
		{"10.1.1.11", "10.80.0.1", "fw-dc", "the reverse path check of fw-dc (strict) does not let 10.80.0.1 in: there is no way back to it"},
		{"10.1.1.11", "10.80.0.1", "", "no packet of 10.80.0.1 is expected on any link: there is no way back to it"},
		{"10.60.1.1", "127.0.0.1", "wnv5000", "the reverse path check of wnv5000 (strict) does not let 127.0.0.1 in: packets back to it leave by lo"},
	} {
		p, err := Explain(t.Context(), netns.Path(comp), Query{Dst: ip(c.dst), Src: ip(c.src), In: c.in})
		must(t, err)
		if p.Found || p.Refused != c.want || p.Route.Type != TypeUnicast {
			t.Errorf("from %s to %s: %q, by %+v", c.src, c.dst, p.Refused, p.Route)
		}
	}
	l.run(comp, "sysctl -qw net.ipv4.conf.wnv5000.forwarding=0")
	p, err := Explain(t.Context(), netns.Path(comp), Query{Dst: ip("10.60.1.1"), Src: ip("10.1.1.11")})
	must(t, err)
	if p.Refused != "IPv4 forwarding is off on wnv5000" {
		t.Errorf("%q", p.Refused)
	}
	for _, q := range []Query{
		{}, {Dst: ip("fe80::1%1")}, {Dst: ip("::ffff:10.0.0.1")}, {Dst: ip("10.1.1.1"), Src: ip("fd01::1")},
		{Dst: ip("10.1.1.1"), In: "wnv5000"}, {Dst: ip("10.1.1.1"), Src: ip("10.1.1.11"), In: "gone0"},
	} {
		if p, err := Explain(t.Context(), netns.Path(comp), q); err == nil {
			t.Errorf("%+v was taken: %s", q, way(p))
		}
	}
	if _, err := Explain(t.Context(), "/run/netns/hnv-is-not-there", Query{Dst: ip("10.1.1.1")}); err == nil {
		t.Error("a namespace that is not there was taken")
	}
}
