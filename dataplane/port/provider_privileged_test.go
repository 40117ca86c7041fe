//go:build privileged && linux

package port

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// The cases of the filter's table pass through the kernel as they pass through
// the virtual machine.
func TestProviderReaderFilters(t *testing.T) {
	na, nb := pair(t)
	a := openLink(t, na, "va", LinkOptions{})
	p := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: ours})
	r := p.Readers()[0]
	var sent []*packet.Frame
	var want [][]byte
	for name, c := range filterCases {
		// A wire pads what is short, and what is judged by must be sent.
		f := append(bytes.Clone(c.frame), make([]byte, max(0, 60-len(c.frame)))...)
		f[len(f)-1] = byte(len(sent)) // tells them apart
		if wanted(ours, f, c.m) {
			want = append(want, f[ethLen:])
		} else if c.pass {
			t.Errorf("%s does not pass when padded", name)
		}
		copy(f, []byte{2, 0, 0, 0, 0, 0x0b})
		switch c.m.pktType {
		case 1: // to all
			copy(f, bytes.Repeat([]byte{0xff}, 6))
		case 2: // to a group
			copy(f, []byte{1, 0, 0x5e, 1, 2, 3})
		case 3: // to another station
			f[5] = 0x0c
		case 4: // what goes out here does not come in there
			continue
		}
		if c.m.tagPresent {
			f = slices.Concat(f[:12], []byte{0x81, 0}, binary.BigEndian.AppendUint16(nil, c.m.tci), f[12:])
		}
		sent = append(sent, frameOf(f))
	}
	if n, err := a.WriteBatch(sent); n != len(sent) || err != nil {
		t.Fatalf("sent %d of %d: %v", n, len(sent), err)
	}
	got := collect(t, r, len(want), nil)
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("packet %d is %x\nwant %x", i, got[i], want[i])
		}
	}
	if c := r.ReadCounters(); c.Frames != uint64(len(want)) {
		t.Errorf("counters: %+v, want %d frames", c, len(want))
	}
}

// nvgreTo is an NVGRE packet to the address, marked.
func nvgreTo(dst string, mark byte) *packet.Frame {
	f := eth(0x0800, ip4(dst, 47, 0, 0), gre, make([]byte, 60))
	copy(f, []byte{2, 0, 0, 0, 0, 0x0b})
	f[len(f)-1] = mark
	return frameOf(f)
}

func TestProviderSetAddresses(t *testing.T) {
	na, nb := pair(t)
	veth(na, "vc", macC, nb, "vd", macB)
	a, c := openLink(t, na, "va", LinkOptions{}), openLink(t, na, "vc", LinkOptions{})
	p := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}})
	if _, err := p.AddInterface("vb"); err == nil {
		t.Error("an interface is opened twice")
	}
	if _, err := p.AddInterface("nosuch"); err == nil || len(p.Readers()) != 1 {
		t.Errorf("an interface that does not exist is opened: %v", err)
	}
	steps := [][]netip.Addr{nil, addrs("192.168.1.10"), addrs("192.168.1.10", "192.168.1.11"), addrs("192.168.1.11")}
	// The second interface starts with the addresses of then.
	var second *ProviderReader
	var want, want2, got, got2 []byte
	for i, s := range steps {
		if i > 0 {
			if err := p.SetAddresses(On(s...)); err != nil {
				t.Fatal(err)
			}
		}
		if i == 2 {
			var err error
			if second, err = p.AddInterface("vd"); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range []*Link{a, c} {
			_, err := l.WriteBatch([]*packet.Frame{nvgreTo("192.168.1.10", byte(2*i)), nvgreTo("192.168.1.11", byte(2*i+1))})
			if err != nil {
				t.Fatal(err)
			}
		}
		for j, addr := range addrs("192.168.1.10", "192.168.1.11") {
			if slices.Contains(s, addr) {
				want = append(want, byte(2*i+j))
				if second != nil {
					want2 = append(want2, byte(2*i+j))
				}
			}
		}
	}
	for _, b := range collect(t, p.Readers()[0], len(want), nil) {
		got = append(got, b[len(b)-1])
	}
	for _, b := range collect(t, second, len(want2), nil) {
		got2 = append(got2, b[len(b)-1])
	}
	if !bytes.Equal(got, want) || !bytes.Equal(got2, want2) {
		t.Errorf("got %v and %v, want %v and %v", got, got2, want, want2)
	}
	// A reader closed alone makes room for another.
	if err := second.Close(); err != nil || len(p.Readers()) != 1 {
		t.Errorf("close: %v, %d readers left", err, len(p.Readers()))
	}
	if _, err := p.AddInterface("vd"); err != nil {
		t.Error(err)
	}
	if err := p.SetAddresses(On(netip.Addr{})); err == nil {
		t.Error("an unset address is taken")
	}
}

