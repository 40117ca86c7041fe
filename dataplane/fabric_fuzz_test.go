package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// fabricFuzz is the example's fabric of three hosts and two tenants with the same
// addresses, with all that a tenant may have: lists, learning, a DHCP server, a
// team, rewritten addresses and a multicast group.
type fabricFuzz struct {
	*lab
	sites []*site
	more  map[*site][]*nic // station .14, rewritten .40 on host 1 and .41 on host 2, and .12 of the second subnet on host 1
}

const fuzzedFlows = 32 // of each port

var mac40, mac41, mac22 = mustMAC("00:15:5d:00:00:40"), mustMAC("00:15:5d:00:00:41"), mustMAC("00:15:5d:00:02:12")

func newFabricFuzz(t testing.TB) *fabricFuzz {
	z := &fabricFuzz{lab: newLab(t), more: map[*site][]*nic{}}
	z.rewritten = map[netip.Addr]*host{}
	for i, pas := range [][]string{{paGate}, {paHost1, "192.168.1.140", "192.168.1.150"}, {paHost2, "192.168.2.11", "192.168.2.140", "192.168.2.150"}} {
		h := z.addHostWith(Options{FlowsPerPort: fuzzedFlows}, pas...)
		for _, pa := range pas {
			if strings.HasSuffix(pa, "40") || strings.HasSuffix(pa, "50") {
				z.rewritten[ip(pa)] = h
			}
		}
		h.sw.opt.OnLearn = func(e LearnEvent) {
			for j, o := range z.hosts {
				if i != j && (e.Kind == Learned || e.Kind == LearnedMove) {
					_ = o.sw.UpdateRecords(e.RDID, []hnv.Record{e.Record}, nil)
				}
			}
		}
	}
	for i, name := range []string{"contoso", "fabrikam"} {
		s := z.join(name, uint32(5000+1000*i), []hnv.Encap{hnv.NVGRE, hnv.VXLAN}[i])
		z.sites = append(z.sites, s)
		last := []string{"40", "50"}[i]
		z.apply(s, func(t *Tenant) {
			t.ACLs = []hnv.ACL{outOnly()}
			t.Subnets[1].Learning, t.Subnets[1].DHCP = &hnv.Learning{MaxPerPort: 4}, ip("10.1.1.13")
			t.Subnets[2].ACL, t.Subnets[2].MulticastGroup = mustName("out-only"), netip.AddrFrom4([4]byte{239, 1, 1, byte(i)})
			for j := range t.Records {
				if t.Records[j].MAC == mac12 {
					t.Records[j].TeamPAs = []netip.Addr{ip("192.168.2.11")}
				}
			}
			t.Records = append(t.Records,
				hnv.Record{VSID: mustVSID(s.base + 1), MAC: mac14, PA: ip(paHost1), Rule: hnv.Rule(t.Encap), Type: hnv.L2Only},
				record(s.base+1, "10.1.1.40", mac40, "192.168.1.1"+last, hnv.RuleRewrite),
				record(s.base+1, "10.1.1.41", mac41, "192.168.2.1"+last, hnv.RuleRewrite),
				record(s.base+2, "10.1.2.12", mac22, paHost1, hnv.Rule(t.Encap)))
		})
		z.more[s] = []*nic{
			z.hosts[1].plug(s.base+1, mac14, PortVM), z.hosts[1].plug(s.base+1, mac40, PortVM),
			z.hosts[2].plug(s.base+1, mac41, PortVM), z.hosts[1].plug(s.base+2, mac22, PortVM),
		}
	}
	return z
}

func (z *fabricFuzz) nics(s *site) []*nic { return slices.Concat(s.nics(), z.more[s]) }

