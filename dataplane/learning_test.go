package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// schooled is the example lab with learning in the first subnets: stations .14 on
// host 1 and .15 on host 2 in each tenant have L2Only records. A control plane
// keeps what is learned and gives it to all hosts, those that said so too.
type schooled struct {
	*lab
	contoso, fabrikam *site
	a, b              map[*site]*nic
	events            []LearnEvent
	store             map[hnv.RDID]map[hnv.RecordKey]hnv.Record
	deaf              bool // the control plane does nothing
}

func newSchooled(t *testing.T, learning hnv.Learning, encapA, encapB hnv.Rule) *schooled {
	l, contoso, fabrikam := exampleLab(t)
	c := &schooled{lab: l, contoso: contoso, fabrikam: fabrikam, a: map[*site]*nic{}, b: map[*site]*nic{}, store: map[hnv.RDID]map[hnv.RecordKey]hnv.Record{}}
	for _, h := range l.hosts {
		h.sw.opt.OnLearn = c.heard
	}
	for _, s := range []*site{contoso, fabrikam} {
		c.store[s.RDID] = map[hnv.RecordKey]hnv.Record{}
		l.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].Learning = &learning
			t.Records = append(slices.Clone(t.Records),
				hnv.Record{VSID: mustVSID(s.base + 1), MAC: mac14, PA: ip(paHost1), Rule: encapA, Type: hnv.L2Only},
				hnv.Record{VSID: mustVSID(s.base + 1), MAC: mac15, PA: ip(paHost2), Rule: encapB, Type: hnv.L2Only})
		})
		c.a[s], c.b[s] = l.hosts[1].plug(s.base+1, mac14, PortVM), l.hosts[2].plug(s.base+1, mac15, PortVM)
	}
	return c
}

// heard is the control plane.
func (c *schooled) heard(e LearnEvent) {
	c.events = append(c.events, e)
	if c.deaf {
		return
	}
	var put []hnv.Record
	var del []hnv.RecordKey
	k := e.Record.RecordKey()
	switch e.Kind {
	case Learned, LearnedMove:
		c.store[e.RDID][k] = e.Record
		put = append(put, e.Record)
	case LearnedAged:
		if now, ok := c.store[e.RDID][k]; !ok || !now.Equal(e.Record) {
			return // it has moved meanwhile
		}
		delete(c.store[e.RDID], k)
		del = append(del, k)
	default:
		return
	}
	for _, h := range c.hosts {
		if err := h.sw.UpdateRecords(e.RDID, put, del); err != nil {
			c.t.Error(err)
		}
	}
}

// kinds takes the events that came since it was asked last.
func (c *schooled) kinds() (out []LearnKind) {
	for _, e := range c.events {
		out = append(out, e.Kind)
	}
	c.events = nil
	return out
}

func (c *schooled) want(what string, kinds ...LearnKind) {
	c.t.Helper()
	if got := c.kinds(); !slices.Equal(got, kinds) {
		c.t.Errorf("%s: events are %v, want %v", what, got, kinds)
	}
}

// holder gives the record of the CA on every host, which must be the same; none
// is the zero one.
func (c *schooled) holder(s *site, ca string) (mac hnv.MAC, pa netip.Addr) {
	c.t.Helper()
	for i, h := range c.hosts {
		var m hnv.MAC
		var p netip.Addr
		if rec := h.sw.byRDID[s.RDID].domain.Load().Record(s.base+1, ip(ca)); rec != nil {
			m, _ = hnv.MACFrom(rec.MAC)
			p = rec.PA.Netip()
		}
		if i > 0 && (m != mac || p != pa) {
			c.t.Errorf("%s: %s is %s at %s for host %s, and %s at %s for another", s.Name, ca, m, p, h.pa, mac, pa)
		}
		mac, pa = m, p
	}
	return mac, pa
}

// pass lets time pass, second by second.
func (c *schooled) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		c.now = c.now.Add(time.Second)
		c.upkeep()
		c.settle()
	}
}

// quiet empties all NICs.
func (c *schooled) quiet() {
	for _, s := range []*site{c.contoso, c.fabrikam} {
		for _, n := range append(s.nics(), c.a[s], c.b[s]) {
			n.drain()
		}
	}
}