// The kernel's own VXLAN device is the other end: its TCP stream, super-packets
// and partial checksums included, goes through the provider into a Link, and
// back.
func TestProviderWithKernelVXLAN(t *testing.T) {
	const outerLen, vni = 36, 5001
	host, gw, vm := newNetns(t), newNetns(t), newNetns(t)
	veth(host, "pa", macA, gw, "pb", macB)
	veth(gw, "wg", macC, vm, "ext", macD)
	host.ip("address add 192.168.1.1/24 dev pa")
	gw.ip("address add 192.168.1.10/24 dev pb")
	host.ip("link add name vx address 02:00:00:00:01:01 type vxlan id 5001 remote 192.168.1.10 local 192.168.1.1 dev pa dstport 4789 noudpcsum")
	host.ip("link set vx mtu 1450 up")
	host.ip("address add 10.1.1.1/24 dev vx")
	vm.ip("link set ext mtu 1450")
	vm.ip("address add 10.1.1.2/24 dev ext")
	vm.run("ethtool", "-K", "ext", "tso", "off", "gso", "off", "tx", "off") // the provider takes complete packets
	p := openProvider(t, gw, ProviderOptions{Interfaces: []string{"pb"}, Addresses: On(addrs("192.168.1.10")...)})
	l := openLink(t, gw, "wg", LinkOptions{})
	r := p.Readers()[0]
	var wg sync.WaitGroup
	var super atomic.Int64
	wg.Go(func() { // decapsulate
		for fs := frameList(DefaultBatch); ; {
			n, err := r.ReadBatch(fs)
			if err != nil {
				return
			}
			for _, f := range fs[:n] {
				b := f.Bytes()
				if b[0] != 0x45 || b[9] != 17 || binary.BigEndian.Uint32(b[32:])>>8 != vni {
					t.Errorf("packet begins with %x", b[:40])
				}
				if f.Offload.GSO != packet.GSONone {
					super.Add(1)
				}
				f.TrimFront(outerLen)
			}
			if _, err := l.WriteBatch(fs[:n]); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	wg.Go(func() { // encapsulate
		outer := append(ip4("192.168.1.1", 17, 0x4000, 0), 0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0x13, 0x89, 0)
		copy(outer[12:], []byte{192, 168, 1, 10})
		for fs := frameList(DefaultBatch); ; {
			n, err := l.ReadBatch(fs)
			if err != nil {
				return
			}
			for _, f := range fs[:n] {
				copy(f.Prepend(len(outer)), outer)
				b := f.Bytes()
				binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
				binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
			}
			if sent, err := p.WriteBatch(fs[:n]); sent != n && !errors.Is(err, net.ErrClosed) {
				t.Errorf("sent %d of %d: %v, %+v", sent, n, err, p.WriteCounters())
			}
		}
	})
	stream(t, host, vm, netip.MustParseAddr("10.1.1.2"), 16<<20)
	stream(t, vm, host, netip.MustParseAddr("10.1.1.1"), 4<<20)
	if super.Load() == 0 {
		t.Error("no super-packet was seen")
	}
	_, _ = p.Close(), l.Close()
	wg.Wait()
}

// complete makes an IP packet of n bytes from and to the addresses.
func complete(src, dst string, n int, df bool) *packet.Frame {
	var b []byte
	if s := netip.MustParseAddr(src); s.Is4() {
		b = ip4(dst, 47, 0, 0)
		if df {
			b[6] = 0x40
		}
		binary.BigEndian.PutUint16(b[2:], uint16(n))
		copy(b[12:], s.AsSlice())
	} else {
		b = ip6(dst, 47)
		binary.BigEndian.PutUint16(b[4:], uint16(n-40))
		copy(b[8:], s.AsSlice())
	}
	return frameOf(append(b, make([]byte, n-len(b))...))
}

func TestProviderWriter(t *testing.T) {
	// Routes that tell of a narrower way further on are not heeded.
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	na.ip("address add fd00::1/64 dev va nodad")
	nb.ip("address add 192.168.1.10/24 dev vb")
	nb.ip("address add fd00::10/64 dev vb nodad")
	na.ip("route add 192.168.2.0/24 via 192.168.1.10 mtu 1400")
	na.ip("route add fd01::/64 via fd00::10 mtu 1400")
	na.ip("route add prohibit 192.168.3.0/24")
	p := openProvider(t, na, ProviderOptions{Batch: 4})
	r := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: On(addrs("192.168.1.10", "fd00::10", "192.168.2.9", "fd01::9")...)}).Readers()[0]
	partial := complete("192.168.1.1", "192.168.1.10", 100, true)
	partial.Offload = packet.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 6}
	super := complete("192.168.1.1", "192.168.1.10", 100, true)
	super.Offload.GSO, super.Offload.GSOSize = packet.GSOTCPv4, 10
	ether := frameOf(experimental(60, 0))
	cases := []struct {
		f    *packet.Frame
		sent bool
	}{
		{complete("192.168.1.1", "192.168.1.10", 100, true), true},
		{complete("fd00::1", "fd00::10", 101, true), true},
		{complete("192.168.1.1", "192.168.1.10", 1500, true), true},
		{complete("192.168.1.1", "192.168.1.10", 1501, true), false}, // EMSGSIZE
		{complete("fd00::1", "fd00::10", 1500, true), true},
		{complete("fd00::1", "fd00::10", 1501, true), false}, // EMSGSIZE
		{complete("192.168.1.1", "192.168.2.9", 1400, true), true},
		{complete("192.168.1.1", "192.168.2.9", 1401, true), true},
		{complete("fd00::1", "fd01::9", 1400, true), true},
		{complete("fd00::1", "fd01::9", 1401, true), true},
		{complete("192.168.1.1", "192.168.3.1", 100, true), false},   // EACCES
		{complete("192.168.1.1", "203.0.113.1", 100, true), false},   // ENETUNREACH
		{complete("fd00::1", "fd02::1", 100, true), false},           // ENETUNREACH
		{complete("192.168.1.1", "192.168.1.255", 100, true), false}, // EACCES: broadcast
		{partial, false}, {super, false}, {ether, false}, {frameOf(nil), false}, // refused
		{frameOf(complete("192.168.1.1", "192.168.1.10", 100, true).Bytes()[:19]), false},
		{frameOf(complete("fd00::1", "fd00::10", 100, true).Bytes()[:39]), false},
		{complete("192.168.1.1", "192.168.1.10", 102, true), true},
	}
	var fs []*packet.Frame
	var want []int
	for _, c := range cases {
		fs = append(fs, c.f)
		if c.sent {
			want = append(want, c.f.Len())
		}
	}
	if n, err := p.WriteBatch(fs); n != len(want) || err != nil {
		t.Errorf("sent %d, want %d: %v", n, len(want), err)
	}
	c := p.WriteCounters()
	if c.Frames != uint64(len(want)) || c.Refused != 6 || len(c.Errors) != 3 ||
		c.Errors["EMSGSIZE"] != 2 || c.Errors["EACCES"] != 2 || c.Errors["ENETUNREACH"] != 2 {
		t.Errorf("counters: %+v", c)
	}
	var got []int
	for _, b := range collect(t, r, len(want), nil) {
		if b[0]>>4 == 4 && (b[10] == 0 && b[11] == 0) {
			t.Error("the IPv4 checksum was not filled in")
		}
		got = append(got, len(b))
	}
	slices.Sort(got) // the families are sent apart, the neighbours are resolved when they are
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("packets of %v bytes arrived, want %v", got, want)
	}
}

