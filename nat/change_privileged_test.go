//go:build privileged && linux

package nat

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/ct"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
)

func TestApplyTwiceChangesNothing(t *testing.T) {
	l := newLab(t, ext1, ext2+":20000-29999", "2001:db8::10")
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.apply()
	serve(t, l.outside, "tcp", remote+":80")
	c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, c)
	if _, err := dial(t, l.inside, "udp", vm1, gateway+":9"); err != nil {
		t.Fatal(err)
	}
	before := l.nft("-a", "list", "ruleset")
	if got := l.apply(); len(got) != 0 {
		t.Errorf("the second apply changed %q", got)
	}
	other := New(nil) // as after a restart
	r, err := other.Apply(context.Background(), l.spec)
	if err != nil || len(r.Repaired) != 0 {
		t.Errorf("another engine changed %q, %v", r.Repaired, err)
	}
	// Multicast listeners of the links may be counted meanwhile; what must not
	// happen is that a counter begins anew.
	was, rules := counted(before)
	now, again := counted(l.nft("-a", "list", "ruleset"))
	if diff := cmp.Diff(rules, again); diff != "" {
		t.Errorf("the ruleset is another one now (-before +after):\n%s", diff)
	}
	for i := range was {
		if i < len(now) && now[i] < was[i] {
			t.Errorf("counter %d went from %d packets to %d", i, was[i], now[i])
		}
	}
	mustAsk(t, c)
}

var counterText = regexp.MustCompile(`packets (\d+) bytes \d+`)

var sealText = regexp.MustCompile(`(chain sealed-[0-9a-f]{32})-\d+ `)

// unsealed takes out of a listing what each change makes another: the seal's
// generation.
func unsealed(listing string) string { return sealText.ReplaceAllString(listing, "$1 ") }

// counted takes the counters' values out of a listing.
func counted(listing string) (packets []int, rest string) {
	for _, m := range counterText.FindAllStringSubmatch(listing, -1) {
		n, _ := strconv.Atoi(m[1])
		packets = append(packets, n)
	}
	return packets, counterText.ReplaceAllString(listing, "")
}

// Removing a mapping ends its connections and no others; so does leading it
// elsewhere.
func TestRemovedMappingEndsItsConnections(t *testing.T) {
	l := newLab(t, ext1)
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.addMapping(hnv.TCP, ext1+":2222", vm2+":22")
	l.addMapping(hnv.UDP, ext1+":443", vm2+":8443")
	l.apply()
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.outside, "udp", remote+":53")
	for _, a := range []string{vm2 + ":8443", vm2 + ":22", vm1 + ":22"} {
		serve(t, l.inside, "tcp", a)
	}
	serve(t, l.inside, "udp", vm2+":8443")
	gone := []net.Conn{
		mustDial(t, l.outside, "tcp", remote, ext1+":443"),
		mustDial(t, l.inside, "tcp", vm1, ext1+":443"), // the hairpin too
	}
	kept := []net.Conn{
		mustDial(t, l.outside, "tcp", remote, ext1+":2222"),
		mustDial(t, l.outside, "udp", remote, ext1+":443"),
		mustDial(t, l.inside, "tcp", vm1, remote+":80"),
		mustDial(t, l.inside, "tcp", vm2, remote+":80"),
		mustDial(t, l.inside, "udp", vm2, remote+":53"),
	}
	for _, c := range append(gone, kept...) {
		mustAsk(t, c)
	}
	before := len(l.sessions())
	l.spec.Mappings = l.spec.Mappings[1:]
	got := l.apply()
	if len(got) != 2 || !strings.HasPrefix(got[1], "2 connections") {
		t.Errorf("removing the mapping did %q", got)
	}
	if n := len(l.sessions()); n != before-2 {
		t.Errorf("%d sessions are left of %d", n, before)
	}
	for _, c := range gone {
		if s, err := ask(c); err == nil {
			t.Errorf("a connection through the removed mapping answered %s", s)
		}
	}
	for _, c := range kept {
		mustAsk(t, c)
	}
	// Now lead the other one elsewhere.
	l.spec.Mappings[0].Internal = netip.MustParseAddrPort(vm1 + ":22")
	l.apply()
	if _, err := ask(kept[0]); err == nil {
		t.Error("a connection to the former target went on")
	}
	for _, c := range kept[1:] {
		mustAsk(t, c)
	}
	mustAsk(t, mustDial(t, l.outside, "tcp", remote, ext1+":2222"))
}