// dhcp is a message between a client and its server.
func dhcp(typ layers.DHCPMsgType, src, dst hnv.MAC, from, to string, client hnv.MAC, yours, mine string, lease uint32) []byte {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: 7,
		ClientHWAddr: macBytes(client), YourClientIP: ip(yours).AsSlice(), ClientIP: ip(mine).AsSlice(),
		NextServerIP: ip("0.0.0.0").AsSlice(), RelayAgentIP: ip("0.0.0.0").AsSlice(),
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(typ)})},
	}
	u := udpPorts(67, 68)
	switch typ {
	case layers.DHCPMsgTypeDiscover, layers.DHCPMsgTypeRequest, layers.DHCPMsgTypeRelease, layers.DHCPMsgTypeDecline:
		m.Operation = layers.DHCPOpRequest
		u = udpPorts(68, 67)
	default:
		m.Options = append(m.Options, layers.NewDHCPOption(layers.DHCPOptLeaseTime, []byte{byte(lease >> 24), byte(lease >> 16), byte(lease >> 8), byte(lease)}))
	}
	if typ == layers.DHCPMsgTypeDecline {
		m.Options = append(m.Options, layers.NewDHCPOption(layers.DHCPOptRequestIP, ip(yours).AsSlice()))
		m.YourClientIP = ip("0.0.0.0").AsSlice()
	}
	body := serialize(m)
	return ipFrame(src, dst, from, to, 64, u, string(body))
}

// A station's addresses are learned from what it says by ARP and neighbor
// discovery, of both families, on every host and in its tenant alone; then it
// talks like any other. Probes, data and what others say teach nothing.
func TestLearnedFromWhat(t *testing.T) {
	for _, rules := range [][2]hnv.Rule{{hnv.RuleNVGRE, hnv.RuleVXLAN}, {hnv.RuleVXLAN, hnv.RuleVXLAN}} {
		c := newSchooled(t, hnv.Learning{}, rules[0], rules[1])
		for _, s := range []*site{c.contoso, c.fabrikam} {
			vm := c.a[s]
			i := 50
			for what, frame := range map[string]func(ca string) []byte{
				"ARP announcement":      func(ca string) []byte { return announce(mac14, ca) },
				"ARP announcing reply":  func(ca string) []byte { return arpFrame(2, mac14, macBroadcast, mac14, ca, ca) },
				"ARP request":           func(ca string) []byte { return arpFrame(1, mac14, macBroadcast, mac14, ca, "10.1.1.1") },
				"ARP reply":             func(ca string) []byte { return arpFrame(2, mac14, mac12, mac14, ca, "10.1.1.12") },
				"neighbor solicitation": func(ca string) []byte { return solicit(vm, ca, "fd00:1::1", hnv.MAC{}) },
				"neighbor advertisement": func(ca string) []byte {
					return neighborFrame(t, packet.NDNeighborAdvertisement, mac14, macMulticast6, mac14, ca, "ff02::1", ca)
				},
				"link-local advertisement": func(ca string) []byte {
					return neighborFrame(t, packet.NDNeighborAdvertisement, mac14, macMulticast6, mac14, "fe80::14", "ff02::1", ca)
				},
			} {
				i++
				ca, peer := fmt.Sprintf("10.1.1.%d", i), "10.1.1.12"
				if what[0] != 'A' {
					ca, peer = fmt.Sprintf("fd00:1::%d", i), "fd00:1::12"
				}
				vm.send(frame(ca))
				c.upkeep()
				c.quiet()
				c.want(what, Learned)
				if mac, pa := c.holder(s, ca); mac != mac14 || pa != ip(paHost1) {
					t.Errorf("%s, %s: %s is at %s of %s", s.Name, what, ca, mac, pa)
				}
				vm.send(udp(mac14, mac12, ca, peer, "up"))
				expect(t, c.lab, s.vm12, "up", c.contoso, c.fabrikam)
				s.vm12.send(udp(mac12, mac14, peer, ca, "down"))
				c.settle()
				if got := vm.drain(); len(got) != 1 || decode(t, got[0].bytes).payload != "down" {
					t.Errorf("%s, %s: %d frames came down", s.Name, what, len(got))
				}
				if len(c.a[map[*site]*site{c.contoso: c.fabrikam, c.fabrikam: c.contoso}[s]].drain()) != 0 {
					t.Errorf("%s, %s: the neighbour's station got something", s.Name, what)
				}
				// It goes on, moves on, and makes room for the next one.
				if err := forgetCA(c, s, ca); err != nil {
					t.Fatal(err)
				}
			}
			before := c.hosts[1].allDrops()
			for what, frame := range map[string][]byte{
				"a probe":                     arpFrame(1, mac14, macBroadcast, mac14, "0.0.0.0", "10.1.1.70"),
				"duplicate address detection": solicit(vm, "::", "fd00:1::70", hnv.MAC{}),
				"data":                        udp(mac14, mac12, "10.1.1.70", "10.1.1.12", "x"),
				"broadcast data":              udp(mac14, macBroadcast, "10.1.1.70", "255.255.255.255", "x"),
				"ARP in another MAC's name":   arpFrame(1, mac14, macBroadcast, mac13, "10.1.1.70", "10.1.1.70"),
				"an advertisement of another": neighborFrame(t, packet.NDNeighborAdvertisement, mac14, macMulticast6, mac13, "fe80::14", "ff02::1", "fd00:1::70"),
				"the router's address":        announce(mac14, "10.1.1.1"),
				"another subnet's address":    announce(mac14, "10.1.2.70"),
				"a configured address":        announce(mac14, "10.1.1.12"),
				"the broadcast address":       announce(mac14, "10.1.1.255"),
				"the subnet's own address":    announce(mac14, "10.1.1.0"),
				"an address of the Internet":  announce(mac14, "203.0.113.9"),
			} {
				vm.send(frame)
				c.upkeep()
				c.want(what)
			}
			s.vm13.send(announce(mac13, "10.1.1.71")) // no L2Only station
			s.v21.send(announce(mac21, "10.1.2.71"))  // no learning there
			c.upkeep()
			c.want("who may not learn")
			n := uint64(0)
			for r, k := range c.hosts[1].since(before) {
				n += k
				if !slices.Contains([]drop.Reason{drop.ARPUnknown, drop.NDUnknown, drop.SourceCAUnknown, drop.ARPSpoofed, drop.NDSpoofed, drop.ARPIgnored, drop.NDIgnored}, r) {
					t.Errorf("%s: %d dropped for %s", s.Name, k, r)
				}
			}
			if n < 11 { // a probe and one of duplicates may be questions to others
				t.Errorf("%s: %d drops: %v", s.Name, n, c.hosts[1].since(before))
			}
			c.settle()
			c.quiet()
		}
	}
}

