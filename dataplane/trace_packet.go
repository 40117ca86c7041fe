package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// TracePacket describes a packet. What is not set becomes what it would be of a
// packet that its sender, or the sender's host, makes by the records and routes
// that this machine has; so one that is to be forged says so itself.
type TracePacket struct {
	VSID         hnv.VSID // of the source; unset: the port's
	SrcCA, DstCA netip.Addr
	SrcMAC       hnv.MAC
	DstMAC       hnv.MAC
	SrcPA, DstPA netip.Addr // from the fabric

	// Ask makes it a question for the MAC address of DstCA, by ARP or neighbor
	// discovery; what follows is of no account then.
	Ask bool

	Proto              uint8
	SrcPort, DstPort   uint16 // of TCP and UDP; of an echo, SrcPort is the identifier
	TCPFlags           uint8
	ICMPType, ICMPCode uint8
	Payload            int // bytes behind the headers
	TTL                uint8
	DSCP               uint8
	DontFragment       bool
}

// defaultTTL is that of packets whose description says nothing.
const defaultTTL = 64

// build makes a packet of its description, and finds out who sends it.
func (s *Switch) build(d TracePacket, p *port, fromFabric bool) (*port, []byte, error) {
	if p != nil && !d.VSID.IsValid() {
		d.VSID = p.spec.VSID
	}
	if !d.SrcCA.IsValid() || !d.DstCA.IsValid() || d.SrcCA.Is4() != d.DstCA.Is4() || d.SrcCA.Is4In6() {
		return nil, nil, errors.New("a packet has a source and a destination of the same address family")
	}
	t, domain := s.tenantOf(d.VSID.Uint32())
	if t == nil {
		return nil, nil, fmt.Errorf("no tenant of this machine has VSID %s: %w", d.VSID, ErrUnknown)
	}
	w := s.dryWorker(new(tracer))
	x := &w.x
	*x = transit{vsid: d.VSID.Uint32(), tenant: t, domain: domain, provider: s.provider.Load(), c: w.cellOf(t)}
	src := x.origin(d.SrcCA)
	if p == nil && !fromFabric && src.rec != nil && x.isHere(src.rec) {
		if p = s.ports.Load().at(x.vsid, src.rec.MAC); p == nil {
			return nil, nil, fmt.Errorf("the source is at this machine by its record %d/%s, but no port with MAC address %s is plugged in: %w", src.key.VSID(), src.key.CA(), macFrom(src.rec.MAC), ErrUnknown)
		}
	}
	var b []byte
	var err error
	if p != nil {
		b, err = w.buildSent(&d, p)
	} else {
		b, err = w.buildArriving(&d, src)
	}
	return p, b, err
}

// buildSent makes the frame as the port's station sends it.
func (w *Worker) buildSent(d *TracePacket, p *port) ([]byte, error) {
	x := &w.x
	if x.vsid != p.vsid {
		return nil, fmt.Errorf("port %s is in VSID %d, not in %d: %w", p.spec.Name, p.vsid, x.vsid, ErrConflict)
	}
	src, dst := p.mac, routerMAC
	if d.SrcMAC.IsValid() {
		src = d.SrcMAC.Bytes()
	}
	if group, ok := w.groupMAC(d.DstCA); ok {
		dst = group
	} else if d.Ask {
		dst = packet.BroadcastMAC()
	} else if _, inside := x.subnetPrefix(x.vsid, d.DstCA); inside {
		if mac, _, known := x.macOf(d.DstCA); known {
			dst = mac
		}
	}
	if d.DstMAC.IsValid() {
		dst = d.DstMAC.Bytes()
	}
	f, err := d.frame(src, dst)
	if err != nil {
		return nil, err
	}
	return f.Bytes(), nil
}

// groupMAC gives the MAC address of those that several stations have.
func (w *Worker) groupMAC(a netip.Addr) ([6]byte, bool) {
	switch {
	case a.IsMulticast():
		return packet.MulticastMAC(a), true
	case a == broadcastIP || w.x.isDirectedBroadcast(a):
		return packet.BroadcastMAC(), true
	}
	return [6]byte{}, false
}

