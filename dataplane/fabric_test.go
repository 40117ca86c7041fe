package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// wire is a Writer that keeps what it is given.
type wire struct {
	frames []sent
	take   int // how many of each batch to take; 0: all
	err    error
}

type sent struct {
	bytes   []byte
	offload packet.Offload
}

func (w *wire) WriteBatch(frames []*packet.Frame) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n := len(frames)
	if w.take > 0 {
		n = min(n, w.take)
	}
	for _, f := range frames[:n] {
		w.frames = append(w.frames, sent{slices.Clone(f.Bytes()), f.Offload})
	}
	return n, nil
}

func (w *wire) drain() []sent {
	out := w.frames
	w.frames = nil
	return out
}

// lab is several hosts in one process, joined by a fabric that delivers by PA.
// Nothing moves by itself: send puts a frame into a port, step moves what lies
// on the fabric.
type lab struct {
	t     testing.TB
	hosts []*host
	byPA  map[netip.Addr]*host
	tap   []sent // everything that was on the fabric
	now   time.Time
	// rewritten are the PAs that stand for a CA, to which packets come without a
	// tunnel.
	rewritten map[netip.Addr]*host
	mtu       int // of the fabric
	// cut are PAs that the fabric does not reach any more: packets from and to
	// them are lost.
	cut map[netip.Addr]bool
	// stray counts packets to PAs of nobody.
	stray int
}

type host struct {
	lab *lab
	pa  netip.Addr
	sw  *Switch
	w   *Worker
	out *wire
}

// nic is a port seen from its VM or compartment.
type nic struct {
	host *host
	id   PortID
	vsid uint32
	mac  hnv.MAC
	*wire
}

func newLab(t testing.TB) *lab {
	return &lab{t: t, byPA: map[netip.Addr]*host{}, now: time.Unix(1000, 0), mtu: 1500, cut: map[netip.Addr]bool{}}
}

// addHost adds a host with one PA or more.
func (l *lab) addHost(pas ...string) *host { return l.addHostWith(Options{}, pas...) }

func (l *lab) addHostWith(o Options, pas ...string) *host {
	h := &host{lab: l, pa: ip(pas[0]), out: &wire{}}
	o.Now = func() time.Time { return l.now }
	h.sw = New(o)
	p := Provider{MTU: l.mtu}
	for _, pa := range pas {
		p.Addrs = append(p.Addrs, ip(pa))
		l.byPA[ip(pa)] = h
	}
	h.sw.SetProvider(p)
	h.w = h.sw.NewWorker(h.out)
	l.hosts = append(l.hosts, h)
	return h
}

func (h *host) plug(vsid uint32, mac hnv.MAC, kind PortKind) *nic {
	h.lab.t.Helper()
	n := &nic{host: h, vsid: vsid, mac: mac, wire: &wire{}}
	id, err := h.sw.AddPort(PortSpec{Name: fmt.Sprintf("%s-%d", mac, vsid), VSID: mustVSID(vsid), MAC: mac, Kind: kind, MTU: 1458}, n)
	if err != nil {
		h.lab.t.Fatal(err)
	}
	n.id = id
	return n
}

// send gives a frame to the port.
func (n *nic) send(b []byte) { n.sendOffloaded(sent{bytes: b}) }

func (n *nic) sendOffloaded(s sent) {
	n.host.lab.t.Helper()
	f := packet.NewFrame(max(2048, len(s.bytes)))
	if !f.Set(s.bytes) {
		n.host.lab.t.Fatal("the frame does not fit")
	}
	f.Offload = s.offload
	n.host.w.FromPort(n.id, []*packet.Frame{f})
	n.host.w.Flush()
}

// inject puts an outer packet into a host as if it came from the fabric.
func (h *host) inject(b []byte) {
	f := packet.NewFrame(max(2048, len(b)))
	f.Set(b)
	h.w.FromProvider([]*packet.Frame{f})
	h.w.Flush()
}

// step delivers what lies on the fabric and tells how much it was.
func (l *lab) step() int {
	l.t.Helper()
	type packet struct {
		sent
		from *host
	}
	var all []packet
	for _, h := range l.hosts {
		for _, s := range h.out.drain() {
			all = append(all, packet{s, h})
		}
	}
	for _, p := range all {
		l.tap = append(l.tap, p.sent)
		src, dst := l.inspect(p.from, p.sent)
		switch to := l.byPA[dst]; {
		case l.cut[src] || l.cut[dst]:
		case dst.IsMulticast():
			for _, h := range l.hosts {
				if h != p.from {
					h.inject(p.bytes)
				}
			}
		case to != nil:
			to.inject(p.bytes)
		default:
			l.stray++
		}
	}
	return len(all)
}

