package capture

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// Point is where in the dataplane a packet was seen.
type Point uint8

// The points. "In" and "out" are the switch's: a frame that a VM sent comes in.
const (
	FabricIn  Point = iota + 1 // from the fabric, as it arrived
	FabricOut                  // to the fabric, encapsulated
	PortIn                     // from a port, as it was sent
	PortOut                    // to a port, as it is delivered
	Drop                       // in the state in which it was dropped
)

var points = [...]string{FabricIn: "fabric-in", FabricOut: "fabric-out", PortIn: "port-in", PortOut: "port-out", Drop: "drop"}

func (p Point) String() string {
	if p == 0 || int(p) >= len(points) {
		return "unknown"
	}
	return points[p]
}

// MarshalText gives the name: "port-in".
func (p Point) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name.
func (p *Point) UnmarshalText(b []byte) error {
	for i := FabricIn; i <= Drop; i++ {
		if points[i] == string(b) {
			*p = i
			return nil
		}
	}
	return fmt.Errorf("capture point %q is none of fabric-in, fabric-out, port-in, port-out, drop", b)
}

// direction is that of the interface: a dropped packet might have gone either
// way.
func (p Point) direction() Direction {
	switch p {
	case FabricIn, PortIn:
		return Inbound
	case FabricOut, PortOut:
		return Outbound
	}
	return 0
}

// Meta is what the dataplane knows of a packet. Only Time, Point and Link must
// be set; what is not known stays zero. A worker fills one Meta of its own again
// and again.
type Meta struct {
	Time  int64 // nanoseconds since 1970
	Point Point
	Link  LinkType // what the bytes begin with: RawIP from and to the fabric

	RDID   hnv.RDID
	VSID   uint32
	Tenant hnv.Name
	Port   string // the name of the port it came by or goes to

	Reason drop.Reason // at Drop

	// Of the inner packet.
	EtherType        uint16
	Proto            uint8
	Src, Dst         netip.Addr // the CAs; of an ARP packet, its sender and target
	Target           netip.Addr // the CA that a neighbor discovery message is about
	SrcPort, DstPort uint16
	Offload          packet.Offload

	// Of the outer packet, or those between which the inner one is to travel.
	SrcPA, DstPA netip.Addr
}

// SetInner describes the inner packet that frame holds and h was decoded from.
func (m *Meta) SetInner(h *packet.Headers, frame []byte, o packet.Offload) {
	m.EtherType, m.Proto, m.Offload = h.EtherType, h.Proto, o
	m.Src, m.Dst, m.Target = h.Src, h.Dst, netip.Addr{}
	m.SrcPort, m.DstPort = h.SrcPort, h.DstPort
	switch {
	case h.EtherType == packet.EtherTypeARP && len(frame) >= h.L3:
		var a packet.ARP
		if a.Parse(frame[h.L3:]) == drop.None {
			m.Src, m.Dst = a.SenderIP, a.TargetIP
		}
	case h.IsND() && (h.ICMPType == packet.NDNeighborSolicitation || h.ICMPType == packet.NDNeighborAdvertisement):
		// Even one that is malformed is about somebody.
		if at := h.L4 + 8; at+16 <= len(frame) {
			m.Target = netip.AddrFrom16([16]byte(frame[at:]))
		}
	}
}

// appendComment says what Meta says, in the words of the command line, so that
// a display filter finds it: frame.comment contains "vsid=5001 ".
func (m *Meta) appendComment(b []byte) []byte {
	b = append(b, "point="...)
	b = append(b, m.Point.String()...)
	if m.Tenant.IsValid() {
		b = append(append(b, " tenant="...), m.Tenant.String()...)
	}
	if m.RDID.IsValid() {
		b = append(append(b, " rdid="...), m.RDID.String()...)
	}
	if m.VSID != 0 {
		b = strconv.AppendUint(append(b, " vsid="...), uint64(m.VSID), 10)
	}
	if m.Port != "" {
		b = append(append(b, " port="...), clip(m.Port)...)
	}
	if m.SrcPA.IsValid() {
		b = m.SrcPA.AppendTo(append(b, " src-pa="...))
	}
	if m.DstPA.IsValid() {
		b = m.DstPA.AppendTo(append(b, " dst-pa="...))
	}
	if m.Offload.NeedsCsum {
		b = append(b, " checksum=partial"...)
	}
	if m.Offload.GSO != packet.GSONone {
		b = strconv.AppendUint(append(b, " segments-of="...), uint64(m.Offload.GSOSize), 10)
	}
	if m.Reason != drop.None {
		b = append(append(b, " drop="...), m.Reason.String()...)
		b = append(append(append(b, " ("...), m.Reason.Meaning()...), ')')
	}
	return b
}

// clip keeps names from outside short.
func clip(s string) string { return s[:min(len(s), 64)] }
