package hnv

import (
	"strconv"
	"time"
)

// The limits of a tenant's traffic and learning where nothing is said.
const (
	DefaultStormPPS     = 1000 // broadcast and multicast frames per second
	DefaultLearnPerPort = 8    // learned CAs
	DefaultLearnAge     = 1200 // seconds
)

// The limits of what can be asked for.
const (
	maxKbps         = 10_000_000_000 // 10 Tbit/s
	maxStormPPS     = 10_000_000
	maxLearnPerPort = 1024
	maxLearnAge     = 7 * 24 * 3600
)

// QoS limits a tenant's traffic on each machine and marks it on the fabric.
type QoS struct {
	// InKbps bounds what goes to the tenant's ports of a machine together,
	// OutKbps what comes from them, in 1000 bit/s of inner frames; 0: no bound.
	InKbps  uint64 `json:"inKbps,omitempty"`
	OutKbps uint64 `json:"outKbps,omitempty"`
	DSCP    DSCP   `json:"dscp,omitempty"` // of the outer header
}

// DSCP says what the outer header's differentiated services code point is
// (RFC 2474, RFC 2983): "" is 0, "copy" the inner packet's, a number that one.
type DSCP string

// CopyDSCP takes the inner packet's code point (RFC 2983 uniform model).
const CopyDSCP DSCP = "copy"

// ParseDSCP checks s and gives its one form.
func ParseDSCP(s string) (DSCP, error) {
	if s == "" || s == string(CopyDSCP) {
		return DSCP(s), nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > 63 {
		return "", invalidf("DSCP %q is unknown: use copy or a number from 0 to 63", s)
	}
	return DSCP(strconv.FormatUint(n, 10)), nil
}

// Value gives the code point, or that it is the inner packet's.
func (d DSCP) Value() (v uint8, copy bool) {
	if d == CopyDSCP {
		return 0, true
	}
	n, _ := strconv.ParseUint(string(d), 10, 6)
	return uint8(n), false
}

func (q *QoS) check() error {
	if q.InKbps > maxKbps || q.OutKbps > maxKbps {
		return invalidf("QoS: a rate limit is in kbit/s and at most %d", uint64(maxKbps))
	}
	_, err := ParseDSCP(string(q.DSCP))
	return err
}

// Learning allows CAs of a virtual subnet to be learned from what its VMs send.
type Learning struct {
	MaxPerPort uint16 `json:"maxPerPort,omitempty"` // CAs; 0 is DefaultLearnPerPort
	AgeSeconds uint32 `json:"ageSeconds,omitempty"` // without a sign of life; 0 is DefaultLearnAge
}

// PerPort gives how many CAs may be learned at one port.
func (l *Learning) PerPort() int {
	if l.MaxPerPort == 0 {
		return DefaultLearnPerPort
	}
	return int(l.MaxPerPort)
}

// Age gives how long a CA is kept without a sign of life.
func (l *Learning) Age() time.Duration {
	if l.AgeSeconds == 0 {
		return DefaultLearnAge * time.Second
	}
	return time.Duration(l.AgeSeconds) * time.Second
}

func (l *Learning) check() error {
	if l.MaxPerPort > maxLearnPerPort {
		return invalidf("learning: %d addresses per port are too many: use at most %d", l.MaxPerPort, maxLearnPerPort)
	}
	if l.AgeSeconds > maxLearnAge {
		return invalidf("learning: an age of %d seconds is too long: use at most %d", l.AgeSeconds, maxLearnAge)
	}
	return nil
}

// checkServices holds what must be true of what a subnet offers besides
// forwarding.
func (t *Tenant) checkServices(s *Subnet) error {
	if s.Learning != nil {
		if err := s.Learning.check(); err != nil {
			return err
		}
	}
	if g := s.MulticastGroup; g.IsValid() {
		switch {
		case !g.IsMulticast() || g.Is4In6() || g.Zone() != "":
			return invalidf("multicast group %s is not a multicast address: use one of 224.0.0.0/4 or ff00::/8, or none", g)
		case g.IsLinkLocalMulticast() || g.IsInterfaceLocalMulticast():
			return invalidf("multicast group %s is one of those that protocols of the link use: choose another", g)
		}
	}
	if s.DHCP.IsValid() {
		return s.checkDHCP()
	}
	return nil
}

// checkDHCP holds the DHCP server to the subnet that it serves: the distributed
// router relays no broadcasts.
func (s *Subnet) checkDHCP() error {
	p, ok := s.PrefixOf(s.DHCP)
	if !ok {
		return invalidf("DHCP server %s is outside VSID %s (%s): name one in the virtual subnet that it serves", s.DHCP, s.VSID, s.prefixList())
	}
	if err := checkHostAddr(s.DHCP, p.Prefix); err != nil {
		return invalidf("DHCP server: %v", err)
	}
	if s.DHCP == p.Gateway {
		return invalidf("DHCP server %s is the distributed router's address in VSID %s, which serves none", s.DHCP, s.VSID)
	}
	return nil
}
