//go:build privileged && linux

package offload

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// exampleRig has the example's tenants, and their stations that are here.
type exampleRig struct {
	*rig
	ids map[string]dataplane.PortID // by name
}

func newExampleRig(t *testing.T, all []example, mtu int) *exampleRig {
	t.Helper()
	g := &exampleRig{newRig(t, 1), map[string]dataplane.PortID{}}
	g.tenants, g.rdids = nil, nil
	g.own, g.mtu = []netip.Addr{netip.MustParseAddr("192.168.1.1"), pa6(1)}, 1500
	g.provider()
	for _, e := range all {
		c := e.tenant(t)
		// Hosts of either family reach a compartment, whose own record names one PA.
		for i := range c.Records {
			if c.Records[i].MAC == hnv.CompartmentMAC(vsidOf(t, e.base)) {
				c.Records[i].PA = g.own[0]
			}
		}
		if err := g.sw.Apply(c); err != nil {
			t.Fatal(err)
		}
		g.tenants, g.rdids = append(g.tenants, &c), append(g.rdids, c.RDID)
		for _, v := range e.vms(t) {
			if v.host != 0 {
				continue
			}
			box := &recorder{}
			id, err := g.sw.AddPort(dataplane.PortSpec{Name: e.portName(v), VSID: vsidOf(t, v.vsid), MAC: v.mac, Kind: v.kind, MTU: mtu}, box)
			if err != nil {
				t.Fatal(err)
			}
			g.lastIf++
			l, ok := g.link(g.lastIf)
			if !ok {
				t.Fatal("too few interfaces")
			}
			if err := g.m.Plug(id, l); err != nil {
				t.Fatal(err)
			}
			g.ports[id], g.boxes[id], g.ids[e.portName(v)] = l, box, id
		}
	}
	// As on a machine whose own stack has what is no tenant's.
	p := dataplane.Provider{Addrs: g.own, MTU: g.mtu, Hybrid: true}
	for _, c := range g.tenants {
		for _, s := range c.Subnets {
			p.VSIDs = append(p.VSIDs, s.VSID)
		}
	}
	g.sw.SetProvider(p)
	g.checkTables()
	return g
}

// good are frames that nothing is out of the ordinary about, without padding.
func good(e ends, proto layers.IPProtocol, size int) []byte {
	b := padded(e, proto, size)
	if e.src.Is6() {
		return b[:etherLen+40+int(binary.BigEndian.Uint16(b[18:]))]
	}
	return b[:etherLen+int(binary.BigEndian.Uint16(b[16:]))]
}

func padded(e ends, proto layers.IPProtocol, size int) []byte {
	eth := &layers.Ethernet{SrcMAC: e.smac[:], DstMAC: e.dmac[:], EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.NetworkLayer
	var l3 gopacket.SerializableLayer
	if e.src.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		if proto == layers.IPProtocolICMPv4 {
			proto = layers.IPProtocolICMPv6
		}
		v6 := &layers.IPv6{Version: 6, HopLimit: e.ttl, TrafficClass: e.tos, FlowLabel: 0x12345, NextHeader: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		l3, network = v6, v6
		size -= 40
	} else {
		v4 := &layers.IPv4{Version: 4, TTL: e.ttl, TOS: e.tos, Id: 99, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		l3, network = v4, v4
		size -= 20
	}
	data := func(header int) gopacket.Payload {
		b := make([]byte, max(0, size-header))
		for i := range b {
			b[i] = byte(7 * i)
		}
		return b
	}
	switch proto {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: 40001, DstPort: 443, ACK: true, Seq: 1}
		_ = tcp.SetNetworkLayerForChecksum(network)
		return serialize(eth, l3, tcp, data(20))
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: 40002, DstPort: 53}
		_ = udp.SetNetworkLayerForChecksum(network)
		return serialize(eth, l3, udp, data(8))
	case layers.IPProtocolICMPv4:
		return serialize(eth, l3, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 6}, data(8))
	default:
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		_ = icmp.SetNetworkLayerForChecksum(network)
		return serialize(eth, l3, icmp, data(4))
	}
}