// forgetCA has the control plane take a CA back.
func forgetCA(c *schooled, s *site, ca string) error {
	k := hnv.RecordKey{VSID: mustVSID(s.base + 1), CA: ip(ca)}
	delete(c.store[s.RDID], k)
	for _, h := range c.hosts {
		if err := h.sw.UpdateRecords(s.RDID, nil, []hnv.RecordKey{k}); err != nil {
			return err
		}
	}
	return nil
}

// What a DHCP server, wherever it is, gives to a station is the station's, as
// long as the lease lasts or the station gives it back; offers, other clients'
// acknowledgements and those of rogues give nothing.
func TestLearnedFromDHCP(t *testing.T) {
	c := newSchooled(t, hnv.Learning{AgeSeconds: 60}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	for _, s := range []*site{c.contoso, c.fabrikam} {
		c.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].DHCP = ip("10.1.1.12")
		})
	}
	for _, s := range []*site{c.contoso, c.fabrikam} {
		for _, server := range []struct {
			n  *nic
			ca string
		}{{s.vm12, "10.1.1.12"}, {s.vm13, "10.1.1.13"}} { // on another host, and on the station's
			c.apply(s, func(t *Tenant) {
				t.Subnets = slices.Clone(t.Subnets)
				t.Subnets[1].DHCP = ip(server.ca)
			})
			vm, m := c.a[s], server.n.mac
			vm.send(dhcp(layers.DHCPMsgTypeDiscover, mac14, macBroadcast, "0.0.0.0", "255.255.255.255", mac14, "0.0.0.0", "0.0.0.0", 0))
			c.settle()
			if got := server.n.drain(); len(got) != 1 {
				t.Fatalf("%s: the server got %d questions; drops %v", s.Name, len(got), c.hosts[1].allDrops())
			}
			for what, frame := range map[string][]byte{
				"an offer":          dhcp(layers.DHCPMsgTypeOffer, m, mac14, server.ca, "10.1.1.80", mac14, "10.1.1.80", "0.0.0.0", 600),
				"a broadcast offer": dhcp(layers.DHCPMsgTypeOffer, m, macBroadcast, server.ca, "255.255.255.255", mac14, "10.1.1.80", "0.0.0.0", 600),
				"another client's":  dhcp(layers.DHCPMsgTypeAck, m, macBroadcast, server.ca, "255.255.255.255", mac11, "10.1.1.80", "0.0.0.0", 600),
				"a refusal":         dhcp(layers.DHCPMsgTypeNak, m, macBroadcast, server.ca, "255.255.255.255", mac14, "0.0.0.0", "0.0.0.0", 600),
				"a configured one":  dhcp(layers.DHCPMsgTypeAck, m, mac14, server.ca, "10.1.1.11", mac14, "10.1.1.11", "0.0.0.0", 600),
			} {
				server.n.send(frame)
				c.settle()
				c.upkeep()
				c.want(what)
			}
			c.quiet()
			for what, ack := range map[string][]byte{
				"unicast":   dhcp(layers.DHCPMsgTypeAck, m, mac14, server.ca, "10.1.1.80", mac14, "10.1.1.80", "0.0.0.0", 600),
				"broadcast": dhcp(layers.DHCPMsgTypeAck, m, macBroadcast, server.ca, "255.255.255.255", mac14, "10.1.1.80", "0.0.0.0", 600),
			} {
				server.n.send(ack)
				c.settle()
				if got := vm.drain(); len(got) != 1 {
					t.Errorf("%s: the station got %d %s acknowledgements; drops %v %v", s.Name, len(got), what, c.hosts[1].allDrops(), c.hosts[2].allDrops())
				}
				c.quiet()
				c.upkeep()
				c.want(what, Learned)
				// Silent, it keeps the address for the time of the lease, and no longer.
				c.pass(590 * time.Second)
				if mac, _ := c.holder(s, "10.1.1.80"); mac != mac14 {
					t.Errorf("%s: after 590 s of a lease of 600 the address is %s's", s.Name, mac)
				}
				c.pass(75 * time.Second)
				c.want("end of the lease", LearnedAged)
				c.quiet()

				server.n.send(ack)
				c.settle()
				c.upkeep()
				c.want("again", Learned)
				c.quiet()
				give := dhcp(layers.DHCPMsgTypeRelease, mac14, m, "10.1.1.80", server.ca, mac14, "0.0.0.0", "10.1.1.80", 0)
				if what == "broadcast" {
					give = dhcp(layers.DHCPMsgTypeDecline, mac14, macBroadcast, "0.0.0.0", "255.255.255.255", mac14, "10.1.1.80", "0.0.0.0", 0)
				}
				vm.send(give)
				c.settle()
				if got := server.n.drain(); len(got) != 1 {
					t.Errorf("%s: the server got %d messages of release", s.Name, len(got))
				}
				c.upkeep()
				c.want("given back", LearnedAged)
			}
			c.quiet()
		}
		// A rogue's acknowledgement does not get through, and teaches nothing.
		s.vm11.send(dhcp(layers.DHCPMsgTypeAck, mac11, mac14, "10.1.1.11", "10.1.1.80", mac14, "10.1.1.80", "0.0.0.0", 600))
		c.settle()
		c.upkeep()
		c.want("rogue")
		if got := c.a[s].drain(); len(got) != 0 {
			t.Errorf("%s: the rogue got through", s.Name)
		}
	}
}

