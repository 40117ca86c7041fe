//go:build privileged && linux

package port

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

const (
	group4 = "239.1.2.3"
	group6 = "ff15::10"
)

// two machines, joined by va-vb and vc-vd, with an address of each family on
// every end: 192.168.1.1, .2 and fd00::1, ::2 on the one, .11, .12 and ::11, ::12
// on the other.
func twoWays(t *testing.T) (a, b *netns) {
	t.Helper()
	a, b = pair(t)
	veth(a, "vc", macC, b, "vd", macD)
	for i, ends := range []struct {
		n    *netns
		name string
	}{{a, "va"}, {a, "vc"}, {b, "vb"}, {b, "vd"}} {
		host := i%2 + 1 + i/2*10
		ends.n.ip(fmt.Sprintf("address add 192.168.1.%d/24 dev %s", host, ends.name))
		ends.n.ip(fmt.Sprintf("address add fd00::%d/64 dev %s nodad", host, ends.name))
	}
	return a, b
}

// Packets to a group leave by the interface that their source is on, are not
// looped back, and are read where the group is joined.
func TestGroups(t *testing.T) {
	na, nb := twoWays(t)
	home := Addresses{
		Tunnel: []PA{{addrs("192.168.1.1")[0], "va"}, {addrs("192.168.1.2")[0], "vc"}, {addrs("fd00::1")[0], "va"}, {addrs("fd00::2")[0], "vc"}},
		Groups: groupsOn("va", group4, group6), // its own packets must not come back
	}
	a := openProvider(t, na, ProviderOptions{Interfaces: []string{"va", "vc"}, Addresses: home})
	there := Addresses{Tunnel: pas("192.168.1.11"), Groups: append(groupsOn("vb", group4, group6), groupsOn("vd", group4, group6)...)}
	b := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb", "vd"}, Addresses: there})
	for _, name := range []string{"vb", "vd"} {
		if out := nb.output("ip", "maddress", "show", "dev", name); !strings.Contains(out, group4) || !strings.Contains(out, group6) {
			t.Errorf("the groups are not joined on %s:\n%s", name, out)
		}
	}
	var sent []*packet.Frame
	want := map[string][]byte{} // by interface
	mark := byte(1)
	for i := range 2 {
		for _, p := range [][2]string{{fmt.Sprintf("192.168.1.%d", i+1), group4}, {fmt.Sprintf("fd00::%d", i+1), group6}} {
			f := complete(p[0], p[1], 100, true)
			f.Bytes()[99] = mark
			sent = append(sent, f)
			in := []string{"vb", "vd"}[i]
			want[in] = append(want[in], mark)
			mark++
		}
	}
	if n, err := a.WriteBatch(sent); n != len(sent) || err != nil {
		t.Fatalf("sent %d: %v, %+v", n, err, a.WriteCounters())
	}
	for _, r := range b.Readers() {
		var got []byte
		for _, p := range collect(t, r, len(want[r.Interface()]), nil) {
			got = append(got, p[99])
			if ttl := map[byte]byte{4: p[8], 6: p[7]}[p[0]>>4]; ttl != 64 {
				t.Errorf("arrives with TTL %d", ttl)
			}
		}
		slices.Sort(got)
		if !bytes.Equal(got, want[r.Interface()]) {
			t.Errorf("%s got %v, want %v", r.Interface(), got, want[r.Interface()])
		}
	}
	for _, r := range a.Readers() {
		if c := r.ReadCounters(); c.Frames > 0 {
			t.Errorf("%d packets came back by %s", c.Frames, r.Interface())
		}
	}
	// A source that moves takes its groups' packets along.
	home.Tunnel[0].Interface = "vc"
	na.ip("address del 192.168.1.1/24 dev va")
	na.ip("address add 192.168.1.1/24 dev vc")
	if err := a.SetAddresses(home); err != nil {
		t.Fatal(err)
	}
	again := complete("192.168.1.1", group4, 100, true)
	again.Bytes()[99] = 77
	if n, err := a.WriteBatch([]*packet.Frame{again}); n != 1 || err != nil {
		t.Fatalf("sent %d: %v, %+v", n, err, a.WriteCounters())
	}
	if got := collect(t, b.Readers()[1], 1, nil); len(got) != 1 || got[0][99] != 77 {
		t.Errorf("after the move got %v", got)
	}
}