// TestOrdinaryPacketsStayInTheKernel takes every kind of ordinary packet over
// every way: none goes through user space, and all come out as the Switch's.
func TestOrdinaryPacketsStayInTheKernel(t *testing.T) {
	g := newExampleRig(t, examples, mtuHere)
	c := newTally()
	for _, e := range examples {
		vms := e.vms(t)
		outside := vm{four: "203.0.113.5", six: "2001:db8::5"}
		for _, from := range vms {
			for _, to := range append(vms, outside) {
				if from == to || from.host != 0 && to.host != 0 && to != outside || from.behind && to == outside {
					continue
				}
				if from.behind { // and in the name of what lies outside
					g.between(t, c, e, from, to, true)
				}
				g.between(t, c, e, from, to, false)
			}
		}
	}
	c.check(t, 3000, 3000, 0)
	g.checkCounters()
}

// between sends one's packets to the other: from a port here, or as the host of
// the one would send them here.
func (g *exampleRig) between(t *testing.T, c *tally, x example, from, to vm, outside bool) {
	t.Helper()
	for _, six := range []bool{false, true} {
		ca := func(v vm) netip.Addr {
			if six {
				return netip.MustParseAddr(v.six)
			}
			return netip.MustParseAddr(v.four)
		}
		e := ends{smac: from.mac.Bytes(), dmac: routerMAC, src: ca(from), dst: ca(to), ttl: 64}
		if outside {
			e.src = ca(vm{four: "198.51.100.7", six: "2001:db8:1::7"})
		}
		// On one link, the sender knows the other's MAC.
		if from.vsid == to.vsid {
			e.dmac = to.mac.Bytes()
		}
		for _, tos := range []uint8{0, 1, 2, 3, 0xb8} {
			for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4} {
				for _, size := range []int{0, 61, 1000, mtuHere} {
					e.tos = tos
					if from.host == 0 {
						g.sends(t, c, g.ids[x.portName(from)], good(e, proto, size))
						continue
					}
					g.receives(t, c, x, from, to, e, proto, size)
				}
			}
		}
	}
}

func (g *exampleRig) sends(t *testing.T, c *tally, id dataplane.PortID, b []byte) {
	t.Helper()
	got, want, alone := g.fromPort(id, b)
	c.count(got)
	if !agree(got, want, alone, b, g.own) || got.action != actionPort && got.action != actionFabric {
		t.Fatalf("from port %d: %x\nprograms: %s\nSwitch:   %s (alone: %v)", id, b, got, want, alone)
	}
}

// receives gives the packet as the sender's host would send it: routed there, or
// on the link.
func (g *exampleRig) receives(t *testing.T, c *tally, x example, from, to vm, e ends, proto layers.IPProtocol, size int) {
	t.Helper()
	o := outer{src: x.paOf(from.host), dst: x.paOf(0), vxlan: x.encap == hnv.VXLAN, vsid: to.vsid, tos: e.tos}
	if !to.mac.IsValid() { // outside: through the compartment
		gw := x.vms(t)[0]
		o.vsid, e.dmac, e.smac = gw.vsid, gw.mac.Bytes(), routerMAC
	} else if e.dmac = to.mac.Bytes(); from.vsid != to.vsid {
		e.smac = routerMAC
	}
	for _, mark := range []uint8{e.tos, e.tos | 3, e.tos &^ 3, e.tos&^3 | 1} {
		o.tos = mark
		b := wrap(o, good(e, proto, size))
		got, want, alone := g.fromFabric(b)
		c.count(got)
		marked := mark&3 == 3 && e.tos&3 == 0 // no sender may be told of congestion
		if !agree(got, want, alone, b, g.own) || !marked && got.action != actionPort || marked && got.reason != drop.ECNInvalid {
			t.Fatalf("from the fabric: %x\nprograms: %s\nSwitch:   %s (alone: %v)", b, got, want, alone)
		}
	}
}