// buildArriving makes the packet as the source's host sends it over the fabric.
func (w *Worker) buildArriving(d *TracePacket, from place) ([]byte, error) {
	x := &w.x
	x.h = packet.Headers{Version: 4, Src: d.SrcCA, Dst: d.DstCA, TTL: defaultTTL, Proto: d.Proto, SrcPort: d.SrcPort, DstPort: d.DstPort}
	if d.DstCA.Is6() {
		x.h.Version = 6
	}
	to, vsid, dst, err := w.destinationOf(d)
	if err != nil {
		return nil, err
	}
	to.src = from
	src := routerMAC
	switch {
	case d.SrcMAC.IsValid():
		src = d.SrcMAC.Bytes()
	case from.rec != nil && (!to.routed || from.rec.UseVMMAC):
		src = from.rec.MAC
	case from.rec == nil && !to.routed:
		return nil, fmt.Errorf("the source %s has no record in VSID %d: say which MAC address it has", d.SrcCA, x.vsid)
	}
	srcPA, dstPA := d.SrcPA, d.DstPA
	if !srcPA.IsValid() && from.rec != nil {
		srcPA = from.rec.PA.Netip()
	}
	if !dstPA.IsValid() && to.to.rec != nil {
		dstPA = to.to.rec.PA.Netip()
	}
	if !srcPA.IsValid() || !dstPA.IsValid() || srcPA.Is4() != dstPA.Is4() {
		return nil, errors.New("no records say from which PA to which the packet travels: name both, of one address family")
	}
	f, err := d.frame(src, dst)
	if err != nil {
		return nil, err
	}
	if to.to.rec != nil && w.ruleTo(to) == lookup.RuleRewrite {
		return w.rewritten(f, srcPA, dstPA)
	}
	rule := x.domain.Rule
	if to.to.rec != nil {
		rule = w.ruleTo(to)
	}
	tunnel := encap.Header{Kind: kindOf(rule), Src: srcPA, Dst: dstPA, VSID: vsid, TOS: x.tenant.dscp(d.DSCP) << 2}
	tunnel.SetEntropy(x.h.FlowHash())
	if !encap.Push(f, &tunnel) {
		return nil, errors.New("the packet does not fit into a tunnel")
	}
	return f.Bytes(), nil
}

// destinationOf finds where the source's host sends the packet, as far as it is
// not said.
func (w *Worker) destinationOf(d *TracePacket) (to way, vsid uint32, mac [6]byte, err error) {
	x := &w.x
	if group, ok := w.groupMAC(d.DstCA); ok {
		return way{}, x.vsid, group, nil
	}
	if d.Ask {
		if rec := x.domain.Record(x.vsid, d.DstCA); rec != nil {
			to.to = place{rec, lookup.KeyOf(x.vsid, d.DstCA)}
		}
		return to, x.vsid, packet.BroadcastMAC(), nil
	}
	var n NextHop
	to, r := w.nextHopOf(NextHopQuery{d.VSID, d.SrcCA, d.DstCA}, &n)
	switch {
	case r == drop.None && !n.Router:
		vsid, mac = to.vsid(), to.to.rec.MAC
	case !d.DstMAC.IsValid() || !d.DstPA.IsValid():
		why := "it is the distributed router's, which every host answers for"
		if r != drop.None {
			why = r.String()
		}
		return way{}, 0, mac, fmt.Errorf("no host would send a packet to %s here (%s): to try one all the same, name its destination's MAC address and PA", d.DstCA, why)
	default:
		to, vsid = way{}, x.vsid
	}
	if d.DstMAC.IsValid() {
		mac = d.DstMAC.Bytes()
	}
	return to, vsid, mac, nil
}

// rewritten makes of the frame the packet between PAs that stand for CAs.
func (w *Worker) rewritten(f *packet.Frame, src, dst netip.Addr) ([]byte, error) {
	var h packet.Headers
	t := vfp.Transposition{Set: vfp.SetSrc | vfp.SetDst, NewSrc: src, NewDst: dst}
	r := h.DecodeEthernet(f.Bytes())
	if r == drop.None {
		r = t.Apply(f, &h)
	}
	if r != drop.None || !f.TrimFront(packet.EthernetLen) {
		return nil, fmt.Errorf("the packet cannot be rewritten: %s", r)
	}
	return f.Bytes(), nil
}