// Anybody on the fabric can say that a way is narrow: the packets go on.
func TestForgedMTU(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	na.ip("address add fd00::1/64 dev va nodad")
	nb.ip("address add 192.168.1.10/24 dev vb")
	nb.ip("address add fd00::10/64 dev vb nodad")
	p := openProvider(t, na, ProviderOptions{})
	forger := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: On(addrs("192.168.1.10", "fd00::10")...)})

	// Errors about echo replies that nobody has sent are believed.
	about4 := append(ip4("192.168.1.10", 1, 0x4000, 0), 0, 0, 0, 0, 0, 1, 0, 1)
	copy(about4[12:], []byte{192, 168, 1, 1})
	error4 := complete("192.168.1.10", "192.168.1.1", 20+8+len(about4), true)
	b := error4.Bytes()
	b[9] = 1
	binary.BigEndian.PutUint32(b[20:], 3<<24|4<<16) // fragmentation needed
	binary.BigEndian.PutUint16(b[26:], 600)
	copy(b[28:], about4)
	binary.BigEndian.PutUint16(b[22:], ^onesSum(0, b[20:]))

	about6 := append(ip6("fd00::10", 58), 129, 0, 0, 0, 0, 1, 0, 1)
	binary.BigEndian.PutUint16(about6[4:], 8)
	copy(about6[8:], netip.MustParseAddr("fd00::1").AsSlice())
	error6 := complete("fd00::10", "fd00::1", 40+8+len(about6), true)
	b = error6.Bytes()
	b[6] = 58
	binary.BigEndian.PutUint32(b[40:], 2<<24) // packet too big
	binary.BigEndian.PutUint32(b[44:], 1280)
	copy(b[48:], about6)
	binary.BigEndian.PutUint16(b[42:], ^onesSum(58+uint32(len(b)-40), b[8:]))

	if n, err := forger.WriteBatch([]*packet.Frame{error4, error6}); n != 2 || err != nil {
		t.Fatalf("forged %d: %v, %+v", n, err, forger.WriteCounters())
	}
	believed := func(family, to, mtu string) bool {
		out := na.output("ip", family, "route", "get", to)
		return strings.Contains(out, "mtu "+mtu)
	}
	for start := time.Now(); !believed("-4", "192.168.1.10", "600") || !believed("-6", "fd00::10", "1280"); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the kernel does not believe the errors: the test tests nothing:\n%s%s",
				na.output("ip", "-4", "route", "get", "192.168.1.10"), na.output("ip", "-6", "route", "get", "fd00::10"))
		}
	}
	fs := []*packet.Frame{
		complete("192.168.1.1", "192.168.1.10", 1500, true), complete("fd00::1", "fd00::10", 1500, true),
		complete("192.168.1.1", "192.168.1.10", 1501, true), complete("fd00::1", "fd00::10", 1501, true)}
	if n, err := p.WriteBatch(fs); n != 2 || err != nil || p.WriteCounters().Errors["EMSGSIZE"] != 2 {
		t.Errorf("sent %d: %v, %+v", n, err, p.WriteCounters())
	}
	for _, b := range collect(t, forger.Readers()[0], 2, nil) {
		if len(b) != 1500 || b[0]>>4 == 4 && b[6] != 0x40 {
			t.Errorf("%d bytes arrived: % x", len(b), b[:20])
		}
	}
}

