//go:build privileged && linux

package forwarder

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// feet are an attachment of each kind that every kernel has, on networks of their
// own.
func (l *lab) feet() []Attachment {
	l.t.Helper()
	l.station("dc0", "10.50.0.1/24", "fd50::1/64")
	l.station("dc1", "10.51.0.1/24", "fd51::1/64")
	l.bridge("br1", "dc1")
	a := l.foot(KindMACVLAN, "dc0", "10.50.0.2/24", "fd50::2/64").via("10.60.0.0/16", "10.50.0.1", 0).via("10.61.0.0/16", "10.50.0.1", 7)
	b := l.foot(KindBridge, "br1", "10.51.0.2/24", "fd51::2/64").via("10.61.0.0/16", "10.51.0.1", 7).via("fd60::/48", "fd51::1", 0)
	b.Name, b.Link = name(l.t, "lan"), "fw-lan"
	return []Attachment{a, b}
}

func TestDrift(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	l.apply("contoso", comp, feet...)
	l.settled("contoso", comp, feet...)
	port := l.e.names.port(name(t, "contoso"), name(t, "lan"))
	for _, c := range []struct{ ns, what, says string }{
		{comp, "ip link set fw-dc down", "link fw-dc: up"},
		{comp, "ip link set fw-dc mtu 1400", "link fw-dc: MTU"},
		{comp, "ip link set fw-dc address 02:00:00:00:00:01", "link fw-dc: MAC address"},
		{comp, "ip addr del 10.50.0.2/24 dev fw-dc", "address 10.50.0.2/24 put on fw-dc"},
		{comp, "ip addr del fd51::2/64 dev fw-lan", "address fd51::2/64 put on fw-lan"},
		{comp, "ip addr add 10.52.0.2/24 dev fw-dc", "address 10.52.0.2/24 taken off fw-dc"},
		{comp, "ip route del 10.60.0.0/16", "route 10.60.0.0/16 metric 0 via 10.50.0.1 on fw-dc added"},
		{comp, "ip route replace 10.60.0.0/16 via 10.50.0.9 proto 204", "route 10.60.0.0/16 metric 0 via 10.50.0.1 on fw-dc set"},
		{comp, "ip route replace 10.61.0.0/16 via 10.50.0.1 metric 7 proto 204", "via 10.50.0.1 on fw-dc, via 10.51.0.1 on fw-lan set"},
		{comp, "ip route add 10.69.0.0/16 via 10.50.0.1 proto 204", "route 10.69.0.0/16 metric 0 removed"},
		{comp, "ip -6 route del fd60::/48", "route fd60::/48 metric 1024 via fd51::1 on fw-lan added"},
		{comp, "sysctl -qw net.ipv4.conf.fw-dc.rp_filter=0", "link fw-dc: IPv4 settings"},
		{comp, "sysctl -qw net.ipv4.conf.all.rp_filter=2", "net/ipv4/conf/all/rp_filter set to 0"},
		{comp, "sysctl -qw net.ipv6.conf.fw-dc.accept_ra=2", "accept_ra set to 0"},
		{comp, "sysctl -qw net.ipv6.conf.fw-lan.disable_ipv6=1", "disable_ipv6 set to 0"},
		{comp, "ip link del fw-dc", "link fw-dc made"},
		{comp, "ip link del fw-lan", "link fw-lan made"},
		{l.gw, "ip link set " + port + " nomaster", "bridge br1"},
		{l.gw, "ip link set " + port + " type bridge_slave isolated off", "isolation set"},
		{l.gw, "ip link set " + port + " down", port + ": up"},
		{l.gw, "nft delete table bridge " + l.e.names.table(), "nftables table"},
	} {
		l.run(c.ns, c.what)
		said := l.apply("contoso", comp, feet...)
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, c.says) }) {
			t.Errorf("%s: repaired %q, which does not say %q", c.what, said, c.says)
		}
		l.settled("contoso", comp, feet...)
		for _, to := range []string{"10.50.0.1", "fd50::1", "10.51.0.1", "fd51::1"} {
			if !l.reaches(comp, to) {
				t.Fatalf("%s: then %s is not reached", c.what, to)
			}
		}
	}
}

var errStop = errors.New("stopped by the test")

