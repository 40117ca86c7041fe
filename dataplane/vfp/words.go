package vfp

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Rule gives the rule that a step is.
func (p *Program) Rule(s Step) Rule { return p.layers[s.Layer].groups[s.Group].rules[s.Rule] }

// Has tells whether Take would find room for a packet of that many bytes, and
// takes nothing.
func (b *Bucket) Has(now int64, bytes int) bool {
	if b == nil {
		return true
	}
	if b.place.Load() == nil && b.epoch.Load() == 0 { // full, and nobody's clock yet
		return b.cost(bytes) <= b.ahead
	}
	due, at := b.look(now)
	return max(due.Load(), at)+b.cost(bytes)-at <= b.ahead
}

// String says the conditions for people: "protocol 6, destination port 80 or
// 443"; "any packet" where there are none.
func (m Match) String() string {
	var parts []string
	var none packet.Headers
	for _, c := range m.conditions(&none) {
		if c.asked {
			parts = append(parts, c.what+" "+c.want)
		}
	}
	if len(parts) == 0 {
		return "any packet"
	}
	return strings.Join(parts, ", ")
}

// String says what the action does for people: "block: acl-denied".
func (a Action) String() string {
	var with string
	switch a.Kind {
	case Block:
		with = a.Reason.String()
	case Meter:
		with = bitRate(a.Bucket.Rate())
	case Rewrite:
		var parts []string
		if !a.Transposition.IsZero() {
			parts = append(parts, a.Transposition.String())
		}
		if a.Pool != nil {
			parts = append(parts, "source from a NAT pool")
		}
		with = strings.Join(parts, ", ")
	case Route, Encap:
		if with = a.Space; with == "" && a.Tunnel.Dst.IsValid() {
			with = fmt.Sprintf("%s to %s, VSID %d", a.Tunnel.Protocol, a.Tunnel.Dst, a.Tunnel.VSID)
		}
	case Punt:
		with = "queue " + strconv.Itoa(int(a.Queue))
	}
	if with == "" {
		return a.Kind.String()
	}
	return a.Kind.String() + ": " + with
}

// bitRate says a rate in the largest unit that makes it a whole number.
func bitRate(n uint64) string {
	for _, u := range []struct {
		size uint64
		name string
	}{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatUint(n/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatUint(n, 10) + " bit/s"
}

func (p TunnelProtocol) String() string {
	switch p {
	case NVGRE:
		return "nvgre"
	case VXLAN:
		return "vxlan"
	}
	return "unknown"
}

// String says what becomes of which field for people: "source 192.0.2.1,
// destination port 80"; "nothing" where nothing is changed.
func (t Transposition) String() string {
	var parts []string
	add := func(f Fields, what string, to any) {
		if t.Set&f != 0 {
			parts = append(parts, fmt.Sprintf("%s %v", what, to))
		}
	}
	add(SetSrcMAC, "source MAC", macText(t.NewSrcMAC))
	add(SetDstMAC, "destination MAC", macText(t.NewDstMAC))
	add(SetSrc, "source", t.NewSrc)
	add(SetDst, "destination", t.NewDst)
	add(SetSrcPort, "source port", t.NewSrcPort)
	add(SetDstPort, "destination port", t.NewDstPort)
	add(SetDSCP, "DSCP", t.NewDSCP)
	if t.DecTTL {
		parts = append(parts, "TTL one less")
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