func (l *lab) settle() {
	l.t.Helper()
	for range 8 {
		if l.step() == 0 {
			return
		}
	}
	l.t.Error("packets go round and round on the fabric")
}

// drops sums up the drops of a tenant on a host; the empty name is "no tenant".
func (h *host) drops(tenant string) map[drop.Reason]uint64 {
	for _, c := range h.sw.Counters() {
		if c.Name.String() == tenant {
			return c.DropsByReason
		}
	}
	return nil
}

func (h *host) allDrops() map[drop.Reason]uint64 {
	out := map[drop.Reason]uint64{}
	for _, c := range h.sw.Counters() {
		for r, n := range c.DropsByReason {
			out[r] += n
		}
	}
	return out
}

func mustVSID(n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	if err != nil {
		panic(err)
	}
	return v
}

func mustMAC(s string) hnv.MAC {
	m, err := hnv.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func mustName(s string) hnv.Name {
	n, err := hnv.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func subnet(v uint32, prefixes ...string) hnv.Subnet {
	s := hnv.Subnet{VSID: mustVSID(v)}
	for _, p := range prefixes {
		pfx := netip.MustParsePrefix(p)
		s.Prefixes = append(s.Prefixes, hnv.SubnetPrefix{Prefix: pfx, Gateway: pfx.Addr().Next()})
	}
	return s
}

func record(v uint32, ca string, mac hnv.MAC, pa string, rule hnv.Rule) hnv.Record {
	return hnv.Record{VSID: mustVSID(v), CA: ip(ca), MAC: mac, PA: ip(pa), Rule: rule, Type: hnv.Static}
}

// MACs of the VMs, the same in every tenant.
var (
	mac11 = mustMAC("00:15:5d:00:00:11")
	mac12 = mustMAC("00:15:5d:00:00:12")
	mac13 = mustMAC("00:15:5d:00:00:13")
	mac21 = mustMAC("00:15:5d:00:02:11")
)

const (
	paGate  = "192.168.1.1"
	paHost1 = "192.168.1.10"
	paHost2 = "192.168.2.10"
)

// tenantConfig is the tenant of the literature's example, with its VSIDs from
// base on: all tenants have the same CAs and MACs.
//
//	base    gateway subnet  10.254.254.0/29  compartment .2 on the gateway
//	base+1  10.1.1.0/24     .11 on host 1, .12 on host 2, .13 on host 1
//	base+2  10.1.2.0/24     .11 on host 2
func tenantConfig(name string, base uint32, encap hnv.Encap) Tenant {
	rule := hnv.Rule(encap)
	gw := hnv.CompartmentMAC(mustVSID(base))
	return Tenant{
		Name: mustName(name), RDID: hnv.NewRDID(), Encap: encap,
		Subnets: []hnv.Subnet{
			subnet(base, "10.254.254.0/29", "fd00:fe::/64"),
			subnet(base+1, "10.1.1.0/24", "fd00:1::/64"),
			subnet(base+2, "10.1.2.0/24", "fd00:2::/64"),
		},
		Routes: []hnv.CustomerRoute{
			{VSID: mustVSID(base), Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHop: ip("10.254.254.2")},
			{VSID: mustVSID(base), Prefix: netip.MustParsePrefix("::/0"), NextHop: ip("fd00:fe::2")},
		},
		Records: []hnv.Record{
			record(base, "10.254.254.2", gw, paGate, rule),
			record(base, "fd00:fe::2", gw, paGate, rule),
			record(base+1, "10.1.1.11", mac11, paHost1, rule),
			record(base+1, "fd00:1::11", mac11, paHost1, rule),
			record(base+1, "10.1.1.12", mac12, paHost2, rule),
			record(base+1, "fd00:1::12", mac12, paHost2, rule),
			record(base+1, "10.1.1.13", mac13, paHost1, rule),
			record(base+2, "10.1.2.11", mac21, paHost2, rule),
			record(base+2, "fd00:2::11", mac21, paHost2, rule),
			record(base+1, "fd00:1::13", mac13, paHost1, rule),
		},
	}
}

// site is one tenant in the lab.
type site struct {
	Tenant
	base                      uint32
	gw, vm11, vm12, vm13, v21 *nic
}

// exampleLab has a gateway, two hosts and the tenants contoso on NVGRE and
// fabrikam on VXLAN with the same addresses.
func exampleLab(t testing.TB) (l *lab, contoso, fabrikam *site) {
	l = newLab(t)
	for _, pa := range []string{paGate, paHost1, paHost2} {
		l.addHost(pa)
	}
	return l, l.join("contoso", 5000, hnv.NVGRE), l.join("fabrikam", 6000, hnv.VXLAN)
}

// join brings a tenant into a lab of the example's three hosts.
func (l *lab) join(name string, base uint32, encap hnv.Encap) *site {
	l.t.Helper()
	s := &site{Tenant: tenantConfig(name, base, encap), base: base}
	for _, h := range l.hosts {
		if err := h.sw.Apply(s.Tenant); err != nil {
			l.t.Fatal(err)
		}
	}
	gate, h1, h2 := l.hosts[0], l.hosts[1], l.hosts[2]
	s.gw = gate.plug(base, hnv.CompartmentMAC(mustVSID(base)), PortCompartment)
	s.vm11 = h1.plug(base+1, mac11, PortVM)
	s.vm12 = h2.plug(base+1, mac12, PortVM)
	s.vm13 = h1.plug(base+1, mac13, PortVM)
	s.v21 = h2.plug(base+2, mac21, PortVM)
	return s
}

func (s *site) nics() []*nic { return []*nic{s.gw, s.vm11, s.vm12, s.vm13, s.v21} }

// frame makes an Ethernet frame with a UDP packet.
func udp(src, dst hnv.MAC, from, to string, payload string) []byte {
	return ipFrame(src, dst, from, to, 64, &layers.UDP{SrcPort: 1000, DstPort: 2000}, payload)
}

type transport interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

func ipFrame(src, dst hnv.MAC, from, to string, ttl uint8, l4 gopacket.SerializableLayer, payload string) []byte {
	eth := &layers.Ethernet{SrcMAC: macBytes(src), DstMAC: macBytes(dst), EthernetType: layers.EthernetTypeIPv4}
	var l3 gopacket.SerializableLayer
	proto := map[gopacket.LayerType]layers.IPProtocol{
		layers.LayerTypeUDP: layers.IPProtocolUDP, layers.LayerTypeTCP: layers.IPProtocolTCP,
		layers.LayerTypeICMPv4: layers.IPProtocolICMPv4, layers.LayerTypeICMPv6: layers.IPProtocolICMPv6,
	}[l4.LayerType()]
	var network gopacket.NetworkLayer
	if ip(from).Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: ttl, Protocol: proto, SrcIP: ip(from).AsSlice(), DstIP: ip(to).AsSlice()}
		l3, network = v4, v4
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: proto, SrcIP: ip(from).AsSlice(), DstIP: ip(to).AsSlice()}
		eth.EthernetType = layers.EthernetTypeIPv6
		l3, network = v6, v6
	}
	if t, ok := l4.(transport); ok {
		_ = t.SetNetworkLayerForChecksum(network)
	}
	return serialize(eth, l3, l4, gopacket.Payload(payload))
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// outerPacket wraps an inner frame by hand, independent of package encap.
func outerPacket(encap hnv.Encap, src, dst string, vsid uint32, inner []byte) []byte {
	v4 := &layers.IPv4{Version: 4, TTL: 64, SrcIP: ip(src).AsSlice(), DstIP: ip(dst).AsSlice(), Flags: layers.IPv4DontFragment}
	if encap == hnv.NVGRE {
		v4.Protocol = layers.IPProtocolGRE
		return serialize(v4, &layers.GRE{KeyPresent: true, Key: vsid<<8 | 7, Protocol: layers.EthernetTypeTransparentEthernetBridging}, gopacket.Payload(inner))
	}
	v4.Protocol = layers.IPProtocolUDP
	u := &layers.UDP{SrcPort: 50000, DstPort: 4789}
	_ = u.SetNetworkLayerForChecksum(v4)
	return serialize(v4, u, &layers.VXLAN{ValidIDFlag: true, VNI: vsid}, gopacket.Payload(inner))
}

// arpFrame makes an ARP packet.
func arpFrame(op uint16, src, dst hnv.MAC, senderMAC hnv.MAC, sender, target string) []byte {
	return serialize(
		&layers.Ethernet{SrcMAC: macBytes(src), DstMAC: macBytes(dst), EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: macBytes(senderMAC), SourceProtAddress: ip(sender).AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: ip(target).AsSlice(),
		})
}

// decoded is what a test looks at in a frame.
type decoded struct {
	packet.Headers
	payload string
}

func decode(t testing.TB, b []byte) decoded {
	t.Helper()
	var d decoded
	if r := d.DecodeEthernet(b); r != drop.None {
		t.Fatalf("a frame that was delivered is %s: %x", r, b)
	}
	data := b[d.L4 : d.L3+max(d.Length, d.L4-d.L3)]
	head := 8 // of UDP, ICMP and ICMPv6
	if d.Proto == packet.ProtoTCP && len(data) > 12 {
		head = int(data[12]>>4) * 4
	}
	if d.Version != 0 && d.FragOffset == 0 && len(data) > head {
		d.payload = string(data[head:])
	}
	return d
}