// A mapping whose VM goes on sending must not live on as a connection that the
// VM seems to open.
func TestRemovedMappingIsNotRevived(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1)
	l.addMapping(hnv.TCP, ext1+":8443", vm2+":8443")
	l.apply()
	var ln net.Listener
	do(t, l.inside, func() (err error) { ln, err = net.Listen("tcp", vm2+":8443"); return err })
	defer ln.Close()
	client := mustDial(t, l.outside, "tcp", remote, ext1+":8443")
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l.spec.Mappings = nil
	l.apply()
	if _, err := io.WriteString(server, "still here"); err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(time.Second))
	if n, err := client.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes came through the removed mapping", n)
	}
	if l.drops()[DropNotSYN] == 0 {
		t.Errorf("not counted: %v", l.drops())
	}
}

func TestRemovedExternalAddressEndsItsConnections(t *testing.T) {
	l := newLab(t, ext1+":20000-29999", ext2+":20000-29999")
	serve(t, l.outside, "tcp", remote+":80")
	gone, kept := map[net.Conn]bool{}, map[net.Conn]bool{}
	for _, vm := range []string{"10.1.1.11", "10.1.1.12", "10.1.1.13", "10.1.1.14", "10.1.1.15", "10.1.1.16", "10.1.1.17", "10.1.1.18"} {
		c := mustDial(t, l.inside, "tcp", vm, remote+":80")
		if mustAsk(t, c).Addr().String() == ext1 {
			gone[c] = true
		} else {
			kept[c] = true
		}
	}
	if len(gone) == 0 || len(kept) == 0 {
		t.Fatalf("the pool was not spread: %d and %d", len(gone), len(kept))
	}
	seen := watch(t, l.outside, "x")
	l.setPool(ext2 + ":20000-29999")
	l.apply()
	for c := range gone {
		if _, err := ask(c); err == nil {
			t.Error("a connection with the removed address went on")
		}
	}
	for c := range kept {
		mustAsk(t, c)
	}
	for range 4 {
		if got := mustAsk(t, mustDial(t, l.inside, "tcp", vm1, remote+":80")); got.Addr().String() != ext2 {
			t.Errorf("a new connection left as %s", got)
		}
	}
	seen.wantSources(t, ext2)
}

// While the pool changes back and forth under traffic, nothing leaves with an
// address other than these.
func TestChangeOpensNoWindow(t *testing.T) {
	l := newLab(t, ext1)
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "udp", remote+":53")
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = netns.Do(netns.Path(l.inside), func() error {
				for range 20 {
					c, err := net.Dial("udp", remote+":53")
					if err == nil {
						_, _ = c.Write([]byte("x"))
						_ = c.Close()
					}
				}
				return nil
			})
		}
	}()
	for i := range 30 {
		l.setPool([]string{ext1, ext2}[i%2])
		if i%5 == 4 {
			if err := l.engine.Remove(context.Background(), l.spec.Namespace); err != nil {
				t.Fatal(err)
			}
		}
		l.apply()
	}
	stop.Store(true)
	<-done
	seen.wantSources(t, ext1, ext2)
	if len(seen.all()) < 50 {
		t.Errorf("only %d packets left meanwhile", len(seen.all()))
	}
}

// Connections of a mapping whose removal was interrupted end at the next start.
func TestStaleConnectionsOfAFormerProcess(t *testing.T) {
	l := newLab(t, ext1)
	serve(t, l.outside, "tcp", remote+":80")
	c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, c)
	l.setPool(ext2)
	// What a killed process would have done: the rules, but not the rest.
	killed, err := nft.Open(l.spec.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer killed.Close()
	if changes, err := killed.Apply(Ruleset(l.spec)); err != nil || len(changes) == 0 {
		t.Fatal(changes, err)
	}
	l.engine = New(nil)
	if got := l.apply(); len(got) != 1 || !strings.Contains(got[0], "1 connections") {
		t.Errorf("the new process did %q", got)
	}
	if got := l.apply(); len(got) != 0 {
		t.Errorf("and then %q", got)
	}
}

