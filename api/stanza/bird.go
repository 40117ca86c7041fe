package stanza

import (
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

func itoa(n int) string { return strconv.Itoa(n) }

// bird writes a whole bird.conf.
func (s Site) bird() string {
	var l lines
	label := s.label("_")
	l.add("# %s", s.what())
	l.add("# for BIRD 2: a whole bird.conf; a file that has protocols device, kernel and direct")
	l.add("# already needs only what stands below the line")
	if s.Local.Is4() {
		l.add("router id %s;", s.Local)
	} else {
		l.add("# a router ID, any IPv4 address that no other router has:")
		l.add("router id 192.0.2.1;")
	}
	l.add("protocol device { }")
	l.add("protocol direct { ipv4; ipv6; }")
	for _, f := range []peering.Family{peering.IPv4, peering.IPv6} {
		l.add("protocol kernel { %s { export where source = RTS_BGP; }; }", f)
	}
	l.add("# ----------------------------------------------------------------------")
	if s.BFD != nil {
		l.add("protocol bfd %s_bfd { }", label)
	}
	l.add("protocol bgp %s {", label)
	l.add("\tdescription \"%s/%s\";", s.Tenant, s.Connection)
	l.add("\tlocal %s as %d;", s.Local, s.ASN)
	l.add("\tneighbor %s as %d;", s.Neighbor, s.NeighborASN)
	l.add("\thold time %d;", seconds(s.Hold))
	l.add("\tkeepalive time %d;", seconds(s.Keepalive))
	if s.Password {
		l.add("\t# the password of the session, which the gateway does not tell:")
		l.add("\t# password \"PASSWORD\";")
	}
	if s.Passive {
		l.add("\tpassive on;")
	}
	switch {
	case s.TTLSecurity > 1:
		l.add("\tmultihop %d;", s.TTLSecurity)
	case s.MultihopTTL > 0 && !s.internal():
		l.add("\tmultihop %d;", s.MultihopTTL)
	case s.internal():
		l.add("\tdirect;")
	}
	if s.TTLSecurity > 0 {
		l.add("\tttl security on;")
	}
	if b := s.BFD; b != nil {
		l.add("\tbfd { interval %d ms; multiplier %d; };", max(millis(b.Interval), 1), b.Multiplier)
	}
	if g := s.GracefulRestart; g != nil {
		l.add("\tgraceful restart on;")
		l.add("\tgraceful restart time %d;", seconds(g.Time))
		if g.LongLived > 0 {
			l.add("\tlong lived graceful restart on;")
			l.add("\tlong lived stale time %d;", seconds(g.LongLived))
		}
	}
	for _, f := range s.Families {
		l.add("\t%s {", f)
		l.add("\t\timport all;")
		if len(s.networks(f)) == 0 {
			l.add("\t\t# name what is at the site: export where net ~ [ A.B.C.D/M+ ];")
		}
		l.add("\t\texport %s;", s.birdExport(f))
		if s.internal() {
			l.add("\t\tnext hop self;")
		}
		if f == peering.IPv4 && s.Local.Is6() {
			l.add("\t\textended next hop on;")
		}
		l.add("\t};")
	}
	l.add("}")
	return l.String()
}

// birdExport is what the site advertises.
func (s Site) birdExport(f peering.Family) string {
	nets := s.networks(f)
	if len(nets) == 0 {
		return "none"
	}
	var words []string
	for _, p := range nets {
		words = append(words, p.String()+"+")
	}
	return "where net ~ [ " + strings.Join(words, ", ") + " ]"
}
