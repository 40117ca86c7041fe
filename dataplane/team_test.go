package dataplane

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// The PAs of the hosts' NIC teams in teamLab.
var (
	teamGate = []string{paGate, "192.168.1.2"}
	teamHost = []string{paHost1, "192.168.1.11", "192.168.1.12", "192.168.1.13"}
	teamFar  = []string{paHost2, "192.168.2.11", "192.168.2.12"}
)

// teamLab is the example lab with hosts that have several PAs each, and all
// records at all of them.
func teamLab(t *testing.T) (l *lab, contoso, fabrikam *site) {
	l = newLab(t)
	for _, pas := range [][]string{teamGate, teamHost, teamFar} {
		l.addHost(pas...)
	}
	contoso, fabrikam = l.join("contoso", 5000, hnv.NVGRE), l.join("fabrikam", 6000, hnv.VXLAN)
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			for i := range t.Records {
				for _, team := range [][]string{teamGate, teamHost, teamFar} {
					if t.Records[i].PA == ip(team[0]) {
						for _, pa := range team[1:] {
							t.Records[i].TeamPAs = append(t.Records[i].TeamPAs, ip(pa))
						}
					}
				}
			}
		})
	}
	return l, contoso, fabrikam
}

// chiSquare tells whether the counts may be those of things thrown into n boxes
// by chance: it gives the deviation of chi-square from what is expected, in
// standard deviations (Wilson and Hilferty).
func chiSquare(counts []int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	want := float64(total) / float64(len(counts))
	x := 0.0
	for _, n := range counts {
		d := float64(n) - want
		x += d * d / want
	}
	k := float64(len(counts) - 1)
	return (math.Cbrt(x/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
}

// setDown tells all hosts which PAs are known to be down, and cuts them off.
func (l *lab) setDown(pas ...string) {
	l.cut = map[netip.Addr]bool{}
	var down []netip.Addr
	for _, pa := range pas {
		l.cut[ip(pa)] = true
		down = append(down, ip(pa))
	}
	for _, h := range l.hosts {
		p := Provider{MTU: l.mtu, Down: down}
		for pa, o := range l.byPA {
			if o == h {
				p.Addrs = append(p.Addrs, pa)
			}
		}
		slices.SortFunc(p.Addrs, netip.Addr.Compare)
		h.sw.SetProvider(p)
	}
}

// Flows between hosts with several PAs go from and to all of them, each flow by
// the same pair all the time, in both directions, over both kinds of tunnel; and
// those of a PA that is down go on over the others, its own or the other end's.
func TestTeams(t *testing.T) {
	l, contoso, fabrikam := teamLab(t)
	const flows = 600
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			what     string
			from, to *nic
			src, dst []string // the team members that must be used, and no others
			down     []string
		}{
			{"there", s.vm11, s.vm12, teamHost, teamFar, nil},
			{"back", s.vm12, s.vm11, teamFar, teamHost, nil},
			{"routed", s.vm11, s.v21, teamHost, teamFar, nil},
			{"to the compartment", s.vm11, s.gw, teamHost, teamGate, nil},
			{"from the compartment", s.gw, s.vm11, teamGate, teamHost, nil},
			{"own PA down", s.vm11, s.vm12, teamHost[1:], teamFar, teamHost[:1]},
			{"own second PA down", s.vm11, s.vm12, []string{teamHost[0], teamHost[2], teamHost[3]}, teamFar, teamHost[1:2]},
			{"all own but one down", s.vm11, s.vm12, teamHost[2:3], teamFar, []string{teamHost[0], teamHost[1], teamHost[3]}},
			{"their PA down", s.vm11, s.vm12, teamHost, teamFar[1:], teamFar[:1]},
			{"their other PA down", s.vm11, s.vm12, teamHost, teamFar[:2], teamFar[2:]},
			{"some of both", s.vm12, s.vm11, teamFar[:1], teamHost[2:], []string{teamFar[1], teamFar[2], teamHost[0], teamHost[1]}},
		} {
			l.setDown(tc.down...)
			src, dst := map[netip.Addr]int{}, map[netip.Addr]int{}
			arrived := 0
			for i := range flows {
				b := s.packet(tc.from, tc.to, i%2 == 1, udpPorts(layers.UDPPort(1024+i), 53), "x")
				var pair [2]netip.Addr
				for j := range 2 {
					l.tap = nil
					tc.from.send(b)
					l.settle()
					arrived += len(tc.to.drain())
					if len(l.tap) != 1 {
						t.Fatalf("%s of %s: %d packets on the fabric", tc.what, s.Name, len(l.tap))
					}
					o, _ := readOuter(l.tap[0].bytes)
					if now := [2]netip.Addr{o.src, o.dst}; j == 0 {
						pair = now
					} else if now != pair {
						t.Fatalf("%s of %s: a flow goes from %s to %s, and then from %s to %s", tc.what, s.Name, pair[0], pair[1], now[0], now[1])
					}
				}
				src[pair[0]]++
				dst[pair[1]]++
			}
			if arrived != 2*flows {
				t.Errorf("%s of %s: %d packets of %d arrived; drops %v %v %v", tc.what, s.Name, arrived, 2*flows, l.hosts[0].allDrops(), l.hosts[1].allDrops(), l.hosts[2].allDrops())
			}
			for what, side := range map[string]struct {
				used map[netip.Addr]int
				team []string
			}{"source": {src, tc.src}, "destination": {dst, tc.dst}} {
				var counts []int
				for _, pa := range side.team {
					counts = append(counts, side.used[ip(pa)])
					delete(side.used, ip(pa))
				}
				// Without a failure the hash spreads alone; with one, what was for the
				// PA goes to the one behind it.
				if z := chiSquare(counts); len(tc.down) == 0 && z > 5 {
					t.Errorf("%s of %s: %s PAs are used %v times: %.1f standard deviations from chance", tc.what, s.Name, what, counts, z)
				}
				if slices.Min(counts) < flows/12 || len(side.used) != 0 {
					t.Errorf("%s of %s: %s PAs are used %v times, others %v", tc.what, s.Name, what, counts, side.used)
				}
			}
		}
		l.setDown()
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

// A receiver takes a packet from any PA of the sender's team, and from no other.
func TestTeamsSourceCheck(t *testing.T) {
	l, contoso, fabrikam := teamLab(t)
	h2 := l.hosts[2]
	for _, s := range []*site{contoso, fabrikam} {
		for _, to := range teamFar {
			for _, from := range slices.Concat(teamHost, teamGate, []string{"192.168.1.99", paHost2}) {
				h2.inject(outerPacket(s.Encap, from, to, s.base+1, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")))
				if got := len(s.vm12.drain()); (got == 1) != slices.Contains(teamHost, from) {
					t.Errorf("%s: from %s to %s: %d frames arrive", s.Name, from, to, got)
				}
			}
		}
	}
	d := h2.allDrops()
	if n := uint64(len(teamFar) * 2); d[drop.SourcePAMismatch] != 2*n || d[drop.SourcePAUnknown] != n || d[drop.OuterSourceOurs] != n {
		t.Errorf("drops are %v", d)
	}
	// A member that leaves the team is a stranger at once, also to flows that came
	// by it; one that joins is heard.
	for _, s := range []*site{contoso, fabrikam} {
		l.changeRecord(s, "10.1.1.11", func(r *hnv.Record) { r.TeamPAs = []netip.Addr{ip(teamHost[1])} })
	}
	for _, from := range teamHost {
		h2.inject(outerPacket(hnv.NVGRE, from, paHost2, 5001, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")))
		if got := len(contoso.vm12.drain()); (got == 1) != slices.Contains(teamHost[:2], from) {
			t.Errorf("from %s after the team changed: %d frames arrive", from, got)
		}
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

// Broadcasts and questions reach each host of several PAs once, and go on when
// the PA that they went to is down.
func TestTeamsBroadcast(t *testing.T) {
	l, contoso, fabrikam := teamLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, down := range [][]string{nil, teamFar[:1], teamFar[1:], teamHost[:1], {teamHost[0], teamHost[1], teamFar[0], teamFar[1]}} {
			l.setDown(down...)
			l.tap = nil
			s.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "all"))
			l.settle()
			if len(l.tap) != 1 {
				t.Errorf("%s with %v down: %d copies on the fabric, want 1", s.Name, down, len(l.tap))
			}
			for n, want := range map[*nic]int{s.vm11: 0, s.vm12: 1, s.vm13: 1, s.v21: 0, s.gw: 0} {
				if got := len(n.drain()); got != want {
					t.Errorf("%s with %v down: %s got %d copies, want %d; drops %v", s.Name, down, s.ca(n, false), got, want, l.hosts[2].allDrops())
				}
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
		l.setDown()
	}
}

// With teams, a live migration moves a VM to a host of one PA and back, and its
// flows go on.
func TestTeamsMigration(t *testing.T) {
	l, contoso, fabrikam := teamLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		home := s.vm11.host
		b := s.packet(s.vm12, s.vm11, false, udpPorts(1, 2), "x")
		s.vm12.send(b)
		expect(t, l, s.vm11, "x", contoso, fabrikam)
		l.changeRecord(s, "10.1.1.11", func(r *hnv.Record) { r.PA, r.TeamPAs = ip(paGate), nil })
		there := l.hosts[0].plug(s.base+1, mac11, PortVM)
		l.tap = nil
		s.vm12.send(b)
		l.settle()
		if o, _ := readOuter(l.tap[0].bytes); len(there.drain()) != 1 || o.dst != ip(paGate) {
			t.Errorf("%s: the VM's new home got nothing; the packet went to %s", s.Name, o.dst)
		}
		there.send(s.packet(s.vm11, s.vm12, false, udpPorts(2, 1), "x"))
		expect(t, l, s.vm12, "x", contoso, fabrikam)
		l.changeRecord(s, "10.1.1.11", func(r *hnv.Record) {
			r.PA, r.TeamPAs = ip(teamHost[3]), []netip.Addr{ip(teamHost[0]), ip(teamHost[1])}
		})
		for i := range 20 {
			s.vm12.send(s.packet(s.vm12, s.vm11, false, udpPorts(1, layers.UDPPort(2+i)), fmt.Sprint(i)))
			expect(t, l, s.vm11, fmt.Sprint(i), contoso, fabrikam)
			home.lab.tap = nil
			s.vm11.send(s.packet(s.vm11, s.vm12, false, udpPorts(layers.UDPPort(2+i), 1), fmt.Sprint(i)))
			expect(t, l, s.vm12, fmt.Sprint(i), contoso, fabrikam)
			if o, _ := readOuter(l.tap[0].bytes); o.src == ip(teamHost[2]) {
				t.Errorf("%s: a packet comes from a PA that is not of the team any more", s.Name)
			}
		}
	}
}