// Whatever step a run ends before, the next one finishes the work, or removes it.
func TestInterrupted(t *testing.T) {
	for at := 1; ; at++ {
		l := newLab(t)
		feet := l.feet()
		comp, _ := l.compartment()
		n := 0
		l.e.beforeStep = func(step) error {
			if n++; n >= at {
				return errStop
			}
			return nil
		}
		_, err := l.e.Apply(t.Context(), l.spec("contoso", comp, feet...))
		if err == nil {
			if at < 20 {
				t.Errorf("only %d steps were made", at-1)
			}
			return
		}
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		l.e = l.engine()
		if at%2 == 0 {
			l.apply("contoso", comp, feet...)
			l.settled("contoso", comp, feet...)
		}
		must(t, l.e.Remove(t.Context(), name(t, "contoso"), netns.Path(comp)))
		if at%2 == 0 {
			if left := l.ip(comp, "-o link show"); strings.Contains(left, "fw-") {
				t.Errorf("stopped before step %d, this is left:\n%s", at, left)
			}
		}
	}
}

// watch tells of the link events that a change brings with it.
func (l *lab) events(ns string, change func()) []nl.LinkEvent {
	l.t.Helper()
	h := l.open(ns)
	events, err := h.WatchLinks(l.t.Context())
	must(l.t, err)
	change()
	must(l.t, h.AddVeth(nl.LinkEnd{Name: "mark0"}, nl.LinkEnd{Name: "mark1"}))
	var out []nl.LinkEvent
	for ev := range events {
		if ev.Link.Name == "mark0" || ev.Link.Name == "mark1" {
			break
		}
		out = append(out, ev)
	}
	must(l.t, h.DelLink("mark0"))
	return out
}

// A change of routes and addresses leaves the link and all else as it is; a
// restart finds everything right.
func TestChangesInPlace(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	l.apply("contoso", comp, feet...)
	before := l.open(comp)
	index := func() []int {
		var out []int
		for _, n := range []string{"fw-dc", "fw-lan"} {
			k, err := before.Link(n)
			must(t, err)
			out = append(out, k.Index)
		}
		return out
	}
	had := index()
	l.e = l.engine() // a restart
	if evs := l.events(comp, func() { l.settled("contoso", comp, feet...) }); len(evs) > 0 {
		t.Errorf("a restart touches links: %+v", evs)
	}
	feet[0] = feet[0].via("10.62.0.0/16", "10.50.0.1", 0).via("10.60.0.0/16", "10.50.0.9", 0)
	feet[0].Addresses = append(feet[0].Addresses, pfx("10.50.0.3/24"))
	if evs := l.events(comp, func() { l.apply("contoso", comp, feet...) }); len(evs) > 0 {
		t.Errorf("new routes and addresses touch links: %+v", evs)
	}
	l.settled("contoso", comp, feet...)
	// The first address of its network goes: the others stay, and so do the routes.
	feet[0].Addresses = feet[0].Addresses[1:]
	l.apply("contoso", comp, feet...)
	l.settled("contoso", comp, feet...)
	if r := l.ip(comp, "route show proto 204"); strings.Count(r, "nexthop") != 4 || !strings.Contains(r, "10.62.0.0/16 via 10.50.0.1") {
		t.Errorf("the routes are %q", r)
	}
	l.mustReach(comp, "10.50.0.1")
	// The other attachment goes.
	l.apply("contoso", comp, feet[0])
	l.settled("contoso", comp, feet[0])
	if k, err := before.Link("fw-dc"); err != nil || k.Index != had[0] {
		t.Errorf("the link that stays is another: %+v, %v", k, err)
	}
	if _, err := before.Link("fw-lan"); !errors.Is(err, nl.ErrNotFound) {
		t.Errorf("the link that goes is there: %v", err)
	}
	must(t, l.e.Remove(t.Context(), name(t, "contoso"), netns.Path(comp)))
	if r := l.ip(comp, "route show proto 204") + l.ip(comp, "-6 route show proto 204") + l.ip(comp, "-o link show type macvlan"); r != "" {
		t.Errorf("left: %s", r)
	}
	must(t, l.e.Remove(t.Context(), name(t, "contoso"), netns.Path("hnv-is-not-there")))
}

// The MAC address is the same when the link is made anew, and none but ours is
// taken off a bridge: the bridge keeps its own.
func TestMACAddresses(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	mac := func(ns, link string) string {
		t.Helper()
		k, err := l.open(ns).Link(link)
		must(t, err)
		return nl.MACString(k.MAC)
	}
	bridge := mac(l.gw, "br1")
	l.apply("contoso", comp, feet...)
	had := []string{mac(comp, "fw-dc"), mac(comp, "fw-lan")}
	if got := mac(l.gw, "br1"); got != bridge {
		t.Errorf("the bridge had %s, and has %s", bridge, got)
	}
	l.apply("contoso", comp)
	l.apply("contoso", comp, feet...)
	if now := []string{mac(comp, "fw-dc"), mac(comp, "fw-lan")}; !slices.Equal(now, had) || now[0] == now[1] {
		t.Errorf("had %v, have %v", had, now)
	}
	given, err := hnv.ParseMAC("02:00:00:00:00:05")
	must(t, err)
	feet[0].MAC = given
	l.apply("contoso", comp, feet...)
	if got := mac(comp, "fw-dc"); got != given.String() {
		t.Errorf("given %s, has %s", given, got)
	}
}

