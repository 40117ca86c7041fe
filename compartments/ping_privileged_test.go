//go:build privileged && linux

package compartments

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// far adds a host beyond the fabric's router: 192.168.2.2 and fd00:bb::2, over a
// link of MTU 1400, with a loop for 10.8.0.0/16 and fd00:8::/32 between the two.
func (m *machine) far() {
	m.t.Helper()
	far := m.id + ".far"
	must(m.t, netns.Create(far))
	m.run(far, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
	must(m.t, m.open(m.fabric).AddVeth(nl.LinkEnd{Name: "far0", MTU: 1400}, nl.LinkEnd{Name: "eth0", MTU: 1400, Namespace: netns.Path(far)}))
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.run(m.fabric, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
	for _, end := range [][4]string{{m.fabric, "far0", "192.168.2.1/24", "fd00:bb::1/64"}, {far, "eth0", "192.168.2.2/24", "fd00:bb::2/64"}} {
		m.ip(end[0], "link set "+end[1]+" up")
		m.ip(end[0], "addr add "+end[2]+" dev "+end[1])
		m.ip(end[0], "addr add "+end[3]+" dev "+end[1]+" nodad")
	}
	m.run(far, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")
	m.run(m.fabric, "sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.far0.send_redirects=0")
	m.ip(far, "route add default via 192.168.2.1")
	m.ip(far, "-6 route add default via fd00:bb::1")
	m.ip(m.fabric, "route add 10.8.0.0/16 via 192.168.2.2")
	m.ip(m.fabric, "-6 route add fd00:8::/32 via fd00:bb::2")
	m.ip(m.fabric, "route add prohibit 10.9.0.0/16")
	m.ip(m.fabric, "-6 route add prohibit fd00:9::/32")
}

func TestPing(t *testing.T) {
	m := newMachine(t)
	m.far()
	e := m.engine()
	s := provider("192.168.1.10/24", "fd00:aa::10/64")
	for _, r := range [][2]string{{"192.168.2.0/24", "192.168.1.1"}, {"10.0.0.0/8", "192.168.1.1"}, {"fd00:bb::/64", "fd00:aa::1"}, {"fd00:8::/31", "fd00:aa::1"}} {
		s.Routes = append(s.Routes, providerRoute(r[0], r[1]))
	}
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	m.run(m.id+".gw", "ping -c1 -W30 192.168.2.2")
	m.run(m.id+".gw", "ping -c1 -W30 fd00:bb::2")
	for name, c := range map[string]struct {
		to   string
		size int
		df   bool
		err  error
		from string // who answers
		ttl  int
		mtu  int
	}{
		"near":                    {"192.168.1.1", 56, false, nil, "192.168.1.1", 64, 0},
		"no data":                 {"192.168.1.1", 0, false, nil, "192.168.1.1", 64, 0},
		"far":                     {"192.168.2.2", 56, true, nil, "192.168.2.2", 63, 0},
		"as long as can be":       {"192.168.1.1", 1472, true, nil, "192.168.1.1", 64, 0},
		"too long for the link":   {"192.168.1.1", 1473, true, ErrTooBig, "192.168.1.10", 0, 1500},
		"cut here":                {"192.168.1.1", 4000, false, nil, "192.168.1.1", 64, 0},
		"too long further on":     {"192.168.2.2", 1472, true, ErrTooBig, "192.168.1.1", 0, 1400},
		"cut further on":          {"192.168.2.2", 1472, false, nil, "192.168.2.2", 63, 0},
		"forbidden":               {"10.9.1.1", 56, false, ErrUnreachable, "192.168.1.1", 0, 0},
		"loop":                    {"10.8.1.1", 56, false, ErrTTL, "", 0, 0},
		"no way":                  {"198.18.0.1", 56, false, ErrNoReply, "", 0, 0}, // the default route leads outside
		"6 near":                  {"fd00:aa::1", 56, false, nil, "fd00:aa::1", 64, 0},
		"6 far":                   {"fd00:bb::2", 56, true, nil, "fd00:bb::2", 63, 0},
		"6 as long as can be":     {"fd00:aa::1", 1452, true, nil, "fd00:aa::1", 64, 0},
		"6 too long for link":     {"fd00:aa::1", 1453, true, ErrTooBig, "fd00:aa::10", 0, 1500},
		"6 cut here":              {"fd00:aa::1", 4000, false, nil, "fd00:aa::1", 64, 0},
		"6 too long further on":   {"fd00:bb::2", 1452, true, ErrTooBig, "fd00:aa::1", 0, 1400},
		"6 forbidden":             {"fd00:9::1", 56, false, ErrUnreachable, "fd00:aa::1", 0, 0},
		"6 loop":                  {"fd00:8::1", 56, false, ErrTTL, "", 0, 0},
		"to itself":               {"192.168.1.10", 56, true, nil, "192.168.1.10", 64, 0},
		"a neighbour that is not": {"192.168.1.99", 56, false, ErrUnreachable, "192.168.1.10", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := PingSpec{From: mustAddr("192.168.1.10"), To: mustAddr(c.to), Count: 2, Interval: 20 * time.Millisecond, Timeout: 500 * time.Millisecond, Size: c.size, DontFragment: c.df}
			if p.To.Is6() {
				p.From = mustAddr("fd00:aa::10")
			}
			if !errors.Is(c.err, ErrNoReply) {
				p.Timeout = time.Minute // a neighbour that is not takes ARP some seconds
			}
			var got []PingReply
			res, err := e.Ping(t.Context(), p, func(r PingReply) { got = append(got, r) })
			must(t, err)
			if len(got) != 2 || res.Sent != 2 || (res.Received == 2) != (c.err == nil) {
				t.Fatalf("%+v: %+v", res, got)
			}
			for _, r := range got {
				answered := c.err == nil || c.from != "" && c.from != p.From.String()
				if !errors.Is(r.Err, c.err) || r.TTL != c.ttl || r.MTU != c.mtu || r.Seq < 1 || r.Seq > 2 || answered && r.RTT <= 0 || r.RTT > p.Timeout {
					t.Errorf("%+v", r)
				}
				if c.from != "" && r.From != mustAddr(c.from) {
					t.Errorf("answered by %s, not %s: %v", r.From, c.from, r.Err)
				}
			}
			if c.err == nil && (res.Min <= 0 || res.Avg < res.Min || res.Max < res.Avg) {
				t.Errorf("%+v", res)
			}
		})
	}

	// It ends with its context, and other pings do not disturb it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan PingResult)
	var some sync.WaitGroup // until both have some replies
	some.Add(2)
	go func() { some.Wait(); cancel() }()
	for range 2 {
		go func() {
			replies := 0
			res, err := e.Ping(ctx, PingSpec{From: mustAddr("192.168.1.10"), To: mustAddr("192.168.1.1"), Interval: 10 * time.Millisecond}, func(r PingReply) {
				if replies++; replies == 10 {
					some.Done()
				}
			})
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
	}
	for range 2 {
		if res := <-done; res.Received < 5 || res.Received > res.Sent {
			t.Errorf("%+v", res)
		}
	}

	for name, bad := range map[string]PingSpec{
		"no address":            {From: mustAddr("192.168.1.10")},
		"two families":          {From: mustAddr("192.168.1.10"), To: mustAddr("fd00:aa::1")},
		"multicast":             {From: mustAddr("192.168.1.10"), To: mustAddr("239.1.1.1")},
		"no address of this ma": {From: mustAddr("192.168.1.99"), To: mustAddr("192.168.1.1")},
		"65000":                 {From: mustAddr("192.168.1.10"), To: mustAddr("192.168.1.1"), Size: 65001},
	} {
		if _, err := e.Ping(t.Context(), bad, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if PingOverhead(netip.IPv4Unspecified()) != 28 || PingOverhead(netip.IPv6Unspecified()) != 48 {
		t.Error("the overhead is wrong")
	}
}