// fuzzedFrames are what mutations begin with: something good of each kind that the
// NIC could say to another one.
func fuzzedFrames(s *site, from *nic) [][]byte {
	cas := map[hnv.MAC][2]string{
		mac11: {"10.1.1.11", "fd00:1::11"}, mac12: {"10.1.1.12", "fd00:1::12"}, mac13: {"10.1.1.13", "fd00:1::13"}, mac14: {"10.1.1.14", "fd00:1::14"},
		mac21: {"10.1.2.11", "fd00:2::11"}, mac22: {"10.1.2.12", "fd00:2::12"}, mac40: {"10.1.1.40", "fd00:1::40"}, mac41: {"10.1.1.41", "fd00:1::41"},
		s.gw.mac: {"203.0.113.9", "2001:db8::9"},
	}
	me, m := cas[from.mac], from.mac
	gate := map[uint32]string{s.base: "10.254.254.1", s.base + 1: "10.1.1.1", s.base + 2: "10.1.2.1"}[from.vsid]
	quoted := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "quoted")[14:]
	out := [][]byte{
		arpFrame(1, m, macBroadcast, m, me[0], gate),
		arpFrame(1, m, macBroadcast, m, me[0], "10.1.1.14"),
		arpFrame(1, m, macBroadcast, m, me[0], me[0]),
		arpFrame(2, m, mac11, m, "10.1.1.12", "10.1.1.11"),
		udp(m, macBroadcast, me[0], "255.255.255.255", "broadcast"),
		udp(m, macMulticast, me[0], "239.9.9.9", "multicast"),
		udp(m, macMulticast6, "fe80::1", "ff02::fb", "multicast"),
		dhcp(layers.DHCPMsgTypeDiscover, m, macBroadcast, "0.0.0.0", "255.255.255.255", m, "0.0.0.0", "0.0.0.0", 0),
		dhcp(layers.DHCPMsgTypeAck, m, macBroadcast, me[0], "255.255.255.255", mac14, "10.1.1.80", "0.0.0.0", 600),
		rawND(packet.NDNeighborSolicitation, m, macMulticast6, me[1], "ff02::1:ff00:12", 255),
		ipFrame(m, hnv.RouterMAC, me[0], gate, 64, echo(), "ping"),
		ipFrame(m, hnv.RouterMAC, me[0], "10.1.2.11", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}, string(quoted)),
		ipFrame(m, hnv.RouterMAC, me[0], "10.1.1.41", 64, &layers.UDP{SrcPort: 50000, DstPort: 4789}, "\x08\x00\x00\x00\x00\x17\x71\x00"+string(udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "inside"))),
	}
	for _, to := range []hnv.MAC{mac11, mac12, mac13, mac14, mac40, mac41, mac21, mac22, s.gw.mac} {
		dst := to
		if to == s.gw.mac || to == mac21 || to == mac22 || from == s.gw || from.vsid == s.base+2 {
			dst = hnv.RouterMAC
		}
		four := ipFrame(m, dst, me[0], cas[to][0], 64, tcpFlags(1000, 80, "S"), strings.Repeat("payload", 4))
		first, later := fragments(four, 7, 24)
		out = append(out, four, first, later, udp(m, dst, me[1], cas[to][1], "payload"))
	}
	return out
}

// run carries out what the input says, command by command: somebody sends a frame
// that was changed here and there, or the fabric brings a packet. After each, what
// is on the fabric is delivered, looked at on each hop.
func (z *fabricFuzz) run(in []byte) {
	next := func() byte {
		if len(in) == 0 {
			return 0
		}
		b := in[0]
		in = in[1:]
		return b
	}
	for commands := 0; len(in) > 0 && commands < 40; commands++ {
		op, who, what := next(), next(), next()
		s := z.sites[op&1]
		nics := z.nics(s)
		from := nics[int(who)%len(nics)]
		seeds := fuzzedFrames(s, from)
		b := slices.Clone(seeds[int(what)%len(seeds)])
		for range op >> 5 {
			at, v := int(next())<<8|int(next()), next()
			b[at%len(b)] = v
		}
		if op&2 != 0 {
			mend(b, 14)
		}
		if op&4 != 0 {
			mac := from.mac.Bytes()
			copy(b[6:], mac[:])
		}
		z.now = z.now.Add(time.Second)
		if op&8 == 0 {
			from.send(b)
			z.deliver(s, from, b)
		} else {
			z.inject(s, from, b, next())
		}
		z.upkeep()
		for _, s := range z.sites { // stations may have been asked for their addresses
			for _, n := range z.nics(s) {
				n.drain()
			}
		}
		z.bounded()
	}
}

// inject brings the frame out of the fabric, in a tunnel of the tenant or of the
// other one, or rewritten.
func (z *fabricFuzz) inject(s *site, from *nic, frame []byte, how byte) {
	to := z.hosts[int(how&3)%3]
	src := from.host.pa.String()
	if how&4 != 0 {
		src = []string{paGate, paHost1, paHost2, "192.168.2.11", "192.168.9.9"}[int(how>>3)%5]
	}
	whose, vsid := s, from.vsid
	if how&64 != 0 {
		whose = z.sites[1-slices.Index(z.sites, s)]
		vsid = vsid - s.base + whose.base
	}
	outer := outerPacket([]hnv.Encap{hnv.NVGRE, hnv.VXLAN}[how>>7], src, to.pa.String(), vsid, frame)
	if how&0x3f == 0x3f && len(frame) > 34 && frame[12] == 8 && frame[13] == 0 { // between addresses that stand for VMs
		outer = slices.Clone(frame[14:])
		pas := [][4]byte{{192, 168, 1, 140}, {192, 168, 2, 140}}
		copy(outer[12:], pas[how>>6&1][:])
		copy(outer[16:], pas[1-how>>6&1][:])
		mend(outer, 0)
		whose, to = z.sites[0], z.hosts[2-how>>6&1]
	}
	to.inject(outer)
	z.deliver(whose, nil, frame)
}