// A station that moves to another host takes its addresses along as soon as it
// speaks there: all hosts, and established flows, follow.
func TestLearnedMoves(t *testing.T) {
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleNVGRE)
	for _, s := range []*site{c.contoso, c.fabrikam} {
		old := c.a[s]
		old.send(announce(mac14, "10.1.1.14"))
		c.upkeep()
		c.want("first", Learned)
		down := udp(mac12, mac14, "10.1.1.12", "10.1.1.14", "down")
		far := udp(mac21, hnv.RouterMAC, "10.1.2.11", "10.1.1.14", "far")
		s.vm12.send(down)
		s.v21.send(far)
		c.settle()
		if n := len(old.drain()); n != 2 {
			t.Fatalf("%s: %d frames arrived", s.Name, n)
		}
		// The station's record moves to host 2, and it is plugged in there.
		for i, to := range []struct {
			host *host
			pa   string
		}{{c.hosts[2], paHost2}, {c.hosts[0], paGate}, {c.hosts[1], paHost1}} {
			old.host.sw.RemovePort(old.id)
			for _, h := range c.hosts {
				if err := h.sw.UpdateRecords(s.RDID, []hnv.Record{{VSID: mustVSID(s.base + 1), MAC: mac14, PA: ip(to.pa), Rule: hnv.RuleNVGRE, Type: hnv.L2Only}}, nil); err != nil {
					t.Fatal(err)
				}
			}
			old = to.host.plug(s.base+1, mac14, PortVM)
			c.now = c.now.Add(time.Minute)
			old.send(announce(mac14, "10.1.1.14"))
			c.upkeep()
			c.want("moved", LearnedMove)
			if mac, pa := c.holder(s, "10.1.1.14"); mac != mac14 || pa != ip(to.pa) {
				t.Errorf("%s: after move %d the address is %s's at %s", s.Name, i, mac, pa)
			}
			s.vm12.send(down)
			s.v21.send(far)
			c.settle()
			if n := len(old.drain()); n != 2 {
				t.Errorf("%s: after move %d, %d frames arrived; drops %v", s.Name, i, n, to.host.allDrops())
			}
			old.send(udp(mac14, mac12, "10.1.1.14", "10.1.1.12", "up"))
			expect(t, c.lab, s.vm12, "up", c.contoso, c.fabrikam)
			c.pass(40 * time.Second) // the old host's grace for the port that is gone
			if mac, pa := c.holder(s, "10.1.1.14"); mac != mac14 || pa != ip(to.pa) {
				t.Errorf("%s: 40 s after move %d the address is %s's at %s", s.Name, i, mac, pa)
			}
			c.quiet()
			c.events = nil
		}
	}
}