// The hostile packets that the Switch's own tests have are dropped for the same
// reasons, and nothing of them is delivered.
func TestHostilePacketsAreRefusedByThePrograms(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "testdata", "hostile.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := newExampleRig(t, []example{{"contoso", 5000, hnv.NVGRE, false, false}, {"fabrikam", 6000, hnv.VXLAN, false, false}}, 1458)
	c := newTally()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		col := strings.Split(lines.Text(), " | ")
		if len(col) != 4 || strings.HasPrefix(col[0], "#") {
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(col[0]))
		want, known := drop.Parse(col[2])
		if err != nil || !known {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if !runnable(append(ether(g.fabric, b), b...)) {
			continue
		}
		got, ref, alone := g.fromFabric(b)
		c.count(got)
		if !agree(got, ref, alone, b, g.own) || ref.reason != want || got.action == actionPort || got.action == actionFabric {
			t.Errorf("%s:\nprograms: %s\nSwitch:   %s, want %s", col[3], got, ref, want)
		}
	}
	if c.actions[actionDrop] < 50 {
		t.Errorf("the programs dropped %d packets", c.actions[actionDrop])
	}
	c.check(t, 0, 0, 25)
	g.checkCounters()
	if n := g.counted[hnv.RDID{}].LeftToStack; n < 5 {
		t.Errorf("%d packets were left to the machine's own stack", n)
	}
}

// The committed corpora of the Switch's fuzz targets go through both.
func TestCorpora(t *testing.T) {
	g := newExampleRig(t, []example{{"contoso", 5000, hnv.NVGRE, false, true}, {"fabrikam", 6000, hnv.VXLAN, false, true}}, 1458)
	c := newTally()
	for _, b := range corpus(t, "FuzzProvider") {
		if !runnable(append(ether(g.fabric, b), b...)) {
			continue
		}
		got, want, alone := g.fromFabric(b)
		c.count(got)
		if !agree(got, want, alone, b, g.own) {
			t.Errorf("from the fabric: %x\nprograms: %s\nSwitch:   %s (alone: %v)", b, got, want, alone)
		}
	}
	for _, b := range corpus(t, "FuzzPort") {
		if !runnable(b) {
			continue
		}
		for name, id := range g.ids {
			if got, want, alone := g.fromPort(id, b); !agree(got, want, alone, b, g.own) {
				t.Errorf("from %s: %x\nprograms: %s\nSwitch:   %s (alone: %v)", name, b, got, want, alone)
			}
		}
		// And as if the port had sent it.
		for name, id := range g.ids {
			v, _ := g.sw.PortView(id)
			mac := v.Spec.MAC.Bytes()
			copy(b[6:], mac[:])
			mend(b, 14)
			got, want, alone := g.fromPort(id, b)
			c.count(got)
			if !agree(got, want, alone, b, g.own) {
				t.Errorf("from %s: %x\nprograms: %s\nSwitch:   %s (alone: %v)", name, b, got, want, alone)
			}
		}
	}
	c.check(t, 0, 1, 5)
	g.checkCounters()
}

var byteLine = regexp.MustCompile(`(?m)^\[\]byte\((".*")\)$`)

// corpus reads the bytes of a target's committed inputs.
func corpus(t *testing.T, target string) (out [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "fuzz", target, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus of %s: %v", target, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m := byteLine.FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s is no corpus file", f)
		}
		s, err := strconv.Unquote(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		if len(s) > etherLen && len(s) < 4000 {
			out = append(out, []byte(s))
		}
	}
	return out
}

// Lengths that do not fit the outer header are refused as they are by the Switch.
func TestGreatPackets(t *testing.T) {
	g := newExampleRig(t, examples[:1], 0)
	id := g.ids["contoso-10.1.1.14"]
	for _, size := range []int{1457, 1458, 1459, 1500, 3000} {
		e := ends{smac: macOf(t, 0x14).Bytes(), dmac: macOf(t, 0x12).Bytes(), src: netip.MustParseAddr("10.1.1.14"), dst: netip.MustParseAddr("10.1.1.12"), ttl: 64}
		b := good(e, layers.IPProtocolUDP, size)
		got, want, alone := g.fromPort(id, b)
		if !agree(got, want, alone, b, g.own) {
			t.Errorf("%d bytes: programs: %s\nSwitch: %s", size, got, want)
		}
		if fits := size <= 1458; fits != (got.action == actionFabric) {
			t.Errorf("%d bytes: %s", size, got)
		}
		if got.action == actionFabric && int(binary.BigEndian.Uint16(got.bytes[16:])) != len(got.bytes)-etherLen {
			t.Errorf("%d bytes: the outer length is wrong", size)
		}
	}
}
