package dataplane

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

var (
	routerMAC   = hnv.RouterMAC.Bytes()
	broadcastIP = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// place is a lookup record and the key under which flows find it again. The
// zero place is none.
type place struct {
	rec *lookup.Record
	key lookup.Key
}

// checkAddresses refuses addresses that no tenant's unicast packet may have,
// whatever the tables say (RFC 1812 section 5.3.7, RFC 4291 section 2.5): a
// default route would lead to all of them.
func checkAddresses(h *packet.Headers) drop.Reason {
	switch {
	case martian(h.Src) || h.Src.IsMulticast():
		return drop.SourceMartian
	case martian(h.Dst):
		return drop.DestinationMartian
	case h.TTL == 0: // nobody may send that (RFC 1122 section 3.2.1.7)
		return drop.TTLExpired
	}
	return drop.None
}

// isGroup tells whether the frame is for several stations: by its destination
// MAC, or by an address that only such frames have.
func isGroup(h *packet.Headers) bool {
	return h.DstMAC[0]&1 != 0 || h.Dst.IsMulticast() || h.Dst == broadcastIP
}

// martian tells whether an address is no single station's that a router could
// reach: of the networks 0, 127 and 240 to 255, or the unspecified, loopback and
// link-local ones of IPv6.
func martian(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] == 0 || b[0] == 127 || b[0] >= 240
	}
	return a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// checkFabricSource makes the reverse path check on a packet from the fabric:
// whoever our tables would send an answer to must be the one that it came from.
// It gives the record that vouches for the source; none where a distributed
// router speaks for itself.
func (x *transit) checkFabricSource() (place, drop.Reason) {
	rt, rec := x.domain.Resolve(x.h.Src)
	switch {
	case rec != nil:
		return place{rec, lookup.KeyOf(rt.VSID, x.h.Src)}, x.vouch(rec)
	case rt == nil:
		return x.anyOf(x.domain.WildcardsFor(x.h.Src))
	case rt.OnLink() && x.h.Src == rt.Gateway:
		return place{}, x.checkRemoteRouter()
	case rt.OnLink():
		return place{}, x.foreign(drop.SourceCAUnknown)
	}
	return x.anyOf(rt.Hops)
}

// anyOf finds the one of the next hops that vouches for the packet.
func (x *transit) anyOf(hops []lookup.Key) (place, drop.Reason) {
	r := x.foreign(drop.SourceCAUnknown)
	for _, hop := range hops {
		if rec := x.domain.At(hop); rec != nil {
			if r = x.vouch(rec); r == drop.None {
				return place{rec, hop}, r
			}
		}
	}
	return place{}, r
}

// vouch tells whether the record explains how the packet came: its PA, and its
// MAC or, where a distributed router had the packet between its hands, that
// one's.
func (x *transit) vouch(rec *lookup.Record) drop.Reason {
	x.srcRule = rec.Rule
	switch {
	case !x.domain.IsAt(rec, x.pa):
		return x.foreign(drop.SourcePAMismatch)
	case x.h.SrcMAC != rec.MAC && x.h.SrcMAC != routerMAC:
		return drop.SourceMACMismatch
	}
	return drop.None
}

// checkRemoteRouter checks a packet that another host's distributed router says
// in its own name. Any host of the domain has one; they speak ICMP only.
func (x *transit) checkRemoteRouter() drop.Reason {
	x.srcRule = x.domain.Rule
	switch {
	case !x.domain.Hosts(x.pa):
		return drop.SourcePAUnknown
	case x.h.SrcMAC != routerMAC:
		return drop.SourceMACMismatch
	case x.h.Proto != packet.ProtoICMP && x.h.Proto != packet.ProtoICMPv6:
		return drop.SourceCASpoofed
	}
	return drop.None
}

// checkTunnel checks the kind of tunnel once both ends are known. A sender goes
// by the rule of the destination's record; one that has a single kind of tunnel
// by that of its own. Where a tenant's hosts are moved from one kind to the
// other, both occur.
// Where one end alone is rewritten, the tunnel is of the tenant's own kind.
func (x *transit) checkTunnel() drop.Reason {
	src, dst := x.srcRule, x.dstRule
	switch {
	case x.rule == lookup.RuleRewrite || src == dst:
	case src == lookup.RuleRewrite:
		src = x.domain.Rule
	case dst == lookup.RuleRewrite:
		dst = x.domain.Rule
	}
	if x.rule != src && x.rule != dst {
		return drop.EncapMismatch
	}
	return drop.None
}

// foreign tells apart hosts of the domain that say something wrong, for the
// reason r, from those that have nothing to do with it.
func (x *transit) foreign(r drop.Reason) drop.Reason {
	if !x.domain.Hosts(x.pa) {
		return drop.SourcePAUnknown
	}
	return r
}

// checkPortSource makes the same check on a frame from a port, which must be
// where the source's record or that of the next hop to it points. It gives that
// record; none where a compartment speaks for an address that no route covers.
func (x *transit) checkPortSource() (place, drop.Reason) {
	rt, rec := x.domain.Resolve(x.h.Src)
	var hops []lookup.Key
	switch {
	case rt == nil:
		hops = x.domain.WildcardsFor(x.h.Src)
	case rec != nil && x.isAtPort(rt.VSID, rec):
		return place{rec, lookup.KeyOf(rt.VSID, x.h.Src)}, drop.None
	case rec != nil || rt.OnLink() && x.h.Src == rt.Gateway:
		return place{}, drop.SourceCASpoofed
	case rt.OnLink():
		return place{}, drop.SourceCAUnknown
	default:
		hops = rt.Hops
	}
	for _, hop := range hops {
		if rec := x.domain.At(hop); rec != nil && x.isAtPort(hop.VSID(), rec) {
			return place{rec, hop}, drop.None
		}
	}
	switch {
	case rt == nil && x.in.spec.Kind == PortCompartment:
		return place{}, drop.None
	case rt == nil && len(hops) == 0:
		return place{}, drop.SourceCAUnknown
	}
	return place{}, drop.SourceCASpoofed
}

// isAtPort tells whether the record, of the virtual subnet, is that of the port
// the packet came by.
func (x *transit) isAtPort(vsid uint32, rec *lookup.Record) bool {
	return vsid == x.in.vsid && rec.MAC == x.in.mac && x.isHere(rec)
}

// isHere tells whether the record is at a PA of ours.
func (x *transit) isHere(rec *lookup.Record) bool {
	if x.provider.owns(rec.PA) {
		return true
	}
	if rec.Team == 0 {
		return false
	}
	for _, pa := range x.domain.PAs(rec) {
		if x.provider.owns(pa) {
			return true
		}
	}
	return false
}