// An uplink's interface that is missing or down fails what is on it and nothing
// else, and what is on it comes up with it.
func TestParentFails(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	gone := l.foot(KindMACVLAN, "dc9", "10.59.0.2/24").via("10.63.0.0/16", "10.59.0.1", 0)
	gone.Name, gone.Link = name(t, "gone"), "fw-gone"
	feet = append(feet, gone)
	apply := func() Result {
		res, err := l.e.Apply(t.Context(), l.spec("contoso", comp, feet...))
		if (err != nil) != (len(res.Failed) > 0) {
			t.Errorf("failed: %v, error: %v", res.Failed, err)
		}
		return res
	}
	fails := func(res Result, attachment, says string) {
		t.Helper()
		if err := res.Failed[name(t, attachment)]; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, which does not say %q", attachment, err, says)
		}
		if len(res.Failed) != 1 {
			t.Errorf("failed: %v", res.Failed)
		}
	}
	l.ip(l.gw, "link set dc0 down")
	res, _ := l.e.Apply(t.Context(), l.spec("contoso", comp, feet[:2]...))
	fails(res, "dc", "interface dc0 is down: set it up")
	l.mustReach(comp, "10.51.0.1")
	l.mustNotReach(comp, "10.50.0.1")
	if r := l.ip(comp, "route get 10.61.0.1"); !strings.Contains(r, "fw-lan") {
		t.Errorf("with one of two ways down, %q", r)
	}
	l.ip(l.gw, "link set dc0 up")
	res = apply()
	fails(res, "gone", "interface dc9 is not in the gateway's network namespace")
	l.mustReach(comp, "10.50.0.1")
	// It is there later, goes, and comes again.
	for range 2 {
		l.station("dc9", "10.59.0.1/24")
		if res := apply(); len(res.Failed) > 0 {
			t.Errorf("failed: %v", res.Failed)
		}
		l.mustReach(comp, "10.59.0.1")
		if r := l.ip(comp, "route show proto 204"); !strings.Contains(r, "10.63.0.0/16 via 10.59.0.1") {
			t.Errorf("the routes are %q", r)
		}
		l.ip(l.gw, "link del dc9")
		fails(apply(), "gone", "interface dc9 is not")
	}
}

// What is not ours is left alone, and named where it is in the way.
func TestInTheWay(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	l.ip(comp, "link add fw-dc type veth peer name other alias mine")
	l.ip(comp, "link set fw-dc alias theirs")
	l.ip(comp, "route add 10.61.0.0/16 via 10.1.1.11 metric 7 proto 203")
	res, err := l.e.Apply(t.Context(), l.spec("contoso", comp, feet...))
	for attachment, says := range map[string]string{
		"dc":  `link fw-dc is in the way and not ours (alias "theirs")`,
		"lan": "another route to 10.61.0.0/16 with metric 7 is there, learned by BGP",
	} {
		if got := res.Failed[name(t, attachment)]; got == nil || !strings.Contains(got.Error(), says) {
			t.Errorf("%s: %v, which does not say %q", attachment, got, says)
		}
	}
	if err == nil || !strings.Contains(l.ip(comp, "-d link show fw-dc"), "alias theirs") {
		t.Errorf("error %v", err)
	}
	l.mustReach(comp, "10.51.0.1")
	l.ip(comp, "link del fw-dc")
	l.ip(comp, "route del 10.61.0.0/16 metric 7")
	l.apply("contoso", comp, feet...)
	l.settled("contoso", comp, feet...)

	notBridge := l.foot(KindBridge, "dc0", "10.50.0.7/24")
	if _, err := l.e.Apply(t.Context(), l.spec("contoso", comp, notBridge)); err == nil || !strings.Contains(err.Error(), "dc0 is no Linux bridge") {
		t.Errorf("%v", err)
	}
	if _, err := l.e.Apply(t.Context(), l.spec("contoso", "hnv-is-not-there", feet...)); err == nil {
		t.Error("a compartment that is not there was taken")
	}
	if _, err := l.e.Apply(t.Context(), l.spec("contoso", comp, Attachment{})); err == nil {
		t.Error("a spec that Check refuses was taken")
	}
}

// kernelHasVLANs names the variable that has TestVLAN fail where the kernel, which is
// one that has VLANs, seems to have none.
const kernelHasVLANs = "HNV_TEST_VLAN"