// deliver takes what is on the fabric to where it goes, and looks whose it is: the
// tenant's, all the way, and of nobody else.
func (z *fabricFuzz) deliver(s *site, from *nic, frame []byte) {
	for range 8 {
		for _, h := range z.hosts {
			for _, p := range h.out.frames {
				if o, _ := readOuter(p.bytes); o.src.IsValid() && !z.belongs(s, o) {
					z.t.Fatalf("what began with %x of %s is on the fabric as %x", frame, s.Name, p.bytes)
				}
			}
		}
		if z.step() == 0 {
			break
		}
	}
	for _, other := range z.sites {
		for _, n := range z.nics(other) {
			got := n.drain()
			if other != s && len(got) != 0 {
				z.t.Fatalf("what began with %x of %s reached %s of %s: %x", frame, s.Name, n.mac, other.Name, got[0].bytes)
			}
			for _, g := range got {
				z.checkDelivered(s, n, from, frame, g.bytes)
			}
		}
	}
}

// belongs tells whether a packet on the fabric is the tenant's: by its VSID, or by
// the PAs between which it travels, whatever it looks like inside.
func (z *fabricFuzz) belongs(s *site, o outerView) bool {
	mine := func(a netip.Addr) bool { return z.rewritten[a] != nil && (a.As4()[3] == 140) == (s.base == 5000) }
	if z.rewritten[o.src] != nil && z.rewritten[o.dst] != nil {
		return mine(o.src) && mine(o.dst)
	}
	return o.vsid >= s.base && o.vsid <= s.base+2 && (z.rewritten[o.src] == nil || mine(o.src)) && (z.rewritten[o.dst] == nil || mine(o.dst))
}

// checkDelivered holds what a NIC got against what nobody may say: that it has the
// MAC or the address of somebody else.
func (z *fabricFuzz) checkDelivered(s *site, n, from *nic, frame, got []byte) {
	var h packet.Headers
	if r := h.DecodeEthernet(got); r != 0 {
		z.t.Fatalf("%s got a frame that is %s: %x", n.mac, r, got)
	}
	if h.DstMAC[0]&1 == 0 && h.DstMAC != n.mac.Bytes() {
		z.t.Fatalf("%s got a frame for %x: %x", n.mac, h.DstMAC, got)
	}
	if from == nil {
		return
	}
	owners := map[netip.Addr]hnv.MAC{}
	for _, r := range s.Records {
		if r.CA.IsValid() {
			owners[r.CA] = r.MAC
		}
	}
	if h.EtherType == packet.EtherTypeARP {
		var a packet.ARP
		var q packet.ARP
		if a.Parse(got[14:]) != 0 || q.Parse(frame[14:]) != 0 {
			z.t.Fatalf("%s got %x for %x", n.mac, got, frame)
		}
		owner, known := owners[q.SenderIP]
		if a.Op == packet.ARPReply && (q.SenderMAC != from.mac.Bytes() || known && owner != from.mac) {
			z.t.Fatalf("the spoofed question %x of %s was answered: %x", frame, from.mac, got)
		}
		return
	}
	if owner, known := owners[h.Src]; known && n != from && owner != from.mac {
		z.t.Fatalf("%s speaks to %s as %s, which is %s's: %x", from.mac, n.mac, h.Src, owner, got)
	}
	if n != from && h.SrcMAC != from.mac.Bytes() && h.SrcMAC != routerMAC {
		z.t.Fatalf("%s speaks to %s with the MAC %x: %x", from.mac, n.mac, h.SrcMAC, got)
	}
}

// bounded holds the tables to their limits.
func (z *fabricFuzz) bounded() {
	for _, h := range z.hosts {
		for _, p := range h.sw.ports.Load().byID.All {
			if n := p.flows.Len(); n > fuzzedFlows {
				z.t.Fatalf("port %s has %d flows", p.spec.Name, n)
			}
		}
		if list, _ := h.sw.Learned(); len(list) > 8 {
			z.t.Fatalf("two stations have %d addresses", len(list))
		}
	}
}

// FuzzFabric sends anything at all through a fabric of three hosts and two
// tenants: nothing of one tenant is ever seen by the other, on the fabric or at a
// port, nobody is believed to be somebody else, and no table grows beyond its
// bounds.
func FuzzFabric(f *testing.F) {
	for nic := range byte(9) {
		for what := range byte(49) {
			f.Add([]byte{4, nic, what, 5, nic, what, 4, nic, what})
		}
		f.Add([]byte{8 | 2, nic, 13 + 4*nic, 1, 8 | 3, nic, 13 + 4*nic, 0x40 | 1, 8, nic, 12, 0x3f, 8, nic, 17, 0x7f})
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 400 {
			return
		}
		newFabricFuzz(t).run(in)
	})
}

// A flood of random frames from one tenant's ports and of its VSIDs changes
// nothing for the other tenant, and fills no more than its own tables.
func TestFloodOfAnything(t *testing.T) {
	z := newFabricFuzz(t)
	seed := uint64(1)
	in := make([]byte, 0, 400)
	for range 300 {
		in = in[:0]
		for len(in) < 400 {
			seed = seed*6364136223846793005 + 1442695040888963407
			in = binary.BigEndian.AppendUint64(in, seed^seed>>29)
		}
		z.run(in)
	}
	for _, s := range z.sites {
		s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "still there"))
		z.settle()
		if got := s.gw.drain(); len(got) != 1 {
			t.Errorf("%s: %d frames arrive after the flood", s.Name, len(got))
		}
	}
}