// Two stations that claim one address stop to take it from each other after the
// fifth time, and that is told; the neighbour's station has it in peace.
func TestLearnedDuplicates(t *testing.T) {
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	c.a[c.fabrikam].send(announce(mac14, "10.1.1.90"))
	c.upkeep()
	c.want("the neighbour's", Learned)
	for _, pair := range [][2]*nic{{c.a[c.contoso], c.b[c.contoso]}} {
		claim := func(i int) []LearnKind {
			n := pair[i%2]
			n.send(announce(n.mac, "10.1.1.90"))
			c.now = c.now.Add(time.Second)
			c.upkeep()
			return c.kinds()
		}
		var all []LearnKind
		for i := range 30 {
			all = append(all, claim(i)...)
		}
		moves, duplicates := 0, 0
		for _, k := range all {
			switch k {
			case LearnedMove:
				moves++
			case LearnDuplicate:
				duplicates++
			}
		}
		if all[0] != Learned || moves == 0 || moves > movesAllowed || duplicates != 1 && duplicates != 2 {
			t.Errorf("events are %v", all)
		}
		mac, pa := c.holder(c.contoso, "10.1.1.90")
		if mac != mac14 && mac != mac15 {
			t.Errorf("the address is %s's at %s", mac, pa)
		}
		// It stays where it is for the time of the hold-down, and then the game
		// may begin again.
		for i := range 60 {
			if got := claim(i); slices.Contains(got, LearnedMove) {
				t.Fatalf("it moves %d s into the hold-down", 30+i)
			}
		}
		if now, _ := c.holder(c.contoso, "10.1.1.90"); now != mac {
			t.Errorf("during the hold-down the address went from %s to %s", mac, now)
		}
		c.pass(holdDown)
		other := pair[0]
		if mac == mac14 {
			other = pair[1]
		}
		other.send(announce(other.mac, "10.1.1.90"))
		c.upkeep()
		if got := c.kinds(); !slices.Contains(got, LearnedMove) {
			t.Errorf("after the hold-down: %v", got)
		}
	}
	if mac, pa := c.holder(c.fabrikam, "10.1.1.90"); mac != mac14 || pa != ip(paHost1) {
		t.Errorf("the neighbour's address is %s's at %s", mac, pa)
	}
}