// A kernel without VLANs is told of, and so is a VLAN that somebody else has.
func TestVLAN(t *testing.T) {
	l := newLab(t)
	l.station("dc0", "10.50.0.1/24")
	comp, _ := l.compartment()
	foot := l.foot(KindVLAN, "dc0", "10.50.0.2/24")
	foot.VLAN = 100
	i := slices.IndexFunc(l.e.Features(), func(f Feature) bool { return f.Name == KindVLAN })
	res, err := l.e.Apply(t.Context(), l.spec("contoso", comp, foot))
	if !l.e.Features()[i].OK && os.Getenv(kernelHasVLANs) == "" {
		if err == nil || !strings.Contains(err.Error(), "load the module 8021q") || !strings.Contains(l.e.Features()[i].Note, "load the module 8021q") {
			t.Errorf("%v, %+v", err, l.e.Features()[i])
		}
		return
	}
	must(t, err)
	if !slices.Contains(res.Repaired, "link fw-dc made, of kind vlan on VLAN 100 of dc0") {
		t.Errorf("%q", res.Repaired)
	}
	l.vlans(comp, foot)
}

// vlans is what is tried where the kernel has them.
func (l *lab) vlans(comp string, foot Attachment) {
	l.settled("contoso", comp, foot)
	dc := l.station("dc1")
	l.ip(dc, "link add link eth0 name eth0.7 type vlan id 7")
	l.ip(dc, "link add link eth0 name eth0.8 type vlan id 8")
	l.up(dc, "eth0.7", "10.57.0.1/24")
	dc8 := nstest.New(l.t, "dc8")
	l.ip(dc, "link set eth0.8 netns "+dc8)
	l.up(dc8, "eth0.8", "10.57.0.1/24", "10.58.0.1/32")
	foot.Parent, foot.VLAN, foot.Addresses = "dc1", 7, foot.Addresses[:0]
	foot.Addresses = append(foot.Addresses, pfx("10.57.0.2/24"))
	l.apply("contoso", comp, foot)
	l.settled("contoso", comp, foot)
	l.mustReach(comp, "10.57.0.1")
	// The next tenant has the other VLAN, with the same addresses, and not this one.
	other, _ := l.compartment()
	_, err := l.e.Apply(l.t.Context(), l.spec("fabrikam", other, foot))
	if err == nil || !strings.Contains(err.Error(), "VLAN 7 of dc1 is taken") {
		l.t.Errorf("%v", err)
	}
	foot.VLAN = 8
	second := foot.via("10.58.0.0/16", "10.57.0.1", 0)
	l.apply("fabrikam", other, second)
	l.settled("fabrikam", other, second)
	l.mustReach(other, "10.58.0.1")
	l.ip(comp, "route add 10.58.0.0/16 via 10.57.0.1")
	l.mustNotReach(comp, "10.58.0.1")
	// The trunk goes down and up.
	l.ip(l.gw, "link set dc1 down")
	if _, err := l.e.Apply(l.t.Context(), l.spec("fabrikam", other, second)); err == nil || !strings.Contains(err.Error(), "dc1 is down") {
		l.t.Errorf("%v", err)
	}
	l.ip(l.gw, "link set dc1 up")
	l.apply("fabrikam", other, second)
	l.mustReach(other, "10.58.0.1")
}

func TestSnapshot(t *testing.T) {
	l := newLab(t)
	feet := l.feet()
	comp, _ := l.compartment()
	l.apply("contoso", comp, feet...)
	l.mustReach(comp, "10.50.0.1")
	got, err := l.e.Snapshot(t.Context(), name(t, "contoso"), netns.Path(comp))
	must(t, err)
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	for i, s := range got {
		if s.Link != feet[i].Link || s.Kind != feet[i].Kind || !s.Up || !s.Carrier || s.MTU != 1500 || len(s.Addresses) != 3 {
			t.Errorf("%+v", s)
		}
		if _, err := net.ParseMAC(s.MAC); err != nil {
			t.Error(err)
		}
	}
	if c := got[0].Counters; c.RxPackets == 0 || c.TxPackets == 0 || c.RxBytes < 64 || c.TxBytes < 64 {
		t.Errorf("%+v", c)
	}
	for _, down := range []string{"dc0", "br1"} {
		l.ip(l.gw, "link set "+down+" down")
	}
	got, err = l.e.Snapshot(t.Context(), name(t, "contoso"), netns.Path(comp))
	must(t, err)
	for _, s := range got {
		if s.Carrier {
			t.Errorf("%s has a carrier, and its parent is down", s.Link)
		}
	}
	if got, err := l.e.Snapshot(t.Context(), name(t, "fabrikam"), netns.Path(comp)); err != nil || len(got) > 0 {
		t.Errorf("another tenant's: %+v, %v", got, err)
	}
}