func TestOtherChangesResetNothing(t *testing.T) {
	l := newLab(t, ext1)
	serve(t, l.outside, "tcp", remote+":80")
	c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, c)
	inside := l.spec.InsidePrefixes
	for what, change := range map[string]func(){
		"MTU":           func() { l.spec.InsideMTU = 1450 },
		"limit":         func() { l.spec.ConnectionLimit = 77 },
		"subnets":       func() { l.spec.InsidePrefixes = append(inside, netip.MustParsePrefix("10.7.0.0/16")) },
		"more pool":     func() { l.setPool(ext1, ext2) },
		"a mapping":     func() { l.addMapping(hnv.TCP, ext1+":443", vm2+":8443") },
		"own's address": func() { l.spec.InsideAddrs = l.spec.InsideAddrs[:1] },
	} {
		change()
		if got := l.apply(); len(got) == 0 {
			t.Errorf("change of %s did nothing", what)
		}
		mustAsk(t, c)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	l := newLab(t, ext1, ext2+":20000-29999")
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.apply()
	right := unsealed(l.nft("-s", "list", "ruleset"))
	inject(t, l.inside, ip4("10.9.9.9", remote, 47))
	eventually(t, "a drop is counted", func() bool { return l.drops()[DropSource]+l.drops()[DropProtocol] == 1 })
	counted := l.drops()
	for _, c := range []struct{ by, says string }{
		{"flush chain inet hnv egress", "chain egress"},
		{"add rule inet hnv forward accept", "chain forward"},
		{"insert rule inet hnv prerouting accept", "chain prerouting"},
		{"chain inet hnv forward { policy accept; }", "policy of chain forward"},
		{"delete element inet hnv mappings4 { " + ext1 + " . tcp . 443 }", "set mappings4: 1 elements put in"},
		{"add element inet hnv mappings4 { " + ext1 + " . tcp . 22 : 10.1.1.11 . 22 }", "1 taken out"},
		{"add element inet hnv inside4 { 0.0.0.0-9.255.255.255 }", "set inside4"},
		{"add element inet hnv whole4 { 203.0.113.99 }", "set whole4"},
		{"add element inet hnv ports4 { 203.0.113.99 . udp . 1-5 }", "set ports4"},
		{"add chain inet hnv extra; add rule inet hnv extra accept; insert rule inet hnv forward jump extra", "chain extra removed"},
		{"add set inet hnv more { type ipv4_addr; }; insert rule inet hnv input ip saddr @more accept", "set more removed"},
		{"add counter inet hnv more", "object more removed"},
		{"flush chain inet hnv connections; add rule inet hnv connections ct count over 999999 counter name drop-limit drop", "chain connections"},
		{"flush chain inet hnv snat4-1; add rule inet hnv snat4-1 meta l4proto udp snat ip to 203.0.113.99:1-2", "chain snat4-1"},
		{"delete table inet hnv", "table inet hnv made"},
		{"flush ruleset", "table inet hnv made"},
		{"add table inet hnv { flags dormant; }", "woken"},
	} {
		file := t.TempDir() + "/change"
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(c.by, "; add", "\nadd")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		file2, _ := os.ReadFile(file)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(file2), "; insert", "\ninsert")), 0o600); err != nil {
			t.Fatal(err)
		}
		l.nft("-f", file)
		got := strings.Join(l.apply(), "; ")
		if !strings.Contains(got, c.says) {
			t.Errorf("after %q the repair was %q, want %q", c.by, got, c.says)
		}
		if now := unsealed(l.nft("-s", "list", "ruleset")); now != right {
			t.Errorf("after %q and its repair the ruleset differs:\n%s", c.by, now)
		}
		if got := l.apply(); len(got) != 0 {
			t.Errorf("after %q and its repair another apply changed %q", c.by, got)
		}
		if !strings.Contains(c.says, "made") {
			if now := l.drops(); now[DropSource] != counted[DropSource] {
				t.Errorf("after %q the counters are %v", c.by, now)
			}
		} else {
			counted = map[string]uint64{}
		}
	}
}

func TestRemoveClosesTheCompartment(t *testing.T) {
	l := newLab(t, ext1)
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, c)
	if err := l.engine.Remove(context.Background(), l.spec.Namespace); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(c); err == nil {
		t.Error("the connection went on")
	}
	if _, err := dial(t, l.inside, "tcp", vm1, remote+":80"); err == nil {
		t.Error("a new connection was made")
	}
	run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "1", "-W", "30", gateway)
	if len(l.sessions()) > 1 {
		t.Errorf("sessions are left: %+v", l.sessions())
	}
	seen.wantSources(t, ext1)
	l.apply()
	mustAsk(t, mustDial(t, l.inside, "tcp", vm1, remote+":80"))
	if err := l.engine.Remove(context.Background(), netns.Path("hnvtest-absent")); err != nil {
		t.Error(err)
	}
}

// An entry is deleted by its identity, not by its addresses alone.
func TestDeleteTakesThisEntryOnly(t *testing.T) {
	l := newLab(t, ext1)
	serve(t, l.outside, "udp", remote+":53")
	c := mustDial(t, l.inside, "udp", vm1+":5000", remote+":53")
	mustAsk(t, c)
	conns, err := ct.Open(l.spec.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	var entry ct.Entry
	if err := conns.Each(func(e ct.Entry) error { entry = e; return nil }); err != nil {
		t.Fatal(err)
	}
	other := entry
	other.ID++
	if gone, err := conns.Delete(other); err != nil || gone {
		t.Errorf("an entry of another identity: %v, %v", gone, err)
	}
	if gone, err := conns.Delete(entry); err != nil || !gone {
		t.Errorf("the entry itself: %v, %v", gone, err)
	}
	if gone, err := conns.Delete(entry); err != nil || gone {
		t.Errorf("the entry once more: %v, %v", gone, err)
	}
}