// No port has more addresses than it may, however it comes by them: also not by
// taking those of another station of the same host.
func TestLearnedLimit(t *testing.T) {
	c := newSchooled(t, hnv.Learning{MaxPerPort: 3}, hnv.RuleNVGRE, hnv.RuleNVGRE)
	mac16 := mustMAC("00:15:5d:00:00:16")
	for _, s := range []*site{c.contoso, c.fabrikam} {
		for _, h := range c.hosts {
			if err := h.sw.UpdateRecords(s.RDID, []hnv.Record{{VSID: mustVSID(s.base + 1), MAC: mac16, PA: ip(paHost1), Rule: hnv.RuleNVGRE, Type: hnv.L2Only}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		twin := c.hosts[1].plug(s.base+1, mac16, PortVM)
		claim := func(n *nic, from, to int) {
			for i := from; i < to; i++ {
				c.now = c.now.Add(time.Second)
				n.send(announce(n.mac, fmt.Sprintf("10.1.1.%d", i)))
				c.upkeep()
			}
		}
		claim(c.a[s], 100, 103)
		claim(twin, 110, 113)
		c.want("up to the limit", Learned, Learned, Learned, Learned, Learned, Learned)
		claim(c.a[s], 110, 113) // its neighbour's
		claim(c.a[s], 120, 123) // nobody's
		count := map[hnv.MAC]int{}
		list, _ := c.hosts[1].sw.Learned()
		for _, h := range list {
			if h.RDID == s.RDID {
				count[h.Record.MAC]++
			}
		}
		if count[mac14] > 3 || count[mac16] > 3 {
			t.Errorf("%s: the stations have %v addresses, with a limit of 3", s.Name, count)
		}
		if got := c.kinds(); len(got) == 0 || slices.Contains(got, Learned) {
			t.Errorf("%s: events are %v, want the limit", s.Name, got)
		}
		for i := 110; i < 113; i++ {
			if mac, _ := c.holder(s, fmt.Sprintf("10.1.1.%d", i)); mac != mac16 {
				t.Errorf("%s: 10.1.1.%d is %s's", s.Name, i, mac)
			}
		}
		// Who tried in vain did not use up the moves that others may need.
		claim(c.a[s], 110, 113)
		claim(c.a[s], 110, 113)
		claim(c.a[s], 110, 113)
		claim(c.a[s], 110, 113)
		claim(c.a[s], 110, 113)
		c.kinds()
		if err := forgetCA(c, s, "10.1.1.100"); err != nil {
			t.Fatal(err)
		}
		claim(c.a[s], 110, 111)
		if got := c.kinds(); !slices.Equal(got, []LearnKind{LearnedMove}) {
			t.Errorf("%s: with room again: %v", s.Name, got)
		}
		c.quiet()
	}
}

// A host that starts anew with Dynamic records of its own asks the stations at
// once, keeps the addresses of those that answer and gives up the others.
func TestLearnedIsAdopted(t *testing.T) {
	c := newSchooled(t, hnv.Learning{AgeSeconds: 100}, hnv.RuleNVGRE, hnv.RuleNVGRE)
	for _, s := range []*site{c.contoso, c.fabrikam} {
		for _, ca := range []string{"10.1.1.31", "10.1.1.32", "fd00:1::31", "fd00:1::32"} {
			r := record(s.base+1, ca, mac14, paHost1, hnv.RuleNVGRE)
			r.Type = hnv.Dynamic
			c.store[s.RDID][r.RecordKey()] = r
		}
	}
	again := func(order string) *host {
		h := &host{lab: c.lab, pa: ip(paHost1), out: &wire{}}
		h.sw = New(Options{Now: func() time.Time { return c.now }, OnLearn: c.heard})
		if order == "provider first" {
			h.sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paHost1)}, MTU: 1500})
		}
		h.w = h.sw.NewWorker(h.out)
		for _, s := range []*site{c.contoso, c.fabrikam} {
			full := s.Tenant
			full.Records = slices.Clone(full.Records)
			for _, r := range c.store[s.RDID] {
				full.Records = append(full.Records, r)
			}
			if err := h.sw.Apply(full); err != nil {
				t.Fatal(err)
			}
		}
		if order != "provider first" {
			h.sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paHost1)}, MTU: 1500})
		}
		return h
	}
	for _, order := range []string{"provider first", "tenants first"} {
		h := again(order)
		c.hosts = []*host{h}
		saved := maps.Clone(c.store)
		for k := range saved {
			saved[k] = maps.Clone(saved[k])
		}
		for _, s := range []*site{c.contoso, c.fabrikam} {
			c.a[s] = h.plug(s.base+1, mac14, PortVM)
		}
		list, _ := h.sw.Learned()
		if len(list) != 8 {
			t.Fatalf("%s: %d addresses are held after the start, want 8", order, len(list))
		}
		c.upkeep()
		for _, s := range []*site{c.contoso, c.fabrikam} {
			asked := map[string]bool{}
			for _, f := range c.a[s].drain() {
				d := decode(t, f.bytes)
				var a packet.ARP
				var n packet.ND
				switch {
				case d.EtherType == packet.EtherTypeARP && a.Parse(f.bytes[14:]) == drop.None:
					asked[a.TargetIP.String()] = a.SenderIP == ip("10.1.1.1") && d.SrcMAC == routerMAC
				case n.Parse(f.bytes, &d.Headers) == drop.None:
					asked[n.Target.String()] = d.Src == ip("fd00:1::1") && d.SrcMAC == routerMAC
				}
			}
			for _, ca := range []string{"10.1.1.31", "10.1.1.32", "fd00:1::31", "fd00:1::32"} {
				if !asked[ca] {
					t.Errorf("%s: the station of %s is not asked for %s: %v", order, s.Name, ca, asked)
				}
			}
			c.a[s].send(arpFrame(2, mac14, hnv.RouterMAC, mac14, "10.1.1.31", "10.1.1.1"))
			c.a[s].send(neighborFrame(t, packet.NDNeighborAdvertisement, mac14, hnv.RouterMAC, mac14, "fd00:1::31", "fd00:1::1", "fd00:1::31"))
		}
		c.pass(40 * time.Second)
		c.want(order, LearnedAged, LearnedAged, LearnedAged, LearnedAged)
		for _, s := range []*site{c.contoso, c.fabrikam} {
			for ca, there := range map[string]bool{"10.1.1.31": true, "10.1.1.32": false, "fd00:1::31": true, "fd00:1::32": false} {
				if mac, _ := c.holder(s, ca); mac.IsValid() != there {
					t.Errorf("%s: %s of %s: %v", order, ca, s.Name, mac)
				}
			}
		}
		c.store = saved
	}
}

