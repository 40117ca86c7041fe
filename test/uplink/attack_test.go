//go:build privileged && linux

package uplink

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// forgery is what a tenant tries to send to the outside.
type forgery struct {
	src, dst netip.Addr
	proto    layers.IPProtocol
	port     uint16 // source port, or identifier
	n        int    // it is marked with
}

func (f forgery) String() string {
	return fmt.Sprintf("%s protocol %d port %d", f.src, f.proto, f.port)
}

// frame is the packet between two MAC addresses.
func (f forgery) frame(t *testing.T, from, to [6]byte) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: from[:], DstMAC: to[:], EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.NetworkLayer
	proto := f.proto
	if f.src.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		if proto == layers.IPProtocolICMPv4 {
			proto = layers.IPProtocolICMPv6
		}
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: f.src.AsSlice(), DstIP: f.dst.AsSlice()}
	} else {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: f.src.AsSlice(), DstIP: f.dst.AsSlice()}
	}
	all := []gopacket.SerializableLayer{eth, ip.(gopacket.SerializableLayer)}
	switch proto {
	case layers.IPProtocolUDP:
		u := &layers.UDP{SrcPort: layers.UDPPort(f.port), DstPort: 40001}
		must(t, u.SetNetworkLayerForChecksum(ip))
		all = append(all, u)
	case layers.IPProtocolTCP:
		c := &layers.TCP{SrcPort: layers.TCPPort(f.port), DstPort: 40001, SYN: true, Window: 100}
		must(t, c.SetNetworkLayerForChecksum(ip))
		all = append(all, c)
	case layers.IPProtocolICMPv4:
		all = append(all, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: f.port})
	case layers.IPProtocolICMPv6:
		i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		must(t, i.SetNetworkLayerForChecksum(ip))
		all = append(all, i, &layers.ICMPv6Echo{Identifier: f.port})
	}
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(all, gopacket.Payload(fmt.Sprintf("<forged %06d>", f.n)))...))
	return b.Bytes()
}

// mayLeave says whether the tenant may send it: it has the address, or that port of
// it.
func (f forgery) mayLeave(n *tenant) bool {
	for _, e := range n.external {
		if e == f.src.String() {
			return true
		}
		i := strings.LastIndex(e, ":")
		if i < 0 || strings.Trim(e[:i], "[]") != f.src.String() || f.proto == layers.IPProtocolSCTP {
			continue
		}
		var lo, hi uint16
		if _, err := fmt.Sscanf(e[i+1:], "%d-%d", &lo, &hi); err == nil && f.port >= lo && f.port <= hi {
			return true
		}
	}
	return false
}

// martian tells whether the kernel's routing refuses the source before it asks any
// rules, which then count nothing.
func (f forgery) martian() bool {
	switch f.src.String() {
	case "127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "::1", "ff02::1":
		return true
	case "198.51.100.1", gatewayPA: // its own, of IPv4
		return true
	}
	return false
}

// forgeries are all combinations.
func forgeries() (out []forgery) {
	for _, dst := range []string{remote4, remote6} {
		sources := []string{
			"203.0.113.10", "203.0.113.20", "203.0.113.77", "10.1.1.11", comp4, "10.254.254.1", "198.51.100.1", out4, gatewayPA, hostPA,
			"127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "192.0.2.99",
		}
		if dst == remote6 {
			sources = []string{"2001:db8:f::10", "2001:db8:f::20", "2001:db8:f::77", vm6, comp6, "fd00:fe::1", "2001:db8:e::1", out6, "::1", "ff02::1", "2001:db8:9::9"}
		}
		for _, src := range sources {
			for _, proto := range []layers.IPProtocol{layers.IPProtocolUDP, layers.IPProtocolTCP, layers.IPProtocolICMPv4, layers.IPProtocolSCTP} {
				for _, port := range []uint16{1, 19999, 20000, 25000, 29999, 30000, 39999, 40000} {
					out = append(out, forgery{netip.MustParseAddr(src), netip.MustParseAddr(dst), proto, port, len(out)})
				}
			}
		}
	}
	return out
}

// sendFrames sends from a namespace's link, not so fast that queues would lose any.
func sendFrames(t *testing.T, ns, link string, frames [][]byte) {
	t.Helper()
	h, err := nl.Open(netns.Path(ns))
	must(t, err)
	defer h.Close()
	l, err := h.Link(link)
	must(t, err)
	for i, f := range frames {
		must(t, h.SendFrame(l.Index, f))
		if i%8 == 7 {
			time.Sleep(time.Millisecond)
		}
	}
}

var forged = regexp.MustCompile(`<forged (\d{6})>`)

// seen tells how often each forgery is in a capture.
func seen(t *testing.T, file string) map[int]int {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	out := map[int]int{}
	for _, m := range forged.FindAllSubmatch(b, -1) {
		n, err := strconv.Atoi(string(m[1]))
		must(t, err)
		out[n]++
	}
	return out
}