// onesSum adds up the words of b, and first, as the Internet checksum does.
func onesSum(first uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		first += uint32(binary.BigEndian.Uint16(b))
	}
	for first > 0xffff {
		first = first>>16 + first&0xffff
	}
	return uint16(first)
}

// While a neighbour is not found, what is for it fills the socket's buffer; then
// the rest is dropped at once.
func TestProviderWriterDoesNotWait(t *testing.T) {
	na, _ := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	p := openProvider(t, na, ProviderOptions{WriteBuffer: 1})
	fs := make([]*packet.Frame, 100)
	for i := range fs {
		fs[i] = complete("192.168.1.1", "192.168.1.99", 1000, true)
	}
	n, err := p.WriteBatch(fs)
	c := p.WriteCounters()
	if err != nil || n == 0 || n > 20 || c.Frames != uint64(n) || c.Errors["EAGAIN"] != uint64(len(fs)-n) {
		t.Errorf("sent %d: %v, %+v", n, err, c)
	}
}

// Hosts that do not answer take the way from none that do, as long as the kernel
// keeps little for each of them.
func TestDeadHostsDoNotBlockOthers(t *testing.T) {
	const dead, rounds, size = 200, 3, 60000
	na, nb := pair(t)
	na.ip("link set va mtu 65535")
	nb.ip("link set vb mtu 65535")
	na.ip("address add 192.168.1.1/24 dev va")
	nb.ip("address add 192.168.1.10/24 dev vb")
	na.ip("neigh add 192.168.1.10 lladdr " + macB + " dev va")
	na.run("sysctl", "-qw", "net.ipv4.neigh.va.unres_qlen_bytes=4096")
	p := openProvider(t, na, ProviderOptions{})
	r := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: On(addrs("192.168.1.10")...)}).Readers()[0]
	for range rounds {
		var fs []*packet.Frame
		for i := range dead {
			fs = append(fs, complete("192.168.1.1", netip.AddrFrom4([4]byte{192, 168, 1, byte(20 + i)}).String(), size, true))
		}
		fs = append(fs, complete("192.168.1.1", "192.168.1.10", 100, true))
		if n, err := p.WriteBatch(fs); n != len(fs) || err != nil {
			t.Errorf("sent %d of %d: %v, %+v", n, len(fs), err, p.WriteCounters())
		}
	}
	if got := collect(t, r, rounds, nil); len(got) != rounds {
		t.Errorf("%d of %d packets arrived at the host that answers", len(got), rounds)
	}
}