// A question for an address that nobody is known to have goes to stations whose
// addresses are not known, on any host, and to nobody else; what they answer is
// learned, and the next question is answered. Where learning is off, it is
// silence.
func TestSilentStationsAreFound(t *testing.T) {
	for _, rules := range [][2]hnv.Rule{{hnv.RuleNVGRE, hnv.RuleVXLAN}, {hnv.RuleVXLAN, hnv.RuleNVGRE}} {
		c := newSchooled(t, hnv.Learning{}, rules[0], rules[1])
		for _, s := range []*site{c.contoso, c.fabrikam} {
			for i, asker := range []*nic{s.vm12, s.vm11, s.vm13} {
				for _, six := range []bool{false, true} {
					ca := fmt.Sprintf("10.1.1.%d", 60+i)
					question := arpFrame(1, asker.mac, macBroadcast, asker.mac, s.ca(asker, false), ca)
					answer := arpFrame(2, mac14, asker.mac, mac14, ca, s.ca(asker, false))
					if six {
						ca = fmt.Sprintf("fd00:1::%d", 60+i)
						question = solicit(asker, s.ca(asker, true), ca, hnv.MAC{})
						answer = neighborFrame(t, packet.NDNeighborAdvertisement, mac14, asker.mac, mac14, ca, s.ca(asker, true), ca)
					}
					asker.send(question)
					c.settle()
					heard := map[*nic]int{}
					for _, one := range []*site{c.contoso, c.fabrikam} {
						for _, n := range append(one.nics(), c.a[one], c.b[one]) {
							if k := len(n.drain()); k != 0 {
								heard[n] = k
							}
						}
					}
					if len(heard) != 2 || heard[c.a[s]] != 1 || heard[c.b[s]] != 1 {
						t.Errorf("%s: %s asks for %s, and %v heard it; drops %v %v", s.Name, asker.mac, ca, heard, c.hosts[1].allDrops(), c.hosts[2].allDrops())
					}
					c.a[s].send(answer)
					c.upkeep()
					c.want("found", Learned)
					c.quiet()
					asker.send(question)
					c.settle()
					frames := asker.drain()
					if len(frames) != 1 {
						t.Fatalf("%s: %s gets %d answers for %s", s.Name, asker.mac, len(frames), ca)
					}
					if mac, _ := answerOf(t, frames[0].bytes); mac != mac14.Bytes() {
						t.Errorf("%s: %s is at %x", s.Name, ca, mac)
					}
					c.quiet()
				}
			}
		}
	}
}