// A compartment that is somebody else's, who sends what he likes to the outside,
// from any address of anybody's: what leaves is from its own address, or from its
// own ports of one that is shared, with the programs at the uplink and without them.
func TestForgedSourcesDoNotLeave(t *testing.T) {
	for _, path := range []string{"ebpf", "go"} {
		t.Run(path, func(t *testing.T) {
			adatum := &tenant{name: "adatum", base: 7000, encap: hnv.NVGRE, external: []string{"203.0.113.20:30000-39999", "[2001:db8:f::20]:30000-39999"}}
			all := []*tenant{contoso(), fabrikam(), adatum}
			r := newRig(t, all...)
			if path == "go" {
				must(t, r.uplink.Detach(r.up0.Index))
				for _, n := range all {
					must(t, r.uplink.Remove(n.exit.Link))
				}
			}
			for _, n := range all {
				before := r.kept(all)
				outside, fabric := capture(t, r.outside, "eth0", fmt.Sprintf("ether src %s", net.HardwareAddr(r.up0.MAC[:]))), capture(t, r.host, "pb0", "")
				var frames [][]byte
				list := forgeries()
				for _, f := range list {
					frames = append(frames, f.frame(t, n.exit.MAC, n.exit.Peer))
				}
				sendFrames(t, n.comp, "ext", frames)
				got, leaves, refused := seen(t, outside()), 0, 0
				for _, f := range list {
					want := 0
					if f.mayLeave(n) {
						want = 1
						leaves++
					} else {
						refused++
					}
					if got[f.n] != want {
						t.Errorf("%s from %s was seen %d times outside, want %d", f, n.name, got[f.n], want)
					}
				}
				if in := seen(t, fabric()); len(in) > 0 {
					t.Errorf("%d forged packets of %s went to the fabric", len(in), n.name)
				}
				if path == "go" {
					for _, f := range list {
						if f.martian() {
							refused--
						}
					}
				}
				counted := r.kept(all) - before
				t.Logf("%s: of %d packets %d left, %d were refused, %d counted", n.name, len(list), leaves, refused, counted)
				if counted != uint64(refused) {
					t.Errorf("%s: %d packets were counted as dropped, of %d", n.name, counted, refused)
				}
				if leaves < 10 || refused < 500 {
					t.Error("the test tests little")
				}
			}
		})
	}
}

var counterLine = regexp.MustCompile(`packets (\d+) bytes`)

// kept is how many packets were counted as not let out, by rules and by programs.
func (r *rig) kept(all []*tenant) (n uint64) {
	r.t.Helper()
	for _, m := range counterLine.FindAllStringSubmatch(run(r.t, r.gw, "nft list counters"), -1) {
		k, err := strconv.ParseUint(m[1], 10, 64)
		must(r.t, err)
		n += k
	}
	for _, x := range all {
		c := r.counters(x)
		n += c.Spoofed + c.Fragment
	}
	return n
}

// A VM that sends from any of these addresses gets out what is from its own, which
// is translated; nothing else goes even to the fabric, and all is counted.
func TestForgedSourcesOfVMs(t *testing.T) {
	n := contoso()
	r := newRig(t, n, fabrikam())
	run(t, n.vm, "ping -c1 -W30 %s", remote4)
	dropped := func() (sum uint64) {
		for _, c := range r.hostSwitch.Counters() {
			sum += c.Drops()
		}
		return sum
	}
	mac, router := macOf(t, 0x11).Bytes(), hnv.RouterMAC.Bytes()
	var frames [][]byte
	list := slices.DeleteFunc(forgeries(), func(f forgery) bool { return f.src.String() == vm4 || f.src.String() == vm6 })
	for _, f := range list {
		frames = append(frames, f.frame(t, mac, router))
	}
	own := forgery{netip.MustParseAddr(vm4), netip.MustParseAddr(remote4), layers.IPProtocolUDP, 4000, 999999}
	before := dropped()
	outside, fabric := capture(t, r.outside, "eth0", fmt.Sprintf("ether src %s", net.HardwareAddr(r.up0.MAC[:]))), capture(t, r.host, "pb0", "src host "+hostPA)
	sendFrames(t, n.vm, "eth0", append(frames, own.frame(t, mac, router)))
	for where, got := range map[string]map[int]int{"outside": seen(t, outside()), "on the fabric": seen(t, fabric())} {
		if len(got) != 1 || got[own.n] != 1 {
			t.Errorf("%s: %d packets, its own %d times", where, len(got), got[own.n])
		}
	}
	if n := dropped() - before; n != uint64(len(list)) {
		t.Errorf("%d packets were counted as dropped, of %d", n, len(list))
	}
}