// frame makes the Ethernet frame.
func (d *TracePacket) frame(src, dst [6]byte) (*packet.Frame, error) {
	headers, err := d.transportLen()
	switch {
	case err != nil:
		return nil, err
	case d.Payload < 0 || d.Payload > packet.MaxPacket-packet.IPv6Len-headers:
		return nil, fmt.Errorf("no packet has %d bytes of payload", d.Payload)
	case d.DSCP > 63:
		return nil, fmt.Errorf("DSCP %d is none: it has 6 bits", d.DSCP)
	}
	f := packet.NewFrame(packet.EthernetLen + packet.IPv6Len + max(headers, 64) + d.Payload)
	if d.Ask {
		build := packet.BuildARPRequest
		if d.DstCA.Is6() {
			build = packet.BuildNeighborSolicitation
		}
		if !build(f, dst, src, d.SrcCA, d.DstCA) {
			return nil, errors.New("there is no such question")
		}
		return f, nil
	}
	ipLen, etherType := packet.IPv4Len, uint16(packet.EtherTypeIPv4)
	if d.DstCA.Is6() {
		ipLen, etherType = packet.IPv6Len, packet.EtherTypeIPv6
	}
	b := f.Append(packet.EthernetLen + ipLen + headers + d.Payload)
	clear(b)
	packet.PutEthernet(b, dst, src, etherType)
	d.putIP(b[packet.EthernetLen:])
	d.putTransport(b[packet.EthernetLen+ipLen:])
	return f, nil
}

func (d *TracePacket) transportLen() (int, error) {
	switch d.Proto {
	case packet.ProtoTCP:
		return packet.TCPLen, nil
	case packet.ProtoUDP:
		return packet.UDPLen, nil
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if (d.Proto == packet.ProtoICMP) != d.DstCA.Is4() {
			return 0, errors.New("ICMP goes with IPv4, and ICMPv6 with IPv6")
		}
		return 8, nil
	}
	return 0, nil
}

func (d *TracePacket) putIP(b []byte) {
	ttl := d.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	if d.DstCA.Is6() {
		binary.BigEndian.PutUint32(b, 6<<28|uint32(d.DSCP)<<22)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
		b[6], b[7] = d.Proto, ttl
		src, dst := d.SrcCA.As16(), d.DstCA.As16()
		copy(b[8:], src[:])
		copy(b[24:], dst[:])
		return
	}
	b[0], b[1] = 0x45, d.DSCP<<2
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if d.DontFragment {
		b[6] = 0x40
	}
	b[8], b[9] = ttl, d.Proto
	src, dst := d.SrcCA.As4(), d.DstCA.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:packet.IPv4Len], 0))
}

func (d *TracePacket) putTransport(b []byte) {
	var at int // where the checksum stands
	sum := packet.PseudoSum(d.SrcCA, d.DstCA, d.Proto, len(b))
	switch d.Proto {
	case packet.ProtoTCP:
		binary.BigEndian.PutUint16(b, d.SrcPort)
		binary.BigEndian.PutUint16(b[2:], d.DstPort)
		b[12], b[13] = 5<<4, d.TCPFlags
		at = 16
	case packet.ProtoUDP:
		binary.BigEndian.PutUint16(b, d.SrcPort)
		binary.BigEndian.PutUint16(b[2:], d.DstPort)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		at = 6
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if d.Proto == packet.ProtoICMP {
			sum = 0
		}
		b[0], b[1] = d.ICMPType, d.ICMPCode
		binary.BigEndian.PutUint16(b[4:], d.SrcPort)
		at = 2
	default:
		return
	}
	c := packet.Checksum(b, sum)
	if c == 0 && d.Proto == packet.ProtoUDP { // 0 is none (RFC 768)
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
}
