package dataplane

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// What a station is said to have been leased counts if it asked for it. Of a
// server that nobody configured it is worth no more than the station's own word:
// it must be heard of.
func TestLeasesThatNobodyAskedFor(t *testing.T) {
	c := newSchooled(t, hnv.Learning{AgeSeconds: 60}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	discover := dhcp(layers.DHCPMsgTypeDiscover, mac14, macBroadcast, "0.0.0.0", "255.255.255.255", mac14, "0.0.0.0", "0.0.0.0", 0)
	for _, s := range []*site{c.contoso, c.fabrikam} {
		for _, forger := range []*nic{s.vm12, s.vm13} { // on another host, and on the station's
			from := s.ca(forger, false)
			ack := func(xid uint32) []byte {
				b := dhcp(layers.DHCPMsgTypeAck, forger.mac, macBroadcast, from, "255.255.255.255", mac14, "10.1.1.80", "0.0.0.0", ^uint32(0))
				return withUDP(b, 4, binary.BigEndian.AppendUint32(nil, xid))
			}
			forger.send(ack(7))
			c.settle()
			c.upkeep()
			c.want("never asked")
			c.a[s].send(discover)
			forger.send(ack(8))
			c.settle()
			c.upkeep()
			c.want("another question's answer")
			forger.send(ack(7))
			c.settle()
			c.upkeep()
			c.want("asked for", Learned)
			c.pass(75 * time.Second)
			c.want("a station that does not know of it", LearnedAged)
			c.a[s].send(withUDP(discover, 4, []byte{0, 0, 0, 9}))
			c.settle()
			c.quiet()
		}
	}
}

// An answer of DHCPv6 to everybody gives an address to whoever asked, as long as
// it is valid, and to nobody else.
func TestLeasesForEverybody(t *testing.T) {
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	lease := func(ca string, valid byte) string {
		a := ip(ca).As16()
		addr := append(append([]byte{0, 5, 0, 24}, a[:]...), 0, 0, 0, 0, 0, 0, 0, valid)
		ia := append([]byte{0, 3, 0, byte(12 + len(addr)), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, addr...)
		return string(append([]byte{7, 0, 0, 7}, ia...))
	}
	for _, s := range []*site{c.contoso, c.fabrikam} {
		answer := func(what string, valid byte, kinds ...LearnKind) {
			s.vm12.send(ipFrame(mac12, macMulticast6, "fd00:1::12", "ff02::1", 1, udpPorts(547, 546), lease("fd00:1::80", valid)))
			c.settle()
			if n := len(c.a[s].drain()); n != 1 {
				t.Fatalf("%s, %s: the station got %d frames", s.Name, what, n)
			}
			c.upkeep()
			c.want(what, kinds...)
			c.quiet()
		}
		answer("never asked", 100)
		c.a[s].send(ipFrame(mac14, macMulticast6, "fe80::14", "ff02::1:2", 1, udpPorts(546, 547), "\x01\x00\x00\x07"))
		c.settle()
		c.quiet()
		answer("not valid any more", 0)
		answer("asked", 100, Learned)
	}
}

// The address of the subnet's DHCP server is no station's to claim, even while
// nobody has it: whoever had it could answer all clients.
func TestServersAddressIsNotLearned(t *testing.T) {
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	for _, s := range []*site{c.contoso, c.fabrikam} {
		c.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].DHCP = ip("10.1.1.99")
		})
		c.a[s].send(announce(mac14, "10.1.1.99"))
		c.upkeep()
		c.want("the server's address")
	}
}

// withUDP gives the IPv4 frame with other bytes in the payload of its UDP
// datagram, at the offset.
func withUDP(frame []byte, at int, b []byte) []byte {
	out := slices.Clone(frame)
	copy(out[14+20+8+at:], b)
	out[14+20+6], out[14+20+7] = 0, 0 // no checksum
	return out
}

// A station that takes addresses and gives them back again and again does not
// keep the control plane busy, and others of its tenant learn on.
func TestLearningIsPaced(t *testing.T) {
	c := newSchooled(t, hnv.Learning{MaxPerPort: 4}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	vm := c.a[c.contoso]
	release := dhcp(layers.DHCPMsgTypeRelease, mac14, mac12, "10.1.1.80", "10.1.1.12", mac14, "0.0.0.0", "10.1.1.80", 0)
	for range 60 {
		for range 5 {
			vm.send(announce(mac14, "10.1.1.80"))
			vm.send(release)
			c.upkeep()
			c.now = c.now.Add(200 * time.Millisecond)
		}
	}
	learned, told := 0, 0
	for _, k := range c.kinds() {
		switch k {
		case Learned:
			learned++
		case LearnOverLimit:
			told++
		}
	}
	if learned < 4 || learned > 8 || told < 1 || told > 2 {
		t.Errorf("in a minute the address was learned %d times, and its pace complained of %d times", learned, told)
	}
	c.b[c.contoso].send(announce(mac15, "10.1.1.81"))
	c.a[c.fabrikam].send(announce(mac14, "10.1.1.80"))
	c.upkeep()
	c.want("others", Learned, Learned)
	for range 10 {
		c.pass(time.Minute)
	}
	if n := len(c.hosts[1].sw.learner.paces); n != 0 {
		t.Errorf("the paces of %d stations are remembered", n)
	}
}