// What the machine's packet filter refuses is one packet and one error.
func TestFilteredPackets(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	nb.ip("address add 192.168.1.10/24 dev vb")
	na.ip("neigh add 192.168.1.10 lladdr " + macB + " dev va")
	na.run("nft", "add table ip f; add chain ip f out { type filter hook output priority 0; }; "+
		"add counter ip f no; add rule ip f out ip length 200 counter name no drop")
	p := openProvider(t, na, ProviderOptions{})
	fs := []*packet.Frame{complete("192.168.1.1", "192.168.1.10", 200, true), complete("192.168.1.1", "192.168.1.10", 200, true),
		complete("192.168.1.1", "192.168.1.10", 100, true)}
	if n, err := p.WriteBatch(fs); n != 1 || err != nil || p.WriteCounters().Errors["EPERM"] != 2 {
		t.Errorf("sent %d: %v, %+v", n, err, p.WriteCounters())
	}
	if out := na.output("nft", "list", "counter", "ip", "f", "no"); !strings.Contains(out, "packets 2 ") {
		t.Errorf("each was offered more than once:\n%s", out)
	}
}

func TestProviderConcurrentWriters(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	nb.ip("address add 192.168.1.10/24 dev vb")
	na.ip("neigh add 192.168.1.10 lladdr " + macB + " dev va")
	p := openProvider(t, na, ProviderOptions{Batch: 8})
	r := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: On(addrs("192.168.1.10")...), ReadBuffer: 64 << 20}).Readers()[0]
	const writers, batches, size = 4, 20, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			fs := make([]*packet.Frame, size)
			for j := range fs {
				fs[j] = complete("192.168.1.1", "192.168.1.10", 100+j, true)
			}
			for range batches {
				if n, err := p.WriteBatch(fs); n != size || err != nil {
					t.Errorf("sent %d: %v, %+v", n, err, p.WriteCounters())
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	lengths := make(map[int]int)
	for _, b := range collect(t, r, writers*batches*size, nil) {
		lengths[len(b)]++
	}
	wg.Wait()
	for j := range size {
		if lengths[100+j] != writers*batches {
			t.Errorf("%d packets of %d bytes arrived, want %d", lengths[100+j], 100+j, writers*batches)
		}
	}
}