// Groups are joined and left as they are set, as many as the kernel takes from
// one socket and more, and again on an interface that was made anew.
func TestGroupsComeAndGo(t *testing.T) {
	na, nb := pair(t)
	nb.ip("address add 192.168.1.10/24 dev vb")
	nb.run("sysctl", "-qw", "net.ipv4.igmp_max_memberships=5")
	reports := listenIGMP(t, na, "va")
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("239.1.1.%d", i), fmt.Sprintf("ff15::%x", 0x100+i))
	}
	p := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: Addresses{Groups: groupsOn("vb", many...)}})
	joined := func(want ...string) {
		t.Helper()
		words := strings.Fields(nb.output("ip", "maddress", "show", "dev", "vb"))
		for _, g := range many {
			if got := slices.Contains(words, g); got != slices.Contains(want, g) {
				t.Errorf("%s joined: %v", g, got)
			}
		}
	}
	joined(many...)
	for start := time.Now(); !reports("239.1.1.11"); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("no IGMPv3 report about the last group is heard")
		}
	}
	set := func(a Addresses) {
		t.Helper()
		if err := p.SetAddresses(a); err != nil {
			t.Error(err)
		}
	}
	set(Addresses{Groups: groupsOn("vb", many[:5]...)})
	joined(many[:5]...)
	set(Addresses{Groups: append(groupsOn("vb", many[3:]...), Group{Addr: addrs("239.9.9.9")[0]})})
	joined(many[3:]...)

	nb.ip("link delete vb")
	if err := p.SetAddresses(Addresses{Groups: groupsOn("vb", many...)}); err == nil || !strings.Contains(err.Error(), "vb") {
		t.Errorf("join on an interface that is gone: %v", err)
	}
	veth(na, "va", macA, nb, "vb", macB)
	nb.ip("address add 192.168.1.10/24 dev vb")
	set(Addresses{Groups: groupsOn("vb", many...)})
	joined(many...)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	joined()
}

// listenIGMP tells whether an IGMPv3 report that names the group was heard.
func listenIGMP(t *testing.T, n *netns, ifname string) func(group string) bool {
	l := openLink(t, n, ifname, LinkOptions{})
	heard := make(chan []byte, 100)
	go func() {
		for fs := frameList(8); ; {
			k, err := l.ReadBatch(fs)
			if err != nil {
				return
			}
			for _, f := range fs[:k] {
				b := f.Bytes()
				if len(b) > ip4Proto && b[ip4Proto] == unix.IPPROTO_IGMP && bytes.Contains(b, []byte{0x22, 0}) {
					heard <- bytes.Clone(b)
				}
			}
		}
	}()
	return func(group string) bool {
		g := netip.MustParseAddr(group).AsSlice()
		for {
			select {
			case b := <-heard:
				if bytes.Contains(b, g) {
					return true
				}
			default:
				return false
			}
		}
	}
}

// To and from an address that stands for a CA every packet passes, but for
// neighbor discovery, in which the kernel has the address.
func TestRewriteAddresses(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	na.ip("address add fd00::1/64 dev va nodad")
	nb.ip("address add 192.168.1.10/24 dev vb")
	nb.ip("address add fd00::10/64 dev vb nodad")
	for _, a := range []string{"192.168.1.77/32", "fd00::77/128"} {
		nb.ip("address add " + a + " dev vb nodad")
	}
	p := openProvider(t, na, ProviderOptions{})
	r := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"},
		Addresses: Addresses{Tunnel: pas("192.168.1.10", "fd00::10"), Rewrite: pas("192.168.1.77", "fd00::77")}}).Readers()[0]
	var fs []*packet.Frame
	for i, proto := range []byte{1, 6, 17, 47, 58, 132, 255} {
		for _, ends := range [][2]string{{"192.168.1.1", "192.168.1.77"}, {"fd00::1", "fd00::77"}} {
			f := complete(ends[0], ends[1], 200+i, true)
			b := f.Bytes()
			if b[0]>>4 == 4 {
				b[9] = proto
			} else {
				b[6], b[40] = proto, 128
			}
			fs = append(fs, f)
		}
	}
	frag := complete("192.168.1.1", "192.168.1.77", 300, false)
	frag.Bytes()[7] = 9 // not the first fragment
	fs = append(fs, frag)
	if n, err := p.WriteBatch(fs); n != len(fs) || err != nil {
		t.Fatalf("sent %d of %d: %v, %+v", n, len(fs), err, p.WriteCounters())
	}
	got := collect(t, r, len(fs), nil)
	for _, f := range fs {
		if !slices.ContainsFunc(got, func(b []byte) bool {
			return len(b) == f.Len() && b[0] == f.Bytes()[0] && (b[0]>>4 == 6 && b[6] == f.Bytes()[6] || b[0]>>4 == 4 && b[9] == f.Bytes()[9])
		}) {
			t.Errorf("% x was not read", f.Bytes()[:20])
		}
	}
}

// The mark is for the machine's packet filter.
func TestMark(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	na.ip("address add fd00::1/64 dev va nodad")
	nb.ip("address add 192.168.1.10/24 dev vb")
	nb.ip("address add fd00::10/64 dev vb nodad")
	na.run("nft", "add table inet f; add chain inet f out { type filter hook output priority 0; }; "+
		"add counter inet f yes; add rule inet f out meta mark 0x484e56 counter name yes")
	for _, mark := range []uint32{0, 0x484e56} {
		p := openProvider(t, na, ProviderOptions{Mark: mark})
		if n, err := p.WriteBatch([]*packet.Frame{complete("192.168.1.1", "192.168.1.10", 100, true), complete("fd00::1", "fd00::10", 100, true)}); n != 2 || err != nil {
			t.Errorf("sent %d: %v, %+v", n, err, p.WriteCounters())
		}
	}
	if out := na.output("nft", "list", "counter", "inet", "f", "yes"); !strings.Contains(out, "packets 2 ") {
		t.Errorf("marked packets:\n%s", out)
	}
}