// Whatever the control plane does to a tenant while addresses are held that it
// has not heard of, it is done.
func TestLearnedGivesWay(t *testing.T) {
	for what, change := range map[string]func(s *site, t *Tenant){
		"the subnet goes": func(s *site, t *Tenant) {
			t.Subnets = slices.Delete(slices.Clone(t.Subnets), 1, 2)
			t.Records = slices.DeleteFunc(slices.Clone(t.Records), func(r hnv.Record) bool { return r.VSID == mustVSID(s.base+1) })
		},
		"the prefix changes": func(s *site, t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].Prefixes = subnet(s.base+1, "10.8.0.0/24").Prefixes
			t.Records = slices.DeleteFunc(slices.Clone(t.Records), func(r hnv.Record) bool { return r.VSID == mustVSID(s.base+1) && r.CA.IsValid() })
		},
		"the router gets the address": func(s *site, t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].Prefixes = slices.Clone(t.Subnets[1].Prefixes)
			t.Subnets[1].Prefixes[0].Gateway = ip("10.1.1.14")
		},
		"it is configured for another": func(s *site, t *Tenant) {
			t.Records = append(slices.Clone(t.Records), record(s.base+1, "10.1.1.14", mac12, paHost2, hnv.Rule(t.Encap)))
		},
		"learning is turned off": func(s *site, t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].Learning = nil
		},
		"the station goes": func(s *site, t *Tenant) {
			t.Records = slices.DeleteFunc(slices.Clone(t.Records), func(r hnv.Record) bool { return !r.CA.IsValid() })
		},
	} {
		c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleNVGRE)
		c.deaf = true
		for _, s := range []*site{c.contoso, c.fabrikam} {
			c.a[s].send(announce(mac14, "10.1.1.14"))
		}
		c.upkeep()
		s, other := c.contoso, c.fabrikam
		next := s.Tenant
		change(s, &next)
		for i, h := range c.hosts {
			if err := h.sw.Apply(next); err != nil {
				t.Errorf("%s: host %d refuses: %v", what, i, err)
			}
		}
		c.pass(60 * time.Second)
		if d := c.hosts[1].sw.byRDID[s.RDID].domain.Load(); d != nil {
			if rec := d.Record(s.base+1, ip("10.1.1.14")); rec != nil && rec.MAC == mac14.Bytes() {
				t.Errorf("%s: a minute later the address is still held", what)
			}
		}
		if list, _ := c.hosts[1].sw.Learned(); slices.ContainsFunc(list, func(l LearnedCA) bool { return l.RDID == s.RDID }) {
			t.Errorf("%s: a minute later %v is held", what, list)
		}
		if d := c.hosts[1].sw.byRDID[other.RDID].domain.Load(); d.Record(other.base+1, ip("10.1.1.14")) == nil {
			t.Errorf("%s: the neighbour's address is gone", what)
		}
	}
}
